//! What the engine and its ledgers promise.

#[macro_use]
mod fixture;
mod batcher;
mod damage;
mod differential;
mod engine;
mod expiring;
mod laws;
mod lists;
mod many;
mod overload;
mod repeating;
mod selling;
mod settling;
mod shop;
mod silence;
mod sweeper;
mod tidy;
