//! What success looks like.

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use stockhold::{HoldId, HoldView, Placed, PolicySet, Settled, StockMoved, StockView, Told};

use crate::wire::{self, Asked, Dependency};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An answer that says what was asked for, or done.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// It was done by an earlier request with the same key.
    replayed: bool,
    /// The hold that was placed.
    placed: Option<HoldId>,
}

impl Answer {
    /// To a place.
    pub(crate) fn placed(placed: &Placed, asked: Asked) -> Self {
        let body = wire::hold(&placed.hold, false, asked);
        let id = Some(placed.hold.hold.id);
        Self { placed: id, ..Self::fresh(placed.replayed, body) }
    }

    /// To every other verb on a hold.
    pub(crate) fn settled(settled: &Settled, asked: Asked) -> Self {
        let body = wire::hold(&settled.hold, settled.reacquired, asked);
        Self { replayed: settled.replayed, ..Self::ok(body) }
    }

    /// To an adjustment.
    pub(crate) fn moved(moved: &StockMoved, asked: Asked) -> Self {
        Self::fresh(moved.replayed, wire::moved(moved, asked))
    }

    /// To a policy.
    pub(crate) fn policy_set(set: &PolicySet, asked: Asked) -> Self {
        let status = if set.created { StatusCode::CREATED } else { StatusCode::OK };
        Self { status, ..Self::stock(&set.item, asked) }
    }

    /// A hold as it is.
    pub(crate) fn hold(view: &HoldView, asked: Asked) -> Self {
        Self::ok(wire::hold(view, false, asked))
    }

    /// A stock item as it is.
    pub(crate) fn stock(view: &StockView, asked: Asked) -> Self {
        Self::ok(wire::stock(view, asked))
    }

    /// A copy of a stock item.
    pub(crate) fn copy_of_stock(view: &StockView, told: Told) -> Self {
        Self::ok(wire::copy_of_stock(view, told))
    }

    /// How the server is.
    pub(crate) fn health(status: &str, dependencies: &[Dependency<'_>]) -> Self {
        Self::ok(wire::health(status, dependencies))
    }

    /// JSON that was asked for.
    pub(crate) const fn ok(body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, body, replayed: false, placed: None }
    }

    /// Something was made, if not by an earlier request with the same key.
    const fn fresh(replayed: bool, body: Vec<u8>) -> Self {
        let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
        Self { status, body, replayed, placed: None }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.replayed {
            headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        let location = self.placed.map(|id| HeaderValue::try_from(format!("/v1/holds/{id}")));
        // A UUID has nothing that a header could not carry.
        if let Some(Ok(location)) = location {
            headers.insert(LOCATION, location);
        }
        response
    }
}
