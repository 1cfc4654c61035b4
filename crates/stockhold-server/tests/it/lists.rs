//! Lists over HTTP: page by page, filtered, in order.

use serde_json::{Value, json};

use crate::support::{Server, rest};

/// Follows a list to its end; answers the pages.
async fn pages(server: &Server, path: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}{cursor}")).await.expect(200).json();
        pages.push(page["items"].as_array().unwrap().clone());
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            end => {
                assert_eq!(end, &Value::Null);
                return pages;
            }
        }
    }
}

fn texts(items: &[Value], name: &str) -> Vec<String> {
    items.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

async fn place(server: &Server, owner: &str, sku: &str) -> String {
    let lines = json!([{"sku": sku, "quantity": 1}]);
    let body = json!({"owner": owner, "lines": lines}).to_string();
    let hold = server.post("/v1/holds", &body).await.expect(201).json();
    hold["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn holds_are_listed_newest_first() {
    let server = Server::with_mugs(10).await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(place(&server, "ann", "MUG").await);
    }
    placed.reverse();
    let pages = pages(&server, "/v1/holds?limit=2").await;
    assert_eq!(texts(&pages.concat(), "id"), placed);
    assert!(pages.iter().all(|page| page.len() <= 2));
    let page = server.get("/v1/holds").await.expect(200).json();
    assert_eq!(texts(page["items"].as_array().unwrap(), "id"), placed);
}

#[tokio::test]
async fn holds_are_listed_by_owner_state_and_sku() {
    let server = Server::with_mugs(10).await;
    server.put("/v1/stock/TEE", r#"{"on_hand":10}"#).await.expect(201);
    let mug = place(&server, "ann", "MUG").await;
    let tee = place(&server, "ann", "TEE").await;
    let other = place(&server, "ben", "MUG").await;
    server.post(&format!("/v1/holds/{tee}/confirm"), "{}").await.expect(200);
    for (query, ids) in [
        ("owner=ann", vec![&tee, &mug]),
        ("owner=nobody", vec![]),
        ("state=active", vec![&other, &mug]),
        ("state=confirmed", vec![&tee]),
        ("state=confirmed&owner=ben", vec![]),
        ("state=active&sku=MUG", vec![&other, &mug]),
        ("sku=MUG&owner=ben&state=active&consistency=strong", vec![&other]),
        ("state=active&sku=TEE", vec![]),
    ] {
        let listed = pages(&server, &format!("/v1/holds?{query}")).await.concat();
        assert_eq!(texts(&listed, "id").iter().collect::<Vec<_>>(), ids, "{query}");
    }
}

#[tokio::test]
async fn a_dead_hold_is_listed_as_expired() {
    let server = Server::with_mugs(10).await;
    let path = server.dead_hold(1).await;
    rest(50).await;
    let expired = pages(&server, "/v1/holds?state=expired").await.concat();
    assert_eq!(texts(&expired, "id"), [path.rsplit('/').next().unwrap()]);
    assert!(pages(&server, "/v1/holds?state=active").await.concat().is_empty());
}

#[tokio::test]
async fn stock_is_listed_by_sku_and_location() {
    let server = Server::start().await;
    for path in ["TEE-B?location=north", "TEE-A", "TEE-B", "MUG", "%C3%84TEE", "TEF"] {
        server.put(&format!("/v1/stock/{path}"), r#"{"on_hand":1}"#).await.expect(201);
    }
    let all = pages(&server, "/v1/stock?limit=4").await.concat();
    assert_eq!(texts(&all, "sku"), ["MUG", "TEE-A", "TEE-B", "TEE-B", "TEF", "ÄTEE"]);
    assert_eq!(texts(&all, "location")[2..4], ["default", "north"]);
    let tees = pages(&server, "/v1/stock?prefix=TEE-&limit=1").await.concat();
    assert_eq!(texts(&tees, "sku"), ["TEE-A", "TEE-B", "TEE-B"]);
    assert_eq!(tees[0]["available"], 1);
    assert!(pages(&server, "/v1/stock?prefix=TEE%20").await.concat().is_empty());
}

#[tokio::test]
async fn movements_are_followed() {
    let server = Server::with_mugs(10).await;
    server.put("/v1/stock/TEE", r#"{"on_hand":3}"#).await.expect(201);
    let path = "/v1/stock/MUG/adjustments";
    server.post_keyed(path, "a", r#"{"receive":5}"#).await.expect(201);
    let page = server.get("/v1/movements?limit=2").await.expect(200).json();
    assert_eq!(texts(page["items"].as_array().unwrap(), "kind"), ["create", "create"]);
    let next = page["next_after"].as_i64().unwrap();
    let page = server.get(&format!("/v1/movements?after={next}")).await.expect(200).json();
    assert_eq!(texts(page["items"].as_array().unwrap(), "kind"), ["receive"]);
    let next = page["next_after"].as_i64().unwrap();
    let end = server.get(&format!("/v1/movements?after={next}")).await.expect(200).json();
    assert_eq!((&end["items"], &end["next_after"]), (&json!([]), &json!(next)));
    let page = server.get("/v1/movements?sku=TEE").await.expect(200).json();
    assert_eq!(texts(page["items"].as_array().unwrap(), "sku"), ["TEE"]);
}

#[tokio::test]
async fn a_wrong_query_of_a_list_is_named() {
    let server = Server::with_mugs(10).await;
    let hold = place(&server, "ann", "MUG").await.replace('-', "");
    let of_another_list = format!("/v1/stock?cursor={hold}");
    for (path, field) in [
        ("/v1/holds?limit=0", "limit"),
        ("/v1/holds?limit=1001", "limit"),
        ("/v1/holds?limit=ten", "limit"),
        ("/v1/holds?limit=", "limit"),
        ("/v1/holds?limit=1&limit=1", "limit"),
        ("/v1/holds?cursor=", "cursor"),
        ("/v1/holds?cursor=4d5547", "cursor"),
        ("/v1/holds?state=dead", "state"),
        ("/v1/holds?owner=", "owner"),
        ("/v1/holds?sku=MUG", "sku"),
        ("/v1/holds?sku=MUG&state=expired", "sku"),
        ("/v1/holds?prefix=M", "prefix"),
        ("/v1/holds?consistency=weak", "consistency"),
        ("/v1/stock?cursor=00", "cursor"),
        (&of_another_list, "cursor"),
        ("/v1/stock?prefix=%07", "prefix"),
        ("/v1/stock?limit=1e3", "limit"),
        ("/v1/stock?owner=ann", "owner"),
        ("/v1/movements?after=-1", "after"),
        ("/v1/movements?after=9007199254740992", "after"),
        ("/v1/movements?after=18446744073709551616", "after"),
        ("/v1/movements?sku=%20", "sku"),
        ("/v1/movements?cursor=00", "cursor"),
    ] {
        let problem = server.get(path).await.expect_problem(400, "invalid_field");
        assert_eq!(problem["field"], field, "{path}");
    }
}

#[tokio::test]
async fn a_list_of_stock_may_be_put_together_from_copies() {
    let server = Server::with_mugs(10).await;
    server.put("/v1/stock/HAT", r#"{"on_hand":5}"#).await.expect(201);
    let read = async |query: &str| {
        let path = format!("/v1/stock?consistency=cached{query}");
        let page = server.get(&path).await.expect(200).json();
        let item = |item: &Value| {
            assert!(item["stale"] == false && item["age_ms"].is_u64(), "{item}");
            let text = |name: &str| item[name].as_str().unwrap().to_owned();
            (text("sku"), item["held"].as_u64().unwrap(), text("origin"))
        };
        let items: Vec<_> = page["items"].as_array().unwrap().iter().map(item).collect();
        (items, page["next_cursor"].as_str().map(str::to_owned))
    };
    let row = |sku: &str, held, origin: &str| (sku.to_owned(), held, origin.to_owned());
    let (ledger, copy) = ("ledger", "l1");
    assert_eq!(read("").await.0, [row("HAT", 0, ledger), row("MUG", 0, ledger)]);
    assert_eq!(read("").await, (vec![row("HAT", 0, copy), row("MUG", 0, copy)], None));
    server.hold_mugs(3).await;
    assert_eq!(read("").await.0, [row("HAT", 0, copy), row("MUG", 3, ledger)]);
    assert_eq!(read("&max_age_ms=0").await.0[0], row("HAT", 0, ledger));
    let (first, next) = read("&limit=1&prefix=").await;
    assert_eq!(first, [row("HAT", 0, copy)]);
    let rest = read(&format!("&limit=1&cursor={}", next.unwrap())).await;
    assert_eq!(rest.0, [row("MUG", 3, copy)]);
}
