//! What clients did and were told, and whether an honest shop could have told them that.
//!
//! Each client process records its events, with one clock for all ([`crate::now`]). The events are
//! put together and judged, by rules that share nothing with the code that is tested:
//!
//! | rule | what must hold |
//! |---|---|
//! | C1 | what was confirmed is sold, what is sold was confirmed, and no more is sold than there was |
//! | C2 | at no instant was more promised than there was |
//! | C3 | a hold that lives can be confirmed |
//! | C4 | a key has one answer |
//! | C5 | a hold has one end |
//! | C6 | nothing leaks |
//! | C9 | a lock has one holder, and its fences rise |
//!
//! The judge raises no false alarm: an answer that is not known counts for the shop.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod conservation;
mod keys;
mod locks;
mod outcomes;
mod overlap;
mod promises;
mod recorder;
mod sales;
mod violation;

pub use recorder::{Pending, Recorder};
pub use violation::Violation;

/// Something that a client asked for, and what it was told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event {
    /// Who asked, and which of its questions it was: unique in a history.
    pub id: (String, u64),
    /// What was asked.
    pub op: Op,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it is about: for a place what is wanted, for a confirm what is sold. Empty: as placed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
    /// When it was asked, in ns.
    pub t_invoke: u64,
    /// When it was answered or given up, in ns.
    pub t_return: u64,
    /// The answer.
    pub result: Outcome,
}

/// So many units of an item.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Line {
    /// The item: a SKU, or a SKU and where it lies.
    pub item: String,
    /// Units.
    pub quantity: i64,
}

impl Line {
    /// So many units of an item.
    #[must_use]
    pub fn new(item: &str, quantity: i64) -> Self {
        Self { item: item.to_owned(), quantity }
    }
}

/// A question.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Op {
    /// A hold of these lines.
    Place {
        /// Whose.
        owner: String,
        /// For so long.
        ttl_ms: u64,
        /// Instead of this hold.
        replaces: Option<String>,
    },
    /// The sale of a hold.
    Confirm {
        /// Which.
        hold: String,
    },
    /// The end of a hold without a sale.
    Release {
        /// Which.
        hold: String,
    },
    /// More time for a hold.
    Extend {
        /// Which.
        hold: String,
        /// From now on.
        ttl_ms: u64,
    },
    /// Sold units are given back.
    Cancel {
        /// Which.
        hold: String,
    },
    /// Units come, or go if there are fewer than none.
    Receive,
    /// A lock.
    Acquire {
        /// Its name.
        lock: String,
    },
    /// More time for a lock.
    Renew {
        /// Its name.
        lock: String,
        /// Of the lease.
        fence: Fence,
    },
    /// A lock is given back.
    Unlock {
        /// Its name.
        lock: String,
        /// Of the lease.
        fence: Fence,
    },
    /// The resource that a lock protects is asked for something, with the fence.
    Use {
        /// The lock's name.
        lock: String,
        /// Of the lease.
        fence: Fence,
    },
}

/// `<epoch>.<seq>`: what orders the terms of a lock.
pub type Fence = (u64, u64);

/// An answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok(Granted),
    /// Not done, and never will be: the code.
    Refused(String),
    /// Nobody knows: no answer, or one that does not say (`unavailable`).
    Unknown,
}

/// What comes with a success.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Granted {
    /// The hold, when one was placed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The state in which the answer shows the hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// For how much longer the hold or the lease lives, counted from when the answer was written
    /// (`expires_in_ms`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_ms: Option<u64>,
    /// The fence of a lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

impl Event {
    /// What came with the success, if it was one.
    fn granted(&self) -> Option<&Granted> {
        match &self.result {
            Outcome::Ok(granted) => Some(granted),
            Outcome::Refused(_) | Outcome::Unknown => None,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.result, Outcome::Refused(_))
    }

    /// The hold that it asks about or was granted.
    fn hold(&self) -> Option<&str> {
        match &self.op {
            Op::Place { .. } => self.granted()?.hold.as_deref(),
            Op::Confirm { hold }
            | Op::Release { hold }
            | Op::Extend { hold, .. }
            | Op::Cancel { hold } => Some(hold),
            Op::Receive
            | Op::Acquire { .. }
            | Op::Renew { .. }
            | Op::Unlock { .. }
            | Op::Use { .. } => None,
        }
    }

    /// Until when what it granted lives for sure: it was asked before the answer was written.
    fn lives_until(&self, drift_ms: u64) -> Option<u64> {
        let live = self.granted()?.live_ms?.saturating_sub(drift_ms);
        Some(self.t_invoke.saturating_add(live.saturating_mul(1_000_000)))
    }
}

/// What was there in the beginning and is there in the end, by the ledger's own account.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ledger {
    /// Units on hand before the first event.
    pub supply: BTreeMap<String, i64>,
    /// The items after the last.
    pub items: Vec<Item>,
    /// Every hold that was confirmed, also if it was shipped or cancelled since.
    pub sales: Vec<Sale>,
    /// The holds that are active.
    pub live: Vec<Sale>,
}

/// The quantities of an item.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the words are the ledger's")]
pub struct Item {
    pub item: String,
    pub on_hand: i64,
    pub held: i64,
    pub allocated: i64,
    pub lent: i64,
    pub safety_stock: i64,
    pub available: i64,
}

/// A hold in the ledger, with what was confirmed of it, or is held.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sale {
    /// Its id.
    pub hold: String,
    /// The key under which it was placed, if the test can tell (by its reference, for example).
    #[serde(default)]
    pub key: Option<String>,
    /// Units confirmed.
    pub lines: Vec<Line>,
    /// Of those, shipped or cancelled since.
    #[serde(default)]
    pub gone: Vec<Line>,
}

/// Whether the shop has had the time to expire all that was due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// No: holds may be live.
    Busy,
    /// Yes, after heal and wait: nothing is held.
    Settled,
}

/// All events of all clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    events: Vec<Event>,
    drift_ms: u64,
}

impl History {
    /// Of these events, in any order.
    #[must_use]
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.t_invoke);
        Self { events, drift_ms: 0 }
    }

    /// The clock of the ledger may differ from that of the clients by so much within a hold's life:
    /// holds are taken to live for that much less.
    #[must_use]
    pub fn with_drift(self, drift_ms: u64) -> Self {
        Self { drift_ms, ..self }
    }

    /// The events, in the order in which they were asked.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Everything that no honest shop could have answered (C1-C6, C9).
    #[must_use]
    pub fn check(&self, ledger: &Ledger, rest: Rest) -> Vec<Violation> {
        [
            sales::check(self, ledger),
            overlap::check(self, ledger),
            promises::check(self),
            keys::check(self, ledger),
            outcomes::check(self, ledger),
            conservation::check(self, ledger, rest),
            locks::check(self),
        ]
        .concat()
    }

    /// The same, for a test.
    ///
    /// # Panics
    /// With all that was found.
    #[track_caller]
    pub fn expect_clean(&self, ledger: &Ledger, rest: Rest) {
        let found = self.check(ledger, rest);
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{} violations:\n{}", found.len(), texts.join("\n"));
    }

    /// Every hold that somebody was granted, with its first grant.
    fn grants(&self) -> BTreeMap<&str, &Event> {
        let mut grants = BTreeMap::new();
        for event in self.events.iter().filter(|event| matches!(event.op, Op::Place { .. })) {
            if let Some(hold) = event.hold() {
                let first = grants.entry(hold).or_insert(event);
                if event.t_return < first.t_return {
                    *first = event;
                }
            }
        }
        grants
    }

    /// The first time that anybody asked for something that could end a hold.
    fn first_ends(&self) -> BTreeMap<&str, u64> {
        let mut ends = BTreeMap::new();
        for event in &self.events {
            let ended = match &event.op {
                Op::Confirm { hold } | Op::Release { hold } | Op::Cancel { hold } => Some(hold),
                Op::Place { replaces, .. } => replaces.as_ref(),
                _ => None,
            };
            if let Some(hold) = ended {
                // Events are in order of `t_invoke`.
                ends.entry(hold.as_str()).or_insert(event.t_invoke);
            }
        }
        ends
    }

    /// Until when each hold lives for sure, if nobody ends it.
    fn deadlines(&self) -> BTreeMap<&str, u64> {
        let mut deadlines = BTreeMap::new();
        for event in &self.events {
            let gives_time = matches!(event.op, Op::Place { .. } | Op::Extend { .. });
            let Some(hold) = event.hold().filter(|_| gives_time) else { continue };
            if let Some(until) = event.lives_until(self.drift_ms) {
                let deadline = deadlines.entry(hold).or_insert(until);
                *deadline = until.max(*deadline);
            }
        }
        deadlines
    }
}

/// Lines added up by item.
fn by_item<'a>(lines: impl IntoIterator<Item = &'a Line>) -> BTreeMap<&'a str, i64> {
    let mut sums = BTreeMap::<_, i64>::new();
    for line in lines {
        let sum = sums.entry(line.item.as_str()).or_default();
        *sum = sum.saturating_add(line.quantity);
    }
    sums
}

#[cfg(test)]
mod tests;
