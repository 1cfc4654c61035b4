//! The verbs on holds.

use axum::extract::State;
use stockhold::Engine;

use crate::{
    answer::Answer,
    extract::{HoldInPath, Json, JsonOrNone, Key, NoQuery},
    problem::Problem,
    wire::{Asked, ConfirmBody, ExtendBody, OpenLinesBody, PlaceBody, ReleaseBody, RevokeBody},
};

/// `POST /v1/holds`
pub(crate) async fn place(
    State(engine): State<Engine>,
    NoQuery: NoQuery,
    Key(key): Key,
    Json(body): Json<PlaceBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let placed = engine.place(body.request(key)?).await?;
    Ok(Answer::placed(&placed, asked))
}

/// `GET /v1/holds/{id}`
pub(crate) async fn read(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let view = engine.hold(id).await?;
    Ok(Answer::hold(&view, asked))
}

/// `POST /v1/holds/{id}/confirm`
pub(crate) async fn confirm(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    JsonOrNone(body): JsonOrNone<ConfirmBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.confirm(id, body.request(key)?).await?;
    Ok(Answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/release`
pub(crate) async fn release(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    JsonOrNone(body): JsonOrNone<ReleaseBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.release(id, body.reason(), key).await?;
    Ok(Answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/extend`
pub(crate) async fn extend(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    Json(body): Json<ExtendBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.extend(id, body.ttl(), key).await?;
    Ok(Answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/ship`
pub(crate) async fn ship(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    JsonOrNone(body): JsonOrNone<OpenLinesBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.ship(id, body.lines()?, key).await?;
    Ok(Answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/cancel`
pub(crate) async fn cancel(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    JsonOrNone(body): JsonOrNone<OpenLinesBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.cancel(id, body.lines()?, key).await?;
    Ok(Answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/revoke`
pub(crate) async fn revoke(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    Json(body): Json<RevokeBody>,
) -> Result<Answer, Problem> {
    let asked = Asked::now();
    let settled = engine.revoke(id, body.reason(), key).await?;
    Ok(Answer::settled(&settled, asked))
}
