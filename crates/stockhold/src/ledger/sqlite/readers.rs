//! Connections for reading, so that reads never wait for the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::failure::{self, During};
use crate::{Failure, FailureKind};

/// A bounded pool of read-only connections.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: &Path, most: usize) -> Self {
        let (path, idle) = (Arc::new(path.to_owned()), Arc::default());
        Self { path, idle, permits: Arc::new(Semaphore::new(most)) }
    }

    /// Reads in one snapshot, on a thread that may block.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let closed = |_| Failure::new(FailureKind::Closed, "the ledger is closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let pool = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.read_now(read)
        });
        let panicked = |e| Failure::new(FailureKind::Internal, "a read has panicked").caused_by(e);
        task.await.map_err(panicked)?.map_err(|e| failure::of(e, During::Read))
    }

    fn read_now<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle().pop();
        let mut conn = idle.map_or_else(|| connect(&self.path), Ok)?;
        let snapshot = conn.transaction()?;
        let result = read(&snapshot);
        snapshot.finish()?;
        self.idle().push(conn);
        result
    }

    /// Lets nobody read any more, and closes the connections.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that cannot write.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(super::file::BUSY)?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}
