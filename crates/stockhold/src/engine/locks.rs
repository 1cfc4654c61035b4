//! Who grants the locks of those who use a ledger.

use std::sync::Arc;

#[cfg(feature = "redis")]
use super::CacheOptions;
use crate::{
    clock::Clock,
    ledger::{Granting, Ledger},
    lock::{Locks, MemoryBackend, SharedBackend},
    metrics::LockTimes,
};

#[cfg(feature = "redis")]
pub(super) fn of(
    ledger: &dyn Ledger,
    clock: &Arc<dyn Clock>,
    times: &LockTimes,
    options: &CacheOptions,
) -> Locks {
    use crate::lock::redis::RedisLeases;

    let namespace = super::views::namespace_of(ledger, &options.namespace);
    let redis = options.redis.clone();
    let redis = redis.map(|redis| Arc::new(RedisLeases::new(redis, namespace)) as _);
    granted(ledger, clock, times, redis)
}

#[cfg(not(feature = "redis"))]
pub(super) fn of(ledger: &dyn Ledger, clock: &Arc<dyn Clock>, times: &LockTimes) -> Locks {
    granted(ledger, clock, times, None)
}

fn granted(
    ledger: &dyn Ledger,
    clock: &Arc<dyn Clock>,
    times: &LockTimes,
    redis: Option<Arc<dyn crate::lock::Forgetful>>,
) -> Locks {
    let (clock, times) = (|| Arc::clone(clock), times.clone());
    match ledger.granting() {
        Granting::Alone { epoch, is_first } => {
            let backend = MemoryBackend::with_clock(epoch, clock());
            let backend = if is_first { backend } else { backend.after_others() };
            Locks::timed(Arc::new(backend), clock(), times)
        }
        Granting::Together(leases) => {
            let backend = SharedBackend::new(leases, redis, clock());
            Locks::timed(Arc::new(backend), clock(), times)
        }
    }
}
