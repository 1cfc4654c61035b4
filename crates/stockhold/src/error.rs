//! Why something was not done: the rules said no, or it could not be carried out.

use std::{error::Error as StdError, fmt, time::Duration};

use stockhold_core::{Rejection, Timestamp};

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules say no. Asking again helps only if [`Rejection::is_transient`].
    #[error("{rejection}")]
    Rejected {
        /// Why not.
        rejection: Box<Rejection>,
        /// None: the ledger said no. Else the ledger was not asked: copies of the stock items were young enough to
        /// be sure, and the oldest of them is of this moment, on the ledger's clock. Set only for
        /// [`Rejection::InsufficientStock`] of a place, where the engine has a cache.
        as_of: Option<Timestamp>,
    },
    /// It could not be carried out; the kind says what to do next.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Error {
    /// Why the rules say no; none if it could not be carried out.
    ///
    /// ```
    /// # use stockhold::*;
    /// let no = Error::from(Rejection::IdempotencyKeyReused);
    /// assert_eq!(no.rejection().map(Rejection::code), Some("idempotency_key_reused"));
    /// ```
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected { rejection, .. } => Some(rejection),
            Self::Failed(_) => None,
        }
    }

    /// It with all that lies behind it, in one line; see [`Failure::chain`].
    #[must_use]
    pub fn chain(&self) -> impl fmt::Display {
        chain(self)
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected { rejection: Box::new(rejection), as_of: None }
    }
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Too much is waiting already. Nothing was done; ask again after a moment.
    Overloaded,
    /// The ledger does not answer, or not whether it was done. Ask again with the same
    /// idempotency key, or look the hold up; without a key it may be done twice.
    Unavailable,
    /// This one request met damaged rows or a bug; others go on. Do not repeat it; tell the
    /// operator.
    Internal,
    /// The engine is shutting down. Nothing was done; ask another instance.
    Closed,
    /// Another process has the ledger. Stop that one first.
    InUse,
    /// This is not a ledger, or one of another version. Nothing was touched.
    Incompatible,
    /// A setting is wrong. The message names it.
    Invalid,
}

impl FailureKind {
    /// The stable word for the kind: `overloaded`, `unavailable`, ...
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Closed => "closed",
            Self::InUse => "in_use",
            Self::Incompatible => "incompatible",
            Self::Invalid => "invalid",
        }
    }
}

/// Something could not be carried out.
#[derive(Debug)]
pub struct Failure {
    /// What the caller does next.
    pub kind: FailureKind,
    /// What happened, for people.
    pub message: String,
    /// After how long it makes sense to ask again.
    pub retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let retry_after = match kind {
            FailureKind::Overloaded | FailureKind::Unavailable => Some(Duration::from_secs(1)),
            FailureKind::Internal
            | FailureKind::Closed
            | FailureKind::InUse
            | FailureKind::Incompatible
            | FailureKind::Invalid => None,
        };
        Self { kind, message: message.into(), retry_after, source: None }
    }

    /// The same, with what lies behind it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// It with all that lies behind it, in one line: for a log, and for people. That a handshake
    /// failed helps nobody who is not told why.
    ///
    /// ```
    /// # use stockhold::{Failure, FailureKind};
    /// let refused = std::io::Error::other("connection refused");
    /// let failure = Failure::new(FailureKind::Unavailable, "no answer").caused_by(refused);
    /// assert_eq!(failure.chain().to_string(), "no answer: connection refused");
    /// ```
    #[must_use]
    pub fn chain(&self) -> impl fmt::Display {
        chain(self)
    }

    /// The same for one more caller; what lies behind it stays with the first.
    pub(crate) fn again(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            retry_after: self.retry_after,
            source: None,
        }
    }
}

/// An error with all that lies behind it, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> impl fmt::Display + use<> {
    let mut said = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        let words = cause.to_string();
        let words = words.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        // Some causes repeat in their words what lies behind them.
        if !said.contains(&words) {
            said.push_str(": ");
            said.push_str(&words);
        }
    }
    said
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    fn told(outer: &'static str, inner: &'static str) -> String {
        let cause = Outer(outer, io::Error::other(inner));
        let failure = Failure::new(FailureKind::Unavailable, "no answer").caused_by(cause);
        format!("{}", failure.chain())
    }

    #[test]
    fn a_failure_is_told_with_all_that_lies_behind_it() {
        let told_all = told("the handshake failed", "unknown issuer");
        assert_eq!(told_all, "no answer: the handshake failed: unknown issuer");
    }

    #[test]
    fn what_a_cause_repeats_is_told_once_and_on_one_line() {
        assert_eq!(told("it failed: late", "late"), "no answer: it failed: late");
        assert_eq!(told("FATAL: no\nHINT: wait", "x"), "no answer: FATAL: no; HINT: wait: x");
    }
}
