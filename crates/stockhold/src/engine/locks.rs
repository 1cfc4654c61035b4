//! Who grants the locks of those who use a ledger.

use std::sync::Arc;

#[cfg(feature = "redis")]
use super::CacheOptions;
use crate::{
    clock::Clock,
    ledger::{Granting, Ledger},
    lock::{Locks, MemoryBackend, SharedBackend},
};

#[cfg(feature = "redis")]
pub(super) fn of(ledger: &dyn Ledger, clock: &Arc<dyn Clock>, options: &CacheOptions) -> Locks {
    use crate::lock::redis::RedisLeases;

    let namespace = super::views::namespace_of(ledger, &options.namespace);
    let redis = options.redis.clone();
    granted(ledger, clock, redis.map(|redis| Arc::new(RedisLeases::new(redis, namespace)) as _))
}

#[cfg(not(feature = "redis"))]
pub(super) fn of(ledger: &dyn Ledger, clock: &Arc<dyn Clock>) -> Locks {
    granted(ledger, clock, None)
}

fn granted(
    ledger: &dyn Ledger,
    clock: &Arc<dyn Clock>,
    redis: Option<Arc<dyn crate::lock::Forgetful>>,
) -> Locks {
    let clock = || Arc::clone(clock);
    match ledger.granting() {
        Granting::Alone { epoch, is_first } => {
            let backend = MemoryBackend::with_clock(epoch, clock());
            let backend = if is_first { backend } else { backend.after_others() };
            Locks::with_clock(Arc::new(backend), clock())
        }
        Granting::Together(leases) => {
            let backend = SharedBackend::new(leases, redis, clock());
            Locks::with_clock(Arc::new(backend), clock())
        }
    }
}
