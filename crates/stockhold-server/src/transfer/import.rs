//! Loads a list of stock, and says what is wrong with it, row by row.

use std::time::Duration;

use stockhold::{
    Engine, Error, Failure, FailureKind, Load, LoadMode, Loaded,
    clock::{Clock, SystemClock},
    crash::Point,
};
use tracing::debug;

use super::{
    columns::Columns,
    lines::{Line, Lines},
    outlet::Outlet,
};
use crate::{
    problem::Problem,
    wire::{BadRowBody, Format, ImportedBody, RowBody, parse},
};

/// Rows that share a transaction.
const GROUP: usize = 500;
/// How often rows are handed over again that came too much, and after how long.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// The rows of a list, as they come in.
pub(super) struct Rows {
    lines: Lines,
    /// Those of CSV; NDJSON has none.
    columns: Option<Columns>,
}

/// A row, and the number of its line.
type Row = (u64, Result<Load, Problem>);

impl Rows {
    /// Reads what stands before the first row.
    pub(super) async fn begin(format: Format, mut lines: Lines) -> Result<Self, Problem> {
        let columns = match format {
            Format::Ndjson => None,
            Format::Csv => {
                let first = lines.next().await?;
                Some(Columns::read(first.map_or(Ok(&[][..]), |line| line.text)?)?)
            }
        };
        Ok(Self { lines, columns })
    }

    /// Some rows; none at the end.
    async fn group(&mut self) -> Result<Vec<Row>, Problem> {
        let mut group = Vec::with_capacity(GROUP);
        while group.len() < GROUP {
            let Some(Line { number, text }) = self.lines.next().await? else { break };
            match text {
                Ok(text) if text.trim_ascii().is_empty() => {}
                Ok(text) => group.push((number, row(self.columns.as_mut(), text))),
                Err(problem) => group.push((number, Err(problem))),
            }
        }
        Ok(group)
    }
}

fn row(columns: Option<&mut Columns>, text: &[u8]) -> Result<Load, Problem> {
    let row: RowBody = match columns {
        Some(columns) => parse(&columns.row(text)?)?,
        None => parse(text)?,
    };
    row.load()
}

/// A list that is being loaded.
pub(super) struct Import {
    engine: Engine,
    mode: LoadMode,
    rows: Rows,
    outlet: Outlet,
    sum: ImportedBody,
}

/// Why a list is not loaded to its end.
enum Stopped {
    /// Nobody takes the answer any more.
    Gone,
    /// The rest was not done, from this line on.
    At(Option<u64>, Problem),
}

impl Import {
    pub(super) fn new(engine: Engine, mode: LoadMode, rows: Rows, outlet: Outlet) -> Self {
        Self { engine, mode, rows, outlet, sum: ImportedBody::default() }
    }

    /// Loads group by group. An answer without a sum at its end says that not all was loaded.
    pub(super) async fn run(mut self) {
        let stopped = match self.load_all().await {
            Ok(()) => {
                let Self { mut outlet, sum, .. } = self;
                outlet.add(&sum);
                // Who has gone does not want to know.
                let _ = outlet.end().await;
                return;
            }
            Err(stopped) => stopped,
        };
        match stopped {
            Stopped::Gone => debug!("the client of an import has gone"),
            Stopped::At(line, problem) => {
                self.outlet.add(&BadRowBody::of(line, &problem));
                let _ = self.outlet.push().await;
            }
        }
    }

    async fn load_all(&mut self) -> Result<(), Stopped> {
        loop {
            let group = self.rows.group().await.map_err(|problem| Stopped::At(None, problem))?;
            if group.is_empty() {
                return Ok(());
            }
            self.load(group).await?;
            Point::InImport.pass();
            self.outlet.flush().await.map_err(|_| Stopped::Gone)?;
        }
    }

    /// Loads the rows that are sound, and tells of the others in their order.
    async fn load(&mut self, group: Vec<Row>) -> Result<(), Stopped> {
        let sound: Vec<_> =
            group.iter().filter_map(|(_, row)| row.as_ref().ok().cloned()).collect();
        let mut answers = ask(&self.engine, self.mode, sound).await.into_iter();
        for (line, row) in group {
            let answer = match row {
                Ok(_) => answers.next().unwrap_or_else(|| Err(unanswered())),
                Err(problem) => {
                    self.bad(line, &problem);
                    continue;
                }
            };
            match answer {
                Ok(loaded) => self.sum.add(loaded),
                Err(error) if error.rejection().is_some() => {
                    self.bad(line, &Problem::from(error).out_of_range("on_hand"));
                }
                Err(error) => return Err(Stopped::At(Some(line), error.into())),
            }
        }
        Ok(())
    }

    fn bad(&mut self, line: u64, problem: &Problem) {
        self.sum.add_bad();
        self.outlet.add(&BadRowBody::of(Some(line), problem));
    }
}

/// The engine answers each row; anything else is a bug.
fn unanswered() -> Error {
    Failure::new(FailureKind::Internal, "a row of a list was not answered").into()
}

/// Hands rows over, and once more those that came too much: holds go first.
async fn ask(engine: &Engine, mode: LoadMode, rows: Vec<Load>) -> Vec<Result<Loaded, Error>> {
    let mut answers = engine.load(rows.clone(), mode).await;
    for _ in 0..TRIES {
        let late: Vec<_> = (0..answers.len()).filter(|at| is_late(answers.get(*at))).collect();
        if late.is_empty() {
            break;
        }
        SystemClock.sleep(PAUSE).await;
        let again = late.iter().filter_map(|at| rows.get(*at).cloned()).collect();
        for (at, answer) in late.into_iter().zip(engine.load(again, mode).await) {
            if let Some(slot) = answers.get_mut(at) {
                *slot = answer;
            }
        }
    }
    answers
}

fn is_late(answer: Option<&Result<Loaded, Error>>) -> bool {
    matches!(answer, Some(Err(Error::Failed(failure))) if failure.kind == FailureKind::Overloaded)
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::Body;
    use stockhold::{ItemKey, Sku};
    use tokio::sync::mpsc;

    use super::*;
    use crate::client::Pieces;

    fn rows(skus: std::ops::Range<usize>) -> String {
        skus.map(|n| format!("{{\"sku\":\"S{n}\",\"on_hand\":1}}\n")).collect()
    }

    async fn import_of(engine: &Engine, body: Body, outlet: Outlet) -> Import {
        let lines = Lines::of(body, Duration::from_secs(1));
        let rows = Rows::begin(Format::Ndjson, lines).await.unwrap();
        Import::new(engine.clone(), LoadMode::Create, rows, outlet)
    }

    async fn is_loaded(engine: &Engine, n: usize) -> bool {
        let item = ItemKey::at_default(Sku::new(format!("S{n}")).unwrap());
        engine.stock(&item).await.is_ok()
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_keeps_the_groups_that_were_loaded() {
        let engine = Engine::in_memory().unwrap();
        let (pieces, body) = mpsc::channel(3);
        for part in [rows(0..GROUP), rows(GROUP..GROUP + 1)] {
            pieces.send(Ok(part.into())).await.unwrap();
        }
        pieces.send(Err(io::Error::other("gone"))).await.unwrap();
        let body = Body::new(Pieces::of(body));
        let (outlet, answer) = Outlet::open();
        tokio::join!(import_of(&engine, body, outlet).await.run(), async {
            let told = http_body_util::BodyExt::collect(answer).await;
            assert!(told.is_err(), "an answer that is whole");
        });
        assert!(is_loaded(&engine, GROUP - 1).await && !is_loaded(&engine, GROUP).await);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_the_import() {
        let engine = Engine::in_memory().unwrap();
        let (outlet, answer) = Outlet::open();
        drop(answer);
        import_of(&engine, rows(0..GROUP + 1).into(), outlet).await.run().await;
        assert!(is_loaded(&engine, GROUP - 1).await && !is_loaded(&engine, GROUP).await);
    }
}
