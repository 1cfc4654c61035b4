//! What success looks like.

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::Response,
};
use stockhold::{Placed, PolicySet, Settled, StockMoved};

use crate::wire::{self, Asked};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The answer to a place.
pub(crate) fn placed(placed: &Placed, asked: Asked) -> Response {
    let mut response = fresh(placed.replayed, wire::hold(&placed.hold, false, asked));
    let location = format!("/v1/holds/{}", placed.hold.hold.id);
    // A UUID has nothing that a header could not carry.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The answer to every other verb on a hold.
pub(crate) fn settled(settled: &Settled, asked: Asked) -> Response {
    let body = wire::hold(&settled.hold, settled.reacquired, asked);
    if settled.replayed { replayed(body) } else { ok(body) }
}

/// The answer to an adjustment.
pub(crate) fn moved(moved: &StockMoved, asked: Asked) -> Response {
    fresh(moved.replayed, wire::moved(moved, asked))
}

/// The answer to a policy.
pub(crate) fn policy_set(set: &PolicySet, asked: Asked) -> Response {
    let body = wire::stock(&set.item, asked);
    if set.created { json(StatusCode::CREATED, body) } else { ok(body) }
}

/// The answer to a read.
pub(crate) fn ok(body: Vec<u8>) -> Response {
    json(StatusCode::OK, body)
}

/// Something was made, if not by an earlier request with the same key.
fn fresh(is_replayed: bool, body: Vec<u8>) -> Response {
    if is_replayed { replayed(body) } else { json(StatusCode::CREATED, body) }
}

fn replayed(body: Vec<u8>) -> Response {
    let mut response = ok(body);
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
