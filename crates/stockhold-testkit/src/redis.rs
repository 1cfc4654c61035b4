//! A Redis server that belongs to one test.
//!
//! Debian's packages have it (`redis-server`, `redis-sentinel`); `scripts/test` installs them. It
//! listens on a socket in its own folder, and keeps nothing on disk unless it is told to.
//!
//! Its URLs name the user of `deploy/redis.acl`: whatever is tested is tested with no more rights than that user has,
//! and a test in which one was missing fails when its server ends.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    child::{Child, Run},
    folder::Folder,
    port::Port,
    time::until,
};

mod cluster;
mod sentinel;

pub use cluster::RedisCluster;
pub use sentinel::Sentinels;

/// A running server, or one that was killed and may be started again. Its folder goes with it.
///
/// ```
/// use stockhold_testkit::RedisServer;
/// let server = RedisServer::start();
/// assert_eq!(server.cli(&["INCR", "n"]), "1");
/// ```
#[derive(Debug)]
pub struct RedisServer {
    // Fields are dropped in this order: a server before what it stands on.
    child: Option<Child>,
    set_up: RedisSetUp,
    port: Option<Port>,
    /// Of a member of a Cluster, which the others talk to.
    bus: Option<Port>,
    is_paused: bool,
    folder: Folder,
}

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct RedisSetUp {
    settings: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    tcp: Tcp,
    tls: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tcp {
    None,
    FreePort,
}

const SETTINGS: [(&str, &str); 4] =
    [("appendonly", "no"), ("port", "0"), ("repl-diskless-sync-delay", "0"), ("save", "\"\"")];

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);

/// The file that says what rights are needed, and the password in it that is to be replaced.
const RIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/redis.acl");
const PLACEHOLDER: &str = "replace-this-password";

/// What `user` is set to: the user of that file.
fn least_rights() -> String {
    let text = fs::read_to_string(RIGHTS).unwrap_or_else(|e| panic!("reading {RIGHTS}: {e}"));
    let user = text.lines().find_map(|line| line.strip_prefix("user "));
    user.expect("the file has a user").replace(PLACEHOLDER, RedisServer::PASSWORD)
}

impl RedisSetUp {
    fn new() -> Self {
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut settings = BTreeMap::from(settings);
        settings.insert("user".to_owned(), least_rights());
        Self { settings, environment: BTreeMap::new(), tcp: Tcp::None, tls: None }
    }

    /// A setting, as in `redis.conf`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// A variable in the server's environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Display) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// A port on 127.0.0.1 as well: its own, also while it is down.
    #[must_use]
    pub fn with_tcp(mut self) -> Self {
        self.tcp = Tcp::FreePort;
        self
    }

    /// TLS on its port, and nothing else, with this certificate and its key (PEM).
    #[must_use]
    pub fn with_tls(mut self, certificate: &str, key: &str) -> Self {
        self.tls = Some((certificate.to_owned(), key.to_owned()));
        self.with_tcp()
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// When that fails: with what to do, or with what the server said.
    #[must_use]
    pub fn start(self) -> RedisServer {
        let port = (self.tcp == Tcp::FreePort).then(Port::claim);
        let folder = Folder::new(None, None);
        let bus = self.settings.contains_key("cluster-enabled").then(Port::claim);
        let mut server =
            RedisServer { child: None, set_up: self, port, bus, is_paused: false, folder };
        server.launch();
        server
    }
}

impl RedisServer {
    /// Of the user in its URLs.
    pub const PASSWORD: &str = "planted-5e7d0c1f";

    /// A server with the usual settings.
    ///
    /// # Panics
    /// As [`RedisSetUp::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::set_up().start()
    }

    /// A server with settings of its own.
    #[must_use]
    pub fn set_up() -> RedisSetUp {
        RedisSetUp::new()
    }

    /// Where it is, by its socket.
    #[must_use]
    pub fn url(&self) -> String {
        let (socket, password) = (self.socket(), Self::PASSWORD);
        format!("redis+unix://{}?user=stockhold&password={password}", socket.display())
    }

    /// Where it is for whoever connects to this address: the server's own, or that of a proxy.
    #[must_use]
    pub fn url_at(&self, address: impl Display) -> String {
        format!("redis://stockhold:{}@{address}", Self::PASSWORD)
    }

    /// Where it is, for whoever may do everything.
    #[must_use]
    pub fn root_url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// The same for whoever connects to this address.
    #[must_use]
    pub fn root_url_at(&self, address: impl Display) -> String {
        format!("redis://{address}")
    }

    /// The address of its port, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.as_ref().map(Port::address)
    }

    /// The file of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").pid()
    }

    /// What it has logged since it was made.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Sends a command; answers what `redis-cli` shows.
    ///
    /// # Panics
    /// When it is refused, or takes longer than 30 s.
    pub fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).unwrap_or_else(|why| panic!("{command:?}: {why}"))
    }

    /// The same, or why it was refused.
    ///
    /// # Errors
    /// What `redis-cli` complained about.
    pub fn try_cli(&self, command: &[&str]) -> Result<String, String> {
        let socket = self.socket();
        let socket = socket.to_str().expect("a folder for tests is UTF-8");
        cli(&[&["-s", socket], command].concat())
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When a right was missing; as whatever ends it.
    pub fn kill(&mut self) {
        self.expect_rights();
        // Dropping kills.
        self.child = None;
        self.is_paused = false;
    }

    /// Ends it in good order.
    ///
    /// # Panics
    /// When it has not ended after 10 s.
    pub fn stop(&mut self) {
        self.expect_rights();
        if let Some(mut child) = self.child.take() {
            child.resume();
            child.end(Signal::TERM, STOP);
        }
        self.is_paused = false;
    }

    /// Starts it again, in good order or after a [`kill`](Self::kill), with what it has on disk.
    ///
    /// # Panics
    /// As [`RedisSetUp::start`].
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// The same, and does not wait until it answers: it reads its data first.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn restart_without_waiting(&mut self) {
        self.stop();
        self.child = Some(self.begin());
    }

    /// Kills it and starts it without any data.
    ///
    /// # Panics
    /// As [`RedisSetUp::start`].
    pub fn restart_empty(&mut self) {
        self.kill();
        for data in ["dump.rdb", "appendonlydir"] {
            let data = self.folder.join(data);
            // Most servers have written neither.
            let _ = fs::remove_file(&data).or_else(|_| fs::remove_dir_all(&data));
        }
        self.launch();
    }

    /// Where it keeps its data: `dump.rdb`, and `appendonlydir`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Freezes it (`SIGSTOP`).
    pub fn pause(&mut self) {
        self.child.as_mut().expect("the server runs").pause();
        self.is_paused = true;
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.child.as_mut().expect("the server runs").resume();
        self.is_paused = false;
    }

    /// A replica of a server that has a port, with settings as that one has them. Returns when it
    /// has its data.
    ///
    /// # Panics
    /// When the primary has no port, or the replica is not in step after 30 s.
    #[must_use]
    pub fn replica_of(primary: &Self) -> Self {
        let replica = primary.set_up.clone().start();
        replica.follow(primary.address().expect("a primary has a port: with_tcp()"));
        replica
    }

    /// Makes it a replica of what is at this address, a server or a proxy before it, and waits
    /// until it is in step.
    ///
    /// # Panics
    /// When it is not in step after 30 s.
    pub fn follow(&self, primary: SocketAddr) {
        self.cli(&["REPLICAOF", &primary.ip().to_string(), &primary.port().to_string()]);
        until(START, "a replica in step", || match self.cli(&["INFO", "replication"]) {
            info if info.contains("master_link_status:up") => Ok(()),
            info => Err(info),
        });
    }

    /// Makes a replica a primary. The old one is not asked.
    pub fn promote(&self) {
        self.cli(&["REPLICAOF", "NO", "ONE"]);
    }

    /// What somebody was not allowed to do.
    #[must_use]
    pub fn denied(&self) -> Option<String> {
        let log = self.cli(&["ACL", "LOG"]);
        (!log.is_empty()).then_some(log)
    }

    fn launch(&mut self) {
        let mut child = self.begin();
        until(START, "Redis to answer", || {
            child.must_run();
            match self.try_cli(&["PING"])? {
                answer if answer == "PONG" => Ok(()),
                answer => Err(answer),
            }
        });
        self.child = Some(child);
    }

    fn begin(&self) -> Child {
        let mut settings = self.set_up.settings.clone();
        settings.insert("dir".to_owned(), self.folder.path().display().to_string());
        settings.insert("unixsocket".to_owned(), self.socket().display().to_string());
        if let Some(port) = &self.port {
            settings.insert("bind".to_owned(), "127.0.0.1".to_owned());
            let kind = if self.set_up.tls.is_some() { "tls-port" } else { "port" };
            settings.insert(kind.to_owned(), port.number().to_string());
        }
        if let Some(bus) = &self.bus {
            settings.insert("cluster-port".to_owned(), bus.number().to_string());
        }
        settings.extend(self.tls_settings());
        let settings: String =
            settings.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        run("redis-server", &self.folder, &settings, &self.set_up.environment)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_rights();
        }
    }
}

impl RedisServer {
    /// One that stands still, is short of memory or reads its data does not say.
    fn expect_rights(&self) {
        if self.child.is_some() && !self.is_paused {
            let log = self.try_cli(&["ACL", "LOG"]).unwrap_or_default();
            assert!(log.is_empty(), "a right is missing in deploy/redis.acl: {log}");
        }
    }
}

impl RedisServer {
    /// Writes the certificate and its key, if it has one, and says where.
    fn tls_settings(&self) -> Vec<(String, String)> {
        let Some((certificate, key)) = &self.set_up.tls else { return Vec::new() };
        let file = |name: &str, pem: &str| {
            let file = self.folder.join(name);
            fs::write(&file, pem).unwrap_or_else(|e| panic!("writing {}: {e}", file.display()));
            file.display().to_string()
        };
        let (certificate, key) = (file("tls.pem", certificate), file("tls.key", key));
        let settings = [
            ("tls-ca-cert-file", certificate.clone()),
            ("tls-cert-file", certificate),
            ("tls-key-file", key),
            ("tls-auth-clients", "no".to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// Starts one of Redis' programs with its settings in a file, which it may rewrite.
fn run(
    program: &'static str,
    folder: &Folder,
    settings: &str,
    environment: &BTreeMap<String, String>,
) -> Child {
    let found = Command::new(program).arg("--version").output();
    assert!(found.is_ok(), "no {program}: install {program} (scripts/test does it)");
    let file = folder.join("redis.conf");
    fs::write(&file, settings).unwrap_or_else(|e| panic!("writing {}: {e}", file.display()));
    let mut command = Command::new(program);
    command.arg(&file).envs(environment);
    let log = folder.join("log");
    Child::start(&Run { name: program, user: None, orphaned: "KILL", log: &log }, &command, None)
}

/// Asks by `redis-cli`, but not for longer than 30 s.
fn cli(args: &[&str]) -> Result<String, String> {
    let output = Command::new("timeout").args(["30", "redis-cli", "-e"]).args(args).output();
    let Output { status, stdout, stderr } =
        output.map_err(|e| format!("starting redis-cli: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if status.success() { Ok(text(&stdout)) } else { Err(text(&[stdout, stderr].concat())) }
}

#[cfg(test)]
mod tests;
