//! The ledger: the durable truth, and what every implementation of it promises.
//!
//! | ledger | for |
//! |---|---|
//! | [`memory`] | tests, and the model that the others are compared with |
//! | [`sqlite`] | one machine: a file, nothing to install |
//! | [`postgres`] | any number of instances over one database |
//!
//! A ledger knows rows and transactions. It knows nothing of the engine that calls it, and it has
//! no rules of its own: it puts rows into a [`stockhold_core::Book`], and writes back what changed.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{
    Book, Command, HoldId, HoldView, ItemKey, KeyId, Movement, Outcome, Rejection, StockItem,
    StockView, Timestamp, Traffic, verify::Report,
};

use crate::{Failure, lock::Leases};

mod layer;
mod list;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
mod retire;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
pub mod transfer;

pub use layer::Layer;
pub use list::{HoldQuery, MovementQuery, Page, StockQuery};
pub use retire::Retired;

/// The number of a batch, chosen before it is written, by which it can be found again (R15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchId(pub [u8; 16]);

/// Commands that share one transaction.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number.
    pub id: BatchId,
    /// What to do, in this order.
    pub commands: Vec<Command>,
    /// Whether it waits, like any other, for rows that are known to be locked for too long. One that
    /// does not is [`ApplyError::Stuck`] at once.
    pub waits: bool,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Applied {
    /// One answer for each command, in the same order.
    pub answers: Vec<Result<Outcome, Rejection>>,
    /// In how long the next active hold dies, as far as this instance knows: of a ledger that others
    /// write as well, at least those that the batch placed. None if it knows of no active hold.
    pub next_due: Option<Duration>,
    /// How many holds are active then, due or not; none if the ledger would have to count them.
    pub active_holds: Option<usize>,
    /// What the batch has moved.
    pub traffic: Traffic,
    /// How often it was begun anew because somebody else was first.
    pub races: u64,
    /// The stock items that it has changed.
    pub changed: Vec<ChangedItem>,
}

/// A stock item that a batch has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedItem {
    /// Its name.
    pub key: Arc<ItemKey>,
    /// Its version since.
    pub version: u64,
    /// There was none of this name before.
    pub is_new: bool,
}

impl Applied {
    /// The answers, and what is to be said of a book that has every active hold.
    pub(crate) fn to(
        book: &Book,
        answers: Vec<Result<Outcome, Rejection>>,
        now: Timestamp,
    ) -> Self {
        let next_due = book.next_deadline().map(|at| at.since(now));
        let (active_holds, traffic) = (Some(book.active_holds()), book.traffic());
        let changed = Self::changed(book);
        Self { answers, next_due, active_holds, traffic, races: 0, changed }
    }

    /// What has changed in a book that is to be written.
    pub(crate) fn changed(book: &Book) -> Vec<ChangedItem> {
        let changed = |(item, is_new): (&StockItem, bool)| ChangedItem {
            key: Arc::clone(&item.key),
            version: item.version,
            is_new,
        };
        book.changed_items().map(changed).collect()
    }
}

/// Holds that are due.
#[derive(Debug, Default)]
pub struct Due {
    /// Oldest deadline first.
    pub holds: Vec<HoldId>,
    /// In how long the next active hold dies; none if no hold is active.
    pub next_due: Option<Duration>,
}

/// What somebody should look at, counted since the ledger was opened here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// How often the clock that ledger time comes from has stepped.
    pub clock_steps: u64,
    /// Batches that were answered, and that the ledger has lost. If there is one, nothing more is
    /// done through this ledger until it is opened again.
    pub lost_batches: u64,
    /// Commits that did not wait for a standby as they should have.
    pub unconfirmed_commits: u64,
}

/// What has not changed, of what somebody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// Whether it is as it was: one answer for each, in their order.
    pub are_same: Vec<bool>,
    /// The moment at which that was so, on the source's clock.
    pub as_of: Timestamp,
}

/// What the locks of those rest on who use a ledger.
#[derive(Clone, Debug)]
pub enum Granting {
    /// The one process that has it open grants them.
    Alone {
        /// Rises whenever a process opens the ledger.
        epoch: u64,
        /// Nobody has opened it before.
        is_first: bool,
    },
    /// All who share it have these leases in common.
    Together(Arc<dyn Leases>),
}

/// Why a batch was not applied, as far as is known.
#[derive(Debug)]
pub enum ApplyError {
    /// Nothing was written, because of what one of the commands meets or would write. Without
    /// that command the batch would have gone through.
    Refused {
        /// What happened.
        failure: Failure,
        /// How often it was begun anew because somebody else was first.
        races: u64,
    },
    /// Nothing was written, whatever the commands are: the ledger cannot be reached, is full, ...
    Unavailable(Failure),
    /// Nothing was written: these commands, by their places in the batch, name rows that somebody
    /// else has locked for longer than anybody should. The others would have gone through. There
    /// may be none, if the rows are free by now.
    Stuck {
        /// Their places in the batch, rising.
        commands: Vec<usize>,
        /// What happened.
        failure: Failure,
    },
    /// The transaction was sent off, and whether it took hold is not known. [`Ledger::landed`]
    /// tells; if it did, these are the answers.
    Unknown {
        /// What is to be answered if the batch has landed.
        applied: Box<Applied>,
        /// What happened.
        failure: Failure,
    },
}

/// A durable home of stock and holds.
///
/// The conformance suite has a law of the same name for every line under *Behavior*.
#[async_trait]
pub trait Ledger: Debug + Send + Sync + 'static {
    /// Applies the commands in order, in one transaction.
    ///
    /// # Behavior
    /// - `answers_in_order`: there is one answer for each command, in the order of the commands.
    /// - `a_rejection_spoils_nothing`: a refused command changes nothing; its neighbours are
    ///   applied.
    /// - `a_batch_tells_what_it_changed`: each stock item that is not as it was, with its version, and whether it
    ///   is new.
    /// - `applied_is_durable`: what was answered is there after the ledger is opened again.
    /// - `commands_see_each_other`: a command meets the rows as the one before it left them.
    /// - `a_sign_of_life`: an empty batch counts as a sign of life of the ledger (R17).
    /// - `an_outage_gives_grace`: before anything expires after an outage, its grace is given.
    /// - `ledger_time_never_goes_back`: a wall clock that steps back makes no hold live longer.
    /// - `runs_to_its_end`: a batch that was begun is applied even if the caller stops waiting.
    ///
    /// # Errors
    /// [`ApplyError`] says what is known about what was written.
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError>;

    /// Whether a batch is in the ledger.
    ///
    /// # Behavior
    /// - `landed_finds_the_last_batch`: true for the last batch that changed anything, at least
    ///   until the next one is applied.
    /// - `landed_denies_what_it_never_saw`: false for a number that it never saw. *Not found* is
    ///   not *failed*, if the transaction may still be on its way.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn landed(&self, id: BatchId) -> Result<bool, Failure>;

    /// A hold as it is now.
    ///
    /// # Behavior
    /// - `reads_see_what_was_answered`: whatever was answered before the read began is in it.
    /// - `a_due_hold_shows_as_expired`: also if nobody has expired it yet (R2).
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure>;

    /// A stock item as it is now.
    ///
    /// # Behavior
    /// - `reads_see_what_was_answered`, as for [`Ledger::hold`].
    /// - `an_item_knows_its_next_deadline`: `next_due_at` is the earliest deadline of an active
    ///   hold on it.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure>;

    /// The same for many, one answer for each, in their order.
    ///
    /// # Behavior
    /// - `many_items_are_read_as_one_is`: as by [`Ledger::stock`], each.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn stock_of(&self, keys: &[ItemKey]) -> Result<Vec<Option<StockView>>, Failure> {
        let mut views = Vec::with_capacity(keys.len());
        for key in keys {
            views.push(self.stock(key).await?);
        }
        Ok(views)
    }

    /// Which of these items still have the version that somebody knows them by. An item that has it has the units
    /// that it had, and no hold on it dies sooner than it was to.
    ///
    /// # Behavior
    /// - `an_item_that_has_changed_is_told_from_others`: also one that there is not.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn unchanged(&self, known: &[(ItemKey, u64)]) -> Result<Unchanged, Failure> {
        let items: Vec<_> = known.iter().map(|(item, _)| item.clone()).collect();
        let views = self.stock_of(&items).await?;
        let as_of = views.iter().flatten().map(|view| view.as_of).min().unwrap_or_default();
        let version = |view: &Option<StockView>| view.as_ref().map(|view| view.item.version);
        let are_same =
            known.iter().zip(&views).map(|((_, known), view)| version(view) == Some(*known));
        Ok(Unchanged { are_same: are_same.collect(), as_of })
    }

    /// Which of these keys it knows, in their order. One that cannot say so cheaply knows all of them: then
    /// whoever asks has to look closer.
    ///
    /// # Behavior
    /// - `a_known_key_is_known`: every key under which something was answered, at least until it may be
    ///   removed.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn knows(&self, keys: &[KeyId]) -> Result<Vec<bool>, Failure> {
        Ok(vec![true; keys.len()])
    }

    /// Holds, newest first: by id, from the highest down.
    ///
    /// # Behavior
    /// - `holds_come_newest_first`: page after page, each hold once.
    /// - `holds_are_found_by_owner_and_state`: the state as it is now; a due hold is expired.
    /// - `active_holds_are_found_by_sku`: at any location, and each once.
    ///
    /// A hold whose rows are damaged is left out (R16).
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure>;

    /// Stock items, by SKU and location.
    ///
    /// # Behavior
    /// - `items_come_in_the_order_of_their_bytes`: page after page, each item once.
    /// - `items_are_found_by_prefix`: any prefix, also one that ends a range of UTF-8.
    /// - `listed_items_know_their_next_deadline`, as for [`Ledger::stock`].
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure>;

    /// Movements, oldest first. One writer numbers them in the order of their commits, so none
    /// turns up later behind a number that was read. The page always has a `next`: the last
    /// number that was looked at, or `after` itself at the end. Whoever asks on from there misses
    /// nothing.
    ///
    /// # Behavior
    /// - `movements_come_oldest_first`: page after page, each movement once.
    /// - `movements_go_on_where_they_ended`: a reader at the end finds what comes next.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure>;

    /// Up to `limit` holds that are due.
    ///
    /// # Behavior
    /// - `due_finds_the_oldest_first`: in order of their deadlines, only active ones.
    /// - `due_knows_the_next_deadline`: `next_due` is in how long the next one dies.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn due(&self, limit: usize) -> Result<Due, Failure>;

    /// Removes holds that have been over for at least `age`, one step of it: looks at up to `limit`
    /// holds behind `after`, in the order of their ids. The totals of what it removes are carried,
    /// so that the invariants can still be recomputed.
    ///
    /// # Behavior
    /// - `retire_removes_what_is_over`: by the time of the last step, on the ledger's clock.
    /// - `retire_spares_what_is_open`: active holds, and those with units to ship or cancel.
    /// - `retire_goes_in_steps`: each looks at no more holds than it was allowed to.
    /// - `what_was_retired_still_verifies`: also after the ledger was opened again.
    /// - `a_key_of_a_retired_hold_is_not_found`: it is neither granted again nor damaged.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be written; then nothing was removed.
    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure>;

    /// Recomputes the invariants from the rows, in one consistent snapshot.
    ///
    /// # Behavior
    /// - `a_history_verifies_clean`: whatever was done through [`Ledger::apply`].
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be asked.
    async fn verify(&self) -> Result<Report, Failure>;

    /// Why nothing is written here any more, or not yet; none if there is no reason. Whoever asks
    /// learns as well that the ledger answers.
    ///
    /// # Errors
    /// `Unavailable` if it does not.
    async fn sealed(&self) -> Result<Option<String>, Failure> {
        // No hold has this number.
        self.hold(HoldId::from_bytes([0; 16])).await.map(|_| None)
    }

    /// What somebody should look at; none if nothing of that sort can happen to this ledger.
    fn alarms(&self) -> Option<Alarms> {
        None
    }

    /// What tells this ledger from every other that processes share; none if none do. A copy that was restored
    /// elsewhere is another one.
    fn identity(&self) -> Option<&str> {
        None
    }

    /// What the locks of those rest on who use it.
    ///
    /// # Behavior
    /// - `lock_epochs_rise`: a ledger that is opened again has a higher one, and knows that it is not the first.
    fn granting(&self) -> Granting;

    /// Whether other processes write to it as well. Then nobody here knows of every hold, and has
    /// to look for due ones from time to time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Finishes what was begun and gives the ledger back. Later calls fail as `Closed`.
    ///
    /// # Behavior
    /// - `close_lets_another_open`: the ledger can be opened again at once.
    ///
    /// # Errors
    /// `Unavailable` if it could not be closed in order; what was answered is durable anyway.
    async fn close(&self) -> Result<(), Failure>;
}
