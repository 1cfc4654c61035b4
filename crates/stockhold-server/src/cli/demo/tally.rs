//! What the shoppers saw, counted. Nothing here comes from the ledger.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::Want;

/// Something that a shopper saw.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A request was sent.
    Sent,
    /// A place was answered, after so long.
    Answered(Duration),
    /// An answer was that of an earlier request with the same key.
    Replayed,
    /// The shopper has a hold.
    Held,
    /// There was not enough.
    Refused,
    /// Refused for the last time.
    WentWithout,
    /// The order is acknowledged.
    Confirmed(&'a [Want]),
    /// The order may be confirmed or not: nobody answered.
    Unknown(&'a [Want]),
    /// The units were given back.
    Released,
    /// The hold was left to die.
    WalkedAway,
    /// The hold had died before the shopper was done.
    TooLate,
    /// Something that should not happen.
    Trouble(Trouble),
    /// Too much trouble: the shopper gives up what they were doing.
    GaveUp,
}

/// What can go wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// 429.
    Overloaded,
    /// 503.
    Unavailable,
    /// Another status from 500 on.
    ServerError(String),
    /// No answer in time.
    TimedOut,
    /// The connection broke, or there was none.
    Disconnected(String),
    /// An answer that makes no sense here.
    Unexpected(String),
}

/// How often each trouble was met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Troubles {
    pub(super) overloaded: u64,
    pub(super) unavailable: u64,
    pub(super) server_error: u64,
    pub(super) timed_out: u64,
    pub(super) disconnected: u64,
    pub(super) unexpected: u64,
    /// The first that says more than its name.
    pub(super) first: Option<String>,
}

impl Troubles {
    pub(super) const fn total(&self) -> u64 {
        self.overloaded
            + self.unavailable
            + self.server_error
            + self.timed_out
            + self.disconnected
            + self.unexpected
    }

    fn note(&mut self, trouble: Trouble) {
        let words = match trouble {
            Trouble::Overloaded => return self.overloaded += 1,
            Trouble::Unavailable => return self.unavailable += 1,
            Trouble::TimedOut => return self.timed_out += 1,
            Trouble::ServerError(words) => (&mut self.server_error, words),
            Trouble::Disconnected(words) => (&mut self.disconnected, words),
            Trouble::Unexpected(words) => (&mut self.unexpected, words),
        };
        *words.0 += 1;
        self.first.get_or_insert(words.1);
    }
}

/// All that was seen so far. Holds, not units, unless it says so.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) attempts: u64,
    pub(super) replayed: u64,
    pub(super) held: u64,
    pub(super) refused: u64,
    pub(super) went_without: u64,
    pub(super) confirmed: u64,
    pub(super) unknown: u64,
    pub(super) released: u64,
    pub(super) walked_away: u64,
    pub(super) too_late: u64,
    pub(super) gave_up: u64,
    pub(super) troubles: Troubles,
    /// Units of each item in acknowledged orders.
    pub(super) units_sold: Vec<i64>,
    /// Units of each item in orders that nobody answered.
    pub(super) units_unknown: Vec<i64>,
    /// Until a place was answered, in microseconds.
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(items: usize) -> Self {
        Self {
            requests: 0,
            attempts: 0,
            replayed: 0,
            held: 0,
            refused: 0,
            went_without: 0,
            confirmed: 0,
            unknown: 0,
            released: 0,
            walked_away: 0,
            too_late: 0,
            gave_up: 0,
            troubles: Troubles::default(),
            units_sold: vec![0; items],
            units_unknown: vec![0; items],
            latency: histogram(),
        }
    }

    /// Holds that died: those left alone, and those whose shopper was too slow.
    pub(super) const fn expired(&self) -> u64 {
        self.walked_away + self.too_late
    }

    /// Every visit ends in exactly one of these.
    pub(super) const fn shoppers_done(&self) -> u64 {
        self.went_without
            + self.confirmed
            + self.unknown
            + self.released
            + self.expired()
            + self.gave_up
    }

    /// Units of the hot SKU in acknowledged orders.
    pub(super) fn hot_units_sold(&self) -> u64 {
        self.units_sold.first().map_or(0, |units| units.unsigned_abs())
    }

    pub(super) fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Sent => self.requests += 1,
            Event::Answered(after) => self.answered(after),
            Event::Replayed => self.replayed += 1,
            Event::Held => self.held += 1,
            Event::Refused => self.refused += 1,
            Event::WentWithout => self.went_without += 1,
            Event::Confirmed(wants) => {
                self.confirmed += 1;
                add(&mut self.units_sold, wants);
            }
            Event::Unknown(wants) => {
                self.unknown += 1;
                add(&mut self.units_unknown, wants);
            }
            Event::Released => self.released += 1,
            Event::WalkedAway => self.walked_away += 1,
            Event::TooLate => self.too_late += 1,
            Event::Trouble(trouble) => self.troubles.note(trouble),
            Event::GaveUp => self.gave_up += 1,
        }
    }

    fn answered(&mut self, after: Duration) {
        self.attempts += 1;
        self.latency.saturating_record(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }
}

fn add(units: &mut [i64], wants: &[Want]) {
    for want in wants {
        units[want.item] += want.units;
    }
}

/// From 1 microsecond to 1 minute, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

/// A tally that many shoppers write to.
#[derive(Debug)]
pub(super) struct Board(Mutex<Tally>);

impl Board {
    pub(super) fn new(items: usize) -> Self {
        Self(Mutex::new(Tally::new(items)))
    }

    pub(super) fn note(&self, event: Event<'_>) {
        self.with(|tally| tally.note(event));
    }

    /// Looks at the tally; everybody else waits meanwhile.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Tally) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_counted_in_units_of_each_item() {
        let mut tally = Tally::new(3);
        let wants = [Want { item: 0, units: 1 }, Want { item: 2, units: 2 }];
        tally.note(Event::Confirmed(&wants));
        tally.note(Event::Confirmed(&wants[..1]));
        tally.note(Event::Unknown(&wants[1..]));
        assert_eq!((tally.confirmed, tally.unknown), (2, 1));
        assert_eq!((tally.units_sold, tally.units_unknown), (vec![2, 0, 2], vec![0, 0, 2]));
    }

    #[test]
    fn the_first_trouble_is_remembered_in_its_own_words() {
        let mut troubles = Troubles::default();
        troubles.note(Trouble::Overloaded);
        troubles.note(Trouble::ServerError("500 one".to_owned()));
        troubles.note(Trouble::Disconnected("two".to_owned()));
        assert_eq!(troubles.total(), 3);
        assert_eq!(troubles.first.as_deref(), Some("500 one"));
    }
}
