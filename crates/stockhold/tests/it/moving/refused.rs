//! What is no move is refused, and leaves everything as it was.

use std::fs;

use super::*;

/// The names in a folder, but for what SQLite keeps beside a file that is open.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it works").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = names.collect::<Vec<_>>();
    names.sort_unstable();
    names
}

async fn refusal(from: &Place, to: &Place) -> String {
    let refused = transfer::run(from, to, FEW, |_| {}).await.expect_err("it is no move");
    assert_eq!(refused.kind, FailureKind::Invalid, "{refused}");
    refused.message
}

const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";

#[tokio::test]
async fn nothing_is_made_where_there_is_no_shop_to_move() {
    let (folder, server) = (tempfile::tempdir().expect("it works"), PostgresServer::start());
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let there = database(&server);
    for (from, to) in [(file(&old), there.clone()), (there, file(&new)), (file(&old), file(&new))] {
        let refused = refusal(&from, &to).await;
        assert!(refused.starts_with("there is no ledger at "), "{refused}");
        let refused = transfer::give_up(&from, &to).await.unwrap_err();
        assert!(refused.message.starts_with("there is no ledger at "), "{refused}");
        assert_eq!((files(folder.path()), &*server.psql(TABLES)), (vec![], "0"));
    }
}

#[tokio::test]
async fn a_ledger_without_a_shop_is_not_moved() {
    let Ends { folder, clock, old, new } = &Ends::default();
    let server = PostgresServer::start();
    open(old, clock).close().await.expect("it works");
    let before = files(folder.path());
    let refused = refusal(&file(old), &database(&server)).await;
    assert!(refused.ends_with("nothing to move"), "{refused}");
    let refused = transfer::give_up(&file(old), &file(new)).await.unwrap_err();
    assert!(refused.message.starts_with("no shop is moving"), "{refused}");
    assert_eq!((files(folder.path()), &*server.psql(TABLES)), (before, "0"));
}

#[tokio::test]
async fn a_shop_does_not_move_to_where_it_is() {
    let Ends { folder, clock, old, .. } = &Ends::default();
    let link = folder.path().join("link.db");
    let server = PostgresServer::start();
    shop(old, clock).await;
    std::os::unix::fs::symlink(old, &link).expect("it works");
    assert!(refusal(&file(old), &file(&link)).await.contains("to where it is"));
    transfer::run(&file(old), &database(&server), FEW, |_| {}).await.expect("it works");
    let url = format!("{}&application_name=till", server.url());
    let same = Place::Postgres(Box::new(url.parse().expect("it works")));
    assert!(refusal(&database(&server), &same).await.contains("one and the same ledger"));
}

#[tokio::test]
async fn a_shop_does_not_move_in_where_another_one_is() {
    let Ends { clock, old, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    let there =
        PostgresLedger::connect(&server.url(), PostgresOptions::default()).await.expect("it works");
    apply(&there, 1, vec![ask::create("MUG", 1)]).await;
    let refused = transfer::run(&file(old), &database(&server), FEW, |_| {}).await.unwrap_err();
    assert!(refused.message.contains("not empty"), "{refused}");
    // Nothing was sealed.
    open(old, clock).close().await.expect("it works");
    assert_eq!(apply(&there, 2, vec![ask::create("HAT", 1)]).await, 1);
}

#[tokio::test]
async fn a_shop_does_not_move_into_a_file_where_another_one_is() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    let other = shop(new, clock).await;
    transfer::run(&file(old), &database(&server), FEW, |_| {}).await.expect("it works");
    let refused = refusal(&database(&server), &file(new)).await;
    assert!(refused.contains("not empty"), "{refused}");
    assert_eq!(shown(&open(new, clock)).await, other);
    PostgresLedger::connect(&server.url(), PostgresOptions::default()).await.expect("it works");
}

#[tokio::test]
async fn a_shop_does_not_move_while_a_server_has_its_file() {
    let Ends { clock, old, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    let open = open(old, clock);
    let refused = transfer::run(&file(old), &database(&server), FEW, |_| {}).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::InUse, "{refused}");
    open.close().await.expect("it works");
}
