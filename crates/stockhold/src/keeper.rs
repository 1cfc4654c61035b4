//! The keeper: removes holds that have been over for long enough, so that the ledger does not
//! grow for ever; and recomputes the invariants, if it is told to.
//!
//! It goes through the old holds in small steps, and rests after each for as long as the step
//! took. So it has at most half of the ledger's time, and a hold that is placed meanwhile waits for
//! one step at most.
//!
//! Of all instances that share a ledger, one does either at a time, under a lock. Two at once would do no harm, but the
//! same work twice.

use std::{future::pending, sync::Arc, time::Duration};

use stockhold_core::HoldId;
use tokio::{sync::watch, task::yield_now};
use tracing::{error, info, warn};

use crate::{
    Failure, Settings,
    batcher::silent,
    clock::{Clock, within},
    error::chain,
    ledger::{Ledger, Retired},
    lock::{LeaseTtl, LockError, LockName, Locks},
    metrics::Metrics,
};

/// Holds that are looked at in one step.
const STEP: usize = 200;
/// The locks of whoever does so.
const RETENTION: &str = "stockhold/retention";
const VERIFY: &str = "stockhold/verify";
/// How long another one waits for whoever has died at it.
const LEASE: Duration = Duration::from_secs(30);
/// How long one goes on at most.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is done under it, for people.
fn what(lock: &str) -> &'static str {
    if lock == VERIFY { "the check of the invariants" } else { "the removal of old holds" }
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) locks: Locks,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
}

impl Keeper {
    /// Works until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.tidy_up() => {}
            () = self.look_after() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn tidy_up(&self) {
        loop {
            if self.alone(RETENTION, self.pass()).await
                && let Err(error) = self.locks.fenced().backend().tidy().await
            {
                warn!(error = %chain(&error), "old locks cannot be removed");
            }
            self.clock.sleep(self.settings.retention_pause).await;
        }
    }

    async fn look_after(&self) {
        let every = self.settings.verify_every;
        while !every.is_zero() {
            self.clock.sleep(every).await;
            self.alone(VERIFY, self.verify()).await;
        }
        pending().await
    }

    /// Does it, unless another instance does so now; says whether it did.
    async fn alone(&self, lock: &'static str, work: impl Future<Output = ()>) -> bool {
        // It does not matter if another one still believes to have the lock: see above.
        let locks = self.locks.fenced();
        let granted = match (LockName::new(lock), LeaseTtl::new(LEASE)) {
            (Ok(name), Ok(ttl)) => locks.try_acquire(&name, ttl).await,
            _ => return false,
        };
        let lease = match granted {
            Ok(lease) => lease,
            Err(LockError::Busy { .. }) => return false,
            Err(error) => {
                warn!(lock, error = %chain(&error), "{} waits: no lock is to be had", what(lock));
                return false;
            }
        };
        let alive = lease.keep_alive(LONGEST);
        if lease.run(work).await.is_err() {
            warn!(
                lock,
                "{} was broken off, for its lock was lost: it is done next time",
                what(lock)
            );
        }
        drop(alive);
        lease.release().await;
        true
    }

    async fn verify(&self) {
        match self.ledger.verify().await {
            Ok(report) => {
                self.metrics.verified(&report);
                for violation in &report.violations {
                    error!(%violation, "an invariant is broken");
                }
            }
            Err(failure) => warn!(error = %failure.chain(), "the invariants cannot be recomputed"),
        }
    }

    /// Goes once through all that is old enough.
    async fn pass(&self) {
        let (mut after, mut removed) = (None, 0_usize);
        loop {
            let begun = self.clock.boot();
            match self.step(after).await {
                Ok(Retired { holds, next }) => {
                    removed = removed.saturating_add(holds);
                    after = next;
                }
                Err(failure) => {
                    return warn!(error = %failure.chain(), "old holds cannot be removed");
                }
            }
            if after.is_none() {
                break;
            }
            self.rest(self.clock.boot().saturating_sub(begun)).await;
        }
        if removed > 0 {
            info!(holds = removed, "removed holds that were over for long enough");
        }
    }

    async fn step(&self, after: Option<HoldId>) -> Result<Retired, Failure> {
        let Settings { retention, command_deadline, .. } = self.settings;
        let retire = self.ledger.retire(retention, after, STEP);
        let retired = within(&*self.clock, command_deadline, retire).await;
        retired.unwrap_or_else(|| Err(silent(command_deadline)))
    }

    async fn rest(&self, duration: Duration) {
        yield_now().await;
        self.clock.sleep(duration).await;
    }
}
