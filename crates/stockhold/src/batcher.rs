//! The lane: gathers what waits, folds it into one transaction, answers.
//!
//! While a batch commits, the next one gathers: no timer, and no delay when nothing else waits.
//! Three sorts of commands wait in queues of their own, and each has its share of every batch, so
//! that a rush of places cannot hold up a confirm, nor a sweep either of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockhold_core::{Action, Command, HoldId, Outcome, Rejection};
use tokio::sync::{Notify, oneshot};
use tracing::{error, warn};

use crate::{
    Error, Failure, FailureKind, Settings,
    clock::{Clock, within},
    ids::IdSource,
    ledger::{Applied, ApplyError, Batch, BatchId, Ledger},
    sweeper::{Alarm, Tally},
};

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
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    alarm: Arc<Alarm>,
    settings: Settings,
}

#[derive(Debug, Default)]
struct Queues {
    /// Confirm, release and every other verb that is not a place: never shed because of places.
    settles: VecDeque<Waiting>,
    sweeps: VecDeque<Waiting>,
    places: VecDeque<Waiting>,
    /// The ledger should say that it is alive.
    beat: bool,
    closed: bool,
}

/// Which queue a command waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Settle,
    Sweep,
    Place,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    reply: Reply,
    since: Duration,
}

/// Who wants to know.
#[derive(Debug)]
enum Reply {
    Caller(oneshot::Sender<Answer>),
    Sweeper(Arc<Tally>, HoldId),
}

impl Reply {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.is_closed())
    }

    fn send(self, answer: Answer) {
        match self {
            // A caller that went away meanwhile finds the hold by its key, or lets it expire.
            Self::Caller(caller) => drop(caller.send(answer)),
            Self::Sweeper(tally, id) => tally.settle(id, answer.as_ref().err()),
        }
    }
}

/// Why a batch was not applied, after everything was done to find out.
enum Setback {
    /// One of its commands is to blame.
    Refused(Failure),
    /// None of them is.
    Unavailable(Failure),
}

/// Commands on their way, and who waits for each.
struct Piece {
    commands: Vec<Command>,
    replies: Vec<Reply>,
}

impl Lane {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        alarm: Arc<Alarm>,
        settings: Settings,
    ) -> Self {
        let (queues, ready) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { queues, ready, ledger, clock, ids, alarm, settings }) }
    }

    /// Queues a command and waits for its answer. Dropping the future before the command was
    /// taken takes it back; afterwards it runs to its end.
    pub(crate) async fn submit(&self, command: Command) -> Answer {
        let (caller, answer) = oneshot::channel();
        self.enqueue(command, Reply::Caller(caller))?;
        answer.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Queues commands of one sort, and waits for their answers. They are applied in their order,
    /// and share a transaction as far as they fit.
    pub(crate) async fn submit_all(&self, commands: Vec<Command>) -> Vec<Answer> {
        let waiting = self.enqueue_all(commands);
        let mut answers = Vec::with_capacity(waiting.len());
        for queued in waiting {
            answers.push(match queued {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(closed().into())),
                Err(failure) => Err(failure.into()),
            });
        }
        answers
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

    /// Nothing is taken into a batch before all are queued.
    fn enqueue_all(
        &self,
        commands: Vec<Command>,
    ) -> Vec<Result<oneshot::Receiver<Answer>, Failure>> {
        let (since, settings) = (self.shared.clock.boot(), &self.shared.settings);
        let mut queues = self.queues();
        let push = |command| {
            let (caller, answer) = oneshot::channel();
            let reply = Reply::Caller(caller);
            queues.push(Waiting { command, reply, since }, settings).map(|()| answer)
        };
        let waiting = commands.into_iter().map(push).collect();
        drop(queues);
        self.shared.ready.notify_one();
        waiting
    }

    fn enqueue(&self, command: Command, reply: Reply) -> Result<(), Failure> {
        let since = self.shared.clock.boot();
        self.queues().push(Waiting { command, reply, since }, &self.shared.settings)?;
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Works until the lane is closed and everything queued is done.
    pub(crate) async fn run(self) {
        while let Some(piece) = self.next_piece().await {
            self.work(piece).await;
        }
    }

    async fn next_piece(&self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.queues().take(&self.shared.settings) {
                return Some(piece);
            }
            if self.queues().closed {
                return None;
            }
            self.shared.ready.notified().await;
        }
    }

    /// Applies a piece. One whose write-back is refused is split in halves until the offender is
    /// alone; it fails, and the others are answered as if it had not been there.
    async fn work(&self, piece: Piece) {
        let mut pieces = vec![piece];
        while let Some(mut piece) = pieces.pop() {
            let batch = Arc::new(Batch {
                id: self.shared.ids.batch(),
                commands: std::mem::take(&mut piece.commands),
            });
            match self.apply(&batch, &mut piece).await {
                Ok(applied) => self.answer(piece, applied),
                Err(Setback::Refused(failure)) if batch.commands.len() > 1 => {
                    warn!(error = %failure, commands = batch.commands.len(), "batch refused");
                    let (first, rest) = piece.halves(&batch.commands);
                    pieces.extend([rest, first]);
                }
                Err(Setback::Refused(failure)) => {
                    let source = std::error::Error::source(&failure);
                    error!(error = %failure, ?source, "command refused by the ledger");
                    piece.fail(&failure);
                }
                Err(Setback::Unavailable(failure)) => piece.fail(&failure),
            }
        }
    }

    /// Hands the batch to the ledger. If no answer comes, the callers are told so when their
    /// deadline has passed, and the batch runs on without them.
    async fn apply(&self, batch: &Arc<Batch>, piece: &mut Piece) -> Result<Applied, Setback> {
        let limit = self.shared.settings.command_deadline;
        let mut applying = self.shared.ledger.apply(Arc::clone(batch));
        let result = loop {
            if let Some(result) = within(&*self.shared.clock, limit, &mut applying).await {
                break result;
            }
            let failure = silent(limit);
            piece.fail(&failure);
            self.queues().fail_all(&failure);
        };
        match result {
            Ok(applied) => Ok(applied),
            Err(ApplyError::Refused(failure)) => Err(Setback::Refused(failure)),
            Err(ApplyError::Unavailable(failure)) => Err(Setback::Unavailable(failure)),
            Err(ApplyError::Unknown { applied, failure }) => {
                warn!(error = %failure, "the outcome of a batch is unknown");
                self.resolve(batch.id, applied, failure).await
            }
        }
    }

    /// R15: looks the batch up by its number. Found: that is the answer. Not found is not failed.
    async fn resolve(
        &self,
        id: BatchId,
        applied: Applied,
        failure: Failure,
    ) -> Result<Applied, Setback> {
        const PATIENCE: Duration = Duration::from_secs(1);
        const ATTEMPTS: u32 = 3;
        for _ in 0..ATTEMPTS {
            let landed = self.shared.ledger.landed(id);
            match within(&*self.shared.clock, PATIENCE, landed).await {
                Some(Ok(true)) => return Ok(applied),
                Some(Ok(false)) => break,
                Some(Err(_)) | None => {}
            }
        }
        let message = "it is not known whether this was done: ask again with the same key";
        let unknown = Failure::new(FailureKind::Unavailable, message);
        Err(Setback::Unavailable(unknown.caused_by(failure)))
    }

    fn answer(&self, piece: Piece, applied: Applied) {
        const WORTH_A_TASK: usize = 64;
        self.shared.alarm.ring_in(applied.next_due);
        let replies = piece.replies.into_iter().zip(applied.answers);
        if replies.len() < WORTH_A_TASK {
            replies.for_each(|(reply, answer)| reply.send(answer.map_err(answered)));
        } else {
            // The next batch does not wait until a thousand callers are woken.
            tokio::spawn(async move {
                replies.for_each(|(reply, answer)| reply.send(answer.map_err(answered)));
            });
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sort {
    pub(crate) const fn of(command: &Command) -> Self {
        match command.action {
            Action::Place(_) => Self::Place,
            Action::Expire { .. } => Self::Sweep,
            _ => Self::Settle,
        }
    }
}

impl Queues {
    const fn of(&mut self, sort: Sort) -> &mut VecDeque<Waiting> {
        match sort {
            Sort::Settle => &mut self.settles,
            Sort::Sweep => &mut self.sweeps,
            Sort::Place => &mut self.places,
        }
    }

    /// Lets it wait, unless too much waits already. Places alone are shed for their age.
    fn push(&mut self, waiting: Waiting, settings: &Settings) -> Result<(), Failure> {
        if self.closed {
            return Err(closed());
        }
        let sort = Sort::of(&waiting.command);
        let queue = self.of(sort);
        let is_late = sort == Sort::Place && behind(queue, waiting.since) > settings.max_behind;
        if is_late || queue.len() >= settings.max_waiting {
            return Err(overloaded(queue.len()));
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Takes the next batch: of each sort its share, then of each what still fits.
    fn take(&mut self, settings: &Settings) -> Option<Piece> {
        let beat = std::mem::take(&mut self.beat);
        let mut piece = Piece { commands: Vec::new(), replies: Vec::new() };
        let mut room = Room { commands: settings.batch_commands, bytes: settings.batch_bytes };
        let share = settings.batch_commands / 3;
        for most in [share, usize::MAX] {
            for queue in [&mut self.settles, &mut self.sweeps, &mut self.places] {
                piece.take_from(queue, most, &mut room);
            }
        }
        (beat || !piece.commands.is_empty()).then_some(piece)
    }

    fn fail_all(&mut self, failure: &Failure) {
        for queue in [&mut self.settles, &mut self.sweeps, &mut self.places] {
            for waiting in queue.drain(..) {
                waiting.reply.send(Err(failure.again().into()));
            }
        }
    }
}

/// What still fits into a batch.
struct Room {
    commands: usize,
    bytes: usize,
}

impl Piece {
    fn take_from(&mut self, queue: &mut VecDeque<Waiting>, most: usize, room: &mut Room) {
        for _ in 0..most {
            if room.commands == 0 || room.bytes == 0 {
                return;
            }
            let Some(waiting) = queue.pop_front() else { return };
            if waiting.reply.is_gone() {
                continue;
            }
            room.commands -= 1;
            room.bytes = room.bytes.saturating_sub(about_bytes(&waiting.command));
            self.commands.push(waiting.command);
            self.replies.push(waiting.reply);
        }
    }

    /// Deals the commands of a refused batch, with who waits for them, into two pieces. If nobody
    /// waits any more, their callers were told that it took too long.
    fn halves(mut self, commands: &[Command]) -> (Self, Self) {
        let half = commands.len() / 2;
        let rest_replies = self.replies.split_off(half.min(self.replies.len()));
        let (first, rest) = commands.split_at(half);
        (
            Self { commands: first.to_vec(), replies: self.replies },
            Self { commands: rest.to_vec(), replies: rest_replies },
        )
    }

    fn fail(&mut self, failure: &Failure) {
        for reply in self.replies.drain(..) {
            reply.send(Err(failure.again().into()));
        }
    }
}

fn about_bytes(command: &Command) -> usize {
    const COMMAND: usize = 256;
    const LINE: usize = 160;
    command.action.items().count().saturating_mul(LINE).saturating_add(COMMAND)
}

fn behind(queue: &VecDeque<Waiting>, now: Duration) -> Duration {
    queue.front().map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest.since))
}

fn answered(rejection: Rejection) -> Error {
    if let Rejection::Damaged { what } = rejection {
        error!(what, "the ledger is damaged");
        return Failure::new(FailureKind::Internal, "the ledger is damaged").into();
    }
    rejection.into()
}

fn closed() -> Failure {
    Failure::new(FailureKind::Closed, "the engine is shutting down")
}

fn overloaded(waiting: usize) -> Failure {
    Failure::new(FailureKind::Overloaded, format!("{waiting} commands are waiting already"))
}

pub(crate) fn silent(limit: Duration) -> Failure {
    let message = format!("the ledger has not answered for {limit:?}: ask again with the same key");
    Failure::new(FailureKind::Unavailable, message)
}
