//! Holds and refusals through the engine, embedded in this process.

use std::{sync::Arc, time::Duration};

use stockhold::{
    Engine, Error, FailureKind, Placed, Rejection,
    clock::{Clock, SystemClock},
    ledger::{
        Ledger,
        sqlite::{SqliteLedger, SqliteOptions},
    },
};
use tokio::task::JoinSet;

use super::{
    super::runtime,
    Doing, Fault,
    batches::{Batches, Counting},
    ledger_file::LedgerFile,
    plan::{Items, Job},
    report::Settings,
    row::Row,
    workload::{LATER, Random, Samples, Window, Wishes},
};

pub(super) fn measure(job: Job, settings: &Settings, file: &LedgerFile) -> Result<Row, Fault> {
    let ledger = SqliteLedger::open(file.path(), SqliteOptions::default())?;
    let ledger = Arc::new(Counting::new(ledger));
    let (samples, batches) = runtime()?.block_on(run(job, settings, &ledger))?;
    let mut row = Row::new(job, settings.length, samples);
    row.set_batches(batches);
    file.account(&mut row, file.bytes_written()?)?;
    Ok(row)
}

async fn run(
    job: Job,
    settings: &Settings,
    ledger: &Arc<Counting>,
) -> Result<(Samples, Batches), Fault> {
    let engine = Engine::builder(Arc::clone(ledger) as Arc<dyn Ledger>).start()?;
    let wishes = Arc::new(Wishes::new(job.items, settings.ttl)?);
    let mut callers = JoinSet::new();
    let (before, window) = (ledger.batches(), Window::open(settings.length));
    for _ in 0..job.callers {
        callers.spawn(call(engine.clone(), Arc::clone(&wishes), job.items, window));
    }
    SystemClock.sleep(window.length()).await;
    let batches = ledger.batches().since(before);
    let mut samples = Samples::default();
    while let Some(of_one) = callers.join_next().await {
        samples.add(of_one.doing("a caller")??);
    }
    until_nothing_is_due(&**ledger, settings.ttl).await?;
    engine.close().await?;
    Ok((samples, batches))
}

/// Asks again and again, until the time is over.
async fn call(
    engine: Engine,
    wishes: Arc<Wishes>,
    items: Items,
    window: Window,
) -> Result<Samples, Fault> {
    let (mut random, mut samples) = (Random::new(), Samples::default());
    let mut before = SystemClock.boot();
    while window.is_open_at(before) {
        let answer = engine.place(wishes.next(&mut random)?).await;
        let after = SystemClock.boot();
        match judge(answer, items)? {
            Answer::Served => samples.note(&window, 1, before, after),
            Answer::ComeBackLater => {
                samples.shed += 1;
                SystemClock.sleep(LATER).await;
            }
        }
        before = SystemClock.boot();
    }
    Ok(samples)
}

enum Answer {
    Served,
    ComeBackLater,
}

/// What is sold out is refused; everything else is granted, or too much is asked for.
fn judge(answer: Result<Placed, Error>, items: Items) -> Result<Answer, Fault> {
    match (answer, items) {
        (Ok(_), Items::Hot | Items::Many) => Ok(Answer::Served),
        (Err(Error::Rejected(rejection)), Items::SoldOut)
            if matches!(*rejection, Rejection::InsufficientStock { .. }) =>
        {
            Ok(Answer::Served)
        }
        (Err(Error::Failed(failure)), _) if failure.kind == FailureKind::Overloaded => {
            Ok(Answer::ComeBackLater)
        }
        (Err(Error::Failed(failure)), _) => Err(failure.into()),
        (Err(Error::Rejected(no)), _) => Err(Fault::error(format!("a hold was refused: {no}"))),
        (Ok(_), Items::SoldOut) => Err(Fault::error("a hold of nothing was granted")),
    }
}

/// Waits for the sweeper to end what was placed.
async fn until_nothing_is_due(ledger: &dyn Ledger, ttl: Duration) -> Result<(), Fault> {
    const PATIENCE: Duration = Duration::from_secs(120);
    const PAUSE: Duration = Duration::from_millis(50);
    let latest = SystemClock.boot().saturating_add(ttl).saturating_add(PATIENCE);
    loop {
        let due = ledger.due(1).await?;
        if due.holds.is_empty() && due.next_due.is_none() {
            return Ok(());
        }
        if SystemClock.boot() > latest {
            return Err(Fault::error("the sweeper does not come to an end"));
        }
        SystemClock.sleep(PAUSE).await;
    }
}
