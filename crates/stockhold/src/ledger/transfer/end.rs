//! One of the two ledgers of a move, and what it says of itself.

use async_trait::async_trait;
use stockhold_core::verify::Report;
use uuid::Uuid;

use super::{
    Stage,
    rows::{Chunk, Life},
};
use crate::Failure;

/// Where a move stands: the last row of a stage that is there. A row of the new ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Mark {
    /// The id of the old ledger.
    pub(in crate::ledger) source: Uuid,
    /// Where that one was said to be, for people.
    pub(in crate::ledger) label: String,
    pub(in crate::ledger) stage: String,
    /// As the end that it was read from numbers them; empty before the first.
    pub(in crate::ledger) after: String,
}

/// Stages of a mark beyond those that move rows.
pub(super) const CHECKING: &str = "checking";
pub(super) const DONE: &str = "done";
pub(super) const GIVEN_UP: &str = "given up";

impl Mark {
    pub(super) fn first(source: Uuid, label: String) -> Self {
        Self { source, label, stage: Stage::Stock.word().to_owned(), after: String::new() }
    }

    /// Nothing was moved yet.
    pub(super) fn is_first(&self) -> bool {
        self.stage == Stage::Stock.word() && self.after.is_empty()
    }

    pub(super) fn at(&self, stage: &str, after: impl Into<String>) -> Self {
        Self { stage: stage.to_owned(), after: after.into(), ..self.clone() }
    }
}

/// That nothing is written to a ledger any more, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Seal {
    pub(in crate::ledger) why: String,
    /// The id of the ledger that the shop moves to.
    pub(in crate::ledger) to: Option<Uuid>,
    /// Whether all is there.
    pub(in crate::ledger) has_moved: bool,
}

/// What an end says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct State {
    pub(in crate::ledger) id: Uuid,
    /// Whether there is any stock, hold, movement or key.
    pub(in crate::ledger) has_rows: bool,
    pub(in crate::ledger) seal: Option<Seal>,
    pub(in crate::ledger) mark: Option<Mark>,
}

/// While an end is claimed, no server has its file. Nobody writes to a database that is sealed.
#[async_trait]
pub(in crate::ledger) trait End: Send {
    /// Changes nothing, and makes nothing. None if there is no ledger.
    async fn look(&mut self) -> Result<Option<State>, Failure>;
    /// Makes the ledger if it is not there. All that follows is for an end that was claimed.
    async fn claim(&mut self) -> Result<State, Failure>;
    async fn verify(&mut self) -> Result<Report, Failure>;
    /// Puts one seal in the place of the other, or of none; says no if there was another. Returns
    /// when nobody writes who has not seen it.
    async fn reseal(&mut self, from: Option<&Seal>, to: Option<&Seal>) -> Result<bool, Failure>;
    /// Sets the mark, and seals, if the ledger is empty; says whether it was.
    async fn begin(&mut self, mark: &Mark, why: &str) -> Result<bool, Failure>;
    /// How many rows there are, about.
    async fn count(&mut self, stage: Stage) -> Result<u64, Failure>;
    /// The rows behind the mark; none at the end.
    async fn read(&mut self, stage: Stage, after: &str, most: usize) -> Result<Chunk, Failure>;
    /// Writes rows and moves the mark from one place to the next, both or neither.
    async fn write(&mut self, chunk: &Chunk, from: &Mark, to: &Mark) -> Result<(), Failure>;
    async fn life(&mut self) -> Result<Life, Failure>;
    /// Writes what belongs to all rows together, if the mark is there.
    async fn finish(&mut self, life: &Life, mark: &Mark) -> Result<(), Failure>;
    /// Moves the mark, and seals or unseals, both or neither.
    async fn conclude(&mut self, from: &Mark, to: &Mark, why: Option<&str>) -> Result<(), Failure>;
}
