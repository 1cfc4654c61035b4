//! SIGTERM under load: what was begun is answered, and what was not can be sent again.
#![expect(clippy::print_stdout, reason = "the figures are what one reads the test for")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use stockhold_server::client::{Connection, Reply};
use stockhold_testkit::Signal;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    child::{Serving, run, url},
    load::{connect, hold, now},
    support::rest,
};

const ROUNDS: u64 = 20;
const CLIENTS: usize = 64;

/// What a client was told before the server ended.
struct Told {
    placed: usize,
    /// The key of the place that was not answered.
    open: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_sigterm_under_load_leaves_no_request_half_done_twenty_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let (mut held, mut under_load) = (0, Duration::ZERO);
    stock(&path).await;
    for round in 0..ROUNDS {
        let begun = now();
        let told = load_until_terminated(&path, round).await;
        under_load += now() - begun;
        let placed: usize = told.iter().map(|client| client.placed).sum();
        assert!(placed > CLIENTS, "round {round}: only {placed} requests");
        let serving = Serving::start(&url(&path));
        for client in &told {
            send_again(&serving, &client.open).await;
        }
        held += u32::try_from(placed + told.len()).unwrap();
        let hot = serving.ask("GET", "/v1/stock/HOT", "").await.expect(200).json();
        assert_eq!(hot["held"].as_u64(), Some(u64::from(held)), "round {round}");
        assert_eq!(serving.end(Signal::TERM), (Some(0), String::new()));
    }
    println!(
        "{:.0} requests/s, starts and ends included",
        f64::from(held) / under_load.as_secs_f64()
    );
    let report = run(&["verify", "--ledger", &url(&path)]);
    assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stdout));
}

async fn stock(path: &Path) {
    let serving = Serving::start(&url(path));
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
}

async fn load_until_terminated(path: &Path, round: u64) -> Vec<Told> {
    let serving = Serving::start(&url(path));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(place_until_unanswered(serving.address.clone(), format!("{round}-{client}")));
    }
    rest(200 + round * 37 % 200).await;
    let ended = tokio::task::spawn_blocking(move || serving.end(Signal::TERM)).await.unwrap();
    assert_eq!(ended, (Some(0), String::new()), "round {round}");
    clients.join_all().await
}

async fn place_until_unanswered(address: String, name: String) -> Told {
    let mut shop = connect(&address).await;
    let mut placed = 0;
    loop {
        let key = format!("{name}-{placed}");
        match shop.post("/v1/holds", &hold(&name), Some(&key)).await {
            Ok(reply) => assert_eq!((reply.status, reply.replayed), (201, false)),
            Err(_) => return Told { placed, open: key },
        }
        placed += 1;
    }
}

/// Whatever the server began it has answered; so this one was never begun, and is done now.
async fn send_again(serving: &Serving, key: &str) {
    let owner = key.rsplit_once('-').unwrap().0;
    let reply = connect(&serving.address).await.post("/v1/holds", &hold(owner), Some(key)).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, 201, "{key}: {:?}", reply.body);
    assert!(!reply.replayed, "{key} was done and not answered");
}

const RESTARTS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn slow_whoever_insists_across_restarts_has_exactly_one_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    stock(&path).await;
    let mut serving = Serving::start(&url(&path));
    let address = serving.address.clone();
    let (over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut shop = Shopper { address: address.clone(), line: None };
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        clients.spawn(async move {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                shop.insist(&format!("{client}-{n}")).await;
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..RESTARTS {
        rest(300).await;
        let ended = tokio::task::spawn_blocking(move || serving.end(Signal::TERM)).await.unwrap();
        assert_eq!(ended, (Some(0), String::new()));
        serving = Serving::start_with(&url(&path), &["--listen", &address]);
        assert_eq!(serving.address, address, "it did not start again: {}", serving.line);
    }
    rest(300).await;
    over.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let hot = serving.ask("GET", "/v1/stock/HOT", "").await.expect(200).json();
    assert_eq!(hot["held"].as_u64(), Some(served.load(Ordering::Relaxed) as u64));
}

/// Asks until it is answered, under one key.
struct Shopper {
    address: String,
    line: Option<Connection>,
}

impl Shopper {
    async fn insist(&mut self, key: &str) {
        let limit = Duration::from_secs(30);
        let reply = timeout(limit, self.answer(key)).await.expect("an answer within 30 s");
        assert!(reply.is_success(), "{}: {:?}", reply.status, reply.body);
        assert!(reply.json::<Value>().unwrap()["id"].is_string());
    }

    async fn answer(&mut self, key: &str) -> Reply {
        loop {
            if let Ok(reply) = self.ask(key).await {
                return reply;
            }
            self.line = None;
            rest(5).await;
        }
    }

    async fn ask(&mut self, key: &str) -> Result<Reply, stockhold_server::client::CallError> {
        if self.line.is_none() {
            let clock = Arc::new(stockhold::clock::SystemClock);
            let limit = Duration::from_secs(10);
            self.line = Some(Connection::connect(&self.address, limit, clock).await?);
        }
        self.line.as_mut().unwrap().post("/v1/holds", &hold(key), Some(key)).await
    }
}
