//! Stock rows that somebody else has locked for longer than anybody should. They are remembered, so
//! that one batch waits for them in vain, and not every one after it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockhold_core::{Command, ItemKey};

use super::{
    failure::Trouble,
    link::Connection,
    opening::StockRows,
    rows::{self, ItemNumber},
    wanted::Wanted,
};
use crate::clock::{Clock, SystemClock};

/// For how long a row is taken to be locked after somebody has found it so.
const REMEMBERED: Duration = Duration::from_millis(1_500);

/// Rows that were found locked, and until when that counts.
#[derive(Debug, Default)]
pub(super) struct Stuck(Mutex<HashMap<ItemNumber, (Arc<ItemKey>, Duration)>>);

/// Stock rows that are locked by somebody else.
#[derive(Debug, Default)]
pub(super) struct Locked(pub(super) HashMap<ItemNumber, Arc<ItemKey>>);

impl Stuck {
    pub(super) fn note(&self, locked: &Locked) {
        let until = SystemClock.boot().saturating_add(REMEMBERED);
        let notes = locked.0.iter().map(|(number, key)| (*number, (Arc::clone(key), until)));
        self.rows().extend(notes);
    }

    /// Somebody has locked these rows, so they are free.
    pub(super) fn forget<'a>(&self, numbers: impl Iterator<Item = &'a ItemNumber>) {
        let mut rows = self.rows();
        if !rows.is_empty() {
            numbers.for_each(|number| drop(rows.remove(number)));
        }
    }

    pub(super) fn locked(&self) -> Locked {
        let mut rows = self.rows();
        if rows.is_empty() {
            return Locked::default();
        }
        let now = SystemClock.boot();
        rows.retain(|_, (_, until)| *until > now);
        Locked(rows.iter().map(|(number, (key, _))| (*number, Arc::clone(key))).collect())
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<ItemNumber, (Arc<ItemKey>, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    /// These items without those that are locked.
    pub(super) fn without(&self, items: &BTreeSet<ItemNumber>) -> BTreeSet<ItemNumber> {
        items.iter().copied().filter(|item| !self.0.contains_key(item)).collect()
    }

    /// The places of the commands that want one of the rows.
    pub(super) fn wanted_by(&self, commands: &[Command], wanted: &Wanted) -> Vec<usize> {
        let named = self.named_by(commands, wanted);
        let is_for_reclaiming = |item| wanted.reclaimed.contains(item);
        if named.is_empty() && !self.0.keys().all(is_for_reclaiming) {
            // By the hold of a key, which nobody knows before the key is read.
            return (0..commands.len()).collect();
        }
        named
    }

    /// The places of the commands that name one of the rows, by themselves or by their hold.
    pub(super) fn named_by(&self, commands: &[Command], wanted: &Wanted) -> Vec<usize> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let keys: std::collections::HashSet<&ItemKey> = self.0.values().map(|key| &**key).collect();
        let is_named = |command: &Command| {
            let of_hold = command.action.hold().and_then(|id| wanted.items_of_holds.get(&id));
            command.action.items().any(|key| keys.contains(&**key))
                || of_hold.is_some_and(|items| items.iter().any(|item| self.0.contains_key(item)))
        };
        let places = commands.iter().enumerate().filter(|(_, command)| is_named(command));
        places.map(|(place, _)| place).collect()
    }
}

/// A transaction that has a row for longer than this is not just selling something.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Which of the wanted stock rows nobody gets for a while. One that many want is locked whenever one
/// looks, each time by another transaction: that one is only waited for.
pub(super) async fn locked_elsewhere(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
) -> Result<Locked, Trouble> {
    let mut stuck = locked_now(connection, wanted).await?;
    if !stuck.is_empty() {
        SystemClock.sleep(LOOK_AGAIN).await;
        let again = locked_now(connection, wanted).await?;
        stuck.retain(|number, (_, holder)| again.get(number).is_some_and(|(_, now)| now == holder));
    }
    Ok(Locked(stuck.into_iter().map(|(number, (key, _))| (number, key)).collect()))
}

/// Locked rows, each with the transaction that has locked it.
type Holders = HashMap<ItemNumber, (Arc<ItemKey>, String)>;

/// The locks that this takes end with the statement.
async fn locked_now(connection: &mut Connection<'_>, wanted: &Wanted) -> Result<Holders, Trouble> {
    let rows = StockRows::of(wanted);
    let read = connection.trip(async |client| {
        tokio::try_join!(biased;
            rows.select(client, ""),
            rows.select(client, "FOR NO KEY UPDATE SKIP LOCKED"),
        )
    });
    let (all, free) = read.await?;
    let mut locked = HashMap::new();
    for row in &all {
        let (number, item) = rows::stock_item(row)?;
        locked.insert(number, (item.key, rows::column(row, 10)?));
    }
    for row in &free {
        locked.remove(&rows::column(row, 0)?);
    }
    Ok(locked)
}
