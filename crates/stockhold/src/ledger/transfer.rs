//! Moves a shop from one durable ledger to another: stock, movements, holds, idempotency keys, and
//! when the ledger was last alive.
//!
//! The old ledger is checked and sealed before the first row is read, so that nothing is written
//! behind the copy's back. The new one is sealed until all is there and was checked. Where the move
//! stands is a row of the new ledger, which is written in the same transaction as the rows: whoever
//! is killed goes on where it was.
//!
//! | file | end |
//! |---|---|
//! | `sqlite/transfer.rs` | a file |
//! | `postgres/transfer.rs` | a database |

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use stockhold_core::verify::Report;

use super::{
    postgres::{self, PostgresUrl},
    sqlite,
};
use crate::{Failure, FailureKind};

pub(super) mod rows;

use self::rows::{Chunk, Life};

/// Rows of a chunk, if nobody says otherwise.
pub const CHUNK: usize = 1_000;

/// Where a ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    Sqlite(PathBuf),
    /// In this database.
    Postgres(Box<PostgresUrl>),
}

/// Without a password; of a file, its whole path.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => {
                let whole = std::path::absolute(path);
                write!(f, "sqlite:{}", whole.as_ref().unwrap_or(path).display())
            }
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, in a word or two.
    pub stage: &'static str,
    /// How many rows of this stage were written by this call.
    pub done: u64,
    /// How many there are, about; 0 if that is not known.
    pub all: u64,
}

/// What was moved, by what the new ledger has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Stock items.
    pub items: u64,
    /// Rows of the stock history.
    pub movements: u64,
    /// Holds.
    pub holds: u64,
}

/// What is moved, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Stock,
    Carried,
    Movements,
    Holds,
    Keys,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Stock, Self::Carried, Self::Movements, Self::Holds, Self::Keys];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Carried => "carried",
            Self::Movements => "movements",
            Self::Holds => "holds",
            Self::Keys => "keys",
        }
    }
}

/// Where a move stands: the last row of a stage that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) source: String,
    pub(super) stage: String,
    /// As the end that it was read from numbers them; empty before the first.
    pub(super) after: String,
}

/// Stages of a mark beyond those that move rows.
const CHECKING: &str = "checking";
const DONE: &str = "done";
const GIVEN_UP: &str = "given up";

/// What an end says of itself.
#[derive(Debug)]
pub(super) struct State {
    pub(super) is_empty: bool,
    pub(super) sealed: Option<String>,
    pub(super) mark: Option<Mark>,
}

/// One of the two ledgers. While it is open here, no server has the file, and nobody writes to a
/// sealed database.
#[async_trait]
pub(super) trait End: Send {
    async fn state(&mut self) -> Result<State, Failure>;
    async fn verify(&mut self) -> Result<Report, Failure>;
    /// Lets nobody write any more; returns when nobody does.
    async fn seal(&mut self, why: &str) -> Result<(), Failure>;
    /// Lets everybody write again, and sets the mark's stage if there is one.
    async fn open(&mut self, stage: &str) -> Result<(), Failure>;
    /// Sets the mark, and seals, if the ledger is empty; says whether it was.
    async fn begin(&mut self, mark: &Mark, why: &str) -> Result<bool, Failure>;
    /// How many rows there are, about.
    async fn count(&mut self, stage: Stage) -> Result<u64, Failure>;
    /// The rows behind the mark; none at the end.
    async fn read(&mut self, stage: Stage, after: &str, most: usize) -> Result<Chunk, Failure>;
    /// Writes rows and moves the mark from one place to the next, both or neither.
    async fn write(&mut self, chunk: &Chunk, from: &Mark, to: &Mark) -> Result<(), Failure>;
    async fn life(&mut self) -> Result<Life, Failure>;
    /// Writes what belongs to all rows together, and moves the mark.
    async fn finish(&mut self, life: &Life, from: &Mark, to: &Mark) -> Result<(), Failure>;
}

async fn end(place: &Place) -> Result<Box<dyn End>, Failure> {
    Ok(match place {
        Place::Sqlite(path) => Box::new(sqlite::transfer::File::open(path)?),
        Place::Postgres(url) => Box::new(postgres::transfer::Database::open(url).await?),
    })
}

/// Moves the shop; goes on with a move that was interrupted. Blocks while it reads or writes a
/// file.
///
/// # Errors
/// `Invalid` if the old ledger has moved elsewhere, or breaks an invariant, or if the new one is not
/// empty; `InUse` if a server has one of them open; `Unavailable` if one of them cannot be read or
/// written. Then nothing is lost: the same call goes on, and [`give_up`] goes back.
pub async fn run(
    from: &Place,
    to: &Place,
    chunk: usize,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Moved, Failure> {
    if from == to {
        return Err(invalid("a shop does not move to where it is"));
    }
    let (mut source, mut target) = (end(from).await?, end(to).await?);
    let mut mark = start(from, to, &mut *source, &mut *target).await?;
    for (n, stage) in Stage::ALL.into_iter().enumerate() {
        if mark.stage != stage.word() {
            continue;
        }
        let (all, mut done) = (source.count(stage).await?, 0_u64);
        loop {
            progress(Progress { stage: stage.word(), done, all: all.max(done) });
            let rows = source.read(stage, &mark.after, chunk.max(1)).await?;
            let next = match &rows.last {
                Some(last) => Mark { after: last.clone(), ..mark.clone() },
                None => {
                    let next = Stage::ALL.get(n.saturating_add(1)).map_or(CHECKING, |s| s.word());
                    Mark { stage: next.to_owned(), after: String::new(), ..mark.clone() }
                }
            };
            done = done.saturating_add(u64::try_from(rows.len()).unwrap_or(0));
            target.write(&rows, &mark, &next).await?;
            mark = next;
            if rows.last.is_none() {
                break;
            }
        }
    }
    progress(Progress { stage: CHECKING, done: 0, all: 0 });
    let life = source.life().await?;
    target.finish(&life, &mark, &mark).await?;
    let report = compare(&mut *source, &mut *target).await?;
    target.open(DONE).await?;
    let Report { items, movements, holds, .. } = report;
    Ok(Moved { items, movements, holds })
}

/// Goes back to the old ledger: it can be served again. What is in the new one is to be thrown away.
///
/// # Errors
/// `Invalid` if the move is done, or was never begun; otherwise as for [`run`].
pub async fn give_up(from: &Place, to: &Place) -> Result<(), Failure> {
    let (mut source, mut target) = (end(from).await?, end(to).await?);
    let state = target.state().await?;
    match state.mark {
        Some(mark) if mark.source == from.to_string() && mark.stage != DONE => {
            let next = Mark { stage: GIVEN_UP.to_owned(), ..mark.clone() };
            target.write(&Chunk::nothing(), &mark, &next).await?;
        }
        Some(mark) if mark.stage == DONE => {
            return Err(invalid(format!("the shop has moved to {to}, which may have sold since")));
        }
        _ => return Err(invalid(format!("no shop is moving from {from} to {to}"))),
    }
    match source.state().await?.sealed {
        Some(why) if why == moved_to(to) => source.open(GIVEN_UP).await,
        Some(why) => Err(invalid(why)),
        None => Ok(()),
    }
}

/// Where to begin, or to go on; both ends are sealed then.
async fn start(
    from: &Place,
    to: &Place,
    source: &mut dyn End,
    target: &mut dyn End,
) -> Result<Mark, Failure> {
    let (name, state) = (from.to_string(), target.state().await?);
    let sealed = source.state().await?.sealed;
    if let Some(why) = sealed.as_ref().filter(|why| **why != moved_to(to)) {
        return Err(invalid(why.clone()));
    }
    let mark = match state.mark {
        Some(mark) if mark.source != name => {
            return Err(invalid(format!(
                "{to} is not empty: a shop moved in from {}",
                mark.source
            )));
        }
        Some(mark) if mark.stage == DONE => {
            return Err(invalid(format!("the shop has moved already: start the server with {to}")));
        }
        Some(mark) if mark.stage == GIVEN_UP => {
            return Err(invalid(format!("{to} has parts of a move that was given up: empty it")));
        }
        Some(mark) => mark,
        None if sealed.is_some() => {
            return Err(invalid(format!("{from} is sealed, but nothing of it is in {to}")));
        }
        None => {
            check_clean(from, &source.verify().await?)?;
            let stage = Stage::Stock.word().to_owned();
            let mark = Mark { source: name, stage, after: String::new() };
            if !(state.is_empty && target.begin(&mark, &not_complete(from, to)).await?) {
                return Err(invalid(format!("{to} is not empty: name a new file or database")));
            }
            mark
        }
    };
    if sealed.is_none() {
        source.seal(&moved_to(to)).await?;
    }
    Ok(mark)
}

fn moved_to(to: &Place) -> String {
    format!("this shop has moved to {to}: start the server with --ledger {to}")
}

fn not_complete(from: &Place, to: &Place) -> String {
    format!(
        "this ledger is not complete: `stockhold migrate-ledger --from {from} --to {to}` goes on"
    )
}

fn check_clean(place: &Place, report: &Report) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    Err(invalid(format!("{place} breaks an invariant: see stockhold verify --ledger {place}")))
}

/// Both ends must say the same.
async fn compare(source: &mut dyn End, target: &mut dyn End) -> Result<Report, Failure> {
    let (old, new) = (source.verify().await?, target.verify().await?);
    let sums = |report: &Report| (report.items, report.movements, report.holds, report.is_clean());
    let keys = (source.count(Stage::Keys).await?, target.count(Stage::Keys).await?);
    if sums(&old) == sums(&new) && keys.0 == keys.1 {
        return Ok(new);
    }
    let message = format!(
        "the ledgers differ (items, movements, holds, clean, keys): {:?}, {} and {:?}, {}; nothing \
         was unsealed: give the move up, and tell us",
        sums(&old),
        keys.0,
        sums(&new),
        keys.1
    );
    Err(Failure::new(FailureKind::Internal, message))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, message)
}

/// Somebody else moved the mark.
pub(super) fn raced() -> Failure {
    Failure::new(FailureKind::InUse, "another process moves this shop as well: let it end")
}
