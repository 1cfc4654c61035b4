//! Standbys: a copy of a server that follows it, and may take its place.

use super::{PostgresServer, START, programs::succeed};
use crate::time::{now, until};

/// What a commit of the primary waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replication {
    /// Until the standby has it on disk: a failover loses nothing.
    Synchronous,
    /// Not for the standby: a failover may lose what was answered.
    Asynchronous,
}

impl PostgresServer {
    /// A standby of this server, with settings as this one has them; it has a port if this one has.
    /// Returns when it follows.
    ///
    /// # Panics
    /// When it does not within 30 s.
    #[must_use]
    pub fn standby_of(primary: &mut Self, replication: Replication) -> Self {
        let name = format!("standby-{}", now());
        let (host, port) = (primary.folder.path().display(), primary.port_number());
        let upstream = format!("host={host} port={port} user=postgres application_name={name}");
        let set_up = primary.set_up.clone().with("synchronous_standby_names", "");
        let standby = Self::prepare(set_up.with("primary_conninfo", upstream));
        standby.copy_from(primary);
        let standby = standby.started();
        if replication == Replication::Synchronous {
            primary.reload_with("synchronous_standby_names", format!("\"{name}\""));
        }
        primary.wait_for_standby(&name, replication);
        standby
    }

    /// Makes a standby a primary. The old one is not asked.
    ///
    /// # Panics
    /// When it is none, or takes longer than 30 s.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote(true, 30)"), "t", "{}", self.log());
        assert!(!self.is_standby());
    }

    /// Whether it follows another server.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.psql("SELECT pg_is_in_recovery()") == "t"
    }

    fn copy_from(&self, primary: &Self) {
        let mut copy = self.programs.command("pg_basebackup");
        copy.arg("-D").arg(self.data()).args(["-X", "stream", "-c", "fast", "--no-sync"]);
        copy.arg("-d").arg(primary.url());
        succeed("pg_basebackup", self.programs.as_user(&copy).output());
        self.write_file("standby.signal", "");
    }

    fn wait_for_standby(&self, name: &str, replication: Replication) {
        let wanted = match replication {
            Replication::Synchronous => "streaming|sync",
            Replication::Asynchronous => "streaming|async",
        };
        let state = format!(
            "SELECT state, sync_state FROM pg_stat_replication WHERE application_name = '{name}'"
        );
        until(START, "a standby that follows", || match self.psql(&state) {
            state if state == wanted => Ok(()),
            state => Err(state),
        });
    }
}
