//! `stockhold verify`: the invariants, recomputed from the rows.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use stockhold::{
    ledger::{postgres::PostgresLedger, sqlite::SqliteLedger},
    verify::{Report, Violation},
};

use super::{
    Exit, Fault, LedgerUrl,
    ledger_file::{LedgerAnywhere, in_memory},
    ledger_url::let_in,
    runtime, say,
};

/// Checks the invariants of a ledger from its rows; read-only, also beside a running server.
///
/// Ends with 0 if none is broken, 5 if one is, 1 if the ledger cannot be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    ledger: LedgerAnywhere,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let report = recompute(&self.ledger.ledger)?;
        let text = if self.json { as_json(&report)? } else { as_text(&report) };
        say(text.trim_end())?;
        Ok(if report.is_clean() { Exit::Ok } else { Exit::InvariantBroken })
    }
}

fn recompute(ledger: &LedgerUrl) -> Result<Report, Fault> {
    match ledger {
        LedgerUrl::Sqlite(path) => Ok(SqliteLedger::verify_file(path)?),
        LedgerUrl::Postgres(url) => {
            Ok(runtime()?.block_on(PostgresLedger::verify_at(&let_in(url)))?)
        }
        LedgerUrl::Memory => Err(in_memory()),
    }
}

fn as_json(report: &Report) -> Result<String, Fault> {
    #[derive(Serialize)]
    struct Json<'a> {
        clean: bool,
        items: u64,
        holds: u64,
        movements: u64,
        violations_found: u64,
        violations: Vec<Broken<'a>>,
        warnings: &'a [String],
    }
    #[derive(Serialize)]
    struct Broken<'a> {
        invariant: &'a str,
        subject: &'a str,
        detail: &'a str,
    }
    impl<'a> Broken<'a> {
        fn of(Violation { invariant, subject, detail }: &'a Violation) -> Self {
            Self { invariant: invariant.as_str(), subject, detail }
        }
    }
    let json = Json {
        clean: report.is_clean(),
        items: report.items,
        holds: report.holds,
        movements: report.movements,
        violations_found: report.violations_found,
        violations: report.violations.iter().map(Broken::of).collect(),
        warnings: &report.warnings,
    };
    serde_json::to_string_pretty(&json).map_err(|e| Fault::error(e.to_string()))
}

fn as_text(report: &Report) -> String {
    let Report { items, holds, movements, violations, violations_found, warnings } = report;
    let mut text = format!("{items} items, {holds} holds, {movements} movements\n");
    // Writing to a String cannot fail.
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if report.is_clean() {
        text.push_str("clean: no invariant is broken\n");
        return text;
    }
    let _ = writeln!(text, "{}", table(violations));
    let _ = writeln!(text, "broken: {violations_found} violations");
    let unseen = violations_found.saturating_sub(violations.len() as u64);
    if unseen > 0 {
        let _ = writeln!(text, "{unseen} of them are not shown");
    }
    text
}

fn table(violations: &[Violation]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["invariant", "of", "found"]);
    for Violation { invariant, subject, detail } in violations {
        table.add_row([invariant.as_str(), subject, detail]);
    }
    table
}

#[cfg(test)]
mod tests {
    use stockhold::verify::Invariant;

    use super::*;

    fn broken() -> Report {
        let (subject, detail) = ("item MUG@default".to_owned(), "held 3, sum 2".to_owned());
        let violations = vec![Violation { invariant: Invariant::I2, subject, detail }];
        Report { items: 1, violations, violations_found: 3, ..Report::default() }
    }

    #[test]
    fn a_clean_report_says_so() {
        let text = as_text(&Report::default());
        assert!(text.contains("0 items") && text.contains("clean"), "{text}");
        assert!(as_json(&Report::default()).unwrap().contains("\"clean\": true"));
    }

    #[test]
    fn a_broken_invariant_is_named() {
        let text = as_text(&broken());
        for part in ["I2", "item MUG@default", "held 3, sum 2", "3 violations", "2 of them"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = as_json(&broken()).unwrap();
        assert!(json.contains("\"violations_found\": 3") && json.contains("\"I2\""), "{json}");
    }
}
