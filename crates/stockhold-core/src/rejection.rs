//! Every reason for which the rules say no, with its numbers.

use std::sync::Arc;

use crate::{
    HoldId, HoldState, HoldView, IllegalStep, ItemKey, OutOfRange, Quantity, Reference, Timestamp,
};

/// A line that cannot be held in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Of which item.
    pub item: Arc<ItemKey>,
    /// Units asked for.
    pub requested: Quantity,
    /// Units that could be held.
    pub available: Quantity,
    /// When the next hold on the item will die, if nobody confirms it.
    pub next_due_at: Option<Timestamp>,
}

/// Why the rules say no. Nothing was changed, but for due holds that were expired on the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such hold (R18).
    #[error("there is no hold {id}")]
    NotFound {
        /// The number asked for.
        id: HoldId,
    },
    /// No such stock item.
    #[error("{} of the items are not known", .items.len())]
    UnknownSku {
        /// All that are not known.
        items: Vec<Arc<ItemKey>>,
    },
    /// Fewer units are available than asked for (I3).
    #[error("{} of {of} lines cannot be held", .lines.len())]
    InsufficientStock {
        /// The lines that are short.
        lines: Vec<Shortage>,
        /// How many lines were asked for.
        of: usize,
    },
    /// A place under a known key, whose hold is gone (R11).
    #[error("the hold {} of this key is {}", .hold.hold.id, .hold.hold.state.as_str())]
    HoldEnded {
        /// The hold as it is now.
        hold: Box<HoldView>,
    },
    /// The deadline has passed (R2), and there was not enough to hold it again (R8).
    #[error("the hold {id} has expired")]
    HoldExpired {
        /// Of which hold.
        id: HoldId,
        /// What would be available now, line by line.
        lines: Vec<Shortage>,
    },
    /// It was confirmed before, or in another way (R3, R6).
    #[error("the hold {id} is already confirmed")]
    AlreadyConfirmed {
        /// Of which hold.
        id: HoldId,
        /// Under which reference.
        reference: Option<Reference>,
        /// Units confirmed of each item.
        confirmed: Vec<(Arc<ItemKey>, Quantity)>,
    },
    /// It was released before (R7).
    #[error("the hold {id} is already released")]
    AlreadyReleased {
        /// Of which hold.
        id: HoldId,
    },
    /// It was taken away (R7).
    #[error("the hold {id} was revoked")]
    Revoked {
        /// Of which hold.
        id: HoldId,
    },
    /// All its units went back to sale.
    #[error("the hold {id} is already cancelled")]
    AlreadyCancelled {
        /// Of which hold.
        id: HoldId,
    },
    /// All its open units have left the house.
    #[error("the hold {id} is already shipped")]
    AlreadyShipped {
        /// Of which hold.
        id: HoldId,
    },
    /// Only a confirmed hold can be shipped or cancelled.
    #[error("the hold {id} is {}, not confirmed", .state.as_str())]
    NotConfirmed {
        /// Of which hold.
        id: HoldId,
        /// Where it stands.
        state: HoldState,
    },
    /// No unit of it is open any more.
    #[error("nothing of the hold {id} is open")]
    NothingOpen {
        /// Of which hold.
        id: HoldId,
    },
    /// It lives as long as it may already (R9).
    #[error("the hold {id} cannot live any longer")]
    MaxLifetime {
        /// Of which hold.
        id: HoldId,
        /// The deadline that it cannot pass.
        max_expires_at: Timestamp,
    },
    /// The hold has no line of this item.
    #[error("the hold {id} has no line of {item}")]
    NotInHold {
        /// Of which hold.
        id: HoldId,
        /// The item asked for.
        item: Arc<ItemKey>,
    },
    /// More units were to be confirmed than the line has.
    #[error("{requested} of {item} are more than the {held} held")]
    MoreThanHeld {
        /// Of which item.
        item: Arc<ItemKey>,
        /// Units asked for.
        requested: Quantity,
        /// Units held.
        held: Quantity,
    },
    /// More units were to be shipped or cancelled than are open.
    #[error("{requested} of {item} are more than the {open} open")]
    MoreThanOpen {
        /// Of which item.
        item: Arc<ItemKey>,
        /// Units asked for.
        requested: Quantity,
        /// Units open.
        open: Quantity,
    },
    /// The key was used for another request (R11).
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Doing it twice would do it twice: a key is needed (R19).
    #[error("{verb} needs an idempotency key")]
    IdempotencyKeyRequired {
        /// Which verb.
        verb: &'static str,
    },
    /// The item is there with other numbers.
    #[error("{item} exists with {on_hand} units on hand and a safety stock of {safety_stock}")]
    AlreadyExists {
        /// Which item.
        item: Arc<ItemKey>,
        /// Units on hand.
        on_hand: Quantity,
        /// Units kept back from sale.
        safety_stock: Quantity,
    },
    /// A delta would leave less than it may (R14).
    #[error("{item} would go below {floor}")]
    WouldGoBelow {
        /// Of which item.
        item: Arc<ItemKey>,
        /// What would be left: on hand, or available if `min_available` was given.
        left: Quantity,
        /// The least that may be left.
        floor: Quantity,
    },
    /// A count was made for another number on hand (R14).
    #[error("{item} has {on_hand} units on hand, not {expected}")]
    OnHandDiffers {
        /// Of which item.
        item: Arc<ItemKey>,
        /// Units expected.
        expected: Quantity,
        /// Units on hand.
        on_hand: Quantity,
    },
    /// The basket has more lines than the shop allows.
    #[error("{lines} lines are more than the {max} allowed")]
    TooManyLines {
        /// Lines asked for.
        lines: usize,
        /// Lines allowed.
        max: usize,
    },
    /// A line has more units than the shop allows.
    #[error("{requested} of {item} are more than the {max} allowed")]
    QuantityTooLarge {
        /// Of which item.
        item: Arc<ItemKey>,
        /// Units asked for.
        requested: Quantity,
        /// Units allowed.
        max: Quantity,
    },
    /// A number of units is below what makes sense.
    #[error("{field} must be at least {min}")]
    QuantityTooSmall {
        /// Which number.
        field: &'static str,
        /// The least that it may be.
        min: Quantity,
    },
    /// A quantity of the item could not be said any more.
    #[error("a quantity would leave the range of -(2^53 - 1) to 2^53 - 1")]
    OutOfRange,
    /// Rows of the ledger contradict each other; only this command fails (R16).
    #[error("the ledger is damaged: {what}")]
    Damaged {
        /// Which rows, for the operator.
        what: String,
    },
}

impl Rejection {
    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::InsufficientStock { .. } | Self::WouldGoBelow { .. } => true,
            Self::NotFound { .. }
            | Self::UnknownSku { .. }
            | Self::HoldEnded { .. }
            | Self::HoldExpired { .. }
            | Self::AlreadyConfirmed { .. }
            | Self::AlreadyReleased { .. }
            | Self::Revoked { .. }
            | Self::AlreadyCancelled { .. }
            | Self::AlreadyShipped { .. }
            | Self::NotConfirmed { .. }
            | Self::NothingOpen { .. }
            | Self::MaxLifetime { .. }
            | Self::NotInHold { .. }
            | Self::MoreThanHeld { .. }
            | Self::MoreThanOpen { .. }
            | Self::IdempotencyKeyReused
            | Self::IdempotencyKeyRequired { .. }
            | Self::AlreadyExists { .. }
            | Self::OnHandDiffers { .. }
            | Self::TooManyLines { .. }
            | Self::QuantityTooLarge { .. }
            | Self::QuantityTooSmall { .. }
            | Self::OutOfRange
            | Self::Damaged { .. } => false,
        }
    }

    /// The stable word for the reason: `insufficient_stock`, `hold_expired`, ...
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::UnknownSku { .. } => "unknown_sku",
            Self::InsufficientStock { .. } => "insufficient_stock",
            Self::HoldEnded { .. } => "hold_ended",
            Self::HoldExpired { .. } => "hold_expired",
            Self::AlreadyConfirmed { .. } => "already_confirmed",
            Self::AlreadyReleased { .. } => "already_released",
            Self::Revoked { .. } => "revoked",
            Self::AlreadyCancelled { .. } => "already_cancelled",
            Self::AlreadyShipped { .. } => "already_shipped",
            Self::NotConfirmed { .. } => "not_confirmed",
            Self::NothingOpen { .. } => "nothing_open",
            Self::MaxLifetime { .. } => "max_lifetime",
            Self::NotInHold { .. } => "not_in_hold",
            Self::MoreThanHeld { .. } => "more_than_held",
            Self::MoreThanOpen { .. } => "more_than_open",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyKeyRequired { .. } => "idempotency_key_required",
            Self::AlreadyExists { .. } => "already_exists",
            Self::WouldGoBelow { .. } => "would_go_below",
            Self::OnHandDiffers { .. } => "on_hand_differs",
            Self::TooManyLines { .. } => "too_many_lines",
            Self::QuantityTooLarge { .. } => "quantity_too_large",
            Self::QuantityTooSmall { .. } => "quantity_too_small",
            Self::OutOfRange => "out_of_range",
            Self::Damaged { .. } => "internal",
        }
    }
}

impl From<OutOfRange> for Rejection {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

impl From<IllegalStep> for Rejection {
    fn from(step: IllegalStep) -> Self {
        Self::Damaged { what: step.to_string() }
    }
}
