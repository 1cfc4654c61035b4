//! Holds for people.

use std::fmt::Write;

use comfy_table::Table;

use super::super::{
    answer::{Hold, item},
    table::table,
};

/// A hold with all that there is to say.
pub(super) fn hold(hold: &Hold) -> String {
    let Hold { id, state, owner, created_at, expires_at, max_expires_at, .. } = hold;
    let mut text = format!("hold       {id}\nstate      {state}\nowner      {owner}\n");
    // Writing to a String cannot fail.
    if let Some(reference) = &hold.reference {
        let _ = writeln!(text, "reference  {reference}");
    }
    let _ = writeln!(text, "placed     {created_at}");
    if state == "active" {
        let _ = writeln!(text, "expires    {} ({expires_at})", hold.deadline());
        let _ = writeln!(text, "at most    {max_expires_at}");
    }
    if hold.reacquired {
        text.push_str("It had expired; its units were taken again.\n");
    }
    let _ = writeln!(text, "{}", lines(hold));
    text
}

fn lines(hold: &Hold) -> Table {
    let mut table = table(["item", "#requested", "now"]);
    for line in &hold.lines {
        let item = item(&line.sku, &line.location);
        table.add_row([item, line.requested.to_string(), line.whereabouts()]);
    }
    table
}

/// A row for each hold.
pub(super) fn holds(holds: &[Hold]) -> Table {
    let mut table = table(["hold", "state", "owner", "lines", "placed", "expires"]);
    for hold in holds {
        let lines: Vec<_> = hold.lines.iter().map(|line| line.asked_for()).collect();
        table.add_row([
            hold.id.clone(),
            hold.state.clone(),
            hold.owner.clone(),
            lines.join(", "),
            hold.created_at.to_string(),
            hold.deadline(),
        ]);
    }
    table
}
