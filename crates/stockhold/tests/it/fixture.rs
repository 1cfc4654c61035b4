//! The ledgers that the tests run on.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use stockhold::{
    Limits,
    clock::ManualClock,
    conformance::Fixture,
    ledger::{
        Ledger,
        memory::MemoryLedger,
        postgres::{PostgresLedger, PostgresOptions},
        sqlite::{SqliteLedger, SqliteOptions},
    },
};
use stockhold_testkit::PostgresServer;
use tempfile::TempDir;

/// Nothing stays: every opened ledger is empty.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    clock: ManualClock,
}

#[async_trait]
impl Fixture for Memory {
    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        false
    }

    async fn open(&self, limits: Limits) -> Arc<dyn Ledger> {
        Arc::new(MemoryLedger::new(limits, Arc::new(self.clock.clone())))
    }
}

/// A file in a folder of its own.
#[derive(Debug)]
pub(crate) struct Sqlite {
    clock: ManualClock,
    folder: TempDir,
}

impl Default for Sqlite {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { clock: ManualClock::default(), folder }
    }
}

impl Sqlite {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }
}

#[async_trait]
impl Fixture for Sqlite {
    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }

    async fn open(&self, limits: Limits) -> Arc<dyn Ledger> {
        let clock = Arc::new(self.clock.clone());
        let options = SqliteOptions { limits, clock, ..SqliteOptions::default() };
        Arc::new(SqliteLedger::open(self.path(), options).expect("it opens"))
    }
}

/// A database of a server that belongs to one test.
#[derive(Debug)]
pub(crate) struct Postgres {
    clock: ManualClock,
    server: Arc<PostgresServer>,
    database: String,
}

impl Default for Postgres {
    fn default() -> Self {
        let (server, database) = (Arc::new(PostgresServer::start()), "postgres".to_owned());
        Self { clock: ManualClock::default(), server, database }
    }
}

impl Postgres {
    /// An empty database of a server that has others.
    pub(crate) fn on(server: &Arc<PostgresServer>, database: String) -> Self {
        server.create_database(&database);
        Self { clock: ManualClock::default(), server: Arc::clone(server), database }
    }

    fn url(&self) -> String {
        self.server.url_of(&self.database)
    }

    /// Does something by hand.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.server.psql_at(&self.url(), statement).expect("it works")
    }

    /// As an instance with this number.
    pub(crate) async fn open_as(&self, instance: i32, limits: Limits) -> Arc<dyn Ledger> {
        let (clock, instance) = (Some(Arc::new(self.clock.clone()) as Arc<_>), Some(instance));
        let options = PostgresOptions { limits, clock, instance, ..PostgresOptions::default() };
        let ledger = PostgresLedger::connect(&self.url(), options).await;
        Arc::new(ledger.expect("it connects"))
    }
}

#[async_trait]
impl Fixture for Postgres {
    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }

    async fn open(&self, limits: Limits) -> Arc<dyn Ledger> {
        self.open_as(1, limits).await
    }
}

/// Which ledger a story is told on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn fixture(self) -> Arc<dyn Fixture> {
        match self {
            Self::Memory => Arc::new(Memory::default()),
            Self::Sqlite => Arc::new(Sqlite::default()),
            Self::Postgres => Arc::new(Postgres::default()),
        }
    }
}

/// Makes one test of each story for each ledger: on a runtime of one thread, where a task that was
/// spawned has run before `settle` returns, or, with `parallel`, on two.
macro_rules! on_each_ledger {
    (parallel: $($story:ident)+) => {
        on_each_ledger! { (flavor = "multi_thread", worker_threads = 2) $($story)+ }
    };
    (one_thread: $($story:ident)+) => {
        on_each_ledger! { (flavor = "current_thread") $($story)+ }
    };
    ($how:tt $($story:ident)+) => {
        mod memory {
            use crate::fixture::Kind;
            $(#[tokio::test $how] async fn $story() { super::$story(Kind::Memory).await; })+
        }
        mod sqlite {
            use crate::fixture::Kind;
            $(#[tokio::test $how] async fn $story() { super::$story(Kind::Sqlite).await; })+
        }
        mod postgres {
            use crate::fixture::Kind;
            $(#[tokio::test $how] async fn $story() { super::$story(Kind::Postgres).await; })+
        }
    };
}
