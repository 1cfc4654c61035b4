//! Many verbs at once: a batch of operations, and a list of stock that is loaded.

use stockhold_core::{Command, LoadMode, Loaded, Outcome};

use super::{Engine, Load, Operation, verbs::mismatch};
use crate::{Error, batcher::Sort};

/// Rows of a list that are handed to the ledger at once.
const ROWS: usize = 500;

impl Engine {
    /// Does many operations, and gives an answer for each, in the same order. Each sees what the
    /// ones before it did; each succeeds or fails by itself.
    ///
    /// What comes too much for the queue of its sort is refused as `Overloaded`, and the rest is
    /// done all the same.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// let lines = Basket::new([(mug.clone(), Quantity::ONE)])?;
    /// let (item, on_hand, safety_stock) = (mug, Some(Quantity::ONE), None);
    /// let answers = engine
    ///     .batch(vec![
    ///         Operation::SetPolicy { item, on_hand, safety_stock },
    ///         Operation::Place(PlaceRequest::new(Owner::new("ann")?, lines.clone())),
    ///         Operation::Place(PlaceRequest::new(Owner::new("ben")?, lines)), // she was first
    ///     ])
    ///     .await;
    /// assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    /// # Ok(()) }
    /// ```
    pub async fn batch(&self, operations: Vec<Operation>) -> Vec<Result<Outcome, Error>> {
        let commands = operations.into_iter().map(|operation| self.command(operation)).collect();
        let mut answers = Vec::new();
        for run in runs(commands) {
            answers.extend(self.shared.lane.submit_all(run).await);
        }
        answers
    }

    /// Brings many stock items to what a list says, and says of each row what became of it, in
    /// the same order. It does the rows in groups of 500, each of which shares a transaction.
    /// Loading the same list again changes nothing.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// let item = ItemKey::at_default(Sku::new("MUG")?);
    /// let row = |units| Load { item: item.clone(), on_hand: units, safety_stock: None };
    /// let (one, zero) = (Quantity::ONE, Quantity::ZERO);
    /// let created = engine.load(vec![row(one), row(one)], LoadMode::Create).await;
    /// assert!(matches!(created[..], [Ok(Loaded::Created), Ok(Loaded::Unchanged)]));
    /// let counted = engine.load(vec![row(zero)], LoadMode::Count).await;
    /// assert!(matches!(counted[..], [Ok(Loaded::Counted)]));
    /// # Ok(()) }
    /// ```
    pub async fn load(&self, rows: Vec<Load>, mode: LoadMode) -> Vec<Result<Loaded, Error>> {
        let mut rows = rows.into_iter().map(|row| row.command(mode));
        let mut answers = Vec::with_capacity(rows.len());
        while rows.len() > 0 {
            let some = rows.by_ref().take(ROWS).collect();
            answers.extend(self.shared.lane.submit_all(some).await.into_iter().map(loaded));
        }
        answers
    }

    pub(super) fn command(&self, operation: Operation) -> Command {
        operation.command(|| self.shared.ids.hold())
    }
}

fn loaded(answer: Result<Outcome, Error>) -> Result<Loaded, Error> {
    match answer? {
        Outcome::Loaded(loaded) => Ok(loaded),
        other => Err(mismatch("load", &other)),
    }
}

/// Commands of one sort wait in one queue, which keeps their order. So those that follow each
/// other are put in together, and the next sort has to wait until they are done.
fn runs(commands: Vec<Command>) -> Vec<Vec<Command>> {
    let mut runs: Vec<(Sort, Vec<Command>)> = Vec::new();
    for command in commands {
        let sort = Sort::of(&command);
        match runs.last_mut() {
            Some((last, run)) if *last == sort => run.push(command),
            _ => runs.push((sort, vec![command])),
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}
