//! A proxy between a client and a server, which does to their connection what networks do.
//!
//! It runs in a thread of its own, so that it works while the test is busy, and is told what to do
//! at any time. What it is told holds for the connections that are there and for those that come.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tokio::{runtime, sync::watch};

use crate::port::Port;

mod gate;
mod link;
mod listener;

use gate::{Cut, Faults, Flow, Link};

/// A running proxy. Its connections are closed when it is dropped.
///
/// ```
/// use stockhold_testkit::{PostgresServer, Proxy};
/// let server = PostgresServer::start();
/// let proxy = Proxy::start(server.socket().as_path());
/// let url = server.url_at(proxy.address());
/// proxy.blackhole(); // whoever uses this URL waits for ever
/// # let _ = url;
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    faults: watch::Sender<Faults>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The server behind a proxy.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A port.
    Tcp(SocketAddr),
    /// A socket's file.
    Unix(PathBuf),
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Upstream {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_path_buf())
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

impl Proxy {
    /// A proxy that lets everything pass.
    ///
    /// # Panics
    /// When there is no port or no thread for it.
    #[must_use]
    pub fn start(upstream: impl Into<Upstream>) -> Self {
        let port = Port::claim();
        let (faults, told) = watch::channel(Faults::default());
        let (address, upstream) = (port.address(), upstream.into());
        let first = listener::bind(address).unwrap_or_else(|e| panic!("listening: {e}"));
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for a proxy");
            runtime.block_on(listener::run(first, address, upstream, told));
        });
        Self { port, faults, thread: Some(thread) }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Everything that goes this way takes so much longer. Its order stays.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.tell(|faults| faults.way_mut(direction).delay = delay);
    }

    /// Nothing passes either way; nothing is lost, and nobody is told. What was sent meanwhile
    /// arrives after [`heal`](Self::heal), as after a partition of a network.
    pub fn stall(&self) {
        self.stall_one_way(Direction::Requests);
        self.stall_one_way(Direction::Replies);
    }

    /// The same for one way alone.
    pub fn stall_one_way(&self, direction: Direction) {
        self.tell(|faults| faults.way_mut(direction).flow = Flow::Stall);
    }

    /// Takes connections and all that is sent, and lets nothing pass, either way. A connection that
    /// has lost bytes is reset when the proxy is healed.
    pub fn blackhole(&self) {
        self.tell(|faults| {
            faults.requests.flow = Flow::Swallow;
            faults.replies.flow = Flow::Swallow;
        });
    }

    /// Requests pass, replies are swallowed: what is asked is done, and nobody learns of it.
    pub fn swallow_replies(&self) {
        self.tell(|faults| faults.replies.flow = Flow::Swallow);
    }

    /// Every connection is closed after so many more bytes of replies, counted from now on.
    pub fn cut_after(&self, bytes: u64) {
        self.tell(|faults| faults.cut = Some(Cut::after_bytes(bytes)));
    }

    /// Looks for `marker` in what goes this way, on all connections. The piece in which it is found
    /// the `nth` time (from 1) is swallowed, and its connection closed; everything else passes. So
    /// a request is lost before it is done, or its reply after it.
    ///
    /// # Panics
    /// When `marker` is empty or `nth` is 0.
    pub fn lose(&self, direction: Direction, marker: &[u8], nth: u32) {
        assert!(!marker.is_empty() && nth > 0, "something to look for, at some time");
        self.tell(|faults| faults.cut = Some(Cut::at_marker(direction, marker, nth)));
    }

    /// Whether what [`lose`](Self::lose) looks for has been lost.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.faults.borrow().cut.as_ref().is_some_and(Cut::has_happened)
    }

    /// Refuses new connections, as if nobody listened. Those that are there stay.
    pub fn refuse(&self) {
        self.tell(|faults| faults.link = Link::Refuse);
    }

    /// Resets all connections that are there, on both sides.
    pub fn reset(&self) {
        self.tell(|faults| faults.resets = faults.resets.saturating_add(1));
    }

    /// Everything passes again. Returns at once; a connection that is made later is served.
    pub fn heal(&self) {
        self.tell(|faults| *faults = Faults { resets: faults.resets, ..Faults::default() });
    }

    /// Waits until the proxy listens, or does not, as it was told.
    fn tell(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
        let wanted = self.faults.borrow().link;
        crate::until(SOON, "the proxy's listener", || {
            let listens = listener::is_listening(self.address());
            if listens == (wanted == Link::Accept) { Ok(()) } else { Err("not yet") }
        });
    }
}

const SOON: Duration = Duration::from_secs(10);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.faults.send_modify(|faults| faults.link = Link::End);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
