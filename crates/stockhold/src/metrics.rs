//! What the engine tells a monitoring system, in the words of Prometheus.
//!
//! The lane does tens of thousands of commands a second. So it counts a batch in plain variables,
//! and adds the sums up here once. No label takes a text that a user has sent.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use stockhold_core::{Command, Outcome, Rejection, Traffic, verify::Report};

use self::seldom::{OfLedger, Violations};
use crate::{
    FailureKind,
    batcher::Sort,
    ledger::{Applied, Ledger},
};

#[cfg(feature = "redis")]
mod cached;
mod locks;
mod seldom;

pub(crate) use locks::LockTimes;

#[cfg(feature = "redis")]
pub(crate) use cached::OfCache;

/// A label: its name, and one of a few words.
type Label = (&'static str, &'static str);

/// The end of a place for which there is not enough.
#[cfg(feature = "redis")]
const REFUSED: [Label; 2] = [("command", "place"), ("outcome", "insufficient_stock")];

/// The numbers of one engine. They are counted whether anybody reads them or not.
///
/// ```
/// use prometheus_client::{encoding::text::encode, registry::Registry};
/// # use stockhold::*;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// engine.set_policy(&ItemKey::at_default(Sku::new("MUG")?), None, None).await?;
///
/// let (mut registry, mut text) = (Registry::default(), String::new());
/// engine.metrics().register(&mut registry);
/// encode(&mut text, &registry)?;
/// assert!(text.contains("stockhold_commands_total{command=\"set_policy\",outcome=\"ok\"} 1"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Metrics {
    commands: Family<[Label; 2], Counter>,
    /// One of them, which is counted a million times a second.
    #[cfg(feature = "redis")]
    refused_by_copies: Counter,
    races: Counter,
    units: Family<[Label; 1], Counter>,
    batch_commands: Histogram,
    commit_seconds: Histogram,
    queue_seconds: Histogram,
    queue_length: Family<[Label; 1], Gauge>,
    /// Nobody knows of a shared ledger how many there are.
    holds_active: Option<Gauge>,
    expiry_lateness: Histogram,
    locks: LockTimes,
    violations: Violations,
    ledger: Weak<dyn Ledger>,
    #[cfg(feature = "redis")]
    copies: Option<OfCache>,
}

impl Metrics {
    pub(crate) fn of(ledger: &Arc<dyn Ledger>) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let commands = Family::default();
        #[cfg(feature = "redis")]
        let refused_by_copies = commands.get_or_create_owned(&REFUSED);
        let metrics = Self {
            commands,
            #[cfg(feature = "redis")]
            refused_by_copies,
            races: Counter::default(),
            units: Family::default(),
            batch_commands: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            commit_seconds: seconds(),
            queue_seconds: seconds(),
            queue_length: Family::default(),
            holds_active: (!ledger.is_shared()).then(Gauge::default),
            expiry_lateness: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            locks: LockTimes::default(),
            violations: Violations::default(),
            ledger: Arc::downgrade(ledger),
            #[cfg(feature = "redis")]
            copies: None,
        };
        metrics.begin_at_nothing();
        metrics
    }

    /// How long locks were waited for, to be noted by whoever grants them.
    pub(crate) const fn locks(&self) -> &LockTimes {
        &self.locks
    }

    /// The same, with copies of stock items.
    #[cfg(feature = "redis")]
    pub(crate) fn with(self, copies: OfCache) -> Self {
        Self { copies: Some(copies), ..self }
    }

    /// What an alarm asks for is there before it has happened for the first time.
    fn begin_at_nothing(&self) {
        for (what, _) in Traffic::default().units() {
            drop(self.units.get_or_create(&[("transition", what)]));
        }
        self.locks.begin_at_nothing();
    }

    /// Puts the numbers into a registry, under their names. Counters get `_total` from it.
    ///
    /// Broken invariants are told from the first [`Engine::verify`](crate::Engine::verify) on, and
    /// what a ledger calls an alarm ([`Alarms`](crate::ledger::Alarms)) if there is such a thing.
    pub fn register(&self, registry: &mut Registry) {
        self.register_counts(registry);
        self.register_times(registry);
        let help = "Commands that share a transaction";
        registry.register("stockhold_batch_commands", help, self.batch_commands.clone());
        let help = "Commands that were left waiting when the last transaction was begun";
        registry.register("stockhold_queue_length", help, self.queue_length.clone());
        if let Some(holds_active) = &self.holds_active {
            let help = "Holds that are active, due or not";
            registry.register("stockhold_holds_active", help, holds_active.clone());
        }
        registry.register_collector(Box::new(self.violations.clone()));
        registry.register_collector(Box::new(OfLedger(self.ledger.clone())));
        #[cfg(feature = "redis")]
        if let Some(copies) = self.copies.clone() {
            registry.register_collector(Box::new(copies));
        }
    }

    fn register_counts(&self, registry: &mut Registry) {
        let help = "Commands, by what became of them";
        registry.register("stockhold_commands", help, self.commands.clone());
        let help = "How often a transaction was begun anew because another one was first";
        registry.register("stockhold_races", help, self.races.clone());
        let help = "Units that were moved, by what happened to them";
        registry.register("stockhold_units", help, self.units.clone());
    }

    fn register_times(&self, registry: &mut Registry) {
        let help = "How long the ledger took for a transaction";
        registry.register("stockhold_commit_seconds", help, self.commit_seconds.clone());
        let help = "How long the oldest command of a transaction had waited for it";
        registry.register("stockhold_queue_seconds", help, self.queue_seconds.clone());
        let help = "How long after its deadline the latest hold of a transaction was expired";
        let lateness = self.expiry_lateness.clone();
        registry.register("stockhold_expiry_lateness_seconds", help, lateness);
        self.locks.register(registry);
    }

    /// A transaction is begun; its oldest command has waited for that long, if it has any.
    pub(crate) fn taken(&self, waited: Option<Duration>, left: [(Sort, usize); 3]) {
        if let Some(waited) = waited {
            self.queue_seconds.observe(waited.as_secs_f64());
        }
        for (sort, length) in left {
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            self.queue_length.get_or_create(&[("queue", sort.as_str())]).set(length);
        }
    }

    /// The ledger has answered, well or not.
    pub(crate) fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn applied(&self, commands: &[Command], applied: &Applied) {
        if !commands.is_empty() {
            self.batch_commands.observe(as_f64(commands.len()));
        }
        self.raced(applied.races);
        let outcomes = applied.answers.iter().map(outcome);
        self.count(commands.iter().map(|command| command.action.verb()).zip(outcomes));
        for (what, units) in applied.traffic.units().filter(|(_, units)| *units > 0) {
            self.units.get_or_create(&[("transition", what)]).inc_by(units);
        }
        if let Some(lateness) = applied.traffic.lateness {
            self.expiry_lateness.observe(lateness.as_secs_f64());
        }
        if let (Some(gauge), Some(active)) = (&self.holds_active, applied.active_holds) {
            gauge.set(i64::try_from(active).unwrap_or(i64::MAX));
        }
    }

    /// A batch was begun anew so often because somebody else was first.
    pub(crate) fn raced(&self, races: u64) {
        self.races.inc_by(races);
    }

    /// Commands with these verbs failed, all for the same reason.
    pub(crate) fn failed(&self, verbs: impl IntoIterator<Item = &'static str>, kind: FailureKind) {
        self.count(verbs.into_iter().map(|verb| (verb, kind.code())));
    }

    /// A place was refused without a transaction.
    #[cfg(feature = "redis")]
    pub(crate) fn refused_by_copies(&self) {
        self.refused_by_copies.inc();
    }

    pub(crate) fn verified(&self, report: &Report) {
        self.violations.add(report);
    }

    /// A batch has few sorts of ends: they are sought in a short list, and each label once.
    fn count(&self, ends: impl Iterator<Item = Label>) {
        let mut counts: Vec<(Label, u64)> = Vec::new();
        for end in ends {
            match counts.iter_mut().find(|(known, _)| *known == end) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => counts.push((end, 1)),
            }
        }
        for ((command, outcome), count) in counts {
            let labels = [("command", command), ("outcome", outcome)];
            self.commands.get_or_create(&labels).inc_by(count);
        }
    }
}

fn outcome(answer: &Result<Outcome, Rejection>) -> &'static str {
    answer.as_ref().map_or_else(Rejection::code, |_| "ok")
}

fn as_f64(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
