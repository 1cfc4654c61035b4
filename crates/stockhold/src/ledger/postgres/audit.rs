//! Feeds the rows to the verifier, one at a time, from one snapshot.
use super::{batch::Desk, failure::Trouble};
use stockhold_core::verify::Report;
pub(super) async fn verify(desk: &Desk) -> Result<Report, Trouble> {
    todo!()
}
