//! The life of a hold over HTTP.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{JSON, Server, mugs, request, rest};

fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn millis(moment: &Value) -> i64 {
    let text = moment.as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn a_place_answers_the_hold() {
    let server = Server::with_mugs(10).await;
    let body = json!({
        "owner": "cart_981", "ttl_ms": 60_000, "reference": "web",
        "lines": [{"sku": "MUG", "quantity": 2}, {"sku": "MUG", "location": "default", "quantity": 1}],
    });
    let reply = server.post("/v1/holds", &body.to_string()).await.expect(201);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(!reply.is_replayed());
    let hold = reply.json();
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), Some(&*path));
    let expected = "created_at expires_at expires_in_ms id lines max_expires_at owner reference \
                    server_time state";
    assert_eq!(names(&hold).join(" "), expected);
    assert_eq!((&hold["state"], &hold["owner"]), (&json!("active"), &json!("cart_981")));
    assert_eq!(hold["reference"], "web");
    let line = json!({
        "sku": "MUG", "location": "default", "requested": 3, "held": 3, "confirmed": 0,
        "released": 0, "expired": 0, "revoked": 0, "shipped": 0, "cancelled": 0,
    });
    assert_eq!(hold["lines"], json!([line]));
    let (created, expires) = (millis(&hold["created_at"]), millis(&hold["expires_at"]));
    assert_eq!(expires - created, 60_000);
    assert_eq!(millis(&hold["max_expires_at"]) - created, 900_000);
    let left = hold["expires_in_ms"].as_i64().unwrap();
    assert_eq!(left, expires - millis(&hold["server_time"]));
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert_eq!(server.mugs().await, [10, 3, 0, 7]);
}

#[tokio::test]
async fn a_hold_is_read_back() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(2).await;
    let hold = server.get(&path).await.expect(200).json();
    assert_eq!(format!("/v1/holds/{}", hold["id"].as_str().unwrap()), path);
    assert_eq!(hold["reference"], Value::Null);
    for (path, status) in [(&*path, 200), ("/v1/holds/x", 400), ("/nowhere", 404)] {
        let mut connection = server.connect().await;
        connection.send(&request(&server.address, "HEAD", path, &[], b"")).await;
        assert_eq!(connection.head().await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_life_is_clamped_into_the_allowed_range() {
    let server = Server::with_mugs(10).await;
    for (asked, granted) in [(1_i64, 100), (9_007_199_254_740_991, 900_000)] {
        let body = json!({"owner": "a", "ttl_ms": asked, "lines": [{"sku": "MUG", "quantity": 1}]});
        let hold = server.post("/v1/holds", &body.to_string()).await.expect(201).json();
        assert_eq!(millis(&hold["expires_at"]) - millis(&hold["created_at"]), granted);
    }
}

#[tokio::test]
async fn a_refused_place_names_the_lines_that_are_short() {
    let server = Server::with_mugs(5).await;
    server.put("/v1/stock/TEE", r#"{"on_hand":1}"#).await.expect(201);
    server.hold_mugs(3).await;
    let lines = json!([{"sku": "MUG", "quantity": 3}, {"sku": "TEE", "quantity": 1}]);
    let body = json!({"owner": "ben", "lines": lines}).to_string();
    let problem = server.post("/v1/holds", &body).await.expect_problem(409, "insufficient_stock");
    let line = &problem["lines"][0];
    assert_eq!(problem["lines"].as_array().unwrap().len(), 1);
    assert_eq!((&line["sku"], &line["location"]), (&json!("MUG"), &json!("default")));
    assert_eq!((&line["requested"], &line["available"]), (&json!(3), &json!(2)));
    assert!(millis(&line["next_due_at"]) > 0);
    assert_eq!(problem["detail"], "1 of 2 lines cannot be held");
}

#[tokio::test]
async fn unknown_items_are_all_named() {
    let server = Server::with_mugs(5).await;
    let lines = r#"[{"sku":"A","quantity":1},{"sku":"MUG","quantity":1},{"sku":"B","location":"x","quantity":1}]"#;
    let body = format!(r#"{{"owner":"ann","lines":{lines}}}"#);
    let problem = server.post("/v1/holds", &body).await.expect_problem(404, "unknown_sku");
    let items = json!([{"sku": "A", "location": "default"}, {"sku": "B", "location": "x"}]);
    assert_eq!(problem["items"], items);
}

#[tokio::test]
async fn one_of_fifty_places_with_one_key_makes_the_hold() {
    let server = Arc::new(Server::with_mugs(10).await);
    let place = |server: Arc<Server>| async move {
        let reply = server.post_keyed("/v1/holds", "8e03978e", &mugs(1)).await;
        (reply.status, reply.is_replayed(), reply.json()["id"].as_str().unwrap().to_owned())
    };
    let tasks: Vec<_> = (0..50).map(|_| tokio::spawn(place(server.clone()))).collect();
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    let id = replies[0].2.clone();
    assert!(replies.iter().all(|reply| reply.2 == id));
    assert_eq!(replies.iter().filter(|reply| (reply.0, reply.1) == (201, false)).count(), 1);
    assert_eq!(replies.iter().filter(|reply| (reply.0, reply.1) == (200, true)).count(), 49);
    assert_eq!(server.mugs().await, [10, 1, 0, 9]);
    let other = server.post_keyed("/v1/holds", "8e03978e", &mugs(2)).await;
    other.expect_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_key_whose_hold_has_ended_shows_it() {
    let server = Server::with_mugs(10).await;
    let body = r#"{"owner":"ann","ttl_ms":1,"lines":[{"sku":"MUG","quantity":1}]}"#;
    let hold = server.post_keyed("/v1/holds", "k", body).await.expect(201).json();
    rest(150).await;
    let again = server.post_keyed("/v1/holds", "k", body).await;
    let problem = again.expect_problem(410, "hold_ended");
    assert_eq!(problem["hold"]["id"], hold["id"]);
    assert_eq!(
        (&problem["hold"]["state"], &problem["hold"]["expires_in_ms"]),
        (&json!("expired"), &json!(0))
    );
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn a_confirm_allocates() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(5).await;
    let confirm = format!("{path}/confirm");
    let hold = server.post(&confirm, r#"{"reference":"order-1"}"#).await.expect(200).json();
    assert_eq!((&hold["state"], &hold["reference"]), (&json!("confirmed"), &json!("order-1")));
    assert!(hold.get("reacquired").is_none());
    assert_eq!(server.mugs().await, [10, 0, 5, 5]);
    // R3: the same again is the same; anything else is refused with what was recorded.
    server.ask("POST", &confirm, &[], b"").await.expect(200);
    let other = server.post(&confirm, r#"{"reference":"order-2"}"#).await;
    let problem = other.expect_problem(409, "already_confirmed");
    assert_eq!(problem["reference"], "order-1");
    let confirmed = json!([{"sku": "MUG", "location": "default", "quantity": 5}]);
    assert_eq!(problem["confirmed"], confirmed);
    for verb in ["release", "extend"] {
        let reply = server
            .post(
                &format!("{path}/{verb}"),
                if verb == "extend" { r#"{"ttl_ms":1}"# } else { "{}" },
            )
            .await;
        reply.expect_problem(409, "already_confirmed");
    }
}

#[tokio::test]
async fn a_partial_confirm_releases_the_rest() {
    let server = Server::with_mugs(10).await;
    let confirm = format!("{}/confirm", server.hold_mugs(5).await);
    let lines = |sku: &str, n: i64| json!({"lines": [{"sku": sku, "quantity": n}]}).to_string();
    let problem = server.post(&confirm, &lines("TEE", 1)).await.expect_problem(422, "not_in_hold");
    assert_eq!(problem["sku"], "TEE");
    let problem =
        server.post(&confirm, &lines("MUG", 6)).await.expect_problem(422, "more_than_held");
    assert_eq!((&problem["requested"], &problem["held"]), (&json!(6), &json!(5)));
    server.post(&confirm, &lines("MUG", 3)).await.expect(200);
    assert_eq!(server.mugs().await, [10, 0, 3, 7]);
    server.post(&confirm, &lines("MUG", 2)).await.expect_problem(409, "already_confirmed");
}

#[tokio::test]
async fn a_verb_with_a_key_is_replayed() {
    let server = Server::with_mugs(10).await;
    for (verb, body) in
        [("confirm", "{}"), ("release", r#"{"reason":"left"}"#), ("extend", r#"{"ttl_ms":60000}"#)]
    {
        let path = format!("{}/{verb}", server.hold_mugs(1).await);
        let first = server.post_keyed(&path, verb, body).await.expect(200);
        assert!(!first.is_replayed(), "{verb}");
        assert!(server.post_keyed(&path, verb, body).await.expect(200).is_replayed(), "{verb}");
        let other = format!("{}/{verb}", server.hold_mugs(1).await);
        let reply = server.post_keyed(&other, verb, body).await;
        reply.expect_problem(422, "idempotency_key_reused");
    }
}

#[tokio::test]
async fn a_release_gives_back_once() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(5).await;
    for _ in 0..2 {
        let hold = server.post(&format!("{path}/release"), "{}").await.expect(200).json();
        assert_eq!(
            (&hold["state"], &hold["lines"][0]["released"]),
            (&json!("released"), &json!(5))
        );
    }
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
    let confirm = server.post(&format!("{path}/confirm"), "{}").await;
    confirm.expect_problem(409, "already_released");
}

#[tokio::test]
async fn an_extend_stops_at_the_longest_life() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(1).await;
    let extend = format!("{path}/extend");
    let hold = server.post(&extend, r#"{"ttl_ms":900000}"#).await.expect(200).json();
    let most = &hold["max_expires_at"];
    assert_eq!(&hold["expires_at"], most);
    let problem =
        server.post(&extend, r#"{"ttl_ms":900000}"#).await.expect_problem(409, "max_lifetime");
    assert_eq!(&problem["max_expires_at"], most);
}

#[tokio::test]
async fn a_dead_hold_is_gone_but_can_be_taken_again() {
    let server = Server::with_mugs(1).await;
    let path = server.dead_hold(1).await;
    let confirm = format!("{path}/confirm");
    server.post(&confirm, "{}").await.expect_problem(410, "hold_expired");
    server
        .post(&format!("{path}/extend"), r#"{"ttl_ms":1}"#)
        .await
        .expect_problem(410, "hold_expired");
    assert_eq!(server.get(&path).await.expect(200).json()["state"], "expired");
    let hold = server.post(&confirm, r#"{"on_expired":"rehold"}"#).await.expect(200).json();
    assert_eq!((&hold["state"], &hold["reacquired"]), (&json!("confirmed"), &json!(true)));
}

#[tokio::test]
async fn a_dead_hold_whose_units_went_elsewhere_says_what_is_left() {
    let server = Server::with_mugs(1).await;
    let path = server.dead_hold(1).await;
    server.hold_mugs(1).await;
    let reply = server.post(&format!("{path}/confirm"), r#"{"on_expired":"rehold"}"#).await;
    let problem = reply.expect_problem(410, "hold_expired");
    assert_eq!(problem["lines"][0]["available"], 0);
}

#[tokio::test]
async fn a_hold_replaces_another_of_the_same_owner() {
    let server = Server::with_mugs(1).await;
    let path = server.hold_mugs(1).await;
    let id = path.rsplit('/').next().unwrap();
    let body = |owner: &str| {
        let lines = json!([{"sku": "MUG", "quantity": 1}]);
        json!({"owner": owner, "lines": lines, "replaces": id}).to_string()
    };
    server.post("/v1/holds", &body("ben")).await.expect_problem(404, "not_found");
    server.post("/v1/holds", &body("ann")).await.expect(201);
    assert_eq!(server.get(&path).await.json()["state"], "released");
    assert_eq!(server.mugs().await, [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_revoked_hold_cannot_be_confirmed() {
    let server = Server::with_mugs(1).await;
    let path = server.hold_mugs(1).await;
    let revoke = format!("{path}/revoke");
    for _ in 0..2 {
        let hold = server.post(&revoke, r#"{"reason":"a bot"}"#).await.expect(200).json();
        assert_eq!((&hold["state"], &hold["lines"][0]["revoked"]), (&json!("revoked"), &json!(1)));
    }
    server.post(&format!("{path}/confirm"), "{}").await.expect_problem(409, "revoked");
    assert_eq!(server.mugs().await, [1, 0, 0, 1]);
}

#[tokio::test]
async fn confirmed_units_are_shipped_or_cancelled() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(5).await;
    let (ship, cancel) = (format!("{path}/ship"), format!("{path}/cancel"));
    for verb in [&ship, &cancel] {
        let problem = server.post(verb, "{}").await.expect_problem(409, "not_confirmed");
        assert_eq!(problem["state"], "active");
    }
    server.post(&format!("{path}/confirm"), "{}").await.expect(200);
    let lines = |n: i64| json!({"lines": [{"sku": "MUG", "quantity": n}]}).to_string();
    server.post_keyed(&ship, "s", &lines(2)).await.expect(200);
    let again = server.post_keyed(&ship, "s", &lines(2)).await.expect(200);
    assert!(again.is_replayed());
    assert_eq!(again.json()["lines"][0]["shipped"], 2);
    let hold = server.post_keyed(&cancel, "c", &lines(1)).await.expect(200).json();
    assert_eq!((&hold["state"], &hold["lines"][0]["cancelled"]), (&json!("confirmed"), &json!(1)));
    assert_eq!(server.mugs().await, [8, 0, 2, 6]);
    // The rest, with no body at all.
    let hold = server.ask("POST", &ship, &[], b"").await.expect(200).json();
    assert_eq!((&hold["state"], &hold["lines"][0]["shipped"]), (&json!("shipped"), &json!(4)));
    assert_eq!(server.mugs().await, [6, 0, 0, 6]);
    server.post(&cancel, "{}").await.expect_problem(409, "already_shipped");
    server.post_keyed(&ship, "t", &lines(1)).await.expect_problem(409, "nothing_open");
}

#[tokio::test]
async fn named_lines_are_shipped_and_cancelled_under_a_key_only() {
    let server = Server::with_mugs(10).await;
    let path = server.hold_mugs(5).await;
    server.post(&format!("{path}/confirm"), "{}").await.expect(200);
    let lines = |sku: &str, n: i64| json!({"lines": [{"sku": sku, "quantity": n}]}).to_string();
    for verb in ["ship", "cancel"] {
        let path = format!("{path}/{verb}");
        let problem = server.post(&path, &lines("MUG", 1)).await;
        let problem = problem.expect_problem(400, "idempotency_key_required");
        assert_eq!(
            (&problem["verb"], &problem["field"]),
            (&json!(verb), &json!("Idempotency-Key"))
        );
        let reply = server.post_keyed(&path, "a", &lines("TEE", 1)).await;
        reply.expect_problem(422, "not_in_hold");
        let reply = server.post_keyed(&path, "b", &lines("MUG", 6)).await;
        let problem = reply.expect_problem(422, "more_than_open");
        assert_eq!((&problem["requested"], &problem["open"]), (&json!(6), &json!(5)));
    }
    assert_eq!(server.mugs().await, [10, 0, 5, 5]);
    server.ask("POST", &format!("{path}/cancel"), &[], b"").await.expect(200);
    server.post(&format!("{path}/ship"), "{}").await.expect_problem(409, "already_cancelled");
    assert_eq!(server.mugs().await, [10, 0, 0, 10]);
}

#[tokio::test]
async fn an_unknown_hold_is_not_found_by_any_verb() {
    let server = Server::with_mugs(1).await;
    let path = "/v1/holds/01927c1e-5f3a-7cc3-98c4-dc0c0c07398f";
    server.get(path).await.expect_problem(404, "not_found");
    for (verb, body) in [
        ("confirm", "{}"),
        ("release", "{}"),
        ("extend", r#"{"ttl_ms":1}"#),
        ("ship", "{}"),
        ("cancel", "{}"),
        ("revoke", r#"{"reason":"a bot"}"#),
    ] {
        let reply = server.post(&format!("{path}/{verb}"), body).await;
        reply.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_basket_may_be_too_large_for_the_shop() {
    let server = Server::with_mugs(1).await;
    let problem =
        server.post("/v1/holds", &mugs(1_000_001)).await.expect_problem(400, "quantity_too_large");
    assert_eq!((&problem["field"], &problem["max"]), (&json!("lines"), &json!(1_000_000)));
    let lines: Vec<_> = (0..101).map(|n| json!({"sku": format!("S{n}"), "quantity": 1})).collect();
    let body = json!({"owner": "ann", "lines": lines}).to_string();
    let problem = server.post("/v1/holds", &body).await.expect_problem(400, "too_many_lines");
    assert_eq!((&problem["requested"], &problem["max"]), (&json!(101), &json!(100)));
}

#[tokio::test]
async fn a_body_may_be_left_out_only_where_nothing_is_required() {
    let server = Server::with_mugs(10).await;
    for verb in ["confirm", "release"] {
        let path = format!("{}/{verb}", server.hold_mugs(1).await);
        server.ask("POST", &path, &[JSON], b"").await.expect(200);
        server.ask("POST", &path, &[], b"{}").await.expect_problem(415, "unsupported_media_type");
    }
    let extend = format!("{}/extend", server.hold_mugs(1).await);
    server.ask("POST", &extend, &[], b"").await.expect_problem(415, "unsupported_media_type");
    server.ask("POST", &extend, &[JSON], b"").await.expect_problem(400, "invalid_json");
}
