//! The JSON of answers; that of requests is in `wire/request.rs`.
//!
//! Answers borrow from what the engine gave, and are written straight into one buffer: whoever
//! places a hold waits for the ledger, not for this file.

mod field;
mod query;
mod request;

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};
use stockhold::Line;
use stockhold::{
    HoldId, HoldView, Movement, StockMoved, StockView, Timestamp,
    clock::{Clock, SystemClock},
};

pub(crate) use field::word;
pub(crate) use query::{ItemQuery, refuse_query};
pub(crate) use request::{
    adjustment, confirm_request, extend_ttl, place_request, policy, release_reason,
};

/// When a request was taken up.
///
/// The ledger says at what time of its own it decided. The answer is written later, by at most
/// the time that the request has taken so far; that is added, so that an answer never promises
/// more life than a hold has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(Duration);

impl Asked {
    pub(crate) fn now() -> Self {
        Self(SystemClock.boot())
    }

    fn elapsed(self) -> Duration {
        SystemClock.boot().saturating_sub(self.0)
    }
}

/// Writes the answer to a verb on a hold.
pub(crate) fn hold(view: &HoldView, reacquired: bool, asked: Asked) -> Vec<u8> {
    const HEAD: usize = 384;
    const LINE: usize = 192;
    let room = view.hold.lines.len().saturating_mul(LINE).saturating_add(HEAD);
    let server_time = view.as_of.after(asked.elapsed());
    write(&HoldBody { view, reacquired, server_time }, room)
}

/// Writes a stock item.
pub(crate) fn stock(view: &StockView, asked: Asked) -> Vec<u8> {
    write(&ItemBody::of(view, asked.elapsed()), 512)
}

/// Writes a movement and its item.
pub(crate) fn moved(moved: &StockMoved, asked: Asked) -> Vec<u8> {
    #[derive(Serialize)]
    struct Moved<'a> {
        movement: MovementBody<'a>,
        item: ItemBody<'a>,
    }
    let item = ItemBody::of(&moved.item, asked.elapsed());
    write(&Moved { movement: MovementBody::of(&moved.movement), item }, 1_024)
}

/// Writes that the server is alive, or ready with what it stands on.
pub(crate) fn health(status: &str, dependencies: &[Dependency<'_>]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Health<'a> {
        status: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        dependencies: &'a [Dependency<'a>],
    }
    write(&Health { status, dependencies }, 128)
}

/// What the server stands on, and how that is.
#[derive(Serialize)]
pub(crate) struct Dependency<'a> {
    pub(crate) name: &'a str,
    pub(crate) state: &'a str,
}

/// Writes JSON into a buffer that has room for about what it takes.
pub(crate) fn write(value: &impl Serialize, room: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(room);
    // Our own types have text keys and no failing parts, and a Vec takes everything.
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        tracing::error!(%error, "an answer could not be written");
    }
    body
}

/// A value as its text.
pub(crate) struct Written<T>(pub(crate) T);

impl<T: fmt::Display> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A moment as RFC 3339 has it, in UTC with milliseconds.
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        // Beyond the year 9999 there is only the end of time.
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        serializer.collect_str(&format_args!("{moment:.3}"))
    }
}

/// A hold as it is sent.
pub(crate) struct HoldBody<'a> {
    view: &'a HoldView,
    reacquired: bool,
    server_time: Timestamp,
}

impl<'a> HoldBody<'a> {
    /// As it stood when the ledger was asked.
    pub(crate) fn at(view: &'a HoldView) -> Self {
        Self { view, reacquired: false, server_time: view.as_of }
    }
}

impl Serialize for HoldBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            id: Written<HoldId>,
            state: &'a str,
            owner: &'a str,
            reference: Option<&'a str>,
            created_at: Rfc3339,
            expires_at: Rfc3339,
            expires_in_ms: u64,
            max_expires_at: Rfc3339,
            server_time: Rfc3339,
            lines: Lines<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reacquired: Option<bool>,
        }
        let HoldView { hold, expires_at, .. } = self.view;
        let fields = Fields {
            id: Written(hold.id),
            state: hold.state.as_str(),
            owner: hold.owner.as_str(),
            reference: hold.reference.as_ref().map(|reference| reference.as_str()),
            created_at: Rfc3339(hold.created_at),
            expires_at: Rfc3339(*expires_at),
            expires_in_ms: millis(expires_at.since(self.server_time)),
            max_expires_at: Rfc3339(hold.max_deadline),
            server_time: Rfc3339(self.server_time),
            lines: Lines(&hold.lines),
            reacquired: self.reacquired.then_some(true),
        };
        fields.serialize(serializer)
    }
}

struct Lines<'a>(&'a [Line]);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(LineBody::of))
    }
}

#[derive(Serialize)]
struct LineBody<'a> {
    sku: &'a str,
    location: &'a str,
    requested: i64,
    held: i64,
    confirmed: i64,
    released: i64,
    expired: i64,
    revoked: i64,
    shipped: i64,
    cancelled: i64,
}

impl<'a> LineBody<'a> {
    fn of(line: &'a Line) -> Self {
        Self {
            sku: line.item.sku.as_str(),
            location: line.item.location.as_str(),
            requested: line.requested.get(),
            held: line.held.get(),
            confirmed: line.confirmed.get(),
            released: line.released.get(),
            expired: line.expired.get(),
            revoked: line.revoked.get(),
            shipped: line.shipped.get(),
            cancelled: line.cancelled.get(),
        }
    }
}

#[derive(Serialize)]
struct ItemBody<'a> {
    sku: &'a str,
    location: &'a str,
    on_hand: i64,
    held: i64,
    allocated: i64,
    lent: i64,
    safety_stock: i64,
    available: i64,
    version: u64,
    next_due_at: Option<Rfc3339>,
    origin: &'a str,
    as_of: Rfc3339,
    age_ms: u64,
    stale: bool,
}

impl<'a> ItemBody<'a> {
    fn of(view: &'a StockView, age: Duration) -> Self {
        let StockView { item, next_due_at, as_of } = view;
        Self {
            sku: item.key.sku.as_str(),
            location: item.key.location.as_str(),
            on_hand: item.on_hand.get(),
            held: item.held.get(),
            allocated: item.allocated.get(),
            lent: item.lent.get(),
            safety_stock: item.safety_stock.get(),
            available: item.available().get(),
            version: item.version,
            next_due_at: next_due_at.map(Rfc3339),
            origin: "ledger",
            as_of: Rfc3339(*as_of),
            age_ms: millis(age),
            stale: false,
        }
    }
}

#[derive(Serialize)]
struct MovementBody<'a> {
    id: i64,
    sku: &'a str,
    location: &'a str,
    kind: &'a str,
    delta: i64,
    on_hand_after: i64,
    reason: Option<&'a str>,
    reference: Option<&'a str>,
    at: Rfc3339,
}

impl<'a> MovementBody<'a> {
    fn of(movement: &'a Movement) -> Self {
        Self {
            id: movement.id,
            sku: movement.item.sku.as_str(),
            location: movement.item.location.as_str(),
            kind: movement.kind.as_str(),
            delta: movement.delta.get(),
            on_hand_after: movement.on_hand_after.get(),
            reason: movement.reason.as_ref().map(|reason| reason.as_str()),
            reference: movement.reference.as_ref().map(|reference| reference.as_str()),
            at: Rfc3339(movement.at),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(millis: i64) -> String {
        String::from_utf8(write(&Rfc3339(Timestamp::from_millis(millis)), 32)).unwrap()
    }

    #[test]
    fn moments_have_milliseconds_always() {
        assert_eq!(written(0), "\"1970-01-01T00:00:00.000Z\"");
        assert_eq!(written(1_790_000_000_120), "\"2026-09-21T14:13:20.120Z\"");
    }

    #[test]
    fn the_end_of_time_can_be_written() {
        assert_eq!(written(i64::MAX), "\"9999-12-30T22:00:00.999Z\"");
    }
}
