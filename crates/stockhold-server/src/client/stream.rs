//! A request whose body is sent, and whose answer is read, piece by piece: neither is ever in
//! memory as a whole.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{
    Method,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use stockhold::clock::Clock;
use tokio::sync::mpsc;

use super::{Broken, CallError, Head, Link, Reply, Target, Watch, unreachable, unspeakable};

/// A body that comes in pieces, or not at all. A piece that is an error ends the request as
/// broken, so that the server does not take what came so far for all of it.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: Option<mpsc::Receiver<io::Result<Bytes>>>,
    taken: Arc<AtomicU64>,
}

impl Pieces {
    /// What comes out of the channel, until its sender is dropped.
    #[must_use]
    pub fn of(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces: Some(pieces), taken: Arc::default() }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        let piece = ready!(pieces.poll_recv(context));
        self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pieces.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// An answer that is being read.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use stockhold::clock::SystemClock;
/// use stockhold_server::client::{Pieces, Stream, Target};
/// # async fn example() -> Result<(), stockhold_server::client::CallError> {
/// let (server, clock) = (Target::new("127.0.0.1:7300")?, Arc::new(SystemClock));
/// let path = "/v1/stock-exports?format=csv";
/// let nothing = Pieces::default();
/// let mut export = Stream::open(&server, path, None, nothing, Duration::from_secs(10), clock).await?;
/// while let Some(piece) = export.next().await? {
///     println!("{}", String::from_utf8_lossy(&piece));
/// }
/// # Ok(()) }
/// ```
pub struct Stream {
    link: Link<Pieces>,
    body: Incoming,
    head: Head,
    watch: Watch,
    sent: Sent,
}

impl Stream {
    /// Opens a connection, begins to send the body, and waits for the head of the answer. It is a
    /// POST if the body has a type, else a GET. It is given up when for `patience` neither a piece
    /// of the body was taken nor one of the answer came.
    ///
    /// # Errors
    /// [`CallError::may_have_been_done`] tells what is known.
    pub async fn open(
        target: &Target,
        path: &str,
        content_type: Option<&'static str>,
        body: Pieces,
        patience: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CallError> {
        let method = if content_type.is_some() { Method::POST } else { Method::GET };
        let mut sent = Sent { taken: Arc::clone(&body.taken), seen: 0 };
        let mut request = target.request(method, path, body)?;
        if let Some(content_type) = content_type {
            let content_type = HeaderValue::try_from(content_type).map_err(unspeakable)?;
            request.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        let mut watch = Watch::new(clock, patience);
        let mut link = watch.within(Link::open(target)).await??;
        let answer = sent.patiently(&mut watch, pin!(link.send(request))).await?;
        let response = answer.map_err(lost)?;
        let head = Head::of(&response);
        Ok(Self { link, body: response.into_body(), head, watch, sent })
    }

    /// Whether the answer is what was asked for.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.head.status, 200..=299)
    }

    /// The next piece of the answer; none at its end.
    ///
    /// # Errors
    /// [`CallError::Lost`] if it broke off, [`CallError::TimedOut`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let Self { link, body, watch, sent, .. } = self;
        loop {
            let frame = sent.patiently(watch, pin!(link.along(body.frame()))).await?;
            let Some(frame) = frame.transpose().map_err(CallError::Lost)? else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The rest of the answer, if it is a short one such as a refusal.
    ///
    /// # Errors
    /// As for [`Stream::next`].
    pub async fn reply(mut self) -> Result<Reply, CallError> {
        const MOST: usize = 1 << 20;
        let mut body = Vec::new();
        while let Some(piece) = self.next().await? {
            if body.len() < MOST {
                body.extend_from_slice(&piece);
            }
        }
        Ok(self.head.reply(body.into()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("head", &self.head).finish_non_exhaustive()
    }
}

fn lost(broken: Broken<Pieces>) -> CallError {
    match broken {
        Broken::Sent(source) => CallError::Lost(source),
        Broken::Unsent(source, _) => unreachable(source),
    }
}

/// How much of the body was taken, to tell a slow server from a silent one.
struct Sent {
    taken: Arc<AtomicU64>,
    seen: u64,
}

impl Sent {
    /// Waits for as long as there is progress.
    async fn patiently<F: Future>(
        &mut self,
        watch: &mut Watch,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, CallError> {
        loop {
            match watch.within(future.as_mut()).await {
                Err(CallError::TimedOut(limit)) if !self.has_moved() => {
                    return Err(CallError::TimedOut(limit));
                }
                Err(CallError::TimedOut(_)) => {}
                other => return other,
            }
        }
    }

    fn has_moved(&mut self) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, taken) != taken
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body as AxumBody, extract::Request, routing::post};
    use stockhold::clock::{ManualClock, SystemClock};
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(router: Router) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::new(&listener.local_addr().unwrap().to_string()).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        target
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn open(target: &Target, body: Pieces) -> Result<Stream, CallError> {
        open_by(SystemClock, target, body).await
    }

    async fn open_by(
        clock: impl Clock + 'static,
        target: &Target,
        body: Pieces,
    ) -> Result<Stream, CallError> {
        Stream::open(target, "/", Some("text/csv"), body, PATIENCE, Arc::new(clock)).await
    }

    /// A body of which a test decides when each piece comes.
    fn body() -> (mpsc::Sender<io::Result<Bytes>>, Pieces) {
        let (pieces, body) = mpsc::channel(1);
        (pieces, Pieces::of(body))
    }

    /// Answers each piece as it comes.
    fn echo() -> Router {
        let echo = async |request: Request| AxumBody::new(request.into_body());
        Router::new().route("/", post(echo).get(async || "all of it"))
    }

    #[tokio::test]
    async fn pieces_are_answered_before_all_are_sent() {
        let target = serve(echo()).await;
        let (pieces, body) = body();
        let sender = tokio::spawn(async move {
            pieces.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
            pieces
        });
        let mut stream = open(&target, body).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"one"[..]));
        let pieces = sender.await.unwrap();
        pieces.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"two"[..]));
        drop(pieces);
        assert_eq!(stream.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn without_a_body_it_reads() {
        let target = serve(echo()).await;
        let (nothing, clock) = (Pieces::default(), Arc::new(SystemClock));
        let stream = Stream::open(&target, "/", None, nothing, PATIENCE, clock).await.unwrap();
        assert!(stream.is_success());
        assert_eq!(&stream.reply().await.unwrap().body[..], b"all of it");
    }

    #[tokio::test]
    async fn a_server_that_takes_something_now_and_then_is_not_given_up() {
        let swallow = async |request: Request| {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            "done"
        };
        let target = serve(Router::new().route("/", post(swallow))).await;
        let ((pieces, body), clock) = (body(), ManualClock::default());
        let time = clock.clone();
        tokio::spawn(async move {
            for _ in 0..8 {
                pieces.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
                drop(pieces.reserve().await.unwrap()); // until it was taken
                time.advance(PATIENCE / 4);
            }
        });
        let stream = open_by(clock, &target, body).await.unwrap();
        assert_eq!(&stream.reply().await.unwrap().body[..], b"done", "after twice as long");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let clock = ManualClock::default();
        let time = clock.clone();
        let silent = async move || {
            time.advance(PATIENCE);
            std::future::pending::<()>().await;
        };
        let target = serve(Router::new().route("/", post(silent))).await;
        let (_pieces, body) = body();
        assert!(matches!(open_by(clock, &target, body).await, Err(CallError::TimedOut(_))));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_all_of_it() {
        let (heard, ended) = tokio::sync::oneshot::channel();
        let heard = Arc::new(std::sync::Mutex::new(Some(heard)));
        let listen = async move |request: Request| {
            let is_whole = request.into_body().collect().await.is_ok();
            heard.lock().unwrap().take().unwrap().send(is_whole).unwrap();
        };
        let target = serve(Router::new().route("/", post(listen))).await;
        let (pieces, body) = body();
        tokio::spawn(async move {
            pieces.send(Ok(Bytes::from_static(b"some"))).await.unwrap();
            pieces.send(Err(io::Error::other("unreadable"))).await.unwrap();
        });
        assert!(matches!(open(&target, body).await, Err(CallError::Lost(_))));
        assert!(!ended.await.unwrap());
    }
}
