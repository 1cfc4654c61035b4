//! Locks over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};

use crate::support::{Reply, Server, rest};

const ANN: &str = "ann-0123456789abcdef";
const BEN: &str = "ben-0123456789abcdef";

async fn acquire(server: &Server, name: &str, token: &str, more: &Value) -> Reply {
    let mut body = json!({"token": token, "ttl_ms": 10_000});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(&format!("/v1/locks/{name}"), &body.to_string()).await
}

async fn end(server: &Server, name: &str, verb: &str, token: &str) -> Reply {
    let body = match verb {
        "renew" => json!({"token": token, "ttl_ms": 20_000}),
        _ => json!({"token": token}),
    };
    server.post(&format!("/v1/locks/{name}/{verb}"), &body.to_string()).await
}

fn fence(lease: &Value) -> [u64; 2] {
    ["epoch", "seq"].map(|part| lease["fence"][part].as_u64().unwrap())
}

#[tokio::test]
async fn one_has_it_and_the_next_has_a_higher_fence() {
    let server = Server::start().await;
    let first = acquire(&server, "report", ANN, &json!({})).await.expect(200).json();
    assert_eq!(first["name"], "report");
    assert!(first["expires_in_ms"].as_u64().unwrap() > 9_000, "{first}");
    let busy = acquire(&server, "report", BEN, &json!({})).await.expect(409).json();
    assert_eq!((&busy["code"], &busy["name"]), (&json!("lock_busy"), &json!("report")));
    assert!(busy["expires_in_ms"].as_u64().unwrap() > 9_000, "{busy}");
    end(&server, "report", "release", ANN).await.expect(200);
    let second = acquire(&server, "report", BEN, &json!({})).await.expect(200).json();
    assert!(fence(&second) > fence(&first));
}

#[tokio::test]
async fn the_locks_of_the_servers_themselves_are_looked_at_and_not_taken() {
    let server = Server::start().await;
    let refused = acquire(&server, "stockhold%2Fretention", ANN, &json!({})).await;
    let refused = refused.expect(400).json();
    assert_eq!(refused["field"], "name");
    assert!(refused["detail"].as_str().unwrap().contains("the servers' own"), "{refused}");
    acquire(&server, "stockhold-report", ANN, &json!({})).await.expect(200);
}

#[tokio::test]
async fn the_same_token_is_the_same_attempt() {
    let server = Server::start().await;
    let first = acquire(&server, "report", ANN, &json!({})).await.expect(200).json();
    let again =
        acquire(&server, "report", ANN, &json!({"ttl_ms": 60_000})).await.expect(200).json();
    assert_eq!(fence(&first), fence(&again));
    assert!(again["expires_in_ms"].as_u64().unwrap() <= 10_000, "it does not live longer");
}

#[tokio::test]
async fn a_lease_is_renewed_and_given_back_by_its_holder_alone() {
    let server = Server::start().await;
    acquire(&server, "report", ANN, &json!({})).await.expect(200);
    let renewed = end(&server, "report", "renew", ANN).await.expect(200).json();
    assert!(renewed["expires_in_ms"].as_u64().unwrap() > 19_000, "{renewed}");
    for verb in ["renew", "release"] {
        let lost = end(&server, "report", verb, BEN).await.expect(409).json();
        assert_eq!(lost["code"], "lease_lost");
    }
    end(&server, "report", "release", ANN).await.expect(200);
    for verb in ["renew", "release"] {
        end(&server, "report", verb, ANN).await.expect(409);
    }
}

#[tokio::test]
async fn who_waits_has_it_when_it_is_given_back() {
    let server = Server::start().await;
    acquire(&server, "report", ANN, &json!({})).await.expect(200);
    let begun = SystemClock.boot();
    let short = acquire(&server, "report", BEN, &json!({"wait_ms": 100})).await;
    assert_eq!(short.expect(409).json()["code"], "lock_busy");
    assert!(SystemClock.boot() - begun >= Duration::from_millis(100));
    let later = async {
        rest(50).await;
        end(&server, "report", "release", ANN).await.expect(200);
    };
    let wait = json!({"wait_ms": 5_000});
    let (waited, ()) = tokio::join!(acquire(&server, "report", BEN, &wait), later);
    waited.expect(200);
    assert!(SystemClock.boot() - begun < Duration::from_secs(2));
}

#[tokio::test]
async fn whoever_looks_sees_who_has_what_and_no_token() {
    let server = Server::start().await;
    for name in ["a%2F1", "a%2F2", "b%201"] {
        acquire(&server, name, ANN, &json!({})).await.expect(200);
    }
    let one = server.get("/v1/locks/a%2F1").await.expect(200);
    assert!(!one.text().contains(ANN), "{}", one.text());
    let one = one.json();
    assert_eq!(one["name"], "a/1");
    assert!(one["since"].is_string() && one["fence"]["epoch"].is_u64(), "{one}");
    let free = server.get("/v1/locks/c").await.expect(404).json();
    assert_eq!((&free["code"], &free["name"]), (&json!("lock_not_held"), &json!("c")));

    let page = server.get("/v1/locks?prefix=a%2F&limit=1").await.expect(200).json();
    assert_eq!(page["items"][0]["name"], "a/1");
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = server.get(&format!("/v1/locks?prefix=a%2F&cursor={cursor}")).await.expect(200);
    let page = page.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!((&page["items"][0]["name"], &page["next_cursor"]), (&json!("a/2"), &Value::Null));
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let server = Server::start().await;
    for (more, field) in [
        (json!({"token": "short"}), "token"),
        (json!({"ttl_ms": 99}), "ttl_ms"),
        (json!({"ttl_ms": 60_001}), "ttl_ms"),
        (json!({"wait_ms": 5_001}), "wait_ms"),
        (json!({"fence": 1}), "fence"),
    ] {
        let refused = acquire(&server, "report", ANN, &more).await.expect(400).json();
        assert_eq!(refused["field"], field, "{refused}");
    }
    for query in ["prefix=a&prefix=b", "limit=0", "cursor=zz", "owner=x"] {
        server.get(&format!("/v1/locks?{query}")).await.expect(400);
    }
    server.get("/v1/locks/%20x").await.expect(400);
    acquire(&server, &"x".repeat(129), ANN, &json!({})).await.expect(400);
}
