//! Connections: kept, cut off, and ended in good order.

use std::time::Duration;

use stockhold_server::serve::Service;

use crate::support::{Connection, JSON, Server, mugs, request, rest, set};

#[tokio::test]
async fn a_connection_is_kept_and_may_send_ahead() {
    let server = Server::with_mugs(10).await;
    let mut connection = server.connect().await;
    let place = request(&server.address, "POST", "/v1/holds", &[JSON], mugs(1).as_bytes());
    connection.send(&place.repeat(3)).await;
    for _ in 0..3 {
        connection.reply().await.expect(201);
    }
    connection.send(&place).await;
    connection.reply().await.expect(201);
    assert_eq!(server.mugs().await, [10, 4, 0, 6]);
}

#[tokio::test]
async fn a_body_in_chunks_is_taken() {
    let server = Server::with_mugs(10).await;
    let body = mugs(1);
    let (one, two) = body.split_at(10);
    let mut connection = server.connect().await;
    connection.send(chunked(&server.address).as_bytes()).await;
    for chunk in [one, two, ""] {
        connection.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await;
    }
    connection.reply().await.expect(201);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let server = Server::with_mugs(10).await;
    let mut connection = server.connect().await;
    let head = format!(
        "POST /v1/holds HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 65537\r\n\r\n",
        server.address
    );
    connection.send(head.as_bytes()).await;
    connection.reply().await.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_large_body_is_refused_even_if_its_sender_does_not_look() {
    let server = Server::with_mugs(10).await;
    let body = vec![b' '; 4_000_000];
    let reply = server.ask("POST", "/v1/holds", &[JSON], &body).await;
    reply.expect_problem(413, "body_too_large");
    let mut fits = vec![b' '; 64 * 1024];
    fits[..mugs(1).len()].copy_from_slice(mugs(1).as_bytes());
    server.ask("POST", "/v1/holds", &[JSON], &fits).await.expect(201);
}

#[tokio::test]
async fn whoever_sends_much_to_nowhere_learns_that_it_is_nowhere() {
    let server = Server::start().await;
    let body = vec![b' '; 4_000_000];
    let ask = |path: &'static str, header| {
        let (server, body) = (&server, &body);
        async move { server.ask("POST", path, &[header], body).await }
    };
    for _ in 0..20 {
        ask("/nowhere", JSON).await.expect_problem(404, "no_route");
        ask("/livez", JSON).await.expect_problem(405, "method_not_allowed");
        let text = ("Content-Type", "text/plain");
        ask("/v1/holds", text).await.expect_problem(415, "unsupported_media_type");
        let origin = ("Origin", "https://evil.example");
        ask("/v1/holds", origin).await.expect_problem(403, "host_not_allowed");
    }
}

#[tokio::test]
async fn a_sender_that_waits_is_not_told_to_go_on_in_vain() {
    let server = Server::with_mugs(10).await;
    for (length, answer) in [(65_537, "HTTP/1.1 413 "), (mugs(1).len(), "HTTP/1.1 100 ")] {
        let mut connection = server.connect().await;
        let head = format!(
            "POST /v1/holds HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n",
            server.address
        );
        connection.send(head.as_bytes()).await;
        assert!(connection.begins_with(answer).await, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_for_too_long_is_cut_off() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection.send(b"GET /livez HTTP/1.1\r\nHost").await;
    assert!(connection.is_closed().await);
    let mut connection = server.connect().await;
    let head = format!(
        "POST /v1/holds HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\n\r\n{{",
        server.address
    );
    connection.send(head.as_bytes()).await;
    connection.reply().await.expect_problem(408, "request_timeout");
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn whoever_does_not_read_its_answers_is_cut_off() {
    let server =
        Server::start_on("127.0.0.1:0", |service| service.settings(set("write_timeout = \"1s\"")))
            .await;
    let mut connection = server.connect().await;
    let many = request(&server.address, "GET", "/livez", &[], b"").repeat(1_000);
    while connection.try_send(&many).await.is_ok() {}
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_the_next_one_waits() {
    let server =
        Server::start_on("127.0.0.1:0", |service| service.settings(set("max_connections = 2")))
            .await;
    let live = request(&server.address, "GET", "/livez", &[], b"");
    let (mut one, mut two, mut three) =
        (server.connect().await, server.connect().await, server.connect().await);
    for connection in [&mut one, &mut two] {
        connection.send(&live).await;
        connection.reply().await.expect(200);
    }
    three.send(&live).await;
    let early = tokio::time::timeout(Duration::from_millis(200), three.reply()).await;
    assert!(early.is_err(), "a third connection was taken");
    drop(one);
    three.reply().await.expect(200);
    two.send(&live).await;
    two.reply().await.expect(200);
}

#[tokio::test]
async fn patience_and_bounds_are_settings() {
    let few = |service: Service| {
        service.settings(set("max_body = 1024\nbody_timeout = \"1s\"\nhead_timeout = \"1s\""))
    };
    let server = Server::start_on("127.0.0.1:0", few).await;
    let reply = server.ask("POST", "/v1/holds", &[JSON], &[b' '; 1_025]).await;
    let problem = reply.expect_problem(413, "body_too_large");
    assert!(problem["detail"].as_str().unwrap().contains("1024"), "{problem}");
    let mut slow = server.connect().await;
    let place = request(&server.address, "POST", "/v1/holds", &[JSON], b"{}");
    slow.send(&place[..place.len() - 1]).await;
    slow.reply().await.expect_problem(408, "request_timeout");
    assert!(server.connect().await.is_closed().await);
}

/// A head that is no HTTP is answered by the library, and so without a problem.
#[tokio::test]
async fn what_is_no_http_is_told_so_and_cut_off() {
    let server = Server::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for (bytes, status) in [("hello\r\n\r\n", 400), ("GET / HTTP/9.9\r\n\r\n", 400), (&*long, 431)]
    {
        let mut connection = server.connect().await;
        connection.send(bytes.as_bytes()).await;
        connection.reply().await.expect(status);
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn chunks_are_refused_as_soon_as_they_are_too_many() {
    let server = Server::with_mugs(10).await;
    let mut connection = server.connect().await;
    connection.send(chunked(&server.address).as_bytes()).await;
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    for _ in 0..3 {
        connection.send(chunk.as_bytes()).await; // and no end
    }
    connection.reply().await.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_client_that_hangs_up_within_a_body_changes_nothing() {
    let server = Server::with_mugs(10).await;
    let place = request(&server.address, "POST", "/v1/holds", &[JSON], mugs(1).as_bytes());
    let mut connection = server.connect().await;
    connection.send(&place[..place.len() - 1]).await;
    drop(connection);
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn what_was_begun_is_answered_when_the_server_ends() {
    let server = Server::with_mugs(10).await;
    let (address, engine) = (server.address.clone(), server.engine.clone());
    let place = request(&address, "POST", "/v1/holds", &[JSON], mugs(1).as_bytes());
    let (first, rest_of_it) = place.split_at(place.len() - 5);
    let (mut begun, mut idle, mut fresh) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.send(&request(&address, "GET", "/livez", &[], b"")).await;
    idle.reply().await.expect(200);
    begun.send(first).await;
    rest(50).await; // until it was read
    let task = server.stop();
    assert!(idle.is_closed().await && fresh.is_closed().await);
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    assert!(!task.is_finished());
    begun.send(rest_of_it).await;
    begun.reply().await.expect(201);
    assert!(begun.is_closed().await);
    task.await.unwrap().unwrap();
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_server_without_connections_ends_at_once() {
    let server = Server::start().await;
    let address = server.address.clone();
    Connection::open(&address).await;
    server.stop().await.unwrap().unwrap();
}

fn chunked(host: &str) -> String {
    format!(
        "POST /v1/holds HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}
