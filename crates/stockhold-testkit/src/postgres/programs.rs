//! Debian's programs of Postgres: where they are, and as whom they run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{folder, user::User};

const DEBIAN: &str = "/usr/lib/postgresql";

/// The newest version that is installed.
#[derive(Debug)]
pub(super) struct Programs {
    version: u32,
    folder: PathBuf,
    user: Option<User>,
}

impl Programs {
    pub(super) fn find() -> Self {
        let version = fs::read_dir(DEBIAN).ok().and_then(|versions| {
            let version = |name: Option<&str>| name?.parse::<u32>().ok();
            let versions = versions.flatten().map(|entry| entry.file_name());
            let versions = versions.filter_map(|name| version(name.to_str()));
            versions.filter(|v| bin(*v).join("initdb").exists()).max()
        });
        let Some(version) = version else {
            panic!("no Postgres in {DEBIAN}: install postgresql (scripts/test does it)")
        };
        Self { version, folder: bin(version), user: User::instead_of_root("postgres") }
    }

    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(super) fn command(&self, program: &str) -> Command {
        Command::new(self.folder.join(program))
    }

    /// Runs a statement, but not for longer than 30 s.
    pub(super) fn psql(&self, url: &str, statement: &str) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command.arg("30").arg(self.folder.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        command.args(["--set", "ON_ERROR_STOP=1", "--dbname", url, "--command", statement]);
        let output = command.env("PGCONNECT_TIMEOUT", "10").output();
        let output = output.map_err(|e| format!("starting psql: {e}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Makes a new data folder: a copy, since `initdb` takes more than a second.
    pub(super) fn copy_template(&self, data: &Path) {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto", "--"]).arg(self.template()).arg(data);
        succeed("cp", copy.output());
    }

    /// One for each version, which all tests of this user share; made by whoever comes first.
    fn template(&self) -> PathBuf {
        let template = folder::shared().join(format!("postgres-{}", self.version));
        if !template.exists() {
            self.make_template(&template);
        }
        template
    }

    /// Made aside and moved in one step. If another test was faster, its template is as good.
    fn make_template(&self, template: &Path) {
        let aside = folder::Folder::new(None, self.user());
        let data = aside.join("data");
        let mut initdb = Command::new(self.folder.join("initdb"));
        initdb.arg("-D").arg(&data).args(["--username=postgres", "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        succeed("initdb", self.as_user(&initdb).output());
        let moved = fs::rename(&data, template);
        assert!(moved.is_ok() || template.exists(), "moving {}: {moved:?}", data.display());
    }

    /// The same command, as the user that the server has.
    pub(super) fn as_user(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("setpriv");
        if let Some(User { uid, gid }) = self.user() {
            let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
            wrapped.args([&uid, &gid, "--clear-groups"]);
        }
        wrapped.arg("--").arg(command.get_program()).args(command.get_args());
        wrapped
    }
}

/// Says what a program complained about if it failed.
#[track_caller]
pub(super) fn succeed(name: &str, output: io::Result<Output>) {
    let output = output.unwrap_or_else(|e| panic!("starting {name}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}: {complaint}", output.status);
}

fn bin(version: u32) -> PathBuf {
    Path::new(DEBIAN).join(version.to_string()).join("bin")
}
