//! The JSON of requests about stock, parsed into what the engine takes.

use serde::Deserialize;
use stockhold::{Adjustment, Quantity};
use utoipa::ToSchema;

use super::{
    field::{AnyUnits, NotNegative, Positive, ReasonWord, ReferenceWord},
    request::word,
};
use crate::problem::Problem;

/// What is there of an item that is not known yet, and how many of it are kept back from sale.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Policy)]
pub(crate) struct PolicyBody {
    /// What is there; of an item that is known already it must be just this number. Left out:
    /// none, or as it is.
    on_hand: Option<NotNegative>,
    /// How many are kept back from sale; left out: none, or as it is.
    safety_stock: Option<NotNegative>,
}

impl PolicyBody {
    /// `on_hand` and `safety_stock`.
    pub(crate) fn quantities(self) -> (Option<Quantity>, Option<Quantity>) {
        (self.on_hand.map(|units| units.0), self.safety_stock.map(|units| units.0))
    }
}

/// One of three sorts, told apart by the number that they carry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdjustmentBody {
    delta: Option<AnyUnits>,
    count: Option<NotNegative>,
    receive: Option<Positive>,
    reason: Option<ReasonWord>,
    reference: Option<ReferenceWord>,
    min_available: Option<AnyUnits>,
    if_on_hand: Option<AnyUnits>,
}

impl AdjustmentBody {
    /// What the engine is asked.
    pub(crate) fn adjustment(self) -> Result<Adjustment, Problem> {
        match (&self.delta, &self.count, &self.receive) {
            (Some(_), None, None) => self.delta(),
            (None, Some(_), None) => self.count(),
            (None, None, Some(_)) => self.receive(),
            (None, None, None) => Err(Problem::field("delta", "or count or receive must be given")),
            (Some(_), _, _) => Err(Problem::field("delta", "goes with neither count nor receive")),
            (None, Some(_), Some(_)) => Err(Problem::field("count", "does not go with receive")),
        }
    }

    fn delta(self) -> Result<Adjustment, Problem> {
        foreign("reference", self.reference.is_some(), "delta")?;
        foreign("if_on_hand", self.if_on_hand.is_some(), "delta")?;
        let delta = given("delta", self.delta)?.0;
        let reason = given("reason", self.reason)?.0;
        let min_available = self.min_available.map(|units| units.0);
        Ok(Adjustment::Delta { delta, reason, min_available })
    }

    fn count(self) -> Result<Adjustment, Problem> {
        foreign("reference", self.reference.is_some(), "count")?;
        foreign("min_available", self.min_available.is_some(), "count")?;
        let count = given("count", self.count)?.0;
        let reason = given("reason", self.reason)?.0;
        let if_on_hand = self.if_on_hand.map(|units| units.0);
        Ok(Adjustment::Count { count, reason, if_on_hand })
    }

    fn receive(self) -> Result<Adjustment, Problem> {
        foreign("reason", self.reason.is_some(), "receive")?;
        foreign("min_available", self.min_available.is_some(), "receive")?;
        foreign("if_on_hand", self.if_on_hand.is_some(), "receive")?;
        let units = given("receive", self.receive)?.0;
        Ok(Adjustment::Receive { units, reference: word(self.reference) })
    }
}

fn given<T>(field: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::field(field, "must be given"))
}

fn foreign(field: &'static str, is_given: bool, with: &str) -> Result<(), Problem> {
    if is_given {
        return Err(Problem::field(field, format_args!("does not go with {with}")));
    }
    Ok(())
}
