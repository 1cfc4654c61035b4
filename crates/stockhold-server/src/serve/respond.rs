//! Answers one request: who asks, where it leads, and what is noted of it.

use std::{
    any::Any,
    convert::Infallible,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
    response::{IntoResponse, Response},
};
use stockhold::{
    Engine, Failure, FailureKind,
    clock::{Clock, SystemClock},
    crash::Point,
};
use tower_service::Service;
use tracing::{Instrument, error, info, info_span};

use super::{
    guard::Guard,
    lingering::{self, Lingering},
    request_id::{self, RequestIds},
    tls::Tls,
};
use crate::{
    access::{Keys, Visit},
    extract::Bounds,
    metrics::Metrics,
    problem, routes, settings,
};

pub(super) struct Responder {
    router: Router,
    guard: Guard,
    keys: Keys,
    listens_on: IpAddr,
    request_ids: RequestIds,
    bounds: Bounds,
    metrics: Arc<Metrics>,
}

impl Responder {
    pub(super) fn new(
        engine: Engine,
        keys: Keys,
        settings: &settings::Server,
        address: SocketAddr,
        tls: Option<&Tls>,
    ) -> Self {
        let metrics = Arc::new(Metrics::of(&engine));
        Self {
            router: routes::router(engine, Arc::clone(&metrics)),
            guard: Guard::of(address, tls),
            keys,
            listens_on: address.ip(),
            request_ids: RequestIds::default(),
            bounds: Bounds::of(settings),
            metrics,
        }
    }

    pub(super) async fn respond(
        &self,
        request: Request<impl lingering::Body>,
    ) -> Result<Response, Infallible> {
        let (begun, request_id) = (SystemClock.boot(), self.request_ids.of(request.headers()));
        let span = info_span!("request", request_id = request_id.to_str().unwrap_or_default());
        let granted = self.keys.who(request.headers(), self.listens_on);
        let visit = Arc::new(Visit::new(granted, self.bounds, request_id.clone()));
        let answering = self.answer(request, Arc::clone(&visit));
        let mut response = answering.instrument(span.clone()).await;
        span.in_scope(|| {
            problem::finish(&mut response, &request_id);
            self.note(&visit, response.status(), SystemClock.boot().saturating_sub(begun));
        });
        response.headers_mut().insert(request_id::HEADER, request_id);
        Ok(response)
    }

    async fn answer(&self, request: Request<impl lingering::Body>, visit: Arc<Visit>) -> Response {
        let mut request = Lingering::of(request);
        if let Err(problem) = self.guard.check(&request) {
            return problem.into_response();
        }
        request.extensions_mut().insert(visit);
        self.route(request).await
    }

    async fn route(&self, request: Request<Lingering<impl lingering::Body>>) -> Response {
        let mut router = self.router.clone();
        let is_post = request.method() == Method::POST;
        let answer = unless_panic(async move { router.call(request.map(Body::new)).await }).await;
        if is_post {
            Point::BeforeReply.pass();
        }
        match answer {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => panicked(&*panic),
        }
    }

    /// The line in the log, and the number in the metrics.
    fn note(&self, visit: &Visit, status: StatusCode, took: Duration) {
        let (route, took_us) = (visit.route(), u64::try_from(took.as_micros()).ok());
        let (code, key) = (status.as_u16(), visit.key_name());
        info!(target: "stockhold::access", %route, status = code, took_us, key, "answered");
        self.metrics.answered(route, status, took);
    }
}

/// Runs a future; if it panics, that is its result.
async fn unless_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // After a panic the future is dropped and never polled again, so nobody sees it broken.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("a handler panicked: {}", words.unwrap_or("without words"));
    error!(message);
    let failure = Failure::new(FailureKind::Internal, message);
    problem::Problem::from(stockhold::Error::from(failure)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_problem() {
        let panic = unless_panic(async { panic!("at the disco") }).await;
        let panic: Result<(), _> = panic;
        let response = panicked(&*panic.unwrap_err());
        assert_eq!(response.status().as_u16(), 500);
    }
}
