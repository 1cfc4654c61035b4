//! The table and the JSON.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::{Serialize, Serializer};

use super::{
    Doing, Fault,
    machine::Machine,
    postgres::Facts,
    redis::{Beside, Bound},
    row::{Row, Rows},
    target::{Judged, Of, figure_in_words, judge},
};

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub(super) length: Duration,
    #[serde(rename = "ttl_seconds", serialize_with = "in_seconds")]
    pub(super) ttl: Duration,
    pub(super) callers: Vec<u32>,
    pub(super) preload: u64,
}

fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Settings {
    /// Holds live for 5 s; in a short run for half of it, so that expiry lies inside.
    pub(super) fn new(length: Duration, callers: Vec<u32>, preload: u64) -> Self {
        const TTL: Duration = Duration::from_secs(5);
        Self { length, ttl: TTL.min(length / 2), callers, preload }
    }

    /// What makes the run another one than the targets are meant for.
    fn doubts(&self, of: Of) -> Vec<String> {
        let (most, workload) = match of {
            Of::Sqlite => (&[1, 64, 1_024][..], "1, 64 and 1,024 callers"),
            Of::Postgres => (&[1, 16, 64, 256, 1_024][..], "1, 16, 64, 256 and 1,024 callers"),
        };
        let mut doubts = Vec::new();
        if self.length < Duration::from_secs(60) {
            doubts.push(format!("{:?} a row; the targets are meant for 60 s", self.length));
        }
        if self.callers != most || !matches!(self.preload, 0 | 1_000_000) {
            let before = "1,000,000 holds before";
            doubts.push(format!("the targets are meant for {workload}, and {before}"));
        }
        doubts
    }
}

/// All that is to be said.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    /// The Postgres that it was measured on, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Facts>,
    settings: Settings,
    doubts: Vec<String>,
    rows: Vec<WithShare>,
    targets: Vec<Judged>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Beside>,
    notes: &'static [&'static str],
}

/// A row and what it is of its ceiling.
#[derive(Debug, Serialize)]
struct WithShare {
    #[serde(flatten)]
    row: Row,
    share_of_ceiling: Option<f64>,
}

/// What one has to know to read the table.
const NOTES: &[&str] = &[
    "A hold is one line of one unit with an owner and a random key of its own; default schema; the \
     sweeper on; every ledger verified clean afterwards.",
    "(a) and (b) are one transaction per hold behind one mutex, which is the kindest way for SQLite: \
     same schema, file and durability; they look up no key and expire nothing, which favours them.",
    "The bare loop is one thread that writes the rows of the ledger, expiries included, in batches \
     of the mean size of the engine's row; its times are those of a batch. It decides nothing.",
    "The handler that does nothing parses and validates the same body, and answers one of the same \
     size. The ceiling of a row is the bare loop, or over HTTP this handler.",
    "Rows and bytes written are over the whole life of a hold, checkpoints included; over HTTP \
     without the last checkpoint.",
    "CPU: of the server per request, in microseconds; of the process that makes the load, in \
     percent of the machine.",
];

/// The same over Postgres.
const POSTGRES_NOTES: &[&str] = &[
    "A hold is one line of one unit with an owner and a random key of its own; default schema; the \
     sweeper on; a fresh database for every row, and every ledger verified clean afterwards.",
    "(a), (b) and (c) are one transaction per hold, over a connection for each caller as far as the \
     server has them, with prepared statements; (a) is SELECT ... FOR UPDATE; they look up no key \
     and expire nothing, which favours them.",
    "The bare loop is one connection that calls one function: the server itself makes up and writes \
     the rows of the ledger, 1,000 places and what is due in a batch, and commits. It decides \
     nothing, and no client works beside it; its times are those of a batch. It is the ceiling of \
     the rows with all callers.",
    "Bytes are those of the server's log, over the whole life of a hold; whoever else writes there \
     is in them.",
    "Connections: the most that were open in the row's database at once. Kept: for how long a batch \
     had its connection, its wait for one and its commit included.",
    "Late: how long after its deadline a hold was expired, by the ledger's clock.",
    "At a rate, a wait counts from when the hold was to be asked for, not from when it was.",
];

impl Report {
    pub(super) fn new(
        machine: Machine,
        server: Option<Facts>,
        settings: Settings,
        rows: Vec<Row>,
    ) -> Self {
        let (of, notes) = match server {
            None => (Of::Sqlite, NOTES),
            Some(_) => (Of::Postgres, POSTGRES_NOTES),
        };
        let mut doubts = machine.doubts();
        doubts.extend(server.iter().flat_map(Facts::doubts));
        doubts.extend(settings.doubts(of));
        doubts.extend(rows.iter().filter_map(shed));
        let targets = judge(of, Rows(&rows));
        let shares: Vec<_> = rows.iter().map(|row| Rows(&rows).share_of_ceiling(row)).collect();
        let rows = rows.into_iter().zip(shares);
        let rows = rows.map(|(row, share_of_ceiling)| WithShare { row, share_of_ceiling });
        let (rows, beside) = (rows.collect(), Vec::new());
        Self { machine, server, settings, doubts, rows, targets, beside, notes }
    }

    /// The same, with what was measured beside Redis.
    pub(super) fn with(self, beside: Vec<Beside>) -> Self {
        Self { beside, ..self }
    }

    pub(super) fn as_json(&self) -> Result<String, Fault> {
        serde_json::to_string_pretty(self).doing("writing JSON")
    }

    /// Markdown, to be pasted.
    pub(super) fn as_text(&self) -> String {
        let mut text = self.environment();
        // Writing to a String cannot fail.
        for doubt in &self.doubts {
            let _ = writeln!(text, "Warning: {doubt}.");
        }
        if !self.rows.is_empty() {
            let _ = writeln!(text, "\n{}\n\n{}\n", self.figures(), self.targets());
        }
        if !self.beside.is_empty() {
            let _ = writeln!(text, "\n{}\n", self.beside());
        }
        for note in self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn environment(&self) -> String {
        let Machine { cpu, cores, memory_mib, kernel, filesystem, date, .. } = &self.machine;
        let Machine { append, overwrite, stockhold, sqlite, build, .. } = &self.machine;
        let Settings { length, ttl, .. } = &self.settings;
        let (memory, sqlite) = (grouped(memory_mib), format!("SQLite {sqlite}"));
        let store = self.server.as_ref().map_or(sqlite, Facts::name);
        let server = or_blank(self.server.as_ref(), Facts::in_words);
        format!(
            "stockhold {stockhold} ({build} build), {store}, {date}\n\
             {cpu}, {cores} cores, {memory} MiB, Linux {kernel}, {filesystem}\n\
             4 KiB appended and synced: p50 {} us, p99 {} us; overwritten and synced: p50 {} us, \
             p99 {} us\n\
             {server}{length:?} a row, holds live for {ttl:?}\n",
            append.p50_us, append.p99_us, overwrite.p50_us, overwrite.p99_us
        )
    }

    /// Columns in which nothing stands are left out.
    fn figures(&self) -> Table {
        let columns = COLUMNS.iter().filter(|(_, cell)| {
            self.rows.iter().any(|measured| !cell(&measured.row, measured).is_empty())
        });
        let columns: Vec<_> = columns.collect();
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(columns.iter().map(|(name, _)| *name));
        for (column, (name, _)) in table.column_iter_mut().zip(&columns) {
            if !WORDS.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for measured in &self.rows {
            table.add_row(columns.iter().map(|(_, cell)| cell(&measured.row, measured)));
        }
        table
    }

    fn beside(&self) -> Table {
        let mut table = Table::new();
        let header = ["what", "figure", "beside", "its figure", "ratio", "bound", "verdict"];
        table.load_style(ASCII_MARKDOWN).set_header(header);
        for row in &self.beside {
            let figure = |figure: f64| format!("{} {}", small(figure), row.unit);
            let (what, other) = row.beside.clone().unzip();
            let verdict = row.is_met().map(|is_met| if is_met { "met" } else { "missed" });
            table.add_row([
                row.what.clone(),
                figure(row.figure),
                what.unwrap_or_default(),
                or_blank(other, figure),
                or_blank(row.ratio(), |ratio| format!("{ratio:.2}")),
                or_blank(row.bound, bound_in_words),
                verdict.unwrap_or_default().to_owned(),
            ]);
        }
        table
    }

    fn targets(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["target", "bound", "measured", "verdict"]);
        for judged in &self.targets {
            let figure = or_blank(judged.figure, figure_in_words);
            let verdict = judged.verdict.as_str().to_owned();
            table.add_row([judged.target.to_owned(), judged.bound.clone(), figure, verdict]);
        }
        table
    }
}

type Cell = fn(&Row, &WithShare) -> String;

/// Columns of words; the others are figures.
const WORDS: [&str; 3] = ["what", "asked for", "durability"];

const COLUMNS: [(&str, Cell); 17] = [
    ("what", |row, _| row.job.kind.name().to_owned()),
    ("asked for", |row, _| row.job.subject()),
    ("callers", |row, _| or_blank(Some(row.job.callers).filter(|n| *n > 0), grouped)),
    ("per second", |row, _| rounded(row.per_second)),
    ("of its ceiling", |_, measured| or_blank(measured.share_of_ceiling, percent)),
    ("p50 us", |row, _| or_blank(row.p50_us, grouped)),
    ("p99 us", |row, _| or_blank(row.p99_us, grouped)),
    ("places + ends a batch", |row, _| {
        or_blank(row.places_per_batch.zip(row.expiries_per_batch), in_a_batch)
    }),
    ("rows a hold", |row, _| or_blank(row.rows_per_hold, |rows| format!("{rows:.2}"))),
    ("bytes a hold", |row, _| or_blank(row.bytes_per_hold, rounded)),
    ("connections", |row, _| or_blank(row.connections, grouped)),
    ("kept p50 us", |row, _| or_blank(row.kept_p50_us, grouped)),
    ("kept p99 us", |row, _| or_blank(row.kept_p99_us, grouped)),
    ("late p99, most ms", |row, _| {
        or_blank(row.late_p99_ms.zip(row.late_most_ms), |(p99, most)| format!("{p99}, {most}"))
    }),
    ("server CPU", |row, _| or_blank(row.server_cpu_us, |micros| format!("{micros:.1}"))),
    ("load CPU", |row, _| or_blank(row.load_cpu_share, percent)),
    ("durability", |row, _| row.durability.to_owned()),
];

fn small(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { rounded(figure) }
}

fn bound_in_words(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(least) => format!("at least {}", small(least)),
        Bound::RatioAtMost(most) => format!("ratio at most {most:.1}"),
        Bound::RatioAtLeast(least) => format!("ratio at least {least:.1}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Callers that wait before they ask again are no closed loop.
fn shed(row: &Row) -> Option<String> {
    let times = grouped(row.shed);
    (row.shed > 0).then(|| format!("{}: callers were told {times} times to come later", row.job))
}

fn in_a_batch((places, expiries): (f64, f64)) -> String {
    format!("{places:.1} + {expiries:.1}")
}

fn or_blank<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(String::new, write)
}

fn rounded(number: f64) -> String {
    grouped(format_args!("{number:.0}"))
}

/// A whole number with its digits in groups of three.
pub(super) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::disk::SyncTime,
            plan::{Items, Kind},
            row::tests::made_up,
        },
        *,
    };

    fn report() -> Report {
        let sync = SyncTime { p50_us: 900, p99_us: 2_000 };
        let machine = Machine {
            cpu: "Abacus 9".to_owned(),
            cores: 2,
            memory_mib: 24_000,
            kernel: "6.1".to_owned(),
            filesystem: "ext4 on /dev/vda".to_owned(),
            append: sync,
            overwrite: sync,
            load_average: 7.5,
            date: "2026-01-01T00:00:00Z".to_owned(),
            stockhold: "0.1.0",
            sqlite: "3.50",
            build: "release",
        };
        let rows = vec![
            made_up(Kind::Engine, Items::Hot, 1_024, 0, 60_000),
            made_up(Kind::Bare, Items::Hot, 1_024, 0, 120_000),
        ];
        Report::new(machine, None, Settings::new(Duration::from_secs(10), vec![1_024], 0), rows)
    }

    #[test]
    fn the_text_names_the_machine_the_ratios_and_what_was_missed() {
        let text = report().as_text();
        let engine = "| engine | 1 SKU | 1,024 | 60,000 | 50 % |";
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["Abacus 9", "ext4 on /dev/vda", "p50 900 us", "7.5", engine, "fsync"] {
            assert!(squeezed.contains(part), "{part} in {text}");
        }
        assert!(squeezed.contains("| at least 0.60 | 0.50 | missed |"), "{text}");
        assert!(squeezed.contains("| at least 20,000 | 60,000 | met |"), "{text}");
    }

    #[test]
    fn the_json_is_one_object_with_flat_rows() {
        let json = report().as_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let engine = &json["rows"][0];
        assert_eq!((&engine["kind"], &engine["items"]), (&"engine".into(), &"hot".into()));
        assert_eq!(engine["share_of_ceiling"], 0.5);
        assert_eq!(json["targets"][0]["verdict"], "missed");
        assert_eq!(json["machine"]["append"]["p50_us"], 900);
    }

    #[test]
    fn holds_die_inside_the_measured_time() {
        for length in [200, 1_000, 4_000, 10_000, 60_000].map(Duration::from_millis) {
            let Settings { ttl, .. } = Settings::new(length, vec![1], 0);
            assert!(ttl < length && ttl <= Duration::from_secs(5));
            assert!(ttl >= Duration::from_millis(100), "the shortest life that is granted");
        }
    }

    #[test]
    fn another_workload_than_the_targets_mean_is_said() {
        let minute = Duration::from_secs(60);
        let usual = Settings::new(minute, vec![1, 64, 1_024], 1_000_000);
        assert!(usual.doubts(Of::Sqlite).is_empty());
        assert_eq!(usual.doubts(Of::Postgres).len(), 1);
        let other = Settings::new(minute / 2, vec![1, 8], 1_000);
        assert_eq!(other.doubts(Of::Sqlite).len(), 2);
    }

    #[test]
    fn digits_come_in_groups() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
