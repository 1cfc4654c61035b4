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

use tokio::{runtime::Handle, task::AbortHandle};
use tracing::warn;

use super::{Backend, Fence, LeaseTtl, LockError, LockName, Released, Token};
use crate::{clock::Clock, error::chain};

/// A lock that is this caller's until its deadline. Dropped, it is released in the background.
///
/// It is not re-entrant: whoever works under it gets `&Lease`.
pub struct Lease {
    inner: Arc<Inner>,
    fence: Fence,
    is_released: bool,
}

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    name: LockName,
    token: Token,
    ttl: LeaseTtl,
    /// In nanoseconds of the boot clock; it only rises, or falls to nothing.
    deadline: AtomicU64,
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
        let (name, fence) = (&self.inner.name, &self.fence);
        f.debug_struct("Lease").field("name", name).field("fence", fence).finish_non_exhaustive()
    }
}

impl Lease {
    /// It was first asked for at `sent`, on the boot clock: its time runs from there.
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        name: LockName,
        token: Token,
        fence: Fence,
        ttl: LeaseTtl,
        sent: Duration,
    ) -> Self {
        let deadline = AtomicU64::new(nanos(sent.saturating_add(ttl.relied_on())));
        let inner = Inner { backend, clock, name, token, ttl, deadline };
        Self { inner: Arc::new(inner), fence, is_released: false }
    }

    /// The number of the grant, to be checked where the work lands.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
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
        loop {
            let left = inner.left();
            let mut timer = pin!(inner.clock.sleep(left));
            let step = poll_fn(|cx| {
                if inner.left().is_zero() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(output) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(Some(output)));
                }
                // The lease may have been renewed since the timer was set.
                timer.as_mut().poll(cx).map(|()| Some(None))
            });
            match step.await {
                Some(Some(output)) => return Ok(output),
                Some(None) => {}
                None => return Err(LeaseLost { name: inner.name.clone() }),
            }
        }
    }

    /// Gives it back, and says how it was.
    pub async fn release(mut self) -> Released {
        let inner = Arc::clone(&self.inner);
        inner.deadline.store(0, Ordering::Release);
        let released = inner.backend.release(&inner.name, &inner.token).await;
        // Until here, whoever stops waiting releases it behind.
        self.is_released = true;
        released.unwrap_or(Released::Unknown)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_released {
            let Inner { backend, name, token, deadline, .. } = &*self.inner;
            deadline.store(0, Ordering::Release);
            release_behind(Arc::clone(backend), name.clone(), token.clone());
        }
    }
}

impl Inner {
    fn left(&self) -> Duration {
        let deadline = Duration::from_nanos(self.deadline.load(Ordering::Acquire));
        deadline.saturating_sub(self.clock.boot())
    }

    async fn renew(&self) -> Result<(), LockError> {
        let sent = self.clock.boot();
        match self.backend.renew(&self.name, &self.token, self.ttl).await {
            Ok(()) => {
                let deadline = nanos(sent.saturating_add(self.ttl.relied_on()));
                // One that was given up meanwhile stays so.
                let raise = |old| (old != 0).then_some(deadline.max(old));
                let _ = self.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, raise);
                Ok(())
            }
            Err(LockError::Lost) => {
                self.deadline.store(0, Ordering::Release);
                Err(LockError::Lost)
            }
            Err(error) => Err(error),
        }
    }

    async fn keep_alive(&self, most: Duration) {
        let until = self.clock.boot().saturating_add(most);
        let pause = self.ttl.get() / 3;
        loop {
            self.clock.sleep(pause).await;
            if self.left().is_zero() || self.clock.boot() >= until {
                return;
            }
            match self.renew().await {
                Ok(()) => {}
                Err(LockError::Lost) => return,
                // Once more in a third of its time, if there is as much left.
                Err(error) => {
                    warn!(lock = %self.name, error = %chain(&error), "a lease was not renewed");
                }
            }
        }
    }
}

/// Releases it without anybody waiting for that. Without a runtime it ends by its time to live.
pub(super) fn release_behind(backend: Arc<dyn Backend>, name: LockName, token: Token) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _ = backend.release(&name, &token).await;
        });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
