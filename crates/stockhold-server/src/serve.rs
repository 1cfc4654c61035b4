//! Takes connections, guards what they ask, and ends in good order.

use std::{
    any::Any,
    convert::Infallible,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::Request,
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use stockhold::{
    Engine, Failure, FailureKind,
    clock::{Clock, SystemClock},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tower_service::Service as _;
use tracing::{debug, error, warn};

use self::{guard::Guard, lingering::Lingering, request_id::RequestIds};
use crate::{
    access::{Keys, Visit},
    problem, routes,
};

mod guard;
mod lingering;
mod request_id;

/// How long a connection may take to send the head of its next request, idle time included.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests that were begun have to end when the server shuts down.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);
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
#[derive(Debug)]
pub struct Service {
    engine: Engine,
    keys: Keys,
}

impl Service {
    /// As [`run`] serves it.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, keys: Keys::default() }
    }

    /// Lets in only who has one of these keys; everybody if there are none.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
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
        let server = Arc::new(Server::new(self, listener.local_addr()?));
        serve(listener, server, shutdown).await;
        Ok(())
    }
}

async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, stopped) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            stream = accept(&listener) => {
                tokio::spawn(Arc::clone(&server).connection(stream, stopped.clone()));
            }
        }
    }
    drop((listener, stopped));
    stop.send_replace(());
    // Every connection has a receiver; the last one that is dropped ends the wait.
    if timeout(SHUTDOWN_PATIENCE, stop.closed()).await.is_err() {
        warn!(open = stop.receiver_count(), "connections did not end in time");
    }
}

/// The next connection. One that fails on the way is the client's matter; when there are no more
/// files to open, the others need time to end.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, "no connection was taken");
                SystemClock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Server {
    router: Router,
    guard: Guard,
    keys: Keys,
    listens_on: IpAddr,
    request_ids: RequestIds,
}

impl Server {
    fn new(service: Service, address: SocketAddr) -> Self {
        let Service { engine, keys } = service;
        let (router, guard) = (routes::router(engine), Guard::of(address));
        let (listens_on, request_ids) = (address.ip(), RequestIds::default());
        Self { router, guard, keys, listens_on, request_ids }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, mut stop: watch::Receiver<()>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection keeps its delay");
        }
        let service = service_fn(|request| self.respond(request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = &mut connection => result,
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            debug!(%error, "a connection broke");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let mut request = Lingering::of(request);
        let visit = Arc::new(Visit::new(self.keys.who(request.headers(), self.listens_on)));
        request.extensions_mut().insert(Arc::clone(&visit));
        let request_id = self.request_ids.of(request.headers());
        let mut response = match self.guard.check(&request) {
            Ok(()) => self.route(request).await,
            Err(problem) => problem.into_response(),
        };
        problem::finish(&mut response, &request_id);
        debug!(?request_id, key = visit.key_name(), status = %response.status(), "answered");
        response.headers_mut().insert(request_id::HEADER, request_id);
        Ok(response)
    }

    async fn route(&self, request: Request<Lingering>) -> Response {
        let mut router = self.router.clone();
        let answer = unless_panic(async move { router.call(request.map(Body::new)).await }).await;
        match answer {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => panicked(&*panic),
        }
    }
}

/// Runs a future; if it panics, that is its result.
async fn unless_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // After a panic the future is dropped and never polled again, so nobody sees it broken.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("a handler panicked: {}", words.unwrap_or("without words"));
    error!(message);
    let failure = Failure::new(FailureKind::Internal, message);
    problem::Problem::from(stockhold::Error::from(failure)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_problem() {
        let panic = unless_panic(async { panic!("at the disco") }).await;
        let panic: Result<(), _> = panic;
        let response = panicked(&*panic.unwrap_err());
        assert_eq!(response.status().as_u16(), 500);
    }
}
