//! What the doctor finds of a ledger in use, or of a place that is none.

use stockhold_testkit::{PgBouncer, PostgresServer};

use super::{doctor, refusal, start};
use crate::shop::{Shop, stockhold};

#[test]
fn what_a_pooler_sets_is_in_force_and_found() {
    let postgres = PostgresServer::start();
    let pooler = |first| PgBouncer::start_with(&postgres, 2, first);
    let well = pooler("SELECT 1");
    assert_eq!(doctor(&postgres.url_at(well.address())).complaints(), []);
    drop(well);
    let unsafe_one = pooler("SET synchronous_commit=off");
    let url = postgres.url_at(unsafe_one.address());
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("commit", "bad")]));
    assert!(looked.next("commit").contains("a pooler"), "{looked:?}");
    assert!(refusal(&url).contains("synchronous_commit = off"));
}

#[test]
fn tables_of_another_program_are_left_alone() {
    let postgres = PostgresServer::start();
    postgres.psql("CREATE TABLE stock (name text); CREATE TABLE hold (name text)");
    let url = postgres.url();
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("tables", "bad")]));
    assert_eq!(looked.found("tables"), "another program's tables are here: hold, stock");
    assert!(looked.next("tables").contains("createdb --owner postgres NAME"), "{looked:?}");
    assert!(refusal(&url).contains("another program's tables are here"));
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "2");
}

/// To such a role Postgres does not tell what other sessions do.
#[test]
fn an_ordinary_role_sees_how_many_connections_are_in_use() {
    let postgres = PostgresServer::start();
    postgres.psql("CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop");
    let _instance = start(&postgres.url(), |command| command);
    let url = postgres.url().replace("postgres@", "shop@");
    let looked = doctor(&url);
    let words = looked.found("connections").split(' ').collect::<Vec<_>>();
    let (most, used) = (words[0].parse::<i64>().unwrap(), words[3].parse::<i64>().unwrap());
    assert!(most > 8 && (1..20).contains(&used), "{looked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_sealed_is_bad_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(1);
    shop.stock("MUG", 5).await;
    let [new, newer] =
        ["new.db", "newer.db"].map(|name| format!("sqlite:{}", folder.path().join(name).display()));
    let migrate = |from: &str, to: &str| {
        let moved = stockhold(&["migrate-ledger", "--from", from, "--to", to]).output().unwrap();
        assert_eq!(moved.status.code(), Some(0), "{moved:?}");
    };
    migrate(&shop.url, &new);
    shop.instances.clear();
    migrate(&new, &newer);
    for (url, to) in [(&shop.url, &new), (&new, &newer)] {
        let looked = doctor(url);
        assert_eq!(looked.code, Some(1), "{looked:?}");
        let why = format!("this shop has moved to {to}: start the server with --ledger '{to}'");
        assert_eq!(looked.found("sealed"), why);
        assert!(looked.next("sealed").contains("no server starts"), "{looked:?}");
    }
}
