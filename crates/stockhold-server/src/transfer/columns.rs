//! CSV, a line at a time: no name has a line break in it, so no row has.

use std::collections::BTreeSet;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use serde_json::{Map, Value};

use crate::{problem::Problem, wire::RowBody};

/// The columns of a file, in its order.
pub(super) struct Columns {
    names: Vec<String>,
    cells: Cells,
}

impl Columns {
    /// Reads the first line.
    pub(super) fn read(line: &[u8]) -> Result<Self, Problem> {
        let mut cells = Cells::default();
        let names = cells.of(line)?;
        let mut seen = BTreeSet::new();
        for name in &names {
            if !RowBody::COLUMNS.contains(&name.as_str()) {
                let known = RowBody::COLUMNS.join(", ");
                let name: String = name.chars().take(200).collect();
                let fault = format_args!("is no column that is known; expected {known}");
                return Err(Problem::field(name, fault));
            }
            if !seen.insert(name.as_str()) {
                return Err(Problem::field(name.clone(), "must be a column once only"));
            }
        }
        let missing = RowBody::REQUIRED.into_iter().find(|name| !seen.contains(name));
        match missing {
            Some(name) => Err(Problem::field(name, "must be a column of the first line")),
            None => Ok(Self { names, cells }),
        }
    }

    /// A row as JSON, so that it is read by the same rules. An empty cell is left out.
    pub(super) fn row(&mut self, line: &[u8]) -> Result<Vec<u8>, Problem> {
        let cells = self.cells.of(line)?;
        if cells.len() != self.names.len() {
            let fault = format_args!("must have {} cells, as the first one has", self.names.len());
            return Err(Problem::field("line", fault));
        }
        let given = self.names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        let row: Map<_, _> = given.map(|(name, cell)| (name.clone(), value(name, cell))).collect();
        Ok(Value::from(row).to_string().into_bytes())
    }
}

/// What is written as an integer is one, in the columns that have numbers.
fn value(column: &str, cell: String) -> Value {
    let number: Option<i64> = cell.parse().ok().filter(|n: &i64| n.to_string() == cell);
    match number.filter(|_| RowBody::NUMBERS.contains(&column)) {
        Some(number) => number.into(),
        None => cell.into(),
    }
}

/// Takes lines apart.
struct Cells(Reader);

impl Default for Cells {
    fn default() -> Self {
        // A return within a line is no end of it, but a character that no name has.
        Self(ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build())
    }
}

impl Cells {
    fn of(&mut self, line: &[u8]) -> Result<Vec<String>, Problem> {
        if line.is_empty() {
            return Ok(Vec::new());
        }
        let line = [line, b"\n"].concat();
        let commas = line.iter().filter(|byte| **byte == b',').count();
        let (mut text, mut ends) = (vec![0; line.len()], vec![0; commas.saturating_add(2)]);
        let (result, _, written, ended) = self.0.read_record(&line, &mut text, &mut ends);
        if result != ReadRecordResult::Record {
            // It takes the end of the line for a part of the cell.
            self.0.reset();
            return Err(Problem::field("line", "has a quote that is not closed"));
        }
        text.truncate(written);
        ends.truncate(ended);
        split(&text, &ends).ok_or_else(|| Problem::field("line", "must be UTF-8"))
    }
}

/// The parts of a text that end there.
fn split(text: &[u8], ends: &[usize]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let begins = std::iter::once(&0).chain(ends);
    begins.zip(ends).map(|(begin, end)| text.get(*begin..*end).map(str::to_owned)).collect()
}

/// Writes a cell so that it is read as it was.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = !text.contains(['"', ',']);
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: impl AsRef<[u8]>) -> Option<Vec<String>> {
        Cells::default().of(line.as_ref()).ok()
    }

    #[test]
    fn cells_are_taken_apart() {
        assert_eq!(taken("a,b,,d").unwrap(), ["a", "b", "", "d"]);
        assert_eq!(taken(",").unwrap(), ["", ""]);
        assert_eq!(taken(r#""a,b","say ""hi""",c"#).unwrap(), ["a,b", "say \"hi\"", "c"]);
        assert_eq!(taken("a\rb,5").unwrap(), ["a\rb", "5"]);
        for line in [&br#""a"#[..], br#"a,"5"#, b"\xff,1", b"\xc3,\xb6"] {
            assert_eq!(taken(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_spoils_no_other() {
        let mut cells = Cells::default();
        assert!(cells.of(b"\"a,1").is_err());
        assert_eq!(cells.of(b"b,2").unwrap(), ["b", "2"]);
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in ["MUG", "a,b", "say \"hi\"", "\"", "Größe 42", "'x"] {
            assert_eq!(taken(quoted(text)).unwrap(), [text]);
        }
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let mut columns = Columns::read(b"\xef\xbb\xbfon_hand,sku").unwrap();
        assert_eq!(columns.row(b"5,MUG").unwrap(), br#"{"on_hand":5,"sku":"MUG"}"#);
        assert_eq!(columns.row(b"05,7").unwrap(), br#"{"on_hand":"05","sku":"7"}"#);
        assert!(columns.row(b"5").is_err() && columns.row(b"5,MUG,").is_err());
        for line in ["", "sku", "sku,on_hand,sku", "sku,on_hand,price", "SKU,on_hand"] {
            assert!(Columns::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
