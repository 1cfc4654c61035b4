//! `stockhold movements`: the history of stock, over HTTP.

use comfy_table::Table;
use stockhold::Sku;

use super::{
    Exit, Fault,
    answer::Movement,
    pages::{List, Part},
    path::Path,
    remote::Remote,
    table::table,
};

/// Shows what came and went, the oldest first.
///
/// Each movement has a number. Whoever goes on after the last number that was shown misses none.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Movements {
    /// Only those of this SKU.
    #[arg(long)]
    sku: Option<Sku>,

    /// Only those after this number.
    #[arg(long, value_name = "ID")]
    after: Option<u64>,

    #[command(flatten)]
    part: Part,

    /// Print what the server answers, as it came.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  All there is of mugs:
    stockhold movements --sku MUG --all
  What came after the movement that a warehouse system has seen last:
    stockhold movements --after 4711 --json";

impl Movements {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        let Self { sku, after, part, json } = &self;
        let path = Path::of("/v1/movements").query("sku", sku.as_ref());
        let from = after.map(|after| after.to_string());
        let list = List { path, goes_on: "after", from, part, json: *json, table: movements };
        list.show(remote).map_err(|fault| fault.for_reader(*json))?;
        Ok(Exit::Ok)
    }
}

fn movements(movements: &[Movement]) -> Table {
    let header =
        ["#movement", "at", "sku", "location", "kind", "#units", "#on hand", "reason", "reference"];
    let mut table = table(header);
    for movement in movements {
        let Movement { id, sku, location, kind, delta, on_hand_after, at, .. } = movement;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.add_row([
            id.to_string(),
            at.to_string(),
            sku.clone(),
            location.clone(),
            kind.clone(),
            format!("{delta:+}"),
            on_hand_after.to_string(),
            text(&movement.reason),
            text(&movement.reference),
        ]);
    }
    table
}
