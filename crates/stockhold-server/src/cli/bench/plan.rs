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
            Self::Bare => "bare loop",
            Self::Http => "HTTP",
            Self::DoNothing => "HTTP, do nothing",
        }
    }

    /// What it is measured against.
    pub(super) const fn ceiling(self) -> Self {
        match self {
            Self::Engine | Self::Selecting | Self::Guarded | Self::Bare => Self::Bare,
            Self::Http | Self::DoNothing => Self::DoNothing,
        }
    }

    const fn part(self) -> Part {
        match self {
            Self::Engine => Part::Engine,
            Self::Selecting | Self::Guarded => Part::Baseline,
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
    /// An item of which there is nothing, so that every place is refused.
    SoldOut,
}

impl Items {
    /// The items to choose from.
    pub(super) fn skus(self) -> Vec<String> {
        match self {
            Self::Hot => vec!["HOT-TICKET".to_owned()],
            Self::Many => (0..MANY).map(|n| format!("SKU-{n:06}")).collect(),
            Self::SoldOut => vec!["GONE-AT-10".to_owned()],
        }
    }
}

/// One row to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) items: Items,
    pub(super) callers: u32,
    /// Holds that are in the ledger before.
    pub(super) preloaded: u64,
}

impl Job {
    pub(super) const fn is_preloaded(&self) -> bool {
        self.preloaded > 0
    }

    /// What is promised of what was answered.
    pub(super) const fn durability(&self) -> &'static str {
        match (self.kind, self.items) {
            (Kind::DoNothing, _) => "none: nothing is kept",
            (_, Items::SoldOut) => "none: a refusal writes nothing",
            (Kind::Selecting | Kind::Guarded, _) => "fsync per commit, one hold each",
            (Kind::Engine | Kind::Http, _) => "fsync per commit, before the answers",
            (Kind::Bare, _) => "fsync per commit",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callers = if self.callers == 1 { "caller" } else { "callers" };
        let (kind, subject, n) = (self.kind.name(), self.subject(), grouped(self.callers));
        write!(f, "{kind}, {subject}, {n} {callers}")
    }
}

impl Job {
    /// What is asked for, in words.
    pub(super) fn subject(&self) -> String {
        let items = match self.items {
            Items::Hot => "1 SKU".to_owned(),
            Items::Many => format!("{} SKUs", grouped(MANY)),
            Items::SoldOut => "sold-out SKU".to_owned(),
        };
        match self.preloaded {
            0 => items,
            holds => format!("{items}, {} holds before", grouped(holds)),
        }
    }
}

/// All rows of these parts; of all parts if none is named. `callers` rise.
pub(super) fn plan(only: &[Part], callers: &[u32], preload: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |kinds: &[Kind], items, callers, preloaded| {
        jobs.extend(kinds.iter().map(|kind| Job { kind: *kind, items, callers, preloaded }));
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

#[cfg(test)]
mod tests {
    use super::*;

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
