//! `stockhold migrate-ledger`: a shop moves, and loses nothing.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
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

/// So many items that each stage has several chunks.
const MANY: usize = 2_500;

async fn fill_with_many(ledger: &str) {
    let mut server = serve(ledger);
    let items = (0..MANY).map(|n| json!({"sku": format!("SKU-{n:05}"), "on_hand": 1}).to_string());
    let items = items.collect::<Vec<_>>().join("\n");
    let mut import = stockhold(&["stock", "import", "-", "--url"]);
    import.arg(format!("http://{}", server.address())).stdin(Stdio::piped());
    let mut import = import.stdout(Stdio::null()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(items.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    assert!(server.stop().success());
}

/// Moves, and is killed when this says where the move stands: behind the second thousand movements.
fn kill_in_the_middle(from: &str, to: &str, place: impl Fn() -> String) {
    let mut moving = stockhold(&["migrate-ledger", "--from", from, "--to", to]).spawn().unwrap();
    until(SOON, "the middle of a stage", || match place() {
        place if place == "movements|2000" => Ok(()),
        place => Err(place),
    });
    moving.kill().unwrap();
    assert_eq!(moving.wait().unwrap().code(), None);
    assert_eq!(place(), "movements|2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_postgres_that_was_killed_in_the_middle_of_a_stage_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start();
    let (old, new) = (file(folder.path(), "old.db"), postgres.url());
    fill_with_many(&old).await;
    assert!(serve(&new).stop().success()); // makes the tables
    postgres.psql(
        "CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql \
            AS 'BEGIN PERFORM pg_sleep(25); RETURN NEW; END'; \
         CREATE TRIGGER stand BEFORE INSERT ON movement FOR EACH ROW WHEN (NEW.id = 2100) \
            EXECUTE FUNCTION stand()",
    );
    let place = || postgres.psql("SELECT stage, after FROM moving_in");
    kill_in_the_middle(&old, &new, place);
    postgres.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY movement%'",
    );
    postgres.psql("DROP TRIGGER stand ON movement");
    assert_eq!(postgres.psql("SELECT count(*) FROM movement"), "2000");
    expect_moved(&migrate(&old, &new));
    assert_eq!(counts(&new), counts(&old));
    assert_eq!(counts(&new)[2], 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_a_file_that_was_killed_in_the_middle_of_a_stage_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start();
    let (old, new) = (postgres.url(), file(folder.path(), "new.db"));
    fill_with_many(&old).await;
    assert!(serve(&new).stop().success()); // makes the file
    let path = folder.path().join("new.db");
    let run = |statement: &str| {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch(statement).unwrap();
    };
    run("CREATE TRIGGER stand BEFORE INSERT ON movement WHEN NEW.id = 2100 BEGIN \
            SELECT count(*) FROM (WITH RECURSIVE n (i) AS \
                (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1e10) SELECT i FROM n); END");
    let place = || {
        let conn = rusqlite::Connection::open(&path).unwrap();
        let read = "SELECT stage || '|' || after FROM moving_in";
        conn.query_row(read, [], |row| row.get(0)).unwrap_or_default()
    };
    kill_in_the_middle(&old, &new, place);
    run("DROP TRIGGER stand");
    for ledger in [&old, &new] {
        let mut serve = stockhold(&["serve", "--ledger", ledger, "--listen", "127.0.0.1:0"]);
        assert_eq!(serve.output().unwrap().status.code(), Some(1));
    }
    expect_moved(&migrate(&old, &new));
    assert_eq!(counts(&new), counts(&old));
    assert_eq!(counts(&new)[2], 2_500);
}

/// Another one's tables, used by a role that the doctor is content with.
#[tokio::test(flavor = "multi_thread")]
async fn a_shop_moves_in_by_a_role_with_the_rights_that_the_doctor_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = PostgresServer::start();
    let old = file(folder.path(), "old.db");
    let [_, active, _] = fill(&old).await;
    assert!(serve(&postgres.url()).stop().success()); // makes the tables
    postgres.psql(
        "CREATE ROLE shop LOGIN; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop",
    );
    let new = postgres.url().replace("postgres@", "shop@");
    let refused = migrate(&old, &new);
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    let advice = "GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO shop";
    assert!(words(&refused).contains(advice), "{}", words(&refused));
    assert!(serve(&old).stop().success(), "it was not sealed");
    postgres.psql(advice);
    expect_moved(&migrate(&old, &new));
    let mut server = serve(&new);
    let mut ann = Shopper::new(server.address());
    ann.confirm(&active).await.expect_status(200);
    ann.put_stock("HAT", 1).await;
    assert!(server.stop().success());
    assert_eq!(counts(&new)[0], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_be_given_up_says_what_to_do_in_stead() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (file(folder.path(), "old.db"), file(folder.path(), "new.db"));
    let give_up = |from: &str, to: &str| {
        let args = ["migrate-ledger", "--from", from, "--to", to, "--give-up"];
        stockhold(&args).output().unwrap()
    };
    let none = give_up(&old, &new);
    assert_eq!(none.status.code(), Some(1), "{}", words(&none));
    assert!(words(&none).contains("there is no ledger at sqlite:/"), "{}", words(&none));
    assert!(words(&none).contains("check the path"), "{}", words(&none));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    fill(&old).await;
    expect_moved(&migrate(&old, &new));
    let late = give_up(&old, &new);
    assert_eq!(late.status.code(), Some(1), "{}", words(&late));
    let back = format!("stockhold migrate-ledger --from '{new}' --to NEW");
    assert!(words(&late).contains(&back), "{}", words(&late));
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
