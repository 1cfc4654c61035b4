//! A process that stands still for longer than its lease.

#![expect(clippy::print_stdout, reason = "the process tells the test when it works")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use stockhold::lock::MemoryBackend;

use super::*;

const CHILD: &str = "STOCKHOLD_TEST_WORKS_UNDER_A_LEASE";

/// Not a test of its own: what the process below does.
#[tokio::test]
async fn works_under_a_lease_of_a_second() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let locks = Locks::new(Arc::new(MemoryBackend::new(1)));
    let lease = locks.try_acquire(&name("n"), ttl(1_000)).await.expect("it is free");
    let _alive = lease.keep_alive(Duration::from_secs(60));
    let work = async {
        loop {
            println!("{}", SystemClock.boot().as_millis());
            SystemClock.sleep(5 * MILLISECOND).await;
        }
    };
    let ended: Result<(), _> = lease.run(work).await;
    println!("{}", if ended.is_err() { "lost" } else { "done" });
}

struct Worker {
    child: Child,
    said: std::io::Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start() -> Self {
        let program = std::env::current_exe().expect("it has a name");
        let test = "locks::stopped::works_under_a_lease_of_a_second";
        let mut child = Command::new(program)
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    fn next(&mut self) -> String {
        self.said.next().expect("it says more").expect("it is text")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn work_is_polled_not_once_more_after_its_lease_has_passed() {
    let mut worker = Worker::start();
    let is_poll = |line: &str| line.parse::<u128>().ok();
    while is_poll(&worker.next()).is_none() {}
    for _ in 0..250 {
        assert!(is_poll(&worker.next()).is_some()); // it is renewed meanwhile
    }
    worker.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(1_500));
    let goes_on = SystemClock.boot().as_millis();
    worker.signal(Signal::CONT);
    loop {
        let line = worker.next();
        match is_poll(&line) {
            // What it had said before it was stopped was still in the pipe.
            Some(at) => assert!(at < goes_on, "it has worked on"),
            None => break assert_eq!(line, "lost"),
        }
    }
}
