//! Moves a shop from one durable ledger to another: stock, movements, holds, idempotency keys, and
//! when the ledger was last alive.
//!
//! Both ends are looked at before anything is made. The old ledger is checked and then sealed before
//! the first row is read, so that nothing is written behind the copy's back. The new one is sealed
//! until all is there and was checked. Where the move stands is a row of the new ledger, which is
//! written in the same transaction as the rows: whoever is killed goes on where it was. The two are
//! never open at once: the old one says that the shop has moved before the new one is opened.
//!
//! | file | |
//! |---|---|
//! | `transfer/plan.rs` | what is to be done, by what both ends say |
//! | `transfer/end.rs` | what an end is asked |
//! | `sqlite/transfer.rs` | a file as an end |
//! | `postgres/transfer.rs` | a database as an end |

use std::{fmt, path::PathBuf};

use stockhold_core::verify::Report;

use self::{
    end::{CHECKING, DONE, End, GIVEN_UP, Mark, Seal, State},
    plan::{Ends, GivingUp, Start, invalid},
    rows::Chunk,
};
use super::{
    postgres::{self, PostgresUrl},
    sqlite,
};
use crate::{Failure, FailureKind};

pub(super) mod end;
mod plan;
pub(super) mod rows;

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

impl Place {
    /// As a shell takes it.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("'{}'", self.to_string().replace('\'', r"'\''"))
    }

    fn end(&self) -> Result<Box<dyn End>, Failure> {
        Ok(match self {
            Self::Sqlite(path) => Box::new(sqlite::transfer::File::at(path)),
            Self::Postgres(url) => Box::new(postgres::transfer::Database::at(url)?),
        })
    }

    /// What to do if there is no ledger.
    const fn check(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "check the path",
            Self::Postgres(_) => "check the URL",
        }
    }

    /// The same place, if it can be told by the name alone.
    fn is(&self, other: &Self) -> bool {
        let file = |place: &Self| match place {
            Self::Sqlite(path) => path.canonicalize().ok(),
            Self::Postgres(_) => None,
        };
        self == other || file(self).is_some_and(|path| file(other) == Some(path))
    }
}

/// Without a password; of a file, its whole path.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => {
                let whole = std::path::absolute(path);
                write!(f, "sqlite:{}", whole.as_ref().unwrap_or(path).display())
            }
            Self::Postgres(url) => f.write_str(url.label()),
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

    /// The table that its rows are in, whichever the ledger.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Carried => "carried",
            Self::Movements => "movement",
            Self::Holds => "hold",
            Self::Keys => "idempotency",
        }
    }
}

/// Moves the shop; goes on with a move that was interrupted. Blocks while it reads or writes a
/// file.
///
/// # Errors
/// `Invalid` if there is no ledger to leave, or nothing in it, or if it has moved elsewhere, or breaks
/// an invariant; or if the new one is not empty. Then nothing was made, nor sealed. `InUse` if a
/// server has one of them open; `Unavailable` if one of them cannot be read or written. Then nothing
/// is lost: the same call goes on, and [`give_up`] goes back.
pub async fn run(
    from: &Place,
    to: &Place,
    chunk: usize,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Moved, Failure> {
    if from.is(to) {
        return Err(invalid("a shop does not move to where it is"));
    }
    let ends = Ends { from, to };
    let mut pair = Pair { source: from.end()?, target: to.end()? };
    let (mut mark, seal) = pair.start(ends).await?;
    let nexts = Stage::ALL.iter().skip(1).map(|stage| stage.word()).chain([CHECKING]);
    for (stage, next) in Stage::ALL.into_iter().zip(nexts) {
        if mark.stage == stage.word() {
            mark = pair.copy(stage, mark, chunk.max(1), &mut progress).await?;
            let next = mark.at(next, "");
            pair.target.write(&Chunk::nothing(), &mark, &next).await?;
            mark = next;
        }
    }
    progress(Progress { stage: CHECKING, done: 0, all: 0 });
    let life = pair.source.life().await?;
    pair.target.finish(&life, &mark).await?;
    let Report { items, movements, holds, .. } = pair.compare().await?;
    pair.end(ends, &mark, &seal).await?;
    Ok(Moved { items, movements, holds })
}

/// Goes back to the old ledger: it can be served again. What is in the new one is to be thrown away;
/// that may have been done before.
///
/// # Errors
/// `Invalid` if the move is done, or was never begun, then nothing was changed; otherwise as for
/// [`run`].
pub async fn give_up(from: &Place, to: &Place) -> Result<(), Failure> {
    let ends = Ends { from, to };
    let (mut source, mut target) = (from.end()?, to.end()?);
    let (_, new) = (look_at(from, &mut *source).await?, target.look().await?);
    let GivingUp { mark, seal } = ends.giving_up(&source.claim().await?, new.as_ref())?;
    if let Some(mark) = mark {
        target.claim().await?;
        target.conclude(&mark, &mark.at(GIVEN_UP, ""), Some(&ends.given_up())).await?;
    }
    match seal {
        Some(seal) if !source.reseal(Some(&seal), None).await? => Err(raced()),
        Some(_) | None => Ok(()),
    }
}

/// The ledger that a shop leaves has to be there.
async fn look_at(from: &Place, source: &mut dyn End) -> Result<State, Failure> {
    let none = || invalid(format!("there is no ledger at {from}: {}", from.check()));
    source.look().await?.ok_or_else(none)
}

/// Both ends.
struct Pair {
    source: Box<dyn End>,
    target: Box<dyn End>,
}

impl Pair {
    /// Where to begin, or to go on; both are sealed then. Nothing is made before both were looked at.
    async fn start(&mut self, ends: Ends<'_>) -> Result<(Mark, Seal), Failure> {
        let old = look_at(ends.from, &mut *self.source).await?;
        let new = self.target.look().await?;
        ends.start(&old, new.as_ref())?;
        let old = self.source.claim().await?;
        if let Start::Anew | Start::AtSeal(_) = ends.start(&old, new.as_ref())? {
            check_clean(ends.from, &self.source.verify().await?)?;
        }
        let new = self.target.claim().await?;
        let mark = match ends.start(&old, Some(&new))? {
            Start::At(mark, seal) => return Ok((mark, seal)),
            Start::AtSeal(mark) => mark,
            Start::Anew => {
                let mark = Mark::first(old.id, ends.from.to_string());
                if !self.target.begin(&mark, &ends.not_complete()).await? {
                    return Err(raced());
                }
                mark
            }
        };
        let seal = Seal { why: ends.moving(), to: Some(new.id), has_moved: false };
        if !self.source.reseal(None, Some(&seal)).await? {
            return Err(raced());
        }
        Ok((mark, seal))
    }

    /// Moves the rows of a stage that are behind the mark.
    async fn copy(
        &mut self,
        stage: Stage,
        mut mark: Mark,
        chunk: usize,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Mark, Failure> {
        let (all, mut done) = (self.source.count(stage).await?, 0_u64);
        loop {
            progress(Progress { stage: stage.word(), done, all: all.max(done) });
            let rows = self.source.read(stage, &mark.after, chunk).await?;
            let Some(last) = &rows.last else { return Ok(mark) };
            let next = mark.at(stage.word(), last.as_str());
            self.target.write(&rows, &mark, &next).await?;
            done = done.saturating_add(u64::try_from(rows.len()).unwrap_or(0));
            mark = next;
        }
    }

    /// Both must say the same.
    async fn compare(&mut self) -> Result<Report, Failure> {
        let (old, new) = (self.source.verify().await?, self.target.verify().await?);
        let sums =
            |report: &Report| (report.items, report.movements, report.holds, report.is_clean());
        let keys = (self.source.count(Stage::Keys).await?, self.target.count(Stage::Keys).await?);
        if sums(&old) == sums(&new) && keys.0 == keys.1 {
            return Ok(new);
        }
        let message = format!(
            "the ledgers differ (items, movements, holds, clean, keys): {:?}, {} and {:?}, {}; \
             nothing was unsealed: give the move up, and tell us",
            sums(&old),
            keys.0,
            sums(&new),
            keys.1
        );
        Err(Failure::new(FailureKind::Internal, message))
    }

    /// The old ledger is closed for good, and only then the new one opened: at no moment can both be
    /// served, nor can the move be given up behind the back of a new one that sells.
    async fn end(&mut self, ends: Ends<'_>, mark: &Mark, seal: &Seal) -> Result<(), Failure> {
        let moved = Seal { why: ends.moved(), has_moved: true, ..seal.clone() };
        if !self.source.reseal(Some(seal), Some(&moved)).await? {
            return Err(raced());
        }
        self.target.conclude(mark, &mark.at(DONE, ""), None).await
    }
}

fn check_clean(place: &Place, report: &Report) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    let check = place.quoted();
    Err(invalid(format!("{place} breaks an invariant: see stockhold verify --ledger {check}")))
}

/// Somebody else moved the mark, or changed the seal.
pub(super) fn raced() -> Failure {
    Failure::new(FailureKind::InUse, "another process moves this shop as well: let it end")
}
