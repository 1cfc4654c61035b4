//! What the service counts, in the format that Prometheus reads.
//!
//! No label takes a text of a caller: a route is that of the table in `routes.rs`, and everything
//! that has none there is one.

use std::{
    fmt::{self, Write},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension,
    extract::MatchedPath,
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};
use stockhold::{Engine, Failure, FailureKind};

use crate::problem::Problem;

/// From a refusal out of memory to what nobody waits for any more, in seconds.
const BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: Route,
    status: u32,
}

/// A method and a path with names in place of what varies, or none of those there are.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    None,
    Matched(Method, MatchedPath),
}

impl Metrics {
    /// Those of the service, and those of its engine.
    pub(crate) fn of(engine: &Engine) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(BUCKETS);
        let requests = Family::new_with_constructor(buckets);
        let mut registry = Registry::default();
        let help = "Time from the head of a request to that of its answer";
        registry.register("stockhold_request_seconds", help, requests.clone());
        engine.metrics().register(&mut registry);
        Self { registry, requests }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: Route, status: StatusCode, took: Duration) {
        let request = Request { route, status: status.as_u16().into() };
        self.requests.get_or_create(&request).observe(took.as_secs_f64());
    }
}

/// `GET /metrics`
pub(crate) async fn page(Extension(metrics): Extension<Arc<Metrics>>) -> Result<Response, Problem> {
    let mut text = String::new();
    text::encode(&mut text, &metrics.registry).map_err(|e| {
        let failure = Failure::new(FailureKind::Internal, "the metrics cannot be written");
        Problem::from(stockhold::Error::from(failure.caused_by(e)))
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

impl Route {
    fn parts(&self) -> Option<(&Method, &str)> {
        match self {
            Self::None => None,
            Self::Matched(method, path) => Some((method, path.as_str())),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            None => f.write_str("none"),
            Some((method, path)) => write!(f, "{method} {path}"),
        }
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{self}")
    }
}
