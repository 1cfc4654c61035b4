//! CSV, a line at a time: no name has a line break in it, so no row has.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{problem::Problem, wire::RowBody};

/// The columns of a file, in its order.
pub(super) struct Columns(Vec<String>);

impl Columns {
    /// Reads the first line.
    pub(super) fn read(line: &[u8]) -> Result<Self, Problem> {
        // Some programs begin a file with a mark of its encoding.
        let names = cells(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line))?;
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
            None => Ok(Self(names)),
        }
    }

    /// A row as JSON, so that it is read by the same rules. An empty cell is left out.
    pub(super) fn row(&self, line: &[u8]) -> Result<Vec<u8>, Problem> {
        let cells = cells(line)?;
        if cells.len() != self.0.len() {
            let fault = format_args!("must have {} cells, as the first one has", self.0.len());
            return Err(Problem::field("line", fault));
        }
        let given = self.0.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
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

/// Takes a line apart: quotes stand around a whole cell, and are doubled within.
fn cells(line: &[u8]) -> Result<Vec<String>, Problem> {
    let no_text = |_| Problem::field("line", "must be UTF-8");
    let mut rest = std::str::from_utf8(line).map_err(no_text)?;
    let mut cells = Vec::new();
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => plain(rest)?,
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(cells),
            None => return Err(Problem::field("line", "has something behind a quoted cell")),
        }
    }
}

fn plain(text: &str) -> Result<(String, &str), Problem> {
    let (cell, after) = text.split_at(text.find(',').unwrap_or(text.len()));
    if cell.contains('"') {
        return Err(Problem::field("line", "has a quote within a cell that is not quoted"));
    }
    Ok((cell.to_owned(), after))
}

fn unquote(mut text: &str) -> Result<(String, &str), Problem> {
    let mut cell = String::new();
    loop {
        let Some((part, after)) = text.split_once('"') else {
            return Err(Problem::field("line", "has a quote that is not closed"));
        };
        cell.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                text = more;
            }
            None => return Ok((cell, after)),
        }
    }
}

/// Writes a cell so that it is read as it was.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = !text.contains(['"', ',']);
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> Option<Vec<String>> {
        cells(line.as_bytes()).ok()
    }

    #[test]
    fn cells_are_taken_apart() {
        assert_eq!(taken("a,b,,d").unwrap(), ["a", "b", "", "d"]);
        assert_eq!(taken("").unwrap(), [""]);
        assert_eq!(taken(r#""a,b","say ""hi""",c"#).unwrap(), ["a,b", "say \"hi\"", "c"]);
        for line in [r#"a"b"#, r#""a"#, r#""a"b,c"#] {
            assert_eq!(taken(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in ["MUG", "a,b", "say \"hi\"", "\"", "Größe 42", "'x"] {
            assert_eq!(taken(&quoted(text)).unwrap(), [text]);
        }
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let columns = Columns::read(b"\xef\xbb\xbfon_hand,sku").unwrap();
        assert_eq!(columns.row(b"5,MUG").unwrap(), br#"{"on_hand":5,"sku":"MUG"}"#);
        assert_eq!(columns.row(b"05,7").unwrap(), br#"{"on_hand":"05","sku":"7"}"#);
        assert!(columns.row(b"5").is_err() && columns.row(b"5,MUG,").is_err());
        for line in ["", "sku", "sku,on_hand,sku", "sku,on_hand,price", "SKU,on_hand"] {
            assert!(Columns::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
