use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
};

use super::*;

#[test]
fn a_server_is_reached_by_its_socket_alone_and_keeps_nothing() {
    let mut server = RedisServer::start();
    assert!(server.socket().exists() && server.address().is_none());
    server.cli(&["SET", "k", "v"]);
    server.restart();
    assert_eq!(server.cli(&["GET", "k"]), "");
}

#[test]
fn a_server_has_the_settings_that_it_is_given() {
    let server = RedisServer::set_up().with("maxmemory", "3mb").start();
    assert_eq!(server.cli(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n3145728");
}

#[test]
fn a_server_that_writes_has_its_data_after_kill_minus_nine_unless_it_restarts_empty() {
    let set_up = RedisServer::set_up().with("appendonly", "yes").with("appendfsync", "always");
    let mut server = set_up.start();
    server.cli(&["SET", "k", "v"]);
    server.kill();
    assert!(server.try_cli(&["PING"]).is_err());
    server.restart();
    assert_eq!(server.cli(&["GET", "k"]), "v");
    server.restart_empty();
    assert_eq!(server.cli(&["GET", "k"]), "");
}

#[test]
fn a_server_keeps_its_port_while_it_is_down() {
    let mut server = RedisServer::set_up().with_tcp().start();
    let port = server.address().unwrap().port().to_string();
    let ping = || cli(&["-h", "127.0.0.1", "-p", &port, "PING"]);
    assert_eq!(ping().unwrap(), "PONG");
    server.kill();
    assert!(ping().unwrap_err().contains("refused"));
    server.restart();
    assert_eq!(ping().unwrap(), "PONG");
}

#[test]
fn a_paused_server_takes_connections_and_says_nothing() {
    let mut server = RedisServer::start();
    server.pause();
    let mut client = UnixStream::connect(server.socket()).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = [0; 7];
    assert_eq!(client.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.resume();
    client.set_read_timeout(Some(START)).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_replica_has_the_data_and_takes_over() {
    let primary = RedisServer::set_up().with_tcp().start();
    primary.cli(&["SET", "k", "v"]);
    let replica = RedisServer::replica_of(&primary);
    assert_eq!(replica.cli(&["GET", "k"]), "v");
    assert!(replica.try_cli(&["SET", "k", "w"]).unwrap_err().contains("READONLY"));
    replica.promote();
    replica.cli(&["SET", "k", "w"]);
    assert_eq!(primary.cli(&["GET", "k"]), "v");
}

#[test]
fn sentinels_promote_a_replica_when_the_primary_is_gone() {
    let mut primary = RedisServer::set_up().with_tcp().start();
    let replica = RedisServer::replica_of(&primary);
    let sentinels = Sentinels::of(&primary, Duration::from_millis(500));
    let old = primary.address().unwrap();
    assert_eq!((sentinels.primary(), sentinels.addresses().len()), (old, 3));
    primary.kill();
    assert_eq!(sentinels.wait_for_other_than(old), replica.address().unwrap());
    until(START, "a primary that takes writes", || replica.try_cli(&["SET", "k", "v"]));
}

#[test]
#[should_panic(expected = "Bad directive or wrong number of arguments")]
fn a_server_that_does_not_start_says_why() {
    let _ = RedisServer::set_up().with("no-such-setting", 1).start();
}
