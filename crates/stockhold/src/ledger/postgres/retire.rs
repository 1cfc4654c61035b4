//! Removes holds that are over, a few at a time, and carries what they have shipped.
use super::{batch::Desk, failure::Trouble};
use crate::ledger::Retired;
use std::time::Duration;
use stockhold_core::HoldId;
pub(super) async fn some(
    desk: &Desk,
    age: Duration,
    after: Option<HoldId>,
    limit: usize,
) -> Result<Retired, Trouble> {
    todo!()
}
