//! The way to the source: so many loads at once, and what waits meanwhile shares the next one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{Loaded, Loader, Unchanged};
use crate::{Failure, FailureKind};

/// What somebody waits for.
struct Wanted<K, V> {
    key: K,
    caller: oneshot::Sender<Result<Loaded<V>, Arc<Failure>>>,
}

/// A loader that is spared: while all loads that may run at once are running, keys gather.
pub(crate) struct Gate<K, V> {
    loader: Arc<dyn Loader<K, V>>,
    queue: Mutex<Queue<K, V>>,
    loads: usize,
    keys: usize,
}

struct Queue<K, V> {
    waiting: VecDeque<Wanted<K, V>>,
    running: usize,
}

impl<K: Send + 'static, V: Send + 'static> Gate<K, V> {
    pub(crate) fn new(loader: Arc<dyn Loader<K, V>>, loads: usize, keys: usize) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), running: 0 });
        Self { loader, queue, loads: loads.max(1), keys: keys.max(1) }
    }

    /// What the source has under this key.
    pub(crate) async fn load(self: &Arc<Self>, key: K) -> Result<Loaded<V>, Arc<Failure>> {
        let (caller, answer) = oneshot::channel();
        {
            let mut queue = self.queue();
            queue.waiting.push_back(Wanted { key, caller });
            if queue.running < self.loads {
                queue.running = queue.running.saturating_add(1);
                tokio::spawn(Arc::clone(self).run());
            }
        }
        answer.await.unwrap_or_else(|_| Err(Arc::new(broke_off())))
    }

    /// Which of these have not changed at the source: a question that does not wait for loads, since it is one for
    /// all.
    pub(crate) async fn unchanged(&self, known: &Arc<Vec<(K, u64)>>) -> Result<Unchanged, Failure>
    where
        K: Sync,
    {
        let (loader, known) = (Arc::clone(&self.loader), Arc::clone(known));
        let count = known.len();
        // As below: a panic is told.
        let asking = tokio::spawn(async move { loader.unchanged(&known).await });
        let unchanged = asking.await.unwrap_or_else(|_| Err(broke_off()))?;
        if unchanged.are_same.len() == count { Ok(unchanged) } else { Err(miscounted()) }
    }

    /// One of the loads that may run at once: loads what waits until nothing does.
    async fn run(self: Arc<Self>) {
        while let Some(wanted) = self.next() {
            let (keys, callers): (Vec<_>, Vec<_>) =
                wanted.into_iter().map(|wanted| (wanted.key, wanted.caller)).unzip();
            if keys.is_empty() {
                continue;
            }
            let loader = Arc::clone(&self.loader);
            // A task of its own: if it panics, its callers are told, and others are served.
            let loading = tokio::spawn(async move { loader.load(keys).await });
            answer(callers, loading.await.unwrap_or_else(|_| Err(broke_off())));
        }
    }

    /// What is to be loaded next; none ends the turn, in the same moment in which nothing waits.
    fn next(&self) -> Option<Vec<Wanted<K, V>>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.running = queue.running.saturating_sub(1);
            return None;
        }
        let keys = self.keys.min(queue.waiting.len());
        // Who has given up needs no load.
        Some(queue.waiting.drain(..keys).filter(|wanted| !wanted.caller.is_closed()).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer<V>(
    callers: Vec<oneshot::Sender<Result<Loaded<V>, Arc<Failure>>>>,
    loaded: Result<Vec<Loaded<V>>, Failure>,
) {
    let loaded =
        loaded.and_then(
            |loaded| {
                if loaded.len() == callers.len() { Ok(loaded) } else { Err(miscounted()) }
            },
        );
    match loaded {
        Ok(loaded) => {
            for (caller, loaded) in callers.into_iter().zip(loaded) {
                // Who has gone away does not need it.
                let _ = caller.send(Ok(loaded));
            }
        }
        Err(failure) => {
            let failure = Arc::new(failure);
            for caller in callers {
                let _ = caller.send(Err(Arc::clone(&failure)));
            }
        }
    }
}

fn broke_off() -> Failure {
    Failure::new(FailureKind::Internal, "the loader of a cache has panicked")
}

fn miscounted() -> Failure {
    Failure::new(FailureKind::Internal, "the loader of a cache did not answer key by key")
}
