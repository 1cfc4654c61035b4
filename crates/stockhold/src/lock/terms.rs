//! The words in which locks are spoken of.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use stockhold_core::{LockName, Timestamp};

use crate::{Failure, FailureKind};

/// How long a lease lives. There is no lock without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseTtl(Duration);

impl LeaseTtl {
    /// The shortest: 100 ms.
    pub const MIN: Duration = Duration::from_millis(100);
    /// The longest: 60 s.
    pub const MAX: Duration = Duration::from_secs(60);

    /// # Errors
    /// `Invalid` outside of [`MIN`](Self::MIN) to [`MAX`](Self::MAX).
    pub fn new(ttl: Duration) -> Result<Self, Failure> {
        if (Self::MIN..=Self::MAX).contains(&ttl) {
            Ok(Self(ttl))
        } else {
            let message = format!("a lease lives for 100 ms to 60 s, not for {ttl:?}");
            Err(Failure::new(FailureKind::Invalid, message))
        }
    }

    /// As it is.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// How long whoever was granted a lease may live on with it who is not remembered any more, by any clock.
    pub(crate) const LONGEST_GHOST: Duration = Duration::from_millis(60_602);

    /// For how long its holder may rely on it, from when it was first asked for: clocks may drift apart by
    /// 1 %, and are read with 2 ms of grace.
    pub(crate) fn relied_on(self) -> Duration {
        self.0.saturating_sub(self.0 / 100).saturating_sub(Duration::from_millis(2))
    }
}

/// What tells one attempt to acquire from another: 16 to 128 visible ASCII characters. Only who knows it can
/// renew or release the lease, so it is shown to nobody.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// One that a caller has chosen.
    ///
    /// # Errors
    /// `Invalid` if it is too short or too long, or has other characters.
    pub fn new(token: &str) -> Result<Self, Failure> {
        if (16..=128).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(token.into()))
        } else {
            let message = "a token is 16 to 128 visible ASCII characters";
            Err(Failure::new(FailureKind::Invalid, message))
        }
    }

    /// One that nobody else has.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is a secret, and no number of a row")]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Rises with every grant: whoever has the higher one was granted later. Where the work of a lock lands,
/// what comes with a lower one than was seen before is to be refused.
///
/// ```
/// # use stockhold::lock::Fence;
/// let (old, new) = (Fence { epoch: 1, seq: 900 }, Fence { epoch: 2, seq: 17 });
/// assert!(old < new && new.to_string() == "2.17" && "2.17".parse() == Ok(new));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// Rises when whoever grants has lost its memory, or another one has taken over.
    pub epoch: u64,
    /// Rises within an epoch.
    pub seq: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// A text is not a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fence is two numbers with a dot between them")]
pub struct InvalidFence;

impl FromStr for Fence {
    type Err = InvalidFence;

    fn from_str(text: &str) -> Result<Self, InvalidFence> {
        let (epoch, seq) = text.split_once('.').ok_or(InvalidFence)?;
        let number = |text: &str| text.parse().map_err(|_| InvalidFence);
        Ok(Self { epoch: number(epoch)?, seq: number(seq)? })
    }
}

/// Why a lock was not had, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("somebody else has the lock, for up to {left:?}")]
    Busy {
        /// For at most so long, unless the lease is renewed.
        left: Duration,
    },
    /// The lease is not this caller's any more.
    #[error("the lease is over, or somebody else's by now")]
    Lost,
    /// Nobody can say who has it.
    #[error("no locks are to be had: {0}")]
    Unavailable(#[source] Failure),
}

/// Who is granted a lock while others may still believe to have it, of whom nobody knows: whoever granted
/// has lost its memory, or another one grants now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody, until the longest lease that they may have is over. For work whose end nobody checks a fence
    /// at.
    #[default]
    Strict,
    /// Whoever asks. The holder before is refused by its lower [`Fence`] where the work lands; so it has to
    /// be checked there.
    Fenced,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is the caller's.
    Granted {
        /// The number of the grant.
        fence: Fence,
        /// For how long; less than was asked for if the same attempt was granted it before.
        left: Duration,
    },
    /// It is somebody else's, for at most so long.
    Busy(Duration),
}

/// What was granted to somebody who keeps the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The number of the grant.
    pub fence: Fence,
    /// For how long its caller has waited for its turn.
    pub waited: Duration,
    /// For how long it lives, from when it was that turn: `waited` after the caller has asked.
    pub left: Duration,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It was the holder's until now.
    Clean,
    /// It was over; nobody has had it since.
    Expired,
    /// Somebody else has it by now.
    Superseded,
    /// Nobody can say. It ends by its time to live.
    Unknown,
}

/// A lock that somebody has. Not by which token: that is the holder's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub name: LockName,
    /// The number of the grant.
    pub fence: Fence,
    /// For how long, unless it is renewed.
    pub left: Duration,
    /// Since when, as far as is known.
    pub since: Option<Timestamp>,
}
