//! What processes tell each other by way of Redis: what they have changed.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;

use super::{CacheKey, CacheValue, Shared, backlog::Owing, depot::Depot, link::Listener};
use crate::{
    clock::{SystemClock, within},
    redis::{Redis, Trouble},
};

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    /// Hears what others change, and tells them what they have not heard of yet.
    pub(super) fn listen(self: &Arc<Self>, redis: Redis) {
        let listener = Arc::downgrade(self);
        let prefix = self.depot.as_ref().map_or_else(String::new, Depot::prefix);
        let listening = tokio::spawn(Arc::clone(&self.link).run(redis, prefix, listener));
        let telling = tokio::spawn(tell(Arc::downgrade(self)));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([listening.abort_handle(), telling.abort_handle()]);
    }
}

impl<K: CacheKey, V: CacheValue> Listener for Shared<K, V> {
    fn changed(&self, keys: Option<&[&[u8]]>) {
        let Some(depot) = &self.depot else { return };
        for key in keys.unwrap_or_default() {
            match depot.name_of(key) {
                Some(name) => self.shelf.invalidate(name),
                None => self.shelf.invalidate_all(),
            }
        }
        if keys.is_none() {
            self.shelf.invalidate_all();
        }
    }
}

/// Works off what Redis is owed, as soon as it can be told.
async fn tell<K: CacheKey, V: CacheValue>(shared: Weak<Shared<K, V>>) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            // What Redis could not be told is tried again after a while.
            within(&SystemClock, AGAIN, shared.owes.notified()).await;
        }
        while let Some(shared) = shared.upgrade() {
            let next = shared.backlog.next(AT_ONCE);
            if next.is_nothing() || shared.tell(&next).await.is_err() {
                break;
            }
            shared.backlog.done(&next);
        }
    }
}

/// So many invalidations are on their way to Redis at once.
const AT_ONCE: usize = 256;
const AGAIN: Duration = Duration::from_millis(100);

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    async fn tell(&self, owed: &Owing) -> Result<(), Trouble> {
        let Some(depot) = &self.depot else { return Ok(()) };
        match owed {
            Owing::Some(floors) => {
                let telling = floors.iter().map(|(name, floor)| depot.forget(name, *floor));
                for told in join_all(telling).await {
                    told?;
                }
                // Whoever reads from now on may find in Redis what was filled in since.
                floors.iter().for_each(|(name, _)| self.shelf.invalidate(name));
            }
            Owing::Everything(_) => {
                depot.invalidate_all().await?;
                self.shelf.invalidate_all();
            }
        }
        Ok(())
    }
}
