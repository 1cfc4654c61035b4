//! Holds and refusals through the engine, embedded in this process.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stockhold::{
    Engine, Error, FailureKind, PlaceRequest, Placed, Rejection,
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
    let measured = runtime()?.block_on(async {
        let till = Till::open(job, settings.length, settings.ttl, Arc::new(ledger)).await?;
        let measured = till.measure().await?;
        till.close().await?;
        Ok::<_, Fault>(measured)
    })?;
    let mut row = Row::new(job, settings.length, measured.samples);
    row.set_batches(measured.batches);
    file.account(&mut row, file.bytes_written()?)?;
    Ok(row)
}

/// What a row saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) samples: Samples,
    pub(super) batches: Batches,
    /// How long each batch took, in microseconds.
    pub(super) took: Vec<u32>,
}

impl Measured {
    /// What another process saw at the same time.
    pub(super) fn add(&mut self, other: Self) {
        self.samples.add(other.samples);
        self.batches.add(other.batches);
        self.took.extend(other.took);
    }
}

/// An engine that waits for its callers.
pub(super) struct Till {
    job: Job,
    length: Duration,
    ttl: Duration,
    ledger: Arc<Counting>,
    engine: Engine,
    wishes: Arc<Wishes>,
}

impl Till {
    pub(super) async fn open(
        job: Job,
        length: Duration,
        ttl: Duration,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, Fault> {
        let ledger = Arc::new(Counting::new(ledger));
        let engine = Engine::builder(Arc::clone(&ledger) as Arc<dyn Ledger>).start()?;
        let wishes = Arc::new(Wishes::new(job.items, ttl)?);
        // What an engine does when it starts is done before the time runs.
        ledger.due(1).await?;
        Ok(Self { job, length, ttl, ledger, engine, wishes })
    }

    pub(super) async fn measure(&self) -> Result<Measured, Fault> {
        let mut callers = JoinSet::new();
        self.ledger.took();
        let (before, window) = (self.ledger.batches(), Window::open(self.length));
        match self.job.offered {
            Some(rate) => drop(callers.spawn(self.clone_for(window).offer(rate))),
            None => (0..self.job.callers).for_each(|_| {
                callers.spawn(self.clone_for(window).call());
            }),
        }
        SystemClock.sleep(window.length()).await;
        let (batches, took) = (self.ledger.batches().since(before), self.ledger.took());
        let mut samples = Samples::default();
        while let Some(of_one) = callers.join_next().await {
            samples.add(of_one.doing("a caller")??);
        }
        Ok(Measured { samples, batches, took })
    }

    /// Waits for the sweeper to end what was placed.
    pub(super) async fn close(self) -> Result<(), Fault> {
        until_nothing_is_due(&*self.ledger, self.ttl).await?;
        Ok(self.engine.close().await?)
    }

    fn clone_for(&self, window: Window) -> Caller {
        let (engine, wishes) = (self.engine.clone(), Arc::clone(&self.wishes));
        Caller { engine, wishes, items: self.job.items, window }
    }
}

#[derive(Clone)]
struct Caller {
    engine: Engine,
    wishes: Arc<Wishes>,
    items: Items,
    window: Window,
}

impl Caller {
    /// Asks again and again, until the time is over.
    async fn call(self) -> Result<Samples, Fault> {
        let Self { engine, wishes, items, window } = self;
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

    /// Asks so often in a second, whatever is answered. A wait counts from when it was one's turn
    /// to ask, so that a ledger that stops for a while is not asked less often.
    async fn offer(self, rate: u32) -> Result<Samples, Fault> {
        let (mut random, mut samples) = (Random::new(), Samples::default());
        let (start, pause) = (SystemClock.boot(), Duration::from_secs(1) / rate.max(1));
        let (mut asked, mut turn) = (JoinSet::new(), start);
        while self.window.is_open_at(turn) {
            SystemClock.sleep(turn.saturating_sub(SystemClock.boot())).await;
            while turn <= SystemClock.boot() && self.window.is_open_at(turn) {
                let wish = self.wishes.next(&mut random)?;
                asked.spawn(self.clone().ask(wish, turn));
                turn = turn.saturating_add(pause);
            }
            while let Some(answered) = asked.try_join_next() {
                samples.add(answered.doing("a caller")??);
            }
        }
        while let Some(answered) = asked.join_next().await {
            samples.add(answered.doing("a caller")??);
        }
        Ok(samples)
    }

    async fn ask(self, wish: PlaceRequest, turn: Duration) -> Result<Samples, Fault> {
        let answer = self.engine.place(wish).await;
        let (after, mut samples) = (SystemClock.boot(), Samples::default());
        match judge(answer, self.items)? {
            // It was asked for inside of the time, so it counts, however late the answer is.
            Answer::Served => samples.note(&Window::open(Duration::MAX), 1, turn, after),
            Answer::ComeBackLater => samples.shed += 1,
        }
        Ok(samples)
    }
}

enum Answer {
    Served,
    ComeBackLater,
}

/// What is sold out is refused; everything else is granted, or too much is asked for.
fn judge(answer: Result<Placed, Error>, items: Items) -> Result<Answer, Fault> {
    match (answer, items) {
        (Ok(_), Items::Hot | Items::Many | Items::Of(_)) => Ok(Answer::Served),
        (Ok(_), Items::SoldOut | Items::Gone(_)) => {
            Err(Fault::error("a hold of nothing was granted"))
        }
        (Err(Error::Failed(failure)), _) if failure.kind == FailureKind::Overloaded => {
            Ok(Answer::ComeBackLater)
        }
        (Err(Error::Failed(failure)), _) => Err(failure.into()),
        (Err(no), items) => match (no.rejection(), items) {
            (Some(Rejection::InsufficientStock { .. }), Items::SoldOut | Items::Gone(_)) => {
                Ok(Answer::Served)
            }
            _ => Err(Fault::error(format!("a hold was refused: {no}"))),
        },
    }
}

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
