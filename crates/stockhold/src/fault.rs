//! A ledger that fails on demand, around one that does not.
//!
//! Faults are scripted: [`FaultLedger::next`] queues one for each coming [`Ledger::apply`], the
//! others stand until they are taken back. It also writes down every batch that it was handed.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::{Command, HoldId, Rejection, Traffic};
use tokio::sync::watch;

use crate::{
    Failure, FailureKind,
    ledger::{Applied, ApplyError, Batch, BatchId, Due, Layer, Ledger, Retired},
};

/// What happens to one batch.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// It fails before anything is written.
    Unavailable,
    /// It is not begun before the gate is open.
    Delayed(Gate),
    /// It is written at once, and answered when the gate is open.
    Late(Gate),
    /// Its outcome is lost after it was written ...
    LostAfter,
    /// ... or before.
    LostBefore,
}

/// Something to wait at; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A gate that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens it for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        // The sender lives as long as `self`, so this only ends when the gate is open.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Says of a command whether it poisons its batch.
type Poison = Box<dyn Fn(&Command) -> bool + Send + Sync>;

/// A ledger that fails on demand.
///
/// ```
/// # use std::sync::Arc;
/// # use stockhold::{*, clock::SystemClock, ledger::memory::MemoryLedger};
/// use stockhold::fault::{Fault, FaultLedger};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let inner = MemoryLedger::new(Limits::default(), Arc::new(SystemClock));
/// let ledger = Arc::new(FaultLedger::new(Arc::new(inner)));
/// let engine = Engine::builder(ledger.clone()).start()?;
/// let mug = ItemKey::at_default(Sku::new("MUG")?);
///
/// ledger.next(Fault::Unavailable);
/// let lost = engine.set_policy(&mug, Some(Quantity::ONE), None).await;
/// assert!(matches!(lost, Err(Error::Failed(f)) if f.kind == FailureKind::Unavailable));
/// assert!(engine.set_policy(&mug, Some(Quantity::ONE), None).await?.created);
/// # Ok(()) }
/// ```
pub struct FaultLedger {
    inner: Arc<dyn Ledger>,
    script: Mutex<VecDeque<Fault>>,
    poison: Mutex<Option<Poison>>,
    seen: Mutex<Vec<Arc<Batch>>>,
    landed_fails: AtomicUsize,
    due_fails: AtomicUsize,
    retire_fails: AtomicUsize,
    setbacks: AtomicUsize,
}

impl FaultLedger {
    /// A ledger that does what the inner one does, until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Ledger>) -> Self {
        Self {
            inner,
            script: Mutex::default(),
            poison: Mutex::default(),
            seen: Mutex::default(),
            landed_fails: AtomicUsize::new(0),
            due_fails: AtomicUsize::new(0),
            retire_fails: AtomicUsize::new(0),
            setbacks: AtomicUsize::new(0),
        }
    }

    /// The ledger behind the faults.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Ledger> {
        &self.inner
    }

    /// Queues what happens to the next batch that nothing is queued for yet.
    pub fn next(&self, fault: Fault) {
        lock(&self.script).push_back(fault);
    }

    /// Refuses every batch that has such a command: nothing is applied.
    pub fn poison(&self, is_poison: impl Fn(&Command) -> bool + Send + Sync + 'static) {
        *lock(&self.poison) = Some(Box::new(is_poison));
    }

    /// Takes [`FaultLedger::poison`] back.
    pub fn heal(&self) {
        *lock(&self.poison) = None;
    }

    /// Makes the next `times` calls of [`Ledger::landed`] fail.
    pub fn fail_landed(&self, times: usize) {
        self.landed_fails.store(times, Ordering::SeqCst);
    }

    /// Makes the next `times` calls of [`Ledger::due`] fail.
    pub fn fail_due(&self, times: usize) {
        self.due_fails.store(times, Ordering::SeqCst);
    }

    /// Makes the next `times` calls of [`Ledger::retire`] fail.
    pub fn fail_retire(&self, times: usize) {
        self.retire_fails.store(times, Ordering::SeqCst);
    }

    /// Every batch that was handed over since the last call, in order.
    pub fn take_seen(&self) -> Vec<Arc<Batch>> {
        std::mem::take(&mut lock(&self.seen))
    }

    /// How many batches were handed over since the last [`FaultLedger::take_seen`].
    #[must_use]
    pub fn seen(&self) -> usize {
        lock(&self.seen).len()
    }

    /// How often the inner ledger itself did not do what it was asked, whatever that was: a disk stood still, for
    /// example. A refused batch is none.
    #[must_use]
    pub fn setbacks(&self) -> usize {
        self.setbacks.load(Ordering::SeqCst)
    }

    fn is_poisoned(&self, batch: &Batch) -> bool {
        let poison = lock(&self.poison);
        poison.as_ref().is_some_and(|is_poison| batch.commands.iter().any(is_poison))
    }
}

#[async_trait]
impl Layer for FaultLedger {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        lock(&self.seen).push(Arc::clone(&batch));
        let fault = lock(&self.script).pop_front().unwrap_or(Fault::None);
        match &fault {
            Fault::Unavailable => return Err(ApplyError::Unavailable(away("before the batch"))),
            Fault::LostBefore => return Err(lost(answers_nobody_may_see(&batch))),
            Fault::Delayed(gate) => gate.pass().await,
            Fault::None | Fault::Late(_) | Fault::LostAfter => {}
        }
        if self.is_poisoned(&batch) {
            let failure = Failure::new(FailureKind::Internal, "a poisoned command");
            return Err(ApplyError::Refused { failure, races: 0 });
        }
        let applied = self.inner.apply(batch).await.inspect_err(|error| {
            if !matches!(error, ApplyError::Refused { .. }) {
                self.setbacks.fetch_add(1, Ordering::SeqCst);
            }
        })?;
        match &fault {
            Fault::LostAfter => return Err(lost(applied)),
            Fault::Late(gate) => gate.pass().await,
            Fault::None | Fault::Unavailable | Fault::LostBefore | Fault::Delayed(_) => {}
        }
        Ok(applied)
    }

    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        if counts_down(&self.landed_fails) {
            return Err(away("looking for a batch"));
        }
        self.inner.landed(id).await
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        if counts_down(&self.due_fails) {
            return Err(away("looking for due holds"));
        }
        self.inner.due(limit).await.inspect_err(|_| {
            self.setbacks.fetch_add(1, Ordering::SeqCst);
        })
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        if counts_down(&self.retire_fails) {
            return Err(away("removing holds"));
        }
        self.inner.retire(age, after, limit).await
    }
}

impl fmt::Debug for FaultLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultLedger").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counts_down(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn away(when: &str) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("lost the ledger {when}"))
}

fn lost(applied: Applied) -> ApplyError {
    ApplyError::Unknown { applied: Box::new(applied), failure: away("before its answer") }
}

/// The batch was never written, so whoever gets one of these answers was lied to.
fn answers_nobody_may_see(batch: &Batch) -> Applied {
    let lie = |_: &Command| Err(Rejection::Damaged { what: "an answer from nowhere".to_owned() });
    let answers = batch.commands.iter().map(lie).collect();
    let traffic = Traffic::default();
    let (active_holds, changed) = (Some(0), Vec::new());
    Applied { answers, next_due: None, active_holds, traffic, races: 0, changed }
}
