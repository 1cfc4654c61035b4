//! What the server is and how it is set up, and how long a commit takes.

use serde::Serialize;
use stockhold::clock::{Clock, SystemClock};
use tokio_postgres::Client;

use super::{
    super::{
        super::disk::SyncTime,
        workload::{micros, percentiles},
    },
    Asking, Fault,
    server::{Server, connect},
};

/// What bears on the figures, or on what they are worth.
const SETTINGS: [&str; 11] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "autovacuum_naptime",
    "max_connections",
];

/// What is known of a server.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Facts {
    version: String,
    settings: Vec<(&'static str, String)>,
    /// Of one row, the round trip included.
    commit: SyncTime,
    /// The same with `synchronous_commit = off`: the difference is the disk's.
    commit_unsynced: SyncTime,
}

impl Facts {
    pub(super) async fn of(server: &Server) -> Result<Self, Fault> {
        let version = setting(server.admin(), "server_version").await?;
        let mut settings = Vec::new();
        for name in SETTINGS {
            settings.push((name, setting(server.admin(), name).await?));
        }
        let name = server.create(None).await?;
        let client = connect(&server.url_of(&name)).await?;
        let table = "CREATE TABLE note (n bigint NOT NULL)";
        client.batch_execute(table).await.asking("making a table")?;
        let commit = commit_time(&client).await?;
        let off = "SET synchronous_commit = off";
        client.batch_execute(off).await.asking("setting synchronous_commit")?;
        let commit_unsynced = commit_time(&client).await?;
        server.drop(&name).await?;
        Ok(Self { version, settings, commit, commit_unsynced })
    }

    /// What it is called.
    pub(in super::super) fn name(&self) -> String {
        format!("Postgres {}", self.version)
    }

    /// Two lines.
    pub(in super::super) fn in_words(&self) -> String {
        let Self { commit, commit_unsynced: unsynced, .. } = self;
        let settings = self.settings.iter().map(|(name, value)| format!("{name} {value}"));
        format!(
            "A row committed on Postgres: p50 {} us, p99 {} us; without waiting for its disk: \
             p50 {} us, p99 {} us\n{}\n",
            commit.p50_us,
            commit.p99_us,
            unsynced.p50_us,
            unsynced.p99_us,
            settings.collect::<Vec<_>>().join(", ")
        )
    }

    /// What makes the figures doubtful.
    pub(in super::super) fn doubts(&self) -> Vec<String> {
        let wanted = [("fsync", "on"), ("full_page_writes", "on"), ("autovacuum", "on")];
        let is_off = |(name, value): &&(&str, String)| {
            wanted.iter().any(|(wanted, is)| wanted == name && is != value)
                || (*name == "synchronous_commit" && matches!(value.as_str(), "off" | "local"))
        };
        let off = self.settings.iter().filter(is_off);
        off.map(|(name, value)| {
            format!("{name} is {value}: with it no shop should run, and the figures are too good")
        })
        .collect()
    }
}

async fn setting(client: &Client, name: &str) -> Result<String, Fault> {
    let read = client.query_one("SELECT current_setting($1)", &[&name]).await;
    Ok(read.asking(name)?.get(0))
}

async fn commit_time(client: &Client) -> Result<SyncTime, Fault> {
    const ROUNDS: i64 = 200;
    let insert = "INSERT INTO note (n) VALUES ($1)";
    let insert = client.prepare(insert).await.asking("preparing a statement")?;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let before = SystemClock.boot();
        client.execute(&insert, &[&round]).await.asking("committing a row")?;
        took.push(micros(SystemClock.boot().saturating_sub(before)));
    }
    let (p50, p99) = percentiles(took).unwrap_or_default();
    Ok(SyncTime { p50_us: u64::from(p50), p99_us: u64::from(p99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_sync_is_doubted() {
        let settings = |fsync: &str, synchronous: &str| {
            vec![("fsync", fsync.to_owned()), ("synchronous_commit", synchronous.to_owned())]
        };
        let time = SyncTime { p50_us: 1, p99_us: 2 };
        let facts = |settings| Facts {
            version: "15.1".to_owned(),
            settings,
            commit: time,
            commit_unsynced: time,
        };
        assert!(facts(settings("on", "remote_apply")).doubts().is_empty());
        assert_eq!(facts(settings("off", "local")).doubts().len(), 2);
        assert!(facts(settings("off", "on")).doubts()[0].starts_with("fsync is off"));
        assert!(facts(settings("on", "on")).in_words().contains("synchronous_commit on"));
    }
}
