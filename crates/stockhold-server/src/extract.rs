//! Takes requests apart. Whatever is wrong becomes a problem that names it.

use std::time::Duration;

use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderMap, HeaderName, header::CONTENT_TYPE, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use stockhold::{HoldId, IdempotencyKey, ItemKey, Sku};
use tokio::time::timeout;

use crate::{
    problem::{Kind, Problem},
    wire::{FromQuery, ItemQuery, parse, refuse_query, word},
};

/// The largest body.
const BODY_MOST: usize = 64 * 1024;
/// How long a body may take to come in.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

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

/// The item that path and query name, for a verb that changes it.
pub(crate) struct ItemToChange(pub(crate) ItemKey);

impl<S: Send + Sync> FromRequestParts<S> for ItemToChange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = ItemQuery::to_change(&parts.uri)?;
        Ok(Self(item(sku(parts, state).await?, query)))
    }
}

/// The item that path and query name, for a read.
pub(crate) struct ItemToRead(pub(crate) ItemKey);

impl<S: Send + Sync> FromRequestParts<S> for ItemToRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = ItemQuery::to_read(&parts.uri)?;
        Ok(Self(item(sku(parts, state).await?, query)))
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
    const JSON: &[u8] = b"application/json";
    let Some(value) = headers.get(CONTENT_TYPE) else { return Content::None };
    // Parameters are let be: JSON has none, and `charset=utf-8` says what is so anyway.
    let media_type = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    if media_type.trim_ascii().eq_ignore_ascii_case(JSON) { Content::Json } else { Content::Other }
}

fn not_json() -> Problem {
    let detail = "the body must be JSON, and the header Content-Type must say application/json";
    Problem::new(Kind::UnsupportedMediaType, detail).or_field("Content-Type")
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

fn item(sku: Sku, query: ItemQuery) -> ItemKey {
    ItemKey { sku, location: query.location.unwrap_or_default() }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let body = request.into_body();
    if body.size_hint().lower() > BODY_MOST as u64 {
        return Err(too_large());
    }
    match timeout(BODY_PATIENCE, Limited::new(body, BODY_MOST).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::field("body", "broke off")),
        Err(_) => Err(Problem::new(Kind::RequestTimeout, "the body was not complete in 30 s")),
    }
}

fn too_large() -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("the body must have at most {BODY_MOST} bytes"))
        .or_field("body")
}
