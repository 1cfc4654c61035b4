//! The file of a ledger: that it is ours, of which version, and that nobody else writes to it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::{
    SqliteOptions,
    failure::{self, During},
    readers,
};
use crate::{Failure, FailureKind};

/// How long to wait for another program that has the file locked for a moment.
pub(super) const BUSY: Duration = Duration::from_secs(2);
/// Says in the file's header that it is ours: "hold" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x686f_6c64;
const STEPS: &[M<'_>] = &[
    M::up(include_str!("schema.sql")),
    M::up(include_str!("carried.sql")),
    M::up(include_str!("moving.sql")),
    M::up(include_str!("locks.sql")),
];
pub(super) const MIGRATIONS: Migrations<'_> = Migrations::from_slice(STEPS);

/// A connection that cannot write, to a file that is a ledger.
pub(super) fn connect_to_ours(path: &Path) -> Result<Connection, Failure> {
    let conn = readers::connect(path).map_err(|e| failure::of(e, During::Open))?;
    check_is_ours(&conn, path, IsNew::No)?;
    Ok(conn)
}

/// The OS frees the lock when the process ends, however it ends.
pub(super) fn take_lock(path: &Path) -> Result<File, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unavailable = |e: std::io::Error| {
        let message = format!("{} cannot be opened", name.display());
        Failure::new(FailureKind::Unavailable, message).caused_by(e)
    };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&name);
    let file = file.map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "another process has the ledger {} open: end it, or name another ledger",
                path.display()
            );
            Err(Failure::new(FailureKind::InUse, message))
        }
        Err(TryLockError::Error(e)) => Err(unavailable(e)),
    }
}

pub(super) fn open_for_writing(
    path: &Path,
    options: &SqliteOptions,
) -> Result<Connection, Failure> {
    let is_new = match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => IsNew::No,
        Ok(_) | Err(_) => IsNew::Yes,
    };
    let unavailable = |e| failure::of(e, During::Open);
    let mut conn = connect(path).map_err(unavailable)?;
    check_is_ours(&conn, path, is_new)?;
    set_up(&conn, options).map_err(unavailable)?;
    MIGRATIONS.to_latest(&mut conn).map_err(|e| {
        let message = format!("{} cannot be brought to this version", path.display());
        Failure::new(FailureKind::Incompatible, message).caused_by(e)
    })?;
    Ok(conn)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IsNew {
    Yes,
    No,
}

/// Reads the header only, so that a file that is not ours stays as it is.
fn check_is_ours(conn: &Connection, path: &Path, is_new: IsNew) -> Result<(), Failure> {
    if is_new == IsNew::Yes {
        return Ok(());
    }
    let incompatible = |why: &str| {
        let message = format!("{} {why}", path.display());
        Failure::new(FailureKind::Incompatible, message)
    };
    let id = conn.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0));
    let id = id.map_err(|e| match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => incompatible("is not a stockhold ledger").caused_by(e),
        // Also a reader writes: into the file beside it that says what is read.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            let message = format!("{} and its folder cannot be written to", path.display());
            Failure::new(FailureKind::Unavailable, message).caused_by(e)
        }
        _ => failure::of(e, During::Open),
    })?;
    if id != APPLICATION_ID {
        return Err(incompatible("is not a stockhold ledger"));
    }
    match MIGRATIONS.pending_migrations(conn) {
        Ok(pending) if pending >= 0 => Ok(()),
        Ok(_) => Err(incompatible("was written by a newer version: use that one")),
        Err(e) => Err(incompatible("has no known version").caused_by(e)),
    }
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    Ok(conn)
}

fn set_up(conn: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -1_024 * i64::from(options.cache_mib))
}
