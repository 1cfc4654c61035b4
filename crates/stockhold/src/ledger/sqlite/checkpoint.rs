//! Moves the log into the file, deliberately.
//!
//! SQLite would do it inside the commit that fills the log, and make a thousand callers wait for
//! it. Here a thread of its own copies most of the log while the writer goes on; what came in
//! meanwhile is little, and the writer copies that itself between two batches. Then nothing is
//! left to copy, and SQLite begins the log anew in the same file, which is cheaper to sync than
//! one that grows.

use std::{
    cell::Cell,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    thread::JoinHandle,
};

use rusqlite::{Connection, hooks::Wal};
use tracing::warn;

/// From that many pages of 4 KiB on the log is moved: 32 MiB.
const PAGES: u32 = 8_192;
/// The writer moves the log itself if it grew to that many pages nevertheless: 256 MiB.
const MOST_PAGES: u32 = 65_536;

thread_local! {
    /// Pages in the log after the last commit of this thread.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The writer's handle on the thread that copies.
pub(super) struct Checkpointer {
    requests: SyncSender<()>,
    copied: Receiver<()>,
    copying: bool,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts the thread. `conn` is its own connection to the file at `path`.
    pub(super) fn start(conn: Connection, path: &Path) -> std::io::Result<Self> {
        let (requests, requested) = sync_channel(1);
        let (copied, done) = sync_channel(1);
        let name = format!("checkpoint {}", path.display());
        let work = move || {
            while requested.recv().is_ok() {
                copy(&conn);
                if copied.send(()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok(Self { requests, copied: done, copying: false, thread })
    }

    /// Has the connection count the pages of its log. SQLite's own checkpoints are off then.
    pub(super) fn watch(conn: &Connection) {
        conn.wal_hook(Some(|_: &Wal, pages| {
            LOG_PAGES.set(u32::try_from(pages).unwrap_or(0));
            Ok(())
        }));
    }

    /// To be called by the writer after each commit.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = LOG_PAGES.get();
        if self.copying {
            let is_copied = !matches!(self.copied.try_recv(), Err(TryRecvError::Empty));
            if is_copied || pages >= MOST_PAGES {
                self.copying = false;
                copy(writer);
            }
        } else if pages >= PAGES {
            let sent = self.requests.try_send(());
            self.copying = !matches!(sent, Err(TrySendError::Disconnected(())));
        }
    }

    /// Ends the thread, so that its connection is closed before the writer's.
    pub(super) fn stop(self) {
        let Self { requests, copied, thread, .. } = self;
        drop((requests, copied));
        if thread.join().is_err() {
            warn!("the checkpoint thread has panicked");
        }
    }
}

/// Copies what no reader needs any more. If it fails, the log only stays longer.
fn copy(conn: &Connection) {
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        warn!(%error, "the log could not be moved into the file");
    }
}
