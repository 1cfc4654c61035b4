//! One batch: look up, lock and load, apply, write, commit.

use stockhold_core::{Action, Command, Limits, Outcome, Rejection, Timestamp};

use super::{
    deadlines::Floor,
    failure::{self, Trouble},
    hand::Hand,
    life::{self, Life, Time},
    lines::Lines,
    link::{Connection, Link},
    load::{self, Loaded},
    names::Numbers,
    retire::Tidy,
    stuck::{self, Stuck},
    wanted::Wanted,
    watch::Watch,
    write::{self, Columns, Transaction, Uncommitted},
};
use crate::{
    Failure,
    bug::Bug,
    crash::Point,
    ledger::{Applied, ApplyError, Batch},
};

/// How often a batch is begun anew because another instance was first, or because of items that
/// were not locked.
const ATTEMPTS: usize = 8;
/// How often a batch is begun anew to reclaim due holds whose other items were not locked.
const PATIENCE: usize = 3;

/// What a batch needs beside its connection.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) link: Link,
    pub(super) limits: Limits,
    pub(super) time: Time,
    /// A number that marks the holds that were placed here.
    pub(super) instance: i32,
    pub(super) stuck: Stuck,
    pub(super) watch: Watch,
    pub(super) lines: Lines,
    pub(super) numbers: Numbers,
    pub(super) floor: Floor,
    pub(super) tidy: Tidy,
}

/// What became of one attempt.
enum Attempt {
    Done(Applied),
    /// Perhaps it is committed, and perhaps not.
    InDoubt(Applied, Failure),
    /// Not written: it wants more rows than it had.
    WantsMore,
    /// Not written: the ledger was away, and that has to be noted first.
    WasAway,
    /// Nothing was locked: these commands name rows that are locked by somebody else.
    Stuck(Vec<usize>),
}

impl Desk {
    pub(super) async fn apply(&self, batch: &Batch) -> Result<Applied, ApplyError> {
        let mut connection = self.link.connection().await.map_err(ApplyError::Unavailable)?;
        let mut wanted = Wanted::of(&batch.commands);
        wanted.is_beside = batch.waits;
        wanted.know(self.numbers.find(wanted.keys_of_items.iter()));
        let (mut raced, mut locked, mut races) = (None, None, 0_u64);
        for tried in 0..ATTEMPTS {
            match self.attempt(&mut connection, batch, &mut wanted, tried).await {
                Ok(Attempt::Done(applied)) => return Ok(Applied { races, ..applied }),
                Ok(Attempt::InDoubt(applied, failure)) => {
                    connection.discard();
                    let applied = Box::new(Applied { races, ..applied });
                    return Err(ApplyError::Unknown { applied, failure });
                }
                Ok(Attempt::WantsMore) => roll_back(&mut connection).await,
                Ok(Attempt::WasAway) => {
                    roll_back(&mut connection).await;
                    if let Err(trouble) = life::note_outage(&mut connection, &self.time).await {
                        return give_up(&mut connection, trouble).await;
                    }
                }
                Ok(Attempt::Stuck(commands)) => {
                    return Err(ApplyError::Stuck { commands, failure: failure::locked() });
                }
                Err(Trouble::Raced(failure)) => {
                    roll_back(&mut connection).await;
                    wanted.trust_nothing();
                    races = races.saturating_add(1);
                    raced = Some(failure);
                }
                Err(Trouble::Locked(failure)) => {
                    roll_back(&mut connection).await;
                    let stuck = self.find_stuck(&mut connection, &wanted, batch).await;
                    match stuck.map_err(ApplyError::Unavailable)? {
                        Some(commands) => return Err(ApplyError::Stuck { commands, failure }),
                        None => locked = Some(failure),
                    }
                }
                Err(trouble) => return give_up(&mut connection, trouble).await,
            }
        }
        // Whoever is first eight times in a row is no other instance, but a row that is there.
        match raced {
            Some(failure) => Err(ApplyError::Refused(failure)),
            None => Err(ApplyError::Unavailable(locked.unwrap_or_else(failure::silent))),
        }
    }

    async fn attempt(
        &self,
        connection: &mut Connection<'_>,
        batch: &Batch,
        wanted: &mut Wanted,
        tried: usize,
    ) -> Result<Attempt, Trouble> {
        load::look_up(connection, wanted, &self.lines).await?;
        pass(Point::AfterBegin, &batch.commands);
        let stuck = self.stuck.locked().named_by(&batch.commands, wanted);
        if !(stuck.is_empty() || batch.waits) {
            return Ok(Attempt::Stuck(stuck));
        }
        let (mut hand, life) =
            match load::behind_locks(connection, wanted, &self.limits, &self.time).await? {
                Loaded::Hand(hand, life) => (*hand, life),
                Loaded::WasAway => return Ok(Attempt::WasAway),
            };
        pass(Point::AfterLocks, &batch.commands);
        if matches!(self.time, Time::Server) {
            self.watch.note(life.server_now);
        }
        self.stuck.forget(hand.names.keys());
        let misnamed = wanted.misnamed(&hand.names);
        if !misnamed.is_empty() {
            self.numbers.forget(misnamed.iter());
            return Ok(Attempt::WantsMore);
        }
        if !wanted.keys_of_items.is_empty() {
            self.numbers.note(hand.numbers.iter());
        }
        if !hand.missing.is_empty() {
            wanted.items.append(&mut hand.missing);
            return Ok(Attempt::WantsMore);
        }
        let reclaimable = self.stuck.locked().without(&hand.left_alone);
        if tried < PATIENCE && !reclaimable.is_empty() {
            wanted.reclaim(reclaimable);
            return Ok(Attempt::WantsMore);
        }
        let answers: Vec<_> = batch.commands.iter().map(|c| hand.answer(c)).collect();
        if hand.trusts && answers.iter().any(is_damaged) {
            wanted.trust_nothing();
            return Ok(Attempt::WantsMore);
        }
        let applied = applied(&hand, answers);
        self.finish(connection, &mut hand, &life, batch, applied).await
    }

    /// Writes what has changed, and commits.
    async fn finish(
        &self,
        connection: &mut Connection<'_>,
        hand: &mut Hand,
        life: &Life,
        batch: &Batch,
        applied: Applied,
    ) -> Result<Attempt, Trouble> {
        let (is_changed, sign) = (hand.book.is_changed(), life.sign(hand.book.liveness()));
        if !is_changed && sign.is_none() {
            roll_back(connection).await;
            return Ok(Attempt::Done(applied));
        }
        if is_changed {
            pass(Point::BeforeWrite, &batch.commands);
            write::new_items(connection, hand).await?;
        }
        let rows = is_changed.then(|| Columns::of(hand, batch.id, self.instance));
        let transaction = Transaction::new(rows.as_ref(), sign.as_ref());
        let unconfirmed = self.link.unconfirmed();
        let sent = send(connection, &transaction, &batch.commands).await;
        pass(Point::AfterCommit, &batch.commands);
        let doubt = match sent {
            Ok(Ok(())) if self.link.unconfirmed() == unconfirmed => None,
            Ok(Ok(())) => Some(failure::unconfirmed()),
            Ok(Err(Uncommitted::Refused(error))) => {
                return Err(Trouble::from(error).of_writing(hand.trusts));
            }
            Ok(Err(Uncommitted::InDoubt(error))) => Some(Trouble::from(error).into_failure()),
            Err(trouble) => Some(trouble.into_failure()),
        };
        match doubt {
            Some(failure) if !Bug::AckBeforeCommit.is_made() => {
                Ok(Attempt::InDoubt(applied, failure))
            }
            _ => {
                if is_changed {
                    self.link.witness.note(batch.id, hand.now);
                    self.lines.note(hand.noted());
                }
                Ok(Attempt::Done(applied))
            }
        }
    }

    /// Which commands want a row that somebody else has locked; `None` if all rows are free by now.
    /// None of the commands, if it was wanted only to reclaim a due hold: the next attempt leaves
    /// that hold alone.
    async fn find_stuck(
        &self,
        connection: &mut Connection<'_>,
        wanted: &Wanted,
        batch: &Batch,
    ) -> Result<Option<Vec<usize>>, Failure> {
        let locked = stuck::locked_elsewhere(connection, wanted).await;
        let locked = locked.map_err(Trouble::into_failure)?;
        self.stuck.note(&locked);
        let is_free = locked.0.is_empty();
        Ok((!is_free).then(|| locked.wanted_by(&batch.commands, wanted)))
    }
}

/// Writes and commits in one trip; in two, if the process is to end between them.
async fn send(
    connection: &mut Connection<'_>,
    transaction: &Transaction<'_>,
    commands: &[Command],
) -> Result<Result<(), Uncommitted>, Trouble> {
    const BETWEEN: [Point; 3] = [Point::AfterWrite, Point::InSweep, Point::BeforeCommit];
    if !BETWEEN.into_iter().any(Point::is_awaited) {
        return connection.trip(async |client| Ok(transaction.finish(client).await)).await;
    }
    let written = connection.trip(async |client| Ok(transaction.write(client).await)).await?;
    if written.is_err() {
        return Ok(written);
    }
    pass(Point::AfterWrite, commands);
    if commands.iter().any(is_sweep) {
        Point::InSweep.pass();
    }
    pass(Point::BeforeCommit, commands);
    connection.trip(async |client| Ok(transaction.commit(client).await)).await
}

async fn give_up(connection: &mut Connection<'_>, trouble: Trouble) -> Result<Applied, ApplyError> {
    roll_back(connection).await;
    match trouble {
        Trouble::Rows(failure) | Trouble::Raced(failure) | Trouble::Outdated(failure) => {
            Err(ApplyError::Refused(failure))
        }
        Trouble::Away(failure) | Trouble::Late(failure) | Trouble::Locked(failure) => {
            Err(ApplyError::Unavailable(failure))
        }
    }
}

/// A batch without commands is a mere sign of life; it comes whenever it likes, and does not count.
fn pass<T>(point: Point, commands: &[T]) {
    if !commands.is_empty() {
        point.pass();
    }
}

fn is_sweep(command: &Command) -> bool {
    matches!(command.action, Action::Expire { .. })
}

/// The answers, and what is to be said of a book that has only what the batch names.
fn applied(hand: &Hand, answers: Vec<Result<Outcome, Rejection>>) -> Applied {
    let liveness = hand.book.liveness();
    let placed = hand.book.changes().placed.iter().filter_map(|id| hand.book.hold(*id));
    let deaths = placed.map(|hold| liveness.effective(hold.deadline));
    let next_due = deaths.min().map(|at: Timestamp| at.since(hand.now));
    Applied { answers, next_due, active_holds: None, traffic: hand.book.traffic(), races: 0 }
}

fn is_damaged(answer: &Result<Outcome, Rejection>) -> bool {
    matches!(answer, Err(Rejection::Damaged { .. }))
}

/// Ends the transaction, if there is one. A connection on which even that fails is thrown away.
pub(super) async fn roll_back(connection: &mut Connection<'_>) {
    if connection.trip(async |client| client.batch_execute("ROLLBACK").await).await.is_err() {
        connection.discard();
    }
}
