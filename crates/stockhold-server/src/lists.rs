//! The lists: holds, stock items, movements.

use axum::extract::State;
use stockhold::{
    Engine,
    ledger::{HoldQuery, MovementQuery},
};

use crate::{
    answer::Answer,
    extract::Query,
    problem::Problem,
    wire::{self, Asked, ItemsQuery},
};

/// `GET /v1/holds`
pub(crate) async fn holds(
    State(engine): State<Engine>,
    Query(query): Query<HoldQuery>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let page = engine.holds(query).await?;
    Ok(Answer::ok(wire::hold_page(&page, asked)))
}

/// `GET /v1/stock`
pub(crate) async fn stock(
    State(engine): State<Engine>,
    Query(ItemsQuery { page, freshness }): Query<ItemsQuery>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let page = match freshness.copy() {
        None => wire::stock_page(&engine.items(page).await?, asked),
        Some(age) => wire::stock_page_of_copies(&engine.items_at_most(page, age).await?),
    };
    Ok(Answer::ok(page))
}

/// `GET /v1/movements`
pub(crate) async fn movements(
    State(engine): State<Engine>,
    Query(query): Query<MovementQuery>,
) -> Result<Answer, Problem> {
    let page = engine.movements(query).await?;
    Ok(Answer::ok(wire::movement_page(&page)))
}
