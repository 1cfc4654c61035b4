//! The lane: gathers what waits, folds it into one transaction, answers.
//!
//! While a batch commits, the next one gathers: no timer, and no delay when nothing else waits. Over
//! a ledger that many instances share, a second batch may be begun meanwhile, if many wait.
//! Three sorts of commands wait in queues of their own, and each has its share of every batch, so
//! that a rush of places cannot hold up a confirm, nor a sweep either of them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold_core::{Action, Command, HoldId, HoldState, Outcome, Rejection};
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use self::queues::{Piece, Queues, Reply, Waiting};
use crate::{
    Error, Failure, FailureKind, Metrics, Settings,
    bug::Bug,
    clock::{Clock, within},
    ids::IdSource,
    ledger::{Applied, ApplyError, Batch, BatchId, ChangedItem, Ledger},
    sweeper::{Alarm, Tally},
};

mod queues;

pub(crate) use queues::Sort;

/// Between two attempts to do what waits for rows that somebody else has locked.
const STUCK_PAUSE: Duration = Duration::from_millis(50);

/// What a caller is answered.
pub(crate) type Answer = Result<Outcome, Error>;

/// A handle on the lane; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Held for a push or for taking one batch, never across an await.
    queues: Mutex<Queues>,
    ready: Notify,
    /// What waits for rows that somebody else has locked.
    stuck: Mutex<Vec<Piece>>,
    has_stuck: Notify,
    /// The lane has done all that was queued.
    is_done: AtomicBool,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    alarm: Arc<Alarm>,
    metrics: Arc<Metrics>,
    settings: Settings,
    /// The most batches at once.
    lanes: usize,
    /// The number of the next group.
    groups: AtomicU64,
    /// Whoever keeps copies of stock items.
    watcher: Option<Arc<dyn Watcher>>,
}

/// Keeps copies of stock items, and is told when one of them is old.
pub(crate) trait Watcher: fmt::Debug + Send + Sync {
    /// These have changed, or may have; each is of this version at least. Told before anybody is answered:
    /// must not wait.
    fn changed(&self, items: &[ChangedItem]);
}

/// What a lane is made of.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
}

/// Why a batch was not applied, after everything was done to find out.
enum Setback {
    /// One of its commands is to blame.
    Refused(Failure),
    /// These wait for rows that somebody else has locked; the others need not.
    Stuck(Vec<usize>, Failure),
    /// None of them is.
    Unavailable(Failure),
}

impl Lane {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let Surroundings { ledger, clock, ids, alarm, metrics, settings, watcher } = surroundings;
        let shared = Shared {
            queues: Mutex::default(),
            ready: Notify::new(),
            stuck: Mutex::default(),
            has_stuck: Notify::new(),
            is_done: AtomicBool::new(false),
            lanes: settings.lanes_over(&*ledger),
            ledger,
            clock,
            ids,
            alarm,
            metrics,
            settings,
            groups: AtomicU64::new(0),
            watcher,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Queues a command and waits for its answer. Dropping the future before the command was
    /// taken takes it back; afterwards it runs to its end.
    pub(crate) async fn submit(&self, command: Command) -> Answer {
        let (caller, answer) = oneshot::channel();
        let since = self.shared.clock.boot();
        self.enqueue(command, Reply::Caller(caller))?;
        in_time(self.answer_of(answer, since).await, self.age(since))
    }

    /// Queues commands of one sort, and waits for their answers. They are applied in their order,
    /// and share a transaction as far as they fit.
    pub(crate) async fn submit_all(&self, commands: Vec<Command>) -> Vec<Answer> {
        let since = self.shared.clock.boot();
        let waiting = self.enqueue_all(commands);
        let mut answers = Vec::with_capacity(waiting.len());
        for queued in waiting {
            answers.push(match queued {
                Ok(answer) => self.answer_of(answer, since).await,
                Err(failure) => Err(failure.into()),
            });
        }
        let age = self.age(since);
        answers.into_iter().map(|answer| in_time(answer, age)).collect()
    }

    /// Waits for an answer as long as a caller waits, from when it came.
    async fn answer_of(&self, answer: oneshot::Receiver<Answer>, since: Duration) -> Answer {
        let limit = self.shared.settings.command_deadline;
        let left = limit.saturating_sub(self.age(since));
        match within(&*self.shared.clock, left, answer).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(unknown().into())),
            None => Err(silent(limit).into()),
        }
    }

    fn age(&self, since: Duration) -> Duration {
        self.shared.clock.boot().saturating_sub(since)
    }

    /// Queues the death of a due hold.
    pub(crate) fn expire(&self, id: HoldId, tally: &Arc<Tally>) -> Result<(), Failure> {
        let command = Command::new(Action::Expire { id });
        self.enqueue(command, Reply::Sweeper(Arc::clone(tally), id))
    }

    /// Asks for a sign of life of the ledger with the next batch, or with an empty one.
    pub(crate) fn beat(&self) {
        self.queues().beat = true;
        self.shared.ready.notify_one();
    }

    /// Takes no more commands. What is queued is still done.
    pub(crate) fn close(&self) {
        self.queues().closed = true;
        self.shared.ready.notify_one();
    }

    /// Takes back everything that waits.
    pub(crate) fn give_up(&self, failure: &Failure) {
        let given_up = self.queues().fail_all(failure);
        self.shared.metrics.failed(given_up, failure.kind);
    }

    /// Nothing is taken into a batch before all are queued.
    fn enqueue_all(
        &self,
        commands: Vec<Command>,
    ) -> Vec<Result<oneshot::Receiver<Answer>, Failure>> {
        let since = self.shared.clock.boot();
        let group = Some(self.shared.groups.fetch_add(1, Ordering::Relaxed));
        let mut queues = self.queues();
        let push = |command| {
            let (caller, answer) = oneshot::channel();
            let waiting = Waiting { command, reply: Reply::Caller(caller), since, group };
            self.push(&mut queues, waiting).map(|()| answer)
        };
        let waiting = commands.into_iter().map(push).collect();
        drop(queues);
        self.shared.ready.notify_one();
        waiting
    }

    fn enqueue(&self, command: Command, reply: Reply) -> Result<(), Failure> {
        let since = self.shared.clock.boot();
        self.push(&mut self.queues(), Waiting { command, reply, since, group: None })?;
        self.shared.ready.notify_one();
        Ok(())
    }

    fn push(&self, queues: &mut Queues, waiting: Waiting) -> Result<(), Failure> {
        let verb = waiting.command.action.verb();
        let queued = queues.push(waiting, &self.shared.settings);
        queued.inspect_err(|failure| self.shared.metrics.failed([verb], failure.kind))
    }

    /// Works until the lane is closed and everything queued is done.
    pub(crate) async fn run(self) {
        let aside = tokio::spawn(self.clone().run_aside());
        let beside = (1..self.shared.lanes).map(|_| tokio::spawn(self.clone().run_one()));
        let beside: Vec<_> = beside.collect();
        self.clone().run_one().await;
        for lane in beside {
            drop(lane.await);
        }
        self.shared.is_done.store(true, Ordering::Release);
        self.shared.has_stuck.notify_one();
        // It waits for nobody longer than a caller does.
        drop(aside.await);
    }

    async fn run_one(self) {
        while let Some(piece) = self.next_piece().await {
            let groups = piece.groups();
            self.work(piece).await;
            self.queues().done(&groups);
            self.shared.ready.notify_one();
        }
        // The next one has to see as well that the lane is closed.
        self.shared.ready.notify_one();
    }

    async fn next_piece(&self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.take() {
                return Some(piece);
            }
            if self.queues().is_done() {
                return None;
            }
            self.shared.ready.notified().await;
        }
    }

    fn take(&self) -> Option<Piece> {
        let now = self.shared.clock.boot();
        let mut queues = self.queues();
        let piece = queues.take(&self.shared.settings, self.shared.lanes, now)?;
        let left = queues.lengths();
        drop(queues);
        let waited = (!piece.commands.is_empty()).then_some(piece.waited);
        self.shared.metrics.taken(waited, left);
        Some(piece)
    }

    /// Applies a piece. One whose write-back is refused is split in halves until the offender is
    /// alone; it fails, and the others are answered as if it had not been there.
    async fn work(&self, piece: Piece) {
        let mut pieces = vec![piece];
        while let Some(mut piece) = pieces.pop() {
            let batch = Arc::new(Batch {
                id: self.shared.ids.batch(),
                commands: std::mem::take(&mut piece.commands),
                waits: piece.stuck.is_some(),
            });
            match self.apply(&batch, &mut piece).await {
                Ok(applied) => {
                    self.tell(&applied);
                    self.shared.metrics.applied(&batch.commands, &applied);
                    self.answer(piece, applied);
                }
                Err(Setback::Refused(failure)) if batch.commands.len() > 1 => {
                    warn!(error = %failure.chain(), commands = batch.commands.len(), "batch refused");
                    let (first, rest) = piece.halves(&batch.commands);
                    pieces.extend([rest, first]);
                }
                Err(Setback::Refused(failure)) => {
                    error!(error = %failure.chain(), "command refused by the ledger");
                    self.fail(piece, &batch.commands, &failure);
                }
                Err(Setback::Stuck(stuck, failure)) => {
                    let (stuck, rest) = piece.parted(&batch.commands, &stuck);
                    self.put_aside(stuck, &failure);
                    pieces.extend((!rest.commands.is_empty()).then_some(rest));
                }
                Err(Setback::Unavailable(failure)) => self.fail(piece, &batch.commands, &failure),
            }
        }
    }

    /// Commands whose rows somebody else has locked wait beside the lane, so that nobody waits for
    /// them; but not for longer than their callers do, and not without a bound.
    fn put_aside(&self, piece: Piece, failure: &Failure) {
        let (late, mut piece) = piece.late(self.shared.clock.boot());
        self.fail_all(late, failure);
        if piece.commands.is_empty() {
            return;
        }
        let mut stuck = self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = stuck.iter().map(|piece| piece.commands.len()).sum();
        if waiting.saturating_add(piece.commands.len()) > self.shared.settings.max_waiting {
            drop(stuck);
            return self.fail_all(piece, failure);
        }
        piece.stuck = Some(failure.again());
        stuck.push(piece);
        self.shared.has_stuck.notify_one();
    }

    /// Tries again what was put aside, until the lane is closed and nothing is left of it. All together:
    /// each attempt may wait for a row that is locked.
    pub(crate) async fn run_aside(self) {
        loop {
            let pieces = std::mem::take(
                &mut *self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if pieces.is_empty() {
                if self.shared.is_done.load(Ordering::Acquire) {
                    return;
                }
                self.shared.has_stuck.notified().await;
                continue;
            }
            for piece in Piece::folded(pieces, self.shared.settings.batch_commands) {
                let (mut late, piece) = piece.late(self.shared.clock.boot());
                if let Some(failure) = late.stuck.take() {
                    self.fail_all(late, &failure);
                }
                if !piece.commands.is_empty() {
                    self.work(piece).await;
                }
            }
            self.shared.clock.sleep(STUCK_PAUSE).await;
        }
    }

    fn fail_all(&self, mut piece: Piece, failure: &Failure) {
        let commands = std::mem::take(&mut piece.commands);
        self.fail(piece, &commands, failure);
    }

    fn fail(&self, mut piece: Piece, commands: &[Command], failure: &Failure) {
        self.shared.metrics.failed(commands.iter().map(verb), failure.kind);
        piece.fail(failure);
    }

    /// Hands the batch to the ledger. If no answer comes, the callers are told so when their
    /// deadline has passed, and the batch runs on without them.
    async fn apply(&self, batch: &Arc<Batch>, piece: &mut Piece) -> Result<Applied, Setback> {
        let limit = self.shared.settings.command_deadline;
        let begun = self.shared.clock.boot();
        let mut applying = self.shared.ledger.apply(Arc::clone(batch));
        let result = loop {
            if let Some(result) = within(&*self.shared.clock, limit, &mut applying).await {
                break result;
            }
            let failure = silent(limit);
            piece.fail(&failure);
            self.give_up(&failure);
        };
        self.shared.metrics.committed(self.shared.clock.boot().saturating_sub(begun));
        match result {
            Ok(applied) => Ok(applied),
            Err(ApplyError::Refused { failure, races }) => {
                self.shared.metrics.raced(races);
                Err(Setback::Refused(failure))
            }
            Err(ApplyError::Unavailable(failure)) => Err(Setback::Unavailable(failure)),
            Err(ApplyError::Stuck { commands, failure }) => Err(Setback::Stuck(commands, failure)),
            Err(ApplyError::Unknown { applied, failure }) => {
                warn!(error = %failure.chain(), "the outcome of a batch is unknown");
                self.tell(&applied);
                let until = begun.saturating_add(limit);
                self.resolve(batch.id, *applied, failure, until).await
            }
        }
    }

    /// R15: looks the batch up by its number, as long as somebody waits. Found: that is the answer. Not
    /// found is not failed.
    async fn resolve(
        &self,
        id: BatchId,
        applied: Applied,
        failure: Failure,
        until: Duration,
    ) -> Result<Applied, Setback> {
        const PATIENCE: Duration = Duration::from_secs(1);
        const ATTEMPTS: u32 = 3;
        if Bug::ForgetUnknown.is_made() {
            return Err(Setback::Refused(Failure::new(FailureKind::Internal, "forgotten")));
        }
        for _ in 0..ATTEMPTS {
            let left = until.saturating_sub(self.shared.clock.boot());
            let landed = self.shared.ledger.landed(id);
            match within(&*self.shared.clock, PATIENCE.min(left), landed).await {
                Some(Ok(true)) => return Ok(applied),
                Some(Ok(false)) => break,
                Some(Err(_)) | None => {}
            }
        }
        Err(Setback::Unavailable(unknown().caused_by(failure)))
    }

    fn tell(&self, applied: &Applied) {
        if let Some(watcher) = &self.shared.watcher {
            watcher.changed(&applied.changed);
        }
    }

    fn answer(&self, piece: Piece, applied: Applied) {
        const WORTH_A_TASK: usize = 64;
        self.shared.alarm.ring_in(applied.next_due);
        let answers = piece.callers.into_iter().zip(applied.answers);
        if answers.len() < WORTH_A_TASK {
            answers.for_each(|(caller, answer)| caller.send(answer.map_err(answered)));
        } else {
            // The next batch does not wait until a thousand callers are woken.
            tokio::spawn(async move {
                answers.for_each(|(caller, answer)| caller.send(answer.map_err(answered)));
            });
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verb(command: &Command) -> &'static str {
    command.action.verb()
}

/// A grant that comes when it is over (this process was paused, say) must not look like a promise.
fn in_time(answer: Answer, age: Duration) -> Answer {
    let Ok(Outcome::Placed(placed)) = answer else { return answer };
    let is_over = placed.hold.hold.state == HoldState::Active && placed.hold.expires_in() <= age;
    if is_over {
        return Err(Rejection::HoldEnded { hold: Box::new(placed.hold.later(age)) }.into());
    }
    Ok(Outcome::Placed(placed))
}

fn answered(rejection: Rejection) -> Error {
    if let Rejection::Damaged { what } = rejection {
        error!(what, "the ledger is damaged");
        return Failure::new(FailureKind::Internal, "the ledger is damaged").into();
    }
    rejection.into()
}

/// Also if the lane ended before it could answer.
fn unknown() -> Failure {
    let message = "it is not known whether this was done: ask again with the same key";
    Failure::new(FailureKind::Unavailable, message)
}

pub(crate) fn silent(limit: Duration) -> Failure {
    let message = format!("the ledger has not answered for {limit:?}: ask again with the same key");
    Failure::new(FailureKind::Unavailable, message)
}
