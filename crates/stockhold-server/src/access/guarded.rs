//! A handler behind its scope, without a box around its future: this is on the way of every
//! request.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    handler::Handler,
    http::{HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};

use super::{Granted, Need};
use crate::{
    extract::Bounds,
    metrics::Route,
    problem::{Kind, Problem},
};

/// What is known of a request besides itself; in its extensions.
#[derive(Debug)]
pub(crate) struct Visit {
    granted: Granted,
    bounds: Bounds,
    request_id: HeaderValue,
    route: OnceLock<Route>,
}

impl Visit {
    pub(crate) const fn new(granted: Granted, bounds: Bounds, request_id: HeaderValue) -> Self {
        Self { granted, bounds, request_id, route: OnceLock::new() }
    }

    /// Its name in the log and in problems.
    pub(crate) const fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// How much it may send.
    pub(crate) const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Where it was led to.
    pub(crate) fn route(&self) -> Route {
        self.route.get().cloned().unwrap_or(Route::None)
    }

    /// The name of the caller's key.
    pub(crate) fn key_name(&self) -> Option<&str> {
        self.granted.key_name()
    }
}

/// A handler that is called only if the caller may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guarded<H> {
    need: Need,
    handler: H,
}

impl<H> Guarded<H> {
    pub(super) const fn new(need: Need, handler: H) -> Self {
        Self { need, handler }
    }
}

impl<H, T, S> Handler<T, S> for Guarded<H>
where
    H: Handler<T, S>,
    H::Future: Unpin,
    S: Send + Sync + 'static,
{
    type Future = Answer<H::Future>;

    fn call(self, request: Request, state: S) -> Self::Future {
        match enter(&request, self.need) {
            Ok(()) => Answer::Handler(self.handler.call(request, state)),
            Err(problem) => Answer::Refused(Some(problem)),
        }
    }
}

/// Notes where the request was led to, and asks whether it may go on.
fn enter(request: &Request, need: Need) -> Result<(), Problem> {
    let extensions = request.extensions();
    let visit = extensions.get::<Arc<Visit>>().ok_or_else(nobody_looked)?;
    if let Some(path) = extensions.get::<MatchedPath>() {
        // A request is led to one place only.
        let _ = visit.route.set(Route::Matched(request.method().clone(), path.clone()));
    }
    visit.granted.meets(need)
}

/// Who forgets to ask who it is lets nobody in.
fn nobody_looked() -> Problem {
    Problem::new(Kind::Unauthorized, "the request carries no key")
}

/// What a handler or its guard answers.
#[derive(Debug)]
pub(crate) enum Answer<F> {
    Handler(F),
    Refused(Option<Problem>),
}

impl<F: Future<Output = Response> + Unpin> Future for Answer<F> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        match &mut *self {
            Self::Handler(future) => Pin::new(future).poll(context),
            Self::Refused(problem) => match problem.take() {
                Some(problem) => Poll::Ready(problem.into_response()),
                None => Poll::Pending,
            },
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Granted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visit = parts.extensions.get::<Arc<Visit>>();
        visit.map(|visit| visit.granted.clone()).ok_or_else(nobody_looked)
    }
}
