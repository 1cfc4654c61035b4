//! The laws, on every ledger.

use stockhold::conformance;

use crate::fixture::{Memory, Sqlite};

conformance::suite!(memory, Memory::default());
conformance::suite!(sqlite, Sqlite::default());
