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
    /// Go on though Postgres may lose what it has answered.
    pub(super) allow_unsafe: bool,
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
        let (mut last, mut races) = (None, 0_u64);
        for tried in 0..ATTEMPTS {
            let attempt = self.attempt(&mut connection, batch, &mut wanted, tried).await;
            let trouble = match attempt {
                Ok(Attempt::Done(applied)) => return Ok(Applied { races, ..applied }),
                Ok(Attempt::InDoubt(applied, failure)) => {
                    let applied = Box::new(Applied { races, ..applied });
                    return Err(ApplyError::Unknown { applied, failure });
                }
                Ok(Attempt::Stuck(commands)) => {
                    return Err(ApplyError::Stuck { commands, failure: failure::locked() });
                }
                Ok(Attempt::WantsMore) => {
                    connection.roll_back().await;
                    continue;
                }
                Ok(Attempt::WasAway) => {
                    connection.roll_back().await;
                    match life::note_outage(&mut connection, &self.time).await {
                        Ok(()) => continue,
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            connection.roll_back().await;
            match &trouble {
                Trouble::Raced(_) => {
                    wanted.trust_nothing();
                    races = races.saturating_add(1);
                }
                Trouble::Locked(_) => {
                    let stuck = self.find_stuck(&mut connection, &wanted, batch).await;
                    if let Some(commands) = stuck.map_err(ApplyError::Unavailable)? {
                        return Err(ApplyError::Stuck { commands, failure: failure::locked() });
                    }
                    // It is free, or those before us make haste.
                    wanted.is_beside = false;
                }
                _ => return Err(refusal(trouble, races)),
            }
            last = Some(trouble);
        }
        // Whoever is first eight times in a row is no other instance, but a row that is there.
        let last = last.unwrap_or_else(|| Trouble::Away(failure::silent()));
        Err(refusal(last, races))
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
        if !(life.is_synced || self.allow_unsafe) {
            return Err(Trouble::Away(failure::not_synced()));
        }
        pass(Point::AfterLocks, &batch.commands);
        if matches!(self.time, Time::Server) {
            self.watch.note(life.server_now, life.read_at);
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
        // Who is told that something was done before is told so when a standby has it too: a commit that
        // did not wait for it can be seen here.
        let confirms = applied.answers.iter().any(Result::is_ok);
        if !(is_changed || confirms || sign.is_some()) {
            connection.roll_back().await;
            return Ok(Attempt::Done(applied));
        }
        if is_changed {
            pass(Point::BeforeWrite, &batch.commands);
            write::new_items(connection, hand).await?;
        }
        let rows = (is_changed || confirms).then(|| Columns::of(hand, batch.id, self.instance));
        let transaction = Transaction::new(rows.as_ref(), sign.as_ref());
        let unconfirmed = self.link.unconfirmed();
        let sent = send(connection, &transaction, &batch.commands).await;
        pass(Point::AfterCommit, &batch.commands);
        connection.has_ended();
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
                connection.discard();
                Ok(Attempt::InDoubt(applied, failure))
            }
            _ => {
                if rows.is_some() {
                    self.link.witness.note(batch.id, hand.now);
                }
                self.lines.note(hand.noted());
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

fn refusal(trouble: Trouble, races: u64) -> ApplyError {
    match trouble {
        Trouble::Rows(failure) | Trouble::Raced(failure) | Trouble::Outdated(failure) => {
            ApplyError::Refused { failure, races }
        }
        Trouble::Away(failure) | Trouble::Late(failure) | Trouble::Locked(failure) => {
            ApplyError::Unavailable(failure)
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
    let (traffic, changed) = (hand.book.traffic(), Applied::changed(&hand.book));
    Applied { answers, next_due, active_holds: None, traffic, races: 0, changed }
}

fn is_damaged(answer: &Result<Outcome, Rejection>) -> bool {
    matches!(answer, Err(Rejection::Damaged { .. }))
}
