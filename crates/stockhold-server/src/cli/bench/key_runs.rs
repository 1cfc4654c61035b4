//! Idempotency keys, sorted away as the ledger's `keys.rs` does: a run at a time, a few rows with
//! each batch. Without the filters and the maps that the ledger needs to find them.

use rusqlite::Connection;

/// As in `keys.rs`.
const RUN_KEYS: usize = 1 << 17;
const RUN_ROWS: usize = 64;

pub(super) struct KeyRuns {
    /// The first half of each key that is in no run yet, and its number.
    recent: Vec<(i64, i64)>,
    /// Being written as a run, smallest last.
    unwritten: Vec<(i64, i64)>,
    /// The last key of the run that is being written.
    run_upto: i64,
    run: i64,
    last_seq: i64,
}

impl KeyRuns {
    pub(super) fn open(conn: &Connection) -> rusqlite::Result<Self> {
        let number = |query: &str| conn.query_row(query, [], |row| row.get::<_, i64>(0));
        let run = number("SELECT coalesce(max(run), 0) + 1 FROM complete_run")?;
        let sorted = number("SELECT coalesce(max(last_seq), 0) FROM complete_run")?;
        let last_seq = number("SELECT coalesce(max(seq), 0) FROM idempotency")?;
        conn.execute("DELETE FROM key_run WHERE run >= ?1", [run])?;
        let mut recent = conn.prepare("SELECT key, seq FROM idempotency WHERE seq > ?1")?;
        let recent = recent.query_map([sorted], |row| Ok((prefix(row.get(0)?), row.get(1)?)))?;
        let recent = recent.collect::<rusqlite::Result<_>>()?;
        Ok(Self { recent, unwritten: Vec::new(), run_upto: 0, run, last_seq })
    }

    /// Takes a key in, and gives it its number.
    pub(super) fn push(&mut self, key: [u8; 16]) -> i64 {
        self.last_seq += 1;
        self.recent.push((prefix(key), self.last_seq));
        self.last_seq
    }

    /// Writes some rows of the run that is under way.
    pub(super) fn write(&mut self, conn: &Connection, new: usize) -> rusqlite::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let mut insert = conn.prepare_cached("INSERT INTO key_run VALUES (?1, ?2, ?3)")?;
        let left = self.unwritten.len().saturating_sub(RUN_ROWS + 4 * new);
        for (prefix, seq) in self.unwritten.drain(left..).rev() {
            insert.execute([self.run, prefix, seq])?;
        }
        if left == 0 {
            let complete = "INSERT INTO complete_run VALUES (?1, ?2)";
            conn.prepare_cached(complete)?.execute([self.run, self.run_upto])?;
            self.run += 1;
        }
        Ok(())
    }

    /// Begins a run when there are enough keys for one.
    pub(super) fn committed(&mut self) {
        if self.unwritten.is_empty() && self.recent.len() >= RUN_KEYS {
            self.run_upto = self.last_seq;
            self.unwritten = std::mem::take(&mut self.recent);
            self.unwritten.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
}

fn prefix(key: [u8; 16]) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    i64::from_be_bytes(first)
}
