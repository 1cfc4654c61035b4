//! `verify` and `doctor` of a Postgres ledger, and which one `serve` does not start with.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use stockhold_testkit::{
    ClockShim, PostgresServer, ServerProcess, postgres::Replication, process, until,
};

use crate::shop::{Shop, stockhold};

mod found;
mod rights;

const SOON: Duration = Duration::from_secs(20);

/// What the doctor says.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) code: Option<i32>,
    checks: Vec<Value>,
}

pub(crate) fn doctor(url: &str) -> Looked {
    let output = stockhold(&["doctor", "--json", "--ledger", url]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = output.status.code();
    assert_eq!(report["ok"] == true, code == Some(0), "{report}");
    Looked { code, checks: report["checks"].as_array().unwrap().clone() }
}

impl Looked {
    /// What is not well of Postgres, whatever this machine is like.
    pub(crate) fn complaints(&self) -> Vec<(&str, &str)> {
        let ours = |name: &str| matches!(name, "version" | "settings" | "clock" | "open files");
        let checks = self.checks.iter();
        let checks = checks.map(|c| (c["name"].as_str().unwrap(), c["verdict"].as_str().unwrap()));
        checks.filter(|(name, verdict)| !ours(name) && *verdict != "ok").collect()
    }

    pub(crate) fn found(&self, name: &str) -> &str {
        self.of(name)["found"].as_str().unwrap()
    }

    /// What to do about it.
    #[track_caller]
    pub(crate) fn next(&self, name: &str) -> &str {
        self.of(name)["next"].as_str().unwrap()
    }

    fn of(&self, name: &str) -> &Value {
        self.checks.iter().find(|check| check["name"] == name).unwrap()
    }
}

/// Why `serve` does not start.
#[track_caller]
pub(crate) fn refusal(url: &str) -> String {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ledger", url];
    let program = ["--signal=KILL", "20", env!("CARGO_BIN_EXE_stockhold")];
    let ended = process::command(Path::new("timeout"), &[&program[..], &serve].concat());
    let ended = { ended }.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(1), &b""[..]), "{said}");
    said
}

/// An instance that was told to start nevertheless.
fn start_anyway(url: &str) -> ServerProcess {
    start(url, |command| command.env("STOCKHOLD_LEDGER_ALLOW_UNSAFE", "true"))
}

pub(crate) fn start(url: &str, set_up: impl FnOnce(&mut Command) -> &mut Command) -> ServerProcess {
    let mut command = stockhold(&["serve", "--listen", "127.0.0.1:0", "--ledger", url]);
    set_up(&mut command);
    ServerProcess::start(&command)
}

pub(crate) fn verify(url: &str, more: &[&str]) -> Output {
    stockhold(&["verify", "--ledger", url]).args(more).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_is_verified_by_its_url_while_instances_are_at_work() {
    let shop = Shop::open(2);
    shop.stock("MUG", 5).await;
    shop.keeper(1).place("ann", &[("MUG", 2)], SOON).await.id();
    let clean = verify(&shop.url, &[]);
    let said = String::from_utf8(clean.stdout).unwrap();
    let expected = "1 items, 1 holds, 1 movements\nclean: no invariant is broken\n";
    assert_eq!((clean.status.code(), &*said), (Some(0), expected));

    shop.sql("UPDATE stock SET held = 3");
    let broken = verify(&shop.url, &["--json"]);
    let report: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!((broken.status.code(), &report["clean"]), (Some(5), &false.into()));
    assert_eq!(report["violations"][0]["invariant"], "I2", "{report}");
}

#[test]
fn a_database_without_a_ledger_is_none_to_verify() {
    let postgres = PostgresServer::start();
    let none = verify(&postgres.url(), &[]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no ledger in this database: a server makes"), "{said}");
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
fn the_doctor_is_content_before_and_after_the_first_start() {
    let postgres = PostgresServer::start();
    let before = doctor(&postgres.url());
    assert_eq!((before.code, before.complaints()), (Some(0), vec![]), "{before:?}");
    assert!(before.found("postgres").ends_with("schema not there yet"), "{before:?}");
    let _instance = start(&postgres.url(), |command| command);
    let after = doctor(&postgres.url());
    assert_eq!((after.code, after.complaints()), (Some(0), vec![]), "{after:?}");
    assert!(after.found("postgres").ends_with("schema 2"), "{after:?}");
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_look_at() {
    let postgres = PostgresServer::set_up().with_tcp().start();
    let looked = doctor(&postgres.url_of("missing"));
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("postgres", "bad")]));
    let found = "there is no such database: make it (createdb --owner ROLE NAME)";
    assert!(looked.found("postgres").starts_with(found), "{looked:?}");
    assert!(looked.next("postgres").starts_with("createdb"), "{looked:?}");
    let address = postgres.address().unwrap();
    drop(postgres);
    let looked = doctor(&format!("postgres://postgres@{address}/postgres"));
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("postgres", "bad")]));
    assert!(looked.next("postgres").contains("is Postgres started"), "{looked:?}");
}

/// Wherever it is set, it is in force for a batch, and the same cure helps.
#[test]
fn synchronous_commit_off_is_named_and_not_started_with_wherever_it_is_set() {
    let mut postgres = PostgresServer::start();
    let url = postgres.url();
    let unsafe_ones = |postgres: &PostgresServer, where_: &str| {
        let looked = doctor(&url);
        assert_eq!(
            (looked.code, looked.complaints()),
            (Some(1), vec![("commit", "bad")]),
            "{where_}"
        );
        let cure = "set synchronous_commit = on for this role and database (ALTER ROLE ... SET)";
        assert!(looked.next("commit").starts_with(cure), "{looked:?}");
        let refused = refusal(&url);
        assert!(
            refused.contains("synchronous_commit = off") && refused.contains(cure),
            "{refused}"
        );

        postgres.psql("ALTER ROLE postgres IN DATABASE postgres SET synchronous_commit = on");
        assert_eq!(doctor(&url).complaints(), [], "{where_}");
        postgres.psql("ALTER ROLE postgres IN DATABASE postgres RESET synchronous_commit");
    };
    for place in ["ROLE postgres", "DATABASE postgres"] {
        postgres.psql(&format!("ALTER {place} SET synchronous_commit = off"));
        unsafe_ones(&postgres, place);
        postgres.psql(&format!("ALTER {place} RESET synchronous_commit"));
    }
    postgres.reload_with("synchronous_commit", "off");
    unsafe_ones(&postgres, "postgresql.conf");
    let anyway = start_anyway(&url);
    let told = "Postgres is not as it should be";
    assert!(anyway.log().contains(told), "{}", anyway.log());
    postgres.reload_with("synchronous_commit", "on");
    let by_url = format!("{url}&options=-csynchronous_commit%3Doff");
    assert_eq!(doctor(&by_url).complaints(), [("commit", "bad")]);
    assert!(refusal(&by_url).contains("synchronous_commit = off"));
}

#[test]
fn fsync_off_is_named_and_not_started_with_and_torn_pages_are_a_warning() {
    let mut postgres = PostgresServer::set_up().with("fsync", "off").start();
    let url = postgres.url();
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("fsync", "bad")]));
    assert!(looked.next("fsync").starts_with("set fsync = on in postgresql.conf"), "{looked:?}");
    assert!(refusal(&url).contains("fsync: off: a power cut destroys the database"));
    assert!(start_anyway(&url).log().contains("a power cut destroys"), "it says so");

    postgres.reload_with("fsync", "on");
    postgres.reload_with("full_page_writes", "off");
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(0), vec![("full pages", "warn")]));
    assert!(looked.next("full pages").starts_with("set full_page_writes = on"), "{looked:?}");
    let started = start(&url, |command| command);
    assert!(started.log().contains("a power cut can tear a page"), "{}", started.log());

    postgres.reload_with("full_page_writes", "on");
    assert_eq!(doctor(&url).complaints(), []);
    assert_eq!(start(&url, |command| command).log(), "");
}

#[test]
fn a_database_that_is_read_only_is_not_started_with() {
    let postgres = PostgresServer::start();
    let url = postgres.url();
    postgres.psql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("writing", "bad")]));
    let next = "set default_transaction_read_only = off for this role and database";
    assert_eq!(looked.next("writing"), next);
    assert!(refusal(&url).contains(next));
}

#[test]
fn a_role_with_fewer_connections_than_an_instance_takes_is_named() {
    let postgres = PostgresServer::start();
    postgres
        .psql("CREATE ROLE shop LOGIN CONNECTION LIMIT 5; GRANT CREATE ON SCHEMA public TO shop");
    let url = postgres.url().replace("postgres@", "shop@");
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("connections", "bad")]));
    let found = looked.found("connections");
    assert!(found.starts_with("5 at most") && found.ends_with("takes up to 8"), "{found}");
    assert!(refusal(&url).contains("or lower ledger.connections"));
    drop(start(&url, |command| command.env("STOCKHOLD_LEDGER_CONNECTIONS", "5")));
    postgres
        .psql("ALTER ROLE shop CONNECTION LIMIT -1; ALTER DATABASE postgres CONNECTION LIMIT 7");
    assert_eq!(doctor(&url).complaints(), [("connections", "bad")]);
}

#[test]
fn a_clock_of_postgres_that_differs_is_a_warning_and_one_that_cannot_be_right_is_refused() {
    let clock = ClockShim::new();
    let mut set_up = PostgresServer::set_up();
    for (name, value) in clock.variables() {
        set_up = set_up.with_variable(name, value);
    }
    let postgres = set_up.start();
    let url = postgres.url();
    assert_eq!(doctor(&url).complaints(), []);
    clock.set_ahead(Duration::from_secs(3_600));
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(0), vec![("postgres clock", "warn")]));
    let ahead = looked.found("postgres clock").split(' ').next().unwrap().parse::<i64>().unwrap();
    assert!((3_599_000..3_601_000).contains(&ahead), "{looked:?}");
    assert!(looked.next("postgres clock").starts_with("let NTP set both clocks"), "{looked:?}");
    drop(start(&url, |command| command));
    clock.set_behind(Duration::from_secs(20 * 365 * 86_400));
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("postgres clock", "bad")]));
    assert!(refusal(&url).contains("set the clock of the machine of Postgres"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_standby_can_be_verified_and_not_served_and_one_that_lags_is_a_warning() {
    let mut primary = PostgresServer::set_up().with_tcp().start();
    let standby = PostgresServer::standby_of(&mut primary, Replication::Asynchronous);
    let mut shop = Shop::open_on(primary, 1);
    shop.stock("MUG", 5).await;

    let looked = doctor(&shop.url);
    assert_eq!((looked.code, looked.complaints()), (Some(0), vec![("standby", "warn")]));
    assert!(looked.found("standby").contains("(async): no commit waits for any"), "{looked:?}");
    let next = looked.next("standby").to_owned();
    assert!(next.contains("synchronous_standby_names"), "{next}");
    let log = shop.instances[0].log();
    assert!(log.contains("no commit waits for any") && log.contains(&next), "{log}");

    let url = standby.url();
    until(SOON, "a standby that has the stock", || match verify(&url, &[]) {
        report if report.status.success() && report.stdout.starts_with(b"1 items") => Ok(()),
        report => Err(format!("{report:?}")),
    });
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("writing", "bad")]));
    assert_eq!(looked.found("writing"), "this is a standby");
    assert!(looked.next("writing").starts_with("connect to the primary: name all hosts"));
    assert!(refusal(&url).contains("this is a standby"));

    // As the advice says.
    let [first, second] = [&standby, &shop.postgres].map(|server| server.address().unwrap());
    let both = format!("postgres://postgres@{first},{second}/postgres");
    let looked = doctor(&both);
    assert_eq!((looked.code, looked.complaints()), (Some(0), vec![("standby", "warn")]));
    assert!(looked.found("postgres").contains(&format!("on {second}, ")), "{looked:?}");
    let looked = doctor(&format!("{both}?target_session_attrs=any"));
    assert_eq!(looked.complaints(), [("hosts", "warn"), ("writing", "bad")]);
    assert!(looked.found("postgres").contains(&format!("on {first}, ")), "{looked:?}");
    shop.url = format!("{both}?target_session_attrs=read-write");
    shop.join(|_| ());
    assert_eq!(shop.units(1, "MUG").await, [5, 0, 0, 5]);
    shop.postgres.reload_with("synchronous_standby_names", "*");
    let url = shop.postgres.url();
    until(SOON, "a standby that commits wait for", || match doctor(&url).complaints()[..] {
        [] => Ok(()),
        ref others => Err(format!("{others:?}")),
    });
    assert!(doctor(&url).found("standby").ends_with("(sync)"));
}
