//! A body as lines.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// The longest line, in bytes.
const LONGEST: usize = 64 * 1024;

/// The lines of a body, as they come in.
pub(super) struct Lines {
    body: Body,
    patience: Duration,
    /// What has come in, and is used from `begin` on.
    buffer: Vec<u8>,
    begin: usize,
    /// How many lines there were.
    count: u64,
    is_over: bool,
}

/// A line without its end, and its number, from 1.
pub(super) struct Line<'a> {
    pub(super) number: u64,
    pub(super) text: Result<&'a [u8], Problem>,
}

impl Lines {
    /// Each part of the body may take so long to come in.
    pub(super) fn of(body: Body, patience: Duration) -> Self {
        Self { body, patience, buffer: Vec::new(), begin: 0, count: 0, is_over: false }
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// If the body breaks off or stands still.
    pub(super) async fn next(&mut self) -> Result<Option<Line<'_>>, Problem> {
        let Some(end) = self.find_end().await? else { return Ok(None) };
        let Some(count) = self.count.checked_add(1) else { return Ok(None) };
        self.count = count;
        let begin = std::mem::replace(&mut self.begin, end.next);
        let text = match end.is_too_long {
            true => Err(too_long()),
            false => Ok(without_return(self.buffer.get(begin..end.at).unwrap_or_default())),
        };
        Ok(Some(Line { number: count, text }))
    }

    async fn find_end(&mut self) -> Result<Option<End>, Problem> {
        let (mut seen, mut is_too_long) = (0, false);
        loop {
            let rest = self.buffer.get(self.begin..).unwrap_or_default();
            let found = rest.get(seen..).unwrap_or_default().iter().position(|b| *b == b'\n');
            if let Some(found) = found {
                let at = self.begin + seen + found;
                let is_too_long = is_too_long || at - self.begin > LONGEST;
                return Ok(Some(End { at, next: at + 1, is_too_long }));
            }
            if self.is_over {
                let (at, is_empty) = (self.buffer.len(), rest.is_empty() && !is_too_long);
                let is_too_long = is_too_long || rest.len() > LONGEST;
                return Ok((!is_empty).then_some(End { at, next: at, is_too_long }));
            }
            // What is too long is thrown away while it comes in.
            is_too_long |= rest.len() > LONGEST;
            let used = if is_too_long { self.buffer.len() } else { self.begin };
            self.buffer.drain(..used);
            self.begin = 0;
            seen = self.buffer.len();
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Problem> {
        let frame = timeout(self.patience, self.body.frame()).await;
        match frame.map_err(|_| stands_still(self.patience))? {
            Some(Ok(frame)) => {
                self.buffer.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
            }
            Some(Err(_)) => return Err(Problem::field("body", "broke off")),
            None => self.is_over = true,
        }
        Ok(())
    }
}

/// Where a line ends, and the next one begins.
struct End {
    at: usize,
    next: usize,
    is_too_long: bool,
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn stands_still(patience: Duration) -> Problem {
    Problem::new(Kind::RequestTimeout, format!("nothing more of the list came for {patience:?}"))
}

fn too_long() -> Problem {
    let detail = format!("the line has more than {LONGEST} bytes");
    Problem::new(Kind::InvalidField, detail).or_field("line")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(body: &str) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::of(Body::from(body.to_owned()), Duration::from_secs(1));
        let mut all = Vec::new();
        while let Some(Line { number, text }) = lines.next().await.unwrap() {
            all.push((number, text.ok().map(|text| String::from_utf8(text.to_vec()).unwrap())));
        }
        all
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[tokio::test]
    async fn a_line_ends_at_its_end_or_that_of_the_body() {
        assert_eq!(lines("").await, []);
        assert_eq!(lines("a\nb").await, [(1, some("a")), (2, some("b"))]);
        assert_eq!(lines("a\r\n\nb\n").await, [(1, some("a")), (2, some("")), (3, some("b"))]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_left_out() {
        let fits = "x".repeat(LONGEST);
        let text = format!("{fits}\n{fits}y\n{}\nz", "y".repeat(3 * LONGEST));
        let expected = [(1, Some(fits)), (2, None), (3, None), (4, some("z"))];
        assert_eq!(lines(&text).await, expected);
        assert_eq!(lines(&"y".repeat(LONGEST + 1)).await, [(1, None)]);
    }
}
