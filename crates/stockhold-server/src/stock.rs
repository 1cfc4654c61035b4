//! The verbs on stock.

use axum::extract::State;
use stockhold::Engine;

use crate::{
    answer::Answer,
    batch::number_of,
    extract::{ItemToChange, ItemToRead, Json, Key, NoKey},
    problem::Problem,
    wire::{AdjustmentBody, Asked, PolicyBody},
};

/// `GET /v1/stock/{sku}`
pub(crate) async fn read(
    State(engine): State<Engine>,
    ItemToRead(item, freshness): ItemToRead,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    match freshness.copy() {
        None => Ok(Answer::stock(&engine.stock(&item).await?, asked)),
        Some(age) => {
            let (told, view) = engine.stock_at_most(&item, age).await?;
            Ok(Answer::copy_of_stock(&view, told))
        }
    }
}

/// `PUT /v1/stock/{sku}`
pub(crate) async fn set_policy(
    State(engine): State<Engine>,
    ItemToChange(item): ItemToChange,
    NoKey: NoKey,
    Json(body): Json<PolicyBody>,
) -> Result<Answer, Problem> {
    let (asked, (on_hand, safety_stock)) = (Asked::now(), body.quantities());
    let set = engine.set_policy(&item, on_hand, safety_stock).await;
    let set = set.map_err(|error| Problem::from(error).out_of_range("on_hand"))?;
    Ok(Answer::policy_set(&set, asked))
}

/// `POST /v1/stock/{sku}/adjustments`
pub(crate) async fn adjust(
    State(engine): State<Engine>,
    ItemToChange(item): ItemToChange,
    Key(key): Key,
    Json(body): Json<AdjustmentBody>,
) -> Result<Answer, Problem> {
    let (asked, adjustment) = (Asked::now(), body.adjustment()?);
    let field = number_of(&adjustment);
    let moved = engine.adjust(&item, adjustment, key).await;
    let moved = moved.map_err(|error| Problem::from(error).out_of_range(field))?;
    Ok(Answer::moved(&moved, asked))
}
