//! A ledger around another one.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{HoldId, HoldView, ItemKey, KeyId, Movement, StockView, verify::Report};

use super::{
    Alarms, Applied, ApplyError, Batch, BatchId, Due, Granting, HoldQuery, Ledger, MovementQuery,
    Page, Retired, StockQuery, Unchanged,
};
use crate::Failure;

/// What happens around another ledger. Whoever implements it is a [`Ledger`]; what it does not
/// state itself, the inner one does.
///
/// ```
/// # use std::sync::Arc;
/// # use stockhold::{Limits, clock::SystemClock, ledger::memory::MemoryLedger};
/// use stockhold::ledger::{Layer, Ledger};
///
/// #[derive(Debug)]
/// struct Plain(MemoryLedger);
///
/// impl Layer for Plain {
///     fn inner(&self) -> &dyn Ledger {
///         &self.0
///     }
/// }
/// # #[tokio::main] async fn main() -> Result<(), stockhold::Failure> {
/// let ledger = Plain(MemoryLedger::new(Limits::default(), Arc::new(SystemClock)));
/// assert!(ledger.verify().await?.is_clean());
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Layer: Debug + Send + Sync + 'static {
    /// The ledger inside.
    fn inner(&self) -> &dyn Ledger;

    /// Around [`Ledger::apply`].
    ///
    /// # Errors
    /// As there.
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        self.inner().apply(batch).await
    }

    /// Around [`Ledger::landed`].
    ///
    /// # Errors
    /// As there.
    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        self.inner().landed(id).await
    }

    /// Around [`Ledger::alarms`].
    fn alarms(&self) -> Option<Alarms> {
        self.inner().alarms()
    }

    /// Around [`Ledger::due`].
    ///
    /// # Errors
    /// As there.
    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        self.inner().due(limit).await
    }

    /// Around [`Ledger::retire`].
    ///
    /// # Errors
    /// As there.
    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        self.inner().retire(age, after, limit).await
    }
}

#[async_trait]
impl<L: Layer> Ledger for L {
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        Layer::apply(self, batch).await
    }

    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        Layer::landed(self, id).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure> {
        self.inner().hold(id).await
    }

    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure> {
        self.inner().stock(key).await
    }

    async fn stock_of(&self, keys: &[ItemKey]) -> Result<Vec<Option<StockView>>, Failure> {
        self.inner().stock_of(keys).await
    }

    async fn unchanged(&self, known: &[(ItemKey, u64)]) -> Result<Unchanged, Failure> {
        self.inner().unchanged(known).await
    }

    async fn knows(&self, keys: &[KeyId]) -> Result<Vec<bool>, Failure> {
        self.inner().knows(keys).await
    }

    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure> {
        self.inner().holds(query).await
    }

    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        self.inner().items(query).await
    }

    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure> {
        self.inner().movements(query).await
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        Layer::due(self, limit).await
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        Layer::retire(self, age, after, limit).await
    }

    async fn verify(&self) -> Result<Report, Failure> {
        self.inner().verify().await
    }

    async fn sealed(&self) -> Result<Option<String>, Failure> {
        self.inner().sealed().await
    }

    fn alarms(&self) -> Option<Alarms> {
        Layer::alarms(self)
    }

    fn identity(&self) -> Option<&str> {
        self.inner().identity()
    }

    fn granting(&self) -> Granting {
        self.inner().granting()
    }

    fn is_shared(&self) -> bool {
        self.inner().is_shared()
    }

    async fn close(&self) -> Result<(), Failure> {
        self.inner().close().await
    }
}
