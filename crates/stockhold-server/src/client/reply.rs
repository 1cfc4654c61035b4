//! What a server answered.

use std::time::Duration;

use hyper::{
    Response,
    body::{Bytes, Incoming},
    header::{HeaderName, RETRY_AFTER},
};
use serde::Deserialize;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a server answered, whatever the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status, for example 201.
    pub status: u16,
    /// The answer is that of an earlier request with the same idempotency key.
    pub replayed: bool,
    /// After how long it makes sense to ask again.
    pub retry_after: Option<Duration>,
    /// The body, as it came.
    pub body: Bytes,
}

impl Reply {
    /// Whether it was done.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The body, read as JSON; texts may be borrowed from it.
    ///
    /// # Errors
    /// If it is not JSON of that shape.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// What of a reply is not in its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    replayed: bool,
    retry_after: Option<Duration>,
}

impl Head {
    pub(super) fn of(response: &Response<Incoming>) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers());
        let replayed = headers.get(IDEMPOTENCY_REPLAYED).is_some_and(|value| value == "true");
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { status, replayed, retry_after: seconds.map(Duration::from_secs) }
    }

    pub(super) const fn reply(self, body: Bytes) -> Reply {
        let Self { status, replayed, retry_after } = self;
        Reply { status, replayed, retry_after, body }
    }
}
