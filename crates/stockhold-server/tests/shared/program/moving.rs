//! `stockhold migrate-ledger`: a shop moves, and loses nothing.

use std::{path::Path, process::Output, thread, time::Duration};

use serde_json::Value;
use stockhold_testkit::{PostgresServer, ServerProcess, until};

use crate::{
    shop::{Shop, stockhold},
    shopper::Shopper,
};

const TTL: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(20);

fn serve(ledger: &str) -> ServerProcess {
    ServerProcess::start(&stockhold(&["serve", "--ledger", ledger, "--listen", "127.0.0.1:0"]))
}

fn migrate(from: &str, to: &str) -> Output {
    stockhold(&["migrate-ledger", "--from", from, "--to", to]).output().unwrap()
}

fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

#[track_caller]
fn expect_moved(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", words(output));
}

/// What `stockhold verify` counts, of a ledger that is sound.
#[track_caller]
fn counts(ledger: &str) -> [u64; 3] {
    let output = stockhold(&["verify", "--json", "--ledger", ledger]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["items", "holds", "movements"].map(|name| report[name].as_u64().unwrap())
}

fn file(folder: &Path, name: &str) -> String {
    format!("sqlite:{}", folder.join(name).display())
}

/// Holds that are paid, active and released, of stock that came under a key.
async fn fill(ledger: &str) -> [String; 3] {
    let mut server = serve(ledger);
    let mut ann = Shopper::new(server.address());
    ann.put_stock("MUG", 10).await;
    ann.receive("MUG", 5, "delivery").await.expect_any(&[200, 201]);
    let paid = ann.place("paid", &[("MUG", 1)], TTL).await.id();
    let active = ann.place("active", &[("MUG", 2)], TTL).await.id();
    let released = ann.place("released", &[("MUG", 4)], TTL).await.id();
    ann.confirm(&paid).await.expect_status(200);
    ann.release(&released).await.expect_status(200);
    assert!(server.stop().success());
    [paid, active, released]
}

async fn expect_units(ann: &mut Shopper, units: [i64; 4]) {
    let item = ann.get("/v1/stock/MUG").await.expect_status(200);
    let found =
        ["on_hand", "held", "allocated", "available"].map(|name| item[name].as_i64().unwrap());
    assert_eq!(found, units);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_moves_to_postgres_and_back_with_its_holds_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start();
    let (old, new) = (file(folder.path(), "old.db"), file(folder.path(), "new.db"));
    let [paid, active, released] = fill(&old).await;
    let before = counts(&old);
    assert_eq!((before[0], before[1]), (1, 3));
    expect_moved(&migrate(&old, &postgres.url()));
    assert_eq!((counts(&old), counts(&postgres.url())), (before, before));

    let mut server = serve(&postgres.url());
    let mut ann = Shopper::new(server.address());
    expect_units(&mut ann, [15, 2, 1, 12]).await;
    let again = ann.place("active", &[("MUG", 2)], TTL).await;
    assert!(again.is_replayed() && again.id() == active, "{again:?}");
    assert!(ann.receive("MUG", 5, "delivery").await.is_replayed());
    assert!(server.stop().success());
    assert_eq!(counts(&postgres.url()), before);

    expect_moved(&migrate(&postgres.url(), &new));
    assert_eq!((counts(&postgres.url()), counts(&new)), (before, before));
    let mut server = serve(&new);
    let mut ann = Shopper::new(server.address());
    assert!(ann.place("active", &[("MUG", 2)], TTL).await.is_replayed());
    ann.confirm(&active).await.expect_status(200);
    for (hold, state) in [(paid, "confirmed"), (active, "confirmed"), (released, "released")] {
        let hold = ann.get(&format!("/v1/holds/{hold}")).await.expect_status(200);
        assert_eq!(hold["state"], state, "{hold}");
    }
    expect_units(&mut ann, [15, 0, 3, 12]).await;
    assert!(server.stop().success());
    assert_eq!(counts(&new), before);
}

const HOLD_A_TABLE: &str =
    "BEGIN; LOCK TABLE transition IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(25)";

/// Somebody has a table of the new ledger, so the move stands still where it is to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_killed_goes_on_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start();
    let (old, new) = (file(folder.path(), "old.db"), postgres.url());
    let [_, active, _] = fill(&old).await;
    let before = counts(&old);
    assert!(serve(&new).stop().success()); // makes the tables
    thread::scope(|scope| {
        let holder = scope.spawn(|| postgres.try_psql(HOLD_A_TABLE));
        let is_locked = "SELECT count(*) FROM pg_locks WHERE granted \
                         AND relation = 'transition'::regclass AND mode = 'AccessExclusiveLock'";
        until(SOON, "a lock", || (postgres.psql(is_locked) == "1").then_some(()).ok_or("none"));
        let mut command = stockhold(&["migrate-ledger", "--from", &old, "--to", &new]);
        let mut moving = command.spawn().unwrap();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                     AND relation = 'transition'::regclass";
        until(SOON, "a move", || (postgres.psql(waits) == "1").then_some(()).ok_or("not there"));
        moving.kill().unwrap();
        assert_eq!(moving.wait().unwrap().code(), None);
        postgres.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(25)' \
             AND pid <> pg_backend_pid()",
        );
        assert!(holder.join().unwrap().is_err());
    });
    assert_eq!(postgres.psql("SELECT stage FROM moving_in"), "holds");
    for ledger in [&old, &new] {
        let mut serve = stockhold(&["serve", "--ledger", ledger, "--listen", "127.0.0.1:0"]);
        let refused = serve.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    }
    expect_moved(&migrate(&old, &new));
    assert_eq!((counts(&old), counts(&new)), (before, before));
    let server = serve(&new);
    let mut ann = Shopper::new(server.address());
    ann.confirm(&active).await.expect_status(200);
    expect_units(&mut ann, [15, 0, 3, 12]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_does_not_move_onto_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(1);
    shop.stock("HAT", 3).await;
    let old = file(folder.path(), "old.db");
    fill(&old).await;
    let refused = migrate(&old, &shop.url);
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    assert!(words(&refused).contains("is not empty"), "{}", words(&refused));
    // Neither was sealed.
    shop.stock("CAP", 1).await;
    assert!(serve(&old).stop().success());
    assert_eq!(counts(&shop.url)[0], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_server_has_granted_is_there_after_the_move() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(1);
    shop.stock("MUG", 1_000_000).await;
    let (from, to) = (shop.url.clone(), file(folder.path(), "new.db"));
    let mut ann = shop.keeper(0);
    let first = ann.place("0", &[("MUG", 1)], TTL).await.id();
    let moving = {
        let to = to.clone();
        tokio::task::spawn_blocking(move || migrate(&from, &to))
    };
    let (mut granted, mut n) = (vec![first], 0);
    let refused = loop {
        n += 1;
        let told = ann.place(&n.to_string(), &[("MUG", 1)], TTL).await;
        match told.status() {
            201 => granted.push(told.id()),
            _ => break told,
        }
    };
    assert_eq!((refused.status(), refused.code()), (503, Some("unavailable")), "{refused:?}");
    expect_moved(&moving.await.unwrap());
    shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(shop.keeper(0).confirm(&granted[0]).await.status(), 503);
    assert_eq!(counts(&to), counts(&shop.url));
    assert_eq!(counts(&to)[1], u64::try_from(granted.len()).unwrap());

    let server = serve(&to);
    let mut bob = Shopper::new(server.address());
    for hold in &granted {
        bob.confirm(hold).await.expect_status(200);
    }
    let sold = i64::try_from(granted.len()).unwrap();
    expect_units(&mut bob, [1_000_000, 0, sold, 1_000_000 - sold]).await;
}
