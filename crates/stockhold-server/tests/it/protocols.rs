//! HTTP/2, and TLS.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::{Body, Bytes, Frame},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use stockhold_server::serve::Tls;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{
    certificate::Certificate,
    support::{Server, mugs, request, rest, set},
};

type Client = SendRequest<Full<Bytes>>;

async fn http2_over<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = TokioIo::new(stream);
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(client: &mut Client, method: Method, url: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/json");
    let request = request.body(Full::from(body.to_owned())).unwrap();
    client.ready().await.unwrap();
    let response = client.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn whoever_speaks_http_2_from_the_start_is_understood() {
    let server = Server::with_mugs(10).await;
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let mut client = http2_over(stream).await;
    let url = format!("http://{}/v1/holds", server.address);
    let (status, hold) = ask(&mut client, Method::POST, &url, &mugs(2)).await;
    assert_eq!((status, hold["state"].as_str()), (201, Some("active")));
    let url = format!("{url}/{}", hold["id"].as_str().unwrap());
    let (status, again) = ask(&mut client, Method::GET, &url, "").await;
    assert_eq!((status, &again["id"]), (200, &hold["id"]));
    assert_eq!(server.mugs().await, [10, 2, 0, 8]);
}

#[tokio::test]
async fn a_preface_may_come_in_pieces() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    for piece in ["PR", "I * HTTP/2.0\r\n", "\r\nSM\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        rest(30).await;
    }
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // empty settings
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "settings come back");
}

#[tokio::test]
async fn http_2_is_guarded_as_well() {
    let server = Server::with_mugs(1).await;
    let port = server.address.rsplit(':').next().unwrap();
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let mut client = http2_over(stream).await;
    for (host, expected) in [("evil.example", 403), ("localhost", 200), ("127.0.0.1", 200)] {
        let url = format!("http://{host}:{port}/v1/stock/MUG");
        let (status, problem) = ask(&mut client, Method::GET, &url, "").await;
        assert_eq!(status, expected, "{host}: {problem}");
    }
}

/// A body whose last byte comes late.
struct Late {
    body: Vec<u8>,
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = match self.body.len() {
            0 => return Poll::Ready(None),
            1 => {
                ready!(self.timer.as_mut().poll(context));
                1
            }
            more => more - 1,
        };
        let piece: Vec<u8> = self.body.drain(..length).collect();
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}

#[tokio::test]
async fn what_was_begun_over_http_2_is_answered_when_the_server_ends() {
    let server = Server::with_mugs(10).await;
    let (address, engine) = (server.address.clone(), server.engine.clone());
    let stream = TokioIo::new(TcpStream::connect(&address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/v1/holds"));
    let request = request.header("content-type", "application/json");
    let late = Late { body: mugs(1).into(), timer: Box::pin(rest(300)) };
    let asking = tokio::spawn(client.send_request(request.body(late).unwrap()));
    rest(100).await; // until it was read
    let task = server.stop();
    rest(50).await;
    assert!(!asking.is_finished() && !task.is_finished());
    assert_eq!(asking.await.unwrap().unwrap().status().as_u16(), 201);
    task.await.unwrap().unwrap();
    connection.await.unwrap().unwrap();
    engine.close().await.unwrap();
}

async fn impatient() -> Server {
    const SECONDS: &str = "head_timeout = \"1s\"\nbody_timeout = \"1s\"\nwrite_timeout = \"1s\"";
    Server::start_on("127.0.0.1:0", |service| service.settings(set(SECONDS))).await
}

/// The client answers pings by itself.
#[tokio::test]
async fn a_connection_of_http_2_that_asks_nothing_is_ended() {
    let server = impatient().await;
    let stream = TokioIo::new(TcpStream::connect(&server.address).await.unwrap());
    let handshake = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream);
    let (_client, connection) = handshake.await.unwrap();
    timeout(LONG, connection).await.expect("an end").unwrap();
}

#[tokio::test]
async fn whoever_leaves_no_room_for_an_answer_of_http_2_is_cut_off() {
    let server = impatient().await;
    let stream = TokioIo::new(TcpStream::connect(&server.address).await.unwrap());
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(0);
    let (mut client, connection) = client.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{}/livez", server.address));
    let response = client.send_request(request.body(Full::<Bytes>::default()).unwrap());
    let answer = response.await.unwrap().into_body().collect();
    assert!(timeout(LONG, answer).await.expect("an end").is_err());
}

const LONG: Duration = Duration::from_secs(60);

/// Whom it serves knows it by the certificate.
async fn with_tls() -> (Server, Certificate) {
    let certificate = Certificate::new();
    let tls = Tls::read(&certificate.chain(), &certificate.key()).unwrap();
    (Server::start_on("127.0.0.1:0", |service| service.tls(tls)).await, certificate)
}

async fn connect_tls(
    server: &Server,
    certificate: &Certificate,
    speaks: &[&[u8]],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate.chain()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = speaks.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn under_tls_client_and_server_agree_on_what_to_speak() {
    let (server, certificate) = with_tls().await;
    for speaks in [&[][..], &[&b"http/1.1"[..]]] {
        let mut stream = connect_tls(&server, &certificate, speaks).await;
        let ready = request("localhost", "GET", "/readyz", &[("Connection", "close")], b"");
        stream.write_all(&ready).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let stream = connect_tls(&server, &certificate, &[b"h2", b"http/1.1"]).await;
    let mut client = http2_over(stream).await;
    let (status, ready) = ask(&mut client, Method::GET, "https://localhost/readyz", "").await;
    assert_eq!((status, ready["status"].as_str()), (200, Some("ready")));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let (server, _certificate) = with_tls().await;
    assert!(server.connect().await.is_closed().await);
    let mut plain = server.connect().await;
    plain.send(&request("localhost", "GET", "/livez", &[], b"")).await;
    assert!(!plain.begins_with("HTTP/1.1").await);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let made = Certificate::new();
    let (certificate, key, missing) = (made.chain(), made.key(), made.missing());
    for (certificate, key, named) in [
        (&missing, &key, "the certificate in"),
        (&certificate, &missing, "the key in"),
        (&certificate, &certificate, "the key in"),
        (&key, &key, "certificate"),
    ] {
        let error = Tls::read(certificate, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
