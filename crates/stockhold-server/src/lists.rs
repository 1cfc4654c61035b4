//! The lists: holds, stock items, movements.

use axum::extract::State;
use stockhold::{
    Engine,
    ledger::{HoldQuery, MovementQuery, StockQuery},
};

use crate::{
    answer::Answer,
    extract::Query,
    problem::Problem,
    wire::{self, Asked},
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
    Query(query): Query<StockQuery>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let page = engine.items(query).await?;
    Ok(Answer::ok(wire::stock_page(&page, asked)))
}

/// `GET /v1/movements`
pub(crate) async fn movements(
    State(engine): State<Engine>,
    Query(query): Query<MovementQuery>,
) -> Result<Answer, Problem> {
    let page = engine.movements(query).await?;
    Ok(Answer::ok(wire::movement_page(&page)))
}
