//! Stock items over HTTP.

use serde_json::{Value, json};

use crate::support::Server;

fn names(object: &Value) -> String {
    let names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.join(" ")
}

#[tokio::test]
async fn an_item_is_created_once() {
    let server = Server::start().await;
    let body = r#"{"on_hand":10,"safety_stock":2}"#;
    let item = server.put("/v1/stock/MUG", body).await.expect(201).json();
    let expected = "age_ms allocated as_of available held lent location next_due_at on_hand origin \
                    safety_stock sku stale version";
    assert_eq!(names(&item), expected);
    assert_eq!((&item["available"], &item["origin"]), (&json!(8), &json!("ledger")));
    assert_eq!((&item["stale"], &item["next_due_at"]), (&json!(false), &Value::Null));
    server.put("/v1/stock/MUG", body).await.expect(200);
    let item = server.put("/v1/stock/MUG", r#"{"safety_stock":1}"#).await.expect(200).json();
    assert_eq!((&item["available"], &item["on_hand"]), (&json!(9), &json!(10)));
    let reply = server.put("/v1/stock/MUG", r#"{"on_hand":11}"#).await;
    let problem = reply.expect_problem(409, "already_exists");
    assert_eq!((&problem["sku"], &problem["on_hand"]), (&json!("MUG"), &json!(10)));
    server.put("/v1/stock/EMPTY", "{}").await.expect(201);
}

#[tokio::test]
async fn an_item_is_read() {
    let server = Server::with_mugs(10).await;
    server.hold_mugs(3).await;
    for query in
        ["", "?location=default", "?consistency=strong", "?consistency=cached&max_age_ms=50"]
    {
        let item = server.get(&format!("/v1/stock/MUG{query}")).await.expect(200).json();
        assert_eq!((&item["held"], &item["available"]), (&json!(3), &json!(7)), "{query}");
        assert!(item["next_due_at"].is_string());
    }
    let problem =
        server.get("/v1/stock/MUG?location=north").await.expect_problem(404, "unknown_sku");
    assert_eq!(problem["items"], json!([{"sku": "MUG", "location": "north"}]));
}

#[tokio::test]
async fn a_copy_says_that_it_is_one_and_how_old_it_is() {
    let server = Server::with_mugs(10).await;
    let read = async |query: &str| {
        let path = format!("/v1/stock/MUG?consistency=cached{query}");
        let item = server.get(&path).await.expect(200).json();
        assert_eq!(item["stale"], false);
        let (origin, age) = (item["origin"].as_str().unwrap(), item["age_ms"].as_u64().unwrap());
        (origin.to_owned(), item["held"].as_u64().unwrap(), age)
    };
    let (origin, held, _) = read("").await;
    assert_eq!((origin.as_str(), held), ("ledger", 0));
    let (origin, held, age) = read("&max_age_ms=60000").await;
    assert!(origin == "l1" && held == 0 && (1..60_000).contains(&age), "{origin} {age}");
    let (origin, ..) = read("&max_age_ms=0").await;
    assert_eq!(origin, "ledger");
    server.hold_mugs(3).await;
    let (origin, held, _) = read("").await;
    assert_eq!((origin.as_str(), held), ("ledger", 3));
    let unknown = server.get("/v1/stock/NONE?consistency=cached").await;
    unknown.expect_problem(404, "unknown_sku");
}

#[tokio::test]
async fn a_sku_may_be_any_text() {
    let server = Server::start().await;
    let path = "/v1/stock/Gr%C3%B6%C3%9Fe%2042%2F%F0%9F%A7%A6?location=a+b%2Fc";
    let item = server.put(path, r#"{"on_hand":1}"#).await.expect(201).json();
    assert_eq!((&item["sku"], &item["location"]), (&json!("Größe 42/🧦"), &json!("a b/c")));
    server.get(path).await.expect(200);
}

#[tokio::test]
async fn stock_is_received_adjusted_and_counted() {
    let server = Server::with_mugs(10).await;
    let path = "/v1/stock/MUG/adjustments";
    let receive = r#"{"receive":100,"reference":"note-17"}"#;
    let moved = server.post_keyed(path, "r", receive).await.expect(201).json();
    assert_eq!(names(&moved), "item movement");
    let movement = &moved["movement"];
    assert_eq!(names(movement), "at delta id kind location on_hand_after reason reference sku");
    assert_eq!((&movement["kind"], &movement["delta"]), (&json!("receive"), &json!(100)));
    assert_eq!((&movement["reference"], &movement["reason"]), (&json!("note-17"), &Value::Null));
    let again = server.post_keyed(path, "r", receive).await.expect(200);
    assert!(again.is_replayed());
    assert_eq!(again.json()["movement"], *movement);

    let moved =
        server.post_keyed(path, "d", r#"{"delta":-5,"reason":"broken"}"#).await.expect(201).json();
    assert_eq!(
        (&moved["movement"]["on_hand_after"], &moved["movement"]["reason"]),
        (&json!(105), &json!("broken"))
    );
    let moved = server
        .post(path, r#"{"count":50,"reason":"year","if_on_hand":105}"#)
        .await
        .expect(201)
        .json();
    assert_eq!((&moved["movement"]["delta"], &moved["item"]["on_hand"]), (&json!(-55), &json!(50)));
}

#[tokio::test]
async fn an_adjustment_is_refused_with_its_numbers() {
    let server = Server::with_mugs(10).await;
    let path = "/v1/stock/MUG/adjustments";
    let reply = server.post_keyed(path, "a", r#"{"delta":-11,"reason":""}"#).await;
    let problem = reply.expect_problem(409, "would_go_below");
    assert_eq!((&problem["left"], &problem["floor"]), (&json!(-1), &json!(0)));
    let body = r#"{"delta":-5,"reason":"","min_available":6}"#;
    let problem = server.post_keyed(path, "b", body).await.expect_problem(409, "would_go_below");
    assert_eq!((&problem["left"], &problem["floor"]), (&json!(5), &json!(6)));
    let reply = server.post(path, r#"{"count":1,"reason":"","if_on_hand":9}"#).await;
    let problem = reply.expect_problem(409, "on_hand_differs");
    assert_eq!((&problem["expected"], &problem["on_hand"]), (&json!(9), &json!(10)));
    for body in [r#"{"receive":1}"#, r#"{"delta":1,"reason":"found"}"#] {
        let problem = server.post(path, body).await.expect_problem(400, "idempotency_key_required");
        assert_eq!(problem["field"], "Idempotency-Key");
    }
    let body = r#"{"receive":9007199254740991}"#;
    let problem = server.post_keyed(path, "c", body).await.expect_problem(400, "out_of_range");
    assert_eq!(problem["field"], "receive");
    server.post_keyed(path, "d", r#"{"receive":1}"#).await.expect(201);
    let reply = server.post_keyed(path, "d", r#"{"receive":2}"#).await;
    reply.expect_problem(422, "idempotency_key_reused");
    let reply = server.post("/v1/stock/TEE/adjustments", r#"{"count":1,"reason":"x"}"#).await;
    reply.expect_problem(404, "unknown_sku");
    assert_eq!(server.mugs().await, [11, 0, 0, 11]);
}

#[tokio::test]
async fn a_policy_takes_no_key() {
    let server = Server::with_mugs(1).await;
    let headers = [crate::support::JSON, ("Idempotency-Key", "k")];
    let reply = server.ask("PUT", "/v1/stock/MUG", &headers, b"{}").await;
    assert_eq!(reply.expect_problem(400, "invalid_field")["field"], "Idempotency-Key");
}
