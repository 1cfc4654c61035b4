use super::*;

#[test]
fn a_server_syncs_and_is_reached_by_its_socket_alone() {
    let server = PostgresServer::start();
    assert!(server.socket().exists() && server.address().is_none());
    assert_eq!(server.psql("SHOW fsync"), "on");
    assert_eq!(server.psql("SHOW listen_addresses"), "");
}

#[test]
fn a_server_has_the_settings_that_it_is_given() {
    let server = PostgresServer::set_up().with("max_connections", 10).start();
    assert_eq!(server.psql("SHOW max_connections"), "10");
}

#[test]
fn databases_are_apart() {
    let server = PostgresServer::start();
    server.create_database("shop");
    server.psql("CREATE TABLE here ()");
    let in_shop = server.psql_at(&server.url_of("shop"), "SELECT * FROM here");
    assert!(in_shop.unwrap_err().contains("does not exist"));
}

#[test]
fn a_server_with_a_port_is_reached_there_too_by_tls() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = PostgresServer::set_up().with_tls(&certificate, &key).start();
    let url = format!("{}?sslmode=require", server.url_at(server.address().unwrap()));
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(server.psql_at(&url, encrypted).unwrap(), "t");
}

#[test]
fn what_was_committed_survives_kill_minus_nine() {
    let mut server = PostgresServer::start();
    server.psql("CREATE TABLE t AS SELECT 7 AS seven");
    server.kill();
    assert!(server.try_psql("SELECT 1").is_err());
    server.restart();
    assert_eq!(server.psql("SELECT seven FROM t"), "7");
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
}

#[test]
fn what_was_committed_survives_the_end_of_the_postmaster_alone() {
    let mut server = PostgresServer::start();
    server.psql("CREATE TABLE t AS SELECT 7 AS seven");
    server.kill_postmaster();
    assert!(server.try_psql("SELECT 1").is_err());
    server.restart();
    assert_eq!(server.psql("SELECT seven FROM t"), "7");
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
}

#[test]
fn a_server_that_is_stopped_in_good_order_recovers_nothing() {
    let mut server = PostgresServer::start();
    server.restart();
    assert!(!server.log().contains("was not properly shut down"), "{}", server.log());
}

#[test]
fn a_killed_backend_is_one_of_its_own_and_the_server_recovers() {
    let server = PostgresServer::start();
    let pid = server.pid();
    server.psql("CREATE TABLE t ()");
    let backend = server.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
    server.kill_backend(backend.parse().unwrap());
    until(START, "a recovery", || {
        let log = server.log();
        log.contains("all server processes terminated; reinitializing").then_some(()).ok_or(log)
    });
    until(START, "an answer", || server.try_psql("SELECT * FROM t"));
    assert_eq!(server.pid(), pid);
}

#[test]
fn a_paused_server_takes_connections_and_says_nothing() {
    let mut server = PostgresServer::start();
    server.pause();
    let url = format!("{}&connect_timeout=2", server.url());
    let why = server.psql_at(&url, "SELECT 1").unwrap_err();
    assert!(why.contains("timeout expired"), "{why}");
    server.resume();
    assert_eq!(server.psql("SELECT 1"), "1");
}

#[test]
fn a_paused_server_ends_with_its_test() {
    let mut server = PostgresServer::start();
    let (pid, folder) = (server.pid(), server.folder.path().to_path_buf());
    server.pause();
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && !folder.exists());
}

#[test]
fn a_setting_is_changed_while_the_server_runs() {
    let mut server = PostgresServer::start();
    server.reload_with("lock_timeout", "1234ms");
    assert_eq!(server.psql("SHOW lock_timeout"), "1234ms");
}

#[test]
#[should_panic(expected = "max_connections = 7 is not taken")]
fn a_setting_that_needs_a_start_is_not_changed_meanwhile() {
    PostgresServer::start().reload_with("max_connections", 7);
}

#[test]
#[should_panic(expected = "unrecognized configuration parameter \"no_such_setting\"")]
fn a_server_that_does_not_start_says_why() {
    let _ = PostgresServer::set_up().with("no_such_setting", 1).start();
}

#[test]
fn a_synchronous_standby_has_what_was_committed_when_it_takes_over() {
    let mut primary = PostgresServer::start();
    let standby = PostgresServer::standby_of(&mut primary, Replication::Synchronous);
    assert!(standby.is_standby());
    primary.psql("CREATE TABLE t AS SELECT 7 AS seven");
    primary.pause();
    standby.promote();
    assert_eq!(standby.psql("SELECT seven FROM t"), "7");
    standby.psql("INSERT INTO t VALUES (8)");
}

#[test]
fn a_commit_waits_for_a_synchronous_standby() {
    let mut primary = PostgresServer::start();
    let mut standby = PostgresServer::standby_of(&mut primary, Replication::Synchronous);
    standby.pause();
    thread::scope(|scope| {
        let commit = scope.spawn(|| primary.try_psql("CREATE TABLE t ()"));
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        until(START, "a commit that waits", || {
            (primary.psql(waits) == "1").then_some(()).ok_or("none")
        });
        assert!(!commit.is_finished());
        standby.resume();
        commit.join().unwrap().unwrap();
    });
}

#[test]
fn a_commit_does_not_wait_for_an_asynchronous_standby() {
    let mut primary = PostgresServer::start();
    let mut standby = PostgresServer::standby_of(&mut primary, Replication::Asynchronous);
    standby.pause();
    primary.psql("CREATE TABLE t ()");
}

#[test]
fn a_killed_server_leaves_no_shared_memory() {
    let mut server = PostgresServer::start();
    let memory = SharedMemory::of(server.child.as_ref().unwrap(), &server.data());
    server.kill();
    assert!(memory.is_there(), "a kill leaves it");
    drop(server);
    assert!(!memory.is_there());
}
