//! `stockhold lock`: commands that run while nobody else runs them.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer, Signal};

use crate::{
    child::{Serving, stockhold},
    cli::{Said, ask},
};

const SOON: Duration = Duration::from_secs(10);

fn command(serving: &Serving, args: &[&str]) -> Command {
    let mut command = stockhold(&["lock", "run"]);
    command.args(args).env("STOCKHOLD_URL", format!("http://{}", serving.address));
    command.stdin(Stdio::null());
    command
}

fn run(serving: &Serving, args: &[&str]) -> Said {
    Said::of(command(serving, args).output().unwrap())
}

/// One that runs beside the test.
fn begin(serving: &Serving, args: &[&str]) -> Child {
    command(serving, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Said {
    Said::of(child.wait_with_output().unwrap())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = SystemClock.boot();
    while !is_so() {
        assert!(SystemClock.boot() - begun < SOON, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    SystemClock.boot() - begun
}

fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn it_ends_as_its_command_does() {
    let serving = Serving::start("memory:");
    for code in [0, 1, 3, 42, 125] {
        run(&serving, &["n", "--", "sh", "-c", &format!("exit {code}")]).ends(code);
    }
    run(&serving, &["n", "--", "sh", "-c", "kill -KILL $$"]).ends(128 + 9);
    run(&serving, &["n", "--", "no-such-program"]).ends(127).complains(&["no-such-program"]);
    run(&serving, &["n", "--", "/"]).ends(126);
    run(&serving, &["n"]).ends(2);
    run(&serving, &["n", "--ttl", "1h", "--", "true"]).ends(2).complains(&["100 ms to 60 s"]);
}

#[test]
fn a_command_knows_its_lock_and_its_fence() {
    let serving = Serving::start("memory:");
    let fences: Vec<stockhold::lock::Fence> = (0..3)
        .map(|_| {
            let say = "echo $STOCKHOLD_LOCK $STOCKHOLD_FENCE";
            let said = run(&serving, &["night ly", "--", "sh", "-c", say]).ok();
            said.out.trim().strip_prefix("night ly ").unwrap().parse().unwrap()
        })
        .collect();
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

#[test]
fn two_never_run_at_once() {
    let serving = Serving::start("memory:");
    let folder = tempfile::tempdir().unwrap();
    let (inside, log) = (folder.path().join("inside"), folder.path().join("log"));
    // Whoever finds the folder there is not alone.
    let script = format!(
        "mkdir {inside} || exit 9; sleep 0.02; echo x >> {log}; rmdir {inside}",
        inside = inside.display(),
        log = log.display()
    );
    let children: Vec<_> =
        (0..8).map(|_| begin(&serving, &["n", "--ttl", "5s", "--", "sh", "-c", &script])).collect();
    for child in children {
        ended(child).ok();
    }
    assert_eq!(lines(&log), 8);
}

#[test]
fn who_does_not_want_to_wait_is_told_at_once() {
    let serving = Serving::start("memory:");
    let first = begin(&serving, &["n", "--", "sleep", "30"]);
    wait_until("it is held", || ask(&serving.address, &["lock", "inspect", "n"]).code == Some(0));
    let said = run(&serving, &["n", "--wait", "0s", "--", "true"]).ends(125);
    said.complains(&["somebody else has the lock n", "stockhold lock inspect n"]);
    let begun = SystemClock.boot();
    run(&serving, &["n", "--wait", "300ms", "--", "true"]).ends(125);
    assert!(SystemClock.boot() - begun >= Duration::from_millis(300));
    signal(&first, Signal::TERM);
    assert_eq!(ended(first).code, Some(128 + 15), "and it is told what this one is");
    run(&serving, &["n", "--wait", "0s", "--", "true"]).ok();
}

#[test]
fn a_lock_is_kept_for_as_long_as_its_command_runs() {
    let serving = Serving::start("memory:");
    let first = begin(&serving, &["n", "--ttl", "300ms", "--", "sleep", "1.5"]);
    wait_until("it is held", || ask(&serving.address, &["lock", "inspect", "n"]).code == Some(0));
    let begun = SystemClock.boot();
    run(&serving, &["n", "--", "true"]).ok();
    assert!(SystemClock.boot() - begun > Duration::from_secs(1));
    ended(first).ok();
}

#[test]
fn what_it_is_told_by_a_signal_its_command_is_told() {
    let serving = Serving::start("memory:");
    let folder = tempfile::tempdir().unwrap();
    for (signal_of, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let begun = folder.path().join(name);
        let work = format!(
            "trap 'exit 7' {name}; touch {}; while :; do sleep 0.01; done",
            begun.display()
        );
        let child = begin(&serving, &["n", "--ttl", "10s", "--", "sh", "-c", &work]);
        wait_until("the command", || begun.exists());
        signal(&child, signal_of);
        assert_eq!(ended(child).code, Some(7), "{name}");
    }
}

#[test]
fn a_command_whose_lock_is_lost_is_ended_with_all_that_it_began() {
    let serving = Serving::start("memory:");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The inner one hears no SIGTERM.
    let inner = format!("trap '' TERM; while :; do echo x >> {}; sleep 0.01; done", log.display());
    let outer = format!("sh -c \"{inner}\" & wait");
    let child = begin(&serving, &["n", "--ttl", "1s", "--", "sh", "-c", &outer]);
    wait_until("it works", || lines(&log) > 10);
    let gone = SystemClock.boot();
    assert_eq!(serving.end(Signal::KILL).0, None);
    let said = ended(child).ends(125);
    said.complains(&["the lock n could not be kept"]);
    // The last renewal was answered before the server was gone.
    assert!(SystemClock.boot() - gone < Duration::from_millis(1_200));
    let written = lines(&log);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(lines(&log), written, "nobody goes on");
}

/// For how long the lock is held, unless it is renewed.
fn left(serving: &Serving) -> Duration {
    let said = ask(&serving.address, &["lock", "inspect", "n", "--json"]).ok();
    Duration::from_millis(said.json()["expires_in_ms"].as_u64().unwrap())
}

/// Neither before, nor much later.
fn is_followed_when_its_time_is_over(serving: &Serving) {
    let folder = tempfile::tempdir().unwrap();
    let turn = folder.path().join("turn");
    let mut first = begin(serving, &["n", "--ttl", "1s", "--", "sleep", "30"]);
    wait_until("it is held", || ask(&serving.address, &["lock", "inspect", "n"]).code == Some(0));
    let next = begin(serving, &["n", "--ttl", "1s", "--", "touch", turn.to_str().unwrap()]);
    thread::sleep(Duration::from_millis(300)); // it waits
    let begun = SystemClock.boot();
    first.kill().unwrap();
    // What it had sent by then, to renew it, was heard before this.
    let (asked, left) = (SystemClock.boot(), left(serving));
    assert!(left > Duration::from_millis(200) && !turn.exists(), "{left:?}");
    wait_until("its turn", || turn.exists());
    let now = SystemClock.boot();
    assert!(now - asked >= left, "{:?} of {left:?}", now - asked);
    assert!(now - begun <= Duration::from_millis(1_300), "{:?}", now - begun);
    ended(next).ok();
    // Its command has ended with it.
    let begun = SystemClock.boot();
    ended(first);
    assert!(SystemClock.boot() - begun < Duration::from_secs(5));
}

#[test]
fn a_holder_that_is_killed_is_followed_when_its_time_is_over() {
    is_followed_when_its_time_is_over(&Serving::start("memory:"));
}

#[test]
fn over_postgres_a_holder_that_is_killed_is_followed_when_its_time_is_over() {
    let postgres = PostgresServer::start();
    is_followed_when_its_time_is_over(&Serving::start(&postgres.url()));
}

#[test]
fn over_redis_a_holder_that_is_killed_is_followed_when_its_time_is_over() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let url = redis.url();
    let args = ["--listen", "127.0.0.1:0", "--redis", url.as_str()];
    let serving = Serving::start_with(&postgres.url(), &args);
    let grantor = || postgres.psql("SELECT grantor FROM lock_rule WHERE is_open");
    wait_until("locks of Redis", || grantor() == "redis");
    is_followed_when_its_time_is_over(&serving);
    assert_eq!(grantor(), "redis");
}

#[test]
fn without_a_server_there_is_no_lock() {
    let said = Said::of(
        stockhold(&["lock", "run", "n", "--wait", "0s", "--", "true"])
            .env("STOCKHOLD_URL", "http://127.0.0.1:1")
            .output()
            .unwrap(),
    );
    said.ends(125).complains(&["http://127.0.0.1:1", "stockhold serve"]);
}

#[test]
fn locks_are_listed_and_looked_at() {
    let serving = Serving::start("memory:");
    let shop = |args: &[&str]| ask(&serving.address, args);
    shop(&["lock", "inspect", "n"]).ends(1).complains(&["lock_not_held"]);
    let holder = begin(&serving, &["nightly/report", "--", "sleep", "30"]);
    let other = begin(&serving, &["weekly", "--", "sleep", "30"]);
    wait_until("both are held", || {
        shop(&["lock", "list", "--json"]).ok().json()["items"].as_array().unwrap().len() >= 2
    });
    let said = shop(&["lock", "list", "--prefix", "nightly/"]).ok();
    assert!(!said.out.contains("weekly"), "{said:?}");
    said.prints(&["nightly/report", "fence", "in "]);
    let one: Value = shop(&["lock", "inspect", "weekly", "--json"]).ok().json();
    assert_eq!(one["name"], json!("weekly"));
    for child in [holder, other] {
        signal(&child, Signal::TERM);
        ended(child);
    }
}
