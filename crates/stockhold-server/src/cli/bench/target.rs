//! What the figures should be, in one table.

use serde::Serialize;

use super::{
    plan::{Items, Kind},
    report::grouped,
    row::{Before, Callers, Rows, ratio},
};

/// On which side of the bound it is good to be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

struct Target {
    what: &'static str,
    bound: Bound,
    figure: fn(Rows<'_>) -> Option<f64>,
}

/// Whether a target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Met,
    Missed,
    /// A row that it needs is not among those measured.
    NotMeasured,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A target, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Judged {
    pub(super) target: &'static str,
    pub(super) bound: String,
    pub(super) figure: Option<f64>,
    pub(super) verdict: Verdict,
}

const BASELINES: [Kind; 3] = [Kind::Selecting, Kind::Guarded, Kind::UnitRows];

/// Which targets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Sqlite,
    Postgres,
}

impl Of {
    const fn targets(self) -> &'static [Target] {
        match self {
            Self::Sqlite => &TARGETS,
            Self::Postgres => &POSTGRES,
        }
    }
}

/// "All callers" is the largest number of `--callers`: 1,024, if nothing else is asked for.
const TARGETS: [Target; 9] = [
    Target {
        what: "1 SKU, all callers: engine / bare loop",
        bound: Bound::AtLeast(0.6),
        figure: |rows| ratio(hot(rows, Kind::Engine)?, hot(rows, Kind::Bare)?),
    },
    Target {
        what: "1 SKU, all callers: engine / best of (a) and (b) with any callers",
        bound: Bound::AtLeast(10.0),
        figure: |rows| ratio(hot(rows, Kind::Engine)?, rows.best(&BASELINES)?),
    },
    Target {
        what: "1 SKU, all callers, empty ledger: engine, holds/s",
        bound: Bound::AtLeast(20_000.0),
        figure: |rows| hot(rows, Kind::Engine),
    },
    Target {
        what: "1 SKU, all callers, preloaded ledger: engine, holds/s",
        bound: Bound::AtLeast(5_000.0),
        figure: |rows| preloaded(rows, Kind::Engine),
    },
    Target {
        what: "slow-down by preloaded holds: engine / bare loop",
        bound: Bound::AtMost(1.2),
        figure: |rows| ratio(slow_down(rows, Kind::Engine)?, slow_down(rows, Kind::Bare)?),
    },
    Target {
        what: "1 SKU, one caller: time of a hold, engine / baseline (b)",
        bound: Bound::AtMost(1.3),
        figure: |rows| ratio(alone(rows, Kind::Guarded)?, alone(rows, Kind::Engine)?),
    },
    Target {
        what: "all callers: engine on 1 SKU / on 10,000 SKUs",
        bound: Bound::AtMost(1.5),
        figure: |rows| ratio(hot(rows, Kind::Engine)?, empty(rows, Kind::Engine, Items::Many)?),
    },
    Target {
        what: "HTTP, all callers: holds / do nothing",
        bound: Bound::AtLeast(0.4),
        figure: |rows| ratio(hot(rows, Kind::Http)?, hot(rows, Kind::DoNothing)?),
    },
    Target {
        what: "HTTP, all callers: refusals / do nothing",
        bound: Bound::AtLeast(0.7),
        figure: |rows| ratio(empty(rows, Kind::Http, Items::SoldOut)?, hot(rows, Kind::DoNothing)?),
    },
];

/// The same over Postgres. "Bare loop" is the bare batch in the server.
const POSTGRES: [Target; 10] = [
    Target {
        what: "1 SKU, all callers: engine / bare batch",
        bound: Bound::AtLeast(0.5),
        figure: |rows| ratio(hot(rows, Kind::Engine)?, hot(rows, Kind::Bare)?),
    },
    Target {
        what: "1 SKU, all callers: engine / best of (a), (b) and (c) with any callers",
        bound: Bound::AtLeast(10.0),
        figure: |rows| ratio(hot(rows, Kind::Engine)?, rows.best(&BASELINES)?),
    },
    Target {
        what: "1 SKU, all callers: engine, holds/s",
        bound: Bound::AtLeast(15_000.0),
        figure: |rows| hot(rows, Kind::Engine),
    },
    Target {
        what: "1 SKU, all callers: engine, holds/s, aimed at",
        bound: Bound::AtLeast(60_000.0),
        figure: |rows| hot(rows, Kind::Engine),
    },
    Target {
        what: "1 SKU, all callers: all instances together / one",
        bound: Bound::AtLeast(0.6),
        figure: |rows| {
            let together = rows.hot_engine(|job| job.instances > 1)?;
            ratio(together.per_second, hot(rows, Kind::Engine)?)
        },
    },
    Target {
        what: "1 SKU, 1,000 holds/s offered: p99, ms",
        bound: Bound::AtMost(25.0),
        figure: |rows| {
            let offered = rows.hot_engine(|job| job.offered.is_some())?;
            offered.p99_us.map(|micros| f64::from(micros) / 1e3)
        },
    },
    Target {
        what: "1 SKU, one caller: time of a hold, engine / baseline (b)",
        bound: Bound::AtMost(1.5),
        figure: |rows| ratio(alone(rows, Kind::Guarded)?, alone(rows, Kind::Engine)?),
    },
    Target {
        what: "slow-down from few stock items to many: engine / bare batch",
        bound: Bound::AtMost(1.3),
        figure: |rows| ratio(by_stock(rows, Kind::Engine)?, by_stock(rows, Kind::Bare)?),
    },
    Target {
        what: "slow-down by preloaded holds: engine / bare batch",
        bound: Bound::AtMost(1.3),
        figure: |rows| ratio(slow_down(rows, Kind::Engine)?, slow_down(rows, Kind::Bare)?),
    },
    Target {
        what: "1 SKU, all callers: the latest expiry, ms behind its deadline",
        bound: Bound::AtMost(1_000.0),
        figure: |rows| {
            let most = rows.most_callers()?;
            let hot = rows.hot_engine(|job| job.callers == most && job.instances == 1)?;
            hot.late_most_ms.map(|late| late as f64)
        },
    },
];

fn empty(rows: Rows<'_>, kind: Kind, items: Items) -> Option<f64> {
    rows.rate(kind, items, Callers::Most, Before::Empty)
}

fn hot(rows: Rows<'_>, kind: Kind) -> Option<f64> {
    empty(rows, kind, Items::Hot)
}

fn preloaded(rows: Rows<'_>, kind: Kind) -> Option<f64> {
    rows.rate(kind, Items::Hot, Callers::Most, Before::Preloaded)
}

fn alone(rows: Rows<'_>, kind: Kind) -> Option<f64> {
    rows.rate(kind, Items::Hot, Callers::One, Before::Empty)
}

fn slow_down(rows: Rows<'_>, kind: Kind) -> Option<f64> {
    ratio(hot(rows, kind)?, preloaded(rows, kind)?)
}

/// From the fewest stock items to the most.
fn by_stock(rows: Rows<'_>, kind: Kind) -> Option<f64> {
    let all = rows.0.iter().filter(|row| row.job.kind == kind);
    let mut rates = all.filter_map(|row| match row.job.items {
        Items::Of(items) => Some((items, row.per_second)),
        Items::Hot | Items::Many | Items::SoldOut | Items::Gone(_) => None,
    });
    let (first, second) = (rates.next()?, rates.next()?);
    let ((_, few), (_, many)) = if first.0 < second.0 { (first, second) } else { (second, first) };
    ratio(few, many)
}

/// Holds every target against the rows.
pub(super) fn judge(of: Of, rows: Rows<'_>) -> Vec<Judged> {
    of.targets().iter().map(|target| target.judge(rows)).collect()
}

impl Target {
    fn judge(&self, rows: Rows<'_>) -> Judged {
        let figure = (self.figure)(rows);
        let verdict = match (figure, self.bound) {
            (None, _) => Verdict::NotMeasured,
            (Some(figure), Bound::AtLeast(least)) if figure >= least => Verdict::Met,
            (Some(figure), Bound::AtMost(most)) if figure <= most => Verdict::Met,
            (Some(_), Bound::AtLeast(_) | Bound::AtMost(_)) => Verdict::Missed,
        };
        let bound = match self.bound {
            Bound::AtLeast(least) => format!("at least {}", figure_in_words(least)),
            Bound::AtMost(most) => format!("at most {}", figure_in_words(most)),
        };
        Judged { target: self.what, bound, figure, verdict }
    }
}

/// A rate as a whole number, a ratio with two digits behind the point.
pub(super) fn figure_in_words(figure: f64) -> String {
    if figure >= 1_000.0 { grouped(format_args!("{figure:.0}")) } else { format!("{figure:.2}") }
}

#[cfg(test)]
mod tests {
    use super::{super::row::tests::made_up, *};
    use crate::cli::bench::row::Row;

    /// A run in which each target is just met.
    fn rows() -> Vec<Row> {
        let row = made_up;
        vec![
            row(Kind::Engine, Items::Hot, 1, 0, 1_000),
            row(Kind::Selecting, Items::Hot, 1, 0, 1_100),
            row(Kind::Guarded, Items::Hot, 1, 0, 1_300),
            row(Kind::Guarded, Items::Hot, 64, 0, 6_000),
            row(Kind::Engine, Items::Hot, 1_024, 0, 60_000),
            row(Kind::Bare, Items::Hot, 1_024, 0, 100_000),
            row(Kind::Engine, Items::Many, 1_024, 0, 40_000),
            row(Kind::Engine, Items::Hot, 1_024, 1_000_000, 50_000),
            row(Kind::Bare, Items::Hot, 1_024, 1_000_000, 100_000),
            row(Kind::DoNothing, Items::Hot, 1_024, 0, 50_000),
            row(Kind::Http, Items::Hot, 1_024, 0, 20_000),
            row(Kind::Http, Items::SoldOut, 1_024, 0, 35_000),
        ]
    }

    fn verdicts(rows: &[Row]) -> Vec<Verdict> {
        judge(Of::Sqlite, Rows(rows)).into_iter().map(|judged| judged.verdict).collect()
    }

    /// How the verdicts change when this row has another rate.
    fn missed_with(
        kind: Kind,
        items: Items,
        callers: u32,
        is_preloaded: bool,
        rate: f64,
    ) -> Vec<usize> {
        let mut rows = rows();
        for row in &mut rows {
            let Row { job, per_second, .. } = row;
            if (job.kind, job.items, job.callers) == (kind, items, callers)
                && job.is_preloaded() == is_preloaded
            {
                *per_second = rate;
            }
        }
        let missed = verdicts(&rows).into_iter().enumerate();
        missed.filter(|(_, verdict)| *verdict == Verdict::Missed).map(|(n, _)| n).collect()
    }

    #[test]
    fn at_its_bound_a_target_is_met() {
        assert_eq!(verdicts(&rows()), [Verdict::Met; TARGETS.len()]);
    }

    #[test]
    fn beyond_its_bound_a_target_is_missed() {
        let (hot, many, gone) = (Items::Hot, Items::Many, Items::SoldOut);
        assert_eq!(missed_with(Kind::Bare, hot, 1_024, false, 100_100.0), [0]);
        assert_eq!(missed_with(Kind::Guarded, hot, 64, false, 6_001.0), [1]);
        assert_eq!(missed_with(Kind::Selecting, hot, 1, false, 6_001.0), [1]);
        assert_eq!(missed_with(Kind::Engine, hot, 1_024, false, 19_999.0), [0, 1, 2]);
        assert_eq!(missed_with(Kind::Engine, hot, 1_024, true, 4_999.0), [3, 4]);
        assert_eq!(missed_with(Kind::Bare, hot, 1_024, true, 100_001.0), [4]);
        assert_eq!(missed_with(Kind::Engine, hot, 1, false, 999.0), [5]);
        assert_eq!(missed_with(Kind::Engine, many, 1_024, false, 39_999.0), [6]);
        assert_eq!(missed_with(Kind::Http, hot, 1_024, false, 19_999.0), [7]);
        assert_eq!(missed_with(Kind::Http, gone, 1_024, false, 34_999.0), [8]);
    }

    #[test]
    fn without_its_rows_a_target_is_not_measured() {
        assert_eq!(verdicts(&[]), [Verdict::NotMeasured; TARGETS.len()]);
        let engine: Vec<_> =
            rows().into_iter().filter(|row| row.job.kind == Kind::Engine).collect();
        let judged = judge(Of::Sqlite, Rows(&engine));
        assert_eq!((judged[2].verdict, judged[2].figure), (Verdict::Met, Some(60_000.0)));
        assert_eq!((judged[0].verdict, judged[0].figure), (Verdict::NotMeasured, None));
    }
}
