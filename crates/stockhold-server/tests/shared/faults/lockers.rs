//! Who takes locks while Redis breaks: however that goes, no two have one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{
    History, Recorder,
    history::{Ledger, Rest},
    until,
};
use tokio::task::JoinSet;

use crate::{shop::Shop, shopper::Shopper};

/// So many of each instance, for fewer locks.
const OF_EACH: usize = 2;
const LOCKS: usize = 2;
const TTL: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Lockers {
    recorder: Arc<Recorder>,
    leave: Arc<AtomicBool>,
    granted: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Lockers {
    /// They begin.
    pub(crate) fn begin(shop: &Shop) -> Self {
        let recorder = Arc::new(Recorder::new("lockers"));
        let (leave, granted) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..shop.instances.len() * OF_EACH).map(|n| {
            let shopper = Shopper::recorded(shop.address(n), &recorder);
            work(shopper, n, Arc::clone(&leave), Arc::clone(&granted))
        });
        let tasks = tasks.collect();
        Self { recorder, leave, granted, tasks }
    }

    /// Waits until so many more leases were granted, which may take a minute: who may have had a lock before a loss has
    /// to be waited for.
    pub(crate) fn wait_for_leases(&self, more: u64) {
        let granted = || self.granted.load(Ordering::Relaxed);
        let enough = granted() + more;
        until(Duration::from_secs(100), "leases", || match granted() {
            granted if granted >= enough => Ok(()),
            granted => Err(format!("{granted} of {enough}")),
        });
    }

    /// They go; each lock had one holder at a time, and rising fences.
    pub(crate) async fn leave(mut self) -> History {
        self.leave.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        let history = self.recorder.history();
        history.expect_clean(&Ledger::default(), Rest::Settled);
        history
    }
}

/// Takes a lock and gives it back, or forgets it now and then.
async fn work(mut shopper: Shopper, n: usize, leave: Arc<AtomicBool>, granted: Arc<AtomicU64>) {
    let lock = format!("till-{}", n % LOCKS);
    for turn in 0.. {
        if leave.load(Ordering::Relaxed) {
            return;
        }
        let token = format!("locker-{n:04}-turn-{turn:08}");
        let told = shopper.acquire(&lock, &token, TTL).await;
        // Somebody else has it, or who had it before a loss may have it; or nobody can say.
        told.expect_any(&[200, 409, 503]);
        let Some(fence) = told.fence() else {
            SystemClock.sleep(10 * PAUSE).await;
            continue;
        };
        granted.fetch_add(1, Ordering::Relaxed);
        SystemClock.sleep(PAUSE).await;
        if turn % 16 != 0 {
            shopper.unlock(&lock, &token, fence).await.expect_any(&[200, 409, 503]);
        }
    }
}
