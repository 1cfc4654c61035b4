//! What a cache answers with.

use std::time::Duration;

use stockhold_core::Timestamp;

/// What was read, from where, and how old it may be.
///
/// Nothing turns it into what a hold is decided on: that is read from the ledger, in the transaction that
/// decides.
///
/// ```compile_fail,E0308
/// # use stockhold::{StockView, cache::Read};
/// fn decide(book: &mut stockhold_core::Book, read: Read<StockView>) {
///     book.put_item(read); // it wants a StockItem
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<V> {
    /// None: the source has nothing under this key.
    pub value: Option<V>,
    /// Counts up with every change; 0 if there is nothing.
    pub version: u64,
    /// Where it was found.
    pub origin: Origin,
    /// Nothing that the source was told longer ago is missing from it.
    pub age: Duration,
    /// The same as a moment, on the source's clock; means nothing if there is nothing.
    pub as_of: Timestamp,
}

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// In this process.
    L1,
    /// In Redis.
    L2,
    /// The source was asked.
    Source,
    /// In this process, past its time.
    Stale(Reason),
}

/// Why a value was served past its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The source has not answered in time.
    Late,
    /// The source has failed.
    Failed,
}

impl Origin {
    /// A word for it, in an answer or in a metric.
    ///
    /// ```
    /// # use stockhold::cache::{Origin, Reason};
    /// assert_eq!(Origin::L1.code(), "l1");
    /// assert_eq!(Origin::Stale(Reason::Failed).code(), "stale");
    /// ```
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Source => "source",
            Self::Stale(_) => "stale",
        }
    }

    /// Whether it is past its time.
    #[must_use]
    pub const fn is_stale(self) -> bool {
        matches!(self, Self::Stale(_))
    }
}
