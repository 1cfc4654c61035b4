//! Takes requests apart. Whatever is wrong becomes a problem that names it.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use stockhold::{HoldId, IdempotencyKey, ItemKey, Location, LockName, Sku};
use tokio::time::timeout;

use crate::{
    access::Visit,
    problem::{Kind, Problem},
    settings::{self, Settings},
    wire::{Freshness, FromQuery, ItemQuery, parse, refuse_query, word},
};

/// How large a body may be, and how long it may take to come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    most: usize,
    most_of_a_batch: usize,
    patience: Duration,
}

impl Bounds {
    pub(crate) fn of(settings: &settings::Server) -> Self {
        Self {
            most: settings.max_body.size(),
            most_of_a_batch: settings.max_batch_body.size(),
            patience: settings.body_timeout.get(),
        }
    }

    pub(crate) const fn patience(self) -> Duration {
        self.patience
    }

    const fn of_a_batch(self) -> Self {
        Self { most: self.most_of_a_batch, ..self }
    }

    /// Those of a request; one that did not come in by the service has the defaults.
    pub(crate) fn of_request(request: &Request) -> Self {
        static DEFAULT: LazyLock<Bounds> =
            LazyLock::new(|| Bounds::of(&Settings::default().server));
        let visit = request.extensions().get::<Arc<Visit>>();
        visit.map_or_else(|| *DEFAULT, |visit| visit.bounds())
    }
}

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The hold that the path names; such paths take no query.
pub(crate) struct HoldInPath(pub(crate) HoldId);

impl<S: Send + Sync> FromRequestParts<S> for HoldInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        refuse_query(&parts.uri)?;
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(word("id", &decoded("id", path)?)?))
    }
}

/// The lock that the path names; such paths take no query.
pub(crate) struct LockInPath(pub(crate) LockName);

impl<S: Send + Sync> FromRequestParts<S> for LockInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        refuse_query(&parts.uri)?;
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(word("name", &decoded("name", path)?)?))
    }
}

/// The same for whoever wants to have it. Under what is the servers' own they clear up, one at a time.
pub(crate) struct LockToTake(pub(crate) LockName);

impl<S: Send + Sync> FromRequestParts<S> for LockToTake {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        const OWN: &str = "stockhold/";
        let LockInPath(name) = LockInPath::from_request_parts(parts, state).await?;
        if name.as_str().starts_with(OWN) {
            return Err(Problem::field(
                "name",
                "must not begin with stockhold/: those are the servers' own",
            ));
        }
        Ok(Self(name))
    }
}

/// The item that path and query name, for a verb that changes it.
pub(crate) struct ItemToChange(pub(crate) ItemKey);

impl<S: Send + Sync> FromRequestParts<S> for ItemToChange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = ItemQuery::to_change(&parts.uri)?;
        Ok(Self(item(sku(parts, state).await?, query.location)))
    }
}

/// The item that path and query name, for a read; and how fresh the answer has to be.
pub(crate) struct ItemToRead(pub(crate) ItemKey, pub(crate) Freshness);

impl<S: Send + Sync> FromRequestParts<S> for ItemToRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let ItemQuery { location, freshness } = ItemQuery::to_read(&parts.uri)?;
        Ok(Self(item(sku(parts, state).await?, location), freshness))
    }
}

/// What the query says; of a path without names.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: FromQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        T::from_query(&parts.uri).map(Self)
    }
}

/// Nothing, from a path that takes no query.
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        refuse_query(&parts.uri).map(|()| Self)
    }
}

/// The client's own name for its request, if it sent one.
pub(crate) struct Key(pub(crate) Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(Problem::field("Idempotency-Key", "must be given once only"));
        }
        // Bytes that are no text are no visible ASCII either.
        let text = value.to_str().unwrap_or("\u{7f}");
        word("Idempotency-Key", text).map(|key| Self(Some(key)))
    }
}

/// Nothing, from a route that takes no key: the client would trust in vain in it.
pub(crate) struct NoKey;

impl<S: Sync> FromRequestParts<S> for NoKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if parts.headers.contains_key(IDEMPOTENCY_KEY) {
            return Err(Problem::field("Idempotency-Key", "is not taken here"));
        }
        Ok(Self)
    }
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        match content(request.headers()) {
            Content::Json => parse(&read(request).await?).map(Self),
            Content::None | Content::Other => Err(not_json()),
        }
    }
}

/// The JSON body of a batch, which may be larger than others.
pub(crate) struct BatchJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for BatchJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        match content(request.headers()) {
            Content::Json => {
                let bounds = Bounds::of_request(&request).of_a_batch();
                parse(&read_within(request, bounds).await?).map(Self)
            }
            Content::None | Content::Other => Err(not_json()),
        }
    }
}

/// The name of the request, for an answer that has problems in it.
pub(crate) struct RequestName(pub(crate) HeaderValue);

impl<S: Sync> FromRequestParts<S> for RequestName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visit = parts.extensions.get::<Arc<Visit>>();
        let name = visit.map(|visit| visit.request_id().clone());
        Ok(Self(name.unwrap_or_else(|| HeaderValue::from_static("none"))))
    }
}

/// A JSON body that may be left out.
pub(crate) struct JsonOrNone<T>(pub(crate) T);

impl<T: Default + DeserializeOwned, S: Sync> FromRequest<S> for JsonOrNone<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content = content(request.headers());
        if content == Content::Other {
            return Err(not_json());
        }
        let body = read(request).await?;
        match content {
            _ if body.is_empty() => Ok(Self(T::default())),
            Content::Json => parse(&body).map(Self),
            Content::None | Content::Other => Err(not_json()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Content {
    None,
    Json,
    Other,
}

fn content(headers: &HeaderMap) -> Content {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Content::None };
    if is(value, "application/json") { Content::Json } else { Content::Other }
}

fn not_json() -> Problem {
    wrong_media_type(["application/json"])
}

/// The body is none of what is taken.
pub(crate) fn wrong_media_type<const N: usize>(taken: [&str; N]) -> Problem {
    let detail = format!("the header Content-Type must say {}", taken.join(" or "));
    Problem::new(Kind::UnsupportedMediaType, detail).or_field("Content-Type")
}

/// Whether the body of a request is said to be of this media type.
pub(crate) fn media_type(request: &Request, wanted: &str) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|value| is(value, wanted))
}

/// Parameters are let be: JSON has none, and `charset=utf-8` says what is so anyway.
fn is(value: &HeaderValue, wanted: &str) -> bool {
    let media_type = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
}

fn decoded(
    field: &'static str,
    path: Result<Path<String>, PathRejection>,
) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|_| Problem::field(field, "must be UTF-8, percent-encoded"))
}

async fn sku<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Sku, Problem> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    word("sku", &decoded("sku", path)?)
}

fn item(sku: Sku, location: Option<Location>) -> ItemKey {
    ItemKey { sku, location: location.unwrap_or_default() }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let bounds = Bounds::of_request(&request);
    read_within(request, bounds).await
}

async fn read_within(request: Request, bounds: Bounds) -> Result<Bytes, Problem> {
    let Bounds { most, patience, .. } = bounds;
    let body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    match timeout(patience, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Ok(Err(_)) => Err(Problem::field("body", "broke off")),
        Err(_) => Err(too_slow(patience)),
    }
}

fn too_large(most: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("the body must have at most {most} bytes"))
        .or_field("body")
}

fn too_slow(patience: Duration) -> Problem {
    Problem::new(Kind::RequestTimeout, format!("the body was not complete in {patience:?}"))
}
