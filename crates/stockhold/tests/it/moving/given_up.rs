//! The owner thinks better of it.

use super::*;

/// The same database by another URL.
fn spelled(server: &PostgresServer, user: &str, more: &str) -> Place {
    let url = server.url().replace("postgres@", &format!("{user}@")) + more;
    Place::Postgres(Box::new(url.parse().expect("it works")))
}

#[tokio::test]
async fn a_shop_whose_move_was_given_up_is_served_from_where_it_was() {
    let Ends { clock, old, .. } = &Ends::default();
    let server = PostgresServer::start();
    shop(old, clock).await;
    let (from, to) = (file(old), database(&server));
    begin_move(&from, &to, 4).await;
    transfer::give_up(&from, &to).await.expect("it works");
    open(old, clock).close().await.expect("it works");
    let again = transfer::run(&from, &to, FEW, |_| {}).await.unwrap_err();
    assert!(again.message.contains("given up"), "{again}");
    assert!(again.message.contains("dropdb postgres; createdb --owner postgres"), "{again}");
    let refused = PostgresLedger::connect(&server.url(), PostgresOptions::default()).await;
    assert!(refused.unwrap_err().message.contains("given up"));
}

#[tokio::test]
async fn a_move_does_not_hang_on_how_its_ends_are_written() {
    let Ends { folder, clock, old, .. } = &Ends::default();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(old, &link).expect("it works");
    let server = PostgresServer::start();
    server.psql("CREATE ROLE keeper SUPERUSER LOGIN");
    shop(old, clock).await;
    begin_move(&file(old), &database(&server), 4).await;
    begin_move(&file(&link), &spelled(&server, "keeper", ""), 3).await;
    let other = spelled(&server, "postgres", "&connect_timeout=3");
    transfer::give_up(&file(&link), &other).await.expect("it works");
    open(old, clock).close().await.expect("it works");
}

#[tokio::test]
async fn a_move_whose_target_was_dropped_can_be_given_up() {
    let Ends { clock, old, new, .. } = &Ends::default();
    let server = PostgresServer::start();
    server.create_database("shop");
    let there = Place::Postgres(Box::new(server.url_of("shop").parse().expect("it works")));
    shop(old, clock).await;
    begin_move(&file(old), &there, 4).await;
    server.psql("DROP DATABASE shop WITH (FORCE)");
    server.create_database("shop");
    let refused = transfer::run(&file(old), &there, FEW, |_| {}).await.unwrap_err();
    assert!(refused.message.contains("--give-up"), "{refused}");
    transfer::give_up(&file(old), &there).await.expect("it works");
    transfer::run(&file(old), &there, FEW, |_| {}).await.expect("it works");

    begin_move(&there, &file(new), 4).await;
    std::fs::remove_file(new).expect("it works");
    transfer::give_up(&there, &file(new)).await.expect("it works");
    assert!(!new.exists());
    PostgresLedger::connect(&server.url_of("shop"), PostgresOptions::default())
        .await
        .expect("it works");
}

/// What sells again may have sold what was copied.
#[tokio::test]
async fn a_move_that_was_given_up_by_the_name_of_another_target_is_not_finished() {
    let (folder, clock) = (tempfile::tempdir().expect("it works"), ManualClock::default());
    let [old, wrong] = ["old.db", "wrong.db"].map(|name| folder.path().join(name));
    let server = PostgresServer::start();
    shop(&old, &clock).await;
    begin_move(&file(&old), &database(&server), 4).await;
    transfer::give_up(&file(&old), &file(&wrong)).await.expect("it works");
    assert!(!wrong.exists());
    let ledger = open(&old, &clock);
    assert_eq!(apply(&ledger, 3, vec![ask::create("TIE", 5)]).await, 1);
    ledger.close().await.expect("it works");
    let refused = transfer::run(&file(&old), &database(&server), FEW, |_| {}).await.unwrap_err();
    assert!(refused.message.contains("is not sealed any more"), "{refused}");
    assert!(refused.message.contains("empty it: dropdb postgres"), "{refused}");
    open(&old, &clock).close().await.expect("it works");
    let options = PostgresOptions::default();
    let refused = PostgresLedger::connect(&server.url(), options).await.unwrap_err();
    assert!(refused.message.contains("is not complete"), "{refused}");
}

#[tokio::test]
async fn a_move_that_is_done_is_not_given_up() {
    let Ends { clock, old, new, .. } = &Ends::default();
    shop(old, clock).await;
    transfer::run(&file(old), &file(new), FEW, |_| {}).await.expect("it works");
    let refused = transfer::give_up(&file(old), &file(new)).await.unwrap_err();
    assert!(refused.message.contains("may have sold since"), "{refused}");
    assert!(refused.message.ends_with("new.db' --to NEW"), "{refused}");
    // Nor if the new ledger is lost.
    std::fs::remove_file(new).expect("it works");
    let refused = transfer::give_up(&file(old), &file(new)).await.unwrap_err();
    assert!(refused.message.starts_with("this shop has moved to sqlite:/"), "{refused}");
}

/// Or the ledger before would be opened while this one sells.
#[tokio::test]
async fn giving_a_move_up_leaves_the_move_before_it_done() {
    let (folder, clock) = (tempfile::tempdir().expect("it works"), ManualClock::default());
    let files = ["1.db", "2.db", "3.db"].map(|name| folder.path().join(name));
    let server = PostgresServer::start();
    server.create_database("other");
    let other = Place::Postgres(Box::new(server.url_of("other").parse().expect("it works")));
    let [first, second, third] = files.each_ref().map(|path| file(path));
    shop(&files[0], &clock).await;
    let moves = [(&first, &second, &database(&server)), (&second, &other, &third)];
    for (from, here, next) in moves {
        transfer::run(from, here, FEW, |_| {}).await.expect("it works");
        begin_move(here, next, 4).await;
        transfer::give_up(here, next).await.expect("it works");
        let refused = transfer::give_up(from, here).await.unwrap_err();
        assert!(refused.message.contains("may have sold since"), "{refused}");
    }
    for sealed in &files[..2] {
        let refused = SqliteLedger::open(sealed, SqliteOptions::default()).unwrap_err();
        assert!(refused.message.contains("has moved to"), "{refused}");
    }
}
