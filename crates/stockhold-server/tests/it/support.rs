//! A server in this process on a port of its own, and a client that says exactly what it is told.

use std::time::Duration;

use serde_json::Value;
use stockhold::{
    Engine,
    clock::{Clock, SystemClock},
};
use stockhold_server::{
    serve::Service,
    settings::{self, Layers},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::contract::contract;

/// A server on a memory ledger.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) engine: Engine,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_on("127.0.0.1:0", |service| service).await
    }

    /// A server at an address, set up in some way. It is always reached over loopback.
    pub(crate) async fn start_on(address: &str, set_up: impl FnOnce(Service) -> Service) -> Self {
        Self::start_with(Engine::in_memory().unwrap(), address, set_up).await
    }

    /// A server of this engine.
    pub(crate) async fn start_with(
        engine: Engine,
        address: &str,
        set_up: impl FnOnce(Service) -> Service,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let service = set_up(Service::new(engine.clone()));
        let task = tokio::spawn(service.run(listener, shutdown));
        Self { address, engine, stop, task }
    }

    /// A server with so many units of `MUG`.
    pub(crate) async fn with_mugs(units: i64) -> Self {
        let server = Self::start().await;
        let body = format!(r#"{{"on_hand":{units}}}"#);
        server.put("/v1/stock/MUG", &body).await.expect(201);
        server
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"").await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Reply {
        self.ask("PUT", path, &[JSON], body.as_bytes()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, &[JSON], body.as_bytes()).await
    }

    /// Posts under an idempotency key.
    pub(crate) async fn post_keyed(&self, path: &str, key: &str, body: &str) -> Reply {
        self.ask("POST", path, &[JSON, ("Idempotency-Key", key)], body.as_bytes()).await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut connection = self.connect().await;
        connection.send(&request(&self.address, method, path, headers, body)).await;
        let reply = connection.reply().await;
        contract().await.check(method, path, &reply);
        reply
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// Places a hold on mugs; answers its path.
    pub(crate) async fn hold_mugs(&self, units: i64) -> String {
        let reply = self.post("/v1/holds", &mugs(units)).await.expect(201);
        reply.header("location").unwrap().to_owned()
    }

    /// Places a hold on mugs that dies at once, and waits until it has.
    pub(crate) async fn dead_hold(&self, units: i64) -> String {
        let lines = format!(r#"[{{"sku":"MUG","quantity":{units}}}]"#);
        let body = format!(r#"{{"owner":"late","ttl_ms":1,"lines":{lines}}}"#);
        let reply = self.post("/v1/holds", &body).await.expect(201);
        rest(150).await;
        reply.header("location").unwrap().to_owned()
    }

    /// What the item `MUG` is like: on hand, held, allocated, available.
    pub(crate) async fn mugs(&self) -> [i64; 4] {
        let item = self.get("/v1/stock/MUG").await.expect(200).json();
        ["on_hand", "held", "allocated", "available"].map(|name| item[name].as_i64().unwrap())
    }

    /// Asks the server to end, and goes on.
    pub(crate) fn stop(self) -> JoinHandle<std::io::Result<()>> {
        let Self { stop, task, .. } = self;
        stop.send(()).unwrap();
        task
    }
}

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The body of a place of mugs.
pub(crate) fn mugs(units: i64) -> String {
    format!(r#"{{"owner":"ann","lines":[{{"sku":"MUG","quantity":{units}}}]}}"#)
}

/// Server settings, as a file would set them.
pub(crate) fn set(lines: &str) -> settings::Server {
    Layers::default().file("test.toml", format!("[server]\n{lines}")).read().unwrap().server
}

/// A request as bytes.
pub(crate) fn request(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Waits in real time.
pub(crate) async fn rest(millis: u64) {
    SystemClock.sleep(Duration::from_millis(millis)).await;
}

/// A connection, and what was read of it and not yet used.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends, or says that the other side has closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let limit = Duration::from_secs(60);
        let sent = tokio::time::timeout(limit, self.stream.write_all(bytes)).await;
        sent.expect("to be taken or cut off within 60 s")
    }

    /// The next reply; its end is known by its length.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = self.chunks().await;
            return reply;
        }
        let length = reply.header("content-length").unwrap_or("0").parse().unwrap();
        while self.read.len() < length {
            assert!(self.more().await, "closed within a body");
        }
        reply.body = self.read.drain(..length).collect();
        reply
    }

    /// A body in chunks, to its end.
    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.read.windows(2).position(|two| two == b"\r\n") {
                    Some(at) => break at,
                    None => assert!(self.more().await, "closed within a chunk"),
                }
            };
            let size = std::str::from_utf8(&self.read[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.read.len() < end + 2 + size + 2 {
                assert!(self.more().await, "closed within a chunk");
            }
            body.extend(&self.read[end + 2..end + 2 + size]);
            self.read.drain(..end + 2 + size + 2);
            if size == 0 {
                return body;
            }
        }
    }

    /// Everything that is sent until the connection is closed.
    pub(crate) async fn until_closed(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// The next reply, which has no body: that to a HEAD.
    pub(crate) async fn head(&mut self) -> Reply {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.more().await, "closed without a reply: {:?}", self.read);
        };
        let head: Vec<u8> = self.read.drain(..head_end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        let headers: Vec<_> = lines.filter_map(header).collect();
        Reply { status, headers, body: Vec::new() }
    }

    /// Whether this is how the next reply begins.
    pub(crate) async fn begins_with(&mut self, text: &str) -> bool {
        while self.read.len() < text.len() && self.more().await {}
        self.read.starts_with(text.as_bytes())
    }

    /// Whether the server closes the connection without saying anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        !self.more().await
    }

    async fn more(&mut self) -> bool {
        let limit = Duration::from_secs(60);
        let read = self.stream.read_buf(&mut self.read);
        let read = tokio::time::timeout(limit, read).await.expect("an answer within 60 s");
        matches!(read, Ok(1..))
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A problem with this status and code, well formed.
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        let reply = self.expect(status);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let problem = reply.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/problems/{}", code.replace('_', "-")));
        assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}
