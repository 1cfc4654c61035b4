//! Writing a history down while it happens, in several processes, some of which are killed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Event, Granted, History, Line, Op, Outcome};
use crate::now;

/// Records what the clients of one process do.
///
/// With a file, every event is written twice: when it is asked, as one whose answer is not known,
/// and when it is answered. So nothing is missing of a process that was killed.
#[derive(Debug)]
pub struct Recorder {
    process: String,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    events: BTreeMap<u64, Event>,
    file: Option<File>,
}

/// A question that is not answered yet. If it never is, its answer is unknown.
#[derive(Debug)]
#[must_use = "its answer has to be recorded"]
pub struct Pending<'a> {
    recorder: &'a Recorder,
    number: u64,
}

impl Recorder {
    /// In memory. The name tells the events of this recorder from those of others.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { process: name.to_owned(), book: Mutex::default() }
    }

    /// In memory, and in a file that another process may read later.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn to_file(name: &str, path: &Path) -> io::Result<Self> {
        let book = Book { file: Some(File::create(path)?), ..Book::default() };
        Ok(Self { process: name.to_owned(), book: Mutex::new(book) })
    }

    /// Something is asked now.
    pub fn ask(&self, op: Op, key: Option<&str>, lines: Vec<Line>) -> Pending<'_> {
        let mut book = self.book();
        let number = book.next;
        book.next = number.saturating_add(1);
        let (id, key) = ((self.process.clone(), number), key.map(str::to_owned));
        let (t_invoke, t_return, result) = (now(), u64::MAX, Outcome::Unknown);
        book.write(Event { id, op, key, lines, t_invoke, t_return, result });
        Pending { recorder: self, number }
    }

    /// All that was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.book().events.values().cloned().collect())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A client that panics has left the book in order.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn write(&mut self, event: Event) {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&event).expect("an event is JSON");
            line.push(b'\n');
            file.write_all(&line).expect("there is room for a history");
        }
        self.events.insert(event.id.1, event);
    }
}

impl Pending<'_> {
    /// It was done.
    pub fn ok(self, granted: Granted) {
        self.answered(Outcome::Ok(granted));
    }

    /// It was not done, and never will be.
    pub fn refused(self, code: &str) {
        self.answered(Outcome::Refused(code.to_owned()));
    }

    /// Nobody knows.
    pub fn unknown(self) {
        self.answered(Outcome::Unknown);
    }

    fn answered(self, result: Outcome) {
        let t_return = now();
        let mut book = self.recorder.book();
        if let Some(asked) = book.events.get(&self.number).cloned() {
            book.write(Event { t_return, result, ..asked });
        }
    }
}

impl History {
    /// Puts together what several recorders wrote.
    ///
    /// # Errors
    /// When a file cannot be read, or has a line that is no event. The last line of a process that
    /// was killed may be half a line: it is left out, since nobody acted on it.
    pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let mut events = BTreeMap::new();
        for file in files {
            read_one(file.as_ref(), &mut events)?;
        }
        Ok(Self::new(events.into_values().collect()))
    }

    /// Writes it as NDJSON.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        for event in self.events() {
            serde_json::to_writer(&mut to, event)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }
}

/// The later line of an event replaces the earlier one.
fn read_one(path: &Path, events: &mut BTreeMap<(String, u64), Event>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        let event: Event = serde_json::from_slice(&line)?;
        events.insert(event.id.clone(), event);
        line.clear();
    }
    Ok(())
}
