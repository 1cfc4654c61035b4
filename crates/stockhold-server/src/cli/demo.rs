//! `stockhold demo`: a flash sale over real HTTP, and the proof that nothing was sold twice.
#![expect(clippy::print_stdout, reason = "the report is what the command is for")]

mod plan;
mod progress;
mod report;
mod sale;
mod shopper;
mod tally;

use std::{net::SocketAddr, sync::Arc};

use stockhold::{Engine, clock::SystemClock};
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::{
    plan::{HOT, OTHERS, Plan, TTL},
    report::{Report, grouped},
    sale::Sale,
};
use super::{Exit, Fault, LedgerUrl, Opening, open_ledger, runtime};

/// Runs a flash sale against a throw-away ledger, and proves that nothing was sold twice.
///
/// Ends with 0 if all is well, 5 if anything was oversold or an invariant is broken, 1 if the sale
/// could not be held.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// How many shoppers come.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shoppers: u64,

    /// How many units of the hot SKU there are.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    units: u32,

    /// Over how many connections the shoppers come; a quarter is for those who pay.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=4_096))]
    connections: u16,

    /// memory:, or sqlite:PATH for a new file that is kept; default: a file that is thrown away.
    #[arg(long, value_name = "URL")]
    ledger: Option<LedgerUrl>,

    /// Decides who wants what, when, and does what with it.
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let report = runtime()?.block_on(self.hold_sale())?;
        let text = if self.json { as_json(&report)? } else { report.text() };
        println!("{}", text.trim_end());
        Ok(report.exit())
    }

    async fn hold_sale(&self) -> Result<Report, Fault> {
        let (ledger, _thrown_away) = self.ledger()?;
        let plan = Plan { seed: self.seed, shoppers: self.shoppers, units: self.units };
        let engine = Engine::builder(open_ledger(&ledger, Opening::default()).await?).start()?;
        let (listener, address) = listen().await?;
        if !self.json {
            println!("{}", self.introduction(&plan, &ledger, address));
        }
        let (connections, clock) = (usize::from(self.connections), Arc::new(SystemClock));
        let sale = Sale { plan, engine, listener, connections, clock, quiet: self.json };
        let outcome = sale.hold().await?;
        Ok(Report::new(&plan, ledger.to_string(), connections, &outcome))
    }

    /// The ledger, and the folder that goes away with it.
    fn ledger(&self) -> Result<(LedgerUrl, Option<TempDir>), Fault> {
        match &self.ledger {
            None => {
                let folder = TempDir::with_prefix("stockhold-demo-")
                    .map_err(|e| Fault::error(format!("no temporary folder: {e}")))?;
                Ok((LedgerUrl::Sqlite(folder.path().join("stockhold.db")), Some(folder)))
            }
            Some(LedgerUrl::Sqlite(path)) if path.exists() => Err(Fault::usage(format!(
                "{} exists; the demo sells out a ledger of its own",
                path.display()
            ))),
            Some(LedgerUrl::Postgres(_)) => {
                Err(Fault::usage("the demo sells out a ledger of its own: sqlite:PATH or memory:"))
            }
            Some(ledger) => Ok((ledger.clone(), None)),
        }
    }

    fn introduction(&self, plan: &Plan, ledger: &LedgerUrl, address: SocketAddr) -> String {
        format!(
            "stockhold demo: a flash sale over HTTP\n\n  \
             {} shoppers want {} units of {HOT}, and baskets of {OTHERS} other SKUs with {} units each.\n  \
             Of those who get a hold, 70 % pay, 15 % give it back, and 15 % walk away: their holds die \
             after {} s.\n  \
             Whoever is refused may come back; units that come back are sold again.\n  \
             {} connections to http://{address}, seed {}, ledger {ledger}\n",
            grouped(plan.shoppers),
            grouped(plan.units),
            grouped(plan.units_of_others()),
            TTL.as_secs(),
            self.connections,
            plan.seed,
        )
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr), Fault> {
    let failed = |e| Fault::error(format!("cannot listen on 127.0.0.1: {e}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn as_json(report: &Report) -> Result<String, Fault> {
    serde_json::to_string_pretty(report).map_err(|e| Fault::error(e.to_string()))
}
