//! Whatever is sent, the answer is a problem that names what is wrong, and nothing has moved.

use serde_json::{Value, json};

use crate::support::{JSON, Server};

/// Values that are wrong for every field that is not a list or an object; as JSON text.
const WRONG_EVERYWHERE: [&str; 8] = ["[]", "{}", "true", "[[1]]", "NaN", "1e999", "-", "'x'"];
const WRONG_NUMBERS: [&str; 13] = [
    "\"3\"",
    "\"\"",
    "0",
    "-1",
    "1.5",
    "1.0",
    "1e3",
    "1e308",
    "9007199254740992",
    "18446744073709551616",
    "-9223372036854775809",
    "01",
    "Infinity",
];
const WRONG_WORDS: [&str; 5] = ["0", "1.5", r#""\ud800""#, "\"a\u{1}b\"", r#""a\u0007b""#];
const WRONG_NAMES: [&str; 4] = [r#""""#, r#"" a""#, r#""..""#, r#""a ""#];

async fn refused(server: &Server, method: &str, path: &str, body: &str, field: &str) {
    let headers = [JSON, ("Idempotency-Key", "k")];
    let headers = if method == "PUT" { &headers[..1] } else { &headers[..] };
    let reply = server.ask(method, path, headers, body.as_bytes()).await;
    assert!((400..500).contains(&reply.status), "{method} {path} {body}: {}", reply.text());
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    let problem = reply.expect_problem(400, &code);
    assert_eq!(problem["field"], field, "{method} {path} {body}: {problem}");
}

/// Puts each of the values in the place of `@` in the body.
async fn refuse_each(server: &Server, path: &str, body: &str, field: &str, values: &[&[&str]]) {
    let method =
        if path.contains("adjustments") || path.contains("holds") { "POST" } else { "PUT" };
    for value in values.iter().copied().flatten().chain(&WRONG_EVERYWHERE) {
        refused(server, method, path, &body.replace('@', value), field).await;
    }
    let long = format!("\"{}\"", "x".repeat(60_000));
    refused(server, method, path, &body.replace('@', &long), field).await;
}

const LINE: &str = r#"{"sku":"MUG","quantity":1}"#;

#[tokio::test]
async fn a_wrong_field_of_a_place_is_named() {
    let server = Server::with_mugs(10).await;
    let words: &[&[&str]] = &[&WRONG_WORDS, &WRONG_NAMES, &["null"]];
    let optional_words: &[&[&str]] = &[&WRONG_WORDS];
    let with = |member: &str| format!(r#"{{"owner":"a","lines":[{LINE}],{member}}}"#);
    let line = |line: &str| format!(r#"{{"owner":"a","lines":[{LINE},{line}]}}"#);
    let path = "/v1/holds";
    let owner = format!(r#"{{"owner":@,"lines":[{LINE}]}}"#);
    refuse_each(&server, path, &owner, "owner", words).await;
    refuse_each(
        &server,
        path,
        &with(r#""ttl_ms":@"#),
        "ttl_ms",
        &[&["\"3\"", "0", "-1", "1.5", "1e308", "9007199254740992", "18446744073709551616", "-0"]],
    )
    .await;
    refuse_each(&server, path, &with(r#""reference":@"#), "reference", optional_words).await;
    refuse_each(&server, path, &with(r#""replaces":@"#), "replaces", &[&WRONG_WORDS, &WRONG_NAMES])
        .await;
    refuse_each(&server, path, &line(r#"{"sku":@,"quantity":1}"#), "lines[1].sku", words).await;
    let location = line(r#"{"sku":"MUG","location":@,"quantity":1}"#);
    refuse_each(&server, path, &location, "lines[1].location", &[&WRONG_WORDS, &WRONG_NAMES]).await;
    let quantity = line(r#"{"sku":"MUG","quantity":@}"#);
    refuse_each(&server, path, &quantity, "lines[1].quantity", &[&WRONG_NUMBERS, &["null"]]).await;
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn wrong_lines_are_named() {
    let server = Server::with_mugs(10).await;
    for (body, field) in [
        (r#"{"owner":"a","lines":[]}"#, "lines"),
        (r#"{"owner":"a","lines":null}"#, "lines"),
        (r#"{"owner":"a","lines":{}}"#, "lines"),
        (r#"{"owner":"a","lines":"MUG"}"#, "lines"),
        (r#"{"owner":"a","lines":[null]}"#, "lines[0]"),
        (r#"{"owner":"a","lines":[["MUG",null,1]]}"#, "lines[0]"),
        (r#"{"owner":"a","lines":[{}]}"#, "lines[0].sku"),
        (r#"{"owner":"a","lines":[{"sku":"MUG"}]}"#, "lines[0].quantity"),
        (r#"{"owner":"a","lines":[{"quantity":1}]}"#, "lines[0].sku"),
        (r#"{"owner":"a","lines":[{"sku":"MUG","quantity":1,"qty":1}]}"#, "lines[0].qty"),
        (r#"{"owner":"a","lines":[{"sku":"MUG","quantity":1,"quantity":1}]}"#, "lines[0].quantity"),
        (r#"{"owner":"a"}"#, "lines"),
        (r#"{"lines":[{"sku":"MUG","quantity":1}]}"#, "owner"),
        (r#"{}"#, "owner"),
        (r#"{"owner":"a","owner":"a","lines":[{"sku":"MUG","quantity":1}]}"#, "owner"),
        (r#"{"owner":"a","lines":[{"sku":"MUG","quantity":1}],"ttl":1}"#, "ttl"),
        (
            r#"{"owner":"a","lines":[{"sku":"MUG","quantity":9007199254740991},{"sku":"MUG","quantity":1}]}"#,
            "lines[1].quantity",
        ),
    ] {
        refused(&server, "POST", "/v1/holds", body, field).await;
    }
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn what_is_no_json_is_told_where() {
    let server = Server::with_mugs(10).await;
    let reply = server.post("/v1/holds", "{\"owner\":\"a\",\n \"lines\": x}").await;
    let problem = reply.expect_problem(400, "invalid_json");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(11)), "{problem}");
    for body in ["", "{", "null", "[]", "\"x\"", "3", "{}{}", "{\"a\":1,}", "\u{feff}{}"] {
        let reply = server.post("/v1/holds", body).await.expect(400);
        assert!(reply.json()["field"].is_string(), "{body}");
    }
    refused(&server, "POST", "/v1/holds", r#"{"owner":"a,"lines":[]}"#, "body").await;
    refused(&server, "POST", "/v1/holds", r#"{"lines":[{"sku":"a"#, "lines[0].sku").await;
    refused(&server, "POST", "/v1/holds", r#"{"lines":[{"sku":"a"x}]}"#, "lines[0]").await;
    let body = format!(r#"{{"owner":"a","lines":[{LINE}]}} x"#);
    server.post("/v1/holds", &body).await.expect_problem(400, "invalid_json");
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn deep_nesting_is_refused() {
    let server = Server::with_mugs(10).await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    for body in [
        deep("[", "]"),
        format!(r#"{{"owner":{},"lines":[{LINE}]}}"#, deep("[", "]")),
        format!(r#"{{"lines":{}}}"#, deep("[", "]")),
        format!(r#"{{"x":{}}}"#, deep("[", "]")),
        deep(r#"{"a":"#, "}").chars().take(60_000).collect(),
        "[".repeat(60_000),
    ] {
        server.post("/v1/holds", &body).await.expect(400);
    }
    server.get("/livez").await.expect(200);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let server = Server::with_mugs(10).await;
    for (body, field) in [
        (&b"{\"owner\":\"\xff\",\"lines\":[]}"[..], "owner"),
        (b"{\"owner\":\"a\",\"lines\":[{\"sku\":\"\xc3\x28\",\"quantity\":1}]}", "lines[0].sku"),
        (b"\xff\xfe{\x00}\x00", "body"),
        (b"\x00", "body"),
    ] {
        let problem = server
            .ask("POST", "/v1/holds", &[JSON], body)
            .await
            .expect_problem(400, "invalid_json");
        assert_eq!(problem["field"], field);
    }
}

#[tokio::test]
async fn wrong_fields_of_the_other_verbs_are_named() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(1).await;
    let verb = |verb: &str| format!("{path}/{verb}");
    let words: &[&[&str]] = &[&WRONG_WORDS];
    refuse_each(&server, &verb("confirm"), r#"{"reference":@}"#, "reference", words).await;
    refuse_each(
        &server,
        &verb("confirm"),
        r#"{"on_expired":@}"#,
        "on_expired",
        &[&WRONG_WORDS, &WRONG_NAMES, &["\"Fail\""]],
    )
    .await;
    refuse_each(
        &server,
        &verb("confirm"),
        r#"{"lines":[{"sku":"MUG","quantity":@}]}"#,
        "lines[0].quantity",
        &[&WRONG_NUMBERS],
    )
    .await;
    refused(&server, "POST", &verb("confirm"), r#"{"lines":[]}"#, "lines").await;
    refused(&server, "POST", &verb("confirm"), r#"{"line":[]}"#, "line").await;
    refuse_each(&server, &verb("release"), r#"{"reason":@}"#, "reason", words).await;
    refused(&server, "POST", &verb("release"), r#"{"reference":"x"}"#, "reference").await;
    refuse_each(
        &server,
        &verb("extend"),
        r#"{"ttl_ms":@}"#,
        "ttl_ms",
        &[&["0", "-1", "null", "\"3\"", "1e308"]],
    )
    .await;
    refused(&server, "POST", &verb("extend"), "{}", "ttl_ms").await;
    let words: &[&[&str]] = &[&WRONG_WORDS, &["null"]];
    refuse_each(&server, &verb("revoke"), r#"{"reason":@}"#, "reason", words).await;
    refused(&server, "POST", &verb("revoke"), "{}", "reason").await;
    for line_verb in ["ship", "cancel"] {
        let body = r#"{"lines":[{"sku":"MUG","quantity":@}]}"#;
        let numbers: &[&[&str]] = &[&WRONG_NUMBERS, &["null"]];
        refuse_each(&server, &verb(line_verb), body, "lines[0].quantity", numbers).await;
        refused(&server, "POST", &verb(line_verb), r#"{"lines":[]}"#, "lines").await;
        refused(&server, "POST", &verb(line_verb), r#"{"reason":"x"}"#, "reason").await;
    }
    assert_eq!(server.mugs().await, [10, 1, 0, 9]);
}

#[tokio::test]
async fn wrong_fields_of_stock_are_named() {
    let server = Server::with_mugs(10).await;
    let (item, path) = ("/v1/stock/MUG", "/v1/stock/MUG/adjustments");
    let numbers: &[&[&str]] =
        &[&["\"3\"", "-1", "1.5", "1e308", "9007199254740992", "18446744073709551616"]];
    refuse_each(&server, item, r#"{"on_hand":@}"#, "on_hand", numbers).await;
    refuse_each(&server, item, r#"{"safety_stock":@}"#, "safety_stock", numbers).await;
    refused(&server, "PUT", item, r#"{"available":1}"#, "available").await;
    refuse_each(&server, path, r#"{"receive":@}"#, "receive", &[&WRONG_NUMBERS]).await;
    refuse_each(&server, path, r#"{"count":@,"reason":"x"}"#, "count", numbers).await;
    let delta: &[&[&str]] =
        &[&["\"3\"", "1.5", "1e308", "-9007199254740992", "18446744073709551616"]];
    refuse_each(&server, path, r#"{"delta":@,"reason":"x"}"#, "delta", delta).await;
    refuse_each(&server, path, r#"{"delta":1,"reason":@}"#, "reason", &[&WRONG_WORDS]).await;
    refuse_each(
        &server,
        path,
        r#"{"delta":1,"reason":"x","min_available":@}"#,
        "min_available",
        delta,
    )
    .await;
    refuse_each(&server, path, r#"{"count":1,"reason":"x","if_on_hand":@}"#, "if_on_hand", delta)
        .await;
    for (body, field) in [
        ("{}", "delta"),
        (r#"{"delta":null}"#, "delta"),
        (r#"{"delta":1}"#, "reason"),
        (r#"{"count":1}"#, "reason"),
        (r#"{"delta":1,"count":1,"reason":"x"}"#, "delta"),
        (r#"{"count":1,"receive":1,"reason":"x"}"#, "count"),
        (r#"{"receive":1,"reason":"x"}"#, "reason"),
        (r#"{"receive":1,"min_available":1}"#, "min_available"),
        (r#"{"delta":1,"reason":"x","reference":"y"}"#, "reference"),
        (r#"{"delta":1,"reason":"x","if_on_hand":1}"#, "if_on_hand"),
        (r#"{"count":1,"reason":"x","min_available":1}"#, "min_available"),
    ] {
        refused(&server, "POST", path, body, field).await;
    }
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn wrong_names_in_paths_and_queries_are_named() {
    let server = Server::with_mugs(10).await;
    let long = format!("/v1/stock/{}", "x".repeat(129));
    for (path, field) in [
        ("/v1/holds/x", "id"),
        ("/v1/holds/01927c1e5f3a7cc398c4dc0c0c07398f", "id"),
        ("/v1/holds/%FF", "id"),
        ("/v1/holds/01927c1e-5f3a-7cc3-98c4-dc0c0c07398f?x=1", "x"),
        ("/v1/stock/%FF", "sku"),
        ("/v1/stock/%00", "sku"),
        ("/v1/stock/%2E%2E", "sku"),
        ("/v1/stock/%20MUG", "sku"),
        (&long, "sku"),
        ("/v1/stock/MUG?location=", "location"),
        ("/v1/stock/MUG?location=%07", "location"),
        ("/v1/stock/MUG?location=a&location=b", "location"),
        ("/v1/stock/MUG?consistency=eventual", "consistency"),
        ("/v1/stock/MUG?max_age_ms=soon", "max_age_ms"),
        ("/v1/stock/MUG?Location=x", "Location"),
        ("/v1/stock/MUG?location=%FF", "query"),
    ] {
        let problem = server.get(path).await.expect_problem(400, "invalid_field");
        assert_eq!(problem["field"], field, "{path}");
    }
    refused(&server, "PUT", "/v1/stock/MUG?consistency=strong", "{}", "consistency").await;
    refused(&server, "POST", "/v1/holds?location=x", "{}", "location").await;
}

#[tokio::test]
async fn a_wrong_key_is_named() {
    let server = Server::with_mugs(10).await;
    let body = crate::support::mugs(1);
    for key in ["", "a b", "ü", &"k".repeat(256)] {
        let reply = server.post_keyed("/v1/holds", key, &body).await;
        let problem: Value = reply.expect_problem(400, "invalid_field");
        assert_eq!(problem["field"], "Idempotency-Key", "{key}");
    }
    let twice = [JSON, ("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
    let reply = server.ask("POST", "/v1/holds", &twice, body.as_bytes()).await;
    assert_eq!(reply.expect_problem(400, "invalid_field")["field"], "Idempotency-Key");
    server.post_keyed("/v1/holds", &"k".repeat(255), &body).await.expect(201);
    assert_eq!(server.mugs().await, [10, 1, 0, 9]);
}
