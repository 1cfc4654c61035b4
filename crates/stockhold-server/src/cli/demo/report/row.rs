//! One item: what the shoppers got of it, and what the ledger says.

use serde::Serialize;

use super::{
    super::{
        plan::Plan,
        sale::{Outcome, Stock},
    },
    text::grouped,
};

/// One item, in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli::demo) struct Row {
    pub(in crate::cli::demo) sku: String,
    /// On hand when the doors opened.
    pub(super) units: i64,
    /// In orders that the shoppers saw acknowledged.
    pub(super) confirmed: i64,
    /// In confirms that nobody answered.
    pub(super) unknown: i64,
    /// What the ledger says.
    #[serde(flatten)]
    pub(super) ledger: Stock,
}

impl Row {
    /// Units that were sold and never existed, whoever says so.
    pub(super) fn oversold(&self) -> i64 {
        (self.confirmed.max(self.ledger.allocated) - self.units).max(0)
    }

    /// Whether the ledger has every acknowledged order, and no other.
    pub(super) fn agrees(&self) -> bool {
        (self.confirmed..=self.confirmed + self.unknown).contains(&self.ledger.allocated)
    }

    /// Whether every unit is sold or for sale again.
    pub(super) fn is_complete(&self) -> bool {
        let Stock { on_hand, held, allocated, available } = self.ledger;
        held == 0 && on_hand == self.units && allocated + available == self.units
    }

    pub(super) fn cells(&self, oversold: i64) -> Vec<String> {
        let Stock { allocated, available, held, .. } = self.ledger;
        let numbers = [self.units, self.confirmed, allocated, available, held, oversold];
        std::iter::once(self.sku.clone()).chain(numbers.map(grouped)).collect()
    }

    fn plus(mut self, other: &Self) -> Self {
        self.units += other.units;
        self.confirmed += other.confirmed;
        self.unknown += other.unknown;
        self.ledger.on_hand += other.ledger.on_hand;
        self.ledger.held += other.ledger.held;
        self.ledger.allocated += other.ledger.allocated;
        self.ledger.available += other.ledger.available;
        self
    }

    pub(super) fn sum(name: String, rows: &[Self]) -> Self {
        rows.iter().fold(Self { sku: name, ..Self::default() }, Self::plus)
    }
}

/// All items, as they were wanted.
pub(super) fn rows(plan: &Plan, outcome: &Outcome) -> Vec<Row> {
    let Outcome { tally, stock, .. } = outcome;
    let sold = tally.units_sold.iter().zip(&tally.units_unknown);
    let seen = plan.items().into_iter().zip(sold).zip(stock);
    seen.map(|((item, (confirmed, unknown)), ledger)| Row {
        sku: item.sku,
        units: item.units,
        confirmed: *confirmed,
        unknown: *unknown,
        ledger: *ledger,
    })
    .collect()
}
