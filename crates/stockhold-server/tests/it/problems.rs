//! What the framework itself would answer, and what all problems have in common.

use crate::support::{JSON, Server, mugs};

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let server = Server::start().await;
    for path in ["/", "/v1", "/v1/holds/", "/v1/stock/", "/v2/holds", "/v1/holds/x/y"] {
        server.get(path).await.expect_problem(404, "no_route");
    }
}

#[tokio::test]
async fn a_wrong_method_learns_the_right_ones() {
    let server = Server::start().await;
    for (method, path, allow) in [
        ("DELETE", "/v1/holds", "POST,GET,HEAD"),
        ("PUT", "/v1/holds/x", "GET,HEAD"),
        ("GET", "/v1/holds/x/confirm", "POST"),
        ("POST", "/v1/stock/MUG", "GET,HEAD,PUT"),
        ("OPTIONS", "/v1/stock/MUG/adjustments", "POST"),
        ("POST", "/livez", "GET,HEAD"),
    ] {
        let reply = server.ask(method, path, &[], b"").await;
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        reply.expect_problem(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn a_body_must_be_json() {
    let server = Server::with_mugs(10).await;
    let body = mugs(1);
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let headers = [("Content-Type", media_type)];
        let reply = server.ask("POST", "/v1/holds", &headers, body.as_bytes()).await;
        reply.expect_problem(415, "unsupported_media_type");
    }
    let reply = server.ask("POST", "/v1/holds", &[], body.as_bytes()).await;
    reply.expect_problem(415, "unsupported_media_type");
    for media_type in ["Application/JSON", "application/json; charset=utf-8"] {
        let headers = [("Content-Type", media_type)];
        server.ask("POST", "/v1/holds", &headers, body.as_bytes()).await.expect(201);
    }
}

#[tokio::test]
async fn only_json_is_answered() {
    let server = Server::with_mugs(1).await;
    let (path, html) = ("/v1/stock/MUG", [("Accept", "text/html")]);
    server.ask("GET", path, &html, b"").await.expect_problem(406, "not_acceptable");
    for accept in ["*/*", "application/json", "text/html, application/*;q=0.5"] {
        server.ask("GET", path, &[("Accept", accept)], b"").await.expect(200);
    }
}

#[tokio::test]
async fn a_server_on_loopback_answers_to_loopback_names_only() {
    let server = Server::with_mugs(1).await;
    let port = server.address.rsplit(':').next().unwrap();
    let get = |host: String, headers: String| {
        format!("GET /v1/stock/MUG HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
    };
    let cases = [
        (get(format!("localhost:{port}"), String::new()), 200),
        (get(format!("[::1]:{port}"), String::new()), 200),
        (get(format!("evil.example:{port}"), String::new()), 403),
        (get("localhost".into(), String::new()), 200),
        (get("localhost:1".into(), String::new()), 200),
        (get("localhost:x".into(), String::new()), 403),
        (get(format!("localhost:{port}"), format!("Host: localhost:{port}\r\n")), 403),
        (get(format!("localhost:{port}"), "Origin: https://evil.example\r\n".into()), 403),
        (get(format!("localhost:{port}"), "Origin: null\r\n".into()), 403),
        (get(format!("localhost:{port}"), "Origin: http://localhost:1\r\n".into()), 403),
        (get(format!("localhost:{port}"), format!("Origin: http://localhost:{port}\r\n")), 200),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 403),
        (format!("GET http://evil.example/livez HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"), 403),
    ];
    for (request, status) in cases {
        let mut connection = server.connect().await;
        connection.send(request.as_bytes()).await;
        let reply = connection.reply().await;
        match status {
            200 => drop(reply.expect(200)),
            _ => drop(reply.expect_problem(403, "host_not_allowed")),
        }
    }
}

#[tokio::test]
async fn a_request_has_the_name_that_its_client_gave_it() {
    let server = Server::start().await;
    for (given, kept) in
        [("abc-1", true), (&*"x".repeat(64), true), (&*"x".repeat(65), false), ("a b", false)]
    {
        let reply = server.ask("GET", "/v1/holds/x", &[("X-Request-Id", given)], b"").await;
        assert_eq!(reply.header("x-request-id") == Some(given), kept, "{given}");
        reply.expect_problem(400, "invalid_field");
    }
    let (one, two) = (server.get("/livez").await, server.get("/livez").await);
    assert_ne!(one.header("x-request-id").unwrap(), two.header("x-request-id").unwrap());
}

#[tokio::test]
async fn every_problem_has_a_page() {
    let server = Server::start().await;
    let problem = server.get("/nowhere").await.expect_problem(404, "no_route");
    let page = server.get(problem["type"].as_str().unwrap()).await.expect(200);
    assert_eq!(page.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(page.text().contains("no_route"), "{}", page.text());
    let page = server.get("/problems/insufficient-stock").await.expect(200).text();
    assert!(page.contains("Not enough stock") && page.contains("409"), "{page}");
    server.get("/problems/insufficient_stock").await.expect_problem(404, "no_route");
    server.get("/problems/%FF").await.expect_problem(404, "no_route");
}

#[tokio::test]
async fn a_server_whose_ledger_is_gone_is_alive_and_not_ready() {
    let server = Server::with_mugs(1).await;
    let ready = server.get("/readyz").await.expect(200).json();
    assert_eq!(ready["dependencies"][0]["name"], "ledger");
    assert_eq!(ready["dependencies"][0]["state"], "up");
    server.engine.close().await.unwrap();
    server.get("/livez").await.expect(200);
    let reply = server.get("/readyz").await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    let problem = reply.expect_problem(503, "unavailable");
    assert_eq!(problem["dependencies"][0]["state"], "down");
    let reply = server.ask("POST", "/v1/holds", &[JSON], mugs(1).as_bytes()).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.expect_problem(503, "unavailable");
}
