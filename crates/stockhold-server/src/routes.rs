//! Which path and method leads where.

use axum::{
    Router,
    routing::{get, post},
};
use stockhold::Engine;

use crate::{
    health, holds,
    problem::{self, Kind, Problem},
    stock,
};

/// Everything that can be asked.
pub(crate) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/v1/holds", post(holds::place))
        .route("/v1/holds/{id}", get(holds::read))
        .route("/v1/holds/{id}/confirm", post(holds::confirm))
        .route("/v1/holds/{id}/release", post(holds::release))
        .route("/v1/holds/{id}/extend", post(holds::extend))
        .route("/v1/stock/{sku}", get(stock::read).put(stock::set_policy))
        .route("/v1/stock/{sku}/adjustments", post(stock::adjust))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/problems/{name}", get(problem::page))
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(engine)
}

async fn no_route() -> Problem {
    Problem::new(Kind::NoRoute, "there is nothing at this path")
}

/// The header `Allow` is added by the router.
async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "the path has no such method; the header Allow names them")
}
