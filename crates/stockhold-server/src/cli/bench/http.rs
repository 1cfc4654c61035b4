//! The same over HTTP: the server is another process, and the load comes from this one, over
//! connections that are kept.

use std::{ffi::OsString, path::Path, sync::Arc, time::Duration};

use hyper::Method;
use stockhold::clock::{Clock, SystemClock};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    Doing, Fault,
    child::Server,
    ledger_file::LedgerFile,
    machine::cores,
    noop::Noop,
    plan::{Items, Job},
    process::Of,
    report::Settings,
    row::{Row, ratio},
    workload::{Bodies, LATER, Random, Samples, Window},
};
use crate::client::Connection;

/// The service, on this ledger.
pub(super) fn measure(job: Job, settings: &Settings, file: &LedgerFile) -> Result<Row, Fault> {
    let mut ledger = OsString::from("sqlite:");
    ledger.push(file.path());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--ledger"].map(OsString::from);
    let folder = file.path().parent().unwrap_or_else(|| Path::new("."));
    let mut server = Server::start(arguments.into_iter().chain([ledger]), folder)?;
    let mut row = run(job, settings, &mut server)?;
    if job.items != Items::SoldOut {
        // Time for the holds to die, so that a row of the table is the whole life of a hold.
        std::thread::sleep(settings.ttl.saturating_add(Duration::from_secs(1)));
    }
    let bytes = server.process().bytes_written()?;
    drop(server);
    file.account(&mut row, bytes)?;
    Ok(row)
}

/// A server that parses, validates and answers, and does nothing in between.
pub(super) fn measure_doing_nothing(
    job: Job,
    settings: &Settings,
    folder: &Path,
) -> Result<Row, Fault> {
    run(job, settings, &mut Server::start([Noop::NAME], folder)?)
}

/// CPU time at one moment.
#[derive(Clone, Copy)]
struct Cpu {
    at: Duration,
    server: Duration,
    load: Duration,
}

impl Cpu {
    fn now(server: Of) -> Result<Self, Fault> {
        let (at, server, load) = (SystemClock.boot(), server.cpu()?, Of::Ourselves.cpu()?);
        Ok(Self { at, server, load })
    }

    fn since(self, before: Self) -> Self {
        Self {
            at: self.at.saturating_sub(before.at),
            server: self.server.saturating_sub(before.server),
            load: self.load.saturating_sub(before.load),
        }
    }
}

/// All callers at once, against a server that runs.
pub(super) fn run(job: Job, settings: &Settings, server: &mut Server) -> Result<Row, Fault> {
    let address = server.address()?;
    let process = server.process();
    let Load { samples, cpu, answer_bytes } =
        runtime()?.block_on(load(job, settings, &address, process))?;
    let mut row = Row::new(job, settings.length, samples);
    row.server_cpu_us = ratio(cpu.server.as_secs_f64() * 1e6, row.operations as f64);
    row.load_cpu_share = ratio(cpu.load.as_secs_f64(), cpu.at.as_secs_f64() * cores() as f64);
    row.answer_bytes = answer_bytes;
    Ok(row)
}

/// Half of the machine for the load, so that the server has the other half.
fn runtime() -> Result<Runtime, Fault> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads((cores() / 2).max(1)).enable_all().build().doing("threads")
}

struct Load {
    samples: Samples,
    cpu: Cpu,
    answer_bytes: Option<usize>,
}

async fn load(job: Job, settings: &Settings, address: &str, server: Of) -> Result<Load, Fault> {
    let mut connections = Vec::new();
    for _ in 0..job.callers {
        connections.push(connect(address).await?);
    }
    let bodies = Arc::new(Bodies::new(job.items, settings.ttl));
    let mut callers = JoinSet::new();
    let (before, window) = (Cpu::now(server)?, Window::open(settings.length));
    for connection in connections {
        callers.spawn(call(connection, Arc::clone(&bodies), job.items, window));
    }
    SystemClock.sleep(window.length()).await;
    let cpu = Cpu::now(server)?.since(before);
    let (mut samples, mut answer_bytes) = (Samples::default(), None);
    while let Some(of_one) = callers.join_next().await {
        let (seen, bytes) = of_one.doing("a caller")??;
        samples.add(seen);
        answer_bytes = answer_bytes.max(bytes);
    }
    Ok(Load { samples, cpu, answer_bytes })
}

async fn connect(address: &str) -> Result<Connection, Fault> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let connection = Connection::connect(address, PATIENCE, Arc::new(SystemClock)).await;
    connection.doing("connecting to the server")
}

/// Asks again and again, until the time is over.
async fn call(
    mut connection: Connection,
    bodies: Arc<Bodies>,
    items: Items,
    window: Window,
) -> Result<(Samples, Option<usize>), Fault> {
    // Whatever is asked of it, a server that does nothing places a hold.
    let expected: &[u16] = match items {
        Items::SoldOut => &[409],
        Items::Gone(_) => &[409, 201],
        Items::Hot | Items::Many | Items::Of(_) => &[201],
    };
    let (mut random, mut samples, mut bytes) = (Random::new(), Samples::default(), None);
    let mut before = SystemClock.boot();
    while window.is_open_at(before) {
        let (body, key) = (bodies.next(&mut random), random.key());
        let key = Some(&*key).filter(|_| !matches!(items, Items::Gone(_)));
        let reply = connection.send(Method::POST, "/v1/holds", body, key).await;
        let reply = reply.doing("a request")?;
        let after = SystemClock.boot();
        match reply.status {
            status if expected.contains(&status) => samples.note(&window, 1, before, after),
            429 => {
                samples.shed += 1;
                SystemClock.sleep(LATER).await;
            }
            status => return Err(Fault::error(format!("the server answered {status}"))),
        }
        bytes = Some(reply.body.len());
        before = SystemClock.boot();
    }
    Ok((samples, bytes))
}
