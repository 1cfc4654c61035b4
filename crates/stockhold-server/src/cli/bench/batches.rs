//! A ledger that counts what goes into it, so that the bare loop can write batches of that size.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stockhold::{
    Failure, HoldId, HoldView, ItemKey, Movement, StockView,
    ledger::{
        Applied, ApplyError, Batch, BatchId, Due, HoldQuery, Ledger, MovementQuery, Page, Retired,
        StockQuery, sqlite::SqliteLedger,
    },
    verify::Report,
};

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
impl Ledger for Counting {
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        let applied = self.inner.apply(Arc::clone(&batch)).await?;
        self.note(&batch);
        Ok(applied)
    }

    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        self.inner.landed(id).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure> {
        self.inner.hold(id).await
    }

    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure> {
        self.inner.stock(key).await
    }

    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure> {
        self.inner.holds(query).await
    }

    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        self.inner.items(query).await
    }

    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure> {
        self.inner.movements(query).await
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        self.inner.due(limit).await
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        self.inner.retire(age, after, limit).await
    }

    async fn verify(&self) -> Result<Report, Failure> {
        self.inner.verify().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.inner.close().await
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
