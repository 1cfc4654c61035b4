//! A ledger that counts what goes into it, so that the bare loop can write batches of that size.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stockhold::{
    clock::{Clock, SystemClock},
    ledger::{Applied, ApplyError, Batch, Layer, Ledger},
};

use super::workload::micros;

/// What went into a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batches {
    pub(super) batches: u64,
    pub(super) places: u64,
    pub(super) expiries: u64,
}

impl Batches {
    pub(super) const fn add(&mut self, more: Self) {
        self.batches += more.batches;
        self.places += more.places;
        self.expiries += more.expiries;
    }

    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            batches: self.batches.saturating_sub(before.batches),
            places: self.places.saturating_sub(before.places),
            expiries: self.expiries.saturating_sub(before.expiries),
        }
    }
}

impl Batches {
    /// What has gone in after so many batches of the mean size of these.
    pub(super) fn after(self, batches: u64) -> Self {
        let mean = |of: u64| of.saturating_mul(batches) / self.batches.max(1);
        Self { batches, places: mean(self.places), expiries: mean(self.expiries) }
    }
}

/// Counts, and passes everything on.
#[derive(Debug)]
pub(super) struct Counting {
    inner: Arc<dyn Ledger>,
    batches: AtomicU64,
    places: AtomicU64,
    expiries: AtomicU64,
    /// How long each batch took, in microseconds.
    took: Mutex<Vec<u32>>,
}

impl Counting {
    pub(super) fn new(inner: Arc<dyn Ledger>) -> Self {
        let (batches, places, expiries, took) = Default::default();
        Self { inner, batches, places, expiries, took }
    }

    /// How long each batch took since this was asked for last, in microseconds.
    pub(super) fn took(&self) -> Vec<u32> {
        std::mem::take(&mut self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn batches(&self) -> Batches {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Batches {
            batches: read(&self.batches),
            places: read(&self.places),
            expiries: read(&self.expiries),
        }
    }

    fn note(&self, batch: &Batch) {
        let count = |verb: &str| {
            batch.commands.iter().filter(|command| command.action.verb() == verb).count() as u64
        };
        // A batch of nothing is a sign of life; it writes at most one row a second.
        if !batch.commands.is_empty() {
            self.batches.fetch_add(1, Ordering::Relaxed);
        }
        self.places.fetch_add(count("place"), Ordering::Relaxed);
        self.expiries.fetch_add(count("expire"), Ordering::Relaxed);
    }
}

#[async_trait]
impl Layer for Counting {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        let before = SystemClock.boot();
        let applied = self.inner.apply(Arc::clone(&batch)).await?;
        let took = micros(SystemClock.boot().saturating_sub(before));
        self.took.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        self.note(&batch);
        Ok(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_the_mean_size_add_up() {
        let seen = Batches { batches: 4, places: 10, expiries: 3 };
        assert_eq!(seen.after(4), seen);
        let (mut sum, mut sizes) = (Batches::default(), Vec::new());
        for turn in 1..=4 {
            let next = seen.after(turn).since(sum);
            sizes.push((next.places, next.expiries));
            sum.add(next);
        }
        assert_eq!(sizes, [(2, 0), (3, 1), (2, 1), (3, 1)]);
        assert_eq!(Batches::default().after(9).places, 0);
    }
}
