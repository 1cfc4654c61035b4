//! The key store: finds an idempotency key among millions, at the price of an append.
//!
//! Keys are random. An index on them has every insert touch another page, and each page is then
//! written to the log and to the file: at a million keys that costs more than all the rest of a
//! hold. So this is the write path of a log-structured merge tree (O'Neil et al., 1996) inside
//! SQLite: keys are appended in the order in which they come; the newest are found in memory; when
//! there are [`RUN_KEYS`] of them they are sorted and appended as a *run*, a few rows with each
//! batch. A filter in memory (2 bytes a key) says of nearly every new key that it is in no run.
//!
//! Everything here can be built again from the rows; nothing is answered from a filter alone but
//! "never seen".

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use rusqlite::{Connection, OptionalExtension, Row, params};
use stockhold_core::{Digest, Done, HoldId, KeyId, KeyRecord, Timestamp};

/// Keys of one run. In memory they take about 48 bytes each, twice while a run is written.
const RUN_KEYS: usize = 1 << 17;
/// Rows of a run that go with a batch, beside four for each new key.
const RUN_ROWS: usize = 64;
/// How long a key is kept at least, in milliseconds: 24 h.
const KEEP: i64 = 24 * 60 * 60 * 1_000;

/// Finds keys, and sorts them away.
#[derive(Debug)]
pub(super) struct KeyStore {
    /// In no complete run yet, newest.
    recent: HashMap<KeyId, i64, RandomState>,
    /// Being written as a run.
    frozen: HashMap<KeyId, i64, RandomState>,
    unwritten: Vec<(i64, i64)>,
    runs: VecDeque<Run>,
    next_run: i64,
    filters: VecDeque<Filter>,
    last_seq: i64,
    /// Every key up to this one was older than [`KEEP`] and is gone.
    pruned_seq: i64,
    run_keys: usize,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    run: i64,
    last_seq: i64,
}

/// What a batch does to the store; takes effect in memory when the batch has been committed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    new: Vec<(KeyId, i64)>,
    rows_of_run: usize,
    /// The run that the batch completes.
    complete: Option<Run>,
    pruned: Option<Pruned>,
}

#[derive(Clone, Copy, Debug)]
struct Pruned {
    upto_seq: i64,
    run_gone: bool,
}

impl KeyStore {
    /// Reads the store back.
    pub(super) fn open(conn: &Connection) -> rusqlite::Result<Self> {
        Self::open_with(conn, RUN_KEYS)
    }

    fn open_with(conn: &Connection, run_keys: usize) -> rusqlite::Result<Self> {
        let mut runs = conn.prepare("SELECT run, last_seq FROM complete_run ORDER BY run")?;
        let runs = runs.query_map([], |row| Ok(Run { run: row.get(0)?, last_seq: row.get(1)? }))?;
        let runs: VecDeque<Run> = runs.collect::<rusqlite::Result<_>>()?;
        let sorted = runs.back().map_or(0, |run| run.last_seq);
        let next_run = runs.back().map_or(1, |run| run.run + 1);
        conn.execute("DELETE FROM key_run WHERE run >= ?1", [next_run])?;
        let bounds = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM idempotency";
        let (first, last_seq): (i64, i64) =
            conn.query_row(bounds, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut store = Self {
            recent: HashMap::default(),
            frozen: HashMap::default(),
            unwritten: Vec::new(),
            runs,
            next_run,
            filters: VecDeque::new(),
            last_seq: last_seq.max(sorted),
            pruned_seq: first - 1,
            run_keys,
        };
        store.read_runs(conn)?;
        store.read_recent(conn, sorted)?;
        Ok(store)
    }

    fn read_runs(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut prefixes = conn.prepare("SELECT prefix, seq FROM key_run")?;
        let mut rows = prefixes.query([])?;
        while let Some(row) = rows.next()? {
            self.note_in_filter(row.get(0)?, row.get(1)?);
        }
        Ok(())
    }

    fn read_recent(&mut self, conn: &Connection, sorted: i64) -> rusqlite::Result<()> {
        let mut keys = conn.prepare("SELECT key, seq FROM idempotency WHERE seq > ?1")?;
        let mut rows = keys.query([sorted])?;
        while let Some(row) = rows.next()? {
            let (key, seq) = (KeyId::from_bytes(row.get(0)?), row.get(1)?);
            self.note_in_filter(prefix(key), seq);
            self.recent.insert(key, seq);
        }
        Ok(())
    }

    /// The record of a key.
    pub(super) fn find(
        &self,
        conn: &Connection,
        key: KeyId,
    ) -> rusqlite::Result<Option<KeyRecord>> {
        let prefix = prefix(key);
        if !self.filters.iter().any(|filter| filter.may_have(prefix)) {
            return Ok(None);
        }
        if let Some(seq) = self.recent.get(&key).or_else(|| self.frozen.get(&key)) {
            return record(conn, key, *seq);
        }
        let find = "SELECT seq FROM key_run WHERE run = ?1 AND prefix = ?2";
        let mut find = conn.prepare_cached(find)?;
        for run in self.runs.iter().rev() {
            let mut rows = find.query([run.run, prefix])?;
            while let Some(row) = rows.next()? {
                if let Some(record) = record(conn, key, row.get(0)?)? {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// Writes new records, and some rows of the run that is under way.
    pub(super) fn write(
        &self,
        conn: &Connection,
        records: &[KeyRecord],
        now: Timestamp,
    ) -> rusqlite::Result<Pending> {
        let insert = "INSERT INTO idempotency VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = conn.prepare_cached(insert)?;
        let mut pending = Pending::default();
        for (seq, record) in (self.last_seq + 1..).zip(records) {
            let (hold, movement) = match record.done {
                Done::Hold(id) => (Some(id.to_bytes()), None),
                Done::Movement(id) => (None, Some(id)),
            };
            let (key, digest) = (record.id.to_bytes(), record.digest.to_bytes());
            insert.execute(params![seq, key, digest, hold, movement, now.as_millis()])?;
            pending.new.push((record.id, seq));
        }
        let budget = RUN_ROWS + 4 * records.len();
        if self.unwritten.is_empty() {
            pending.pruned = self.prune(conn, budget, now)?;
        } else {
            self.write_run(conn, budget, &mut pending)?;
        }
        Ok(pending)
    }

    fn write_run(
        &self,
        conn: &Connection,
        budget: usize,
        pending: &mut Pending,
    ) -> rusqlite::Result<()> {
        let mut insert = conn.prepare_cached("INSERT INTO key_run VALUES (?1, ?2, ?3)")?;
        for (prefix, seq) in self.unwritten.iter().rev().take(budget) {
            insert.execute([self.next_run, *prefix, *seq])?;
            pending.rows_of_run += 1;
        }
        if pending.rows_of_run == self.unwritten.len() {
            let last_seq = self.frozen.values().max().copied().unwrap_or(0);
            let complete = "INSERT INTO complete_run VALUES (?1, ?2)";
            conn.prepare_cached(complete)?.execute([self.next_run, last_seq])?;
            pending.complete = Some(Run { run: self.next_run, last_seq });
        }
        Ok(())
    }

    /// Deletes some keys of the oldest run, if all of it is older than [`KEEP`].
    fn prune(
        &self,
        conn: &Connection,
        budget: usize,
        now: Timestamp,
    ) -> rusqlite::Result<Option<Pruned>> {
        let Some(oldest) = self.runs.front().filter(|_| self.runs.len() > 1) else {
            return Ok(None);
        };
        let at = "SELECT at FROM idempotency WHERE seq = ?1";
        let at: Option<i64> =
            conn.prepare_cached(at)?.query_row([oldest.last_seq], |row| row.get(0)).optional()?;
        if at.is_some_and(|at| at > now.as_millis() - KEEP) {
            return Ok(None);
        }
        let budget = i64::try_from(budget).unwrap_or(i64::MAX);
        let upto_seq = self.pruned_seq.saturating_add(budget).min(oldest.last_seq);
        let run_gone = upto_seq == oldest.last_seq;
        conn.prepare_cached("DELETE FROM idempotency WHERE seq <= ?1")?.execute([upto_seq])?;
        // As many rows of the run as keys, so that both come to their end together.
        let some = "DELETE FROM key_run WHERE run = ?1 AND (prefix, seq) IN \
                    (SELECT prefix, seq FROM key_run WHERE run = ?1 ORDER BY prefix, seq LIMIT ?2)";
        let most = if run_gone { i64::MAX } else { budget };
        conn.prepare_cached(some)?.execute([oldest.run, most])?;
        if run_gone {
            conn.prepare_cached("DELETE FROM complete_run WHERE run = ?1")?
                .execute([oldest.run])?;
        }
        Ok(Some(Pruned { upto_seq, run_gone }))
    }

    /// The batch was committed.
    pub(super) fn committed(&mut self, pending: Pending) {
        for (key, seq) in pending.new {
            self.note_in_filter(prefix(key), seq);
            self.recent.insert(key, seq);
            self.last_seq = seq;
        }
        let unwritten = self.unwritten.len() - pending.rows_of_run;
        self.unwritten.truncate(unwritten);
        if let Some(run) = pending.complete {
            self.runs.push_back(run);
            self.next_run += 1;
            self.frozen = HashMap::default();
        }
        if let Some(pruned) = pending.pruned {
            self.pruned(pruned);
        }
        if self.frozen.is_empty() && self.recent.len() >= self.run_keys {
            self.freeze();
        }
    }

    fn pruned(&mut self, pruned: Pruned) {
        self.pruned_seq = pruned.upto_seq;
        if pruned.run_gone {
            self.runs.pop_front();
        }
        while self.filters.len() > 1
            && self.filters.front().is_some_and(|filter| filter.last_seq <= pruned.upto_seq)
        {
            self.filters.pop_front();
        }
    }

    /// Sorts the recent keys so that the next batches can write them as a run, smallest last.
    fn freeze(&mut self) {
        self.frozen = std::mem::take(&mut self.recent);
        self.unwritten = self.frozen.iter().map(|(key, seq)| (prefix(*key), *seq)).collect();
        self.unwritten.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn note_in_filter(&mut self, prefix: i64, seq: i64) {
        if self.filters.back().is_none_or(Filter::is_full) {
            self.filters.push_back(Filter::new());
        }
        if let Some(filter) = self.filters.back_mut() {
            filter.insert(prefix, seq);
        }
    }
}

/// Sorts keys that were written without a store into runs, so that none is opened with all of them
/// in memory. They are numbered from 1 on without gaps.
#[cfg(feature = "postgres")]
pub(super) fn build_runs(conn: &Connection) -> rusqlite::Result<()> {
    let read = "SELECT key, seq FROM idempotency WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let (mut read, mut last_seq) = (conn.prepare(read)?, 0_i64);
    let mut insert = conn.prepare("INSERT INTO key_run VALUES (?1, ?2, ?3)")?;
    let most = i64::try_from(RUN_KEYS).unwrap_or(i64::MAX);
    for run in 1_i64.. {
        let keys = read.query_map([last_seq, most], |row| {
            Ok((prefix(KeyId::from_bytes(row.get(0)?)), row.get::<_, i64>(1)?))
        })?;
        let mut keys = keys.collect::<rusqlite::Result<Vec<_>>>()?;
        if keys.len() < RUN_KEYS {
            break;
        }
        last_seq = keys.last().map_or(last_seq, |(_, seq)| *seq);
        keys.sort_unstable();
        for (prefix, seq) in keys {
            insert.execute([run, prefix, seq])?;
        }
        conn.execute("INSERT INTO complete_run VALUES (?1, ?2)", [run, last_seq])?;
    }
    Ok(())
}

fn record(conn: &Connection, key: KeyId, seq: i64) -> rusqlite::Result<Option<KeyRecord>> {
    let read = "SELECT key, digest, hold, movement FROM idempotency WHERE seq = ?1";
    let found = conn.prepare_cached(read)?.query_row([seq], read_record).optional()?;
    Ok(found.filter(|record| record.id == key))
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let hold: Option<[u8; 16]> = row.get(2)?;
    let done = match hold {
        Some(id) => Done::Hold(HoldId::from_bytes(id)),
        None => Done::Movement(row.get(3)?),
    };
    let (id, digest) = (KeyId::from_bytes(row.get(0)?), Digest::from_bytes(row.get(1)?));
    Ok(KeyRecord { id, digest, done })
}

/// The first half of the key. It comes from a cryptographic hash, so it needs no further mixing.
fn prefix(key: KeyId) -> i64 {
    let bytes = key.to_bytes();
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    i64::from_be_bytes(first)
}

/// A split-block Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom
/// Filters, 2007): eight bits for each key, all in one cache line. With 16 bits a key it is wrong
/// about once in a thousand times.
struct Filter {
    blocks: Vec<[u64; 8]>,
    keys: usize,
    last_seq: i64,
}

impl Filter {
    const KEYS: usize = 1 << 20;
    const BLOCKS: usize = Self::KEYS * 16 / 512;
    /// Odd numbers, one for each word of a block.
    const SALTS: [u32; 8] = [
        0x47b6_137b,
        0x4497_4d91,
        0x8824_ad5b,
        0xa2b7_289d,
        0x7054_95c7,
        0x2df1_424b,
        0x9efc_4947,
        0x5c6b_fb31,
    ];

    fn new() -> Self {
        Self { blocks: vec![[0; 8]; Self::BLOCKS], keys: 0, last_seq: 0 }
    }

    fn is_full(&self) -> bool {
        self.keys >= Self::KEYS
    }

    fn insert(&mut self, prefix: i64, seq: i64) {
        let (block, bits) = Self::place(prefix);
        for (word, bit) in self.blocks[block].iter_mut().zip(bits) {
            *word |= bit;
        }
        self.keys += 1;
        self.last_seq = self.last_seq.max(seq);
    }

    fn may_have(&self, prefix: i64) -> bool {
        let (block, bits) = Self::place(prefix);
        self.blocks[block].iter().zip(bits).all(|(word, bit)| word & bit != 0)
    }

    /// The upper half of the prefix chooses the block, the lower half a bit in each word.
    fn place(prefix: i64) -> (usize, [u64; 8]) {
        let [a, b, c, d, low @ ..] = prefix.to_be_bytes();
        let low = u32::from_be_bytes(low);
        let block =
            usize::from(u16::from_be_bytes([a, b])) ^ usize::from(u16::from_be_bytes([c, d]));
        let bits = Self::SALTS.map(|salt| 1_u64 << (low.wrapping_mul(salt) >> 26));
        (block % Self::BLOCKS, bits)
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(n: i64) -> i64 {
        // splitmix64: the prefixes of real keys are as even.
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9_u64.cast_signed());
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb_u64.cast_signed());
        z ^ (z >> 31)
    }

    const HOUR: i64 = 60 * 60 * 1_000;

    /// A store whose runs have eight keys, in a file that holds nothing else.
    fn store() -> (Connection, KeyStore) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("schema.sql")).unwrap();
        let store = KeyStore::open_with(&conn, 8).unwrap();
        (conn, store)
    }

    fn nth(n: i64) -> KeyRecord {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mixed(n).to_be_bytes());
        let (id, digest) = (KeyId::from_bytes(key), Digest::from_bytes([7; 16]));
        KeyRecord { id, digest, done: Done::Movement(n) }
    }

    /// One batch with these keys, `hour` hours after the first.
    fn put(
        conn: &Connection,
        store: &mut KeyStore,
        keys: std::ops::RangeInclusive<i64>,
        hour: i64,
    ) {
        let records: Vec<_> = keys.map(nth).collect();
        let now = Timestamp::from_millis(hour * HOUR);
        let pending = store.write(conn, &records, now).unwrap();
        store.committed(pending);
    }

    fn missing(
        conn: &Connection,
        store: &KeyStore,
        keys: std::ops::RangeInclusive<i64>,
    ) -> Vec<i64> {
        keys.filter(|n| store.find(conn, nth(*n).id).unwrap() != Some(nth(*n))).collect()
    }

    #[test]
    fn a_key_is_found_while_it_is_recent_frozen_and_in_a_run() {
        let (conn, mut store) = store();
        put(&conn, &mut store, 1..=7, 0);
        assert_eq!((store.recent.len(), store.frozen.len(), store.runs.len()), (7, 0, 0));
        assert!(missing(&conn, &store, 1..=7).is_empty());
        put(&conn, &mut store, 8..=8, 0);
        assert_eq!((store.recent.len(), store.frozen.len(), store.runs.len()), (0, 8, 0));
        assert!(missing(&conn, &store, 1..=8).is_empty());
        put(&conn, &mut store, 9..=9, 0);
        assert_eq!((store.recent.len(), store.frozen.len(), store.runs.len()), (1, 0, 1));
        assert!(missing(&conn, &store, 1..=9).is_empty());
        assert_eq!(store.find(&conn, nth(10).id).unwrap(), None);
    }

    #[test]
    fn a_run_is_written_a_few_rows_with_each_batch() {
        let (conn, mut store) = store();
        put(&conn, &mut store, 1..=1_000, 0);
        for n in 1_001..=1_010 {
            put(&conn, &mut store, n..=n, 0);
            assert!(missing(&conn, &store, 1..=n).is_empty());
        }
        let rows: i64 =
            conn.query_row("SELECT count(*) FROM key_run", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 10 * 68);
    }

    #[test]
    fn all_keys_are_found_after_the_store_was_opened_again_at_any_moment() {
        let (conn, mut store) = store();
        for n in 1..=50 {
            put(&conn, &mut store, n..=n, 0);
            let again = KeyStore::open_with(&conn, 8).unwrap();
            assert!(missing(&conn, &again, 1..=n).is_empty());
            assert_eq!(again.last_seq, n);
        }
    }

    #[test]
    fn a_run_that_was_cut_off_by_a_crash_is_begun_anew() {
        let (conn, mut store) = store();
        put(&conn, &mut store, 1..=1_000, 0);
        put(&conn, &mut store, 1_001..=1_001, 0); // 68 rows of the run
        let mut store = KeyStore::open_with(&conn, 8).unwrap();
        (1_002..=1_030).for_each(|n| put(&conn, &mut store, n..=n, 0));
        assert!(missing(&conn, &store, 1..=1_030).is_empty());
        assert!(!store.runs.is_empty());
    }

    #[test]
    fn what_was_rolled_back_is_not_found() {
        let (conn, mut store) = store();
        put(&conn, &mut store, 1..=3, 0);
        conn.execute_batch("BEGIN").unwrap();
        let lost = store.write(&conn, &[nth(4)], Timestamp::from_millis(0)).unwrap();
        conn.execute_batch("ROLLBACK").unwrap();
        drop(lost);
        assert_eq!(store.find(&conn, nth(4).id).unwrap(), None);
        put(&conn, &mut store, 5..=5, 0);
        assert!(missing(&conn, &store, 1..=3).is_empty());
        assert!(missing(&conn, &store, 5..=5).is_empty());
    }

    #[test]
    fn keys_are_kept_for_a_day_and_go_a_run_at_a_time() {
        let (conn, mut store) = store();
        (1..=8).for_each(|n| put(&conn, &mut store, n..=n, 0));
        (9..=17).for_each(|n| put(&conn, &mut store, n..=n, 23));
        assert!(missing(&conn, &store, 1..=17).is_empty());
        put(&conn, &mut store, 18..=18, 25);
        assert_eq!(missing(&conn, &store, 1..=8), (1..=8).collect::<Vec<_>>());
        assert!(missing(&conn, &store, 9..=18).is_empty());
        let again = KeyStore::open_with(&conn, 8).unwrap();
        assert!(missing(&conn, &again, 9..=18).is_empty());
    }

    #[test]
    fn a_filter_knows_every_key_that_it_was_given() {
        let mut filter = Filter::new();
        (1..=10_000).for_each(|n| filter.insert(mixed(n), n));
        assert!((1..=10_000).all(|n| filter.may_have(mixed(n))));
    }

    #[test]
    fn a_full_filter_is_seldom_wrong() {
        let mut filter = Filter::new();
        let keys = i64::try_from(Filter::KEYS).unwrap();
        (1..=keys).for_each(|n| filter.insert(mixed(n), n));
        let wrong = (keys + 1..=keys + 100_000).filter(|n| filter.may_have(mixed(*n))).count();
        assert!(wrong < 400, "{wrong} of 100,000");
    }
}
