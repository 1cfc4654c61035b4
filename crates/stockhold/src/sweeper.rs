//! The sweeper: wakes at the next deadline and puts what is due into the lane.
//!
//! It has no power of its own. Time frees no stock; the `Expire` command does, by the rules, in a
//! transaction, and if somebody was faster it finds nothing to do.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold_core::HoldId;
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use crate::{
    Error, Settings,
    batcher::Lane,
    clock::{Clock, within},
    ledger::Ledger,
};

/// Tells the sleeping sweeper of a deadline that is earlier than the one it sleeps for.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Arc<dyn Clock>,
    /// When it will wake anyway, in milliseconds since boot.
    wakes_at: AtomicU64,
    /// All that is due is broken: that something is due is no news then.
    only_broken_due: AtomicBool,
    earlier: Notify,
}

impl Alarm {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (wakes_at, only_broken_due) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        Self { clock, wakes_at, only_broken_due, earlier: Notify::new() }
    }

    pub(crate) fn ring_in(&self, next_due: Option<Duration>) {
        let Some(next_due) = next_due else { return };
        if next_due.is_zero() && self.only_broken_due.load(Ordering::Relaxed) {
            return;
        }
        let at = millis(self.clock.boot().saturating_add(next_due));
        if at < self.wakes_at.load(Ordering::Relaxed) {
            self.earlier.notify_one();
        }
    }

    /// Says for how long the sweeper is going to sleep.
    fn set(&self, duration: Duration) {
        let wakes_at = millis(self.clock.boot().saturating_add(duration));
        self.wakes_at.store(wakes_at, Ordering::Relaxed);
    }

    /// Sleeps for that long, or until an earlier deadline is known.
    async fn sleep(&self, duration: Option<Duration>) {
        let earlier = self.earlier.notified();
        match duration {
            None => earlier.await,
            Some(duration) => {
                self.set(duration);
                let _woken_early = within(&*self.clock, duration, earlier).await;
                self.wakes_at.store(u64::MAX, Ordering::Relaxed);
            }
        }
    }
}

/// Counts the answers to one sweep.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    open: Mutex<TallyState>,
    done: Notify,
}

#[derive(Debug, Default)]
struct TallyState {
    waiting: usize,
    broken: Vec<HoldId>,
    unavailable: bool,
}

impl Tally {
    /// Notes an answer. A hold that cannot be expired because of its own rows is broken (R16);
    /// if the ledger is away, it is not the hold's fault.
    pub(crate) fn settle(&self, id: HoldId, error: Option<&Error>) {
        let mut state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_sub(1);
        match error {
            None => {}
            Some(Error::Failed(failure)) if failure.kind != crate::FailureKind::Internal => {
                state.unavailable = true;
            }
            Some(_) => state.broken.push(id),
        }
        if state.waiting == 0 {
            self.done.notify_one();
        }
    }

    fn expect_one_more(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting += 1;
    }

    fn take(&self) -> TallyState {
        std::mem::take(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
pub(crate) struct Sweeper {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) lane: Lane,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) settings: Settings,
    /// Holds whose rows are damaged, and when to try them again.
    pub(crate) broken: HashMap<HoldId, Duration>,
}

/// After that long a broken hold is tried again: somebody may have mended it.
const BROKEN_AGAIN: Duration = Duration::from_secs(60);
/// While the ledger is away, or a sweep failed.
const PAUSE: Duration = Duration::from_millis(250);

impl Sweeper {
    /// Works until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = self.sweep().await;
            let alarm = Arc::clone(&self.alarm);
            tokio::select! {
                () = alarm.sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Expires what is due, and says how long there is nothing to do.
    async fn sweep(&mut self) -> Option<Duration> {
        let now = self.clock.boot();
        self.broken.retain(|_, again| *again > now);
        let limit = self.settings.sweep_batch.saturating_add(self.broken.len());
        let due = match self.ledger.due(limit).await {
            Ok(due) => due,
            Err(failure) => {
                warn!(error = %failure, "cannot ask for due holds");
                return Some(PAUSE);
            }
        };
        let fresh: Vec<_> =
            due.holds.into_iter().filter(|id| !self.broken.contains_key(id)).collect();
        let only_broken_due = fresh.is_empty() && due.next_due.is_some_and(|next| next.is_zero());
        self.alarm.only_broken_due.store(only_broken_due, Ordering::Relaxed);
        if fresh.is_empty() {
            let pause = self.until(due.next_due?);
            // Set before the answer to the beat can ring it.
            self.alarm.set(pause);
            self.lane.beat();
            return Some(pause);
        }
        Some(self.expire(fresh).await)
    }

    /// With only broken holds due, the next deadline has passed: then it is the next heartbeat.
    fn until(&self, next_due: Duration) -> Duration {
        if next_due.is_zero() {
            self.settings.heartbeat
        } else {
            next_due.min(self.settings.heartbeat)
        }
    }

    async fn expire(&mut self, due: Vec<HoldId>) -> Duration {
        let tally = Arc::new(Tally::default());
        // One more than there are, so that it is not done before all are queued.
        tally.expect_one_more();
        for id in due {
            tally.expect_one_more();
            if self.lane.expire(id, &tally).is_err() {
                return PAUSE;
            }
        }
        tally.finish_queueing();
        let patience = self.settings.command_deadline.saturating_mul(2);
        let _ = within(&*self.clock, patience, tally.done.notified()).await;
        let state = tally.take();
        self.set_aside(&state.broken);
        if state.unavailable || state.waiting > 0 { PAUSE } else { Duration::ZERO }
    }

    fn set_aside(&mut self, broken: &[HoldId]) {
        const MOST: usize = 10_000;
        let again = self.clock.boot().saturating_add(BROKEN_AGAIN);
        for id in broken {
            error!(hold = %id, "cannot be expired; its rows are damaged");
            if self.broken.len() < MOST {
                self.broken.insert(*id, again);
            }
        }
    }
}

impl Tally {
    fn finish_queueing(&self) {
        let mut state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 {
            self.done.notify_one();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
