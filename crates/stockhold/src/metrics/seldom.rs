//! Numbers that not every engine has. A number that is always 0 would look like good news.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
};
use stockhold_core::verify::{Invariant, Report};

use super::Label;
use crate::ledger::{Alarms, Ledger};

/// Broken invariants, by their names: told once somebody has looked for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Violations(Arc<OnceLock<Family<[Label; 1], Counter>>>);

impl Violations {
    pub(super) fn add(&self, report: &Report) {
        let found = self.0.get_or_init(none);
        for violation in &report.violations {
            found.get_or_create(&[("invariant", violation.invariant.as_str())]).inc();
        }
    }
}

fn none() -> Family<[Label; 1], Counter> {
    let found = Family::default();
    for invariant in Invariant::ALL {
        drop(found.get_or_create(&[("invariant", invariant.as_str())]));
    }
    found
}

impl Collector for Violations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(found) = self.0.get() else { return Ok(()) };
        let help = "Broken invariants that a verification of the running engine has found.";
        tell(&mut encoder, "stockhold_invariant_violations", help, found)
    }
}

/// What the ledger calls an alarm, as long as there is a ledger.
#[derive(Debug)]
pub(super) struct OfLedger(pub(super) Weak<dyn Ledger>);

impl Collector for OfLedger {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let alarms = self.0.upgrade().and_then(|ledger: Arc<dyn Ledger>| ledger.alarms());
        let Some(Alarms { clock_steps, lost_batches, unconfirmed_commits }) = alarms else {
            return Ok(());
        };
        let help = "How often the clock of the ledger's server was seen to step.";
        tell(&mut encoder, "stockhold_clock_steps", help, &ConstCounter::new(clock_steps))?;
        let help = "Batches that were answered here, and that the ledger has lost.";
        tell(&mut encoder, "stockhold_lost_batches", help, &ConstGauge::new(lost_batches))?;
        let help = "Commits that did not wait for a standby as they should have.";
        let unconfirmed = ConstCounter::new(unconfirmed_commits);
        tell(&mut encoder, "stockhold_unconfirmed_commits", help, &unconfirmed)
    }
}

pub(super) fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    number: &impl EncodeMetric,
) -> fmt::Result {
    number.encode(encoder.encode_descriptor(name, help, None, number.metric_type())?)
}
