//! The verbs on holds.

use axum::{extract::State, response::Response};
use stockhold::Engine;

use crate::{
    answer,
    extract::{HoldInPath, JsonBody, JsonBodyOrNone, Key, NoQuery},
    problem::Problem,
    wire::{self, Asked},
};

/// `POST /v1/holds`
pub(crate) async fn place(
    State(engine): State<Engine>,
    NoQuery: NoQuery,
    Key(key): Key,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let (asked, request) = (Asked::now(), wire::place_request(&body, key)?);
    let placed = engine.place(request).await?;
    Ok(answer::placed(&placed, asked))
}

/// `GET /v1/holds/{id}`
pub(crate) async fn read(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
) -> Result<Response, Problem> {
    let asked = Asked::now();
    let view = engine.hold(id).await?;
    Ok(answer::ok(wire::hold(&view, false, asked)))
}

/// `POST /v1/holds/{id}/confirm`
pub(crate) async fn confirm(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    body: JsonBodyOrNone,
) -> Result<Response, Problem> {
    let (asked, request) = (Asked::now(), wire::confirm_request(body.bytes(), key)?);
    let settled = engine.confirm(id, request).await?;
    Ok(answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/release`
pub(crate) async fn release(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    body: JsonBodyOrNone,
) -> Result<Response, Problem> {
    let (asked, reason) = (Asked::now(), wire::release_reason(body.bytes())?);
    let settled = engine.release(id, reason, key).await?;
    Ok(answer::settled(&settled, asked))
}

/// `POST /v1/holds/{id}/extend`
pub(crate) async fn extend(
    State(engine): State<Engine>,
    HoldInPath(id): HoldInPath,
    Key(key): Key,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let (asked, ttl) = (Asked::now(), wire::extend_ttl(&body)?);
    let settled = engine.extend(id, ttl, key).await?;
    Ok(answer::settled(&settled, asked))
}
