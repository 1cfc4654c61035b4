//! Locks by name, across processes, each with a time to live.
//!
//! A lock keeps others from doing the same work at the same time; it never keeps anybody from overselling.
//! For any lease can have two believers: its holder was paused, or a clock has jumped. What makes a lock
//! safe is its [`Fence`], a number that rises with every grant, checked where the work lands.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use stockhold::lock::*;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let locks = Locks::new(Arc::new(MemoryBackend::new(1)));
//! let (name, ttl) = (LockName::new("nightly-report")?, LeaseTtl::new(Duration::from_secs(30))?);
//!
//! let lease = locks.acquire(&name, ttl, Duration::from_secs(5)).await?; // waits for its turn
//! assert!(matches!(locks.try_acquire(&name, ttl).await, Err(LockError::Busy { .. })));
//! let report = lease.run(async { "done" }).await?; // not polled past its lease
//! assert_eq!(report, "done");
//! assert_eq!(lease.release().await, Released::Clean);
//! # Ok(()) }
//! ```

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::Timestamp;

use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock, within},
};

mod lease;
mod memory;

pub use lease::{KeepAlive, Lease, LeaseLost};
pub use memory::MemoryBackend;

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

    /// For how long its holder may rely on it, from when it was first asked for: clocks may drift apart by
    /// 1 %, and are read with 2 ms of grace.
    pub(crate) fn relied_on(self) -> Duration {
        self.0.saturating_sub(self.0 / 100).saturating_sub(Duration::from_millis(2))
    }
}

/// What is locked: 1 to 200 bytes of letters, digits and `- _ . : /`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

impl LockName {
    /// # Errors
    /// `Invalid` if it is too long, empty, or has other characters.
    pub fn new(name: &str) -> Result<Self, Failure> {
        if is_plain(name, 1, 200) {
            Ok(Self(name.into()))
        } else {
            let message = "the name of a lock is 1 to 200 letters, digits, or any of - _ . : /";
            Err(Failure::new(FailureKind::Invalid, message))
        }
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What tells one attempt to acquire from another: 16 to 128 letters, digits, or `- _ . : /`. Only who
/// knows it can renew or release the lease, so it is shown to nobody.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// One that a caller has chosen.
    ///
    /// # Errors
    /// `Invalid` if it is too short or too long, or has other characters.
    pub fn new(token: &str) -> Result<Self, Failure> {
        if is_plain(token, 16, 128) {
            Ok(Self(token.into()))
        } else {
            let message = "a token is 16 to 128 letters, digits, or any of - _ . : /";
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

fn is_plain(text: &str, shortest: usize, longest: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (shortest..=longest).contains(&text.len()) && text.bytes().all(is_plain)
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

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is the caller's, from when it asked.
    Granted(Fence),
    /// It is somebody else's, for at most so long.
    Busy(Duration),
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

/// Who grants locks.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Asks once. Asked again with the same token, it answers the same.
    ///
    /// # Errors
    /// `Unavailable` only.
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
    ) -> Result<Attempt, LockError>;

    /// Makes a lease live on for so long from now. One that is over is never made again.
    ///
    /// # Errors
    /// `Lost`, or `Unavailable`.
    async fn renew(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<(), LockError>;

    /// Ends a lease. What is somebody else's is left alone.
    ///
    /// # Errors
    /// `Unavailable`: it ends by its time to live.
    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, LockError>;

    /// Who has a lock, if anybody has.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, LockError>;

    /// Locks that somebody has, by name, behind `after`.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, LockError>;

    /// Ends when the lock may have become free since this was called. It may not end at all: whoever waits
    /// looks again after a while in any case.
    fn freed<'a>(&'a self, name: &LockName) -> Freed<'a>;
}

/// See [`Backend::freed`].
pub type Freed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Locks, from whoever grants them. Clones are handles on the same ones.
#[derive(Clone, Debug)]
pub struct Locks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    /// Of all who want a lock in this process, one asks for it; the others wait behind.
    lines: Mutex<HashMap<LockName, Arc<tokio::sync::Mutex<()>>>>,
}

/// Whoever waits looks again after so long at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Locks {
    /// Locks of this backend.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self::with_clock(backend, Arc::new(SystemClock))
    }

    /// The same, with time from another clock.
    #[must_use]
    pub fn with_clock(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { backend, clock, lines: Mutex::default() }) }
    }

    /// Who grants them.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.shared.backend
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`LockError::Busy`] or [`LockError::Unavailable`].
    pub async fn try_acquire(&self, name: &LockName, ttl: LeaseTtl) -> Result<Lease, LockError> {
        self.ask(name, &Token::random(), ttl).await
    }

    /// Waits for its turn, for at most `patience`.
    ///
    /// # Errors
    /// [`LockError::Busy`] when that is over; [`LockError::Unavailable`].
    pub async fn acquire(
        &self,
        name: &LockName,
        ttl: LeaseTtl,
        patience: Duration,
    ) -> Result<Lease, LockError> {
        let clock = &*self.shared.clock;
        let until = clock.boot().saturating_add(patience);
        let line = self.line(name);
        let Some(_turn) = within(clock, patience, line.lock()).await else {
            return Err(self.still_busy(name).await);
        };
        loop {
            let freed = self.shared.backend.freed(name);
            // A new one for each attempt: a late grant of the last one is not taken for this one's.
            let token = Token::random();
            let left = match self.ask(name, &token, ttl).await {
                Err(LockError::Busy { left }) => left,
                other => return other,
            };
            let patience = until.saturating_sub(clock.boot());
            if patience.is_zero() {
                return Err(LockError::Busy { left });
            }
            let pause = left.min(LOOK_AGAIN).min(patience);
            within(clock, pause, freed).await;
        }
    }

    /// All of these, or none: sorted, each once, so that two who want the same never wait for each other.
    ///
    /// # Errors
    /// As for [`Locks::acquire`]; what was had by then is released.
    pub async fn lock_all(
        &self,
        names: &[LockName],
        ttl: LeaseTtl,
        patience: Duration,
    ) -> Result<Vec<Lease>, LockError> {
        let until = self.shared.clock.boot().saturating_add(patience);
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let mut leases = Vec::with_capacity(names.len());
        for name in &names {
            let patience = until.saturating_sub(self.shared.clock.boot());
            // Dropped, the others are released.
            leases.push(self.acquire(name, ttl, patience).await?);
        }
        // Whoever has waited for the last one may have lost the first.
        for lease in &leases {
            lease.renew().await?;
        }
        Ok(leases)
    }

    async fn ask(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<Lease, LockError> {
        let Shared { backend, clock, .. } = &*self.shared;
        let guard = Abandoned::new(backend, name, token);
        let sent = clock.boot();
        let attempt = backend.acquire(name, token, ttl).await;
        match attempt {
            Ok(Attempt::Granted(fence)) => {
                guard.disarm();
                let (backend, clock) = (Arc::clone(backend), Arc::clone(clock));
                let (name, token) = (name.clone(), token.clone());
                Ok(Lease::new(backend, clock, name, token, fence, ttl, sent))
            }
            Ok(Attempt::Busy(left)) => {
                guard.disarm();
                Err(LockError::Busy { left })
            }
            // It may have been granted: it is released again in the background.
            Err(error) => Err(error),
        }
    }

    async fn still_busy(&self, name: &LockName) -> LockError {
        match self.shared.backend.inspect(name).await {
            Ok(held) => LockError::Busy { left: held.map_or(Duration::ZERO, |held| held.left) },
            Err(error) => error,
        }
    }

    fn line(&self, name: &LockName) -> Arc<tokio::sync::Mutex<()>> {
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() > MOST_LINES {
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(name.clone()).or_default())
    }
}

/// Lines in which nobody stands are forgotten when there are more than that.
const MOST_LINES: usize = 1_024;

/// Whoever stops waiting for a grant may have been granted: the lease is given back in the background.
struct Abandoned {
    lease: Option<(Arc<dyn Backend>, LockName, Token)>,
}

impl Abandoned {
    fn new(backend: &Arc<dyn Backend>, name: &LockName, token: &Token) -> Self {
        Self { lease: Some((Arc::clone(backend), name.clone(), token.clone())) }
    }

    fn disarm(mut self) {
        self.lease = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some((backend, name, token)) = self.lease.take() {
            lease::release_behind(backend, name, token);
        }
    }
}

#[cfg(test)]
mod tests;
