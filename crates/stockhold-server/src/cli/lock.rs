//! `stockhold lock`: locks, over HTTP.

mod backend;
mod instead;
mod run;

pub(super) use instead::Instead;

use clap::{Args, Subcommand};
use comfy_table::Table;
use serde::Deserialize;
use stockhold::LockName;

use super::{
    Exit, Fault,
    pages::{List, Part},
    path::Path,
    remote::{Ask, Remote, show},
    table::table,
    when::{Moment, in_words},
};

/// Does something while nobody else does it, and shows who does what.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LockCommand {
    #[command(subcommand)]
    verb: Verb,
}

/// What `lock run` starts.
const INSTEAD: &str = "lock-instead";

const EXAMPLES: &str = "\
Examples:
  A report that is made once a night, on whichever machine comes first:
    stockhold lock run nightly-report --ttl 30s -- ./report.sh
  The same, but not a second time if it is being made:
    stockhold lock run nightly-report --ttl 30s --wait 0s -- ./report.sh
  Who does what, and for how long at least:
    stockhold lock list --prefix nightly";

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    List(Which),
    Inspect(Inspect),
}

/// Lists the locks that somebody has, by name.
#[derive(Debug, Args)]
struct Which {
    /// Only those whose name begins with this.
    #[arg(long)]
    prefix: Option<String>,

    /// Go on from here.
    #[arg(long)]
    cursor: Option<String>,

    /// Print what the server answers, as it came.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    part: Part,
}

/// Shows since when somebody has a lock, and for how long.
///
/// Ends with 1 if nobody has it.
#[derive(Debug, Args)]
struct Inspect {
    /// Which lock.
    name: LockName,

    /// Print what the server answers, as it came.
    #[arg(long)]
    json: bool,
}

impl LockCommand {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        match self.verb {
            Verb::Run(run) => run.run(remote),
            Verb::List(which) => {
                let json = which.json;
                which.list().show(remote).map_err(|fault| fault.for_reader(json))?;
                Ok(Exit::Ok)
            }
            Verb::Inspect(Inspect { name, json }) => {
                let asked = remote.talk(async |server| server.ask(&Ask::get(lock(&name))).await);
                let reply = asked.map_err(|fault| fault.for_reader(json))?;
                show(&reply, json, |lock: &Lock| locks(std::slice::from_ref(lock)).to_string())?;
                Ok(Exit::Ok)
            }
        }
    }
}

fn lock(name: &LockName) -> Path {
    Path::of("/v1/locks").part(name)
}

impl Which {
    fn list(&self) -> List<'_, Lock> {
        let path = Path::of("/v1/locks").query("prefix", self.prefix.as_ref());
        let (from, part, json) = (self.cursor.clone(), &self.part, self.json);
        List { path, goes_on: "cursor", from, part, json, table: locks }
    }
}

#[derive(Debug, Deserialize)]
struct Lock {
    name: String,
    fence: Fence,
    expires_in_ms: u64,
    since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Fence {
    epoch: u64,
    seq: u64,
}

/// A row for each lock.
fn locks(locks: &[Lock]) -> Table {
    let mut table = table(["lock", "since", "fence", "ends unless renewed"]);
    for Lock { name, fence, expires_in_ms, since } in locks {
        table.add_row([
            name.clone(),
            since.map_or_else(String::new, |since| since.to_string()),
            stockhold::lock::Fence::from(*fence).to_string(),
            format!("in {}", in_words(std::time::Duration::from_millis(*expires_in_ms))),
        ]);
    }
    table
}

impl From<Fence> for stockhold::lock::Fence {
    fn from(Fence { epoch, seq }: Fence) -> Self {
        Self { epoch, seq }
    }
}
