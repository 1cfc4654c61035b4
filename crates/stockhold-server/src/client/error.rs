//! Why there is no answer, and whether it was done all the same.

use std::{fmt, io, time::Duration};

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// The request cannot be written down: the body is no JSON, the path or the key is not
    /// allowed in HTTP. Nothing was sent.
    Unspeakable(Box<dyn std::error::Error + Send + Sync>),
    /// Nobody takes a connection there. Nothing was sent.
    Unreachable(io::Error),
    /// The connection broke, or the answer made no sense.
    Lost(hyper::Error),
    /// There was no answer in time.
    TimedOut(Duration),
}

impl CallError {
    /// Whether the server may have done what was asked. Then only a request with an idempotency
    /// key, or one that changes nothing, can be sent again without harm.
    #[must_use]
    pub const fn may_have_been_done(&self) -> bool {
        match self {
            Self::Unspeakable(_) | Self::Unreachable(_) => false,
            Self::Lost(_) | Self::TimedOut(_) => true,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspeakable(source) => source.fmt(f),
            Self::Unreachable(source) => write!(f, "no connection: {source}"),
            Self::Lost(source) => write!(f, "the connection was lost: {source}"),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unspeakable(source) => Some(&**source),
            Self::Unreachable(source) => Some(source),
            Self::Lost(source) => Some(source),
            Self::TimedOut(_) => None,
        }
    }
}

pub(super) fn unspeakable(
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CallError {
    CallError::Unspeakable(source.into())
}

pub(super) fn unreachable(source: hyper::Error) -> CallError {
    CallError::Unreachable(io::Error::other(source))
}
