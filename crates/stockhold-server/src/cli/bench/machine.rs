//! On which machine it was measured, and how long its disk takes to sync.

use std::{fs, path::Path};

use serde::Serialize;
use stockhold::clock::{Clock, SystemClock};

use super::{
    super::disk::{self, Block, SyncTime},
    Doing, Fault,
};

/// Where and when.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    pub(super) filesystem: String,
    /// A block of 4 KiB appended, then fdatasync.
    pub(super) append: SyncTime,
    /// A block of 4 KiB overwritten, then fdatasync.
    pub(super) overwrite: SyncTime,
    pub(super) load_average: f64,
    pub(super) date: String,
    pub(super) stockhold: &'static str,
    pub(super) sqlite: &'static str,
    pub(super) build: &'static str,
}

impl Machine {
    pub(super) fn inspect(folder: &Path) -> Result<Self, Fault> {
        let now = SystemClock.wall().as_millis();
        let date = jiff::Timestamp::from_millisecond(now).doing("the date")?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: cores(),
            memory_mib: memory_mib().unwrap_or(0),
            kernel: first_word("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            filesystem: filesystem(folder).unwrap_or_else(unknown),
            append: sync_time(folder, Block::Appended)?,
            overwrite: sync_time(folder, Block::Overwritten)?,
            load_average: load_average().unwrap_or(0.0),
            date: format!("{date:.0}"),
            stockhold: env!("CARGO_PKG_VERSION"),
            sqlite: rusqlite::version(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        })
    }

    /// What makes the figures doubtful.
    pub(super) fn doubts(&self) -> Vec<String> {
        const BUSY: f64 = 0.5;
        let mut doubts = Vec::new();
        if self.build == "debug" {
            doubts.push("a debug build: the figures mean nothing".to_owned());
        }
        if self.load_average > BUSY {
            let load = self.load_average;
            doubts.push(format!("the load average was {load}: something else may be running"));
        }
        doubts
    }
}

/// How many threads can run at once.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn sync_time(folder: &Path, block: Block) -> Result<SyncTime, Fault> {
    const ROUNDS: usize = 200;
    disk::sync_time(folder, block, ROUNDS).doing("syncing a file")
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first value of that name in a file of `name : value` lines.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn first_word(file: &str) -> Option<String> {
    fs::read_to_string(file).ok()?.split_whitespace().next().map(str::to_owned)
}

fn memory_mib() -> Option<u64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    total.split(' ').next()?.parse::<u64>().ok().map(|kib| kib / 1_024)
}

fn load_average() -> Option<f64> {
    first_word("/proc/loadavg")?.parse().ok()
}

/// The one that is mounted nearest above the folder.
fn filesystem(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = |line: &str| {
        let mut words = line.split(' ');
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(at).then(|| (at.len(), format!("{kind} on {device}")))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_file_system_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        assert!(filesystem(folder.path()).is_some_and(|name| name.contains(" on ")));
        assert!(memory_mib().is_some_and(|mib| mib > 0) && load_average().is_some());
    }
}
