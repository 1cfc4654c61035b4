//! The engine: how it begins and ends. Its verbs are in the files beside.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockhold_core::Limits;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use crate::{
    Failure, FailureKind, Metrics, Settings,
    batcher::{Lane, Surroundings},
    clock::{Clock, SystemClock, within},
    ids::IdSource,
    keeper::Keeper,
    ledger::{Ledger, memory::MemoryLedger},
    lock::Locks,
    sweeper::{Alarm, Sweeper},
};

mod locks;
mod many;
mod operation;
mod reads;
mod verbs;
#[cfg(feature = "redis")]
mod views;

#[cfg(feature = "redis")]
use self::views::Views;
#[cfg(feature = "redis")]
pub use self::{reads::Told, views::CacheOptions};
pub use operation::{Adjustment, ConfirmRequest, Load, Operation, PlaceRequest};

/// Holds stock on a ledger. Clones are handles on the same engine.
///
/// Every verb waits until what it did is durable. Dropping its future before the command was
/// taken into a batch takes it back; afterwards it runs to its end.
///
/// ```
/// # use stockhold::*;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// let mug = ItemKey::at_default(Sku::new("MUG")?);
/// engine.set_policy(&mug, Some(Quantity::new(5)?), None).await?;
///
/// let lines = Basket::new([(mug, Quantity::ONE)])?;
/// let placed = engine.place(PlaceRequest::new(Owner::new("cart_981")?, lines)).await?;
/// let confirmed = engine.confirm(placed.hold.hold.id, ConfirmRequest::default()).await?;
/// assert_eq!(confirmed.hold.hold.state, HoldState::Confirmed);
/// engine.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lane: Lane,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    ids: Arc<IdSource>,
    metrics: Arc<Metrics>,
    locks: Locks,
    #[cfg(feature = "redis")]
    views: Views,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// An engine that nobody has a handle on does what is queued and ends.
impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.lane.close();
    }
}

/// What an engine is made of.
#[derive(Debug)]
pub struct EngineBuilder {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    sweeps: bool,
    #[cfg(feature = "redis")]
    cache: CacheOptions,
}

impl EngineBuilder {
    /// Gathers and waits as these settings say.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Takes time from this clock; the ledger should have the same.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Expires nothing by itself: for tests, and for an operator who wants to look first. Due
    /// holds are still reclaimed on demand. Somebody has to see to it that the ledger shows a sign
    /// of life, or all holds enjoy the grace of an outage.
    #[must_use]
    pub const fn without_sweeper(mut self) -> Self {
        self.sweeps = false;
        self
    }

    /// Keeps copies of stock items like this, for [`Engine::stock_at_most`].
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn cache(mut self, cache: CacheOptions) -> Self {
        self.cache = cache;
        self
    }

    /// Starts the engine on the current tokio runtime.
    ///
    /// # Errors
    /// `Invalid` names the setting that is wrong.
    pub fn start(self) -> Result<Engine, Failure> {
        self.settings.check()?;
        #[cfg(feature = "conformance")]
        crate::crash::arm();
        #[cfg(feature = "conformance")]
        crate::bug::arm();
        #[cfg(feature = "redis")]
        let Self { ledger, clock, settings, sweeps, cache } = self;
        #[cfg(not(feature = "redis"))]
        let Self { ledger, clock, settings, sweeps } = self;
        let ids = Arc::new(IdSource::new(Arc::clone(&clock)));
        let alarm = Arc::new(Alarm::new(Arc::clone(&clock)));
        let metrics = Metrics::of(&ledger);
        #[cfg(feature = "redis")]
        let locks = locks::of(&*ledger, &clock, metrics.locks(), &cache);
        #[cfg(not(feature = "redis"))]
        let locks = locks::of(&*ledger, &clock, metrics.locks());
        #[cfg(feature = "redis")]
        let views = Views::new(&ledger, cache);
        #[cfg(feature = "redis")]
        let metrics = metrics.with(views.metrics());
        let metrics = Arc::new(metrics);
        let lane = Lane::new(Surroundings {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            alarm: Arc::clone(&alarm),
            metrics: Arc::clone(&metrics),
            settings: settings.clone(),
            #[cfg(feature = "redis")]
            watcher: Some(Arc::new(views.clone())),
            #[cfg(not(feature = "redis"))]
            watcher: None,
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(lane.clone().run())];
        if sweeps {
            let sweeper = Sweeper {
                ledger: Arc::clone(&ledger),
                lane: lane.clone(),
                clock: Arc::clone(&clock),
                alarm,
                settings: settings.clone(),
                tally: Arc::default(),
                broken: HashMap::new(),
                told_again: None,
            };
            tasks.push(tokio::spawn(sweeper.run(stopped.clone())));
        }
        let keeper = Keeper {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            locks: locks.clone(),
            settings: settings.clone(),
            metrics: Arc::clone(&metrics),
        };
        tasks.push(tokio::spawn(keeper.run(stopped)));
        let tasks = Mutex::new(tasks);
        Ok(Engine {
            shared: Arc::new(Shared {
                lane,
                ledger,
                clock,
                settings,
                ids,
                metrics,
                locks,
                #[cfg(feature = "redis")]
                views,
                stop,
                tasks,
            }),
        })
    }
}

impl Engine {
    /// An engine on this ledger.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use stockhold::{*, clock::SystemClock, ledger::memory::MemoryLedger};
    /// # #[tokio::main] async fn main() -> Result<(), Failure> {
    /// let ledger = MemoryLedger::new(Limits::default(), Arc::new(SystemClock));
    /// let settings = Settings { batch_commands: 500, ..Settings::default() };
    /// let engine = Engine::builder(Arc::new(ledger)).settings(settings).start()?;
    /// # engine.close().await }
    /// ```
    #[must_use]
    pub fn builder(ledger: Arc<dyn Ledger>) -> EngineBuilder {
        let (clock, settings) = (Arc::new(SystemClock), Settings::default());
        EngineBuilder {
            ledger,
            clock,
            settings,
            sweeps: true,
            #[cfg(feature = "redis")]
            cache: CacheOptions::default(),
        }
    }

    /// An engine that forgets everything in the end: for tests of the shop that embeds it.
    ///
    /// # Errors
    /// None in practice: the default settings are right.
    pub fn in_memory() -> Result<Self, Failure> {
        let ledger = MemoryLedger::new(Limits::default(), Arc::new(SystemClock));
        Self::builder(Arc::new(ledger)).start()
    }

    /// What a monitoring system may want to know.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Locks by name, of all who share the ledger: by Redis, if the engine was told of one, with the ledger's database
    /// behind it; by that alone; or of this process.
    ///
    /// Overselling is never prevented by a lock; they are for what only one should do at a time.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.shared.locks
    }

    /// Takes no more commands, does what is queued, and gives the ledger back.
    ///
    /// # Errors
    /// `Unavailable` if the ledger could not be closed in order, or has not answered for 30 s;
    /// what was answered is durable.
    pub async fn close(&self) -> Result<(), Failure> {
        const PATIENCE: Duration = Duration::from_secs(30);
        self.shared.stop.send_replace(true);
        self.shared.lane.close();
        let tasks = self.take_tasks();
        let handles: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let close = async {
            for task in tasks {
                // A task that panicked has nothing left to wait for.
                let _ = task.await;
            }
            self.shared.ledger.close().await
        };
        let closed = within(&*self.shared.clock, PATIENCE, close).await;
        closed.unwrap_or_else(|| {
            handles.iter().for_each(AbortHandle::abort);
            let message = format!("the ledger has not answered for {PATIENCE:?} and was left open");
            let failure = Failure::new(FailureKind::Unavailable, message);
            self.shared.lane.give_up(&failure);
            Err(failure)
        })
    }

    fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
