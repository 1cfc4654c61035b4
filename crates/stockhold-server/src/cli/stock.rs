//! `stockhold stock`: stock items, over HTTP.

mod change;
mod export;
mod import;
mod table;

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValue};
use stockhold::{Location, Sku};

use self::{
    change::{Adjust, Count, Receive, Set},
    export::Export,
    import::Import,
};
use super::{
    Exit, Fault,
    pages::{List, Part},
    path::Path,
    remote::{Ask, Remote, show},
};
use crate::wire::Format;

/// Looks at stock and changes it, on a server.
///
/// Ends with 0 if it was done, 1 if it was not, 2 if the command makes no sense.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StockCommand {
    /// Print what the server answers, as it came.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  Ten mugs, two of which are kept back from sale:
    stockhold stock set MUG --on-hand 10 --safety-stock 2
  A delivery; the note's number as the key, so that it cannot be booked twice:
    stockhold stock receive MUG 100 --reference note-17 --idempotency-key note-17
  One fell down:
    stockhold stock adjust MUG -1 --reason broken
  Take the catalogue of the shop over, and look at what was wrong with it:
    stockhold stock import catalogue.csv
  Everything, into a file, also while nothing is running:
    stockhold stock export --format csv -o stock.csv
    stockhold stock export --ledger sqlite:stockhold.db";

#[derive(Debug, Subcommand)]
enum Verb {
    Get(Get),
    List(Which),
    Set(Set),
    Adjust(Adjust),
    Count(Count),
    Receive(Receive),
    Import(Import),
    Export(Export),
}

/// Shows an item as it is now.
#[derive(Debug, Args)]
struct Get {
    #[command(flatten)]
    item: ItemName,
}

/// Which item.
#[derive(Debug, Args)]
struct ItemName {
    /// Which item.
    sku: Sku,

    /// Where it lies.
    #[arg(long, default_value = "default")]
    location: Location,
}

impl ItemName {
    fn path(&self) -> Path {
        Path::of("/v1/stock").part(&self.sku).query("location", self.elsewhere())
    }

    fn adjustments(&self) -> Path {
        let path = Path::of("/v1/stock").part(&self.sku).part("adjustments");
        path.query("location", self.elsewhere())
    }

    fn elsewhere(&self) -> Option<&Location> {
        Some(&self.location).filter(|location| **location != Location::default())
    }
}

/// Lists items by SKU and location.
#[derive(Debug, Args)]
struct Which {
    /// Only those whose SKU begins like this.
    #[arg(long)]
    prefix: Option<String>,

    /// Go on from here.
    #[arg(long)]
    cursor: Option<String>,

    #[command(flatten)]
    part: Part,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        const { &Self::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(word(*self));
        Some(value.help(match self {
            Self::Ndjson => "A JSON object a line",
            Self::Csv => "Comma-separated values below a line of titles",
        }))
    }
}

const fn word(format: Format) -> &'static str {
    match format {
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    }
}

/// What the name of a file says of how its rows are written.
fn format_of(file: &std::path::Path) -> Format {
    let ending = file.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    if ending.eq_ignore_ascii_case("csv") { Format::Csv } else { Format::Ndjson }
}

impl StockCommand {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        let json = self.json;
        self.verb.run(remote, json).map_err(|fault| fault.for_reader(json))
    }
}

impl Verb {
    fn run(self, remote: &Remote, json: bool) -> Result<Exit, Fault> {
        match self {
            Self::Import(import) => return import.run(remote, json),
            Self::Export(export) => export.run(remote)?,
            Self::List(which) => which.list(json).show(remote)?,
            Self::Get(Get { item }) => about_item(remote, &Ask::get(item.path()), json)?,
            Self::Set(set) => about_item(remote, &set.ask(), json)?,
            Self::Adjust(adjust) => movement(remote, &adjust.ask()?, json)?,
            Self::Count(count) => movement(remote, &count.ask()?, json)?,
            Self::Receive(receive) => movement(remote, &receive.ask()?, json)?,
        }
        Ok(Exit::Ok)
    }
}

fn about_item(remote: &Remote, ask: &Ask, json: bool) -> Result<(), Fault> {
    let reply = remote.talk(async |server| server.ask(ask).await)?;
    show(&reply, json, table::item)
}

fn movement(remote: &Remote, ask: &Ask, json: bool) -> Result<(), Fault> {
    let reply = remote.talk(async |server| server.ask(ask).await)?;
    show(&reply, json, table::moved)
}

impl Which {
    fn list(&self, json: bool) -> List<'_, super::answer::Item> {
        let path = Path::of("/v1/stock").query("prefix", self.prefix.as_ref());
        let (from, part) = (self.cursor.clone(), &self.part);
        List { path, goes_on: "cursor", from, part, json, table: table::items }
    }
}
