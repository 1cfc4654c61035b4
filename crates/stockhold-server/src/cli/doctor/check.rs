//! What is looked at, each thing by itself.

use std::{fs, path::Path, time::Duration};

use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use stockhold::{
    FailureKind, Timestamp,
    clock::{Clock, SystemClock},
    ledger::sqlite::SqliteLedger,
};

use super::super::{
    Fault, LedgerUrl,
    disk::{self, Block, SyncTime},
    path::Path as UrlPath,
    remote::{Ask, Remote},
};
use crate::settings::Settings;

/// What was found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) next: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Bad,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

impl Check {
    pub(super) const fn ok(name: &'static str, found: String) -> Self {
        Self { name, verdict: Verdict::Ok, found, next: None }
    }

    pub(super) fn warn(name: &'static str, found: String, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found, next: Some(next.into()) }
    }

    pub(super) fn bad(name: &'static str, found: String, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, found, next: Some(next.into()) }
    }
}

pub(super) fn version() -> Check {
    let (stockhold, sqlite) = (env!("CARGO_PKG_VERSION"), rusqlite::version());
    Check::ok("version", format!("stockhold {stockhold}, SQLite {sqlite}"))
}

/// Whether a server would take its settings; if not, the others are looked at with the defaults.
pub(super) fn settings(read: Result<Settings, String>) -> (Settings, Check) {
    const NAME: &str = "settings";
    match read {
        Ok(settings) => {
            let (listen, ledger) = (settings.server.listen, &settings.ledger.url);
            let found = format!("listen on {listen}, ledger {ledger}");
            (settings, Check::ok(NAME, found))
        }
        Err(wrong) => {
            let next = "docs/settings.md has all settings; the checks below are with the defaults";
            (Settings::default(), Check::bad(NAME, wrong, next))
        }
    }
}

pub(super) fn in_memory() -> Check {
    let next = "name a file with --ledger sqlite:PATH, or holds are gone with their server";
    Check::warn("ledger", "in memory".to_owned(), next)
}

/// Whether the file is a ledger of ours, and of this version.
pub(super) fn ledger(path: &Path) -> Check {
    const NAME: &str = "ledger";
    let shown = path.display();
    if !path.exists() {
        return Check::warn(
            NAME,
            format!("{shown} is not there"),
            "stockhold serve makes a new one; if there should be one, check the path",
        );
    }
    match SqliteLedger::inspect_file(path) {
        Ok(facts) if facts.pending > 0 => {
            let found = format!("{shown}, schema {}, {}", facts.schema, size_words(path));
            Check::warn(NAME, found, "serve brings it to this version: make a backup before")
        }
        Ok(facts) => {
            Check::ok(NAME, format!("{shown}, schema {}, {}", facts.schema, size_words(path)))
        }
        Err(failure) => {
            let next = match failure.kind {
                FailureKind::Incompatible => "name another file; this one was not touched",
                _ => {
                    "let this user write to the file, its -wal and -shm, and the folder: readers do too"
                }
            };
            Check::bad(NAME, Fault::from(failure).to_string(), next)
        }
    }
}

/// Whether a shop moves, or has moved, away from this file.
pub(super) fn seal(path: &Path) -> Option<Check> {
    SqliteLedger::inspect_file(path).ok()?.sealed.map(sealed)
}

/// Nothing is written to this ledger. The reason says what to do.
pub(super) fn sealed(why: String) -> Check {
    let next = "no server starts with this ledger: do as the reason says";
    Check::bad("sealed", why, next)
}

fn size_words(path: &Path) -> String {
    let log = beside(path, "-wal");
    format!("{} and a log of {}", mib(size(path)), mib(size(&log)))
}

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Whether the disk has room for a backup and a day of holds.
pub(super) fn room(folder: &Path, ledger: &Path) -> Check {
    const NAME: &str = "disk";
    const LITTLE: u64 = 1 << 30;
    const NONE: u64 = 64 << 20;
    let free = match disk::free_bytes(folder) {
        Ok(free) => free,
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            return Check::bad(NAME, found, "make the folder, or name another one");
        }
    };
    let found = format!("{} free in {}", mib(free), folder.display());
    match free {
        ..NONE => Check::bad(NAME, found, "make room: without it no hold can be written"),
        free if free < LITTLE.saturating_add(size(ledger)) => {
            let next = "make room: a backup needs as much as the ledger, and the log up to 1 GiB";
            Check::warn(NAME, found, next)
        }
        _ => Check::ok(NAME, found),
    }
}

/// How long a lone customer waits for the disk, and whether it is one.
pub(super) fn sync(folder: &Path) -> Check {
    const ROUNDS: usize = 50;
    match disk::sync_time(folder, Block::Appended, ROUNDS) {
        Ok(time) => sync_verdict(time),
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            Check::bad("sync", found, "let the user who runs the server write to this folder")
        }
    }
}

fn sync_verdict(time: SyncTime) -> Check {
    const NAME: &str = "sync";
    let SyncTime { p50_us, p99_us } = time;
    let found = format!("4 KiB synced: p50 {p50_us} us, p99 {p99_us} us");
    match (p50_us, p99_us) {
        (..15, _) => {
            let next = "no disk is that fast: is it in memory, or told not to sync? Then a power \
                        cut takes holds back that were answered";
            Check::warn(NAME, found, next)
        }
        (15..10_000, ..100_000) => Check::ok(NAME, found),
        _ => {
            let next = "every hold waits for this: take an SSD on this machine, not a network disk";
            Check::warn(NAME, found, next)
        }
    }
}

/// Whether the wall clock can be believed. `before` is what both clocks said a while ago.
pub(super) fn clock(before: (Timestamp, Duration), ledger: &LedgerUrl) -> Check {
    let now = (SystemClock.wall(), SystemClock.boot());
    let high_water = match ledger {
        LedgerUrl::Sqlite(path) => SqliteLedger::inspect_file(path).ok().map(|f| f.alive_at),
        LedgerUrl::Postgres(_) | LedgerUrl::Memory => None,
    };
    clock_verdict(before, now, high_water)
}

type Clocks = (Timestamp, Duration);

fn clock_verdict(before: Clocks, now: Clocks, high_water: Option<Timestamp>) -> Check {
    const NAME: &str = "clock";
    const MOST_AHEAD: Duration = Duration::from_secs(2);
    const MOST_STEP: Duration = Duration::from_secs(1);
    /// 2025 and 2100.
    const SANE: std::ops::Range<i64> = 1_735_689_600_000..4_102_444_800_000;
    let (wall, boot) = now;
    let shown = jiff::Timestamp::from_millisecond(wall.as_millis()).unwrap_or_default();
    let found = format!("{shown:.0}");
    if !SANE.contains(&wall.as_millis()) {
        return Check::bad(NAME, found, "set the clock of this machine");
    }
    let ahead = high_water.map(|seen| seen.since(wall)).unwrap_or_default();
    if ahead > MOST_AHEAD {
        let found = format!("{found}, and the ledger was at work {ahead:?} later than that");
        let next = "set the clock of this machine: it was set back, or was ahead when the ledger \
                    was written. Until then holds are told deadlines that lie ahead of the clock";
        return Check::bad(NAME, found, next);
    }
    let (by_wall, by_boot) = (wall.since(before.0), boot.saturating_sub(before.1));
    if by_wall.abs_diff(by_boot) > MOST_STEP {
        let found = format!("{found}; it moved by {by_wall:?} in {by_boot:?}");
        return Check::warn(NAME, found, "something sets the clock in steps: let NTP slew it");
    }
    Check::ok(NAME, found)
}

/// Whether as many files can be open as there may be connections.
pub(super) fn files(connections: u64) -> Check {
    files_verdict(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), connections)
}

fn files_verdict(limit: u64, connections: u64) -> Check {
    const NAME: &str = "open files";
    const OTHERS: u64 = 64;
    let needed = connections.saturating_add(OTHERS);
    let found = format!("{limit} for up to {connections} connections");
    if limit >= needed {
        return Check::ok(NAME, found);
    }
    let next =
        format!("raise it to {needed}, by ulimit -n or LimitNOFILE=, or allow fewer connections");
    Check::warn(NAME, found, next)
}

/// Whether the server answers, and is ready.
pub(super) fn server(remote: &Remote) -> Check {
    const NAME: &str = "server";
    let ready = Ask::get(UrlPath::of("/readyz"));
    match remote.talk(async |server| server.ask(&ready).await) {
        Ok(_) => Check::ok(NAME, "ready".to_owned()),
        Err(fault) => {
            let words = fault.to_string();
            let (found, next) = words.split_once('\n').unwrap_or((&words, "look into its log"));
            Check::bad(NAME, found.to_owned(), next.trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    fn at(wall: i64, boot: u64) -> Clocks {
        (Timestamp::from_millis(wall), Duration::from_millis(boot))
    }

    #[test]
    fn a_clock_that_runs_is_well() {
        let check = clock_verdict(at(NOW, 500), at(NOW + 100, 600), None);
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        let seen = Some(Timestamp::from_millis(NOW + 2_000));
        assert_eq!(clock_verdict(at(NOW, 500), at(NOW, 500), seen).verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_that_cannot_be_believed_is_told() {
        assert_eq!(clock_verdict(at(0, 500), at(0, 600), None).verdict, Verdict::Bad);
        let seen = Some(Timestamp::from_millis(NOW + 2_001));
        assert_eq!(clock_verdict(at(NOW, 500), at(NOW, 600), seen).verdict, Verdict::Bad);
        let stepped = clock_verdict(at(NOW, 500), at(NOW + 5_000, 600), None);
        assert_eq!(stepped.verdict, Verdict::Warn);
    }

    #[test]
    fn a_disk_may_be_too_slow_or_too_fast_to_be_true() {
        let verdict = |p50_us, p99_us| sync_verdict(SyncTime { p50_us, p99_us }).verdict;
        assert_eq!(verdict(300, 2_000), Verdict::Ok);
        for (p50_us, p99_us) in [(3, 20), (12_000, 20_000), (300, 200_000)] {
            assert_eq!(verdict(p50_us, p99_us), Verdict::Warn);
        }
    }

    #[test]
    fn too_few_files_for_all_connections_is_told() {
        assert_eq!(files_verdict(4_160, 4_096).verdict, Verdict::Ok);
        let few = files_verdict(1_024, 4_096);
        assert_eq!(few.verdict, Verdict::Warn);
        assert!(few.next.unwrap().contains("4160"));
    }
}
