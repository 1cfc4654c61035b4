//! The sweeper: wakes at the next deadline and puts what is due into the lane.
//!
//! It has no power of its own. Time frees no stock; the `Expire` command does, by the rules, in a
//! transaction, and if somebody was faster it finds nothing to do.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold_core::HoldId;
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use crate::{
    Error, Failure, Settings,
    batcher::Lane,
    clock::{Clock, within},
    ledger::Ledger,
};

/// Tells the sleeping sweeper of a deadline that is earlier than the one it sleeps for.
/// Moments are milliseconds since boot; `u64::MAX` is never.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Arc<dyn Clock>,
    /// When the sweeper will wake anyway.
    wakes_at: AtomicU64,
    /// The earliest deadline that it was told of since it last looked.
    rung_for: AtomicU64,
    /// All that is due is broken: that something is due is no news then.
    only_broken_due: AtomicBool,
    rung: Notify,
}

const NEVER: u64 = u64::MAX;

impl Alarm {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (wakes_at, rung_for) = (AtomicU64::new(NEVER), AtomicU64::new(NEVER));
        let (only_broken_due, rung) = (AtomicBool::new(false), Notify::new());
        Self { clock, wakes_at, rung_for, only_broken_due, rung }
    }

    pub(crate) fn ring_in(&self, next_due: Option<Duration>) {
        let Some(next_due) = next_due else { return };
        if next_due.is_zero() && self.only_broken_due.load(Ordering::Relaxed) {
            return;
        }
        let at = self.moment_in(next_due);
        if at < self.wakes_at.load(Ordering::Relaxed) {
            self.rung_for.fetch_min(at, Ordering::Relaxed);
            self.rung.notify_one();
        }
    }

    /// The sweeper is going to look by itself: what it was told of before is no news.
    fn reset(&self) {
        self.wakes_at.store(NEVER, Ordering::Relaxed);
        self.rung_for.store(NEVER, Ordering::Relaxed);
    }

    /// Says for how long the sweeper is going to sleep.
    fn set(&self, duration: Option<Duration>) {
        let wakes_at = duration.map_or(NEVER, |duration| self.moment_in(duration));
        self.wakes_at.store(wakes_at, Ordering::Relaxed);
    }

    /// Sleeps for that long, or until an earlier deadline is known.
    async fn sleep(&self, duration: Option<Duration>) {
        self.set(duration);
        let earlier = async {
            let is_news = || {
                let rung_for = self.rung_for.swap(NEVER, Ordering::Relaxed);
                rung_for < self.wakes_at.load(Ordering::Relaxed)
            };
            while !is_news() {
                self.rung.notified().await;
            }
        };
        match duration {
            None => earlier.await,
            Some(duration) => drop(within(&*self.clock, duration, earlier).await),
        }
    }

    fn moment_in(&self, duration: Duration) -> u64 {
        millis(self.clock.boot().saturating_add(duration))
    }
}

/// The deaths that were queued and not answered yet, and what the answers were.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    state: Mutex<TallyState>,
    few_are_out: Notify,
}

#[derive(Debug, Default)]
struct TallyState {
    out: HashSet<HoldId>,
    /// The sweeper waits until no more than so many are out.
    few: usize,
    broken: Vec<HoldId>,
    unavailable: bool,
}

impl Tally {
    /// Notes an answer. A hold that cannot be expired because of its own rows is broken (R16);
    /// if the ledger is away, it is not the hold's fault.
    pub(crate) fn settle(&self, id: HoldId, error: Option<&Error>) {
        let mut state = self.state();
        match error {
            None => {}
            Some(Error::Failed(failure)) if failure.kind != crate::FailureKind::Internal => {
                state.unavailable = true;
            }
            Some(_) => state.broken.push(id),
        }
        state.out.remove(&id);
        if state.out.len() <= state.few {
            self.few_are_out.notify_one();
        }
    }

    /// Waits until no more than so many are out.
    async fn wait_for(&self, few: usize) {
        self.state().few = few;
        while self.state().out.len() > few {
            self.few_are_out.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, TallyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Sweeper {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) lane: Lane,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) settings: Settings,
    pub(crate) tally: Arc<Tally>,
    /// Holds whose rows are damaged, and when to try them again.
    pub(crate) broken: HashMap<HoldId, Duration>,
    /// When the log is told again that the ledger is away; none while it answers.
    pub(crate) told_again: Option<Duration>,
}

/// After that long a broken hold is tried again: somebody may have mended it.
const BROKEN_AGAIN: Duration = Duration::from_secs(60);
/// Between two sweeps: what dies in the meantime shares a commit. Nobody waits for it, because a
/// place that runs short reclaims on demand.
const GATHER: Duration = Duration::from_millis(20);
/// The same over a ledger that is shared: there a sweep is two transactions on another machine.
const GATHER_SHARED: Duration = Duration::from_millis(100);
/// While the ledger is away, or a sweep failed.
const PAUSE: Duration = Duration::from_millis(250);
/// While the ledger is away, the log is told no more often than that.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// What follows a sweep.
enum Next {
    /// Nothing to do for that long, or until a hold is placed.
    Asleep(Option<Duration>),
    /// Let something gather; an alarm does not matter meanwhile.
    Gathering,
    /// There is more than one sweep can take.
    AtOnce,
}

impl Sweeper {
    /// Works until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let gather = if self.ledger.is_shared() { GATHER_SHARED } else { GATHER };
        loop {
            let next = self.sweep().await;
            let (alarm, clock) = (Arc::clone(&self.alarm), Arc::clone(&self.clock));
            let pause = async {
                match next {
                    Next::Asleep(pause) => alarm.sleep(pause).await,
                    Next::Gathering => clock.sleep(gather).await,
                    Next::AtOnce => {}
                }
            };
            tokio::select! {
                () = pause => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Expires what is due, and says what to do then.
    async fn sweep(&mut self) -> Next {
        self.alarm.reset();
        let now = self.clock.boot();
        self.broken.retain(|_, again| *again > now);
        let out = self.tally.state().out.clone();
        let others = self.broken.len().saturating_add(out.len());
        let limit = self.settings.sweep_batch.saturating_add(others);
        let due = match self.ledger.due(limit).await {
            Ok(due) => due,
            Err(failure) => {
                self.tell(now, &failure);
                return Next::Asleep(Some(PAUSE));
            }
        };
        self.told_again = None;
        let is_fresh = |id: &HoldId| !self.broken.contains_key(id) && !out.contains(id);
        let fresh: Vec<_> = due.holds.into_iter().filter(is_fresh).collect();
        if fresh.is_empty() && !out.is_empty() {
            return self.settled(0).await;
        }
        let only_broken_due = fresh.is_empty() && due.next_due.is_some_and(|next| next.is_zero());
        self.alarm.only_broken_due.store(only_broken_due, Ordering::Relaxed);
        if fresh.is_empty() {
            let Some(next_due) = due.next_due else {
                return Next::Asleep(self.ledger.is_shared().then_some(self.settings.heartbeat));
            };
            let pause = self.until(next_due);
            // Set before the answer to the beat can ring it.
            self.alarm.set(Some(pause));
            self.lane.beat();
            return Next::Asleep(Some(pause));
        }
        self.expire(fresh).await
    }

    fn tell(&mut self, now: Duration, failure: &Failure) {
        if self.told_again.is_none_or(|at| now >= at) {
            warn!(error = %failure.chain(), "cannot ask for due holds");
            self.told_again = Some(now.saturating_add(TOLD_AGAIN));
        }
    }

    /// With only broken holds due, the next deadline has passed: then it is the next heartbeat.
    fn until(&self, next_due: Duration) -> Duration {
        if next_due.is_zero() {
            self.settings.heartbeat
        } else {
            next_due.min(self.settings.heartbeat)
        }
    }

    /// Queues the deaths. If there are more than that, the lane is not to run dry: the next ones are
    /// looked for while half of these are still out.
    async fn expire(&mut self, due: Vec<HoldId>) -> Next {
        let is_all = due.len() < self.settings.sweep_batch;
        for id in due {
            self.tally.state().out.insert(id);
            if self.lane.expire(id, &self.tally).is_err() {
                self.tally.state().out.clear();
                return Next::Asleep(Some(PAUSE));
            }
        }
        let few = if is_all { 0 } else { self.settings.sweep_batch / 2 };
        self.settled(few).await
    }

    /// Waits until no more than so many deaths are out, and says what to do then.
    async fn settled(&mut self, few: usize) -> Next {
        let patience = self.settings.command_deadline.saturating_mul(2);
        let in_time = within(&*self.clock, patience, self.tally.wait_for(few)).await.is_some();
        let mut state = self.tally.state();
        let broken = std::mem::take(&mut state.broken);
        let is_lost = std::mem::take(&mut state.unavailable) || !in_time;
        if is_lost {
            // Whoever is still out is looked for again.
            state.out.clear();
        }
        drop(state);
        self.set_aside(&broken);
        match (is_lost, few) {
            (true, _) => Next::Asleep(Some(PAUSE)),
            (false, 0) => Next::Gathering,
            (false, _) => Next::AtOnce,
        }
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
