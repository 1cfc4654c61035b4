//! The log: lines on stderr, so that stdout belongs to whoever runs the program.
//!
//! A thread of its own writes them. Whoever reads stderr too slowly loses lines, and is told how
//! many; the service does not wait for it.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, fmt::MakeWriter};

use crate::settings::LogFormat;

/// So many lines may wait for stderr to take them.
const LINES_MOST: usize = 8_192;
/// How long the last lines may take when the program ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the log with a filter such as `warn` or `stockhold=debug`. It is to be kept to the end,
/// so that the last lines are written.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Log, ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let (sender, receiver) = sync_channel(LINES_MOST);
    let lines = Lines { sender, lost: Arc::default() };
    let lost = Arc::clone(&lines.lost);
    // Without a thread nobody takes the lines, and all of them are lost: no reason not to serve.
    let _ = thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, &lost));
    let log = fmt().with_env_filter(filter).with_writer(lines.clone());
    // A second start in one process (a test) leaves the first log as it is.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(Log(lines))
}

/// The log, which is written to its end when this is dropped.
#[derive(Debug)]
pub(crate) struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        let (written, all_written) = sync_channel(1);
        if self.0.sender.try_send(Message::Tell(written)).is_ok() {
            // Who does not read to the end has missed it.
            let _ = all_written.recv_timeout(PATIENCE);
        }
    }
}

enum Message {
    Line(Vec<u8>),
    /// That everything before it was written.
    Tell(SyncSender<()>),
}

/// Where lines are handed over.
#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Takes a whole line at once, which is how the log writes.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(messages: &Receiver<Message>, lost: &AtomicU64) {
    for message in messages {
        // Nobody can be told when stderr is closed.
        let _ = match message {
            Message::Line(line) => io::stderr().write_all(&line),
            Message::Tell(written) => {
                let _ = written.try_send(());
                Ok(())
            }
        };
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let _ = writeln!(io::stderr(), "{lines} lines of the log were lost: too slow a reader");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_slow_reader_and_what_it_misses_is_counted() {
        let (sender, receiver) = sync_channel(2);
        let mut lines = Lines { sender, lost: Arc::default() };
        for _ in 0..5 {
            lines.write_all(b"line\n").unwrap();
        }
        assert_eq!((receiver.try_iter().count(), lines.lost.load(Ordering::Relaxed)), (2, 3));
    }
}
