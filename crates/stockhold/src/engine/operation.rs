//! What a caller asks for: the verbs as values, so that many can be handed over at once.

use std::sync::Arc;

use stockhold_core::{
    Action, Basket, Command, HoldId, IdempotencyKey, ItemKey, LoadMode, OnExpired, Owner, Place,
    Quantity, Reason, Reference, Ttl,
};

/// One verb of the engine with all that it takes, for [`crate::Engine::batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`crate::Engine::place`].
    Place(PlaceRequest),
    /// [`crate::Engine::confirm`].
    Confirm {
        /// Of which hold.
        id: HoldId,
        /// How.
        request: ConfirmRequest,
    },
    /// [`crate::Engine::release`].
    Release {
        /// Of which hold.
        id: HoldId,
        /// Why.
        reason: Option<Reason>,
        /// A name for this request.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::extend`].
    Extend {
        /// Of which hold.
        id: HoldId,
        /// Life from now on.
        ttl: Ttl,
        /// A name for this request.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::ship`].
    Ship {
        /// Of which hold.
        id: HoldId,
        /// Which; none: all that is open.
        lines: Option<Basket>,
        /// A name for this request; needed with `lines`.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::cancel`].
    Cancel {
        /// Of which hold.
        id: HoldId,
        /// Which; none: all that is open.
        lines: Option<Basket>,
        /// A name for this request; needed with `lines`.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::revoke`].
    Revoke {
        /// Of which hold.
        id: HoldId,
        /// Why.
        reason: Reason,
        /// A name for this request.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::adjust`].
    Adjust {
        /// Of which item.
        item: ItemKey,
        /// How.
        adjustment: Adjustment,
        /// A name for this request; needed but for a count.
        key: Option<IdempotencyKey>,
    },
    /// [`crate::Engine::set_policy`].
    SetPolicy {
        /// Which item.
        item: ItemKey,
        /// What is there; only to create it.
        on_hand: Option<Quantity>,
        /// How many to keep back from sale.
        safety_stock: Option<Quantity>,
    },
}

/// What to hold, for whom and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceRequest {
    /// Whom it is for, for example a cart.
    pub owner: Owner,
    /// What to hold.
    pub lines: Basket,
    /// For how long; none: the shop's default of 30 s. Clamped into the shop's range; the answer
    /// carries what was granted.
    pub ttl: Option<Ttl>,
    /// A hold of the same owner to give back in the same step (R13).
    pub replaces: Option<HoldId>,
    /// The shop's own mark.
    pub reference: Option<Reference>,
    /// A name for this request, under which it may be sent again (R11).
    pub key: Option<IdempotencyKey>,
}

impl PlaceRequest {
    /// Holds these lines for this owner, and nothing special.
    #[must_use]
    pub const fn new(owner: Owner, lines: Basket) -> Self {
        Self { owner, lines, ttl: None, replaces: None, reference: None, key: None }
    }
}

/// How to confirm. The default confirms all that was asked for, or fails if the hold has died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfirmRequest {
    /// What to confirm; none: all that was asked for. The rest is released (R10).
    pub lines: Option<Basket>,
    /// What to do if the hold has died: fail, or take the units again (R8).
    pub on_expired: OnExpired,
    /// Replaces the hold's own reference.
    pub reference: Option<Reference>,
    /// A name for this request, under which it may be sent again (R19).
    pub key: Option<IdempotencyKey>,
}

/// A change of the units on hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// Units arrive; needs a key (R19).
    Receive {
        /// How many; at least 1.
        units: Quantity,
        /// The shop's own mark, for example a delivery note.
        reference: Option<Reference>,
    },
    /// Units appear or vanish; needs a key (R19).
    Delta {
        /// How many; less than 0 to take away.
        delta: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if fewer would be available afterwards.
        min_available: Option<Quantity>,
    },
    /// Somebody counted (R14).
    Count {
        /// How many there are; 0 or more.
        count: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if the ledger knows of another number than this.
        if_on_hand: Option<Quantity>,
    },
}

/// One row of a list of stock that is loaded; see [`crate::Engine::load`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which item.
    pub item: ItemKey,
    /// What is there; 0 or more.
    pub on_hand: Quantity,
    /// How many to keep back from sale; none: as it is, or 0.
    pub safety_stock: Option<Quantity>,
}

impl Operation {
    /// The command to the ledger. A hold that is to be placed gets its number here.
    pub(super) fn command(self, new_hold: impl FnOnce() -> HoldId) -> Command {
        match self {
            Self::Place(request) => request.command(new_hold()),
            Self::Confirm { id, request } => request.command(id),
            Self::Release { id, reason, key } => keyed(Action::Release { id, reason }, key),
            Self::Extend { id, ttl, key } => keyed(Action::Extend { id, ttl }, key),
            Self::Ship { id, lines, key } => keyed(Action::Ship { id, lines }, key),
            Self::Cancel { id, lines, key } => keyed(Action::Cancel { id, lines }, key),
            Self::Revoke { id, reason, key } => keyed(Action::Revoke { id, reason }, key),
            Self::Adjust { item, adjustment, key } => keyed(adjustment.action(item), key),
            Self::SetPolicy { item, on_hand, safety_stock } => {
                let item = Arc::new(item);
                Command::new(Action::SetPolicy { item, on_hand, safety_stock })
            }
        }
    }
}

impl Load {
    pub(super) fn command(self, mode: LoadMode) -> Command {
        let Self { item, on_hand, safety_stock } = self;
        Command::new(Action::Load { item: Arc::new(item), on_hand, safety_stock, mode })
    }
}

impl PlaceRequest {
    fn command(self, id: HoldId) -> Command {
        let Self { owner, lines, ttl, replaces, reference, key } = self;
        keyed(Action::Place(Place { id, owner, ttl, lines, replaces, reference }), key)
    }
}

impl ConfirmRequest {
    fn command(self, id: HoldId) -> Command {
        let Self { lines, on_expired, reference, key } = self;
        keyed(Action::Confirm { id, lines, on_expired, reference }, key)
    }
}

impl Adjustment {
    fn action(self, item: ItemKey) -> Action {
        let item = Arc::new(item);
        match self {
            Self::Receive { units, reference } => Action::Receive { item, units, reference },
            Self::Delta { delta, reason, min_available } => {
                Action::Adjust { item, delta, reason, min_available }
            }
            Self::Count { count, reason, if_on_hand } => {
                Action::Count { item, count, reason, if_on_hand }
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "whoever takes an operation apart has it so")]
fn keyed(action: Action, key: Option<IdempotencyKey>) -> Command {
    match &key {
        Some(key) => Command::keyed(action, key),
        None => Command::new(action),
    }
}
