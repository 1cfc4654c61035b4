//! A small HTTP/1.1 client: one [`Connection`] that is kept, one request at a time.
//!
//! It drives the command line, the demo and the benchmark. So it does little per request: the
//! connection is driven by whoever waits for the answer, without a task in between, and one timer
//! serves many requests.
//!
//! A request that may have been done is never sent a second time by itself. Whether that is safe
//! depends on the idempotency key, and only the caller knows that one; see
//! [`CallError::may_have_been_done`].

mod error;
mod link;
mod reply;
mod stream;
mod target;
mod tls;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;
use stockhold::clock::Clock;

pub use self::{
    error::CallError,
    reply::Reply,
    stream::{Pieces, Stream},
    target::Target,
};
use self::{
    error::{unreachable, unspeakable},
    link::{Broken, Link},
    reply::Head,
    watch::Watch,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A connection to one server, kept from one request to the next.
///
/// If the server closed it in between, the next request opens a new one. Dropping the future of a
/// request closes it as well, because its answer would be taken for the next one's.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use stockhold::clock::SystemClock;
/// # use stockhold_server::client::Connection;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Arc::new(SystemClock);
/// let mut shop = Connection::connect("127.0.0.1:7300", Duration::from_secs(10), clock).await?;
///
/// let hold = serde_json::json!({"owner": "cart_981", "lines": [{"sku": "MUG", "quantity": 1}]});
/// let reply = shop.post("/v1/holds", &hold, Some("8e03978e-40d5")).await?;
/// assert_eq!(reply.status, 201);
/// # Ok(()) }
/// ```
pub struct Connection {
    line: Line,
    watch: Watch,
    /// How much room the last JSON body took.
    room: usize,
}

impl Connection {
    /// Connects to `host:port`. Nothing that is asked there waits for longer than `deadline`.
    ///
    /// # Errors
    /// [`CallError::Unreachable`], [`CallError::TimedOut`], and [`CallError::Unspeakable`] for an
    /// address that cannot stand in a `Host` header.
    pub async fn connect(
        address: &str,
        deadline: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CallError> {
        Self::to(Target::new(address)?, deadline, clock).await
    }

    /// Connects to a server, which is shown the access key with every request. Nothing that is
    /// asked there waits for longer than `deadline`.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] and [`CallError::TimedOut`].
    pub async fn to(
        target: Target,
        deadline: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CallError> {
        let mut watch = Watch::new(clock, deadline);
        let link = Some(watch.within(Link::open(&target)).await??);
        Ok(Self { line: Line { target, link }, watch, room: 128 })
    }

    /// Reads.
    ///
    /// # Errors
    /// As for [`Connection::send`].
    pub async fn get(&mut self, path: &str) -> Result<Reply, CallError> {
        self.send(Method::GET, path, Bytes::new(), None).await
    }

    /// Does something, with a JSON body.
    ///
    /// # Errors
    /// As for [`Connection::send`].
    pub async fn post(
        &mut self,
        path: &str,
        body: &(impl Serialize + ?Sized),
        idempotency_key: Option<&str>,
    ) -> Result<Reply, CallError> {
        self.send_json(Method::POST, path, body, idempotency_key).await
    }

    /// Sends a request with a JSON body, and waits for the answer.
    ///
    /// # Errors
    /// As for [`Connection::send`].
    pub async fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: &(impl Serialize + ?Sized),
        idempotency_key: Option<&str>,
    ) -> Result<Reply, CallError> {
        let mut text = Vec::with_capacity(self.room);
        serde_json::to_writer(&mut text, body).map_err(unspeakable)?;
        self.room = self.room.max(text.len());
        self.send(method, path, text.into(), idempotency_key).await
    }

    /// Sends a request whose body, if any, is JSON already, and waits for the answer. A refusal of
    /// the server is an answer too.
    ///
    /// # Errors
    /// [`CallError::may_have_been_done`] tells what is known.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Reply, CallError> {
        let request = self.line.request(method, path, body, idempotency_key)?;
        self.watch.within(self.line.exchange(request)).await?
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.line.target.address)
            .finish_non_exhaustive()
    }
}

/// Where to, and the link, unless it broke.
struct Line {
    target: Target,
    link: Option<Link<Full<Bytes>>>,
}

impl Line {
    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let has_body = !body.is_empty();
        let mut request = self.target.request(method, path, Full::new(body))?;
        let headers = request.headers_mut();
        if has_body {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(key) = idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(key).map_err(unspeakable)?);
        }
        Ok(request)
    }

    /// The link is put back only after a complete answer, so that nobody meets half of one.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, CallError> {
        let mut request = request;
        if let Some(mut link) = self.link.take() {
            match exchange(&mut link, request).await {
                Ok(reply) => return Ok(self.keep(link, reply)),
                Err(Broken::Sent(source)) => return Err(CallError::Lost(source)),
                Err(Broken::Unsent(_, same)) => request = *same,
            }
        }
        let mut link = Link::open(&self.target).await?;
        match exchange(&mut link, request).await {
            Ok(reply) => Ok(self.keep(link, reply)),
            Err(Broken::Sent(source)) => Err(CallError::Lost(source)),
            Err(Broken::Unsent(source, _)) => Err(unreachable(source)),
        }
    }

    fn keep(&mut self, link: Link<Full<Bytes>>, reply: Reply) -> Reply {
        self.link = Some(link);
        reply
    }
}

/// Sends a request and reads the whole answer.
async fn exchange(
    link: &mut Link<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Broken<Full<Bytes>>> {
    let response = link.send(request).await?;
    let head = Head::of(&response);
    let body = link.along(response.into_body().collect()).await?.to_bytes();
    Ok(head.reply(body))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::{
        Router,
        http::{HeaderMap, StatusCode},
        routing::{get, post},
    };
    use serde_json::json;
    use stockhold::clock::SystemClock;
    use tokio::{net::TcpListener, task::JoinHandle};

    use super::*;

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    async fn serve(router: Router) -> (String, JoinHandle<()>) {
        let (listener, address) = listen().await;
        let server = async move { axum::serve(listener, router).await.unwrap() };
        (address, tokio::spawn(server))
    }

    async fn connect(address: &str, deadline_ms: u64) -> Connection {
        let deadline = Duration::from_millis(deadline_ms);
        Connection::connect(address, deadline, Arc::new(SystemClock)).await.unwrap()
    }

    /// Takes one connection, reads one request, answers with these bytes and hangs up.
    async fn answer_once(listener: &TcpListener, answer: &'static [u8]) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let answered = tokio::task::spawn_blocking(move || {
            assert!(stream.read(&mut [0; 1_024]).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        answered.await.unwrap();
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn a_request_carries_its_body_and_key_and_the_reply_what_was_answered() {
        let echo = async |headers: HeaderMap, body: String| {
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let kind = headers["content-type"].to_str().unwrap().to_owned();
            let marks = [("idempotency-replayed", "true"), ("retry-after", "2")];
            (StatusCode::CONFLICT, marks, format!("{kind} {key} {body}"))
        };
        let (address, _server) = serve(Router::new().route("/holds", post(echo))).await;
        let mut connection = connect(&address, 5_000).await;
        let reply = connection.post("/holds", &json!({"n": 1}), Some("k-1")).await.unwrap();
        assert_eq!((reply.status, reply.replayed, reply.is_success()), (409, true, false));
        assert_eq!(reply.retry_after, Some(Duration::from_secs(2)));
        assert_eq!(&reply.body[..], b"application/json k-1 {\"n\":1}");
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests_also_large_ones() {
        let large = "x".repeat(1 << 20);
        let router = Router::new().route("/", get(async move || large.clone()));
        let (address, _server) = serve(router).await;
        let mut connection = connect(&address, 5_000).await;
        for _ in 0..20 {
            assert_eq!(connection.get("/").await.unwrap().body.len(), 1 << 20);
        }
    }

    #[tokio::test]
    async fn after_an_idle_connection_was_closed_the_next_request_opens_another() {
        let (listener, address) = listen().await;
        let mut connection = connect(&address, 5_000).await;
        for _ in 0..3 {
            let call = async { connection.get("/").await.unwrap() };
            let (_, reply) = tokio::join!(answer_once(&listener, OK), call);
            assert_eq!(reply.status, 200);
            SystemClock.sleep(Duration::from_millis(20)).await; // the end of the stream arrives
        }
    }

    #[tokio::test]
    async fn a_request_that_was_read_is_not_sent_again() {
        let (listener, address) = listen().await;
        let mut connection = connect(&address, 5_000).await;
        let call = connection.send(Method::POST, "/", Bytes::from_static(b"{}"), None);
        let (_, error) = tokio::join!(answer_once(&listener, b"HTTP/1.1 2"), call);
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::Lost(_)) && error.may_have_been_done(), "{error}");
        let (_, reply) = tokio::join!(answer_once(&listener, OK), connection.get("/"));
        assert_eq!(reply.unwrap().status, 200, "and the connection mends itself");
    }

    #[tokio::test]
    async fn nobody_waits_past_the_deadline_and_a_late_answer_is_not_mistaken() {
        let slow = async || SystemClock.sleep(Duration::from_secs(60)).await;
        let router = Router::new().route("/slow", get(slow)).route("/", get(async || "quick"));
        let (address, _server) = serve(router).await;
        let mut connection = connect(&address, 100).await;
        for _ in 0..2 {
            let error = connection.get("/slow").await.unwrap_err();
            assert!(matches!(error, CallError::TimedOut(_)), "{error}");
            assert_eq!(&connection.get("/").await.unwrap().body[..], b"quick");
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_where_nobody_listens_or_what_http_cannot_say() {
        let (listener, address) = listen().await;
        let mut connection = connect(&address, 5_000).await;
        let error = connection.post("/", &json!({}), Some("a\nb")).await.unwrap_err();
        assert!(matches!(error, CallError::Unspeakable(_)) && !error.may_have_been_done());
        drop(listener);
        let (deadline, clock) = (Duration::from_secs(5), Arc::new(SystemClock));
        let error = Connection::connect(&address, deadline, clock).await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable(_)) && !error.may_have_been_done());
    }
}
