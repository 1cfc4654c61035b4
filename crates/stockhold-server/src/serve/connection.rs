//! One connection: TLS, which HTTP its client speaks, and how long it may be silent.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use stockhold::clock::{Clock, SystemClock};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tracing::debug;

use super::{
    patient::Patient,
    pulse::{Beating, Pulse},
    respond::Responder,
    tls::Tls,
};
use crate::settings;

/// The largest head of a request, in bytes; HTTP/1.1 answers a larger one with 431, HTTP/2 too.
const HEAD_MOST: u32 = 64 * 1024;
/// Requests at once on one connection of HTTP/2.
const STREAMS_MOST: u32 = 256;
/// How every connection of HTTP/2 begins, and none of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often to look whether the rest of a preface has come, which nearly always comes in one go.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// What all connections have in common.
pub(super) struct Connections {
    responder: Responder,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Tls>,
    /// How long until it is known which HTTP it is.
    handshake_timeout: Duration,
    head_timeout: Duration,
    write_timeout: Duration,
    /// How long nothing may move while requests of HTTP/2 are under way.
    end_timeout: Duration,
}

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

impl Connections {
    pub(super) fn new(responder: Responder, settings: &settings::Server, tls: Option<Tls>) -> Self {
        let head_timeout = settings.head_timeout.get();
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(head_timeout);
        http1.max_header_size(HEAD_MOST as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).keep_alive_interval(head_timeout);
        http2.max_header_list_size(HEAD_MOST).max_concurrent_streams(STREAMS_MOST);
        Self {
            responder,
            http1,
            http2,
            tls,
            handshake_timeout: settings.handshake_timeout.get(),
            head_timeout,
            write_timeout: settings.write_timeout.get(),
            end_timeout: settings.write_timeout.get().max(settings.body_timeout.get()),
        }
    }

    /// Serves one connection to its end, or until `stop` says so and nothing is under way.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, stop: watch::Receiver<()>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection keeps its delay");
        }
        if let Err(error) = self.talk(stream, stop).await {
            debug!(%error, "a connection broke");
        }
    }

    async fn talk(
        self: &Arc<Self>,
        stream: TcpStream,
        mut stop: watch::Receiver<()>,
    ) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            let begun = begin(self.head_timeout, version_of(&stream), &mut stop).await?;
            let Some(version) = begun else { return Ok(()) };
            return self.speak(version, Patient::new(stream, self.write_timeout), stop).await;
        };
        let handshake = tls.accept(Patient::new(stream, self.write_timeout));
        let begun = Box::pin(begin(self.handshake_timeout, handshake, &mut stop)).await?;
        let Some(stream) = begun else { return Ok(()) };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(Tls::HTTP2);
        let version = if is_http2 { Version::Http2 } else { Version::Http1 };
        Box::pin(self.speak(version, stream, stop)).await
    }

    async fn speak<S>(
        self: &Arc<Self>,
        version: Version,
        stream: S,
        stop: watch::Receiver<()>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match version {
            Version::Http1 => self.speak_http1(stream, stop).await,
            Version::Http2 => Box::pin(self.speak_http2(stream, stop)).await,
        }
        .map_err(io::Error::other)
    }

    async fn speak_http1<S>(&self, stream: S, mut stop: watch::Receiver<()>) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| self.responder.respond(request));
        let mut connection = pin!(self.http1.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            result = &mut connection => return result,
            _ = stop.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn speak_http2<S>(
        self: &Arc<Self>,
        stream: S,
        mut stop: watch::Receiver<()>,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let pulse = Arc::new(Pulse::default());
        // Each request has a task of its own, which may outlive this one.
        let service = service_fn(|request: Request<Incoming>| {
            let (connections, pulse) = (Arc::clone(self), Arc::clone(&pulse));
            async move {
                pulse.beat();
                let request = request.map(|body| Beating::new(body, Arc::clone(&pulse)));
                let response = connections.responder.respond(request).await?;
                Ok::<_, Infallible>(response.map(|body| Beating::new(body, pulse)))
            }
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            result = &mut connection => return result,
            _ = stop.changed() => {}
            () = pulse.stops(self.head_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            result = connection => result,
            () = pulse.stops(self.end_timeout) => Ok(()),
        }
    }
}

/// What comes before the first request. None if the server stops before it is through.
async fn begin<T>(
    patience: Duration,
    beginning: impl Future<Output = io::Result<T>>,
    stop: &mut watch::Receiver<()>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        begun = timeout(patience, beginning) => begun?.map(Some),
        _ = stop.changed() => Ok(None),
    }
}

/// Looks at what comes first, and takes nothing away.
async fn version_of(stream: &TcpStream) -> io::Result<Version> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut seen).await?;
        let seen = seen.get(..length).unwrap_or_default();
        if seen == PREFACE {
            return Ok(Version::Http2);
        }
        if seen.is_empty() || !PREFACE.starts_with(seen) {
            return Ok(Version::Http1);
        }
        SystemClock.sleep(PREFACE_PAUSE).await;
    }
}
