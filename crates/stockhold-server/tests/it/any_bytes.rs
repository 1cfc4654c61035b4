//! Whatever is sent: never a fault of the server, always a problem, and the connection is sound.

use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::support::Server;

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
const PATHS: [&str; 14] = [
    "/v1/holds",
    "/v1/holds/@",
    "/v1/holds/@/confirm",
    "/v1/holds/01927c1e-5f3a-7cc3-98c4-dc0c0c07398f/ship",
    "/v1/stock",
    "/v1/stock/@",
    "/v1/stock/MUG/adjustments",
    "/v1/batch",
    "/v1/movements",
    "/v1/stock-imports",
    "/v1/stock-exports",
    "/problems/@",
    "/readyz",
    "/@",
];
const HEADERS: [&str; 6] =
    ["Content-Type", "Idempotency-Key", "Accept", "X-Request-Id", "Authorization", "Range"];
const BODIES: [&str; 6] = [
    r#"{"owner":"a","lines":[{"sku":"MUG","quantity":1}]}"#,
    r#"{"items":[{"op":"place","owner":"a","lines":[]}]}"#,
    r#"{"delta":1,"reason":"x"}"#,
    "sku,on_hand\nMUG,1\n",
    r#"{"sku":"MUG","on_hand":1}"#,
    "{}",
];

/// Bytes as a path or a query can carry them.
fn escaped() -> impl Strategy<Value = String> {
    let byte = prop_oneof!["[a-zA-Z0-9._~!$'()*,;:@+-]", "%[0-9A-F]{2}", Just("%".to_owned())];
    prop::collection::vec(byte, 0..12).prop_map(|parts| parts.concat())
}

fn path() -> impl Strategy<Value = String> {
    let query = prop::option::of(("[a-z_]{1,12}", escaped()));
    (prop::sample::select(&PATHS[..]), escaped(), query).prop_map(|(path, part, query)| {
        let path = path.replace('@', &part);
        query.map_or_else(|| path.clone(), |(name, value)| format!("{path}?{name}={value}"))
    })
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let value = prop_oneof![
        Just("application/json".to_owned()),
        Just("application/x-ndjson".to_owned()),
        Just("text/csv".to_owned()),
        "[ -~]{0,20}",
        "\\PC{0,8}",
    ];
    prop::collection::vec((prop::sample::select(&HEADERS[..]), value), 0..4)
}

/// Any bytes, or a body that is nearly right.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let hurt = (prop::sample::select(&BODIES[..]), any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        bytes,
        prop::sample::select(&BODIES[..]).prop_map(|body| body.as_bytes().to_vec()),
        hurt.prop_map(|(body, at, byte)| {
            let mut body = body.as_bytes().to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
    ]
}

async fn is_sound(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut connection = server.connect().await;
    let request = crate::support::request(&server.address, method, path, &headers, body);
    connection.send(&request).await;
    let reply = if method == "HEAD" { connection.head().await } else { connection.reply().await };
    assert!(reply.status < 500, "{method} {path} {headers:?}: {}", reply.status);
    if reply.status >= 400 && method != "HEAD" {
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = reply.json();
        assert_eq!(problem["status"], reply.status);
        assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"));
    }
    if reply.header("connection") != Some("close") {
        let alive = crate::support::request(&server.address, "GET", "/livez", &[], b"");
        connection.send(&alive).await;
        connection.reply().await.expect(200);
    }
}

#[test]
fn whatever_is_sent_is_answered_and_the_connection_stays_sound() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Server::with_mugs(1_000));
    let method = prop::sample::select(&METHODS[..]);
    let config = ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(method in method, path in path(), headers in headers(), body in body())| {
        runtime.block_on(is_sound(&server, method, &path, &headers, &body));
    });
    runtime.block_on(async { server.get("/readyz").await.expect(200) });
}
