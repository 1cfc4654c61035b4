//! What the engine and its ledgers promise.

#[macro_use]
mod fixture;
mod backup;
mod batcher;
mod damage;
mod differential;
mod engine;
mod expiring;
mod keeper;
mod laws;
mod lists;
mod many;
mod metrics;
mod overload;
mod repeating;
mod selling;
mod settling;
mod shop;
mod silence;
mod sweeper;
mod tidy;
