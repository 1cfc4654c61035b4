//! What the sale proves: the shoppers' word, the ledger's word and the verifier's, side by side.

mod row;
mod text;

use std::time::Duration;

use serde::Serialize;

use self::row::{Row, rows};
pub(super) use self::text::grouped;
use super::{plan::Plan, sale::Outcome, tally::Troubles};
use crate::cli::Exit;

/// All that is to be said, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether every check holds.
    pub(super) ok: bool,
    pub(super) seed: u64,
    pub(super) ledger: String,
    pub(super) connections: usize,
    pub(super) shoppers: u64,
    pub(super) units: u32,
    pub(super) counts: Counts,
    pub(super) errors: Troubles,
    pub(super) place_ms: Latency,
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) checks: Vec<Check>,
    pub(super) verify: Verified,
    pub(super) items: Vec<Row>,
}

/// What the shoppers saw: holds, unless it says units.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Counts {
    pub(super) attempts: u64,
    pub(super) held: u64,
    pub(super) refused: u64,
    pub(super) confirmed: u64,
    pub(super) released: u64,
    /// Left to die, or `too_late`.
    pub(super) expired: u64,
    /// Died before their shopper was done: the machine is too slow.
    pub(super) too_late: u64,
    /// Shoppers who left with nothing after they had come back.
    pub(super) went_without: u64,
    /// Shoppers whose requests failed too often.
    pub(super) gave_up: u64,
    /// Confirms that nobody answered.
    pub(super) unknown: u64,
    /// Answers that came from an earlier request with the same key.
    pub(super) replayed: u64,
    pub(super) oversold_units: i64,
}

/// Until a place was answered, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// A claim, and what was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) claim: &'static str,
    pub(super) holds: bool,
    pub(super) found: String,
}

/// The verifier's word.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verified {
    pub(super) clean: bool,
    pub(super) items: u64,
    pub(super) holds: u64,
    pub(super) movements: u64,
    pub(super) violations: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, ledger: String, connections: usize, outcome: &Outcome) -> Self {
        let Outcome { tally, open_for, .. } = outcome;
        let items = rows(plan, outcome);
        let oversold_units = items.iter().map(Row::oversold).sum();
        let verify = Verified::of(&outcome.verified);
        let checks = checks(&items, &verify);
        let seconds = open_for.as_secs_f64();
        Self {
            ok: checks.iter().all(|check| check.holds),
            seed: plan.seed,
            ledger,
            connections,
            shoppers: plan.shoppers,
            units: plan.units,
            counts: Counts::of(outcome, oversold_units),
            errors: tally.troubles.clone(),
            place_ms: Latency::of(outcome),
            requests: tally.requests,
            seconds,
            requests_per_second: per_second(tally.requests, *open_for),
            checks,
            verify,
            items,
        }
    }

    /// 5 if anything is wrong with the stock; 1 if nothing could be proved.
    pub(super) const fn exit(&self) -> Exit {
        if !self.ok {
            Exit::InvariantBroken
        } else if self.counts.held == 0 {
            Exit::Error
        } else {
            Exit::Ok
        }
    }
}

impl Counts {
    fn of(outcome: &Outcome, oversold_units: i64) -> Self {
        let tally = &outcome.tally;
        Self {
            attempts: tally.attempts,
            held: tally.held,
            refused: tally.refused,
            confirmed: tally.confirmed,
            released: tally.released,
            expired: tally.expired(),
            too_late: tally.too_late,
            went_without: tally.went_without,
            gave_up: tally.gave_up,
            unknown: tally.unknown,
            replayed: tally.replayed,
            oversold_units,
        }
    }
}

impl Latency {
    fn of(outcome: &Outcome) -> Self {
        let micros = &outcome.tally.latency;
        let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1_000.0;
        let at = |quantile| millis(micros.value_at_quantile(quantile));
        Self { p50: at(0.5), p99: at(0.99), max: millis(micros.max()) }
    }
}

impl Verified {
    fn of(report: &stockhold::verify::Report) -> Self {
        Self {
            clean: report.is_clean(),
            items: report.items,
            holds: report.holds,
            movements: report.movements,
            violations: report.violations.iter().take(20).map(ToString::to_string).collect(),
            warnings: report.warnings.iter().take(20).cloned().collect(),
        }
    }
}

fn checks(items: &[Row], verify: &Verified) -> Vec<Check> {
    let Verified { clean, holds, movements, violations, .. } = verify;
    let count = |which: fn(&Row) -> bool| items.iter().filter(|row| which(row)).count();
    let oversold = count(|row| row.oversold() > 0);
    let disagree = count(|row| !row.agrees());
    let incomplete = count(|row| !row.is_complete());
    let of_skus = |bad: usize| match bad {
        0 => format!("true of all {} SKUs", items.len()),
        bad => format!("NOT true of {bad} of {} SKUs", items.len()),
    };
    let rows = format!("{} holds and {} stock movements", grouped(*holds), grouped(*movements));
    let verdict = if *clean {
        format!("clean; it read {rows}")
    } else {
        format!("{} violations in {rows}", violations.len())
    };
    let check = |claim, holds, found| Check { claim, holds, found };
    vec![
        check("no unit was sold twice", oversold == 0, of_skus(oversold)),
        check("the ledger has exactly the acknowledged orders", disagree == 0, of_skus(disagree)),
        check("every unit is sold or for sale again", incomplete == 0, of_skus(incomplete)),
        check("the verifier recomputed every invariant from the rows", *clean, verdict),
    ]
}

fn per_second(requests: u64, duration: Duration) -> f64 {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    (requests / duration.as_secs_f64().max(0.001)).round()
}

#[cfg(test)]
mod tests {
    use stockhold::verify::{self, Invariant, Violation};

    use super::*;
    use crate::cli::demo::{
        plan::Want,
        sale::Stock,
        tally::{Event, Tally},
    };

    const PLAN: Plan = Plan { seed: 1, shoppers: 30, units: 10 };

    /// Everybody wanted one unit of the hot item, and this many got it.
    fn sold(confirmed: i64) -> Outcome {
        let items = PLAN.items();
        let mut tally = Tally::new(items.len());
        for _ in 0..confirmed {
            tally.note(Event::Held);
            tally.note(Event::Confirmed(&[Want { item: 0, units: 1 }]));
        }
        let on_shelf = |units| Stock { on_hand: units, held: 0, allocated: 0, available: units };
        let mut stock: Vec<Stock> = items.iter().map(|item| on_shelf(item.units)).collect();
        stock[0] = Stock { allocated: confirmed, available: 10 - confirmed, ..stock[0] };
        let open_for = Duration::from_secs(2);
        Outcome { tally, stock, verified: verify::Report::default(), open_for }
    }

    fn report(outcome: &Outcome) -> Report {
        Report::new(&PLAN, "memory:".to_owned(), 4, outcome)
    }

    /// The claims that do not hold.
    fn broken(outcome: &Outcome) -> Vec<&'static str> {
        let report = report(outcome);
        assert_eq!(report.exit(), if report.ok { Exit::Ok } else { Exit::InvariantBroken });
        assert_eq!(report.text().contains("NOT proved"), !report.ok);
        report.checks.iter().filter(|check| !check.holds).map(|check| check.claim).collect()
    }

    #[test]
    fn a_sale_to_the_last_unit_is_proved() {
        assert_eq!(broken(&sold(10)), Vec::<&str>::new());
        let text = report(&sold(10)).text();
        assert!(text.contains("Proved: 30 shoppers fought over 10 units"), "{text}");
    }

    #[test]
    fn one_unit_sold_twice_is_told_with_exit_code_5() {
        let outcome = sold(11);
        assert_eq!(broken(&outcome), ["no unit was sold twice"]);
        let report = report(&outcome);
        assert_eq!((report.exit(), report.counts.oversold_units), (Exit::InvariantBroken, 1));
        assert!(report.text().contains("FAIL no unit was sold twice: NOT true of 1 of 51 SKUs"));
    }

    #[test]
    fn the_shoppers_word_alone_is_enough_for_an_oversell() {
        let mut outcome = sold(11);
        outcome.stock[0] = Stock { on_hand: 10, allocated: 10, ..Stock::default() };
        let claims = ["no unit was sold twice", "the ledger has exactly the acknowledged orders"];
        assert_eq!(broken(&outcome), claims);
    }

    #[test]
    fn an_acknowledged_order_that_the_ledger_lost_is_told() {
        let mut outcome = sold(5);
        outcome.stock[0] = Stock { allocated: 4, available: 6, ..outcome.stock[0] };
        assert_eq!(broken(&outcome), ["the ledger has exactly the acknowledged orders"]);
    }

    #[test]
    fn a_confirm_that_nobody_answered_may_be_in_the_ledger_or_not() {
        let mut outcome = sold(5);
        outcome.tally.note(Event::Unknown(&[Want { item: 0, units: 1 }]));
        assert_eq!(broken(&outcome), Vec::<&str>::new());
        outcome.stock[0] = Stock { allocated: 6, available: 4, ..outcome.stock[0] };
        assert_eq!(broken(&outcome), Vec::<&str>::new());
        outcome.stock[0] = Stock { allocated: 7, available: 3, ..outcome.stock[0] };
        assert_eq!(broken(&outcome), ["the ledger has exactly the acknowledged orders"]);
    }

    #[test]
    fn a_unit_that_never_came_back_is_told() {
        let mut outcome = sold(5);
        outcome.stock[7] = Stock { held: 1, available: 0, ..outcome.stock[7] };
        assert_eq!(broken(&outcome), ["every unit is sold or for sale again"]);
        let text = report(&outcome).text();
        assert!(text.contains(&PLAN.items()[7].sku), "the item is named in {text}");
    }

    #[test]
    fn the_verifiers_word_counts() {
        let mut outcome = sold(5);
        let (subject, detail) = ("item MUG@default".to_owned(), "held 3, sum 2".to_owned());
        outcome.verified.violations = vec![Violation { invariant: Invariant::I2, subject, detail }];
        outcome.verified.violations_found = 1;
        assert_eq!(broken(&outcome).len(), 1);
        assert!(report(&outcome).text().contains("I2: item MUG@default: held 3, sum 2"));
    }

    #[test]
    fn a_sale_without_a_single_hold_proves_nothing() {
        let report = report(&sold(0));
        assert_eq!(report.exit(), Exit::Error);
        assert!(report.text().contains("Nothing was proved"));
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
