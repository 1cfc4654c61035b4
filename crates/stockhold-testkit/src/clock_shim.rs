//! A wall clock that a test moves, for one process or for several: a small library that is loaded
//! before all others (`LD_PRELOAD`). `cc` makes it, when it is wanted first.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    process::Command,
    time::Duration,
};

use crate::folder::Folder;

/// What a process needs in its environment, and how far its clock is ahead.
///
/// ```
/// use std::{process::Command, time::Duration};
/// use stockhold_testkit::ClockShim;
/// let year = |shim: &ClockShim| {
///     let year = Command::new("date").arg("+%Y").envs(shim.variables()).output().unwrap();
///     String::from_utf8(year.stdout).unwrap().trim().parse::<u32>().unwrap()
/// };
/// let shim = ClockShim::new();
/// let now = year(&shim);
/// shim.set_ahead(Duration::from_secs(800 * 86_400));
/// assert!(year(&shim) >= now + 2);
/// shim.set_behind(Duration::from_secs(800 * 86_400));
/// assert!(year(&shim) <= now - 2);
/// ```
#[derive(Debug)]
pub struct ClockShim {
    file: File,
    folder: Folder,
}

const SOURCE: &str = include_str!("clock_shim/shim.c");

impl ClockShim {
    /// A clock that is right. Servers that run as another user can read it as well.
    ///
    /// # Panics
    /// When there is no C compiler (Debian's package `gcc`), or no folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = Folder::new(None, None);
        let readable = Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).expect("one's own folder");
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        fs::write(&source, SOURCE).expect("there is room for a source");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        let made = cc.output().unwrap_or_else(|e| panic!("starting cc (package gcc): {e}"));
        assert!(made.status.success(), "cc: {}", String::from_utf8_lossy(&made.stderr));
        let file = File::create(folder.join("ahead")).expect("there is room for a number");
        let shim = Self { file, folder };
        shim.set(0);
        shim
    }

    /// For the environment of a process.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let path = |name| self.folder.join(name).display().to_string();
        [("LD_PRELOAD", path("shim.so")), ("CLOCK_SHIM", path("ahead"))]
    }

    /// From now on the clock is ahead by so much.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn set_ahead(&self, ahead: Duration) {
        self.set(millis(ahead));
    }

    /// From now on the clock is behind by so much.
    ///
    /// # Panics
    /// As [`set_ahead`](Self::set_ahead).
    pub fn set_behind(&self, behind: Duration) {
        self.set(millis(behind).saturating_neg());
    }

    fn set(&self, ahead: i64) {
        self.file.write_all_at(&ahead.to_ne_bytes(), 0).expect("a number can be written");
    }
}

impl Default for ClockShim {
    fn default() -> Self {
        Self::new()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
