//! A ledger is copied while it is in use.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stockhold::{
    EngineBuilder, FailureKind, HoldId,
    conformance::{Fixture, ask},
    ledger::{
        Ledger,
        sqlite::{SqliteLedger, SqliteOptions},
    },
};

use crate::{
    fixture::Sqlite,
    shop::{Shop, all},
};

async fn shop() -> (Shop, Arc<Sqlite>) {
    let fixture = Arc::new(Sqlite::default());
    let shop = Shop::open_on(fixture.clone(), EngineBuilder::without_sweeper).await;
    shop.create("MUG", 100_000).await;
    (shop, fixture)
}

fn beside(fixture: &Sqlite, name: &str) -> PathBuf {
    fixture.path().with_file_name(name)
}

fn files_in(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().expect("a folder").map(|file| file.expect("a file").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("a name")).collect();
    names.sort_unstable();
    names
}

async fn buy(shop: Shop, number: usize) -> HoldId {
    let id = shop.hold(&number.to_string(), &[("MUG", 1)]).await;
    if number.is_multiple_of(3) {
        shop.confirm(id).await.expect("it is confirmed");
        shop.engine.ship(id, None, None).await.expect("it is shipped");
    }
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_under_load_has_all_that_was_answered_and_verifies() {
    let (shop, fixture) = shop().await;
    let before = shop.at_once(500, buy).await;
    let later: Vec<_> = (0..2_000).map(|n| tokio::spawn(buy(shop.clone(), n))).collect();
    let (from, to) = (fixture.path(), beside(&fixture, "copy.db"));
    let copy = to.clone();
    let copied = tokio::task::spawn_blocking(move || SqliteLedger::backup_file(&from, &copy));
    let bytes = copied.await.expect("it ends").expect("it is copied");
    assert_eq!(to.metadata().expect("it is there").len(), bytes);
    let report = SqliteLedger::verify_file(&to).expect("it can be read");
    assert!(report.is_clean(), "{:#?}", report.violations);
    all(later).await;
    let clock = Arc::new(fixture.clock().clone());
    let options = SqliteOptions { clock, ..SqliteOptions::default() };
    let copy = SqliteLedger::open(&to, options).expect("it opens");
    for id in before {
        assert!(copy.hold(id).await.expect("it answers").is_some(), "{id} is missing");
    }
    copy.close().await.expect("it closes");
    assert_eq!(shop.engine.verify().await.expect("it answers").holds, 2_500);
    shop.finish().await;
}

#[tokio::test]
async fn a_copy_goes_on_where_the_ledger_was() {
    let (shop, fixture) = shop().await;
    let id = shop.hold("ann", &[("MUG", 2)]).await;
    let to = beside(&fixture, "copy.db");
    SqliteLedger::backup_file(fixture.path(), &to).expect("it is copied");
    shop.release(id).await.expect("it is released"); // not in the copy any more
    let clock = Arc::new(fixture.clock().clone());
    let options = SqliteOptions { clock, ..SqliteOptions::default() };
    let copy = SqliteLedger::open(&to, options).expect("it opens");
    let engine = stockhold::Engine::builder(Arc::new(copy)).start().expect("it starts");
    engine.confirm(id, stockhold::ConfirmRequest::default()).await.expect("it is confirmed");
    let item = engine.stock(&ask::item("MUG")).await.expect("it is there").item;
    assert_eq!(item.allocated, ask::units(2));
    assert!(engine.verify().await.expect("it answers").is_clean());
    engine.close().await.expect("it closes");
    shop.finish().await;
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let (shop, fixture) = shop().await;
    let to = beside(&fixture, "copy.db");
    let files = files_in(to.parent().expect("a folder"));
    std::fs::write(&to, "precious").expect("it is written");
    let refused = SqliteLedger::backup_file(fixture.path(), &to).expect_err("it fails");
    assert_eq!(refused.kind, FailureKind::Invalid);
    assert_eq!(std::fs::read(&to).expect("it is there"), b"precious");
    let refused = SqliteLedger::backup_file(&to, beside(&fixture, "other.db"));
    assert_eq!(refused.expect_err("it is no ledger").kind, FailureKind::Incompatible);
    let missing = beside(&fixture, "missing.db");
    let refused = SqliteLedger::backup_file(&missing, beside(&fixture, "other.db"));
    assert_eq!(refused.expect_err("there is none").kind, FailureKind::Unavailable);
    let nowhere = fixture.path().with_file_name("no-such-folder").join("copy.db");
    let refused = SqliteLedger::backup_file(fixture.path(), &nowhere).expect_err("it fails");
    assert_eq!(refused.kind, FailureKind::Unavailable);
    std::fs::remove_file(&to).expect("it is there");
    assert_eq!(files_in(to.parent().expect("a folder")), files);
    shop.finish().await;
}

/// A file as the first version has left it.
#[tokio::test]
async fn a_file_of_the_first_version_is_read_copied_and_brought_up() {
    let fixture = Sqlite::default();
    let first = rusqlite::Connection::open(fixture.path()).expect("a file");
    let version = "PRAGMA application_id = 1752132708; PRAGMA user_version = 1; \
                   INSERT INTO stock VALUES (1, 'MUG', 'default', 7, 0, 0, 0, 0, 1, 0); \
                   INSERT INTO movement VALUES (1, 1, 'create', 7, 7, NULL, NULL, 0);";
    first.execute_batch(include_str!("../../src/ledger/sqlite/schema.sql")).expect("its tables");
    first.execute_batch(version).expect("its header");
    first.close().expect("it closes");
    let clean = |path: &Path| SqliteLedger::verify_file(path).expect("it can be read").is_clean();
    assert!(clean(&fixture.path()));
    let to = beside(&fixture, "copy.db");
    SqliteLedger::backup_file(fixture.path(), &to).expect("it is copied");
    assert!(clean(&to));
    let ledger = fixture.open(stockhold::Limits::default()).await;
    let view = ledger.stock(&ask::item("MUG")).await.expect("it answers").expect("it is there");
    assert_eq!(view.item.on_hand, ask::units(7));
    assert!(ledger.verify().await.expect("it answers").is_clean());
    ledger.close().await.expect("it closes");
}
