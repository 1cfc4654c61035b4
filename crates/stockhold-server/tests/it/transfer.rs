//! All stock at once: imports and exports.

use serde_json::{Value, json};

use crate::support::{Connection, Server, request};

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
const CSV: (&str, &str) = ("Content-Type", "text/csv");

/// The lines of the answer to an import; the last one is the sum.
async fn import(server: &Server, path: &str, format: (&str, &str), list: &str) -> Vec<Value> {
    let reply = server.ask("POST", path, &[format], list.as_bytes()).await.expect(200);
    let lines = reply.text();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(created: u64, counted: u64, unchanged: u64, bad: u64) -> Value {
    let lines = created + counted + unchanged + bad;
    json!({"created": created, "counted": counted, "unchanged": unchanged, "bad": bad, "lines": lines})
}

const IMPORTS: &str = "/v1/stock-imports";

#[tokio::test]
async fn a_list_is_loaded_and_loading_it_again_changes_nothing() {
    let server = Server::start().await;
    let list = "{\"sku\":\"MUG\",\"on_hand\":5}\n\n{\"sku\":\"TEE\",\"location\":\"north\",\"on_hand\":0,\"safety_stock\":2}";
    assert_eq!(import(&server, IMPORTS, NDJSON, list).await, [sum(2, 0, 0, 0)]);
    assert_eq!(import(&server, IMPORTS, NDJSON, list).await, [sum(0, 0, 2, 0)]);
    assert_eq!(server.mugs().await, [5, 0, 0, 5]);
    let tee = server.get("/v1/stock/TEE?location=north").await.expect(200).json();
    assert_eq!((&tee["safety_stock"], &tee["available"]), (&json!(2), &json!(-2)));
    let csv = "sku,on_hand,location,safety_stock\r\nMUG,5,,\r\n\"a,b\",7,default,1\r\n";
    assert_eq!(import(&server, IMPORTS, CSV, csv).await, [sum(1, 0, 1, 0)]);
    assert_eq!(server.get("/v1/stock/a%2Cb").await.expect(200).json()["available"], 6);
}

#[tokio::test]
async fn a_list_of_what_was_counted_is_right() {
    let server = Server::with_mugs(5).await;
    server.hold_mugs(4).await;
    let list = r#"{"sku":"MUG","on_hand":3}"#;
    let lines = import(&server, IMPORTS, NDJSON, list).await;
    assert_eq!(
        (&lines[0]["line"], &lines[0]["error"]["code"]),
        (&json!(1), &json!("already_exists"))
    );
    assert_eq!(lines[1], sum(0, 0, 0, 1));
    let path = "/v1/stock-imports?mode=count";
    assert_eq!(import(&server, path, NDJSON, list).await, [sum(0, 1, 0, 0)]);
    assert_eq!(server.mugs().await, [3, 4, 0, -1]);
}

#[tokio::test]
async fn a_bad_row_is_named_by_its_line() {
    let server = Server::start().await;
    let long = "x".repeat(70_000);
    let rows = [
        (r#"{"sku":"A","on_hand":1}"#, ""),
        ("x", "body"),
        (r#"{"sku":"A","on_hand":2}"#, "none"),
        (r#"{"sku":"B","on_hand":-1}"#, "on_hand"),
        (r#"{"sku":"","on_hand":1}"#, "sku"),
        (r#"{"sku":"C"}"#, "on_hand"),
        (r#"{"sku":"C","on_hand":1,"price":3}"#, "price"),
        (r#"{"sku":"C","on_hand":1,"on_hand":1}"#, "on_hand"),
        ("[]", "body"),
        (&long, "line"),
        (r#"{"sku":"D","on_hand":9007199254740991,"location":"x"}"#, ""),
    ];
    let list: Vec<_> = rows.iter().map(|(row, _)| *row).collect();
    let lines = import(&server, IMPORTS, NDJSON, &list.join("\n")).await;
    let told = lines[..lines.len() - 1].iter().map(|line| {
        let field = line["error"]["field"].as_str().unwrap_or("none").to_owned();
        assert!(line["error"]["detail"].as_str().is_some_and(|text| !text.is_empty()));
        (line["line"].as_u64().unwrap(), field)
    });
    let expected = rows.iter().zip(1..).filter(|((_, field), _)| !field.is_empty());
    let expected: Vec<_> = expected.map(|((_, field), line)| (line, (*field).to_owned())).collect();
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(lines.last(), Some(&sum(2, 0, 0, 9)));
}

#[tokio::test]
async fn a_bad_row_of_csv_is_named_by_its_line() {
    let server = Server::start().await;
    let list = "sku,on_hand\nA,1\nB,1.0\nC,\n,1\n\"D,1\nE,1,1\nF,+1\nG, 1\nH,99999999999999999999\nI,-1\nA,1\n";
    let lines = import(&server, IMPORTS, CSV, list).await;
    let told: Vec<_> = lines[..lines.len() - 1]
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["error"]["field"].as_str().unwrap()))
        .collect();
    let expected = [
        (3, "on_hand"),
        (4, "on_hand"),
        (5, "sku"),
        (6, "line"),
        (7, "line"),
        (8, "on_hand"),
        (9, "on_hand"),
        (10, "on_hand"),
        (11, "on_hand"),
    ];
    assert_eq!(told, expected);
    assert_eq!(lines.last(), Some(&sum(1, 0, 1, 9)));
}

#[tokio::test]
async fn what_cannot_be_a_list_is_refused_at_once() {
    let server = Server::start().await;
    for (path, format, list, field) in [
        ("/v1/stock-imports?mode=merge", NDJSON, "", "mode"),
        ("/v1/stock-imports?format=csv", CSV, "", "format"),
        (IMPORTS, CSV, "", "sku"),
        (IMPORTS, CSV, "sku,price\n", "price"),
        (IMPORTS, CSV, "sku,sku,on_hand\n", "sku"),
        (IMPORTS, CSV, "sku\n", "on_hand"),
    ] {
        let reply = server.ask("POST", path, &[format], list.as_bytes()).await;
        let problem = reply.expect_problem(400, "invalid_field");
        assert!(problem["field"] == field || list.is_empty(), "{path} {list}: {problem}");
    }
    let reply = server.ask("POST", IMPORTS, &[("Content-Type", "application/json")], b"[]").await;
    reply.expect_problem(415, "unsupported_media_type");
    let problem = server.get("/v1/stock-exports?format=xml").await;
    assert_eq!(problem.expect_problem(400, "invalid_field")["field"], "format");
}

#[tokio::test]
async fn an_export_can_be_imported_again() {
    let server = Server::start().await;
    let row = |n: usize| match n {
        0 => json!({"sku": "a,b \"c\"", "location": "x,y", "on_hand": 3, "safety_stock": 1}),
        n => json!({"sku": format!("S{n:05}"), "on_hand": n, "safety_stock": n % 7}),
    };
    let list: String = (0..2_500).map(|n| format!("{}\n", row(n))).collect();
    assert_eq!(import(&server, IMPORTS, NDJSON, &list).await, [sum(2_500, 0, 0, 0)]);
    for (format, media_type) in [("csv", CSV), ("ndjson", NDJSON)] {
        let reply = server.get(&format!("/v1/stock-exports?format={format}")).await.expect(200);
        assert_eq!(reply.header("content-type"), Some(media_type.1));
        let all = reply.text();
        assert_eq!(all.lines().count(), 2_500 + usize::from(format == "csv"));
        let other = Server::start().await;
        assert_eq!(import(&other, IMPORTS, media_type, &all).await, [sum(2_500, 0, 0, 0)]);
        assert_eq!(import(&server, IMPORTS, media_type, &all).await, [sum(0, 0, 2_500, 0)]);
    }
}

/// More was shipped than a count had found.
#[tokio::test]
async fn less_than_none_is_exported_and_to_be_counted_before_it_is_imported() {
    let server = Server::with_mugs(2).await;
    let hold = server.hold_mugs(2).await;
    server.post(&format!("{hold}/confirm"), "{}").await.expect(200);
    let count = r#"{"count":1,"reason":"found one"}"#;
    server.post("/v1/stock/MUG/adjustments", count).await.expect(201);
    server.post(&format!("{hold}/ship"), "{}").await.expect(200);
    for (format, media_type) in [("csv", CSV), ("ndjson", NDJSON)] {
        let reply = server.get(&format!("/v1/stock-exports?format={format}")).await.expect(200);
        let list = reply.text();
        assert!(list.contains("-1"), "{list}");
        let lines = import(&server, IMPORTS, media_type, &list).await;
        let error = &lines[0]["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!("on_hand")));
        assert!(error["detail"].as_str().unwrap().contains("count the item"), "{error}");
        assert_eq!(lines[1], sum(0, 0, 0, 1));
    }
}

#[tokio::test]
async fn an_empty_ledger_is_exported_too() {
    let server = Server::start().await;
    let csv = server.get("/v1/stock-exports?format=csv").await.expect(200);
    assert_eq!(csv.text(), "sku,location,on_hand,safety_stock\n");
    assert_eq!(server.get("/v1/stock-exports").await.expect(200).text(), "");
    assert_eq!(import(&server, IMPORTS, NDJSON, "").await, [sum(0, 0, 0, 0)]);
}

/// The head of an import whose body comes in chunks.
async fn begin(server: &Server) -> Connection {
    let mut connection = server.connect().await;
    let head = format!(
        "POST {IMPORTS} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    connection.send(head.as_bytes()).await;
    connection
}

async fn send(connection: &mut Connection, text: &str) {
    connection.send(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stands_still_is_not_summed() {
    let server = Server::start().await;
    let mut connection = begin(&server).await;
    send(&mut connection, "{\"sku\":\"MUG\",\"on_hand\":1}\n").await;
    let head = connection.head().await;
    assert_eq!(head.status, 200);
    let text = connection.until_closed().await;
    assert!(text.contains("request_timeout") && !text.contains("created"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "the answer is broken off: {text}");
}

#[tokio::test]
async fn an_export_of_a_ledger_that_cannot_be_read_is_a_problem() {
    let server = Server::with_mugs(1).await;
    server.engine.close().await.unwrap();
    server.get("/v1/stock-exports").await.expect_problem(503, "unavailable");
    let lines = server.ask("GET", "/v1/stock", &[], b"").await;
    lines.expect_problem(503, "unavailable");
}

#[tokio::test]
async fn an_import_into_a_ledger_that_is_gone_says_so_and_breaks_off() {
    let server = Server::with_mugs(1).await;
    server.engine.close().await.unwrap();
    let mut connection = server.connect().await;
    let list = b"{\"sku\":\"TEE\",\"on_hand\":1}";
    connection.send(&request(&server.address, "POST", IMPORTS, &[NDJSON], list)).await;
    assert_eq!(connection.head().await.status, 200);
    let text = connection.until_closed().await;
    assert!(text.contains("\"line\":1") && text.contains("unavailable"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}
