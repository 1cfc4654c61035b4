//! Sentinels: they watch a primary, and promote a replica when it is gone.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{RedisServer, START, cli, run};
use crate::{child::Child, folder::Folder, port::Port, time::until};

/// Some sentinels that watch one primary.
#[derive(Debug)]
pub struct Sentinels {
    // Fields are dropped in this order: a process before its folder.
    members: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    child: Child,
    port: Port,
    _folder: Folder,
}

/// The name under which they know the primary.
const NAME: &str = "stockhold";

impl Sentinels {
    /// Three of them, of which two have to agree. They take a primary for gone when it has been
    /// silent for `silence`. Returns when all know each other and the primary's replicas.
    ///
    /// # Panics
    /// When the primary has no port, or they do not come together within 30 s.
    #[must_use]
    pub fn of(primary: &RedisServer, silence: Duration) -> Self {
        let address = primary.address().expect("a primary has a port: with_tcp()");
        let members = (0..3).map(|_| Sentinel::start(address, silence)).collect();
        let sentinels = Self { members };
        let replicas = connected_replicas(primary);
        for sentinel in &sentinels.members {
            until(START, "sentinels that know each other", || sentinel.knows(2, replicas));
        }
        sentinels
    }

    /// Where they are.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|sentinel| sentinel.port.address()).collect()
    }

    /// The name under which they know the primary.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// Where the primary is, by the first one's account.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn primary(&self) -> SocketAddr {
        let address = self.members[0].ask(&["get-master-addr-by-name", NAME]);
        let address = address.expect("a sentinel answers");
        let (host, port) = address.split_once('\n').expect("a host and a port");
        let parsed = format!("{host}:{port}").parse();
        parsed.unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// Waits until all of them say that the primary is another one; answers which.
    ///
    /// # Panics
    /// When they have not agreed on one within 60 s.
    #[must_use]
    pub fn wait_for_other_than(&self, old: SocketAddr) -> SocketAddr {
        until(FAILOVER, "another primary", || match self.primary() {
            new if new != old => Ok(new),
            old => Err(format!("it is {old}")),
        })
    }
}

const FAILOVER: Duration = Duration::from_secs(60);

impl Sentinel {
    fn start(primary: SocketAddr, silence: Duration) -> Self {
        let (port, folder) = (Port::claim(), Folder::new(None, None));
        let (host, number) = (primary.ip(), primary.port());
        let settings = [
            ("port", port.number().to_string()),
            ("bind", "127.0.0.1".to_owned()),
            ("dir", folder.path().display().to_string()),
            ("sentinel monitor", format!("{NAME} {host} {number} 2")),
            ("sentinel parallel-syncs", format!("{NAME} 1")),
            ("sentinel down-after-milliseconds", format!("{NAME} {}", silence.as_millis())),
            ("sentinel failover-timeout", format!("{NAME} 5000")),
        ];
        let settings: String =
            settings.into_iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        let child = run("redis-sentinel", &folder, &settings, &BTreeMap::new());
        let mut sentinel = Self { child, port, _folder: folder };
        until(START, "a sentinel to answer", || {
            sentinel.child.must_run();
            sentinel.ask(&["myid"])
        });
        sentinel
    }

    fn ask(&self, command: &[&str]) -> Result<String, String> {
        let port = self.port.number().to_string();
        cli(&[&["-h", "127.0.0.1", "-p", &port, "SENTINEL"], command].concat())
    }

    /// Whether it knows so many other sentinels and replicas.
    fn knows(&self, others: usize, replicas: usize) -> Result<(), String> {
        let known = self.ask(&["master", NAME])?;
        let count = |name: &str| {
            let mut lines = known.lines().skip_while(|line| *line != name).skip(1);
            lines.next().and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let complete = count("num-other-sentinels") >= others && count("num-slaves") >= replicas;
        if complete { Ok(()) } else { Err(known) }
    }
}

fn connected_replicas(primary: &RedisServer) -> usize {
    let info = primary.cli(&["INFO", "replication"]);
    let count = info.lines().find_map(|line| line.strip_prefix("connected_slaves:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
