//! Twice as many requests as can be done: as many as can be are, and the rest learn so at once.
#![expect(clippy::print_stdout, reason = "the figures are what one reads the test for")]

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use stockhold::{
    Engine, Limits, Settings,
    clock::{Clock, SystemClock},
    ledger::{Applied, ApplyError, Batch, Layer, Ledger, memory::MemoryLedger},
};
use stockhold_server::client::Connection;
use tokio::task::JoinSet;

use crate::{
    load::{Waits, allow_many_files, connect, hold, now},
    support::{Server, rest},
};

const OVERLOAD: Duration = Duration::from_secs(60);
const MEASURING: Duration = Duration::from_secs(4);
/// Enough for those who wait their 250 ms, and for those who are refused.
const CALLERS: u32 = 512;
const PAYING: usize = 8;

/// What became of requests.
#[derive(Default)]
struct Seen {
    placed: Waits,
    refused: Waits,
    confirmed: Waits,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.placed.add(other.placed);
        self.refused.add(other.refused);
        self.confirmed.add(other.confirmed);
    }

    fn done(&self) -> usize {
        self.placed.count() + self.confirmed.count()
    }
}

/// Holds that nobody has paid for yet.
type Unpaid = Arc<Mutex<Vec<String>>>;

/// A ledger that takes its time for every transaction, so that the bound is there, and not in the
/// machine, which the server shares with its callers.
#[derive(Debug)]
struct Slow(MemoryLedger);

const COMMIT: Duration = Duration::from_millis(10);

#[async_trait]
impl Layer for Slow {
    fn inner(&self) -> &dyn Ledger {
        &self.0
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        SystemClock.sleep(COMMIT).await;
        self.0.apply(batch).await
    }
}

fn engine() -> Engine {
    let ledger = Slow(MemoryLedger::new(Limits::default(), Arc::new(SystemClock)));
    let settings = Settings { batch_commands: 6, ..Settings::default() };
    Engine::builder(Arc::new(ledger)).settings(settings).start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_at_twice_the_capacity_most_of_it_is_still_done() {
    allow_many_files(2 * u64::from(CALLERS) + 200);
    let serving = Server::start_with(engine(), "127.0.0.1:0", |service| service).await;
    serving.put("/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);

    let capacity = rate(&run(&serving, 64, MEASURING, Duration::ZERO).await, MEASURING);
    let memory = resident_mib();
    let pause = Duration::from_secs_f64(f64::from(CALLERS) / (2.0 * capacity));
    let mut seen = run(&serving, CALLERS, OVERLOAD, pause).await;
    let grown = resident_mib().saturating_sub(memory);

    let offered = (seen.done() + seen.refused.count()) as f64 / OVERLOAD.as_secs_f64() / capacity;
    let goodput = rate(&seen, OVERLOAD) / capacity;
    let (refused, confirmed) = (seen.refused.p99(), seen.confirmed.p99());
    println!(
        "capacity {capacity:.0}/s, offered {offered:.2}, done {goodput:.2} of it; p99 of {} refusals \
         {refused:?}, of {} confirms {confirmed:?}; {grown} MiB more",
        seen.refused.count(),
        seen.confirmed.count(),
    );
    assert!(offered > 1.5 && seen.refused.count() > 100, "there was no overload: {offered}");
    assert!(goodput >= 0.8, "{goodput}");
    assert!(refused <= Duration::from_millis(50), "{refused:?}");
    assert!(confirmed <= Duration::from_millis(500), "{confirmed:?}");
    assert!(grown < 100, "{grown} MiB more");
}

fn rate(seen: &Seen, length: Duration) -> f64 {
    seen.done() as f64 / length.as_secs_f64()
}

/// Callers that ask every so often, whatever was answered, and a few who pay as fast as they can.
async fn run(serving: &Server, callers: u32, length: Duration, pause: Duration) -> Seen {
    let (mut shops, mut payers) = (Vec::new(), Vec::new());
    for _ in 0..callers {
        shops.push(connect(&serving.address).await);
    }
    for _ in 0..PAYING {
        payers.push(connect(&serving.address).await);
    }
    let (until, unpaid) = (now() + length, Unpaid::default());
    let mut clients = JoinSet::new();
    for (shop, caller) in shops.into_iter().zip(0..) {
        let begin = pause * caller / callers;
        clients.spawn(place(shop, until, begin, pause, Arc::clone(&unpaid)));
    }
    for shop in payers {
        clients.spawn(pay(shop, until, Arc::clone(&unpaid)));
    }
    let mut seen = Seen::default();
    clients.join_all().await.into_iter().for_each(|of_one| seen.add(of_one));
    seen
}

async fn place(
    mut shop: Connection,
    until: Duration,
    begin: Duration,
    pause: Duration,
    unpaid: Unpaid,
) -> Seen {
    let mut seen = Seen::default();
    let mut next = now() + begin;
    while now() < until {
        SystemClock.sleep(next.saturating_sub(now())).await;
        let begun = now();
        let reply = shop.post("/v1/holds", &hold("crowd"), None).await.unwrap();
        match reply.status {
            201 => {
                seen.placed.note(begun);
                let hold: Value = reply.json().unwrap();
                unpaid.lock().unwrap().push(hold["id"].as_str().unwrap().to_owned());
            }
            429 => {
                seen.refused.note(begun);
                assert!(reply.retry_after.is_some());
            }
            other => panic!("{other}: {:?}", reply.body),
        }
        next = (next + pause).max(begun);
    }
    seen
}

async fn pay(mut shop: Connection, until: Duration, unpaid: Unpaid) -> Seen {
    let mut seen = Seen::default();
    while now() < until {
        let id = unpaid.lock().unwrap().pop();
        let Some(id) = id else {
            rest(5).await;
            continue;
        };
        let begun = now();
        let reply = shop.post(&format!("/v1/holds/{id}/confirm"), &json!({}), None).await.unwrap();
        assert_eq!(reply.status, 200, "who has paid is not turned away: {:?}", reply.body);
        seen.confirmed.note(begun);
    }
    seen
}

/// Of the server, and of its callers.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1_024
}
