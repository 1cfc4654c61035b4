//! What a proxy is told, and what that means for the next bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::Direction;

/// All that is wrong with a network.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) link: Link,
    pub(super) requests: Way,
    pub(super) replies: Way,
    pub(super) cut: Option<Cut>,
    /// How often all connections were reset.
    pub(super) resets: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Link {
    #[default]
    Accept,
    Refuse,
    End,
}

/// One way through the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) flow: Flow,
    pub(super) delay: Duration,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Flow {
    #[default]
    Pass,
    Stall,
    Swallow,
}

impl Faults {
    pub(super) fn way(&self, direction: Direction) -> Way {
        match direction {
            Direction::Requests => self.requests,
            Direction::Replies => self.replies,
        }
    }

    pub(super) fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Replies => &mut self.replies,
        }
    }
}

/// Where connections are closed.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    at: At,
    /// Tells one from that which was told before.
    serial: Arc<AtomicU32>,
}

#[derive(Clone, Debug)]
enum At {
    Bytes(u64),
    Marker { direction: Direction, marker: Vec<u8>, nth: u32 },
}

impl Cut {
    pub(super) fn after_bytes(bytes: u64) -> Self {
        Self { at: At::Bytes(bytes), serial: Arc::default() }
    }

    pub(super) fn at_marker(direction: Direction, marker: &[u8], nth: u32) -> Self {
        let at = At::Marker { direction, marker: marker.to_vec(), nth };
        Self { at, serial: Arc::default() }
    }

    pub(super) fn has_happened(&self) -> bool {
        match &self.at {
            At::Bytes(_) => self.seen() > 0,
            At::Marker { nth, .. } => self.seen() >= *nth,
        }
    }

    /// Of all connections together.
    fn seen(&self) -> u32 {
        self.serial.load(Ordering::SeqCst)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.serial, &other.serial)
    }
}

/// How far one direction of one connection is from being cut.
#[derive(Debug)]
pub(super) struct Progress {
    direction: Direction,
    cut: Option<Cut>,
    passed: u64,
    /// The end of what has passed: a marker may begin in it.
    tail: Vec<u8>,
}

/// What becomes of some bytes: so many pass, and then the connection is closed or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    pub(super) pass: usize,
    pub(super) close: bool,
}

impl Progress {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, cut: None, passed: 0, tail: Vec::new() }
    }

    pub(super) fn judge(&mut self, cut: Option<&Cut>, bytes: &[u8]) -> Verdict {
        let all = Verdict { pass: bytes.len(), close: false };
        let Some(cut) = cut else { return all };
        if !self.cut.as_ref().is_some_and(|known| known.is(cut)) {
            *self = Self { cut: Some(cut.clone()), ..Self::new(self.direction) };
        }
        match &cut.at {
            At::Bytes(limit) if self.direction == Direction::Replies => {
                self.count(cut, *limit, bytes.len())
            }
            At::Marker { direction, marker, nth } if self.direction == *direction => {
                self.look(cut, marker, *nth, bytes)
            }
            At::Bytes(_) | At::Marker { .. } => all,
        }
    }

    fn count(&mut self, cut: &Cut, limit: u64, bytes: usize) -> Verdict {
        let left = usize::try_from(limit.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        let pass = bytes.min(left);
        self.passed = self.passed.saturating_add(u64::try_from(pass).unwrap_or(u64::MAX));
        let close = self.passed >= limit;
        if close {
            cut.serial.fetch_add(1, Ordering::SeqCst);
        }
        Verdict { pass, close }
    }

    fn look(&mut self, cut: &Cut, marker: &[u8], nth: u32, bytes: &[u8]) -> Verdict {
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(marker.len()).filter(|part| *part == marker).count();
        let keep = self.tail.len().min(marker.len().saturating_sub(1));
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        let before = cut.serial.fetch_add(found, Ordering::SeqCst);
        let close = before < nth && before.saturating_add(found) >= nth;
        Verdict { pass: if close { 0 } else { bytes.len() }, close }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_in_two_pieces_is_found() {
        let cut = Cut::at_marker(Direction::Replies, b"COMMIT", 1);
        let mut replies = Progress::new(Direction::Replies);
        assert_eq!(replies.judge(Some(&cut), b"xCOM"), Verdict { pass: 4, close: false });
        assert_eq!(replies.judge(Some(&cut), b"MITx"), Verdict { pass: 0, close: true });
        assert!(cut.has_happened());
    }

    #[test]
    fn the_nth_marker_is_counted_over_all_connections_and_lost_once() {
        let cut = Cut::at_marker(Direction::Requests, b"ab", 3);
        let mut one = Progress::new(Direction::Requests);
        let mut two = Progress::new(Direction::Requests);
        assert!(!one.judge(Some(&cut), b"ab ab").close);
        assert!(!Progress::new(Direction::Replies).judge(Some(&cut), b"ab").close);
        assert!(two.judge(Some(&cut), b"ab").close);
        assert!(!one.judge(Some(&cut), b"ab").close);
    }

    #[test]
    fn bytes_are_counted_from_when_a_cut_is_told() {
        let mut replies = Progress::new(Direction::Replies);
        replies.judge(None, b"before");
        let cut = Cut::after_bytes(5);
        assert_eq!(replies.judge(Some(&cut), b"abc"), Verdict { pass: 3, close: false });
        assert_eq!(replies.judge(Some(&cut), b"defg"), Verdict { pass: 2, close: true });
    }
}
