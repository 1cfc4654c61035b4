//! The verbs on locks. Whoever has one keeps its token; nothing of it is kept here.

use axum::extract::State;
use stockhold::{
    Engine,
    lock::{LockError, Released},
};

use crate::{
    answer::Answer,
    extract::{Json, LockInPath, LockToTake, NoKey, Query},
    problem::Problem,
    wire::{self, AcquireBody, LockQuery, ReleaseLockBody, RenewBody},
};

/// `POST /v1/locks/{name}`
pub(crate) async fn acquire(
    State(engine): State<Engine>,
    LockToTake(name): LockToTake,
    NoKey: NoKey,
    Json(body): Json<AcquireBody>,
) -> Result<Answer, Problem> {
    let (token, ttl, patience) = body.asked();
    let granted = engine.locks().acquire_as(&token, &name, ttl, patience).await;
    let granted = granted.map_err(|error| Problem::of_lock(&name, error))?;
    Ok(Answer::ok(wire::lease(&name, &granted)))
}

/// `POST /v1/locks/{name}/renew`
pub(crate) async fn renew(
    State(engine): State<Engine>,
    LockInPath(name): LockInPath,
    NoKey: NoKey,
    Json(body): Json<RenewBody>,
) -> Result<Answer, Problem> {
    let (token, ttl) = body.asked();
    let renewed = engine.locks().backend().renew(&name, &token, ttl).await;
    renewed.map_err(|error| Problem::of_lock(&name, error))?;
    Ok(Answer::ok(wire::renewed(&name, ttl)))
}

/// `POST /v1/locks/{name}/release`
pub(crate) async fn release(
    State(engine): State<Engine>,
    LockInPath(name): LockInPath,
    NoKey: NoKey,
    Json(body): Json<ReleaseLockBody>,
) -> Result<Answer, Problem> {
    let released = engine.locks().backend().release(&name, &body.token()).await;
    match released.map_err(|error| Problem::of_lock(&name, error))? {
        Released::Clean => Ok(Answer::ok(wire::released(&name))),
        Released::Expired | Released::Superseded | Released::Unknown => {
            Err(Problem::of_lock(&name, LockError::Lost))
        }
    }
}

/// `GET /v1/locks/{name}`
pub(crate) async fn read(
    State(engine): State<Engine>,
    LockInPath(name): LockInPath,
) -> Result<Answer, Problem> {
    let held = engine.locks().backend().inspect(&name).await;
    let held = held.map_err(|error| Problem::of_lock(&name, error))?;
    held.map_or_else(|| Err(Problem::lock_is_free(&name)), |held| Ok(Answer::ok(wire::held(&held))))
}

/// `GET /v1/locks`
pub(crate) async fn list(
    State(engine): State<Engine>,
    Query(query): Query<LockQuery>,
) -> Result<Answer, Problem> {
    let LockQuery { prefix, after, limit } = query;
    // One more tells whether there is another page.
    let held =
        engine.locks().backend().list(&prefix, after.as_ref(), limit.saturating_add(1)).await;
    Ok(Answer::ok(wire::lock_page(held.map_err(Problem::of_locks)?, limit)))
}
