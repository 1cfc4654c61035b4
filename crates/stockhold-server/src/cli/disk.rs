//! How long a disk takes to sync, and how much room it has.

use std::{
    io::{self, Seek, Write},
    path::Path,
    time::Duration,
};

use serde::Serialize;
use stockhold::clock::{Clock, SystemClock};

/// How long a sync takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SyncTime {
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// Where the block of 4 KiB goes that is synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Appended,
    Overwritten,
}

/// Writes a block and syncs it, so many times, to a temporary file in this folder.
pub(super) fn sync_time(folder: &Path, block: Block, rounds: usize) -> io::Result<SyncTime> {
    let times = sync_times(folder, block, rounds)?;
    let micros = |part: usize| {
        let at = times.len().saturating_mul(part) / 100;
        let time = times.get(at).copied().unwrap_or_default();
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    };
    Ok(SyncTime { p50_us: micros(50), p99_us: micros(99) })
}

fn sync_times(folder: &Path, block: Block, rounds: usize) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::Builder::new().prefix(".stockhold-sync-").tempfile_in(folder)?;
    let bytes = [0x5a; 4_096];
    if block == Block::Overwritten {
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
    }
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let before = SystemClock.boot();
        if block == Block::Overwritten {
            file.rewind()?;
        }
        file.write_all(&bytes)?;
        file.as_file().sync_data()?;
        times.push(SystemClock.boot().saturating_sub(before));
    }
    times.sort_unstable();
    Ok(times)
}

/// How many bytes an ordinary user may still write there.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_time() {
        let folder = tempfile::tempdir().unwrap();
        for block in [Block::Appended, Block::Overwritten] {
            let times = sync_times(folder.path(), block, 3).unwrap();
            assert!(times.len() == 3 && times.is_sorted() && times[2] > Duration::ZERO);
            let time = sync_time(folder.path(), block, 3).unwrap();
            assert!(time.p50_us > 0 && time.p50_us <= time.p99_us, "{time:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it tidies up");
    }

    #[test]
    fn a_disk_has_room() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
    }
}
