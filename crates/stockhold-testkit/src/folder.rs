//! Folders: one for each server, and one that the tests of a user share.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::process::getuid;
use tempfile::TempDir;

use crate::user::User;

/// A folder for one server, which is removed with it.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    /// A new one inside `parent`, or where temporary folders are.
    pub(crate) fn new(parent: Option<&Path>, owner: Option<&User>) -> Self {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let folder = tempfile::Builder::new().prefix("stockhold-").tempdir_in(&parent);
        let folder = folder.unwrap_or_else(|e| panic!("a folder inside {}: {e}", parent.display()));
        if let Some(owner) = owner {
            owner.own(folder.path());
        }
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What all tests of this user share: templates, and who has which port. Others may look into it,
/// since a server may run as another user, but not write.
pub(crate) fn shared() -> PathBuf {
    let user = getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("stockhold-testkit-{user}"));
    // It may be there already.
    let _ = fs::DirBuilder::new().mode(0o755).create(&folder);
    let theirs = fs::symlink_metadata(&folder)
        .unwrap_or_else(|e| panic!("making {}: {e}", folder.display()));
    let ours = theirs.is_dir() && theirs.uid() == user;
    assert!(ours, "{} belongs to somebody else: remove it", folder.display());
    folder
}
