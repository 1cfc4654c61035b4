//! A copy is taken while customers place holds, and put in the place of a lost ledger, as
//! docs/operations.md says.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stockhold::clock::SystemClock;
use stockhold_server::client::Connection;
use stockhold_testkit::Signal;
use tokio::task::JoinSet;

use crate::{
    child::{Serving, run, url},
    support::rest,
};

const CLIENTS: usize = 8;

/// Customers, and the holds that were answered to them.
#[derive(Clone, Default)]
struct Sale {
    answered: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
}

impl Sale {
    fn answered(&self) -> Vec<String> {
        self.answered.lock().unwrap().clone()
    }

    async fn wait_for(&self, holds: usize) {
        while self.answered().len() < holds {
            rest(5).await;
        }
    }

    async fn place_until_it_is_over(self, address: String) {
        let mut shop = connect(&address).await;
        let hold =
            json!({"owner": "ann", "ttl_ms": 600_000, "lines": [{"sku": "HOT", "quantity": 1}]});
        while !self.is_over.load(Ordering::Relaxed) {
            let reply = shop.post("/v1/holds", &hold, None).await.unwrap();
            assert_eq!(reply.status, 201, "{:?}", reply.body);
            let id = reply.json::<Value>().unwrap()["id"].as_str().unwrap().to_owned();
            self.answered.lock().unwrap().push(id);
        }
    }
}

async fn connect(address: &str) -> Connection {
    let limit = Duration::from_secs(10);
    Connection::connect(address, limit, Arc::new(SystemClock)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hold_that_was_answered_before_a_backup_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, copy) = (folder.path().join("shop.db"), folder.path().join("copy.db"));
    let serving = Serving::start(&url(&ledger));
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);
    let (sale, mut clients) = (Sale::default(), JoinSet::new());
    for _ in 0..CLIENTS {
        clients.spawn(sale.clone().place_until_it_is_over(serving.address.clone()));
    }
    sale.wait_for(500).await;
    let before = sale.answered();
    let (from, to) = (url(&ledger), copy.display().to_string());
    let backup = move || run(&["backup", &to, "--ledger", &from]);
    let output = tokio::task::spawn_blocking(backup).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    sale.wait_for(before.len() + 500).await;
    sale.is_over.store(true, Ordering::Relaxed);
    clients.join_all().await;
    assert_eq!(serving.end(Signal::TERM).0, Some(0));

    restore(&copy, &ledger);
    let serving = Serving::start(&url(&ledger));
    let mut shop = connect(&serving.address).await;
    for id in &before {
        let reply = shop.get(&format!("/v1/holds/{id}")).await.unwrap();
        assert_eq!(reply.status, 200, "the hold {id} was answered before the backup, and is gone");
    }
    let last = sale.answered().pop().unwrap();
    let reply = shop.get(&format!("/v1/holds/{last}")).await.unwrap();
    assert_eq!(reply.status, 404, "what came after it is not there");
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
    let report = run(&["verify", "--ledger", &url(&ledger)]);
    assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stdout));
}

/// As the operator does it.
fn restore(copy: &Path, ledger: &Path) {
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mut name = ledger.as_os_str().to_owned();
        name.push(ending);
        let _ = std::fs::remove_file(name); // not all of them are there
    }
    std::fs::copy(copy, ledger).unwrap();
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("shop.db");
    drop(Serving::start(&url(&ledger)));
    let copy = folder.path().join("copy.db");
    std::fs::write(&copy, "precious").unwrap();
    let to = |path: &Path| run(&["backup", path.to_str().unwrap(), "--ledger", &url(&ledger)]);
    let output = to(&copy);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read(&copy).unwrap(), b"precious");
    assert_eq!(to(&folder.path().join("no/where.db")).status.code(), Some(1));
    assert_eq!(run(&["backup", "x.db", "--ledger", "memory:"]).status.code(), Some(2));
    let missing = url(&folder.path().join("missing.db"));
    let copy = folder.path().join("of-nothing.db");
    let output = run(&["backup", copy.to_str().unwrap(), "--ledger", &missing]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!copy.exists() && !folder.path().join("missing.db").exists());
}
