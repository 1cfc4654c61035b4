//! `stockhold bench`: how fast, beside what a developer would write instead, and beside the
//! ceiling, in one run on one machine.
//!
//! Absolute figures say more about a disk than about a program, so what counts are the ratios of
//! rows of the same run.
//!
//! | file | what is in it |
//! |---|---|
//! | `bench/plan.rs` | which rows there are, and in what order |
//! | `bench/workload.rs` | who asks for what: the same for every row |
//! | `bench/engine.rs` | holds and refusals through the engine |
//! | `bench/baseline.rs` | what a developer would write instead |
//! | `bench/bare.rs` | the ceiling: the same rows in the same batches, and nothing else |
//! | `bench/http.rs`, `bench/noop.rs` | the same over HTTP, and a server that does nothing |
//! | `bench/postgres.rs` | the same over a Postgres server |
//! | `bench/redis.rs` | copies and locks, by a Redis beside it |
//! | `bench/row.rs`, `bench/target.rs` | figures, ratios, and what they should be |
//! | `bench/report.rs` | the table and the JSON |

mod bare;
mod baseline;
mod batches;
mod child;
mod engine;
mod http;
mod key_runs;
mod ledger_file;
mod log;
mod machine;
mod noop;
mod plan;
mod postgres;
mod process;
mod redis;
mod report;
mod row;
mod target;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use self::{
    ledger_file::Shelf,
    machine::Machine,
    plan::{Job, Kind, Part, Sizes},
    postgres::PostgresUrl,
    redis::Beside,
    report::{Report, Settings},
    row::Row,
};
use super::{Doing, Exit, Fault, say};

pub(super) use self::{noop::Noop, postgres::Instance};

/// Measures holds per second, side by side with what one would write instead and with a ceiling.
///
/// Ends with 0 whether or not the targets are met; with 1 if a ledger does not verify clean.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// How long each row is measured.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,

    /// Over a Postgres server, instead of SQLite: `postgres://USER@HOST/DATABASE`. Every row makes
    /// a database of its own there, `stockhold_bench_...`, and drops it; the one that is named is left
    /// alone.
    #[arg(long, value_name = "URL")]
    ledger: Option<PostgresUrl>,

    /// Copies and locks as well, by this Redis: `redis://HOST`; together with --ledger. Its keys begin with
    /// stockhold-bench, and are removed.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// How many callers there are at once. The default is 1,64,1024; over Postgres
    /// 1,16,64,256,1024.
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    callers: Vec<u32>,

    /// How many ended holds are in the ledger of some rows; 0 leaves these rows out.
    #[arg(long, default_value_t = 1_000_000, value_name = "HOLDS")]
    preload: u64,

    /// How many stock items there are in some rows over Postgres; 0 leaves these rows out.
    #[arg(long, default_value_t = 1_000_000, value_name = "ITEMS")]
    stock: u32,

    /// How many processes share the load of a row over Postgres; 1 leaves this row out.
    #[arg(long, default_value_t = 4, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    instances: u32,

    /// Measure only these.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "PART,...")]
    only: Vec<Part>,

    /// On which disk: a folder in which a temporary one is made. The default is the current one.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    dir: PathBuf,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let callers = self.callers()?;
        allow_many_connections();
        let settings = Settings::new(self.seconds, callers, self.preload);
        let folder = temporary_folder(&self.dir)?;
        let machine = Machine::inspect(folder.path())?;
        let (rows, server) = match &self.ledger {
            None => {
                let jobs = plan::plan(&self.only, &settings.callers, settings.preload);
                (measure(&jobs, &settings, &folder)?, None)
            }
            Some(url) => {
                let (rows, server) =
                    postgres::measure(url, &self.over_postgres(&settings)?, &settings)?;
                (rows, Some(server))
            }
        };
        let beside = self.beside_redis(&settings, folder.path())?;
        let report = Report::new(machine, server, settings, rows).with(beside);
        say(&if self.json { report.as_json()? } else { report.as_text() })?;
        Ok(Exit::Ok)
    }

    fn beside_redis(&self, settings: &Settings, folder: &Path) -> Result<Vec<Beside>, Fault> {
        let is_wanted = self.only.is_empty() || self.only.contains(&Part::Redis);
        match (&self.redis, &self.ledger) {
            (Some(_), None) => Err(Fault::usage(
                "--redis: together with --ledger postgres://...; a file shares nothing",
            )),
            (Some(redis), Some(ledger)) if is_wanted => {
                redis::measure(ledger, redis, settings, folder)
            }
            (None, _) if self.only == [Part::Redis] => {
                Err(Fault::usage("--only redis: say where it is with --redis"))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn over_postgres(&self, settings: &Settings) -> Result<Vec<Job>, Fault> {
        let Self { preload, stock, instances, .. } = *self;
        // Names of items have six digits.
        if stock > 1_000_000 {
            return Err(Fault::usage("--stock: at most 1,000,000 items"));
        }
        let sizes = Sizes { preload, stock, instances };
        let jobs = plan::plan_postgres(&self.only, &settings.callers, sizes);
        if jobs.is_empty() && !self.only.contains(&Part::Redis) {
            return Err(Fault::usage("--only: over Postgres nothing is measured over HTTP"));
        }
        Ok(jobs)
    }

    fn callers(&self) -> Result<Vec<u32>, Fault> {
        const MOST: u32 = 8_192;
        let mut callers = match (&*self.callers, &self.ledger) {
            ([], None) => vec![1, 64, 1_024],
            ([], Some(_)) => vec![1, 16, 64, 256, 1_024],
            (callers, _) => callers.to_vec(),
        };
        callers.sort_unstable();
        callers.dedup();
        if callers.iter().any(|n| !(1..=MOST).contains(n)) {
            return Err(Fault::usage(format!("--callers: from 1 to {MOST} at once")));
        }
        Ok(callers)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 3_600.0;
    let seconds = text.parse().ok().filter(|seconds| (0.2..=LONGEST).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("from 0.2 to {LONGEST} seconds"))
}

/// Each caller over HTTP takes a file here and one in the server, which inherits the limit. If it
/// cannot be raised, connecting will say so.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn temporary_folder(on: &Path) -> Result<TempDir, Fault> {
    let folder = tempfile::Builder::new().prefix(".stockhold-bench-").tempdir_in(on);
    folder.doing(&format!("a temporary folder in {}", on.display()))
}

fn measure(jobs: &[Job], settings: &Settings, folder: &TempDir) -> Result<Vec<Row>, Fault> {
    let progress = Progress::new(jobs.len());
    progress.show("preparing ledgers");
    let holds = if jobs.iter().any(|job| job.is_preloaded()) { settings.preload } else { 0 };
    let shelf = Shelf::new(folder.path(), holds)?;
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        progress.show(&job.to_string());
        let row = measure_one(*job, settings, &shelf, &rows)?;
        progress.finished(&row);
        rows.push(row);
    }
    Ok(rows)
}

fn measure_one(job: Job, settings: &Settings, shelf: &Shelf, before: &[Row]) -> Result<Row, Fault> {
    match job.kind {
        Kind::Engine => engine::measure(job, settings, &shelf.take(job)?),
        Kind::Selecting | Kind::Guarded => baseline::measure(job, settings, &shelf.take(job)?),
        Kind::Bare => {
            let size = row::batches_of_engine(before, job);
            bare::measure(job, settings, &shelf.take(job)?, size)
        }
        Kind::Http => http::measure(job, settings, &shelf.take(job)?),
        Kind::DoNothing => http::measure_doing_nothing(job, settings, shelf.folder()),
        Kind::UnitRows => Err(Fault::usage("a row for each unit is measured over Postgres alone")),
    }
}

/// What is under way, on stderr; a line for each row that is done.
struct Progress(ProgressBar);

impl Progress {
    fn new(jobs: usize) -> Self {
        let bar = ProgressBar::new(jobs as u64);
        // The template is ours and well-formed; the default one is no harm either.
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    fn show(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    #[expect(clippy::print_stderr, reason = "so that a log of a long run shows how far it is")]
    fn finished(&self, row: &Row) {
        self.0.suspend(|| eprintln!("{}: {:.0}/s", row.job, row.per_second));
        self.step();
    }

    fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
