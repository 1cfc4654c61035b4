//! `stockhold stock import`: a catalogue of any size, streamed in both directions.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use clap::{Args, ValueEnum};
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use stockhold::clock::SystemClock;
use tokio::sync::mpsc;

use super::{
    super::{
        Doing, Exit, Fault,
        path::Path,
        refusal,
        remote::{Remote, one_thread, unanswered},
        say,
        url::Url,
    },
    format_of,
};
use crate::{
    client::{CallError, Pieces, Stream},
    wire::Format,
};

/// Brings items in from a file: `sku`, `location`, `on_hand`, `safety_stock`, one item a line.
///
/// As CSV the first line has these titles; as NDJSON each line is an object with these fields.
/// Location and safety stock may be left out. Bad rows are named on stderr with their line
/// numbers, and the others are taken all the same; then it ends with 1. To run the same import
/// again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    /// The file, or - for stdin.
    file: PathBuf,

    /// What to do with items that are known: `create` leaves equal ones and complains of others,
    /// `count` takes the file as a count of all stock.
    #[arg(long, value_enum, default_value_t = Mode::Create)]
    mode: Mode,

    /// How the rows are written [default: csv if the file is called so, else ndjson]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

const EXAMPLES: &str = "\
Examples:
  The catalogue, whose file begins with: sku,location,on_hand,safety_stock
    stockhold stock import catalogue.csv
  Out of another program; the bad rows go into a file:
    export-products | stockhold stock import - --format csv 2> bad.txt
  What was counted at the end of the year:
    stockhold stock import inventory.ndjson --mode count";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Create,
    Count,
}

impl Import {
    pub(super) fn run(self, remote: &Remote, json: bool) -> Result<Exit, Fault> {
        let source = Source::open(&self.file)?;
        let bar = bar(source.length);
        let summary = one_thread()?.block_on(self.send(remote, source, &bar, json));
        bar.finish_and_clear();
        let summary = summary?;
        if !json {
            say(&summary.in_words())?;
        }
        Ok(if summary.bad > 0 { Exit::Error } else { Exit::Ok })
    }

    async fn send(
        &self,
        remote: &Remote,
        source: Source,
        bar: &ProgressBar,
        json: bool,
    ) -> Result<Summary, Fault> {
        let (url, target) = remote.target()?;
        let (path, kind) = (self.path(), self.content_type());
        let patience = remote.timeout();
        let unread = Arc::new(OnceLock::new());
        let body = source.read(bar.clone(), Arc::clone(&unread))?;
        let answer =
            Stream::open(&target, path.as_str(), Some(kind), body, patience, Arc::new(SystemClock));
        let broken = |error| self.broke_off(&url, &error, unread.get());
        let answer = answer.await.map_err(broken)?;
        if !answer.is_success() {
            let reply = answer.reply().await.map_err(broken)?;
            return Err(refusal::fault(&reply, None));
        }
        Results { json, bar, summary: None }.read(answer, broken).await
    }

    fn path(&self) -> Path {
        let mode = match self.mode {
            Mode::Create => "create",
            Mode::Count => "count",
        };
        Path::of("/v1/stock-imports").query("mode", Some(mode))
    }

    fn content_type(&self) -> &'static str {
        self.format.unwrap_or_else(|| format_of(&self.file)).media_type()
    }

    /// The one thing that ends a request from this side is a file that cannot be read to its end. The
    /// connection goes with it, and which of the two is noticed first is chance.
    fn broke_off(&self, url: &Url, error: &CallError, unread: Option<&String>) -> Fault {
        let fault = match unread {
            Some(why) => Fault::error(format!("{} cannot be read: {why}", self.file.display())),
            None => unanswered(url, error, None),
        };
        if !error.may_have_been_done() {
            return fault;
        }
        Fault::error(format!(
            "{fault}\n  some rows may have been taken; run the same import again, and these are \
             left as they are"
        ))
    }
}

/// Where the rows come from.
struct Source {
    reader: Box<dyn Read + Send>,
    length: Option<u64>,
}

impl Source {
    fn open(file: &std::path::Path) -> Result<Self, Fault> {
        if file.as_os_str() == "-" {
            return Ok(Self { reader: Box::new(io::stdin()), length: None });
        }
        let opened = File::open(file).doing(&file.display().to_string())?;
        let length = opened.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        Ok(Self { reader: Box::new(opened), length })
    }

    /// Reads on a thread of its own, a few pieces ahead: whatever is read may block. It ends with
    /// the process, or when nobody wants any more. Says in `unread` why it could not read on.
    fn read(mut self, bar: ProgressBar, unread: Arc<OnceLock<String>>) -> Result<Pieces, Fault> {
        const PIECE: usize = 64 * 1024;
        const AHEAD: usize = 4;
        let (pieces, body) = mpsc::channel(AHEAD);
        let read = move || {
            loop {
                let mut piece = vec![0; PIECE];
                let piece = match self.reader.read(&mut piece) {
                    Ok(0) => break,
                    Ok(length) => {
                        piece.truncate(length);
                        bar.inc(length as u64);
                        Ok(Bytes::from(piece))
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        // Only once: it is the last piece.
                        let _ = unread.set(error.to_string());
                        Err(error)
                    }
                };
                let is_last = piece.is_err();
                if pieces.blocking_send(piece).is_err() || is_last {
                    break;
                }
            }
        };
        std::thread::Builder::new()
            .name("reader".into())
            .spawn(read)
            .doing("no thread to be had")?;
        Ok(Pieces::of(body))
    }
}

/// On stderr, and only if that is a terminal.
fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    // The template is ours and well-formed; the default one is no harm either.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A line of the answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    /// Without a number if it is about the list as a whole.
    Bad {
        line: Option<u64>,
        error: Wrong,
    },
    Summary(Summary),
}

#[derive(Debug, Deserialize)]
struct Wrong {
    code: String,
    detail: String,
}

/// The last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Summary {
    created: u64,
    counted: u64,
    unchanged: u64,
    bad: u64,
    lines: u64,
}

impl Summary {
    fn in_words(self) -> String {
        let Self { created, counted, unchanged, bad, lines } = self;
        format!(
            "{lines} rows: {created} created, {counted} counted, {unchanged} unchanged, {bad} bad"
        )
    }
}

/// What has been heard so far.
struct Results<'a> {
    json: bool,
    bar: &'a ProgressBar,
    summary: Option<Summary>,
}

impl Results<'_> {
    async fn read(
        mut self,
        mut answer: Stream,
        broken: impl Fn(CallError) -> Fault,
    ) -> Result<Summary, Fault> {
        let mut rest = Vec::new();
        while let Some(piece) = answer.next().await.map_err(&broken)? {
            rest.extend_from_slice(&piece);
            let complete = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in rest[..complete].split(|byte| *byte == b'\n') {
                self.line(line)?;
            }
            rest.drain(..complete);
            if rest.len() > LONGEST {
                return Err(not_ours());
            }
        }
        self.line(&rest)?;
        self.summary.ok_or_else(not_ours)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.is_empty() {
            return Ok(());
        }
        match serde_json::from_slice(line) {
            Ok(Line::Summary(summary)) => self.summary = Some(summary),
            Ok(Line::Bad { line, error: Wrong { code, detail } }) if !self.json => {
                self.bar.suspend(|| complain(line, &code, &detail));
            }
            Ok(Line::Bad { .. }) => {}
            Err(_) => return Err(not_ours()),
        }
        if self.json { say(&String::from_utf8_lossy(line)) } else { Ok(()) }
    }
}

/// Of an answer line, in bytes.
const LONGEST: usize = 256 * 1024;

fn not_ours() -> Fault {
    Fault::error("the answer is not that of a stockhold server, or broke off; import again")
}

#[expect(clippy::print_stderr, reason = "bad rows are told apart from the result")]
fn complain(line: Option<u64>, code: &str, detail: &str) {
    match line {
        Some(line) => eprintln!("line {line}: {detail} ({code})"),
        None => eprintln!("{detail} ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Result<Option<Summary>, Fault> {
        let bar = ProgressBar::hidden();
        let mut results = Results { json: false, bar: &bar, summary: None };
        for line in lines {
            results.line(line.as_bytes())?;
        }
        Ok(results.summary)
    }

    #[test]
    fn the_last_line_sums_up() {
        let bad = r#"{"line":3,"error":{"code":"invalid_field","detail":"sku must not be empty","field":"sku"}}"#;
        let sum = r#"{"created":1,"counted":0,"unchanged":0,"bad":1,"lines":2}"#;
        let summary = heard(&[bad, sum]).unwrap().unwrap();
        assert_eq!((summary.created, summary.bad, summary.lines), (1, 1, 2));
        assert!(summary.in_words().starts_with("2 rows: 1 created"));
    }

    #[test]
    fn an_answer_without_a_sum_is_none() {
        assert_eq!(heard(&[]).unwrap(), None);
        assert!(heard(&["<html>"]).is_err());
    }
}
