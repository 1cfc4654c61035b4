//! A lock that is held: for how long, and what may be done meanwhile.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    task::AbortHandle,
};
use tracing::warn;

use super::{Backend, Fence, LeaseTtl, LockError, LockName, Released, Token};
use crate::{
    clock::{Clock, within},
    error::chain,
};

/// A lock that is this caller's until its deadline. Dropped, it is released in the background.
///
/// It is not re-entrant: whoever works under it gets `&Lease`.
pub struct Lease {
    inner: Arc<Inner>,
    fence: Fence,
    is_released: bool,
}

/// What a lease is asked for and given back with.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) name: LockName,
    pub(super) token: Token,
    pub(super) ttl: LeaseTtl,
}

struct Inner {
    claim: Claim,
    /// In nanoseconds of the boot clock; it only rises, or falls to nothing.
    deadline: AtomicU64,
    /// It has fallen.
    is_over: Notify,
}

/// The lease ended before the work did, which was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease of {name} ended before the work did")]
pub struct LeaseLost {
    /// Of which lock.
    pub name: LockName,
}

/// Renews a lease as long as it is there. Dropped, it renews no more.
#[derive(Debug)]
pub struct KeepAlive {
    task: AbortHandle,
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, fence) = (&self.inner.claim.name, &self.fence);
        f.debug_struct("Lease").field("name", name).field("fence", fence).finish_non_exhaustive()
    }
}

impl Lease {
    /// It was first asked for at `sent`, on the boot clock: its time runs from there.
    pub(super) fn new(claim: Claim, fence: Fence, sent: Duration) -> Self {
        let deadline = AtomicU64::new(nanos(sent.saturating_add(claim.ttl.relied_on())));
        let inner = Inner { claim, deadline, is_over: Notify::new() };
        Self { inner: Arc::new(inner), fence, is_released: false }
    }

    /// The number of the grant, to be checked where the work lands.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Which lock it is.
    #[must_use]
    pub fn name(&self) -> &LockName {
        &self.inner.claim.name
    }

    /// For how long it can be relied on, unless it is renewed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.inner.left()
    }

    /// Makes it live on for its whole time from now.
    ///
    /// # Errors
    /// [`LockError::Lost`]: then it never comes back. [`LockError::Unavailable`]: it lives on until its
    /// deadline, and can be renewed until then.
    pub async fn renew(&self) -> Result<(), LockError> {
        self.inner.renew().await
    }

    /// Renews it three times in its lifetime, for at most `most`: work that never ends does not hold a lock
    /// for ever. Ends with what is returned, or with the lease.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use stockhold::lock::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let locks = Locks::new(Arc::new(MemoryBackend::new(1)));
    /// # let (name, ttl) = (LockName::new("n")?, LeaseTtl::new(Duration::from_secs(1))?);
    /// let lease = locks.try_acquire(&name, ttl).await?;
    /// let _alive = lease.keep_alive(Duration::from_secs(3_600));
    /// lease.run(async { /* takes up to an hour */ }).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn keep_alive(&self, most: Duration) -> KeepAlive {
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move { inner.keep_alive(most).await });
        KeepAlive { task: task.abort_handle() }
    }

    /// Does the work, and looks at the clock before each step of it: past the deadline the work is dropped,
    /// and not polled once more; also if the process stood still meanwhile, or the machine was suspended.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LeaseLost> {
        let inner = &*self.inner;
        let mut work = pin!(work);
        let mut over = pin!(inner.ends_within(Duration::ZERO));
        let lost = || Err(LeaseLost { name: inner.claim.name.clone() });
        poll_fn(|cx| {
            if inner.left().is_zero() {
                return Poll::Ready(lost());
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => over.as_mut().poll(cx).map(|()| lost()),
            }
        })
        .await
    }

    /// Ends when the lease has at most so long to live: for whoever has to end something before it does.
    pub async fn ends_within(&self, margin: Duration) {
        self.inner.ends_within(margin).await;
    }

    /// Gives it back, and says how it was.
    pub async fn release(mut self) -> Released {
        let inner = Arc::clone(&self.inner);
        inner.give_up();
        let released = inner.claim.release().await;
        // Until here, whoever stops waiting releases it behind; and so does who is not told that it is.
        self.is_released = released.is_ok();
        released.unwrap_or(Released::Unknown)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_released {
            self.inner.give_up();
            Ghost(self.inner.claim.clone()).release_behind();
        }
    }
}

impl Claim {
    async fn release(&self) -> Result<Released, LockError> {
        self.backend.release(&self.name, &self.token).await
    }
}

impl Inner {
    fn left(&self) -> Duration {
        let deadline = Duration::from_nanos(self.deadline.load(Ordering::Acquire));
        deadline.saturating_sub(self.claim.clock.boot())
    }

    fn give_up(&self) {
        self.deadline.store(0, Ordering::Release);
        self.is_over.notify_waiters();
    }

    async fn ends_within(&self, margin: Duration) {
        loop {
            let is_over = self.is_over.notified();
            let left = self.left().saturating_sub(margin);
            if left.is_zero() {
                return;
            }
            // It may be renewed meanwhile; and a timer stands still while the machine is suspended.
            within(&*self.claim.clock, left.min(LOOK_AGAIN), is_over).await;
        }
    }

    async fn renew(&self) -> Result<(), LockError> {
        let Claim { backend, clock, name, token, ttl } = &self.claim;
        let sent = clock.boot();
        match backend.renew(name, token, *ttl).await {
            Ok(()) => {
                let deadline = nanos(sent.saturating_add(ttl.relied_on()));
                // One that was given up meanwhile stays so.
                let raise = |old| (old != 0).then_some(deadline.max(old));
                let _ = self.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, raise);
                Ok(())
            }
            Err(LockError::Lost) => {
                self.give_up();
                Err(LockError::Lost)
            }
            Err(error) => Err(error),
        }
    }

    async fn keep_alive(&self, most: Duration) {
        let Claim { clock, name, ttl, .. } = &self.claim;
        let until = clock.boot().saturating_add(most);
        let third = ttl.get() / 3;
        let mut pause = third;
        loop {
            clock.sleep(pause).await;
            if self.left().is_zero() || clock.boot() >= until {
                return;
            }
            // As long as there is time, it is tried again; nor does one answer that does not come take all of it.
            pause = third.min(AGAIN);
            let limit = third.max(AGAIN).min(self.left());
            match within(&**clock, limit, self.renew()).await {
                Some(Ok(())) => pause = third,
                Some(Err(LockError::Lost)) => return,
                Some(Err(error)) => {
                    warn!(lock = %name, error = %chain(&error), "a lease was not renewed");
                }
                None => warn!(lock = %name, "a lease was not renewed: no answer in time"),
            }
        }
    }
}

/// A lease that nobody wants any more, and that may be there all the same.
pub(super) struct Ghost(pub(super) Claim);

/// Between two attempts to renew or to release a lease, the latter at first and at most.
const AGAIN: Duration = Duration::from_millis(250);
const MOST_SELDOM: Duration = Duration::from_secs(4);
/// A grant comes at most so long after whoever asked for it has gone.
const LATE: Duration = Duration::from_secs(1);
/// So often it is looked whether a lease still lives.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// So many are released behind at once; the others end by their time to live. While nobody can be asked, every attempt
/// to get a lock may leave one behind.
static GHOSTS: Semaphore = Semaphore::const_new(1_000);

impl Ghost {
    /// Releases it without anybody waiting for that. Without a runtime it ends by its time to live.
    pub(super) fn release_behind(self) {
        if let (Ok(runtime), Ok(turn)) = (Handle::try_current(), GHOSTS.try_acquire()) {
            runtime.spawn(async move {
                self.release().await;
                drop(turn);
            });
        }
    }

    /// Tries until whoever granted it has heard; but no longer than it lives. Where there is none, it may still be
    /// granted: what has asked for it may be on its way.
    async fn release(self) {
        let Self(claim) = self;
        let begun = claim.clock.boot();
        let mut pause = AGAIN;
        loop {
            let asked = claim.clock.boot().saturating_sub(begun);
            match claim.release().await {
                Ok(Released::Clean) => return,
                Ok(_) if asked >= LATE.min(claim.ttl.get()) => return,
                Ok(_) | Err(_) => {}
            }
            claim.clock.sleep(pause).await;
            if claim.clock.boot().saturating_sub(begun) >= claim.ttl.get() {
                return;
            }
            pause = pause.saturating_mul(2).min(MOST_SELDOM);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
