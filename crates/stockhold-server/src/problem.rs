//! Every error that leaves the server: RFC 9457, from one table.
//!
//! This is the only file that knows the status of an error. What went wrong inside is logged, and
//! never sent.

mod body;

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
use stockhold::{Error, Failure, FailureKind, Rejection};
use tracing::{debug, error, warn};

pub(crate) use self::body::{Confirmed, ItemName, Short};
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
    Position { line: usize, column: usize },
    Dependency { name: &'static str, state: &'static str },
    Scope(Scope),
    Rejection(Box<Rejection>),
}

/// What all problems of a kind have in common.
struct Row {
    status: StatusCode,
    code: &'static str,
    path: &'static str,
    title: &'static str,
    cure: &'static str,
}

macro_rules! problems {
    ($($kind:ident, $status:ident, $code:literal, $path:literal, $title:literal, $cure:literal;)+) => {
        /// The sorts of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($kind),+
        }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$kind),+];

            const fn row(self) -> &'static Row {
                match self {
                    $(Self::$kind => &Row {
                        status: StatusCode::$status,
                        code: $code,
                        path: concat!("/problems/", $path),
                        title: $title,
                        cure: $cure,
                    }),+
                }
            }
        }
    };
}

problems! {
    InvalidJson, BAD_REQUEST, "invalid_json", "invalid-json", "The body is not JSON",
        "Send one JSON object in UTF-8; line and column say where reading stopped.";
    InvalidField, BAD_REQUEST, "invalid_field", "invalid-field", "A field is not what it must be",
        "Correct what `field` names; the detail says what it must be.";
    IdempotencyKeyRequired, BAD_REQUEST, "idempotency_key_required", "idempotency-key-required",
        "An idempotency key is needed",
        "Send a header Idempotency-Key with a value of your own, and the same one again with every retry of this request.";
    TooManyLines, BAD_REQUEST, "too_many_lines", "too-many-lines", "Too many lines",
        "Split the basket, or have the limit raised.";
    QuantityTooLarge, BAD_REQUEST, "quantity_too_large", "quantity-too-large", "Too many units in a line",
        "Ask for fewer units, or have the limit raised.";
    QuantityTooSmall, BAD_REQUEST, "quantity_too_small", "quantity-too-small", "Too few units",
        "Ask for at least the least number that is given.";
    OutOfRange, BAD_REQUEST, "out_of_range", "out-of-range", "A quantity would leave its range",
        "Quantities go from -(2^53 - 1) to 2^53 - 1, also those of the item afterwards.";
    Unauthorized, UNAUTHORIZED, "unauthorized", "unauthorized", "A key is needed",
        "Send the header Authorization: Bearer KEY. Who runs the server makes keys with `stockhold key new`.";
    Forbidden, FORBIDDEN, "forbidden", "forbidden", "The key may not do this",
        "Take a key that has the scope that is given, or have it added to this one in the settings of the server.";
    HostNotAllowed, FORBIDDEN, "host_not_allowed", "host-not-allowed", "The host is not allowed",
        "A server without keys answers only who calls it by a loopback name, for example http://127.0.0.1:7300, and no web page of another origin.";
    NoRoute, NOT_FOUND, "no_route", "no-route", "There is nothing at this path",
        "Look the path up in the documentation of the API.";
    NotFound, NOT_FOUND, "not_found", "not-found", "There is no such hold",
        "Check the id. A hold that was never answered with success does not exist.";
    UnknownSku, NOT_FOUND, "unknown_sku", "unknown-sku", "Not a known stock item",
        "Create the item with PUT /v1/stock/{sku}, and mind its location.";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", "method-not-allowed", "The path has no such method",
        "Use one of the methods that the header Allow names.";
    NotAcceptable, NOT_ACCEPTABLE, "not_acceptable", "not-acceptable", "The answer would not be accepted",
        "Accept application/json.";
    RequestTimeout, REQUEST_TIMEOUT, "request_timeout", "request-timeout", "The body came too slowly",
        "Send the whole body in the time that the detail says.";
    InsufficientStock, CONFLICT, "insufficient_stock", "insufficient-stock", "Not enough stock",
        "Ask for fewer units, or try again after next_due_at, when a hold may have died.";
    AlreadyConfirmed, CONFLICT, "already_confirmed", "already-confirmed", "The hold is already confirmed",
        "What was confirmed stands in the answer. To give units back, cancel.";
    AlreadyReleased, CONFLICT, "already_released", "already-released", "The hold is already released",
        "Place a new hold.";
    Revoked, CONFLICT, "revoked", "revoked", "The hold was revoked",
        "An operator took the units away. Place a new hold.";
    AlreadyCancelled, CONFLICT, "already_cancelled", "already-cancelled", "The hold is already cancelled",
        "Place a new hold.";
    AlreadyShipped, CONFLICT, "already_shipped", "already-shipped", "The hold is already shipped",
        "Units that left the house come back by a receive.";
    NotConfirmed, CONFLICT, "not_confirmed", "not-confirmed", "The hold is not confirmed",
        "Confirm it first.";
    NothingOpen, CONFLICT, "nothing_open", "nothing-open", "Nothing of the hold is open",
        "All its units are shipped or cancelled already.";
    MaxLifetime, CONFLICT, "max_lifetime", "max-lifetime", "The hold cannot live any longer",
        "Confirm it before its deadline, or place a new hold.";
    AlreadyExists, CONFLICT, "already_exists", "already-exists", "The item exists with other quantities",
        "Leave on_hand out, and change it with an adjustment; a list of what was counted is loaded with mode=count.";
    WouldGoBelow, CONFLICT, "would_go_below", "would-go-below", "Less would be left than may be",
        "Take fewer units away, or count what is there.";
    OnHandDiffers, CONFLICT, "on_hand_differs", "on-hand-differs", "The item has another number on hand",
        "Something moved meanwhile: count again.";
    HoldEnded, GONE, "hold_ended", "hold-ended", "The hold of this key has ended",
        "The hold stands in the answer. Place a new one under a new key.";
    HoldExpired, GONE, "hold_expired", "hold-expired", "The hold has expired",
        "Place a new hold; if it is paid already, confirm with on_expired: rehold.";
    BodyTooLarge, PAYLOAD_TOO_LARGE, "body_too_large", "body-too-large", "The body is too large",
        "Send at most as many bytes as the detail says.";
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "unsupported-media-type", "The body is of another media type",
        "Send the header Content-Type with a media type that the path takes: application/json, or that of a list of stock.";
    NotInHold, UNPROCESSABLE_ENTITY, "not_in_hold", "not-in-hold", "The hold has no such line",
        "Name only items of the hold, and mind their location.";
    MoreThanHeld, UNPROCESSABLE_ENTITY, "more_than_held", "more-than-held", "More than is held",
        "Confirm at most the units that are held.";
    MoreThanOpen, UNPROCESSABLE_ENTITY, "more_than_open", "more-than-open", "More than is open",
        "Ship or cancel at most the units that are open.";
    IdempotencyKeyReused, UNPROCESSABLE_ENTITY, "idempotency_key_reused", "idempotency-key-reused", "The idempotency key was used for another request",
        "A key belongs to one request. Take a new key for a new request, and repeat a request without any change.";
    Overloaded, TOO_MANY_REQUESTS, "overloaded", "overloaded", "Too much is waiting already",
        "Nothing was done. Try again after Retry-After.";
    Internal, INTERNAL_SERVER_ERROR, "internal", "internal", "Something is wrong inside",
        "Do not repeat the request. The log of the server says more under the request_id.";
    Unavailable, SERVICE_UNAVAILABLE, "unavailable", "unavailable", "The service is not available",
        "Try again after Retry-After, with the same idempotency key.";
}

impl Kind {
    pub(crate) const fn status(self) -> StatusCode {
        self.row().status
    }

    /// The stable word for it.
    pub(crate) const fn code(self) -> &'static str {
        self.row().code
    }

    /// Where its page is.
    pub(crate) const fn path(self) -> &'static str {
        self.row().path
    }

    pub(crate) const fn title(self) -> &'static str {
        self.row().title
    }

    /// What to do about it.
    pub(crate) const fn cure(self) -> &'static str {
        self.row().cure
    }
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

    fn rejected(rejection: Box<Rejection>) -> Self {
        let kind = kind_of_rejection(&rejection);
        let detail = match kind {
            Kind::Internal => Cow::Borrowed(LOOK_INTO_THE_LOG),
            _ => rejection.to_string().into(),
        };
        let mut problem = Self::new(kind, detail);
        problem.0.field = field_of(&rejection).map(Cow::Borrowed);
        problem.0.numbers = Numbers::Rejection(rejection);
        problem
    }

    fn failed(failure: Failure) -> Self {
        let (kind, detail) = match failure.kind {
            FailureKind::Overloaded => {
                (Kind::Overloaded, "too many commands are waiting; nothing was done")
            }
            FailureKind::Unavailable => {
                (Kind::Unavailable, "the ledger did not answer, or not whether it was done")
            }
            FailureKind::Closed => (Kind::Unavailable, "the server is shutting down"),
            FailureKind::Internal
            | FailureKind::InUse
            | FailureKind::Incompatible
            | FailureKind::Invalid => (Kind::Internal, LOOK_INTO_THE_LOG),
        };
        Self::new(kind, detail).caused_by(failure)
    }
}

const LOOK_INTO_THE_LOG: &str = "the request met a fault of the server";

/// The least that `Retry-After` says where it is due: it has whole seconds only.
const RETRY_AFTER_LEAST: Duration = Duration::from_secs(1);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => Self::rejected(rejection),
            Error::Failed(failure) => Self::failed(failure),
        }
    }
}

const fn kind_of_rejection(rejection: &Rejection) -> Kind {
    match rejection {
        Rejection::NotFound { .. } => Kind::NotFound,
        Rejection::UnknownSku { .. } => Kind::UnknownSku,
        Rejection::InsufficientStock { .. } => Kind::InsufficientStock,
        Rejection::HoldEnded { .. } => Kind::HoldEnded,
        Rejection::HoldExpired { .. } => Kind::HoldExpired,
        Rejection::AlreadyConfirmed { .. } => Kind::AlreadyConfirmed,
        Rejection::AlreadyReleased { .. } => Kind::AlreadyReleased,
        Rejection::Revoked { .. } => Kind::Revoked,
        Rejection::AlreadyCancelled { .. } => Kind::AlreadyCancelled,
        Rejection::AlreadyShipped { .. } => Kind::AlreadyShipped,
        Rejection::NotConfirmed { .. } => Kind::NotConfirmed,
        Rejection::NothingOpen { .. } => Kind::NothingOpen,
        Rejection::MaxLifetime { .. } => Kind::MaxLifetime,
        Rejection::NotInHold { .. } => Kind::NotInHold,
        Rejection::MoreThanHeld { .. } => Kind::MoreThanHeld,
        Rejection::MoreThanOpen { .. } => Kind::MoreThanOpen,
        Rejection::IdempotencyKeyReused => Kind::IdempotencyKeyReused,
        Rejection::IdempotencyKeyRequired { .. } => Kind::IdempotencyKeyRequired,
        Rejection::AlreadyExists { .. } => Kind::AlreadyExists,
        Rejection::WouldGoBelow { .. } => Kind::WouldGoBelow,
        Rejection::OnHandDiffers { .. } => Kind::OnHandDiffers,
        Rejection::TooManyLines { .. } => Kind::TooManyLines,
        Rejection::QuantityTooLarge { .. } => Kind::QuantityTooLarge,
        Rejection::QuantityTooSmall { .. } => Kind::QuantityTooSmall,
        Rejection::OutOfRange => Kind::OutOfRange,
        Rejection::Damaged { .. } => Kind::Internal,
    }
}

/// The field of the request that a malformed one has to mend.
fn field_of(rejection: &Rejection) -> Option<&'static str> {
    match rejection {
        Rejection::TooManyLines { .. } | Rejection::QuantityTooLarge { .. } => Some("lines"),
        Rejection::QuantityTooSmall { field, .. } => Some(field),
        Rejection::IdempotencyKeyRequired { .. } => Some("Idempotency-Key"),
        _ => None,
    }
}

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
        if self.kind == Kind::Internal {
            error!(request_id, cause = ?self.cause, numbers = ?self.numbers, "{}", self.detail);
        } else if self.kind == Kind::Overloaded {
            // There are thousands of them a second; the metrics count them.
            debug!(request_id, cause = ?self.cause, "{}", self.detail);
        } else if let Some(cause) = &self.cause {
            warn!(request_id, ?cause, "{}", self.detail);
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

#[cfg(test)]
mod tests {
    use stockhold::HoldId;

    use super::*;

    #[test]
    fn the_path_of_a_problem_is_its_code() {
        for kind in Kind::ALL {
            let Row { code, path, .. } = kind.row();
            assert_eq!(*path, format!("/problems/{}", code.replace('_', "-")));
        }
    }

    #[test]
    fn no_two_problems_share_a_code() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.row().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn a_rejection_keeps_its_code() {
        let id = HoldId::from_bytes([0; 16]);
        let rejections = [
            Rejection::NotFound { id },
            Rejection::InsufficientStock { lines: vec![], of: 1 },
            Rejection::HoldExpired { id, lines: vec![] },
            Rejection::AlreadyReleased { id },
            Rejection::Revoked { id },
            Rejection::AlreadyCancelled { id },
            Rejection::AlreadyShipped { id },
            Rejection::NothingOpen { id },
            Rejection::IdempotencyKeyReused,
            Rejection::IdempotencyKeyRequired { verb: "receive" },
            Rejection::OutOfRange,
            Rejection::Damaged { what: String::new() },
        ];
        for rejection in rejections {
            assert_eq!(kind_of_rejection(&rejection).row().code, rejection.code());
        }
    }

    #[test]
    fn what_is_damaged_is_not_told() {
        let damaged = Rejection::Damaged { what: "SELECT secret FROM /var/lib/x.db".into() };
        let text = body::write(&Problem::from(Error::from(damaged)).0, "r1");
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("secret") && text.contains("\"internal\""), "{text}");
    }

    #[test]
    fn what_failed_is_not_told() {
        use FailureKind::{
            Closed, InUse, Incompatible, Internal, Invalid, Overloaded, Unavailable,
        };
        for (kind, status) in [
            (Overloaded, 429),
            (Unavailable, 503),
            (Closed, 503),
            (Internal, 500),
            (InUse, 500),
            (Incompatible, 500),
            (Invalid, 500),
        ] {
            let failure = Failure::new(kind, "secret").caused_by("secret");
            let problem = Problem::from(Error::from(failure));
            assert_eq!(problem.0.kind.row().status, status);
            let text = String::from_utf8(body::write(&problem.0, "r1")).unwrap();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let mut failure = Failure::new(FailureKind::Overloaded, "");
        failure.retry_after = Some(Duration::from_millis(1_200));
        assert_eq!(Problem::failed(failure).0.retry_seconds(), Some(2));
    }
}
