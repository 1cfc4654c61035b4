//! Moments, durations and the grace after an outage. Nothing here reads a clock.

use std::{fmt, time::Duration};

/// A moment on the ledger's clock, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment that many milliseconds after 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The moment that much later; the end of time rather than an overflow.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How much later than `earlier` this is; nothing if it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// How long a hold is asked to live, in milliseconds, as it was sent.
///
/// It is not yet clamped: [`crate::Limits::clamp`] says what is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u64);

impl Ttl {
    /// The longest that can be said, `2^53 - 1` ms.
    pub const MAX_MILLIS: u64 = 9_007_199_254_740_991;

    /// Takes a number of milliseconds from 1 to [`Ttl::MAX_MILLIS`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis == 0 || millis > Self::MAX_MILLIS { None } else { Some(Self(millis)) }
    }

    /// Milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The same as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// An outage of the ledger, and until when holds are spared that would have died in it (R17).
///
/// Nobody could confirm while the ledger was away. So a hold whose deadline fell into
/// `(from, to]` lives until `until`, for all instances alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// When the ledger was last known to be alive.
    pub from: Timestamp,
    /// When it was back.
    pub to: Timestamp,
    /// Until when the holds of the gap live.
    pub until: Timestamp,
}

impl Grace {
    /// A gap has to be longer than this to be an outage.
    pub const SHORTEST_GAP: Duration = Duration::from_secs(3);
    /// The most that a hold is spared.
    pub const LONGEST: Duration = Duration::from_secs(10);

    fn covers(&self, deadline: Timestamp) -> bool {
        self.from < deadline && deadline <= self.to
    }
}

/// When the ledger was last alive, and the graces that are still in force.
///
/// It is the committed memory behind R17: each transaction of the ledger calls
/// [`Liveness::advance`] with its own time before anything may expire.
///
/// ```
/// use std::time::Duration;
/// use stockhold_core::{Liveness, Timestamp};
/// let at = |s: i64| Timestamp::from_millis(s * 1_000);
/// let mut liveness = Liveness::new(at(100), vec![]);
/// liveness.advance(at(130)); // 30 s without a sign of life
/// assert_eq!(liveness.effective(at(110)), at(140)); // died in the gap: 10 s to confirm
/// assert_eq!(liveness.effective(at(131)), at(131)); // did not
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    alive_at: Timestamp,
    graces: Vec<Grace>,
}

impl Liveness {
    /// What the ledger remembers; `graces` in order of time.
    #[must_use]
    pub const fn new(alive_at: Timestamp, graces: Vec<Grace>) -> Self {
        Self { alive_at, graces }
    }

    /// When the ledger was last alive.
    #[must_use]
    pub const fn alive_at(&self) -> Timestamp {
        self.alive_at
    }

    /// The graces that may still spare a hold, in order of time.
    #[must_use]
    pub fn graces(&self) -> &[Grace] {
        &self.graces
    }

    /// The moment up to which every dead hold should have been expired: when the ledger was last
    /// alive, or the beginning of an outage that still spares holds.
    #[must_use]
    pub fn swept_to(&self) -> Timestamp {
        let graces = self.graces_in_force();
        graces.iter().map(|grace| grace.from).fold(self.alive_at, Timestamp::min)
    }

    /// The ledger is alive `now`. If it was not for longer than [`Grace::SHORTEST_GAP`], the gap
    /// is remembered. Graces that were over before the ledger was last alive are forgotten: no
    /// deadline can depend on them any more.
    pub fn advance(&mut self, now: Timestamp) {
        let alive_at = self.alive_at;
        if now <= alive_at {
            return;
        }
        self.graces = self.graces_in_force();
        let gap = now.since(alive_at);
        if gap > Grace::SHORTEST_GAP {
            let until = now.after(gap.min(Grace::LONGEST));
            self.graces.push(Grace { from: alive_at, to: now, until });
        }
        self.alive_at = now;
    }

    /// Graces that still spared a hold when the ledger was last alive, by themselves or because a
    /// later one prolongs them.
    fn graces_in_force(&self) -> Vec<Grace> {
        let in_force = |grace: &&Grace| self.effective(grace.to) > self.alive_at;
        self.graces.iter().filter(in_force).copied().collect()
    }

    /// The moment at which a hold with this deadline is dead.
    #[must_use]
    pub fn effective(&self, deadline: Timestamp) -> Timestamp {
        self.graces
            .iter()
            .fold(deadline, |at, grace| if grace.covers(at) { grace.until } else { at })
    }

    /// The deadlines that are due at `now`, as ranges `(after, upto]` in order of time. A grace makes
    /// a hold die later than one with a later deadline; so the deadlines that a grace spares are
    /// left out as one range, and need not be looked at one by one.
    #[must_use]
    pub fn due_ranges(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let spared = self.graces.iter().filter(|grace| self.effective(grace.to) > now);
        let ends = spared.clone().map(|grace| grace.from.min(now)).chain([now]);
        let starts = [Timestamp(i64::MIN)].into_iter().chain(spared.map(|grace| grace.to));
        starts.zip(ends).collect()
    }

    /// Of any holds, the one that dies next is the first whose deadline is behind one of these.
    #[must_use]
    pub fn marks(&self) -> Vec<Timestamp> {
        let ends = self.graces.iter().flat_map(|grace| [grace.from, grace.to]);
        [Timestamp(i64::MIN)].into_iter().chain(ends).collect()
    }

    /// Whether a hold with this deadline is dead (R1). Confirm, extend, expire and reclaiming on
    /// demand all ask this function.
    #[must_use]
    pub fn is_due(&self, deadline: Timestamp, now: Timestamp) -> bool {
        now >= self.effective(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds.checked_mul(1_000).unwrap())
    }

    #[test]
    fn a_gap_of_three_seconds_is_no_outage() {
        let mut liveness = Liveness::new(s(100), vec![]);
        liveness.advance(s(103));
        assert_eq!(liveness.graces(), []);
        assert_eq!(liveness.alive_at(), s(103));
    }

    #[test]
    fn the_grace_is_as_long_as_the_gap_but_ten_seconds_at_most() {
        let mut short = Liveness::new(s(100), vec![]);
        short.advance(s(104));
        assert_eq!(short.effective(s(102)), s(108));
        let mut long = Liveness::new(s(100), vec![]);
        long.advance(s(4_000));
        assert_eq!(long.effective(s(102)), s(4_010));
    }

    #[test]
    fn only_deadlines_in_the_gap_are_spared() {
        let mut liveness = Liveness::new(s(100), vec![]);
        liveness.advance(s(110));
        assert_eq!(liveness.effective(s(100)), s(100));
        assert_eq!(liveness.effective(s(110)), s(120));
        assert_eq!(
            liveness.effective(Timestamp::from_millis(110_001)),
            Timestamp::from_millis(110_001)
        );
    }

    #[test]
    fn a_second_outage_within_the_grace_spares_the_same_holds_again() {
        let mut liveness = Liveness::new(s(100), vec![]);
        liveness.advance(s(110));
        liveness.advance(s(112));
        liveness.advance(s(130)); // away from 112 to 130; the first grace ended at 120
        assert_eq!(liveness.effective(s(105)), s(140));
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let mut liveness = Liveness::new(s(100), vec![]);
        liveness.advance(s(50));
        assert_eq!(liveness, Liveness::new(s(100), vec![]));
    }

    #[test]
    fn graces_that_are_over_are_forgotten() {
        let mut liveness = Liveness::new(s(100), vec![]);
        liveness.advance(s(110));
        for second in 111..=121 {
            liveness.advance(s(second));
        }
        assert_eq!(liveness.graces(), []);
    }
}
