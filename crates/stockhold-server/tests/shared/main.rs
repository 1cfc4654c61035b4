//! A shop over Postgres: several `stockhold serve`, in processes of their own, on one ledger.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod account;
mod checked;
mod counted;
mod faults;
mod locks;
mod program;
mod scenarios;
mod shop;
mod shopper;
mod smoke;
mod starting;
#[path = "../it/swallower.rs"]
mod swallower;
mod wire;
