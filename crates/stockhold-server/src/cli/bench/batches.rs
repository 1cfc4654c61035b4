//! A ledger that counts what goes into it, so that the bare loop can write batches of that size.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use stockhold::ledger::{Applied, ApplyError, Batch, Layer, Ledger, sqlite::SqliteLedger};

/// What went into a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    inner: SqliteLedger,
    batches: AtomicU64,
    places: AtomicU64,
    expiries: AtomicU64,
}

impl Counting {
    pub(super) fn new(inner: SqliteLedger) -> Self {
        let (batches, places, expiries) = Default::default();
        Self { inner, batches, places, expiries }
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
        &self.inner
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        let applied = self.inner.apply(Arc::clone(&batch)).await?;
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
