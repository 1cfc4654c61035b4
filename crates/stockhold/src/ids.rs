//! Where the numbers of holds and batches come from.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use stockhold_core::HoldId;
use uuid::{ContextV7, Timestamp as UuidTime, Uuid};

use crate::{clock::Clock, ledger::BatchId};

/// Makes UUIDv7s that rise within the process (RFC 9562, section 6.2, method 1), so that new rows
/// lie next to each other on disk; their random part makes an id hard to guess.
pub(crate) struct IdSource {
    clock: Arc<dyn Clock>,
    context: Mutex<ContextV7>,
}

impl IdSource {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, context: Mutex::new(ContextV7::new()) }
    }

    pub(crate) fn hold(&self) -> HoldId {
        HoldId::new(self.next())
    }

    pub(crate) fn batch(&self) -> BatchId {
        BatchId(self.next().into_bytes())
    }

    fn next(&self) -> Uuid {
        let millis = u64::try_from(self.clock.wall().as_millis()).unwrap_or(0);
        let nanos = u32::try_from(millis % 1_000).unwrap_or(0).saturating_mul(1_000_000);
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(UuidTime::from_unix(&*context, millis / 1_000, nanos))
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdSource").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_rise_within_one_millisecond_and_from_one_to_the_next() {
        let clock = ManualClock::default();
        let ids = IdSource::new(Arc::new(clock.clone()));
        let mut last = ids.hold();
        for turn in 0..10_000 {
            if turn % 1_000 == 0 {
                clock.advance(Duration::from_millis(1));
            }
            let next = ids.hold();
            assert!(next > last);
            last = next;
        }
    }
}
