//! The report for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use super::{
    super::{
        plan::{HOT, OTHERS},
        tally::Troubles,
    },
    Check, Counts, Latency, Report, Row,
};

impl Report {
    /// For people.
    pub(in crate::cli::demo) fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.summary(), self.shelves());
        // Writing to a String cannot fail.
        for Check { claim, holds, found } in &self.checks {
            let _ = writeln!(text, "  {} {claim}: {found}", if *holds { "ok  " } else { "FAIL" });
        }
        for line in self.verify.violations.iter().chain(&self.verify.warnings) {
            let _ = writeln!(text, "       {line}");
        }
        if let Some(first) = &self.errors.first {
            let _ = writeln!(text, "  the first error: {first}");
        }
        let _ = write!(text, "\n{}", self.conclusion());
        text
    }

    fn summary(&self) -> Table {
        let Counts { attempts, held, refused, confirmed, released, expired, .. } = self.counts;
        let Latency { p50, p99, .. } = self.place_ms;
        let Self { counts, errors, .. } = self;
        let count = |count: u64| grouped(count);
        let mut table = aligned(["what the shoppers saw", "", ""], &[1]);
        table.add_rows([
            ["attempts", &count(attempts), "places that were answered; the refused may come back"],
            ["held", &count(held), "all units of a basket, or none"],
            ["refused", &count(refused), "not enough left at that moment"],
            ["confirmed", &count(confirmed), "acknowledged orders"],
            ["released", &count(released), "given back, and sold again"],
            ["expired", &count(expired), &self.expired_words()],
            ["went without", &count(counts.went_without), "shoppers for whom nothing was left"],
            ["errors", &count(errors.total()), &trouble_words(errors, counts.gave_up)],
            ["oversold", &grouped(counts.oversold_units), "units sold that never existed"],
            [
                "place p50 / p99",
                &format!("{p50:.1} / {p99:.1}"),
                "ms, from request to durable answer",
            ],
            ["requests/s", &grouped(whole(self.requests_per_second)), &self.pace()],
        ]);
        table
    }

    fn expired_words(&self) -> String {
        match self.counts.too_late {
            0 => "left to die; their units went back to sale".to_owned(),
            late => format!("units back to sale; {} came too late to pay", grouped(late)),
        }
    }

    fn pace(&self) -> String {
        let Self { requests, seconds, connections, .. } = self;
        format!("{} in {seconds:.1} s over {connections} connections", grouped(*requests))
    }

    /// The hot item, the others together, and each item that fails a check.
    fn shelves(&self) -> Table {
        let header =
            ["units of", "to sell", "shoppers got", "ledger sold", "available", "held", "oversold"];
        let mut table = aligned(header, &[1, 2, 3, 4, 5, 6]);
        let (hot, others) = self.items.split_at(1.min(self.items.len()));
        let sum = Row::sum(format!("{OTHERS} other SKUs"), others);
        let oversold = others.iter().map(Row::oversold).sum();
        let fails = |row: &&Row| row.oversold() > 0 || !row.agrees() || !row.is_complete();
        for row in hot {
            table.add_row(row.cells(row.oversold()));
        }
        table.add_row(sum.cells(oversold));
        for row in others.iter().filter(fails) {
            table.add_row(row.cells(row.oversold()));
        }
        table
    }

    fn conclusion(&self) -> String {
        let Self { shoppers, units, counts: Counts { confirmed, held, .. }, .. } = self;
        let (shoppers, units) = (grouped(*shoppers), grouped(*units));
        if !self.ok {
            return "NOT proved: the lines with FAIL say what is wrong. This is a bug in stockhold; \
                    please report it with the seed.\n"
                .to_owned();
        }
        if *held == 0 {
            return "Nothing was proved: nobody got a hold.\n".to_owned();
        }
        format!(
            "Proved: {shoppers} shoppers fought over {units} units of {HOT}, and no unit of any SKU was sold \
             twice.\nAll {} acknowledged orders are in the ledger, and every unit that was not \
             paid for is for sale again.\n\n{NEXT}",
            grouped(*confirmed)
        )
    }
}

const NEXT: &str = "\
Next, your own:
  stockhold serve
  curl --json '{\"on_hand\":10}' -X PUT http://127.0.0.1:7300/v1/stock/MUG
  curl --json '{\"owner\":\"cart_981\",\"lines\":[{\"sku\":\"MUG\",\"quantity\":1}]}' http://127.0.0.1:7300/v1/holds
";

fn trouble_words(errors: &Troubles, gave_up: u64) -> String {
    let kinds = [
        (errors.overloaded, "overloaded (429)"),
        (errors.unavailable, "unavailable (503)"),
        (errors.server_error, "other 5xx"),
        (errors.timed_out, "timed out"),
        (errors.disconnected, "disconnected"),
        (errors.unexpected, "unexpected"),
        (gave_up, "shoppers gave up"),
    ];
    let met = kinds.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> =
        met.map(|(count, kind)| format!("{} {kind}", grouped(*count))).collect();
    if words.is_empty() {
        "requests that failed; they are sent again".to_owned()
    } else {
        words.join(", ")
    }
}

fn aligned<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[expect(clippy::cast_possible_truncation, reason = "a rate of requests is far below 2^53")]
const fn whole(number: f64) -> i64 {
    number as i64
}

/// A number with a comma before every third digit.
pub(in crate::cli::demo) fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
