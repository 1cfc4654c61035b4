//! Clients in numbers, and how long they wait.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};
use stockhold_server::client::Connection;

/// A connection of one client.
pub(crate) async fn connect(address: &str) -> Connection {
    let limit = Duration::from_secs(10);
    Connection::connect(address, limit, Arc::new(SystemClock)).await.unwrap()
}

/// The body of a place of one unit, for ten minutes.
pub(crate) fn hold(owner: &str) -> Value {
    json!({"owner": owner, "ttl_ms": 600_000, "lines": [{"sku": "HOT", "quantity": 1}]})
}

/// Time since the machine was started.
pub(crate) fn now() -> Duration {
    SystemClock.boot()
}

/// How long each of many requests took.
#[derive(Default)]
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn note(&mut self, begun: Duration) {
        self.0.push(now().saturating_sub(begun));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// 99 of 100 waited no longer.
    pub(crate) fn p99(&mut self) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() * 99 / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// As many open files as the machine allows; child processes inherit it.
pub(crate) fn allow_many_files(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let allowed = getrlimit(Resource::Nofile).current;
    assert!(allowed.is_none_or(|allowed| allowed >= needed), "only {allowed:?} open files");
}
