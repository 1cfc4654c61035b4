//! Scenario 18: a million rows, one in a hundred bad, while the shop goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    task::JoinHandle,
};

use crate::{
    child::{Serving, run, url},
    support::{Connection, JSON, request, rest},
};

const ROWS: u64 = 1_000_000;
const BAD: u64 = ROWS / 100;
/// What the import may cost the server besides, in KiB.
const MEMORY: u64 = 100 * 1024;

fn row(line: u64) -> String {
    let on_hand = if line.is_multiple_of(100) { -1 } else { 5 };
    format!("{{\"sku\":\"SKU-{line:07}\",\"on_hand\":{on_hand}}}\n")
}

/// Gives its half of the connection back: to drop it would be to hang up.
async fn send(mut to: OwnedWriteHalf, host: String) -> OwnedWriteHalf {
    let head = format!(
        "POST /v1/stock-imports HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    to.write_all(head.as_bytes()).await.unwrap();
    for first in (1..=ROWS).step_by(1_000) {
        let rows: String = (first..first + 1_000).map(row).collect();
        to.write_all(format!("{:x}\r\n{rows}\r\n", rows.len()).as_bytes()).await.unwrap();
    }
    to.write_all(b"0\r\n\r\n").await.unwrap();
    to
}

/// Imports all rows; answers the lines of the answer.
async fn import(serving: &Serving) -> Vec<Value> {
    let (mut from, to) = TcpStream::connect(&serving.address).await.unwrap().into_split();
    let sending = tokio::spawn(send(to, serving.address.clone()));
    let mut answer = String::new();
    from.read_to_string(&mut answer).await.unwrap();
    sending.await.unwrap();
    let is_whole = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n");
    assert!(is_whole, "{}", answer.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
    // A chunk begins with its length, which is no object.
    let lines = answer.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A shopper who places one hold after the other; counts them, and the longest wait in ms.
fn shop(address: String, stop: Arc<AtomicBool>) -> JoinHandle<(u64, u128)> {
    tokio::spawn(async move {
        let (mut connection, mut placed) = (Connection::open(&address).await, 0);
        let mut longest = 0;
        let body = br#"{"owner":"ann","ttl_ms":1000,"lines":[{"sku":"HOT","quantity":1}]}"#;
        while !stop.load(Ordering::Relaxed) {
            let begun = SystemClock.boot();
            connection.send(&request(&address, "POST", "/v1/holds", &[JSON], body)).await;
            connection.reply().await.expect(201);
            longest = longest.max((SystemClock.boot() - begun).as_millis());
            placed += 1;
            rest(5).await;
        }
        (placed, longest)
    })
}

/// Looks at the memory of the server again and again; keeps the most.
async fn watch(serving: &Serving, most: &AtomicU64) {
    loop {
        most.fetch_max(serving.memory(), Ordering::Relaxed);
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_18_a_million_rows_are_loaded_while_holds_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("shop.db"));
    let serving = Serving::start(&ledger);
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":1000000}"#).await.expect(201);
    let (idle, most) = (serving.memory(), AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let shopper = shop(serving.address.clone(), Arc::clone(&stop));

    let lines = tokio::select! {
        lines = import(&serving) => lines,
        () = watch(&serving, &most) => unreachable!("it watches for ever"),
    };
    let (bad, sum) = lines.split_at(lines.len() - 1);
    let good = ROWS - BAD;
    let expected =
        json!({"created": good, "counted": 0, "unchanged": 0, "bad": BAD, "lines": ROWS});
    assert_eq!(sum, [expected]);
    let numbers = bad.iter().map(|line| line["line"].as_u64().unwrap());
    assert!(numbers.eq((100..=ROWS).step_by(100)));
    assert!(bad.iter().all(|line| line["error"]["field"] == "on_hand"));
    let grown = most.load(Ordering::Relaxed).saturating_sub(idle);
    assert!(grown < MEMORY, "the server grew by {grown} KiB");

    let again = import(&serving).await;
    let unchanged =
        json!({"created": 0, "counted": 0, "unchanged": good, "bad": BAD, "lines": ROWS});
    assert_eq!(again.last(), Some(&unchanged));
    stop.store(true, Ordering::Relaxed);
    let (placed, longest) = shopper.await.unwrap();
    assert!(placed > 100 && longest < 2_000, "{placed} holds, the longest took {longest} ms");
    assert_eq!(serving.end(Signal::TERM).0, Some(0));
    let report = run(&["verify", "--ledger", &ledger]);
    assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stdout));
}
