//! Every error that leaves the server: RFC 9457, from one table.
//!
//! | file | what it does |
//! |---|---|
//! | `problem/kind.rs` | the table; the only file that knows the status of an error |
//! | `problem/of_error.rs` | what the engine says, as a problem |
//! | `problem/body.rs` | the JSON of a problem |

mod body;
mod kind;
mod of_error;

use std::{borrow::Cow, fmt::Write, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use stockhold::{Failure, LockName, Rejection, Timestamp};
use tracing::{debug, error, field::display, warn};

use self::kind::Row;
pub(crate) use self::{
    body::{Confirmed, ItemName, Short},
    kind::Kind,
};
use crate::access::Scope;

/// Why a request is not answered with success.
///
/// As a response it is not yet written: [`finish`] does that, because only there the id of the
/// request is known.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    numbers: Numbers,
    retry_after: Option<Duration>,
    /// For the log only.
    cause: Option<Arc<Failure>>,
}

/// What a problem says besides what all of them say.
#[derive(Clone, Debug)]
enum Numbers {
    None,
    Position {
        line: usize,
        column: usize,
    },
    Dependency {
        name: &'static str,
        state: &'static str,
    },
    Scope(Scope),
    Rejection(Box<Rejection>),
    /// And of which moment the copies were by which it was refused.
    ByCopy(Box<Rejection>, Timestamp),
    Lock(LockName),
    BusyLock(LockName, Duration),
}

impl Problem {
    /// A problem of this kind that names no field.
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let (detail, numbers) = (detail.into(), Numbers::None);
        let inner = Inner { kind, detail, field: None, numbers, retry_after: None, cause: None };
        Self(Box::new(inner))
    }

    /// A part of the request that is not what it must be; the fault goes on after its name.
    pub(crate) fn field(
        field: impl Into<Cow<'static, str>>,
        fault: impl std::fmt::Display,
    ) -> Self {
        let field = field.into();
        Self::new(Kind::InvalidField, format!("{field} {fault}")).or_field(field)
    }

    /// Names a field, if none is named yet.
    pub(crate) fn or_field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field.get_or_insert_with(|| field.into());
        self
    }

    /// Says where in the body reading stopped.
    pub(crate) fn at(mut self, line: usize, column: usize) -> Self {
        self.0.numbers = Numbers::Position { line, column };
        self
    }

    /// Says what the server stands on, and how that is.
    pub(crate) fn dependency(mut self, name: &'static str, state: &'static str) -> Self {
        self.0.numbers = Numbers::Dependency { name, state };
        self
    }

    /// Names the scope that the caller's key lacks.
    pub(crate) fn scope(mut self, scope: Scope) -> Self {
        self.0.numbers = Numbers::Scope(scope);
        self
    }

    /// Keeps a failure for the log.
    pub(crate) fn caused_by(mut self, failure: Failure) -> Self {
        self.0.retry_after = failure.retry_after;
        self.0.cause = Some(Arc::new(failure));
        self
    }

    /// Names the field that takes a quantity out of its range: the rules cannot know its name.
    pub(crate) fn out_of_range(self, field: &'static str) -> Self {
        if self.0.kind == Kind::OutOfRange { self.or_field(field) } else { self }
    }

    /// The same of an item of a batch: its fields are those of the item.
    pub(crate) fn within(mut self, index: usize) -> Self {
        let Some(field) = self.0.field.take() else { return self };
        let field = if field == "Idempotency-Key" { "idempotency_key".into() } else { field };
        let inside = match &*field {
            "body" => format!("items[{index}]"),
            field => format!("items[{index}].{field}"),
        };
        if let Some(fault) = self.0.detail.strip_prefix(&*field) {
            self.0.detail = format!("{inside}{fault}").into();
        }
        self.0.field = Some(inside.into());
        self
    }

    /// Code, detail and field, for an answer that has many of them.
    pub(crate) fn told(&self) -> (&'static str, &str, Option<&str>) {
        (self.0.kind.code(), &self.0.detail, self.0.field.as_deref())
    }

    /// Status and body, for an answer that has many of them.
    pub(crate) fn written(self, request_id: &HeaderValue) -> (StatusCode, Vec<u8>) {
        let request_id = request_id.to_str().unwrap_or_default();
        self.0.log(request_id);
        (self.0.kind.row().status, body::write(&self.0, request_id))
    }
}

/// The least that `Retry-After` says where it is due: it has whole seconds only.
const RETRY_AFTER_LEAST: Duration = Duration::from_secs(1);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.kind.row().status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the problem that a response may carry, with the id of its request.
pub(crate) fn finish(response: &mut Response, request_id: &HeaderValue) {
    let Some(Problem(problem)) = response.extensions_mut().remove::<Problem>() else { return };
    let request_id = request_id.to_str().unwrap_or_default();
    problem.log(request_id);
    *response.body_mut() = Body::from(body::write(&problem, request_id));
    let headers = response.headers_mut();
    // The router has measured the body that was not there yet.
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if problem.kind == Kind::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_seconds() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
}

impl Inner {
    fn log(&self, request_id: &str) {
        let cause = self.cause.as_ref().map(|failure| display(failure.chain()));
        if self.kind == Kind::Internal {
            error!(request_id, cause, numbers = ?self.numbers, "{}", self.detail);
        } else if self.kind == Kind::Overloaded {
            // There are thousands of them a second; the metrics count them.
            debug!(request_id, cause, "{}", self.detail);
        } else if cause.is_some() {
            warn!(request_id, cause, "{}", self.detail);
        }
    }

    fn retry_seconds(&self) -> Option<u64> {
        let status = self.kind.row().status;
        let due = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let wait = self.retry_after.unwrap_or_default().max(RETRY_AFTER_LEAST);
        due.contains(&status).then(|| wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1))
    }
}

/// `GET /problems/{name}`: a short page on a problem and its cure.
pub(crate) async fn page(name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let named = |kind: &Kind| kind.row().path.strip_prefix("/problems/") == Some(name.as_str());
    let Some(kind) = Kind::ALL.iter().copied().find(named) else {
        return Err(Problem::new(Kind::NoRoute, "there is no problem of this name"));
    };
    let Row { status, code, title, cure, .. } = kind.row();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{title}\n\ncode:   {code}\nstatus: {status}\n\n{cure}");
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// What helps against the problems of this code.
pub(crate) fn cure(code: &str) -> Option<&'static str> {
    let rows = Kind::ALL.iter().map(|kind| kind.row());
    rows.filter(|row| row.code == code).map(|row| row.cure).next()
}

#[cfg(test)]
mod tests {
    use stockhold::{Error, FailureKind};

    use super::*;

    #[test]
    fn retry_after_is_rounded_up() {
        let mut failure = Failure::new(FailureKind::Overloaded, "");
        failure.retry_after = Some(Duration::from_millis(1_200));
        assert_eq!(Problem::from(Error::from(failure)).0.retry_seconds(), Some(2));
    }
}
