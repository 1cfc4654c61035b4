use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{now, port::Port};

/// A server that sends back what it is sent.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reading = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reading, &mut &stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

struct Client(TcpStream);

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn say(&mut self, text: &str) -> &mut Self {
        self.0.write_all(text.as_bytes()).unwrap();
        self
    }

    fn hears(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    /// Whether it hears nothing for a while.
    fn hears_nothing(&mut self) {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let heard = self.0.read(&mut [0; 100]);
        assert!(matches!(&heard, Err(e) if e.kind() == ErrorKind::WouldBlock), "{heard:?}");
        self.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }

    /// Everything until the connection ends, and how it does.
    fn hears_the_end(&mut self) -> (String, Option<ErrorKind>) {
        let mut heard = Vec::new();
        let end = self.0.read_to_end(&mut heard).err().map(|e| e.kind());
        (String::from_utf8(heard).unwrap(), end)
    }
}

fn proxied() -> (Proxy, Client) {
    let proxy = Proxy::start(echo());
    let client = Client::of(&proxy);
    (proxy, client)
}

#[test]
fn what_is_not_told_otherwise_passes_and_so_does_an_end() {
    let (_proxy, mut client) = proxied();
    client.say("one").hears("one");
    let large = "x".repeat(1_000_000);
    let mut writing = client.0.try_clone().unwrap();
    let sent = large.clone();
    let writer = thread::spawn(move || {
        writing.write_all(sent.as_bytes()).unwrap();
        writing.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(client.hears_the_end(), (large, None));
    writer.join().unwrap();
}

#[test]
fn a_server_on_a_unix_socket_is_reached_by_a_port() {
    let server = crate::PostgresServer::start();
    let proxy = Proxy::start(server.socket().as_path());
    let url = server.url_at(proxy.address());
    assert_eq!(server.psql_at(&url, "SELECT 1").unwrap(), "1");
}

#[test]
fn each_way_is_delayed_by_its_own() {
    let (proxy, mut client) = proxied();
    proxy.delay(Direction::Requests, Duration::from_millis(30));
    proxy.delay(Direction::Replies, Duration::from_millis(50));
    let begin = now();
    client.say("one").hears("one");
    assert!(now() - begin >= 80_000_000);
}

#[test]
fn what_was_sent_into_a_stall_arrives_when_it_is_over() {
    let (proxy, mut client) = proxied();
    proxy.stall();
    client.say("one").hears_nothing();
    proxy.heal();
    client.hears("one");
}

#[test]
fn a_stall_of_one_way_leaves_the_other() {
    let (proxy, mut client) = proxied();
    proxy.stall_one_way(Direction::Replies);
    client.say("one").hears_nothing();
    proxy.heal();
    client.hears("one");
}

#[test]
fn a_black_hole_takes_everything_and_is_silent_until_it_is_healed() {
    let (proxy, mut client) = proxied();
    proxy.blackhole();
    client.say("one").hears_nothing();
    let mut second = Client::of(&proxy);
    second.say("two").hears_nothing();
    proxy.heal();
    assert_eq!(client.hears_the_end(), (String::new(), Some(ErrorKind::ConnectionReset)));
    Client::of(&proxy).say("three").hears("three");
}

#[test]
fn a_reply_is_cut_after_so_many_bytes() {
    let (proxy, mut client) = proxied();
    client.say("before").hears("before");
    proxy.cut_after(4);
    assert_eq!(client.say("abcdef").hears_the_end(), ("abcd".to_owned(), None));
}

#[test]
fn the_nth_reply_of_a_kind_is_lost_and_its_connection_closed() {
    let (proxy, mut client) = proxied();
    let mut other = Client::of(&proxy);
    proxy.lose(Direction::Replies, b"done", 2);
    client.say("done").hears("done");
    assert!(!proxy.has_lost());
    assert_eq!(other.say("done").hears_the_end(), (String::new(), None));
    assert!(proxy.has_lost());
    client.say("done").hears("done");
}

#[test]
fn a_lost_reply_to_commit_is_to_a_commit_that_was_done() {
    let server = crate::PostgresServer::start();
    let proxy = Proxy::start(server.socket().as_path());
    let url = server.url_at(proxy.address());
    proxy.lose(Direction::Replies, b"COMMIT\0", 1);
    let why = server.psql_at(&url, "BEGIN; CREATE TABLE t (); COMMIT").unwrap_err();
    assert!(why.contains("closed the connection unexpectedly"), "{why}");
    assert_eq!(server.psql("SELECT count(*) FROM t"), "0", "the table is there");
}

#[test]
fn replies_are_swallowed_while_requests_pass() {
    let server = crate::PostgresServer::start();
    let proxy = Proxy::start(server.socket().as_path());
    let mut client = Client::of(&proxy);
    proxy.swallow_replies();
    // A start-up message of the user `postgres`.
    client.say("\0\0\0\x17\0\x03\0\0user\0postgres\0\0").hears_nothing();
    let there = "SELECT count(*) > 0 FROM pg_stat_activity WHERE client_addr IS NULL \
                 AND state = 'idle'";
    crate::until(SOON, "a client at the server", || match server.psql(there) {
        is if is == "t" => Ok(()),
        is => Err(is),
    });
}

#[test]
fn a_reset_is_a_reset() {
    let (proxy, mut client) = proxied();
    client.say("one").hears("one");
    proxy.reset();
    assert_eq!(client.hears_the_end(), (String::new(), Some(ErrorKind::ConnectionReset)));
    Client::of(&proxy).say("two").hears("two");
}

#[test]
fn a_refusal_is_for_newcomers() {
    let (proxy, mut client) = proxied();
    client.say("one").hears("one");
    proxy.refuse();
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.say("two").hears("two");
    proxy.heal();
    Client::of(&proxy).say("three").hears("three");
}

#[test]
fn a_server_that_is_gone_is_a_reset() {
    let gone = Port::claim();
    let mut client = Client::of(&Proxy::start(gone.address()));
    assert_eq!(client.hears_the_end().1, Some(ErrorKind::ConnectionReset));
}
