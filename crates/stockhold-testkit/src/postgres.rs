//! A Postgres server that belongs to one test.
//!
//! Debian's packages have it (`postgresql`); `scripts/test` installs them. It listens on a socket
//! in its own folder, trusts whoever reaches it, and syncs as in production.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    child::{Child, Run},
    folder::Folder,
    port::Port,
    time::until,
};

mod programs;
mod shared_memory;
mod standby;

use programs::Programs;
use shared_memory::SharedMemory;
pub use standby::Replication;

/// A running server, or one that was killed and may be started again. Its folder goes with it.
///
/// ```
/// use stockhold_testkit::PostgresServer;
/// let server = PostgresServer::start();
/// assert_eq!(server.psql("SELECT 1 + 1"), "2");
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    // Fields are dropped in this order: a server before what it stands on.
    child: Option<Child>,
    left: SharedMemory,
    set_up: PostgresSetUp,
    programs: Programs,
    port: Option<Port>,
    folder: Folder,
}

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct PostgresSetUp {
    settings: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    parent: Option<PathBuf>,
    tcp: Tcp,
    tls: Option<(String, String)>,
    access: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tcp {
    None,
    FreePort,
}

/// What is set when a test says nothing else. Synced as in production, small in memory.
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("listen_addresses", ""),
    ("log_line_prefix", "%m [%p] "),
    ("port", "5432"),
    ("recovery_init_sync_method", "syncfs"),
    ("shared_buffers", "64MB"),
    // A standby may come after its primary has gone on for a while.
    ("wal_keep_size", "256MB"),
];

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

impl PostgresSetUp {
    fn new() -> Self {
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            settings: settings.into(),
            environment: BTreeMap::new(),
            parent: None,
            tcp: Tcp::None,
            tls: None,
            access: None,
        }
    }

    /// A setting, as in `postgresql.conf`, without quotes.
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

    /// TLS on its port, with this certificate and its key (PEM).
    #[must_use]
    pub fn with_tls(mut self, certificate: &str, key: &str) -> Self {
        self.tls = Some((certificate.to_owned(), key.to_owned()));
        self.with_tcp()
    }

    /// Who is let in by its port, as `pg_hba.conf` says it, and nobody else. By the socket everybody is.
    #[must_use]
    pub fn with_access(mut self, lines: &str) -> Self {
        self.access = Some(format!("local all,replication all trust\n{lines}\n"));
        self.with_tcp()
    }

    /// Its folder lies inside this one: on a small disk, for example.
    #[must_use]
    pub fn inside(mut self, folder: &Path) -> Self {
        self.parent = Some(folder.to_path_buf());
        self
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// When that fails: with what to do, or with what the server said.
    #[must_use]
    pub fn start(self) -> PostgresServer {
        let server = PostgresServer::prepare(self);
        server.programs.copy_template(&server.data());
        server.started()
    }
}

impl PostgresServer {
    /// A server with the usual settings.
    ///
    /// # Panics
    /// As [`PostgresSetUp::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::set_up().start()
    }

    /// A server with settings of its own.
    #[must_use]
    pub fn set_up() -> PostgresSetUp {
        PostgresSetUp::new()
    }

    /// Where the database `postgres` is, by the socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where a database is, by the socket.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let (folder, port) = (self.folder.path().display(), self.port_number());
        format!("postgres://postgres@/{database}?host={folder}&port={port}")
    }

    /// Where the database `postgres` is for whoever connects to this address: the server's own, or
    /// that of a proxy.
    #[must_use]
    pub fn url_at(&self, address: impl Display) -> String {
        format!("postgres://postgres@{address}/postgres")
    }

    /// The address of its port, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.port.as_ref().map(Port::address)
    }

    /// The file of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(&format!(".s.PGSQL.{}", self.port_number()))
    }

    /// The process id of the postmaster.
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
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a statement in the database `postgres`; answers its rows, unaligned, columns parted by
    /// `|`.
    ///
    /// # Panics
    /// When it fails, or takes longer than 30 s.
    pub fn psql(&self, statement: &str) -> String {
        self.try_psql(statement).unwrap_or_else(|why| panic!("{statement}: {why}"))
    }

    /// The same, or why it failed.
    ///
    /// # Errors
    /// What psql complained about.
    pub fn try_psql(&self, statement: &str) -> Result<String, String> {
        self.psql_at(&self.url(), statement)
    }

    /// The same at some URL: of another database, or through a proxy.
    ///
    /// # Errors
    /// What psql complained about.
    pub fn psql_at(&self, url: &str, statement: &str) -> Result<String, String> {
        self.programs.psql(url, statement)
    }

    /// Runs a statement in a thread of its own, which panics as [`psql`](Self::psql) does.
    #[must_use]
    pub fn psql_beside(&self, statement: String) -> JoinHandle<()> {
        let (programs, url) = (Programs::find(), self.url());
        thread::spawn(move || {
            programs.psql(&url, &statement).unwrap_or_else(|why| panic!("{statement}: {why}"));
        })
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        self.psql(&format!("CREATE DATABASE \"{name}\""));
    }

    /// `kill -9` for the postmaster and all its children.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.left = SharedMemory::of(&child, &self.data());
            child.kill();
        }
    }

    /// `kill -9` for the postmaster alone. Its children notice, and end in their own time: a commit
    /// that is on its way may still be made. Returns when all have ended.
    ///
    /// # Panics
    /// When one of them has not after 10 s.
    pub fn kill_postmaster(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.left = SharedMemory::of(&child, &self.data());
            child.kill_alone();
        }
    }

    /// `kill -9` for one backend: what `pg_backend_pid()` said. The postmaster then ends all others
    /// and recovers.
    ///
    /// # Panics
    /// When that process is not one of this server's.
    pub fn kill_backend(&self, pid: u32) {
        self.child.as_ref().expect("the server runs").kill_one(pid);
    }

    /// Ends it in good order (*fast* shutdown: clients are cut off, a checkpoint is written).
    ///
    /// # Panics
    /// When it has not ended after 20 s.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.resume();
            child.end(Signal::INT, STOP);
        }
    }

    /// Starts it again, in good order or after a [`kill`](Self::kill), and waits until it answers.
    ///
    /// # Panics
    /// As [`PostgresSetUp::start`].
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Freezes all its processes (`SIGSTOP`).
    pub fn pause(&mut self) {
        self.child.as_mut().expect("the server runs").pause();
    }

    /// Lets them go on.
    pub fn resume(&mut self) {
        self.child.as_mut().expect("the server runs").resume();
    }

    /// Changes a setting while it runs. New connections have it when this returns; those that are
    /// there notice before their next statement.
    ///
    /// # Panics
    /// When the server takes it only at a start, or does not know it.
    pub fn reload_with(&mut self, name: &str, value: impl Display) {
        self.set_up.settings.insert(name.to_owned(), value.to_string());
        self.write_settings();
        let loaded = self.psql("SELECT pg_conf_load_time()");
        self.child.as_mut().expect("the server runs").signal(Signal::HUP);
        until(START, "settings to be loaded", || match self.psql("SELECT pg_conf_load_time()") {
            now if now == loaded => Err("not yet"),
            _ => Ok(()),
        });
        let wrong = "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL";
        assert_eq!(self.psql(wrong), "", "{name} = {value} is not taken");
    }

    /// A server without data.
    fn prepare(set_up: PostgresSetUp) -> Self {
        let programs = Programs::find();
        let folder = Folder::new(set_up.parent.as_deref(), programs.user());
        let port = (set_up.tcp == Tcp::FreePort).then(Port::claim);
        Self { child: None, left: SharedMemory::default(), set_up, programs, port, folder }
    }

    /// Made to listen where its folder is, and started.
    fn started(mut self) -> Self {
        let folder = self.folder.path().display().to_string();
        let settings = &mut self.set_up.settings;
        settings.insert("unix_socket_directories".to_owned(), folder);
        if let Some(port) = &self.port {
            settings.insert("listen_addresses".to_owned(), "127.0.0.1".to_owned());
            settings.insert("port".to_owned(), port.number().to_string());
        }
        self.write_tls();
        if let Some(lines) = &self.set_up.access {
            self.write_file("pg_hba.conf", lines);
        }
        self.launch();
        self
    }

    fn launch(&mut self) {
        self.write_settings();
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.data()).envs(&self.set_up.environment);
        let log = self.log_path();
        // At once, with its shared memory removed; its children notice.
        let user = self.programs.user();
        let run = Run { name: "postgres", user, orphaned: "QUIT", log: &log };
        let mut child = Child::start(&run, &command, None);
        until(START, "Postgres to answer", || {
            child.must_run();
            self.try_psql("SELECT 1")
        });
        self.child = Some(child);
        self.left = SharedMemory::default();
    }

    fn write_settings(&self) {
        let line = |(name, value): (&String, &String)| {
            format!("{name} = '{}'\n", value.replace('\'', "''"))
        };
        let settings: String = self.set_up.settings.iter().map(line).collect();
        self.write_file("postgresql.conf", &settings);
    }

    fn write_tls(&mut self) {
        let Some((certificate, key)) = self.set_up.tls.clone() else { return };
        for (name, value) in
            [("ssl", "on"), ("ssl_cert_file", "tls.pem"), ("ssl_key_file", "tls.key")]
        {
            self.set_up.settings.insert(name.to_owned(), value.to_owned());
        }
        self.write_file("tls.pem", &certificate);
        self.write_file("tls.key", &key);
    }

    /// Writes a file that only the server may read.
    fn write_file(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        let private = fs::Permissions::from_mode(0o600);
        let written = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, private));
        written.unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
        if let Some(user) = self.programs.user() {
            user.own(&path);
        }
    }

    fn port_number(&self) -> u16 {
        self.port.as_ref().map_or(5432, Port::number)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.resume();
            child.try_end(Signal::QUIT, STOP);
        }
        self.kill();
        self.left.remove();
    }
}

#[cfg(test)]
mod tests;
