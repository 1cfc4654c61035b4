//! Which path and method leads where, and what it takes to be let in.

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};
use stockhold::Engine;

use crate::{
    access::{Scope, open_at_home},
    health, holds,
    problem::{self, Kind, Problem},
    stock,
};

/// Everything that can be asked.
pub(crate) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/v1/holds", post(Scope::Holds.guards(holds::place)))
        .route("/v1/holds/{id}", get(Scope::Read.guards(holds::read)))
        .route("/v1/holds/{id}/confirm", post(Scope::Holds.guards(holds::confirm)))
        .route("/v1/holds/{id}/release", post(Scope::Holds.guards(holds::release)))
        .route("/v1/holds/{id}/extend", post(Scope::Holds.guards(holds::extend)))
        .route("/v1/stock/{sku}", stock_item())
        .route("/v1/stock/{sku}/adjustments", post(Scope::Stock.guards(stock::adjust)))
        .route("/livez", get(open_at_home(health::live)))
        .route("/readyz", get(open_at_home(health::ready)))
        .route("/problems/{name}", get(open_at_home(problem::page)))
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(engine)
}

fn stock_item() -> MethodRouter<Engine> {
    get(Scope::Read.guards(stock::read)).put(Scope::Stock.guards(stock::set_policy))
}

async fn no_route() -> Problem {
    Problem::new(Kind::NoRoute, "there is nothing at this path")
}

/// The header `Allow` is added by the router.
async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "the path has no such method; the header Allow names them")
}
