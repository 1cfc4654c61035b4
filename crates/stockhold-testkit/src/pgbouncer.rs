//! A pooler between a test and its Postgres server: `PgBouncer` in transaction mode, where each
//! transaction of a client may meet another session. Debian's package `pgbouncer` has it.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use crate::{
    PostgresServer,
    child::{Child, Run},
    folder::Folder,
    port::Port,
    time::until,
    user::User,
};

/// A running pooler, which ends with this.
#[derive(Debug)]
pub struct PgBouncer {
    // Dropped in this order.
    _child: Child,
    port: Port,
    _folder: Folder,
}

const START: Duration = Duration::from_secs(10);

impl PgBouncer {
    /// A pooler with so many sessions on the server's database `postgres`.
    ///
    /// # Panics
    /// When it does not start: with what it said.
    #[must_use]
    pub fn start(server: &PostgresServer, sessions: u16) -> Self {
        Self::start_with(server, sessions, "SELECT 1")
    }

    /// The same, where each session begins with this statement.
    ///
    /// # Panics
    /// As [`PgBouncer::start`].
    #[must_use]
    pub fn start_with(server: &PostgresServer, sessions: u16, first: &str) -> Self {
        let user = User::instead_of_root("postgres");
        let (folder, port) = (Folder::new(None, user.as_ref()), Port::claim());
        let settings = folder.join("settings.ini");
        fs::write(&settings, text(server, port.number(), sessions, first)).expect("there is room");
        let log = folder.join("log");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&settings);
        let run = Run { name: "pgbouncer", user: user.as_ref(), orphaned: "KILL", log: &log };
        let mut child = Child::start(&run, &command, None);
        let url = server.url_at(port.address());
        until(START, "pgbouncer to answer", || {
            child.must_run();
            server.psql_at(&url, "SELECT 1")
        });
        Self { _child: child, port, _folder: folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

fn text(server: &PostgresServer, port: u16, sessions: u16, first: &str) -> String {
    let socket = server.socket();
    let folder = socket.parent().unwrap_or(&socket).display().to_string();
    let name = socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let upstream = name.rsplit('.').next().unwrap_or("5432");
    format!(
        "[databases]\n\
         postgres = host={folder} port={upstream} user=postgres connect_query='{first}'\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = transaction\n\
         default_pool_size = {sessions}\nmax_client_conn = 200\n"
    )
}
