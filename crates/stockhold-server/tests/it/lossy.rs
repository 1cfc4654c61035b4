//! Scenario 7: replies are lost.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use stockhold::clock::SystemClock;
use stockhold_server::client::{Connection, Reply};
use tokio::task::JoinSet;

use crate::{support::Server, swallower::Swallower};

const BUYERS: usize = 2_000;
const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn scenario_07_lost_replies_sell_nothing_twice() {
    let server = Server::start().await;
    server.put("/v1/stock/HOT", r#"{"on_hand":2000}"#).await.expect(201);
    let proxy = Swallower::start(&server.address).await;
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let address = proxy.address.clone();
        workers.spawn(async move {
            let mut shop = Shopper { address, line: None };
            for buyer in (worker..BUYERS).step_by(AT_ONCE) {
                shop.buy(buyer).await;
            }
        });
    }
    workers.join_all().await;
    let hot = server.get("/v1/stock/HOT").await.expect(200).json();
    let units = ["on_hand", "held", "allocated", "available"].map(|name| hot[name].as_i64());
    assert_eq!(units, [2_000, 0, 2_000, 0].map(Some));
    let report = server.engine.verify().await.unwrap();
    assert!(report.is_clean() && report.holds == 2_000, "{report:?}");
    let (swallowed, replies) = proxy.swallowed();
    let percent = swallowed * 100 / replies;
    assert!((28..=32).contains(&percent), "{swallowed} of {replies} replies were lost");
}

/// Asks until it is answered, under one key.
struct Shopper {
    address: String,
    line: Option<Connection>,
}

impl Shopper {
    async fn buy(&mut self, buyer: usize) {
        let hold = json!({"owner": format!("buyer-{buyer}"), "ttl_ms": 600_000,
            "lines": [{"sku": "HOT", "quantity": 1}]});
        let held = self.insist("/v1/holds", &hold, &format!("place-{buyer}")).await;
        let hold: Value = held.json().unwrap();
        let confirm = format!("/v1/holds/{}/confirm", hold["id"].as_str().unwrap());
        let confirmed = self.insist(&confirm, &json!({}), &format!("confirm-{buyer}")).await;
        assert_eq!(confirmed.json::<Value>().unwrap()["state"], "confirmed");
    }

    async fn insist(&mut self, path: &str, body: &Value, key: &str) -> Reply {
        for _ in 0..100 {
            if self.line.is_none() {
                self.line = Some(connect(&self.address).await);
            }
            let line = self.line.as_mut().unwrap();
            match line.post(path, body, Some(key)).await {
                Ok(reply) if reply.is_success() => return reply,
                Ok(reply) => panic!("{}: {:?}", reply.status, reply.body),
                Err(_) => self.line = None,
            }
        }
        panic!("a hundred replies were lost in a row");
    }
}

async fn connect(address: &str) -> Connection {
    let limit = Duration::from_secs(10);
    Connection::connect(address, limit, Arc::new(SystemClock)).await.unwrap()
}
