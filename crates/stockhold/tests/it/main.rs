//! What the engine and its ledgers promise.

#[macro_use]
mod fixture;
mod backup;
mod batcher;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod copies;
mod damage;
mod differential;
mod engine;
mod expiring;
mod instances;
mod keeper;
mod laws;
mod lists;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod locks;
mod many;
mod metrics;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod moving;
mod overload;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "postgres")]
mod pressed;
mod repeating;
mod selling;
mod settling;
mod shop;
mod silence;
mod sweeper;
mod tidy;
