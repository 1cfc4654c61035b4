//! Many verbs in one request.

use serde_json::{Value, json};
use stockhold_server::access::{Key, Keys, Scope, Scopes, Token};

use crate::support::{JSON, Server};

async fn batch(server: &Server, items: Value) -> Vec<Value> {
    let body = json!({"items": items}).to_string();
    let answer = server.post("/v1/batch", &body).await.expect(200).json();
    answer["items"].as_array().unwrap().clone()
}

fn statuses(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["status"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn each_verb_answers_as_it_does_alone() {
    let server = Server::with_mugs(10).await;
    let hold = server.hold_mugs(4).await;
    let other = server.hold_mugs(1).await;
    let last = server.hold_mugs(1).await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let (id, other, last) = (id(&hold), id(&other), id(&last));
    let lines = json!([{"sku": "MUG", "quantity": 1}]);
    let items = batch(
        &server,
        json!([
            {"op": "set_policy", "sku": "TEE", "location": "north", "on_hand": 3},
            {"op": "place", "idempotency_key": "p", "owner": "ann", "lines": lines},
            {"op": "place", "idempotency_key": "p", "owner": "ann", "lines": lines},
            {"op": "extend", "id": id, "ttl_ms": 60_000},
            {"id": id, "reference": "order-1", "op": "confirm"},
            {"op": "ship", "id": id, "lines": lines, "idempotency_key": "s"},
            {"op": "cancel", "id": id},
            {"op": "release", "id": other, "reason": null},
            {"op": "revoke", "id": last, "reason": "a bot"},
            {"op": "adjust", "sku": "MUG", "count": 7, "reason": "counted"},
            {"op": "adjust", "sku": "MUG", "idempotency_key": "r", "receive": 5},
        ]),
    )
    .await;
    assert_eq!(statuses(&items), [201, 201, 200, 200, 200, 200, 200, 200, 200, 201, 201]);
    assert_eq!(items[0]["body"]["location"], "north");
    assert_eq!(items[1]["body"]["id"], items[2]["body"]["id"]);
    assert_eq!(items[4]["body"]["reference"], "order-1");
    assert_eq!(items[6]["body"]["state"], "shipped");
    assert_eq!(items[8]["body"]["state"], "revoked");
    assert_eq!(items[10]["body"]["movement"]["on_hand_after"], 12);
    assert_eq!(server.mugs().await, [12, 1, 0, 11]);
}

#[tokio::test]
async fn an_item_that_is_refused_spoils_no_other() {
    let server = Server::with_mugs(2).await;
    let place = |quantity: Value| json!({"op": "place", "owner": "ann", "lines": [{"sku": "MUG", "quantity": quantity}]});
    let unknown = "01927c1e-5f3a-7cc3-98c4-dc0c0c07398f";
    let items = batch(
        &server,
        json!([
            place(json!(1)),
            place(json!(0)),
            place(json!(2)),
            {"op": "confirm", "id": unknown},
            {"op": "adjust", "sku": "MUG", "receive": 1},
            {"op": "adjust", "sku": "MUG", "idempotency_key": "m", "receive": 9_007_199_254_740_991_i64},
            place(json!(1)),
        ]),
    )
    .await;
    assert_eq!(statuses(&items), [201, 400, 409, 404, 400, 400, 201]);
    let told = |index: usize, name: &str| items[index]["body"][name].as_str().unwrap().to_owned();
    assert_eq!(told(1, "field"), "items[1].lines[0].quantity");
    assert!(told(1, "detail").starts_with("items[1].lines[0].quantity must be"));
    assert_eq!(
        (told(2, "code"), told(3, "code")),
        ("insufficient_stock".into(), "not_found".into())
    );
    assert_eq!(told(4, "field"), "items[4].idempotency_key");
    assert_eq!(told(5, "field"), "items[5].receive");
    assert_eq!(server.mugs().await, [2, 2, 0, 0]);
}

#[tokio::test]
async fn a_malformed_item_is_named() {
    let server = Server::with_mugs(2).await;
    let unknown = "01927c1e-5f3a-7cc3-98c4-dc0c0c07398f";
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for (item, field) in [
        ("1".to_owned(), "items[0]"),
        ("null".to_owned(), "items[0]"),
        ("[]".to_owned(), "items[0]"),
        ("{}".to_owned(), "items[0].op"),
        (r#"{"op":1}"#.to_owned(), "items[0].op"),
        (r#"{"op":"expire"}"#.to_owned(), "items[0].op"),
        (r#"{"op":"place","op":"place"}"#.to_owned(), "items[0].op"),
        (r#"{"op":"place","id":"x"}"#.to_owned(), "items[0].id"),
        (r#"{"op":"place"}"#.to_owned(), "items[0].owner"),
        (
            r#"{"op":"place","owner":"a","lines":[{"sku":"a"}]}"#.to_owned(),
            "items[0].lines[0].quantity",
        ),
        (r#"{"op":"place","owner":"a","lines":[]}"#.to_owned(), "items[0].lines"),
        (r#"{"op":"confirm"}"#.to_owned(), "items[0].id"),
        (r#"{"op":"confirm","id":null}"#.to_owned(), "items[0].id"),
        (r#"{"op":"confirm","id":"x"}"#.to_owned(), "items[0].id"),
        (r#"{"op":"confirm","id":7}"#.to_owned(), "items[0].id"),
        (format!(r#"{{"op":"confirm","id":"{unknown}","id":"{unknown}"}}"#), "items[0].id"),
        (format!(r#"{{"op":"confirm","id":"{unknown}","line":1}}"#), "items[0].line"),
        (
            format!(r#"{{"op":"confirm","id":"{unknown}","idempotency_key":""}}"#),
            "items[0].idempotency_key",
        ),
        (format!(r#"{{"op":"confirm","id":"{unknown}","sku":"MUG"}}"#), "items[0].sku"),
        (format!(r#"{{"op":"release","id":"{unknown}","reason":{deep}}}"#), "items[0].reason"),
        (r#"{"op":"adjust","count":1,"reason":"x"}"#.to_owned(), "items[0].sku"),
        (r#"{"op":"adjust","sku":" ","count":1,"reason":"x"}"#.to_owned(), "items[0].sku"),
        (r#"{"op":"adjust","sku":"a","location":"","count":1}"#.to_owned(), "items[0].location"),
        (r#"{"op":"adjust","sku":"a","count":1}"#.to_owned(), "items[0].reason"),
        (
            r#"{"op":"set_policy","sku":"a","idempotency_key":"k"}"#.to_owned(),
            "items[0].idempotency_key",
        ),
        (r#"{"op":"set_policy","sku":"a","on_hand":-1}"#.to_owned(), "items[0].on_hand"),
    ] {
        let body = format!(r#"{{"items":[{item}]}}"#);
        let answer = server.post("/v1/batch", &body).await.expect(200).json();
        let problem = &answer["items"][0];
        assert_eq!(
            (&problem["status"], &problem["body"]["field"]),
            (&json!(400), &json!(field)),
            "{item}: {answer}"
        );
    }
    assert_eq!(server.mugs().await, [2, 0, 0, 2]);
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused_as_a_whole() {
    let server = Server::with_mugs(2).await;
    for (body, field) in [
        ("[]", "body"),
        ("{}", "items"),
        (r#"{"items":1}"#, "items"),
        (r#"{"items":{}}"#, "items"),
        (r#"{"items":null}"#, "items"),
        (r#"{"items":[],"item":1}"#, "item"),
        (r#"{"items":[{]}"#, "items"),
    ] {
        let problem = server.post("/v1/batch", body).await.expect(400).json();
        assert!(problem["field"].as_str().unwrap().starts_with(field), "{body}: {problem}");
    }
    let many = json!({"items": vec![json!({"op": "place"}); 1_001]}).to_string();
    let problem = server.post("/v1/batch", &many).await.expect_problem(400, "invalid_field");
    assert_eq!(problem["field"], "items");
    let problem =
        server.post_keyed("/v1/batch", "k", "{}").await.expect_problem(400, "invalid_field");
    assert_eq!(problem["field"], "Idempotency-Key");
}

#[tokio::test]
async fn a_thousand_items_in_a_mebibyte_are_taken() {
    let server = Server::with_mugs(2_000).await;
    let reference = "x".repeat(255);
    let lines = json!([{"sku": "MUG", "quantity": 1}]);
    let item = json!({"op": "place", "owner": "ann", "reference": reference, "lines": lines});
    let items = batch(&server, json!(vec![item; 1_000])).await;
    assert_eq!(statuses(&items), vec![201; 1_000]);
    assert_eq!(server.mugs().await, [2_000, 1_000, 0, 1_000]);
    let large = vec![b' '; 1_048_577];
    let reply = server.ask("POST", "/v1/batch", &[JSON], &large).await;
    reply.expect_problem(413, "body_too_large");
    assert_eq!(batch(&server, json!([])).await, Vec::<Value>::new());
}

#[tokio::test]
async fn each_item_takes_the_scope_of_its_verb() {
    let token = Token::from_bytes([7; 32]);
    let server = Server::start_on("127.0.0.1:0", |service| {
        let scopes = Scopes::from_iter([Scope::Stock]);
        let sha256 = Token::from_bytes([7; 32]).hash();
        service.keys(Keys::from_iter([Key { name: "clerk".into(), sha256, scopes }]))
    })
    .await;
    let items = json!([
        {"op": "set_policy", "sku": "MUG", "on_hand": 1},
        {"op": "place", "owner": "ann", "lines": []},
        {"op": "revoke", "id": "x", "reason": ""},
    ]);
    let key = format!("Bearer {}", token.as_str());
    let headers = [JSON, ("Authorization", key.as_str())];
    let body = json!({"items": items}).to_string();
    let answer = server.ask("POST", "/v1/batch", &headers, body.as_bytes()).await.expect(200);
    let items = answer.json()["items"].as_array().unwrap().clone();
    assert_eq!(statuses(&items), [201, 403, 403]);
    assert_eq!(
        (&items[1]["body"]["scope"], &items[2]["body"]["scope"]),
        (&json!("holds"), &json!("admin"))
    );
    assert_eq!(items[1]["body"]["request_id"].as_str(), answer.header("x-request-id"));
}
