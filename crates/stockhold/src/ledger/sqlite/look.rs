//! Looks into the file of a ledger that somebody else may have open, and changes nothing.

use std::{ops::ControlFlow, path::Path};

use rusqlite::Connection;
use stockhold_core::{StockItem, Timestamp};

use super::{
    SqliteLedger,
    failure::{self, During},
    file::{MIGRATIONS, connect_to_ours},
    rows,
};
use crate::Failure;

/// What the file of a ledger says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// The version of its schema.
    pub schema: i64,
    /// How many steps its schema is behind that of this program, which takes them when it opens
    /// the ledger.
    pub pending: usize,
    /// When the ledger was last alive: its high water of time.
    pub alive_at: Timestamp,
    /// Why nothing is written to the ledger any more, or not yet.
    pub sealed: Option<String>,
}

impl SqliteLedger {
    /// Says what is in a file, also while a server has it open. Blocks.
    ///
    /// # Errors
    /// `Unavailable` if there is no such file; `Incompatible` if it is no ledger, or one of a
    /// newer version.
    pub fn inspect_file(path: impl AsRef<Path>) -> Result<FileFacts, Failure> {
        in_snapshot(path.as_ref(), |conn, pending| {
            let schema = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let alive_at = rows::liveness(conn)?.alive_at();
            // An older schema has no seal.
            let sealed = match pending {
                0 => conn.query_row("SELECT sealed FROM ledger", [], |row| row.get(0))?,
                _ => None,
            };
            Ok(FileFacts { schema, pending, alive_at, sealed })
        })
    }

    /// Reads all stock items by SKU and location, in one snapshot, also while a server has the
    /// file open; until `take` breaks off. Blocks.
    ///
    /// # Errors
    /// As for [`SqliteLedger::inspect_file`].
    pub fn read_stock(
        path: impl AsRef<Path>,
        mut take: impl FnMut(StockItem) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        in_snapshot(path.as_ref(), |conn, _| {
            let read = format!("SELECT {} FROM stock ORDER BY sku, location", rows::STOCK_COLUMNS);
            let mut read = conn.prepare(&read)?;
            let mut found = read.query([])?;
            while let Some(row) = found.next()? {
                let (_, item) = rows::stock_item(row)?;
                if take(item).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Reads a ledger of ours without being able to write; `pending` is how many steps its schema is
/// behind.
pub(super) fn in_snapshot<T>(
    path: &Path,
    read: impl FnOnce(&Connection, usize) -> rusqlite::Result<T>,
) -> Result<T, Failure> {
    let mut conn = connect_to_ours(path)?;
    let pending = MIGRATIONS.pending_migrations(&conn).unwrap_or(0);
    let snapshot = conn.transaction().map_err(|e| failure::of(e, During::Open))?;
    let pending = usize::try_from(pending).unwrap_or(0);
    read(&snapshot, pending).map_err(|e| failure::of(e, During::Read))
}

#[cfg(test)]
mod tests {
    use crate::{FailureKind, ledger::sqlite::SqliteOptions};

    use super::*;

    #[test]
    fn a_file_is_looked_into_while_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let _open = SqliteLedger::open(&path, SqliteOptions::default()).unwrap();
        let facts = SqliteLedger::inspect_file(&path).unwrap();
        assert_eq!(facts.pending, 0);
        assert!(facts.schema >= 1);
        let mut items = 0;
        let count = |_| {
            items += 1;
            ControlFlow::Continue(())
        };
        SqliteLedger::read_stock(&path, count).unwrap();
        assert_eq!(items, 0);
    }

    #[test]
    fn a_ledger_of_an_older_version_can_be_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let mut conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "application_id", crate::ledger::sqlite::file::APPLICATION_ID)
            .unwrap();
        MIGRATIONS.to_version(&mut conn, 1).unwrap();
        drop(conn);
        let facts = SqliteLedger::inspect_file(&path).unwrap();
        assert_eq!((facts.schema, facts.pending > 0), (1, true));
        SqliteLedger::read_stock(&path, |_| ControlFlow::Continue(())).unwrap();
    }

    #[test]
    fn what_is_no_ledger_is_told_apart_from_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.db");
        assert_eq!(SqliteLedger::inspect_file(&path).unwrap_err().kind, FailureKind::Unavailable);
        assert!(!path.exists());
        std::fs::write(&path, "not a ledger".repeat(1_000)).unwrap();
        assert_eq!(SqliteLedger::inspect_file(&path).unwrap_err().kind, FailureKind::Incompatible);
    }
}
