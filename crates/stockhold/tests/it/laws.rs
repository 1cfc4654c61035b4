//! The laws, on every ledger.

use stockhold::conformance;

use crate::fixture::{Memory, Postgres, Sqlite};

conformance::suite!(memory, Memory::default());
conformance::suite!(postgres, Postgres::default());
conformance::suite!(sqlite, Sqlite::default());
