//! What Linux knows of a process: the time it computed, and the bytes it had written.

use std::{fs, time::Duration};

use super::{Doing, Fault};

/// Of which process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Ourselves,
    Child(u32),
}

impl Of {
    fn file(self, name: &str) -> String {
        match self {
            Self::Ourselves => format!("/proc/self/{name}"),
            Self::Child(pid) => format!("/proc/{pid}/{name}"),
        }
    }

    fn read(self, name: &str) -> Result<String, Fault> {
        let file = self.file(name);
        fs::read_to_string(&file).doing(&file)
    }

    /// CPU time so far, of all its threads, in user mode and in the kernel.
    pub(super) fn cpu(self) -> Result<Duration, Fault> {
        let stat = self.read("stat")?;
        cpu_of(&stat).ok_or_else(|| Fault::error(format!("{} says {stat}", self.file("stat"))))
    }

    /// Bytes handed to the disk so far.
    pub(super) fn bytes_written(self) -> Result<u64, Fault> {
        let io = self.read("io")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        written.ok_or_else(|| Fault::error(format!("{} has no write_bytes", self.file("io"))))
    }
}

/// Fields 14 and 15, in ticks of 10 ms; the second field is a name that may have blanks in it.
fn cpu_of(stat: &str) -> Option<Duration> {
    const TICK_MS: u64 = 10;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Duration::from_millis(user.saturating_add(system).saturating_mul(TICK_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "71 (a) b (c) S 1 71 71 0 -1 4194560 9 0 0 0 120 34 0 0 20 0 5 0 99";
        assert_eq!(cpu_of(stat), Some(Duration::from_millis(1_540)));
        assert_eq!(cpu_of("71 (short) S 1"), None);
    }

    #[test]
    fn we_can_read_about_ourselves() {
        assert!(Of::Ourselves.cpu().is_ok());
        assert!(Of::Ourselves.bytes_written().is_ok());
    }
}
