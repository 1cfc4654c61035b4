//! Wakes whoever waits for a lock in this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Freed, LockName};

/// Whoever waits, by the name of the lock.
#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    waiting: Mutex<HashMap<LockName, Arc<Notify>>>,
}

/// Names for which nobody waits are forgotten when there are more than that.
const MOST: usize = 1_024;

impl Wakeups {
    /// Ends when this lock is said to be free, from now on.
    pub(super) fn of<'a>(&self, name: &LockName) -> Freed<'a> {
        let mut waiting = self.waiting();
        if waiting.len() > MOST {
            waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
        }
        let notify = Arc::clone(waiting.entry(name.clone()).or_default());
        drop(waiting);
        Box::pin(notify.notified_owned())
    }

    /// This lock may be free.
    pub(super) fn wake(&self, name: &LockName) {
        if let Some(notify) = self.waiting().get(name) {
            notify.notify_waiters();
        }
    }

    /// Nobody knows which ones are.
    #[cfg(feature = "redis")]
    pub(super) fn wake_all(&self) {
        for notify in self.waiting().values() {
            notify.notify_waiters();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<LockName, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
