//! Which rows there are, and in what order.
//!
//! Rows that are compared stand next to each other, so that a disk that slows down in the course
//! of a run slows both.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::report::grouped;

/// How many stock items the rows with many of them spread over.
pub(super) const MANY: usize = 10_000;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Holds and refusals through the engine.
    Engine,
    /// What a developer would write instead.
    Baseline,
    /// The same rows in the same batches, and nothing else.
    Bare,
    /// Holds and refusals over HTTP, and a handler that does nothing.
    Http,
    /// What Redis is for, with --redis.
    Redis,
}

/// What does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The engine, embedded.
    Engine,
    /// Baseline (a).
    Selecting,
    /// Baseline (b).
    Guarded,
    /// Baseline (c), over Postgres.
    UnitRows,
    /// The ceiling of everything that writes.
    Bare,
    /// The service.
    Http,
    /// The ceiling of everything that goes over HTTP.
    DoNothing,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Selecting => "(a) SELECT, UPDATE, INSERT",
            Self::Guarded => "(b) guarded UPDATE, INSERT",
            Self::UnitRows => "(c) a row a unit, SKIP LOCKED",
            Self::Bare => "bare loop",
            Self::Http => "HTTP",
            Self::DoNothing => "HTTP, do nothing",
        }
    }

    /// What it is measured against.
    pub(super) const fn ceiling(self) -> Self {
        match self {
            Self::Engine | Self::Selecting | Self::Guarded | Self::UnitRows | Self::Bare => {
                Self::Bare
            }
            Self::Http | Self::DoNothing => Self::DoNothing,
        }
    }

    const fn part(self) -> Part {
        match self {
            Self::Engine => Part::Engine,
            Self::Selecting | Self::Guarded | Self::UnitRows => Part::Baseline,
            Self::Bare => Part::Bare,
            Self::Http | Self::DoNothing => Part::Http,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Items {
    /// All callers want the same item.
    Hot,
    /// One of [`MANY`] items, each as likely as any other.
    Many,
    /// One of so many items, which are all that there are.
    Of(u32),
    /// An item of which there is nothing, so that every place is refused.
    SoldOut,
    /// One of so many such items, asked for without keys.
    Gone(u32),
}

impl Items {
    /// How many items there are to choose from.
    pub(super) fn count(self) -> usize {
        match self {
            Self::Hot | Self::SoldOut => 1,
            Self::Many => MANY,
            Self::Of(items) | Self::Gone(items) => usize::try_from(items).unwrap_or(usize::MAX),
        }
    }

    /// One of them, counted from 0.
    pub(super) fn sku(self, n: usize) -> String {
        match self {
            Self::Hot => "HOT-TICKET".to_owned(),
            Self::Many | Self::Of(_) | Self::Gone(_) => format!("SKU-{n:06}"),
            Self::SoldOut => "GONE-AT-10".to_owned(),
        }
    }

    /// The items to choose from.
    pub(super) fn skus(self) -> Vec<String> {
        (0..self.count()).map(|n| self.sku(n)).collect()
    }
}

/// One row to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) items: Items,
    /// None if holds come at a rate, whether or not those before were answered.
    pub(super) callers: u32,
    /// Holds that are in the ledger before.
    pub(super) preloaded: u64,
    /// Holds that come in a second; none if each caller waits for its answer.
    pub(super) offered: Option<u32>,
    /// Processes that share the callers.
    pub(super) instances: u32,
}

impl Job {
    /// Callers that wait for their answers, in one process.
    pub(super) const fn new(kind: Kind, items: Items, callers: u32, preloaded: u64) -> Self {
        Self { kind, items, callers, preloaded, offered: None, instances: 1 }
    }

    pub(super) const fn is_preloaded(&self) -> bool {
        self.preloaded > 0
    }

    /// What is promised of what was answered.
    pub(super) const fn durability(&self) -> &'static str {
        match (self.kind, self.items) {
            (Kind::DoNothing, _) => "none: nothing is kept",
            (_, Items::SoldOut | Items::Gone(_)) => "none: a refusal writes nothing",
            (Kind::Selecting | Kind::Guarded | Kind::UnitRows, _) => {
                "fsync per commit, one hold each"
            }
            (Kind::Engine | Kind::Http, _) => "fsync per commit, before the answers",
            (Kind::Bare, _) => "fsync per commit",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.kind.name(), self.subject())?;
        match self.callers {
            0 => Ok(()),
            1 => write!(f, ", 1 caller"),
            n => write!(f, ", {} callers", grouped(n)),
        }
    }
}

impl Job {
    /// What is asked for, in words.
    pub(super) fn subject(&self) -> String {
        let items = match self.items {
            Items::Hot => "1 SKU".to_owned(),
            Items::Many | Items::Of(_) => format!("{} SKUs", grouped(self.items.count())),
            Items::SoldOut => "sold-out SKU".to_owned(),
            Items::Gone(items) => format!("{} sold-out SKUs", grouped(items)),
        };
        let before = match self.preloaded {
            0 => String::new(),
            holds => format!(", {} holds before", grouped(holds)),
        };
        let offered = match self.offered {
            None => String::new(),
            Some(rate) => format!(", {} a second", grouped(rate)),
        };
        let instances = match self.instances {
            1 => String::new(),
            instances => format!(", {instances} instances"),
        };
        format!("{items}{before}{offered}{instances}")
    }
}

/// All rows of these parts; of all parts if none is named. `callers` rise.
pub(super) fn plan(only: &[Part], callers: &[u32], preload: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |kinds: &[Kind], items, callers, preloaded| {
        jobs.extend(kinds.iter().map(|kind| Job::new(*kind, items, callers, preloaded)));
    };
    for items in [Items::Hot, Items::Many] {
        for callers in callers {
            let kinds = [Kind::Engine, Kind::Selecting, Kind::Guarded, Kind::Bare];
            add(&kinds, items, *callers, 0);
        }
    }
    if let Some(most) = callers.last().filter(|_| preload > 0) {
        add(&[Kind::Engine, Kind::Bare], Items::Hot, *most, preload);
    }
    for callers in callers {
        add(&[Kind::Engine], Items::SoldOut, *callers, 0);
    }
    for callers in callers {
        add(&[Kind::DoNothing, Kind::Http], Items::Hot, *callers, 0);
        add(&[Kind::Http], Items::SoldOut, *callers, 0);
        add(&[Kind::Http], Items::Many, *callers, 0);
    }
    jobs.retain(|job| only.is_empty() || only.contains(&job.kind.part()));
    jobs
}

/// What is asked for of a Postgres ledger beside the number of callers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Ended holds in the ledger of some rows.
    pub(super) preload: u64,
    /// Stock items in the ledger of some rows.
    pub(super) stock: u32,
    /// Processes that share the load of a row.
    pub(super) instances: u32,
}

/// The rows over Postgres. Baselines get no more callers than helps them.
pub(super) fn plan_postgres(only: &[Part], callers: &[u32], sizes: Sizes) -> Vec<Job> {
    const FEW: u32 = 1_000;
    const MOST_FOR_BASELINES: u32 = 256;
    const OFFERED: u32 = 1_000;
    let Some(most) = callers.last().copied() else { return Vec::new() };
    let mut jobs = Vec::new();
    for callers in callers {
        jobs.push(Job::new(Kind::Engine, Items::Hot, *callers, 0));
        if *callers <= MOST_FOR_BASELINES {
            let baselines = [Kind::Selecting, Kind::Guarded, Kind::UnitRows];
            jobs.extend(baselines.map(|kind| Job::new(kind, Items::Hot, *callers, 0)));
        }
    }
    let hot = Job::new(Kind::Engine, Items::Hot, most, 0);
    jobs.push(Job { kind: Kind::Bare, ..hot });
    if sizes.instances > 1 {
        jobs.push(Job { instances: sizes.instances, ..hot });
    }
    jobs.push(Job { callers: 0, offered: Some(OFFERED), ..hot });
    let mut pair = |items, preloaded| {
        jobs.extend([Kind::Engine, Kind::Bare].map(|kind| Job::new(kind, items, most, preloaded)));
    };
    pair(Items::Many, 0);
    if sizes.preload > 0 {
        pair(Items::Hot, sizes.preload);
    }
    if sizes.stock > 0 {
        pair(Items::Of(FEW), 0);
        pair(Items::Of(sizes.stock), 0);
    }
    jobs.extend(callers.iter().map(|n| Job::new(Kind::Engine, Items::SoldOut, *n, 0)));
    jobs.retain(|job| only.is_empty() || only.contains(&job.kind.part()));
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { preload: 9, stock: 1_000_000, instances: 4 };

    #[test]
    fn over_postgres_every_row_is_there_once_and_none_is_left_without_its_ceiling() {
        let jobs = plan_postgres(&[], &[1, 16, 1_024], SIZES);
        for (at, job) in jobs.iter().enumerate() {
            assert!(!jobs[..at].contains(job), "{job}");
            let baseline = job.kind.part() == Part::Baseline;
            assert!(!baseline || job.callers <= 256, "{job}");
        }
        for job in jobs.iter().filter(|job| job.items != Items::SoldOut && job.callers == 1_024) {
            let ceiling = Job { kind: Kind::Bare, instances: 1, ..*job };
            assert!(jobs.contains(&ceiling), "{job}");
        }
        let small = Sizes { preload: 0, stock: 0, instances: 1 };
        let small = plan_postgres(&[Part::Engine], &[1], small);
        let names: Vec<_> = small.iter().map(Job::to_string).collect();
        let offered = "engine, 1 SKU, 1,000 a second";
        let (hot, many) = ("engine, 1 SKU, 1 caller", "engine, 10,000 SKUs, 1 caller");
        assert_eq!(names, [hot, offered, many, "engine, sold-out SKU, 1 caller"]);
    }

    #[test]
    fn a_bare_row_comes_after_its_engine_row_and_before_the_next() {
        let jobs = plan(&[], &[1, 64], 1_000);
        for (at, job) in jobs.iter().enumerate().filter(|(_, job)| job.kind == Kind::Bare) {
            let engine = Job { kind: Kind::Engine, ..*job };
            let found = jobs[..at].iter().rposition(|before| before.kind == Kind::Engine);
            assert_eq!(found.map(|n| jobs[n]), Some(engine));
        }
    }

    #[test]
    fn parts_and_preload_choose_the_rows() {
        let kinds = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.kind).collect::<Vec<_>>();
        let http = kinds(plan(&[Part::Http], &[1], 1_000));
        assert_eq!(http, [Kind::DoNothing, Kind::Http, Kind::Http, Kind::Http]);
        assert!(plan(&[], &[1, 8], 0).iter().all(|job| !job.is_preloaded()));
        let full = plan(&[Part::Engine], &[1, 8], 9);
        let full: Vec<_> = full.iter().filter(|job| job.is_preloaded()).collect();
        assert!(full.len() == 1 && full[0].callers == 8 && full[0].items == Items::Hot);
    }

    #[test]
    fn every_row_is_there_once() {
        let jobs = plan(&[], &[1, 64, 1_024], 1_000);
        for (at, job) in jobs.iter().enumerate() {
            assert!(!jobs[..at].contains(job), "{job}");
        }
    }
}
