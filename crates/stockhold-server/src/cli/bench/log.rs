//! Moves the log into the file as the ledger's `checkpoint.rs` does: a thread of its own copies
//! most of it, and the writer what came in meanwhile.

use std::{
    cell::Cell,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::JoinHandle,
};

use rusqlite::{Connection, hooks::Wal};

/// As in `checkpoint.rs`: 32 MiB, and 256 MiB.
const PAGES: i32 = 8_192;
const MOST_PAGES: i32 = 65_536;

thread_local! {
    /// Pages in the log after the last commit of this thread.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(super) struct Log {
    requests: SyncSender<()>,
    copied: Receiver<()>,
    is_copying: bool,
    thread: JoinHandle<()>,
}

impl Log {
    /// `writer` belongs to this thread; `second` is another connection to the same file.
    pub(super) fn watch(writer: &Connection, second: Connection) -> rusqlite::Result<Self> {
        writer.pragma_update(None, "wal_autocheckpoint", 0)?;
        LOG_PAGES.set(0);
        writer.wal_hook(Some(|_: &Wal, pages| {
            LOG_PAGES.set(pages);
            Ok(())
        }));
        let (requests, requested) = sync_channel(1);
        let (done, copied) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            while requested.recv().is_ok() {
                // If it fails, the log only stays longer.
                let _ = copy(&second);
                let _ = done.send(());
            }
        });
        Ok(Self { requests, copied, is_copying: false, thread })
    }

    pub(super) fn after_commit(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        let pages = LOG_PAGES.get();
        if self.is_copying {
            let is_done = !matches!(self.copied.try_recv(), Err(TryRecvError::Empty));
            if is_done || pages >= MOST_PAGES {
                self.is_copying = false;
                copy(writer)?;
            }
        } else if pages >= PAGES {
            self.is_copying = self.requests.try_send(()).is_ok();
        }
        Ok(())
    }

    /// Ends the thread, so that its connection is closed before the writer's.
    pub(super) fn stop(self) {
        let Self { requests, copied, thread, .. } = self;
        drop((requests, copied));
        // A thread that panicked has closed its connection too.
        let _ = thread.join();
    }
}

fn copy(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
