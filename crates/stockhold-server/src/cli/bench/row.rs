//! Figures of one row, and what follows from those of several.

use std::time::Duration;

use serde::Serialize;

use super::{
    batches::Batches,
    plan::{Items, Job, Kind},
    workload::Samples,
};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) durability: &'static str,
    pub(super) seconds: f64,
    /// Holds or refusals that were answered in the measured time.
    pub(super) operations: u64,
    pub(super) per_second: f64,
    /// How long a caller waited; of the bare loop, how long a batch took.
    pub(super) p50_us: Option<u32>,
    pub(super) p99_us: Option<u32>,
    /// How often a caller was told to come back later.
    pub(super) shed: u64,
    /// What went into the ledger in the measured time.
    #[serde(skip)]
    pub(super) batches: Option<Batches>,
    pub(super) places_per_batch: Option<f64>,
    pub(super) expiries_per_batch: Option<f64>,
    /// Over the whole life of the holds, the checkpoint at the end included.
    pub(super) rows_per_hold: Option<f64>,
    pub(super) bytes_per_hold: Option<f64>,
    pub(super) server_cpu_us: Option<f64>,
    /// What the process that makes the load took of the machine.
    pub(super) load_cpu_share: Option<f64>,
    /// Bytes of the body of an answer.
    pub(super) answer_bytes: Option<usize>,
    /// The most connections to Postgres that were open at once.
    pub(super) connections: Option<u64>,
    /// How long a batch kept its connection.
    pub(super) kept_p50_us: Option<u32>,
    pub(super) kept_p99_us: Option<u32>,
    /// How long after its deadline a hold was expired.
    pub(super) late_p99_ms: Option<u64>,
    pub(super) late_most_ms: Option<u64>,
    /// How many holds the verifier looked at; it found nothing broken, or there were no row.
    pub(super) holds_verified: Option<u64>,
}

impl Row {
    pub(super) fn new(job: Job, length: Duration, samples: Samples) -> Self {
        let (operations, shed, seconds) = (samples.operations, samples.shed, length.as_secs_f64());
        let percentiles = samples.percentiles();
        Self {
            job,
            durability: job.durability(),
            seconds,
            operations,
            per_second: operations as f64 / seconds,
            p50_us: percentiles.map(|(p50, _)| p50),
            p99_us: percentiles.map(|(_, p99)| p99),
            shed,
            batches: None,
            places_per_batch: None,
            expiries_per_batch: None,
            rows_per_hold: None,
            bytes_per_hold: None,
            server_cpu_us: None,
            load_cpu_share: None,
            answer_bytes: None,
            connections: None,
            kept_p50_us: None,
            kept_p99_us: None,
            late_p99_ms: None,
            late_most_ms: None,
            holds_verified: None,
        }
    }

    pub(super) fn set_batches(&mut self, seen: Batches) {
        self.batches = Some(seen);
        self.places_per_batch = ratio(seen.places as f64, seen.batches as f64);
        self.expiries_per_batch = ratio(seen.expiries as f64, seen.batches as f64);
    }
}

/// None instead of a quotient that means nothing.
pub(super) fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| of / to)
}

/// The batches of the engine when it did the same as this bare loop is to do. If it was not
/// measured: all callers waiting, and whatever is due.
pub(super) fn batches_of_engine(rows: &[Row], bare: Job) -> Batches {
    let engine = Job { kind: Kind::Engine, ..bare };
    let same = rows.iter().find(|row| row.job == engine);
    let seen = same.and_then(|row| row.batches).filter(|seen| seen.places > 0);
    let places = u64::from(bare.callers.min(1_000));
    seen.unwrap_or(Batches { batches: 1, places, expiries: u64::MAX })
}

/// Which number of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callers {
    /// One alone.
    One,
    /// The most that there were in this run.
    Most,
}

/// What was in the ledger before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Empty,
    Preloaded,
}

/// All rows of a run, to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a>(pub(super) &'a [Row]);

impl<'a> Rows<'a> {
    /// The first row of the engine, the hot item and an empty ledger of which this is true.
    pub(super) fn hot_engine(self, is_it: impl Fn(&Job) -> bool) -> Option<&'a Row> {
        let hot = |job: &Job| job.kind == Kind::Engine && job.items == Items::Hot;
        self.0.iter().find(|row| hot(&row.job) && !row.job.is_preloaded() && is_it(&row.job))
    }

    /// The most callers that there were.
    pub(super) fn most_callers(self) -> Option<u32> {
        self.0.iter().map(|row| row.job.callers).max()
    }

    /// Operations per second.
    pub(super) fn rate(
        self,
        kind: Kind,
        items: Items,
        callers: Callers,
        before: Before,
    ) -> Option<f64> {
        let callers = match callers {
            Callers::One => 1,
            Callers::Most => self.most_callers()?,
        };
        let is_it = |row: &&Row| {
            let Job { preloaded, .. } = row.job;
            row.job == Job::new(kind, items, callers, preloaded)
                && (preloaded > 0) == (before == Before::Preloaded)
        };
        self.0.iter().find(is_it).map(|row| row.per_second)
    }

    /// The best that these reach on the hot item of an empty ledger, with any number of callers.
    pub(super) fn best(self, kinds: &[Kind]) -> Option<f64> {
        let counts = |row: &&Row| {
            kinds.contains(&row.job.kind) && row.job.items == Items::Hot && !row.job.is_preloaded()
        };
        self.0.iter().filter(counts).map(|row| row.per_second).max_by(f64::total_cmp)
    }

    /// What share of its ceiling a row reaches.
    pub(super) fn share_of_ceiling(self, row: &Row) -> Option<f64> {
        let kind = row.job.kind.ceiling();
        let items = match kind {
            Kind::DoNothing => Items::Hot,
            _ => row.job.items,
        };
        let ceiling = self
            .0
            .iter()
            .find(|other| other.job == Job { kind, items, instances: 1, ..row.job })?;
        (row.job.kind != kind).then(|| ratio(row.per_second, ceiling.per_second))?
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row that did so many operations in one second.
    pub(in super::super) fn made_up(
        kind: Kind,
        items: Items,
        callers: u32,
        preloaded: u64,
        operations: u64,
    ) -> Row {
        let samples = Samples { operations, ..Samples::default() };
        Row::new(Job::new(kind, items, callers, preloaded), Duration::from_secs(1), samples)
    }

    #[test]
    fn a_rate_is_that_of_the_whole_window() {
        let samples = Samples { operations: 10, ..Samples::default() };
        let job = made_up(Kind::Engine, Items::Hot, 1, 0, 1).job;
        let row = Row::new(job, Duration::from_secs(4), samples);
        assert_eq!((row.per_second, row.p50_us), (2.5, None));
    }

    #[test]
    fn the_bare_loop_takes_the_batch_of_the_same_engine_row() {
        let mut small = made_up(Kind::Engine, Items::Hot, 1, 0, 100);
        small.set_batches(Batches { batches: 10, places: 10, expiries: 5 });
        let mut large = made_up(Kind::Engine, Items::Hot, 1_024, 0, 100);
        large.set_batches(Batches { batches: 2, places: 1_000, expiries: 0 });
        let bare = |callers| made_up(Kind::Bare, Items::Hot, callers, 0, 1).job;
        let rows = [small, large];
        let places = |rows: &[Row], callers| batches_of_engine(rows, bare(callers)).after(1).places;
        assert_eq!((places(&rows, 1_024), places(&rows, 1)), (500, 1));
        assert_eq!(rows[0].expiries_per_batch, Some(0.5));
        assert_eq!((places(&rows, 64), places(&[], 5_000)), (64, 1_000));
    }

    #[test]
    fn a_batch_of_nothing_has_no_mean() {
        let mut row = made_up(Kind::Engine, Items::Hot, 1, 0, 0);
        row.set_batches(Batches::default());
        assert_eq!(row.places_per_batch, None);
    }

    #[test]
    fn a_share_is_of_the_row_that_differs_only_in_what_does_the_work() {
        let rows = [
            made_up(Kind::Engine, Items::Hot, 8, 0, 60),
            made_up(Kind::Bare, Items::Hot, 8, 0, 100),
            made_up(Kind::Bare, Items::Hot, 8, 9, 50),
            made_up(Kind::DoNothing, Items::Hot, 8, 0, 200),
            made_up(Kind::Http, Items::SoldOut, 8, 0, 150),
        ];
        let shares: Vec<_> = rows.iter().map(|row| Rows(&rows).share_of_ceiling(row)).collect();
        assert_eq!(shares, [Some(0.6), None, None, None, Some(0.75)]);
    }

    #[test]
    fn rates_are_found_by_what_was_measured() {
        let rows = [
            made_up(Kind::Engine, Items::Hot, 1, 0, 10),
            made_up(Kind::Engine, Items::Hot, 8, 0, 20),
            made_up(Kind::Engine, Items::Hot, 8, 5, 15),
            made_up(Kind::Engine, Items::Many, 8, 0, 18),
        ];
        let rate = |items, callers, before| Rows(&rows).rate(Kind::Engine, items, callers, before);
        assert_eq!(rate(Items::Hot, Callers::One, Before::Empty), Some(10.0));
        assert_eq!(rate(Items::Hot, Callers::Most, Before::Empty), Some(20.0));
        assert_eq!(rate(Items::Hot, Callers::Most, Before::Preloaded), Some(15.0));
        assert_eq!(rate(Items::Many, Callers::One, Before::Empty), None);
        assert_eq!(Rows(&rows).best(&[Kind::Engine]), Some(20.0));
        assert_eq!(Rows(&rows).best(&[Kind::Guarded]), None);
    }
}
