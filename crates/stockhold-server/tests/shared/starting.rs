//! How instances begin: together, on an empty database, and told in one of three ways where it is.

use std::{process::Command, thread, time::Duration};

use serde_json::json;
use stockhold_testkit::{PostgresServer, until};

use crate::shop::{Shop, stockhold};

const SOON: Duration = Duration::from_secs(20);
/// The lock of migrations: `stockhol` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'73746f636b686f6c'::bigint)";

/// So many more instances, all started at once.
fn join_at_once(shop: &mut Shop, instances: usize) {
    let empty: &Shop = shop;
    let more = thread::scope(|scope| {
        let started = (0..instances).map(|_| scope.spawn(|| empty.instance(|_| ())));
        let started = started.collect::<Vec<_>>();
        started.into_iter().map(|instance| instance.join().unwrap()).collect::<Vec<_>>()
    });
    shop.instances.extend(more);
}

fn errors(shop: &Shop) -> Vec<String> {
    let log = shop.postgres.log();
    let errors =
        log.lines().filter(|line| ["ERROR", "FATAL", "PANIC"].iter().any(|e| line.contains(e)));
    // The test itself asks whether the server is up before it is.
    errors.filter(|line| !line.contains("starting up")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_that_start_at_once_on_an_empty_database_are_all_ready() {
    let mut shop = Shop::open(0);
    join_at_once(&mut shop, 10);
    for n in 0..10 {
        assert_eq!(shop.keeper(n).get("/readyz").await.status(), 200);
    }
    shop.stock("MUG", 10).await;
    for n in 0..10 {
        let hold = shop.keeper(n).place(&format!("buyer-{n}"), &[("MUG", 1)], SOON).await.id();
        shop.keeper(n + 1).confirm(&hold).await.expect_status(200);
    }
    assert_eq!(shop.units(3, "MUG").await, [10, 0, 10, 0]);
    assert_eq!(shop.sql("SELECT version FROM stockhold_schema"), "2");
    assert_eq!(errors(&shop), [""; 0], "one of them makes the tables, the others wait for it");
    shop.expect_sound();
}

/// Waits for as long as the migration of another instance may take, which is longer than Postgres
/// has for anything else.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_waits_for_another_one_that_migrates() {
    let mut shop = Shop::open(0);
    let migration = format!("{LOCK}; SELECT pg_sleep(5.5)");
    thread::scope(|scope| {
        let other = scope.spawn(|| shop.sql(&migration));
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        until(SOON, "a migration", || (shop.count(held) == 1).then_some(()).ok_or("none"));
        let waiting = scope.spawn(|| shop.instance(|_| ()));
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        until(SOON, "a waiting one", || (shop.count(waits) == 1).then_some(()).ok_or("none"));
        other.join().unwrap();
        waiting.join().unwrap();
    });
    shop.join(|_| ());
    shop.stock("MUG", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_does_to_stock_every_other_sees_on_its_next_read() {
    let shop = Shop::open(3);
    let mut keepers = [shop.keeper(0), shop.keeper(1), shop.keeper(2)];
    keepers[0].put_stock("MUG", 5).await;
    let adjustments = "/v1/stock/MUG/adjustments";
    for (n, change, on_hand) in [
        (0, json!({"delta": 3, "reason": "found"}), 8),
        (1, json!({"count": 6, "reason": "counted"}), 6),
        (2, json!({"receive": 4}), 10),
    ] {
        let key = format!("change-{n}");
        keepers[n].post(adjustments, &change, Some(&key)).await.expect_status(201);
        for keeper in &mut keepers {
            let item = keeper.get("/v1/stock/MUG").await.expect_status(200);
            assert_eq!(item["on_hand"], on_hand, "{change}");
        }
    }
    let hold = keepers[0].place("ann", &[("MUG", 7)], SOON).await.id();
    for n in 0..3 {
        assert_eq!(shop.units(n, "MUG").await, [10, 7, 0, 3]);
    }
    keepers[1].release(&hold).await.expect_status(200);
    for n in 0..3 {
        assert_eq!(shop.units(n, "MUG").await, [10, 0, 0, 10]);
        let listed = shop.keeper(n).get("/v1/stock?prefix=MU").await.expect_status(200);
        assert_eq!(listed["items"][0]["available"], 10);
        let moved = shop.keeper(n).get("/v1/movements?sku=MUG").await.expect_status(200);
        assert_eq!(moved["items"].as_array().unwrap().len(), 4);
    }
    shop.expect_sound();
}

/// Without a ledger by flag, and with a file that is wrong about it, unless something goes before it.
fn by(set_up: impl FnOnce(&mut Command) -> &mut Command) -> Command {
    let mut command = stockhold(&["serve", "--listen", "127.0.0.1:0"]);
    set_up(&mut command);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_named_by_a_flag_by_a_file_or_by_the_environment() {
    let mut shop = Shop::open(0);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, ledger: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("[ledger]\nurl = \"{ledger}\"\n")).unwrap();
        path
    };
    let (right, wrong) = (file("right.toml", &shop.url), file("wrong.toml", "memory:"));
    let commands = [
        by(|c| c.args(["--ledger", &shop.url]).env("STOCKHOLD_LEDGER", "memory:")),
        by(|c| c.arg("--config").arg(&right)),
        by(|c| c.env("STOCKHOLD_CONFIG", &right)),
        by(|c| c.arg("--config").arg(&wrong).env("STOCKHOLD_LEDGER", &shop.url)),
        by(|c| c.arg("--config").arg(&wrong).env("STOCKHOLD_LEDGER_URL", &shop.url)),
    ];
    for command in &commands {
        shop.instances.push(stockhold_testkit::ServerProcess::start(command));
    }
    shop.stock("MUG", 2).await;
    for (n, instance) in shop.instances.iter().enumerate() {
        assert!(instance.line().ends_with(&format!("(ledger {})\n", shop.url)));
        assert_eq!(shop.units(n, "MUG").await, [2, 0, 0, 2]);
    }
    let verified = stockhold(&["verify"]).env("STOCKHOLD_LEDGER", &shop.url).output().unwrap();
    assert_eq!(verified.status.code(), Some(0));
}

/// Nobody sees a password in the line, the log or the list of processes.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_comes_from_a_file_or_from_the_environment_and_is_shown_nowhere() {
    let postgres = PostgresServer::set_up().with_access("host all all 127.0.0.1/32 scram-sha-256");
    let postgres = postgres.start();
    postgres
        .psql("CREATE ROLE shop LOGIN PASSWORD 's3cr3t'; GRANT CREATE ON SCHEMA public TO shop");
    let address = postgres.address().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cr3t\n").unwrap();
    let mut shop = Shop::open_on(postgres, 0);
    shop.url = format!("postgres://shop@{address}/postgres?passwordfile={}", file.path().display());
    shop.join(|_| ());
    shop.url = format!("postgres://shop@{address}/postgres");
    shop.join(|command| {
        command.env("PGPASSWORD", "s3cr3t");
    });
    shop.url = format!("postgres://shop:s3cr3t@{address}/postgres");
    shop.join(|command| {
        command.args(["--log", "debug"]);
    });
    for (n, instance) in shop.instances.iter().enumerate() {
        assert_eq!(shop.keeper(n).get("/readyz").await.status(), 200);
        let said = instance.line().to_owned() + &instance.log();
        assert!(said.contains("ledger postgres://shop") && !said.contains("s3cr3t"), "{said}");
    }
    let wrong =
        stockhold(&["verify", "--ledger", &format!("postgres://shop:wr0ng@{address}/postgres")]);
    let wrong = { wrong }.output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("Postgres refuses this user or password"), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
}
