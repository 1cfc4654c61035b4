//! stockhold holds stock for a customer while they pay, and never oversells.
//!
//! An [`Engine`] stands on a ledger, the durable truth: a file on one machine (feature `sqlite`, on by
//! default), or a Postgres database that many engines share (`postgres`). Its verbs are those of a checkout:
//! [`Engine::place`], [`Engine::confirm`], [`Engine::release`]. With a Redis (`redis`) engines also share copies of
//! stock, and refuse places that come too late without asking the ledger. [`lock`] has locks, for what only one of
//! them is to do at a time.
//!
//! ```
//! use stockhold::*;
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::in_memory()?;
//! let mug = ItemKey::at_default(Sku::new("MUG")?);
//! engine.set_policy(&mug, Some(Quantity::ONE), None).await?; // the last one
//!
//! let lines = Basket::new([(mug, Quantity::ONE)])?;
//! let ann = engine.place(PlaceRequest::new(Owner::new("ann")?, lines.clone())).await?;
//! let ben = engine.place(PlaceRequest::new(Owner::new("ben")?, lines)).await;
//! assert!(matches!(ben, Err(Error::Rejected { rejection, .. }) if rejection.is_transient()));
//!
//! engine.confirm(ann.hold.hold.id, ConfirmRequest::default()).await?;
//! # Ok(()) }
//! ```
//!
//! What can be said of stock and holds, and the rules, are in [`stockhold_core`]; its types are
//! re-exported here.

mod batcher;
#[doc(hidden)]
pub mod bug;
#[cfg(feature = "redis")]
pub mod cache;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
#[doc(hidden)]
pub mod crash;
mod engine;
mod error;
#[cfg(feature = "conformance")]
pub mod fault;
mod ids;
mod keeper;
pub mod ledger;
pub mod lock;
mod metrics;
#[cfg(feature = "redis")]
pub mod redis;
mod settings;
mod sweeper;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod url;

pub use engine::{
    Adjustment, ConfirmRequest, Engine, EngineBuilder, Load, Operation, PlaceRequest,
};
#[cfg(feature = "redis")]
pub use engine::{CacheOptions, Told};
pub use error::{Error, Failure, FailureKind};
pub use metrics::Metrics;
pub use settings::Settings;
pub use stockhold_core::{
    Basket, Hold, HoldId, HoldState, HoldView, IdempotencyKey, InvalidBasket, InvalidName, ItemKey,
    Limits, Line, LoadMode, Loaded, Location, LockName, Movement, MovementKind, OnExpired, Outcome,
    Owner, Placed, PolicySet, Quantity, Reason, Reference, Rejection, Settled, Shortage, Sku,
    StockItem, StockMoved, StockView, Timestamp, Ttl, verify,
};
