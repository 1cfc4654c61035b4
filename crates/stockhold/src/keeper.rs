//! The keeper: removes holds that have been over for long enough, so that the ledger does not
//! grow for ever.
//!
//! It goes through the old holds in small steps, and rests after each for as long as the step
//! took. So it has at most half of the ledger's time, and a hold that is placed meanwhile waits for
//! one step at most.
//!
//! Of all instances that share a ledger, one does so at a time, under a lock. Two at once would do no harm, but the
//! same work twice.

use std::{sync::Arc, time::Duration};

use stockhold_core::HoldId;
use tokio::{sync::watch, task::yield_now};
use tracing::{info, warn};

use crate::{
    Failure, Settings,
    batcher::silent,
    clock::{Clock, within},
    error::chain,
    ledger::{Ledger, Retired},
    lock::{LeaseTtl, LockError, LockName, Locks},
};

/// Holds that are looked at in one step.
const STEP: usize = 200;
/// The lock of whoever does so.
const LOCK: &str = "stockhold/retention";
/// How long another one waits for whoever has died at it.
const LEASE: Duration = Duration::from_secs(30);
/// How long one goes on at most.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) locks: Locks,
    pub(crate) settings: Settings,
}

impl Keeper {
    /// Works until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let work = async {
            loop {
                self.pass_alone().await;
                self.clock.sleep(self.settings.retention_pause).await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Once more, unless another instance does so now.
    async fn pass_alone(&self) {
        // It does not matter if another one still believes to have the lock: see above.
        let locks = self.locks.fenced();
        let granted = match (LockName::new(LOCK), LeaseTtl::new(LEASE)) {
            (Ok(name), Ok(ttl)) => locks.try_acquire(&name, ttl).await,
            _ => return,
        };
        let lease = match granted {
            Ok(lease) => lease,
            Err(LockError::Busy { .. }) => return,
            Err(error) => {
                return warn!(error = %chain(&error), "old holds are not removed: no lock is to be had");
            }
        };
        let alive = lease.keep_alive(LONGEST);
        if lease.run(self.pass()).await.is_err() {
            warn!("the lock was lost while old holds were removed: the rest is removed next time");
        }
        drop(alive);
        lease.release().await;
        if let Err(error) = locks.backend().tidy().await {
            warn!(error = %chain(&error), "old locks cannot be removed");
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
