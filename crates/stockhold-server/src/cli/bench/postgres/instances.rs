//! Several processes of this program that share the load over one database.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stockhold::ledger::postgres::{PostgresLedger, PostgresOptions};

use super::{
    super::{
        super::{Exit, runtime, say},
        Doing,
        engine::{Measured, Till},
        plan::{Items, Job, Kind},
        report::Settings,
    },
    Fault,
};

const READY: &str = "ready";
const GO: &str = "go";

/// Asks for holds of one item, beside others, for `bench`.
///
/// It reads its orders from stdin, because a URL may have a password, which a command line shows to
/// everybody. It says that it is ready, waits for a line, and prints what it saw.
#[derive(Debug, clap::Args)]
pub(crate) struct Instance {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Orders {
    url: String,
    callers: u32,
    length: Duration,
    ttl: Duration,
}

impl Instance {
    /// How it is called.
    const NAME: &'static str = "bench-instance";

    pub(in super::super::super) fn run(self) -> Result<Exit, Fault> {
        let Self {} = self;
        let mut lines = std::io::stdin().lines();
        let mut line = || lines.next().transpose().doing("reading orders");
        let orders = line()?.ok_or_else(|| Fault::usage("this is for bench alone"))?;
        let orders: Orders = serde_json::from_str(&orders).doing("reading orders")?;
        runtime()?.block_on(async {
            let till = orders.open().await?;
            say(READY)?;
            if line()?.is_none_or(|line| line != GO) {
                return Err(Fault::error("the bench has gone away"));
            }
            let measured = till.measure().await?;
            till.close().await?;
            say(&serde_json::to_string(&measured).doing("writing JSON")?)
        })?;
        Ok(Exit::Ok)
    }
}

impl Orders {
    async fn open(self) -> Result<Till, Fault> {
        let Self { url, callers, length, ttl } = self;
        let ledger = PostgresLedger::connect(&url, PostgresOptions::default()).await?;
        let job = Job::new(Kind::Engine, Items::Hot, callers, 0);
        Till::open(job, length, ttl, Arc::new(ledger)).await
    }
}

/// What all of them saw together.
pub(super) async fn measure(job: Job, settings: &Settings, url: String) -> Result<Measured, Fault> {
    let Settings { length, ttl, .. } = *settings;
    let orders = Orders { url, callers: 0, length, ttl };
    let measuring = tokio::task::spawn_blocking(move || run(job, &orders));
    measuring.await.doing("instances")?
}

fn run(job: Job, orders: &Orders) -> Result<Measured, Fault> {
    let shares = shares(job.callers, job.instances);
    let start = |callers| Running::start(&Orders { callers, ..orders.clone() });
    let mut running = shares.map(start).collect::<Result<Vec<_>, _>>()?;
    for instance in &mut running {
        let line = instance.line()?;
        if line != READY {
            return Err(Fault::error(format!("an instance said {line:?}")));
        }
    }
    for instance in &mut running {
        instance.say(GO)?;
    }
    let mut all = Measured::default();
    for instance in &mut running {
        let line = instance.line()?;
        all.add(serde_json::from_str(&line).doing("reading what an instance saw")?);
    }
    Ok(all)
}

/// So many callers in so many parts, as equal as can be.
fn shares(callers: u32, instances: u32) -> impl Iterator<Item = u32> {
    let instances = instances.max(1);
    (0..instances).map(move |n| callers / instances + u32::from(n < callers % instances))
}

/// A process; killed when it is dropped.
struct Running {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Running {
    fn start(orders: &Orders) -> Result<Self, Fault> {
        let program = std::env::current_exe().doing("finding this program")?;
        let mut command = Command::new(program);
        command.arg(Instance::NAME).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().doing("starting an instance")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| Fault::error("an instance without pipes"))?;
        let mut running = Self { child, orders: stdin, answers: BufReader::new(stdout) };
        running.say(&serde_json::to_string(orders).doing("writing JSON")?)?;
        Ok(running)
    }

    fn say(&mut self, line: &str) -> Result<(), Fault> {
        writeln!(self.orders, "{line}").doing("telling an instance")
    }

    fn line(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).doing("listening to an instance")? == 0 {
            return Err(Fault::error("an instance ended before its time"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_shared_as_equally_as_can_be() {
        assert_eq!(shares(1_024, 4).collect::<Vec<_>>(), [256; 4]);
        assert_eq!(shares(10, 4).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(shares(1, 2).collect::<Vec<_>>(), [1, 0]);
    }
}
