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
    fmt::Debug,
    hash::{BuildHasher, Hasher, RandomState},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    clock::{Clock, SystemClock, within},
    metrics::LockTimes,
};

mod forgetful;
#[cfg(feature = "postgres")]
mod guard;
mod lease;
mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod rule;
mod shared;
mod terms;
mod wakeups;

pub(crate) use forgetful::Forgetful;
#[cfg(feature = "postgres")]
pub use guard::FENCE_TABLE;
use lease::{Claim, Ghost};
pub use lease::{KeepAlive, Lease, LeaseLost};
pub use memory::MemoryBackend;
pub use rule::{Change, Grantor, Leases, Rule};
pub(crate) use shared::SharedBackend;
pub use stockhold_core::LockName;
pub use terms::{
    Attempt, Fence, Granted, Held, InvalidFence, LeaseTtl, LockError, Mode, Released, Token,
};

/// Who grants locks.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// Asks once. Asked again with the same token, it answers the same.
    ///
    /// # Errors
    /// `Unavailable` only.
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
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

    /// Removes what nobody needs any more; called now and then.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn tidy(&self) -> Result<(), LockError> {
        Ok(())
    }

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
    mode: Mode,
}

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    times: LockTimes,
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
        Self::timed(backend, clock, LockTimes::default())
    }

    /// The same; how long they are waited for is noted here.
    pub(crate) fn timed(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        times: LockTimes,
    ) -> Self {
        let shared = Arc::new(Shared { backend, clock, times, lines: Mutex::default() });
        Self { shared, mode: Mode::Strict }
    }

    /// The same locks, granted at once where [`Mode::Strict`] would wait for leases that nobody remembers: for
    /// whoever checks the [`Fence`] where the work lands.
    #[must_use]
    pub fn fenced(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), mode: Mode::Fenced }
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
        let won = self.win(name, None, ttl, None).await?;
        Ok(self.lease(name, ttl, &won))
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
        let won = self.win(name, None, ttl, Some(patience)).await?;
        Ok(self.lease(name, ttl, &won))
    }

    /// The same for whoever keeps the token, and may ask again with it if the answer is lost; a lease that was granted
    /// meanwhile is granted again. Whoever stops waiting for this may have been granted it.
    ///
    /// # Errors
    /// As for [`Locks::acquire`].
    pub async fn acquire_as(
        &self,
        token: &Token,
        name: &LockName,
        ttl: LeaseTtl,
        patience: Duration,
    ) -> Result<Granted, LockError> {
        let asked = self.shared.clock.boot();
        let won = self.win(name, Some(token), ttl, Some(patience)).await?;
        let Won { fence, left, sent, .. } = won;
        Ok(Granted { fence, waited: sent.saturating_sub(asked), left })
    }

    /// Asks once, or waits for its turn.
    async fn win(
        &self,
        name: &LockName,
        token: Option<&Token>,
        ttl: LeaseTtl,
        patience: Option<Duration>,
    ) -> Result<Won, LockError> {
        let Shared { clock, times, .. } = &*self.shared;
        let begun = clock.boot();
        let won = match patience {
            None => self.ask(name, token, ttl).await,
            Some(patience) => self.in_turn(name, token, ttl, patience).await,
        };
        let outcome = match &won {
            Ok(_) => "granted",
            Err(LockError::Busy { .. }) => "busy",
            Err(LockError::Lost | LockError::Unavailable(_)) => "unavailable",
        };
        times.note(outcome, clock.boot().saturating_sub(begun));
        won
    }

    /// Asks when it is one's turn, and again whenever the lock may be free.
    async fn in_turn(
        &self,
        name: &LockName,
        token: Option<&Token>,
        ttl: LeaseTtl,
        patience: Duration,
    ) -> Result<Won, LockError> {
        let clock = &*self.shared.clock;
        let until = clock.boot().saturating_add(patience);
        let line = self.line(name);
        let Some(_turn) = within(clock, patience, line.lock()).await else {
            return Err(self.still_busy(name).await);
        };
        loop {
            let freed = self.shared.backend.freed(name);
            let left = match self.ask(name, token, ttl).await {
                Err(LockError::Busy { left }) => left,
                other => return other,
            };
            let patience = until.saturating_sub(clock.boot());
            if patience.is_zero() {
                return Err(LockError::Busy { left });
            }
            within(clock, pause(left).min(patience), freed).await;
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

    /// Asks once; with a new token, unless there is one that the caller keeps. Thus a late grant of an earlier attempt
    /// is not taken for that of this one.
    async fn ask(
        &self,
        name: &LockName,
        token: Option<&Token>,
        ttl: LeaseTtl,
    ) -> Result<Won, LockError> {
        let Shared { backend, clock, .. } = &*self.shared;
        let is_new = token.is_none();
        let token = token.cloned().unwrap_or_else(Token::random);
        let guard = is_new.then(|| Abandoned(Some(self.claim(name, &token, ttl))));
        let sent = clock.boot();
        // If this fails, it may have been granted: then it is released again in the background.
        let attempt = backend.acquire(name, &token, ttl, self.mode).await?;
        if let Some(guard) = guard {
            guard.disarm();
        }
        match attempt {
            Attempt::Granted { fence, left } => Ok(Won { token, fence, left, sent }),
            Attempt::Busy(left) => Err(LockError::Busy { left }),
        }
    }

    fn lease(&self, name: &LockName, ttl: LeaseTtl, won: &Won) -> Lease {
        Lease::new(self.claim(name, &won.token, ttl), won.fence, won.sent)
    }

    fn claim(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Claim {
        let Shared { backend, clock, .. } = &*self.shared;
        let (backend, clock) = (Arc::clone(backend), Arc::clone(clock));
        Claim { backend, clock, name: name.clone(), token: token.clone(), ttl }
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

/// A lease that was granted to who asked for it at `sent`, on the boot clock.
struct Won {
    token: Token,
    fence: Fence,
    left: Duration,
    sent: Duration,
}

/// Until a lease ends that has so long to live, if nobody tells; a little longer, so that it has ended by then, and so
/// that not all who wait ask in the same moment.
fn pause(left: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    left.min(LOOK_AGAIN).saturating_add(Duration::from_micros(random % 5_000))
}

/// Lines in which nobody stands are forgotten when there are more than that.
const MOST_LINES: usize = 1_024;

/// Whoever stops waiting for a grant may have been granted: the lease is given back in the background.
struct Abandoned(Option<Claim>);

impl Abandoned {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(claim) = self.0.take() {
            Ghost(claim).release_behind();
        }
    }
}

#[cfg(test)]
mod tests;
