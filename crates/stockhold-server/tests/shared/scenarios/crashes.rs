//! Scenario 16: instances end in the middle of their work.

use std::{
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use stockhold::{
    clock::{Clock, SystemClock},
    crash::Point,
};
use stockhold_testkit::{ServerProcess, history::Rest, until};
use tokio::task::JoinSet;

use super::Clients;
use crate::{
    shop::{Shop, stockhold},
    shopper::{Shopper, Told},
};

const SEEDS: u32 = 20;
/// Before the commit, after it before the reply, during a sweep, during an import.
const STEPS: [Point; 4] =
    [Point::BeforeCommit, Point::AfterCommit, Point::InSweep, Point::InImport];
const CLIENTS: usize = 16;
const ROWS: usize = 2_000;
/// Soon swept.
const TTL: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(10);
/// Something that is soon sold out, and something that is not.
const SUPPLY: [(&str, i64); 2] = [("HOT", 300), ("MUG", 1_000_000)];

/// At which time of passing its point an instance ends.
fn nth(seed: u32, step: Point) -> u32 {
    match step {
        Point::InSweep | Point::InImport => 1 + seed % 3,
        _ => 1 + seed * 7 % 23,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_16_four_instances_end_in_the_middle_of_their_work_twenty_times() {
    let shop = Shop::open(2);
    for (sku, units) in SUPPLY {
        shop.stock(sku, units).await;
    }
    let (clients, folder) = (Clients::new(), tempfile::tempdir().unwrap());
    for seed in 0..SEEDS {
        let mut doomed = STEPS.map(|step| shop.doomed(step, nth(seed, step)));
        let leave = Arc::new(AtomicBool::new(false));
        let buyers: JoinSet<_> = (0..CLIENTS)
            .map(|n| {
                let client = clients.at(doomed[n % 4].address());
                let haven = shop.address(n).to_owned();
                buy_until_all_is_over(client, haven, format!("{seed}-{n}"), Arc::clone(&leave))
            })
            .collect();
        import_twice(&shop, &doomed[3], folder.path(), seed);
        wait_for_ends(seed, &mut doomed).await;
        leave.store(true, Ordering::Relaxed);
        buyers.join_all().await;
        expect_nothing_held(&shop, seed);
    }
    let account = shop.account(&SUPPLY);
    let mut account_of_sold = account.clone();
    account_of_sold.items.retain(|item| SUPPLY.iter().any(|(sku, _)| *sku == item.item));
    clients.history().expect_clean(&account_of_sold, Rest::Settled);
    assert!(account.sales.len() > 1_000, "{} were sold", account.sales.len());
    assert_eq!(account.items.len(), SUPPLY.len() + ROWS * SEEDS as usize);
    shop.expect_sound();
}

/// A list that an instance does not bring to its end, and another one does.
fn import_twice(shop: &Shop, doomed: &ServerProcess, folder: &Path, seed: u32) {
    let list = folder.join(format!("{seed}.ndjson"));
    let row = |n: usize| format!("{{\"sku\":\"{seed}-{n}\",\"on_hand\":{n}}}\n");
    fs::write(&list, (0..ROWS).map(row).collect::<String>()).unwrap();
    let broken = import(doomed.address(), &list);
    assert_eq!(broken.status.code(), Some(1), "seed {seed}: {broken:?}");
    let done = import(shop.address(0), &list);
    let said = String::from_utf8_lossy(&done.stdout);
    let sum: Value = serde_json::from_str(said.lines().last().unwrap_or("")).unwrap();
    let [created, unchanged] = ["created", "unchanged"].map(|name| sum[name].as_u64().unwrap());
    // Groups of 500 rows.
    let expected = u64::from(nth(seed, Point::InImport)) * 500;
    assert_eq!((unchanged, created), (expected, ROWS as u64 - expected), "seed {seed}: {said}");
}

fn import(address: &str, list: &Path) -> Output {
    let (url, list) = (format!("http://{address}"), list.to_str().unwrap());
    stockhold(&["stock", "import", list, "--json", "--url", &url]).output().unwrap()
}

async fn wait_for_ends(seed: u32, doomed: &mut [ServerProcess]) {
    let end = SystemClock.boot() + Duration::from_secs(30);
    loop {
        let living = doomed.iter_mut().map(|one| one.ended().is_none());
        let living: Vec<_> = living.zip(STEPS).filter(|(lives, _)| *lives).collect();
        if living.is_empty() {
            return;
        }
        assert!(SystemClock.boot() < end, "seed {seed}: {living:?}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// I9, as soon as may be expected of it.
fn expect_nothing_held(shop: &Shop, seed: u32) {
    let what = format!("seed {seed}: the end of all holds");
    let rest = "SELECT coalesce(sum(held), 0) FROM stock";
    until(TTL + GRACE + Duration::from_secs(1), &what, || match shop.count(rest) {
        0 => Ok(()),
        held => Err(format!("{held} are held")),
    });
    let off = "SELECT count(*) FROM active";
    assert_eq!(shop.count(off), 0, "seed {seed}");
}

/// Buys every other hold and forgets the rest; goes to an instance that lives when its own ends, and
/// asks there under the same key.
async fn buy_until_all_is_over(
    mut client: Shopper,
    haven: String,
    name: String,
    leave: Arc<AtomicBool>,
) {
    for round in 0.. {
        if leave.load(Ordering::Relaxed) {
            return;
        }
        let (key, sku) = (format!("{name}-{round}"), SUPPLY[round % 2].0);
        let placed = loop {
            let told = client.place(&key, &[(sku, 1)], TTL).await;
            if !goes_on(&told, &mut client, &haven).await {
                break told;
            }
        };
        if !matches!(placed.status(), 200 | 201) || round % 4 >= 2 {
            continue;
        }
        loop {
            let told = client.confirm(&placed.id()).await;
            if !goes_on(&told, &mut client, &haven).await {
                break;
            }
        }
    }
}

/// Whether nobody knows what was done, so that it is to be asked again.
async fn goes_on(told: &Told, client: &mut Shopper, haven: &str) -> bool {
    if told.answer().is_none() {
        client.turn_to(haven);
    } else if told.is_unknown() {
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    told.is_unknown()
}
