//! What a killed server leaves in memory. Its next start removes it; if there is none, its test has
//! to: the machine has room for some thousands of segments.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::child::Child;

/// The shared memory of one server.
#[derive(Debug, Default)]
pub(super) struct SharedMemory {
    segment: Option<String>,
    files: Vec<String>,
}

impl SharedMemory {
    /// That of a running server. Not all of it is mapped by the postmaster.
    pub(super) fn of(server: &Child, data: &Path) -> Self {
        let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let maps = |pid| fs::read_to_string(format!("/proc/{pid}/maps")).ok();
        let maps: String = server.family().into_iter().filter_map(maps).collect();
        Self { segment: segment_in(&pid_file), files: files_in(&maps) }
    }

    pub(super) fn remove(&self) {
        if let Some(segment) = &self.segment {
            // Whatever is gone already is as wanted.
            let _ = Command::new("ipcrm").args(["--shmem-id", segment]).output();
        }
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }

    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        let all = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let is_ours = |line: &str| line.split_whitespace().nth(1) == self.segment.as_deref();
        all.lines().any(is_ours) || self.files.iter().any(|file| Path::new(file).exists())
    }
}

/// The seventh line of `postmaster.pid` has the key and the id of the segment.
fn segment_in(pid_file: &str) -> Option<String> {
    pid_file.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}

fn files_in(maps: &str) -> Vec<String> {
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let files: BTreeSet<_> =
        files.filter(|file| file.starts_with("/dev/shm/PostgreSQL.")).collect();
    files.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_files_are_found() {
        let pid_file = "1\n/d\n1\n5432\n/s\n\n  1234  32768\nready\n";
        assert_eq!(segment_in(pid_file).as_deref(), Some("32768"));
        let maps = "7f0-7f1 rw-s 00000000 00:1a 19 /dev/shm/PostgreSQL.12\n\
                    7f2-7f3 rw-s 00000000 00:01 8 /SYSV0052 (deleted)\n";
        assert_eq!(files_in(maps), ["/dev/shm/PostgreSQL.12"]);
    }
}
