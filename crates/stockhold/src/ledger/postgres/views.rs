//! Reads: each sees one moment of the ledger.

use stockhold_core::{HoldId, HoldView, ItemKey, Movement, StockView};

use super::{batch::Desk, failure::Trouble};
use crate::ledger::{Due, HoldQuery, MovementQuery, Page, StockQuery};

pub(super) async fn hold(desk: &Desk, id: HoldId) -> Result<Option<HoldView>, Trouble> {
    todo!()
}
pub(super) async fn stock(desk: &Desk, key: &ItemKey) -> Result<Option<StockView>, Trouble> {
    todo!()
}
pub(super) async fn holds(
    desk: &Desk,
    query: &HoldQuery,
) -> Result<Page<HoldView, HoldId>, Trouble> {
    todo!()
}
pub(super) async fn items(
    desk: &Desk,
    query: &StockQuery,
) -> Result<Page<StockView, ItemKey>, Trouble> {
    todo!()
}
pub(super) async fn movements(
    desk: &Desk,
    query: &MovementQuery,
) -> Result<Page<Movement, i64>, Trouble> {
    todo!()
}
pub(super) async fn due(desk: &Desk, limit: usize) -> Result<Due, Trouble> {
    todo!()
}
