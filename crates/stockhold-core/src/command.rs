//! What can be asked of the ledger.

use std::sync::Arc;

use crate::{
    Digest, HoldId, IdempotencyKey, ItemKey, KeyId, OutOfRange, Owner, Quantity, Reason, Reference,
    Ttl,
};

/// A number of units of each of some items. The same item given twice is summed (R12).
///
/// ```
/// use stockhold_core::{Basket, ItemKey, Quantity, Sku};
/// let mug = ItemKey::at_default(Sku::new("MUG")?);
/// let two = Quantity::new(2)?;
/// let basket = Basket::new([(mug.clone(), two), (mug, two)])?;
/// assert_eq!(basket.iter().next().map(|(_, units)| units.get()), Some(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basket(Vec<(Arc<ItemKey>, Quantity)>);

/// Why lines are no basket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBasket {
    /// There is no line.
    #[error("must have at least one line")]
    Empty,
    /// A line has no units, or less.
    #[error("line {index}: quantity must be at least 1")]
    NotPositive {
        /// The line's place, from 0.
        index: usize,
    },
    /// The sum of an item is too large to be said.
    #[error("line {index}: {OutOfRange}")]
    OutOfRange {
        /// The line's place, from 0.
        index: usize,
    },
}

impl Basket {
    /// Sums and sorts the lines.
    ///
    /// # Errors
    /// [`InvalidBasket`] if there is none, or one has less than one unit.
    pub fn new(
        lines: impl IntoIterator<Item = (ItemKey, Quantity)>,
    ) -> Result<Self, InvalidBasket> {
        let mut given = Vec::new();
        for (index, (item, units)) in lines.into_iter().enumerate() {
            if !units.is_positive() {
                return Err(InvalidBasket::NotPositive { index });
            }
            given.push((item, units, index));
        }
        if given.is_empty() {
            return Err(InvalidBasket::Empty);
        }
        given.sort_by(|(one, _, n), (other, _, m)| (one, n).cmp(&(other, m)));
        let mut sums: Vec<(Arc<ItemKey>, Quantity)> = Vec::with_capacity(given.len());
        for (item, units, index) in given {
            match sums.last_mut().filter(|(last, _)| **last == item) {
                Some((_, sum)) => {
                    let added = sum.checked_add(units);
                    *sum = added.map_err(|_| InvalidBasket::OutOfRange { index })?;
                }
                None => sums.push((Arc::new(item), units)),
            }
        }
        Ok(Self(sums))
    }

    /// The items with their units, sorted by item.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<ItemKey>, Quantity)> {
        self.0.iter().map(|(item, units)| (item, *units))
    }

    /// How many items there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a basket is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What is asked of a hold that died before it was confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExpired {
    /// Refuse with `hold_expired`.
    #[default]
    Fail,
    /// Take the units again if they are still there (R8).
    Rehold,
}

/// What a list of stock that is loaded says of the items that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// That they are there: one with other numbers is refused.
    Create,
    /// What somebody counted: the list is right.
    Count,
}

/// A request to hold units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number that the hold will have.
    pub id: HoldId,
    /// Whom it is for.
    pub owner: Owner,
    /// The life that is asked for; none: the shop's default.
    pub ttl: Option<Ttl>,
    /// What to hold.
    pub lines: Basket,
    /// A hold of the same owner to release in the same step (R13).
    pub replaces: Option<HoldId>,
    /// The shop's own mark.
    pub reference: Option<Reference>,
}

/// What can be asked. One variant is one verb of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold units until a deadline.
    Place(Place),
    /// The customer has paid: move held units to allocated.
    Confirm {
        /// Of which hold.
        id: HoldId,
        /// What to confirm; none: all that was asked for. The rest is released (R10).
        lines: Option<Basket>,
        /// What to do if the hold has died.
        on_expired: OnExpired,
        /// Replaces the hold's own reference.
        reference: Option<Reference>,
    },
    /// Give all held units back.
    Release {
        /// Of which hold.
        id: HoldId,
        /// Why.
        reason: Option<Reason>,
    },
    /// Move the deadline; never to an earlier time (R9).
    Extend {
        /// Of which hold.
        id: HoldId,
        /// Life from now on.
        ttl: Ttl,
    },
    /// Let a hold die if its deadline has passed; the sweeper's verb.
    Expire {
        /// Which hold.
        id: HoldId,
    },
    /// Take all held units away, whatever the customer wants.
    Revoke {
        /// Of which hold.
        id: HoldId,
        /// Why.
        reason: Reason,
    },
    /// Confirmed units leave the house.
    Ship {
        /// Of which hold.
        id: HoldId,
        /// Which; none: all that is open.
        lines: Option<Basket>,
    },
    /// Confirmed units go back to sale.
    Cancel {
        /// Of which hold.
        id: HoldId,
        /// Which; none: all that is open.
        lines: Option<Basket>,
    },
    /// Units arrive.
    Receive {
        /// Of which item.
        item: Arc<ItemKey>,
        /// How many; at least 1.
        units: Quantity,
        /// The shop's own mark, for example a delivery note.
        reference: Option<Reference>,
    },
    /// Units appear or vanish.
    Adjust {
        /// Of which item.
        item: Arc<ItemKey>,
        /// How many; less than 0 to take away.
        delta: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if fewer would be available afterwards.
        min_available: Option<Quantity>,
    },
    /// Somebody counted what is there.
    Count {
        /// Of which item.
        item: Arc<ItemKey>,
        /// How many there are; 0 or more.
        count: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if the ledger knows of another number than this.
        if_on_hand: Option<Quantity>,
    },
    /// Create an item, or set how it is sold.
    SetPolicy {
        /// Which item.
        item: Arc<ItemKey>,
        /// What is there; only to create it (a present item must have just this number).
        on_hand: Option<Quantity>,
        /// How many to keep back from sale; none: as it is, or 0.
        safety_stock: Option<Quantity>,
    },
    /// Bring an item to what a list says. To do it twice is to do it once.
    Load {
        /// Which item.
        item: Arc<ItemKey>,
        /// What is there; 0 or more.
        on_hand: Quantity,
        /// How many to keep back from sale; none: as it is, or 0.
        safety_stock: Option<Quantity>,
        /// What to do if the item is there.
        mode: LoadMode,
    },
}

/// An action, and the name under which the client may send it again (R11, R19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub action: Action,
    /// The client's key, digested, together with a digest of the request.
    pub key: Option<(KeyId, Digest)>,
}

impl Command {
    /// An action that is not sent again.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self { action, key: None }
    }

    /// An action that may be sent again under this key.
    #[must_use]
    pub fn keyed(action: Action, key: &IdempotencyKey) -> Self {
        let key = (KeyId::of(action.verb(), key), Digest::of(&action));
        Self { action, key: Some(key) }
    }
}

impl Action {
    /// The verb, as it is written and sent.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Place(_) => "place",
            Self::Confirm { .. } => "confirm",
            Self::Release { .. } => "release",
            Self::Extend { .. } => "extend",
            Self::Expire { .. } => "expire",
            Self::Revoke { .. } => "revoke",
            Self::Ship { .. } => "ship",
            Self::Cancel { .. } => "cancel",
            Self::Receive { .. } => "receive",
            Self::Adjust { .. } => "adjust",
            Self::Count { .. } => "count",
            Self::SetPolicy { .. } => "set_policy",
            Self::Load { .. } => "load",
        }
    }

    /// The hold that it names: its own, or for a place the one that it replaces.
    #[must_use]
    pub const fn hold(&self) -> Option<HoldId> {
        match self {
            Self::Place(place) => place.replaces,
            Self::Confirm { id, .. }
            | Self::Release { id, .. }
            | Self::Extend { id, .. }
            | Self::Expire { id }
            | Self::Revoke { id, .. }
            | Self::Ship { id, .. }
            | Self::Cancel { id, .. } => Some(*id),
            Self::Receive { .. }
            | Self::Adjust { .. }
            | Self::Count { .. }
            | Self::SetPolicy { .. }
            | Self::Load { .. } => None,
        }
    }

    /// The items that it names itself; those of its hold are not among them.
    pub fn items(&self) -> impl Iterator<Item = &Arc<ItemKey>> {
        let (basket, single) = match self {
            Self::Place(place) => (Some(&place.lines), None),
            Self::Receive { item, .. }
            | Self::Adjust { item, .. }
            | Self::Count { item, .. }
            | Self::SetPolicy { item, .. }
            | Self::Load { item, .. } => (None, Some(item)),
            Self::Confirm { .. }
            | Self::Release { .. }
            | Self::Extend { .. }
            | Self::Expire { .. }
            | Self::Revoke { .. }
            | Self::Ship { .. }
            | Self::Cancel { .. } => (None, None),
        };
        basket.into_iter().flat_map(Basket::iter).map(|(item, _)| item).chain(single)
    }

    /// Whether doing it twice would do it twice, so that it must carry a key (R19).
    #[must_use]
    pub const fn needs_key(&self) -> bool {
        match self {
            Self::Receive { .. } | Self::Adjust { .. } => true,
            Self::Ship { lines, .. } | Self::Cancel { lines, .. } => lines.is_some(),
            Self::Place(_)
            | Self::Confirm { .. }
            | Self::Release { .. }
            | Self::Extend { .. }
            | Self::Expire { .. }
            | Self::Revoke { .. }
            | Self::Count { .. }
            | Self::SetPolicy { .. }
            | Self::Load { .. } => false,
        }
    }
}
