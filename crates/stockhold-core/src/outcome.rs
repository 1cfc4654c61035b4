//! What an accepted command answers.

use std::sync::Arc;

use crate::{Hold, ItemKey, Quantity, Reason, Reference, StockItem, Timestamp};

/// A hold as it stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldView {
    /// The hold.
    pub hold: Arc<Hold>,
    /// Its deadline, graces included (R17).
    pub expires_at: Timestamp,
    /// The moment, on the ledger's clock.
    pub as_of: Timestamp,
}

/// A stock item as it stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockView {
    /// The item.
    pub item: StockItem,
    /// The earliest deadline of an active hold on it.
    pub next_due_at: Option<Timestamp>,
    /// The moment, on the ledger's clock.
    pub as_of: Timestamp,
}

/// Why the units on hand changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MovementKind {
    /// The item was created with units.
    Create,
    /// Units arrived.
    Receive,
    /// Units appeared or vanished.
    Adjust,
    /// Somebody counted.
    Count,
    /// Units left the house.
    Ship,
}

impl MovementKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Create, Self::Receive, Self::Adjust, Self::Count, Self::Ship];

    /// The word that is written and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Receive => "receive",
            Self::Adjust => "adjust",
            Self::Count => "count",
            Self::Ship => "ship",
        }
    }

    /// The kind that a written word names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One immutable row of the stock history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Rises with every movement of the ledger.
    pub id: i64,
    /// Of which item.
    pub item: Arc<ItemKey>,
    /// Why.
    pub kind: MovementKind,
    /// By how many units.
    pub delta: Quantity,
    /// Units on hand afterwards.
    pub on_hand_after: Quantity,
    /// For people.
    pub reason: Option<Reason>,
    /// The shop's own mark.
    pub reference: Option<Reference>,
    /// When, on the ledger's clock.
    pub at: Timestamp,
}

/// A hold was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The hold as it is now.
    pub hold: HoldView,
    /// It was placed by an earlier request with the same key (R11).
    pub replayed: bool,
}

/// A verb on a hold was done, or had been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The hold as it is now.
    pub hold: HoldView,
    /// It was done by an earlier request with the same key (R19).
    pub replayed: bool,
    /// The confirm took the units a second time (R8).
    pub reacquired: bool,
}

/// Units on hand changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockMoved {
    /// How.
    pub movement: Movement,
    /// The item as it is now.
    pub item: StockView,
    /// It was done by an earlier request with the same key (R19).
    pub replayed: bool,
}

/// An item was created, or its policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    /// The item as it is now.
    pub item: StockView,
    /// It was not there before.
    pub created: bool,
}

/// What became of a row of a list that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loaded {
    /// The item was not there before.
    Created,
    /// The item was there, and has other numbers now.
    Counted,
    /// The item was there with just these numbers.
    Unchanged,
}

impl Loaded {
    /// The word that is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Counted => "counted",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an accepted command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a place.
    Placed(Placed),
    /// To the verbs on a hold.
    Settled(Settled),
    /// To receive, adjust and count; boxed, because it is rare and large.
    StockMoved(Box<StockMoved>),
    /// To a policy; boxed, because it is rare and large.
    PolicySet(Box<PolicySet>),
    /// To a row of a list.
    Loaded(Loaded),
}
