//! `stockhold migrate-ledger`: a shop moves to another ledger.

use indicatif::{ProgressBar, ProgressStyle};
use stockhold::ledger::transfer::{self, CHUNK, Place, Progress};

use super::{
    Doing, Exit, Fault, LedgerUrl, ledger_file::in_memory, ledger_url::let_in, runtime, say,
};

/// Moves a shop from one ledger to another: stock, movements, holds and their keys.
///
/// Stop the server first. Both ends are looked at before anything is made. The old ledger is checked,
/// and then sealed: no server starts with it any more. The new one must be empty; no server starts
/// with it until all is there and was checked. When it is interrupted, the same command goes on where
/// it was, or --give-up goes back. It needs a direct connection to Postgres, without a pooler in
/// transaction mode, and a role for which stockhold doctor has no complaint.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MigrateLedger {
    /// The ledger that the shop leaves: sqlite:PATH or postgres://...
    #[arg(long, value_name = "URL")]
    from: LedgerUrl,

    /// The ledger that it moves to: sqlite:PATH or postgres://...
    #[arg(long, value_name = "URL")]
    to: LedgerUrl,

    /// Give the move up before it is done: the old ledger can be served again, and the new one is
    /// to be thrown away, if it was not before.
    #[arg(long)]
    give_up: bool,
}

const EXAMPLES: &str = "\
Examples:
  A shop that has outgrown one machine:
    systemctl stop stockhold
    stockhold migrate-ledger --from sqlite:/var/lib/stockhold/shop.db --to postgres://shop@db/shop
    stockhold serve --ledger postgres://shop@db/shop
  It takes too long, and the shop is to open again from the file:
    stockhold migrate-ledger --from sqlite:/var/lib/stockhold/shop.db --to postgres://shop@db/shop \
--give-up";

impl MigrateLedger {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let (from, to) = (place(&self.from)?, place(&self.to)?);
        let runtime = runtime()?;
        if self.give_up {
            runtime.block_on(transfer::give_up(&from, &to))?;
            say(&format!("given up: {from} can be served again; throw {to} away"))?;
            return Ok(Exit::Ok);
        }
        let bar = Bar::new()?;
        let moved =
            runtime.block_on(transfer::run(&from, &to, CHUNK, |progress| bar.show(progress)))?;
        bar.0.finish_and_clear();
        say(&format!(
            "moved {} items, {} movements and {} holds; {to} is clean, and {from} is sealed.\n\
             Start the server with --ledger {}",
            moved.items,
            moved.movements,
            moved.holds,
            to.quoted()
        ))?;
        Ok(Exit::Ok)
    }
}

fn place(url: &LedgerUrl) -> Result<Place, Fault> {
    match url {
        LedgerUrl::Sqlite(path) => Ok(Place::Sqlite(path.clone())),
        LedgerUrl::Postgres(url) => Ok(Place::Postgres(Box::new(let_in(url)))),
        LedgerUrl::Memory => Err(in_memory()),
    }
}

/// On stderr, and only on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Result<Self, Fault> {
        let style = ProgressStyle::with_template("{msg:12} {wide_bar} {human_pos}/{human_len}");
        Ok(Self(ProgressBar::new(0).with_style(style.doing("the progress bar")?)))
    }

    fn show(&self, Progress { stage, done, all }: Progress) {
        self.0.set_message(stage);
        self.0.set_length(all);
        self.0.set_position(done);
    }
}
