//! A hold, its lines, and the steps of its life.
//!
//! What a hold asks for never changes. What happens to it is a list of [`Transition`]s, and its
//! state is the sum of them: [`Hold::record`] is the one place that knows what a step moves.

use std::sync::Arc;

use crate::{HoldId, ItemKey, OutOfRange, Owner, Quantity, Reason, Reference, Timestamp};

/// Where a hold stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldState {
    /// Its units are held.
    Active,
    /// Paid: units are allocated, and at least one of them is still open.
    Confirmed,
    /// Given back by the shop.
    Released,
    /// Died at its deadline.
    Expired,
    /// Taken away by an operator.
    Revoked,
    /// Nothing is open, and at least one unit was shipped.
    Shipped,
    /// Nothing is open, and nothing was shipped.
    Cancelled,
}

impl HoldState {
    /// Every state, in the order of the table in the rules.
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Expired,
        Self::Confirmed,
        Self::Shipped,
        Self::Cancelled,
        Self::Released,
        Self::Revoked,
    ];

    /// Whether no unit of it is held or open any more. Only an expired hold may come back from
    /// there, by a rehold (R8).
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Active | Self::Confirmed => false,
            Self::Released | Self::Expired | Self::Revoked | Self::Shipped | Self::Cancelled => {
                true
            }
        }
    }

    /// The word that is written and sent: `active`, `confirmed`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One line of a hold: an item, and what became of the units that were asked for.
///
/// `requested = held + confirmed + released + expired + revoked`, and
/// `0 <= shipped + cancelled <= confirmed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of which item.
    pub item: Arc<ItemKey>,
    /// Units asked for; never changes.
    pub requested: Quantity,
    /// Units still held.
    pub held: Quantity,
    /// Units ever confirmed.
    pub confirmed: Quantity,
    /// Units given back.
    pub released: Quantity,
    /// Units that died at the deadline.
    pub expired: Quantity,
    /// Units taken away.
    pub revoked: Quantity,
    /// Of the confirmed ones, units that left the house.
    pub shipped: Quantity,
    /// Of the confirmed ones, units that went back to sale.
    pub cancelled: Quantity,
}

impl Line {
    /// A line whose units are all held.
    #[must_use]
    pub const fn held(item: Arc<ItemKey>, requested: Quantity) -> Self {
        Self {
            item,
            requested,
            held: requested,
            confirmed: Quantity::ZERO,
            released: Quantity::ZERO,
            expired: Quantity::ZERO,
            revoked: Quantity::ZERO,
            shipped: Quantity::ZERO,
            cancelled: Quantity::ZERO,
        }
    }

    /// Confirmed and neither shipped nor cancelled: what the item counts as allocated.
    ///
    /// # Errors
    /// [`OutOfRange`] only of a line that was damaged.
    pub fn open(&self) -> Result<Quantity, OutOfRange> {
        self.confirmed.checked_sub(self.shipped)?.checked_sub(self.cancelled)
    }
}

/// What a step does to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Held units become confirmed; held units that are not named are released (R10).
    Confirm,
    /// Expired units become confirmed: paid late, and there was still enough (R8).
    Rehold,
    /// Held units are given back.
    Release,
    /// Held units die at the deadline.
    Expire,
    /// Held units are taken away.
    Revoke,
    /// Open units leave the house.
    Ship,
    /// Open units go back to sale.
    Cancel,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 7] = [
        Self::Confirm,
        Self::Rehold,
        Self::Release,
        Self::Expire,
        Self::Revoke,
        Self::Ship,
        Self::Cancel,
    ];

    /// The word that is written: `confirm`, `rehold`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Rehold => "rehold",
            Self::Release => "release",
            Self::Expire => "expire",
            Self::Revoke => "revoke",
            Self::Ship => "ship",
            Self::Cancel => "cancel",
        }
    }

    /// The step that a written word names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == word)
    }
}

/// Which units a step moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All that the step can move: all that is held, or expired, or open.
    All,
    /// That many of each named line, by its index in [`Hold::lines`].
    Lines(Vec<(usize, Quantity)>),
}

/// One immutable row of a hold's history, written when it leaves `active` and at every later step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// 1, 2, 3, ... without gaps, for each hold.
    pub n: u32,
    /// What happened.
    pub step: Step,
    /// The ledger's time of it.
    pub at: Timestamp,
    /// Which units it moved.
    pub moved: Moved,
    /// The reference given at confirm.
    pub reference: Option<Reference>,
    /// The reason given at release or revoke.
    pub reason: Option<Reason>,
}

/// A promise of units to an owner until a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// Whom it belongs to.
    pub owner: Owner,
    /// The shop's own mark: as given at confirm, else as given at place.
    pub reference: Option<Reference>,
    /// Where it stands.
    pub state: HoldState,
    /// When it was placed, on the ledger's clock.
    pub created_at: Timestamp,
    /// Until when it is promised, before any grace: see [`crate::Liveness::effective`].
    pub deadline: Timestamp,
    /// The deadline that no extend can pass.
    pub max_deadline: Timestamp,
    /// What it holds; at least one line, no item twice, sorted by item.
    pub lines: Vec<Line>,
    /// How many transitions it has had.
    pub steps: u32,
    /// The hold that took its place (R13).
    pub replaced_by: Option<HoldId>,
}

/// A transition that does not fit the hold it is for. The rows were damaged: the rules never
/// make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hold {hold}: step {n} ({step}) does not follow from state {state}", step = .step.as_str(), state = .state.as_str())]
pub struct IllegalStep {
    /// Of which hold.
    pub hold: HoldId,
    /// The number of the step.
    pub n: u32,
    /// What it would do.
    pub step: Step,
    /// The state it meets.
    pub state: HoldState,
}

impl Hold {
    /// Takes one step: moves the units between the quantities of the lines, and the state with
    /// them. Rules apply it when they decide, and ledgers when they read a hold back.
    ///
    /// # Errors
    /// [`IllegalStep`] if the step does not follow from the hold's state, or moves units that are
    /// not there. The hold must not be used any further then.
    pub fn record(&mut self, transition: &Transition) -> Result<(), IllegalStep> {
        let illegal = IllegalStep {
            hold: self.id,
            n: transition.n,
            step: transition.step,
            state: self.state,
        };
        if Some(transition.n) != self.steps.checked_add(1) || !self.may(transition.step) {
            return Err(illegal);
        }
        if self.move_units(transition).is_err() {
            return Err(illegal);
        }
        self.state = self.state_after(transition.step);
        self.steps = transition.n;
        if transition.reference.is_some() {
            self.reference.clone_from(&transition.reference);
        }
        Ok(())
    }

    fn may(&self, step: Step) -> bool {
        match step {
            Step::Confirm | Step::Release | Step::Expire | Step::Revoke => {
                self.state == HoldState::Active
            }
            Step::Rehold => self.state == HoldState::Expired,
            Step::Ship | Step::Cancel => self.state == HoldState::Confirmed,
        }
    }

    fn move_units(&mut self, transition: &Transition) -> Result<(), OutOfRange> {
        match &transition.moved {
            Moved::All => {
                for line in &mut self.lines {
                    let units = movable(line, transition.step)?;
                    shift(line, transition.step, units)?;
                }
            }
            Moved::Lines(named) => {
                for &(index, units) in named {
                    let line = self.lines.get_mut(index).ok_or(OutOfRange)?;
                    shift(line, transition.step, units)?;
                }
            }
        }
        if transition.step == Step::Confirm {
            self.release_the_rest()?;
        }
        Ok(())
    }

    fn release_the_rest(&mut self) -> Result<(), OutOfRange> {
        for line in &mut self.lines {
            shift(line, Step::Release, line.held)?;
        }
        Ok(())
    }

    fn state_after(&self, step: Step) -> HoldState {
        match step {
            Step::Confirm | Step::Rehold => HoldState::Confirmed,
            Step::Release => HoldState::Released,
            Step::Expire => HoldState::Expired,
            Step::Revoke => HoldState::Revoked,
            Step::Ship | Step::Cancel => self.state_by_units(),
        }
    }

    /// Confirmed while any unit is open; then shipped if any unit was, else cancelled.
    fn state_by_units(&self) -> HoldState {
        let is_open = |line: &Line| line.open().is_ok_and(Quantity::is_positive);
        if self.lines.iter().any(is_open) {
            HoldState::Confirmed
        } else if self.lines.iter().any(|line| line.shipped.is_positive()) {
            HoldState::Shipped
        } else {
            HoldState::Cancelled
        }
    }

    /// The line of an item, with its index.
    #[must_use]
    pub fn line_of(&self, item: &ItemKey) -> Option<(usize, &Line)> {
        self.lines.iter().enumerate().find(|(_, line)| *line.item == *item)
    }
}

/// How many units of a line the step could move.
fn movable(line: &Line, step: Step) -> Result<Quantity, OutOfRange> {
    match step {
        Step::Confirm | Step::Release | Step::Expire | Step::Revoke => Ok(line.held),
        Step::Rehold => Ok(line.expired),
        Step::Ship | Step::Cancel => line.open(),
    }
}

fn shift(line: &mut Line, step: Step, units: Quantity) -> Result<(), OutOfRange> {
    if units.is_negative() || units > movable(line, step)? {
        return Err(OutOfRange);
    }
    match step {
        Step::Confirm => transfer(&mut line.held, &mut line.confirmed, units),
        Step::Rehold => transfer(&mut line.expired, &mut line.confirmed, units),
        Step::Release => transfer(&mut line.held, &mut line.released, units),
        Step::Expire => transfer(&mut line.held, &mut line.expired, units),
        Step::Revoke => transfer(&mut line.held, &mut line.revoked, units),
        Step::Ship => add(&mut line.shipped, units),
        Step::Cancel => add(&mut line.cancelled, units),
    }
}

fn transfer(from: &mut Quantity, to: &mut Quantity, units: Quantity) -> Result<(), OutOfRange> {
    *from = from.checked_sub(units)?;
    add(to, units)
}

fn add(to: &mut Quantity, units: Quantity) -> Result<(), OutOfRange> {
    *to = to.checked_add(units)?;
    Ok(())
}
