//! A shop moves from a file to Postgres, and back.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stockhold::{
    FailureKind,
    clock::ManualClock,
    conformance::ask,
    ledger::{
        Batch, BatchId, HoldQuery, Ledger, MovementQuery, StockQuery,
        postgres::{PostgresLedger, PostgresOptions},
        sqlite::{SqliteLedger, SqliteOptions},
        transfer::{self, Moved, Place},
    },
};
use stockhold_core::Command;
use stockhold_testkit::{PostgresServer, until};
use tempfile::TempDir;

use crate::shop::SECOND;

mod given_up;
mod refused;

const FEW: usize = 3;

/// A folder for a shop's file, and for one that it may move into.
struct Ends {
    folder: TempDir,
    clock: ManualClock,
    old: PathBuf,
    new: PathBuf,
}

impl Default for Ends {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("it works");
        let [old, new] = ["old.db", "new.db"].map(|name| folder.path().join(name));
        Self { folder, clock: ManualClock::default(), old, new }
    }
}

fn file(path: &Path) -> Place {
    Place::Sqlite(path.to_owned())
}

fn database(server: &PostgresServer) -> Place {
    Place::Postgres(Box::new(server.url().parse().expect("it works")))
}

fn open(path: &Path, clock: &ManualClock) -> SqliteLedger {
    let clock = Arc::new(clock.clone());
    let options = SqliteOptions { clock, ..SqliteOptions::default() };
    SqliteLedger::open(path, options).expect("it works")
}

async fn apply(ledger: &dyn Ledger, number: u8, commands: Vec<Command>) -> usize {
    let batch = Batch { id: BatchId([number; 16]), commands, waits: false };
    let applied = ledger.apply(Arc::new(batch)).await.expect("it works");
    applied.answers.iter().filter(|answer| answer.is_ok()).count()
}

/// Holds in every state, by every way there is.
async fn fill(ledger: &dyn Ledger, clock: &ManualClock) {
    use ask::{keyed, place};
    let two = [("MUG", 2), ("HAT", 1)];
    let mut commands = vec![ask::create("MUG", 40), ask::create("HAT", 40), ask::create("CAP", 0)];
    commands.extend((1..=8).map(|n| keyed(&format!("place-{n}"), place(n, &two))));
    commands.push(ask::place_for(1_000, 9, &two));
    commands.push(ask::place_for(1_000, 10, &two));
    commands.push(keyed("here", ask::receive("CAP", 5)));
    commands.push(keyed("lost", ask::adjust("CAP", -1)));
    commands.push(ask::count("HAT", 39));
    let all = commands.len();
    assert_eq!(apply(ledger, 1, commands).await, all);
    clock.advance(2 * SECOND);
    let commands = vec![
        ask::confirm(1),
        ask::confirm_part(2, &[("MUG", 1)]),
        ask::release(3),
        ask::extend(4, 60_000),
        ask::revoke(5),
        ask::confirm(6),
        ask::ship(6),
        ask::confirm(7),
        keyed("part", ask::cancel_part(7, &[("MUG", 1)])),
        ask::replace(8, 11, &[("CAP", 4)]),
        ask::expire(9),
        ask::expire(10),
        ask::rehold(10),
    ];
    let all = commands.len();
    assert_eq!(apply(ledger, 2, commands).await, all);
}

/// All that a ledger shows, in words.
async fn shown(ledger: &dyn Ledger) -> String {
    let holds = HoldQuery { owner: None, state: None, sku: None, before: None, limit: 100 };
    let stock = StockQuery { prefix: String::new(), after: None, limit: 100 };
    let movements = MovementQuery { sku: None, after: 0, limit: 100 };
    let holds = ledger.holds(holds).await.expect("it works");
    let stock = ledger.items(stock).await.expect("it works");
    let movements = ledger.movements(movements).await.expect("it works");
    assert_eq!((holds.items.len(), stock.items.len()), (11, 3));
    format!("{:#?}\n{:#?}\n{:#?}", holds.items, stock.items, movements.items)
}

async fn shop(path: &Path, clock: &ManualClock) -> String {
    let ledger = open(path, clock);
    fill(&ledger, clock).await;
    let shown = shown(&ledger).await;
    ledger.close().await.expect("it works");
    shown
}

/// Moves it, and is interrupted before the nth chunk.
async fn begin_move(from: &Place, to: &Place, nth: usize) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (mut stop, mut chunks) = (Some(stop), 0);
    let moving = transfer::run(from, to, FEW, |_| {
        chunks += 1;
        if chunks == nth {
            drop(stop.take());
        }
    });
    tokio::select! { biased; _ = stopped => {} moved = moving => panic!("{moved:?}") }
}

/// Moves it, and is interrupted after each chunk.
async fn move_with_interruptions(from: &Place, to: &Place) -> (Moved, usize) {
    for interruptions in 0.. {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (mut stop, mut chunks) = (Some(stop), 0);
        let moving = transfer::run(from, to, FEW, |_| {
            chunks += 1;
            if chunks == 3 {
                drop(stop.take());
            }
        });
        tokio::select! {
            biased;
            _ = stopped => {}
            moved = moving => return (moved.expect("it works"), interruptions),
        }
    }
    unreachable!("there is always another attempt")
}

#[tokio::test]
async fn a_shop_that_moves_to_postgres_and_back_is_the_same() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    let before = shop(old, clock).await;
    let moved = transfer::run(&file(old), &database(&server), FEW, |_| {}).await.expect("it works");
    assert_eq!((moved.items, moved.holds), (3, 11));
    let back = transfer::run(&database(&server), &file(new), FEW, |_| {}).await.expect("it works");
    assert_eq!(back, moved);
    let ledger = open(new, clock);
    assert_eq!(shown(&ledger).await, before);
    // Keys have come along, and new items and movements get new numbers.
    assert_eq!(apply(&ledger, 3, vec![ask::keyed("here", ask::receive("CAP", 5))]).await, 1);
    assert_eq!(shown(&ledger).await, before);
    assert_eq!(apply(&ledger, 4, vec![ask::create("TIE", 5), ask::confirm(4)]).await, 2);
    assert!(ledger.verify().await.expect("it works").is_clean());
}

#[tokio::test]
async fn what_was_moved_to_postgres_is_shown_and_sold_there() {
    let Ends { clock, old, .. } = &Ends::default();
    let server = PostgresServer::start();
    let before = shop(old, clock).await;
    transfer::run(&file(old), &database(&server), FEW, |_| {}).await.expect("it works");
    let options =
        PostgresOptions { clock: Some(Arc::new(clock.clone())), ..PostgresOptions::default() };
    let ledger = PostgresLedger::connect(&server.url(), options).await.expect("it works");
    assert_eq!(shown(&ledger).await, before);
    assert_eq!(apply(&ledger, 3, vec![ask::keyed("here", ask::receive("CAP", 5))]).await, 1);
    assert_eq!(shown(&ledger).await, before);
    let more = vec![ask::create("TIE", 5), ask::receive("MUG", 1), ask::confirm(4)];
    let more = more.into_iter().map(|command| ask::keyed(command.action.verb(), command));
    assert_eq!(apply(&ledger, 4, more.collect()).await, 3);
    assert!(ledger.verify().await.expect("it works").is_clean());
}

#[tokio::test]
async fn a_move_that_is_interrupted_goes_on_where_it_was() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    let before = shop(old, clock).await;
    let (moved, interruptions) = move_with_interruptions(&file(old), &database(&server)).await;
    assert_eq!(moved.holds, 11);
    assert!(interruptions > 3, "{interruptions}");
    let (_, interruptions) = move_with_interruptions(&database(&server), &file(new)).await;
    assert!(interruptions > 3, "{interruptions}");
    assert_eq!(shown(&open(new, clock)).await, before);
}

#[tokio::test]
async fn neither_end_is_served_while_a_shop_moves() {
    let Ends { clock, old, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    let (from, to) = (file(old), database(&server));
    begin_move(&from, &to, 4).await;
    let refused = SqliteLedger::open(old, SqliteOptions::default()).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Invalid);
    assert!(refused.message.contains("is moving to postgres://"), "{refused}");
    let options = PostgresOptions::default();
    let refused = PostgresLedger::connect(&server.url(), options).await.unwrap_err();
    assert!(refused.message.contains("migrate-ledger --from 'sqlite:/"), "{refused}");
    transfer::run(&from, &to, FEW, |_| {}).await.expect("it works");
    let refused = SqliteLedger::open(old, SqliteOptions::default()).unwrap_err();
    assert!(refused.message.contains("has moved to postgres://"), "{refused}");
}

/// What is known of the ledger as a whole: when it was last alive, and its graces.
#[tokio::test]
async fn the_marks_of_the_clock_move_with_the_shop() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    clock.advance(20 * SECOND);
    // An outage that may still spare a hold.
    let ledger = open(old, clock);
    apply(&ledger, 3, vec![ask::create("TIE", 5)]).await;
    ledger.close().await.expect("it works");
    let marks = |path: &Path| {
        let conn = rusqlite::Connection::open(path).expect("it works");
        let alive = "SELECT alive_at FROM ledger";
        let graces = "SELECT group_concat(from_at || ',' || to_at || ',' || until_at) FROM grace";
        let read = |read| conn.query_row(read, [], |row| row.get::<_, rusqlite::types::Value>(0));
        [alive, graces].map(|what| read(what).expect("it works"))
    };
    let before = marks(old);
    let [rusqlite::types::Value::Integer(alive_at), rusqlite::types::Value::Text(graces)] = &before
    else {
        panic!("{before:?}")
    };
    transfer::run(&file(old), &database(&server), FEW, |_| {}).await.expect("it works");
    let there = server.psql("SELECT alive_at, graces FROM ledger");
    assert_eq!(there, format!("{alive_at}|{{{graces}}}"));
    transfer::run(&database(&server), &file(new), FEW, |_| {}).await.expect("it works");
    assert_eq!(marks(new), before);
}

/// Whoever has waited for a lock has to see what was done until then.
#[tokio::test]
async fn a_shop_moves_whatever_isolation_the_database_is_set_to() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    server.psql("ALTER DATABASE postgres SET default_transaction_isolation = 'repeatable read'");
    let before = shop(old, clock).await;
    let (there, _) = move_with_interruptions(&file(old), &database(&server)).await;
    let (back, _) = move_with_interruptions(&database(&server), &file(new)).await;
    assert_eq!(there, back);
    assert_eq!(shown(&open(new, clock)).await, before);
}

#[tokio::test]
async fn a_server_that_is_running_writes_no_more_once_its_database_is_sealed() {
    let (folder, server) = (tempfile::tempdir().expect("it works"), PostgresServer::start());
    let running =
        PostgresLedger::connect(&server.url(), PostgresOptions::default()).await.expect("it works");
    assert_eq!(apply(&running, 1, vec![ask::create("MUG", 1)]).await, 1);
    let to = file(&folder.path().join("new.db"));
    transfer::run(&database(&server), &to, FEW, |_| {}).await.expect("it works");
    let batch = Batch { id: BatchId([2; 16]), commands: vec![ask::create("HAT", 1)], waits: false };
    let refused = running.apply(Arc::new(batch)).await.unwrap_err();
    assert!(format!("{refused:?}").contains("has moved to sqlite:/"), "{refused:?}");
}

/// Somebody seals it between the first look of a step and its locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_ledger_forgets_nothing() {
    let (server, clock) = (Arc::new(PostgresServer::start()), ManualClock::default());
    let options =
        PostgresOptions { clock: Some(Arc::new(clock.clone())), ..PostgresOptions::default() };
    let ledger = PostgresLedger::connect(&server.url(), options).await.expect("it works");
    let commands = vec![ask::create("MUG", 4), ask::place(1, &[("MUG", 1)]), ask::release(1)];
    assert_eq!(apply(&ledger, 1, commands).await, 3);
    clock.advance(2 * SECOND);
    let sealing = {
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.psql(SEAL_WHILE_SOMEBODY_WAITS))
    };
    let is_locked = "SELECT count(*) FROM pg_locks WHERE granted \
                     AND relation = 'transition'::regclass AND mode = 'AccessExclusiveLock'";
    until(20 * SECOND, "a lock", || (server.psql(is_locked) == "1").then_some(()).ok_or("none"));
    let refused = ledger.retire(SECOND, None, 10).await.unwrap_err();
    sealing.await.expect("it works");
    assert!(refused.message.contains("it has moved"), "{refused}");
    assert_eq!(server.psql("SELECT count(*) FROM hold"), "1");
    // It was the seal alone that kept the hold.
    server.psql("UPDATE ledger SET sealed = NULL");
    assert_eq!(ledger.retire(SECOND, None, 10).await.expect("it works").holds, 1);
    assert_eq!(server.psql("SELECT count(*) FROM hold"), "0");
}

const SEAL_WHILE_SOMEBODY_WAITS: &str = "BEGIN; LOCK TABLE transition IN ACCESS EXCLUSIVE MODE; \
    DO $$ BEGIN FOR attempt IN 1..4000 LOOP \
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted); PERFORM pg_sleep(0.005); \
    END LOOP; END $$; \
    UPDATE ledger SET sealed = 'it has moved'; COMMIT";
