//! What an operator sees: metrics and the log.

use serde_json::Value;
use stockhold_testkit::Signal;

use crate::{
    child::Serving,
    load::connect,
    support::{Server, mugs},
};

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let server = Server::with_mugs(1).await;
    let hold = server.hold_mugs(1).await;
    for _ in 0..2 {
        server.get(&hold).await.expect(200);
        server.get("/v1/stock/secret-1").await.expect(404);
        server.get("/secret-2").await.expect(404);
    }
    let page = server.get("/metrics").await.expect(200);
    assert!(page.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = page.text();
    for (route, status, count) in [
        ("POST /v1/holds", 201, 1),
        ("GET /v1/holds/{id}", 200, 2),
        ("PUT /v1/stock/{sku}", 201, 1),
        ("GET /v1/stock/{sku}", 404, 2),
        ("none", 404, 2),
    ] {
        let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
        let line = format!("stockhold_request_seconds_count{labels} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    let engine = "stockhold_commands_total{command=\"place\",outcome=\"ok\"} 1\n";
    assert!(text.contains(engine), "the engine's own are missing: {text}");
    assert!(!text.contains("secret"), "a label has the text of a caller: {text}");
    assert!(text.contains("# TYPE stockhold_request_seconds histogram"), "{text}");
}

/// Serves a few requests at this level; answers what was logged.
async fn log_of(args: &[&str]) -> String {
    let serving = Serving::start_with("memory:", &[&["--listen", "127.0.0.1:0"], args].concat());
    serving.ask("PUT", "/v1/stock/MUG", r#"{"on_hand":1}"#).await.expect(201);
    serving.ask("POST", "/v1/holds", &mugs(1)).await.expect(201);
    serving.ask("GET", "/v1/stock/x", "").await.expect(404);
    let (code, log) = serving.end(Signal::TERM);
    assert_eq!(code, Some(0));
    log
}

#[tokio::test]
async fn from_info_on_every_request_has_a_line() {
    let log = log_of(&["--log", "info", "--log-format", "json"]).await;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests: Vec<_> = lines.filter(|line| line["target"] == "stockhold::access").collect();
    let told = |line: &Value| (line["route"].clone(), line["status"].clone());
    let expected =
        [("PUT /v1/stock/{sku}", 201), ("POST /v1/holds", 201), ("GET /v1/stock/{sku}", 404)];
    let expected = expected.map(|(route, status)| (Value::from(route), Value::from(status)));
    assert_eq!(requests.iter().map(told).collect::<Vec<_>>(), expected, "{log}");
    for line in requests {
        assert!(line["span"]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        assert!(line["took_us"].as_u64().is_some(), "{line}");
    }
}

#[tokio::test]
async fn a_line_for_people_says_the_same() {
    let log = log_of(&["--log", "info"]).await;
    let line = log.lines().find(|line| line.contains("POST /v1/holds")).unwrap();
    for part in ["request_id=", "status=201", "took_us="] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn without_a_word_nothing_is_logged() {
    assert_eq!(log_of(&[]).await, "");
}

/// A pipe has room for 64 KiB.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nobody() {
    let args = ["--listen", "127.0.0.1:0", "--log", "info"];
    let serving = Serving::start_with("memory:", &args);
    let mut shop = connect(&serving.address).await;
    for _ in 0..1_500 {
        assert_eq!(shop.get("/livez").await.unwrap().status, 200);
    }
}
