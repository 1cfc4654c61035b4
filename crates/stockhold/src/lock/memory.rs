//! Locks of one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::Timestamp;

use super::{
    Attempt, Backend, Fence, Freed, Held, LeaseTtl, LockError, LockName, Mode, Released, Token,
    wakeups::Wakeups,
};
use crate::clock::{Clock, SystemClock};

/// Grants locks to tasks of this process, and to whoever asks it over the network.
#[derive(Debug)]
pub struct MemoryBackend {
    epoch: u64,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Until then, on the boot clock, leases may live that an earlier process has granted.
    strict_from: Duration,
    wakeups: Wakeups,
}

#[derive(Debug, Default)]
struct State {
    grants: BTreeMap<LockName, Grant>,
    seq: u64,
}

#[derive(Debug)]
struct Grant {
    token: Token,
    fence: Fence,
    /// On the boot clock.
    until: Duration,
    since: Timestamp,
}

/// What is over is forgotten when there is more than that.
const MOST: usize = 10_000;

impl MemoryBackend {
    /// In this epoch: it has to be a higher one each time that a process begins.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self::with_clock(epoch, Arc::new(SystemClock))
    }

    /// The same, with time from another clock.
    #[must_use]
    pub fn with_clock(epoch: u64, clock: Arc<dyn Clock>) -> Self {
        let (state, strict_from, wakeups) = Default::default();
        Self { epoch, clock, state, strict_from, wakeups }
    }

    /// After an earlier process, of whose leases nothing is known.
    #[must_use]
    pub fn after_others(mut self) -> Self {
        self.strict_from = self.clock.boot().saturating_add(LeaseTtl::LONGEST_GHOST);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1_000);
        self.seq = self.seq.saturating_add(1).max(micros);
        self.seq
    }

    fn forget(&mut self, now: Duration) {
        if self.grants.len() > MOST {
            self.grants.retain(|_, grant| grant.until > now);
        }
    }
}

impl Grant {
    fn held(&self, name: &LockName, now: Duration) -> Option<Held> {
        let left = self.until.saturating_sub(now);
        let held = Held { name: name.clone(), fence: self.fence, left, since: Some(self.since) };
        (!left.is_zero()).then_some(held)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn acquire(
        &self,
        name: &LockName,
        token: &Token,
        ttl: LeaseTtl,
        mode: Mode,
    ) -> Result<Attempt, LockError> {
        let (now, since) = (self.clock.boot(), self.clock.wall());
        let mut state = self.state();
        if let Some(grant) = state.grants.get(name).filter(|grant| grant.until > now) {
            let left = grant.until.saturating_sub(now);
            return Ok(if grant.token == *token {
                Attempt::Granted { fence: grant.fence, left }
            } else {
                Attempt::Busy(left)
            });
        }
        if mode == Mode::Strict && self.strict_from > now {
            return Ok(Attempt::Busy(self.strict_from.saturating_sub(now)));
        }
        state.forget(now);
        let fence = Fence { epoch: self.epoch, seq: state.next(since) };
        let until = now.saturating_add(ttl.get());
        state.grants.insert(name.clone(), Grant { token: token.clone(), fence, until, since });
        Ok(Attempt::Granted { fence, left: ttl.get() })
    }

    async fn renew(&self, name: &LockName, token: &Token, ttl: LeaseTtl) -> Result<(), LockError> {
        let now = self.clock.boot();
        let mut state = self.state();
        let grant = state.grants.get_mut(name);
        let grant = grant.filter(|grant| grant.token == *token && grant.until > now);
        let grant = grant.ok_or(LockError::Lost)?;
        grant.until = now.saturating_add(ttl.get());
        Ok(())
    }

    async fn release(&self, name: &LockName, token: &Token) -> Result<Released, LockError> {
        let now = self.clock.boot();
        let mut state = self.state();
        let released = match state.grants.get(name) {
            Some(grant) if grant.token != *token && grant.until > now => Released::Superseded,
            Some(grant) if grant.token == *token && grant.until > now => {
                state.grants.remove(name);
                Released::Clean
            }
            Some(grant) if grant.token != *token => Released::Superseded,
            Some(_) | None => Released::Expired,
        };
        drop(state);
        self.wakeups.wake(name);
        Ok(released)
    }

    async fn inspect(&self, name: &LockName) -> Result<Option<Held>, LockError> {
        let now = self.clock.boot();
        Ok(self.state().grants.get(name).and_then(|grant| grant.held(name, now)))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Held>, LockError> {
        let now = self.clock.boot();
        let state = self.state();
        let grants = state.grants.iter().filter(|(name, _)| {
            name.as_str().starts_with(prefix) && after.is_none_or(|after| *name > after)
        });
        Ok(grants.filter_map(|(name, grant)| grant.held(name, now)).take(limit).collect())
    }

    fn freed<'a>(&'a self, name: &LockName) -> Freed<'a> {
        self.wakeups.of(name)
    }
}
