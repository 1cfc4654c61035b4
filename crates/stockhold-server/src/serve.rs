//! Takes connections, guards what they ask, and ends in good order.
//!
//! | file | what it does |
//! |---|---|
//! | `serve/connection.rs` | one connection: TLS, which HTTP, and how long it may be silent |
//! | `serve/patient.rs` | a client that does not take its answer |
//! | `serve/pulse.rs` | a connection on which nothing moves any more |
//! | `serve/respond.rs` | one request: who asks, where it leads, what is noted of it |
//! | `serve/guard.rs` | web pages that are not meant to ask |
//! | `serve/lingering.rs` | a body that nobody wants to read to its end |

use std::{io, pin::pin, sync::Arc, time::Duration};

use stockhold::{
    Engine,
    clock::{Clock, SystemClock},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tracing::warn;

pub use self::tls::{Tls, TlsError};
use self::{connection::Connections, respond::Responder};
use crate::{
    access::Keys,
    settings::{self, Settings},
};

mod connection;
mod guard;
mod lingering;
mod patient;
mod pulse;
mod request_id;
mod respond;
mod tls;

/// How long to wait when no connection can be taken, mostly because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the engine until `shutdown` comes; then takes no more connections, answers what it has
/// begun to read, and returns. The engine is left open: closing it is up to the caller.
///
/// A listener on a loopback address answers only requests that call it by a loopback name, so
/// that no web page can reach it through the browser of somebody on this machine.
///
/// ```
/// # use stockhold::Engine;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let shutdown = async {}; // at once
/// stockhold_server::serve::run(listener, engine.clone(), shutdown).await?;
/// engine.close().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the listener has no address.
pub async fn run(
    listener: TcpListener,
    engine: Engine,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Service::new(engine).run(listener, shutdown).await
}

/// A service that is not yet served: an engine, and how to serve it.
///
/// ```
/// # use stockhold::Engine;
/// # use stockhold_server::{access::Keys, serve::Service, settings::Settings};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// let settings = Settings::default();
/// let service = Service::new(engine.clone()).settings(settings.server).keys(Keys::default());
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let shutdown = async {};
/// service.run(listener, shutdown).await?;
/// # engine.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Service {
    engine: Engine,
    keys: Keys,
    settings: settings::Server,
    tls: Option<Tls>,
}

impl Service {
    /// As [`run`] serves it: without keys and TLS, and with the settings of `default.toml`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, keys: Keys::default(), settings: Settings::default().server, tls: None }
    }

    /// Lets in only who has one of these keys; everybody if there are none.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Is as patient as these settings say. Where it listens, and its certificate, are up to the
    /// caller.
    #[must_use]
    pub fn settings(mut self, settings: settings::Server) -> Self {
        self.settings = settings;
        self
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves until `shutdown` comes, as [`run`] does.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let Self { engine, keys, settings, tls } = self;
        let responder =
            Responder::new(engine, keys, &settings, listener.local_addr()?, tls.as_ref());
        let connections = Arc::new(Connections::new(responder, &settings, tls));
        let door =
            Door { slots: Arc::new(Semaphore::new(settings.max_connections.size())), listener };
        let (stop, stopped) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some((stream, slot)) = door.next() => {
                    let serving = Arc::clone(&connections).serve(stream, stopped.clone());
                    tokio::spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
            }
        }
        drop((door, stopped));
        end(&stop, settings.shutdown_timeout.get()).await;
        Ok(())
    }
}

/// Tells the connections to end, and waits for them.
async fn end(stop: &watch::Sender<()>, patience: Duration) {
    stop.send_replace(());
    // Every connection has a receiver; the last one that is dropped ends the wait.
    if timeout(patience, stop.closed()).await.is_err() {
        warn!(open = stop.receiver_count(), "connections did not end in time");
    }
}

/// Where connections come in, as long as there is room.
struct Door {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Door {
    /// The next connection, and its slot. Whoever finds none waits outside, in the queue of the
    /// listener, which the kernel bounds.
    async fn next(&self) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        // It is never closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        Some((self.accept().await, slot))
    }

    /// A connection that fails on the way is the client's matter; when there are no more files to
    /// open, the others need time to end.
    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    warn!(%error, "no connection was taken");
                    SystemClock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
