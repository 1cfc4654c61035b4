//! `kill -9` under load: whatever a client was told is found again.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stockhold::clock::SystemClock;
use stockhold_server::client::Connection;
use tokio::task::JoinSet;

use crate::{
    child::{Serving, run, url},
    support::rest,
};

const ROUNDS: u64 = 20;
const CLIENTS: usize = 32;

/// What one client was told before the server died.
#[derive(Default)]
struct Told {
    placed: Vec<String>,
    confirmed: Vec<String>,
    /// The key of the place that was not answered.
    open: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_what_was_answered_survives_kill_minus_nine_twenty_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let serving = Serving::start(&url(&path));
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);
    drop(serving); // kills it
    for round in 0..ROUNDS {
        let told = load_until_killed(&path, round).await;
        let (placed, confirmed) = sums(&told);
        assert!(placed > CLIENTS && confirmed > 0, "round {round}: {placed} and {confirmed}");
        let serving = Serving::start(&url(&path));
        for client in told {
            check(&serving, client).await;
        }
        drop(serving);
    }
    let report = run(&["verify", "--ledger", &url(&path)]);
    assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stdout));
}

fn sums(told: &[Told]) -> (usize, usize) {
    let placed = told.iter().map(|client| client.placed.len()).sum();
    (placed, told.iter().map(|client| client.confirmed.len()).sum())
}

/// Clients that place and confirm, and a server that is killed in the middle of it.
async fn load_until_killed(path: &Path, round: u64) -> Vec<Told> {
    let serving = Serving::start(&url(path));
    let (mut clients, answered) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for client in 0..CLIENTS {
        let name = format!("{round}-{client}");
        clients.spawn(buy(serving.address.clone(), name, Arc::clone(&answered)));
    }
    // A machine with other work is slow: what counts is how far the clients came.
    while answered.load(Ordering::Relaxed) < 200 + round * 97 % 500 {
        rest(1).await;
    }
    drop(serving); // SIGKILL
    clients.join_all().await
}

async fn connect(address: &str) -> Connection {
    let limit = Duration::from_secs(10);
    Connection::connect(address, limit, Arc::new(SystemClock)).await.unwrap()
}

/// Buys until nobody answers any more. Every other hold is confirmed.
async fn buy(address: String, name: String, answered: Arc<AtomicU64>) -> Told {
    let (mut told, mut shop) = (Told::default(), connect(&address).await);
    for n in 0.. {
        let key = format!("{name}-{n}");
        let Ok(reply) = shop.post("/v1/holds", &hold(&name), Some(&key)).await else {
            told.open = Some(key);
            break;
        };
        assert_eq!(reply.status, 201, "{:?}", reply.body);
        let id = reply.json::<Value>().unwrap()["id"].as_str().unwrap().to_owned();
        told.placed.push(id.clone());
        answered.fetch_add(1, Ordering::Relaxed);
        if n % 2 == 0 {
            let confirm = format!("/v1/holds/{id}/confirm");
            let Ok(reply) = shop.post(&confirm, &json!({}), None).await else { break };
            assert_eq!(reply.status, 200, "{:?}", reply.body);
            told.confirmed.push(id);
        }
    }
    told
}

fn hold(owner: &str) -> Value {
    json!({"owner": owner, "ttl_ms": 600_000, "lines": [{"sku": "HOT", "quantity": 1}]})
}

async fn check(serving: &Serving, told: Told) {
    let mut shop = connect(&serving.address).await;
    let mut states = HashMap::new();
    for id in told.placed {
        let reply = shop.get(&format!("/v1/holds/{id}")).await.unwrap();
        assert_eq!(reply.status, 200, "the hold {id} was promised and is gone");
        let state = reply.json::<Value>().unwrap()["state"].as_str().unwrap().to_owned();
        // A confirm that was not answered may have been done.
        assert!(["active", "confirmed"].contains(&&*state), "the hold {id} is {state}");
        states.insert(id, state);
    }
    for id in told.confirmed {
        assert_eq!(states[&id], "confirmed", "the confirm of {id} was answered and is gone");
    }
    if let Some(key) = told.open {
        let owner = key.rsplit_once('-').unwrap().0;
        let first = shop.post("/v1/holds", &hold(owner), Some(&key)).await.unwrap();
        let again = shop.post("/v1/holds", &hold(owner), Some(&key)).await.unwrap();
        let id = |body: Value| body["id"].as_str().unwrap().to_owned();
        assert!(first.is_success() && again.replayed);
        assert_eq!(id(first.json().unwrap()), id(again.json().unwrap()));
    }
}
