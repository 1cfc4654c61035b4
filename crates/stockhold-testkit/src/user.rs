//! As whom a server runs.

use std::{fs, os::unix::fs::chown, path::Path};

use rustix::process::getuid;

/// A user of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// The one for a program that refuses to be root: ourselves, unless we are root.
    pub(crate) fn instead_of_root(name: &str) -> Option<Self> {
        if !getuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        let user = users.lines().find_map(|line| Self::parse(line, name));
        Some(user.unwrap_or_else(|| panic!("there is no user {name}: install its package")))
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }

    /// Makes a file or a folder theirs.
    pub(crate) fn own(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid))
            .unwrap_or_else(|e| panic!("giving {} away: {e}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let line = "postgres:x:105:113:PostgreSQL administrator:/var/lib/postgresql:/bin/bash";
        assert_eq!(User::parse(line, "postgres"), Some(User { uid: 105, gid: 113 }));
        assert_eq!(User::parse(line, "post"), None);
    }
}
