//! What waits for its turn, and what is taken into the next batch.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use stockhold_core::{Action, Command, HoldId};
use tokio::sync::oneshot;

use super::Answer;
use crate::{Failure, FailureKind, Settings, sweeper::Tally};

#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Confirm, release and every other verb that is not a place: never shed because of places.
    settles: VecDeque<Waiting>,
    sweeps: VecDeque<Waiting>,
    places: VecDeque<Waiting>,
    /// The ledger should say that it is alive.
    pub(super) beat: bool,
    pub(super) closed: bool,
    /// Batches that are being applied.
    at_work: usize,
    /// Commands that came together, of which some are being applied: the others keep their order.
    together: Vec<Group>,
}

/// The number of commands that came together.
pub(super) type Group = u64;

/// So many commands have to wait before a batch is begun beside another one. Fewer gain more from
/// sharing a commit than from not waiting for it.
const WORTH_A_BATCH: usize = 256;

/// Which queue a command waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Settle,
    Sweep,
    Place,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) command: Command,
    pub(super) reply: Reply,
    pub(super) since: Duration,
    /// With which others it came, if it did.
    pub(super) group: Option<Group>,
}

/// Who wants to know.
#[derive(Debug)]
pub(super) enum Reply {
    Caller(oneshot::Sender<Answer>),
    Sweeper(Arc<Tally>, HoldId),
}

impl Reply {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.is_closed())
    }

    pub(super) fn send(self, answer: Answer) {
        match self {
            // A caller that went away meanwhile finds the hold by its key, or lets it expire.
            Self::Caller(caller) => drop(caller.send(answer)),
            Self::Sweeper(tally, id) => tally.settle(id, answer.as_ref().err()),
        }
    }
}

/// Who waits for a command that is on its way.
#[derive(Debug)]
pub(super) struct WaitingCaller {
    reply: Reply,
    /// When it stops waiting, on the boot clock.
    until: Duration,
}

impl WaitingCaller {
    pub(super) fn send(self, answer: Answer) {
        self.reply.send(answer);
    }
}

/// Commands on their way, and who waits for each.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) commands: Vec<Command>,
    /// None any more, once they were told that it takes too long.
    pub(super) callers: Vec<WaitingCaller>,
    /// How long the oldest of them had waited when it was taken.
    pub(super) waited: Duration,
    /// They wait for rows that somebody else has locked, and this is what was said of it.
    pub(super) stuck: Option<Failure>,
    /// The groups of which it has a part.
    groups: Vec<Group>,
}

impl Sort {
    pub(crate) const fn of(command: &Command) -> Self {
        match command.action {
            Action::Place(_) => Self::Place,
            Action::Expire { .. } => Self::Sweep,
            _ => Self::Settle,
        }
    }
    /// The word that is told.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Sweep => "sweep",
            Self::Place => "place",
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
    pub(super) fn push(&mut self, waiting: Waiting, settings: &Settings) -> Result<(), Failure> {
        if self.closed {
            return Err(closed());
        }
        let sort = Sort::of(&waiting.command);
        let queue = self.of(sort);
        while queue.front().is_some_and(|oldest| oldest.reply.is_gone()) {
            queue.pop_front();
        }
        let is_late = sort == Sort::Place && behind(queue, waiting.since) > settings.max_behind;
        if is_late || queue.len() >= settings.max_waiting {
            return Err(overloaded(queue.len()));
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Takes the next batch: of each sort its share, then of each what still fits. If more has died
    /// than one batch can end, places have a quarter of their share: the dead would pile up for as long as
    /// more is placed than ends.
    pub(super) fn take(
        &mut self,
        settings: &Settings,
        lanes: usize,
        now: Duration,
    ) -> Option<Piece> {
        let waiting: usize = self.lengths().iter().map(|(_, length)| length).sum();
        let is_free = self.at_work == 0 || (self.at_work < lanes && waiting >= WORTH_A_BATCH);
        if !is_free {
            return None;
        }
        let beat = std::mem::take(&mut self.beat);
        let mut piece = Piece {
            commands: Vec::new(),
            callers: Vec::new(),
            waited: Duration::ZERO,
            stuck: None,
            groups: Vec::new(),
        };
        let patience = settings.command_deadline;
        let mut room =
            Room { commands: settings.batch_commands, bytes: settings.batch_bytes, now, patience };
        let share = settings.batch_commands / 3;
        let are_sweeps_behind = self.sweeps.len() > settings.batch_commands;
        let of_places = if are_sweeps_behind { share.div_ceil(4) } else { share };
        for shares in [[share, share, of_places], [usize::MAX; 3]] {
            let queues = [&mut self.settles, &mut self.sweeps, &mut self.places];
            for (queue, most) in queues.into_iter().zip(shares) {
                piece.take_from(queue, most, &mut room, &self.together);
            }
        }
        if !beat && piece.commands.is_empty() {
            return None;
        }
        self.at_work = self.at_work.saturating_add(1);
        self.together.extend(&piece.groups);
        Some(piece)
    }

    /// Whether nothing is left to be taken, now and later.
    pub(super) fn is_done(&self) -> bool {
        self.closed && self.lengths().iter().all(|(_, length)| *length == 0)
    }

    /// A batch is done that had parts of these groups.
    pub(super) fn done(&mut self, groups: &[Group]) {
        self.at_work = self.at_work.saturating_sub(1);
        for group in groups {
            if let Some(at) = self.together.iter().position(|other| other == group) {
                self.together.swap_remove(at);
            }
        }
    }

    /// How many commands wait in each queue.
    pub(super) fn lengths(&self) -> [(Sort, usize); 3] {
        [
            (Sort::Settle, self.settles.len()),
            (Sort::Sweep, self.sweeps.len()),
            (Sort::Place, self.places.len()),
        ]
    }

    /// Takes back everything that waits; these are the verbs.
    pub(super) fn fail_all(&mut self, failure: &Failure) -> Vec<&'static str> {
        let queues = [&mut self.settles, &mut self.sweeps, &mut self.places];
        let fail = |waiting: Waiting| {
            let verb = waiting.command.action.verb();
            waiting.reply.send(Err(failure.again().into()));
            verb
        };
        queues.into_iter().flat_map(|queue| queue.drain(..)).map(fail).collect()
    }
}

/// What still fits into a batch that is taken now.
struct Room {
    commands: usize,
    bytes: usize,
    now: Duration,
    /// For how long a caller waits.
    patience: Duration,
}

impl Piece {
    fn take_from(
        &mut self,
        queue: &mut VecDeque<Waiting>,
        most: usize,
        room: &mut Room,
        together: &[Group],
    ) {
        let has_begun = |waiting: &Waiting| waiting.group.is_some_and(|g| together.contains(&g));
        for _ in 0..most {
            if room.commands == 0 || room.bytes == 0 || queue.front().is_some_and(has_begun) {
                return;
            }
            let Some(waiting) = queue.pop_front() else { return };
            if waiting.reply.is_gone() {
                continue;
            }
            room.commands -= 1;
            room.bytes = room.bytes.saturating_sub(about_bytes(&waiting.command));
            self.waited = self.waited.max(room.now.saturating_sub(waiting.since));
            if let Some(group) = waiting.group.filter(|group| !self.groups.contains(group)) {
                self.groups.push(group);
            }
            self.commands.push(waiting.command);
            let until = waiting.since.saturating_add(room.patience);
            self.callers.push(WaitingCaller { reply: waiting.reply, until });
        }
    }

    /// Deals the commands of a refused batch, with who waits for them, into two pieces.
    pub(super) fn halves(self, commands: &[Command]) -> (Self, Self) {
        let half = commands.len() / 2;
        self.dealt(commands, |place, _| place < half)
    }

    /// Deals the commands of a batch into those at `places`, which rise, and the others.
    pub(super) fn parted(self, commands: &[Command], places: &[usize]) -> (Self, Self) {
        self.dealt(commands, |place, _| places.binary_search(&place).is_ok())
    }

    /// Deals its commands into those for which nobody waits any more, and the others.
    pub(super) fn late(mut self, now: Duration) -> (Self, Self) {
        let commands = std::mem::take(&mut self.commands);
        self.dealt(&commands, |_, caller| caller.is_none_or(|caller| caller.until <= now))
    }

    /// If nobody waits any more, their callers were told that it took too long.
    fn dealt(
        mut self,
        commands: &[Command],
        is_first: impl Fn(usize, Option<&WaitingCaller>) -> bool,
    ) -> (Self, Self) {
        let (mut first, mut rest) = (self.empty(), self.empty());
        let mut callers = std::mem::take(&mut self.callers).into_iter();
        for (place, command) in commands.iter().enumerate() {
            let caller = callers.next();
            let piece = if is_first(place, caller.as_ref()) { &mut first } else { &mut rest };
            piece.commands.push(command.clone());
            piece.callers.extend(caller);
        }
        (first, rest)
    }

    /// Puts pieces together, as far as they fit into batches of so many commands. Somebody waits for
    /// each.
    pub(super) fn folded(pieces: Vec<Self>, most: usize) -> Vec<Self> {
        let mut folded: Vec<Self> = Vec::new();
        for mut piece in pieces {
            debug_assert_eq!(piece.commands.len(), piece.callers.len());
            match folded.last_mut() {
                Some(last) if last.commands.len().saturating_add(piece.commands.len()) <= most => {
                    last.commands.append(&mut piece.commands);
                    last.callers.append(&mut piece.callers);
                    last.waited = last.waited.max(piece.waited);
                }
                _ => folded.push(piece),
            }
        }
        folded
    }

    pub(super) fn groups(&self) -> Vec<Group> {
        self.groups.clone()
    }

    /// The groups are done when the piece that was taken is.
    fn empty(&self) -> Self {
        let (waited, stuck) = (self.waited, self.stuck.as_ref().map(Failure::again));
        let (commands, callers, groups) = (Vec::new(), Vec::new(), Vec::new());
        Self { commands, callers, waited, stuck, groups }
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        for caller in self.callers.drain(..) {
            caller.send(Err(failure.again().into()));
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

fn closed() -> Failure {
    Failure::new(FailureKind::Closed, "the engine is shutting down")
}

fn overloaded(waiting: usize) -> Failure {
    Failure::new(FailureKind::Overloaded, format!("{waiting} commands are waiting already"))
}
