//! What changes stock, each with its one request.

use clap::Args;
use serde_json::json;
use stockhold::{Quantity, Reason, Reference};

use super::{
    super::{
        Fault,
        basket::{any_units, some_or_no_units, units},
        remote::Ask,
        repeat::Repeat,
    },
    ItemName,
};

/// Creates an item, or sets how many units of it are kept back from sale.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    item: ItemName,

    /// How many there are, for a new item; for a known one it has to be the number that is known.
    #[arg(long, value_parser = some_or_no_units, value_name = "UNITS", allow_hyphen_values = true)]
    on_hand: Option<Quantity>,

    /// How many are kept back from sale.
    #[arg(long, value_parser = some_or_no_units, value_name = "UNITS", allow_hyphen_values = true)]
    safety_stock: Option<Quantity>,
}

/// Units appeared or vanished.
#[derive(Debug, Args)]
pub(super) struct Adjust {
    #[command(flatten)]
    item: ItemName,

    /// How many; less than 0 to take away.
    #[arg(value_parser = any_units, allow_negative_numbers = true)]
    units: Quantity,

    /// Why.
    #[arg(long)]
    reason: Reason,

    /// Refuse if fewer would be available afterwards.
    #[arg(long, value_parser = any_units, value_name = "UNITS", allow_negative_numbers = true)]
    min_available: Option<Quantity>,

    #[command(flatten)]
    repeat: Repeat,
}

/// Somebody counted: so many there are.
#[derive(Debug, Args)]
pub(super) struct Count {
    #[command(flatten)]
    item: ItemName,

    /// How many there are.
    #[arg(value_parser = some_or_no_units, allow_negative_numbers = true)]
    units: Quantity,

    /// Why.
    #[arg(long)]
    reason: Reason,

    /// Refuse if another number than this is known to be on hand.
    #[arg(long, value_parser = any_units, value_name = "UNITS", allow_negative_numbers = true)]
    if_on_hand: Option<Quantity>,

    #[command(flatten)]
    repeat: Repeat,
}

/// Units arrived.
#[derive(Debug, Args)]
pub(super) struct Receive {
    #[command(flatten)]
    item: ItemName,

    /// How many; at least 1.
    #[arg(value_parser = units, allow_negative_numbers = true)]
    units: Quantity,

    /// The shop's own mark, for example a delivery note.
    #[arg(long)]
    reference: Option<Reference>,

    #[command(flatten)]
    repeat: Repeat,
}

impl Set {
    pub(super) fn ask(&self) -> Ask {
        let [on_hand, safety_stock] = [self.on_hand, self.safety_stock].map(number);
        Ask::put(self.item.path(), json!({"on_hand": on_hand, "safety_stock": safety_stock}))
    }
}

impl Adjust {
    pub(super) fn ask(self) -> Result<Ask, Fault> {
        let Self { item, units, reason, min_available, repeat } = self;
        let body = json!({"delta": units.get(), "reason": reason.as_str(),
            "min_available": number(min_available)});
        Ask::post(item.adjustments(), body, repeat.key)
    }
}

impl Count {
    pub(super) fn ask(self) -> Result<Ask, Fault> {
        let Self { item, units, reason, if_on_hand, repeat } = self;
        let body = json!({"count": units.get(), "reason": reason.as_str(),
            "if_on_hand": number(if_on_hand)});
        Ask::post(item.adjustments(), body, repeat.key)
    }
}

impl Receive {
    pub(super) fn ask(self) -> Result<Ask, Fault> {
        let Self { item, units, reference, repeat } = self;
        let reference = reference.as_ref().map(Reference::as_str);
        let body = json!({"receive": units.get(), "reference": reference});
        Ask::post(item.adjustments(), body, repeat.key)
    }
}

fn number(units: Option<Quantity>) -> Option<i64> {
    units.map(Quantity::get)
}
