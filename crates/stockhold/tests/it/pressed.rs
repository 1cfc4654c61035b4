//! The Postgres ledger where something presses: a server that is away, full or set otherwise, rows that
//! are locked or gone, more to do than fits into one go.

use std::{sync::Arc, time::Duration};

use stockhold::{
    Engine, Error, FailureKind, Limits, PlaceRequest, Settings,
    clock::{Clock, SystemClock},
    conformance::{Fixture, ask},
    ledger::{
        Batch, BatchId, Ledger,
        postgres::{PostgresLedger, PostgresOptions},
    },
};
use stockhold_core::{Command, HoldState, Outcome};
use stockhold_testkit::PostgresServer;
use tokio::{task::JoinSet, time::timeout};

use crate::{fixture::Postgres, shop::SECOND};

async fn connect(server: &PostgresServer) -> Arc<PostgresLedger> {
    connect_with(server, PostgresOptions::default()).await
}

async fn connect_with(server: &PostgresServer, options: PostgresOptions) -> Arc<PostgresLedger> {
    let ledger = PostgresLedger::connect(&server.url(), options).await;
    Arc::new(ledger.expect("it connects"))
}

fn batch(n: u128, commands: Vec<Command>) -> Arc<Batch> {
    Arc::new(Batch { id: BatchId(n.to_be_bytes()), commands, waits: false })
}

/// Applies commands, none of which is refused.
async fn apply(ledger: &dyn Ledger, n: u128, commands: Vec<Command>) -> Vec<Outcome> {
    let applied = ledger.apply(batch(n, commands)).await.expect("applied");
    applied.answers.into_iter().map(|answer| answer.expect("not refused")).collect()
}

/// Asks until there is an answer, for so long at most.
async fn answers_within(ledger: &PostgresLedger, limit: Duration) -> bool {
    let until = SystemClock.boot() + limit;
    while SystemClock.boot() < until {
        if ledger.stock(&ask::item("MUG")).await.is_ok() {
            return true;
        }
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn who_stops_waiting_while_postgres_is_away_locks_nobody_out() {
    let mut server = PostgresServer::start();
    let ledger = connect(&server).await;
    server.kill();
    // The first finds its connection lost, the next ones that there is no server.
    for _ in 0..3 {
        assert!(ledger.stock(&ask::item("MUG")).await.is_err(), "the server is gone");
    }
    server.restart();
    server.pause();
    // One of them is the one that looks whether the server is back, and stops waiting for it.
    for _ in 0..10 {
        let gave_up = timeout(Duration::from_millis(100), ledger.stock(&ask::item("MUG"))).await;
        assert!(!matches!(gave_up, Ok(Ok(_))), "the server stands still");
    }
    server.resume();
    assert!(answers_within(&ledger, Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_server_without_room_for_another_connection_is_used_with_those_that_are_there() {
    let server = PostgresServer::set_up()
        .with("max_connections", 4)
        .with("superuser_reserved_connections", 0)
        .with("max_wal_senders", 0)
        .start();
    // Fewer than an instance may take: the doctor does not let it pass.
    let options = PostgresOptions { allow_unsafe: true, ..PostgresOptions::default() };
    let ledger = connect_with(&server, options).await;
    let mut readers = JoinSet::new();
    for _ in 0..200 {
        let ledger = Arc::clone(&ledger);
        readers.spawn(async move { ledger.stock(&ask::item("MUG")).await });
    }
    while let Some(answer) = readers.join_next().await {
        answer.expect("it ends").expect("it is answered");
    }
    assert!(server.log().contains("too many clients"), "there was room: {}", server.log());
}

#[tokio::test]
async fn whatever_isolation_a_database_has_batches_wait_for_each_other() {
    let server = PostgresServer::start();
    server.psql("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
    let ledgers = [connect(&server).await, connect(&server).await];
    apply(&*ledgers[0], 1, vec![ask::create("MUG", 1_000)]).await;
    let mut batches = JoinSet::new();
    for n in 0..100_u64 {
        let ledger = Arc::clone(&ledgers[usize::from(n % 2 == 0)]);
        let commands = vec![ask::place(n, &[("MUG", 1)])];
        batches.spawn(async move { ledger.apply(batch(u128::from(n) + 10, commands)).await });
    }
    while let Some(applied) = batches.join_next().await {
        assert_eq!(applied.expect("it ends").expect("applied").races, 0);
    }
}

#[tokio::test]
async fn a_session_in_which_commits_are_not_synced_answers_nothing() {
    let server = PostgresServer::start();
    let ledger = connect(&server).await;
    apply(&*ledger, 1, vec![ask::create("MUG", 10)]).await;
    server.psql("ALTER DATABASE postgres SET synchronous_commit = off");
    server.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE pid <> pg_backend_pid() AND datname = 'postgres'",
    );
    let place = || batch(2, vec![ask::place(1, &[("MUG", 1)])]);
    let mut refused = ledger.apply(place()).await;
    for _ in 0..3 {
        // The first ones find out that their connections are gone.
        refused = ledger.apply(place()).await;
    }
    let failure = format!("{:?}", refused.expect_err("it is not synced"));
    assert!(failure.contains("synchronous_commit is off"), "{failure}");
}

#[tokio::test]
async fn an_item_that_was_made_anew_by_hand_is_found_under_its_new_number() {
    let fixture = Postgres::default();
    let ledger = fixture.open(Limits::default()).await;
    let place = |n| vec![ask::place(n, &[("MUG", 1), ("TEE", 1)])];
    apply(&*ledger, 1, vec![ask::create("MUG", 10), ask::create("TEE", 10)]).await;
    apply(&*ledger, 2, place(1)).await;
    // The numbers of the two change places.
    fixture.sql("UPDATE stock SET sku = CASE sku WHEN 'MUG' THEN 'tee' ELSE 'mug' END");
    fixture.sql("UPDATE stock SET sku = upper(sku)");
    apply(&*ledger, 3, vec![ask::keyed("five", ask::receive("MUG", 5))]).await;
    apply(&*ledger, 4, place(2)).await;
    let mugs = ledger.stock(&ask::item("MUG")).await.expect("answered").expect("it is there");
    assert_eq!(mugs.item.on_hand, ask::units(15));
}

#[tokio::test]
async fn all_old_batches_and_keys_go_in_one_pass_however_many_there_are() {
    let fixture = Postgres::default();
    let ledger = fixture.open(Limits::default()).await;
    apply(&*ledger, 1, vec![ask::create("MUG", 10)]).await;
    fixture.sql(
        "INSERT INTO batch SELECT (lpad(to_hex(n + 1000), 32, '0'))::uuid, 0 \
            FROM generate_series(1, 5000) AS n; \
         INSERT INTO idempotency SELECT gen_random_uuid(), gen_random_uuid(), NULL, n, 0 \
            FROM generate_series(1, 5000) AS n",
    );
    let day = Duration::from_secs(24 * 60 * 60);
    fixture.clock().advance(3 * day);
    let (mut after, mut steps) = (None, 0);
    loop {
        let retired = ledger.retire(day, after, 100).await.expect("a step");
        (after, steps) = (retired.next, steps + 1);
        if after.is_none() || steps == 100 {
            break;
        }
    }
    let left = "SELECT (SELECT count(*) FROM batch WHERE at = 0), \
                       (SELECT count(*) FROM idempotency WHERE at = 0)";
    assert_eq!(fixture.sql(left), "0|0", "after {steps} steps");
}

#[tokio::test]
async fn late_payers_of_one_batch_are_all_given_what_has_died_meanwhile() {
    let fixture = Postgres::default();
    let ledger = fixture.open(Limits::default()).await;
    apply(&*ledger, 1, vec![ask::create("MUG", 300)]).await;
    apply(&*ledger, 2, (0..300).map(|n| ask::place(n, &[("MUG", 1)])).collect()).await;
    pass(&fixture, &*ledger, 31).await;
    apply(&*ledger, 3, (0..300).map(ask::expire).collect()).await;
    // Others take all of it, and their holds die as well.
    apply(&*ledger, 4, (300..600).map(|n| ask::place(n, &[("MUG", 1)])).collect()).await;
    pass(&fixture, &*ledger, 31).await;
    let reheld = apply(&*ledger, 5, (0..300).map(ask::rehold).collect()).await;
    let is_confirmed = |outcome: &Outcome| matches!(outcome, Outcome::Settled(done) if done.hold.hold.state == HoldState::Confirmed);
    assert_eq!(reheld.iter().filter(|outcome| is_confirmed(outcome)).count(), 300);
    assert!(ledger.verify().await.expect("answered").is_clean());
}

/// Lets time pass with signs of life, so that it is no outage.
async fn pass(fixture: &Postgres, ledger: &dyn Ledger, seconds: u32) {
    for _ in 0..seconds {
        fixture.clock().advance(SECOND);
        ledger.apply(batch(0, vec![])).await.expect("applied");
    }
}

/// Callers come all the time, and the row stays locked: none waits for longer than its deadline, and
/// who wants something else does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_a_row_that_stays_locked_are_told_in_time() {
    const DEADLINE: Duration = Duration::from_secs(1);
    let server = Arc::new(PostgresServer::start());
    let ledger = connect(&server).await;
    apply(&*ledger, 1, vec![ask::create("STUCK", 9_999), ask::create("MUG", 9_999)]).await;
    let settings = Settings { command_deadline: DEADLINE, ..Settings::default() };
    let engine = Engine::builder(ledger).settings(settings).start().expect("it starts");
    let locked = Arc::clone(&server);
    let holder = tokio::task::spawn_blocking(move || {
        locked.psql("BEGIN; SELECT FROM stock WHERE sku = 'STUCK' FOR UPDATE; SELECT pg_sleep(60)")
    });
    while engine_gets(&engine, "STUCK").await {}
    let mut callers = JoinSet::new();
    for _ in 0..400 {
        for sku in ["STUCK", "MUG"] {
            callers.spawn(place_one(engine.clone(), sku));
        }
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    let (mut told, mut longest) = (0, Duration::ZERO);
    while let Some(answer) = callers.join_next().await {
        let (sku, answer, took) = answer.expect("it ends");
        match answer {
            Ok(()) => assert_eq!(sku, "MUG"),
            Err(Error::Failed(failure)) => {
                assert_eq!((sku, failure.kind), ("STUCK", FailureKind::Unavailable), "{failure}");
                told += 1;
            }
            Err(no) => panic!("{no}"),
        }
        longest = longest.max(took);
    }
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN%sleep(60)'";
    assert_eq!(server.psql(end), "t", "it was locked all the time");
    holder.await.expect_err("it was ended");
    assert_eq!(told, 400);
    assert!(longest < DEADLINE + Duration::from_millis(500), "{longest:?}");
}

/// Whether a unit can be had.
async fn engine_gets(engine: &Engine, sku: &'static str) -> bool {
    place_one(engine.clone(), sku).await.1.is_ok()
}

async fn place_one(
    engine: Engine,
    sku: &'static str,
) -> (&'static str, Result<(), Error>, Duration) {
    let owner = "ann".parse().expect("a name");
    let since = SystemClock.boot();
    let answer = engine.place(PlaceRequest::new(owner, ask::basket(&[(sku, 1)]))).await;
    (sku, answer.map(drop), SystemClock.boot() - since)
}
