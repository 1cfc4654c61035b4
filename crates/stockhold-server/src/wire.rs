//! The JSON of requests and answers.
//!
//! Answers borrow from what the engine gave, and are written straight into one buffer: whoever
//! places a hold waits for the ledger, not for this file. The types that are read and written are
//! also those that the OpenAPI document is made of.

mod batch;
mod batch_schema;
mod cursor;
mod field;
mod hold;
mod list_query;
mod lock;
mod moment;
mod page;
mod query;
mod request;
mod row;
mod schema;
mod stock;
mod stock_request;

use std::fmt;

use serde::{Serialize, Serializer};
use stockhold::{HoldView, StockMoved, StockView, Told};
use utoipa::ToSchema;

pub(crate) use batch::{BatchBody, op, operation};
pub(crate) use batch_schema::BatchAnswerBody;
pub(crate) use cursor::Cursor;
pub(crate) use field::{
    AnyUnits, HoldIdWord, KeyWord, LocationWord, LockWord, NotNegative, OwnerWord, Positive,
    ReferenceWord, SkuWord, Units, parse, word,
};
pub(crate) use hold::HoldBody;
pub(crate) use list_query::{FromQuery, ItemsQuery, LockQuery};
pub(crate) use lock::{
    AcquireBody, LeaseBody, LockBody, LockPageBody, ReleaseLockBody, ReleasedBody, RenewBody,
    RenewedBody, held, lease, lock_page, released, renewed,
};
pub(crate) use moment::{Asked, Rfc3339};
pub(crate) use page::{
    HoldPageBody, MovementPageBody, StockPageBody, hold_page, movement_page, stock_page,
    stock_page_of_copies,
};
pub(crate) use query::{Consistency, Freshness, ItemQuery, MaxAge, refuse_query};
pub(crate) use request::{
    ConfirmBody, ExtendBody, OpenLinesBody, PlaceBody, ReleaseBody, RevokeBody,
};
pub(crate) use row::{BadRowBody, Format, ImportedBody, RowBody, StockRowBody};
pub(crate) use schema::{
    After, ExportFormat, ImportMode, Limit, LockPrefix, Prefix, State, choice, integer, nullable,
    refer, typed,
};
pub(crate) use stock::{ItemBody, MovedBody, MovementBody, who};
pub(crate) use stock_request::{AdjustmentBody, PolicyBody};

/// Writes the answer to a verb on a hold.
pub(crate) fn hold(view: &HoldView, reacquired: bool, asked: Asked) -> Vec<u8> {
    let body = HoldBody::since(view, asked).reacquired(reacquired);
    write(&body, body.room())
}

/// Writes a stock item.
pub(crate) fn stock(view: &StockView, asked: Asked) -> Vec<u8> {
    write(&ItemBody::since(view, asked), 512)
}

/// Writes a copy of a stock item.
pub(crate) fn copy_of_stock(view: &StockView, told: Told) -> Vec<u8> {
    write(&ItemBody::told(view, told), 512)
}

/// Writes a movement and its item.
pub(crate) fn moved(moved: &StockMoved, asked: Asked) -> Vec<u8> {
    write(&MovedBody::since(moved, asked), 1_024)
}

/// Writes that the server is alive, or ready with what it stands on.
pub(crate) fn health(status: &str, dependencies: &[Dependency<'_>]) -> Vec<u8> {
    write(&HealthBody { status, dependencies }, 128)
}

/// How the server is.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthBody<'a> {
    /// `live` or `ready`.
    status: &'a str,
    /// What the server stands on.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Dependency<'_>>)]
    dependencies: &'a [Dependency<'a>],
}

/// What the server stands on, and how that is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Dependency<'a> {
    /// `ledger`.
    pub(crate) name: &'a str,
    /// `up`; `down`: it cannot be read; `silent`: it does not answer in time; `sealed`: the shop
    /// moves, or has moved; `lost`: it lacks what this server has answered.
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
