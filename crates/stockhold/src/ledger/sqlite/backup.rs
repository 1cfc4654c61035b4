//! Copies a ledger while it is in use.
//!
//! The copy is one state of the ledger, as a reader sees it: what was answered before the copy was
//! begun is in it. It is written under another name and gets its own when it is on the disk, so
//! that a file of that name is always a whole copy.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::failure::{self, During};
use crate::{Failure, FailureKind};

/// Writes a copy of what the connection reads, and says how many bytes it has.
pub(super) fn write(conn: &Connection, to: &Path) -> Result<u64, Failure> {
    if to.symlink_metadata().is_ok() {
        let message = format!("{} is there already: name a file that is not", to.display());
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    let part = part_of(to);
    let copied = copy(conn, &part).and_then(|()| {
        let bytes = put_in_place(&part, to);
        bytes.map_err(|e| unwritable(to).caused_by(e))
    });
    if copied.is_err() {
        // If it was not there, there is nothing to tidy up.
        let _ = fs::remove_file(&part);
    }
    copied
}

fn copy(conn: &Connection, part: &Path) -> Result<(), Failure> {
    let Some(name) = part.to_str() else {
        let message = format!("{} is no name in UTF-8: use another", part.display());
        return Err(Failure::new(FailureKind::Invalid, message));
    };
    let copied = conn.execute("VACUUM INTO ?1", [name]);
    copied.map(drop).map_err(|e| failure::of(e, During::Backup))
}

fn put_in_place(part: &Path, to: &Path) -> io::Result<u64> {
    let file = File::open(part)?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    fs::rename(part, to)?;
    File::open(folder_of(to))?.sync_all()?;
    Ok(bytes)
}

/// Two backups at once do not meet, whatever they are called.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    PathBuf::from(name)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn unwritable(to: &Path) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("{} cannot be written", to.display()))
}
