//! Queries of lists: what is wanted, how much of it, and from where on.

use axum::http::Uri;
use stockhold::{
    HoldId, HoldState, ItemKey, LockName, Owner, Quantity, Sku,
    ledger::{HoldQuery, MovementQuery, StockQuery},
};

use super::{
    cursor::{Cursor, Position},
    query::{Freshness, each_pair, number, set, unknown},
    word,
};
use crate::problem::Problem;

/// Something that the query of a URL says all of.
pub(crate) trait FromQuery: Sized {
    fn from_query(uri: &Uri) -> Result<Self, Problem>;
}

impl FromQuery for HoldQuery {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let mut paging = Paging::<HoldId>::default();
        let (mut owner, mut state, mut sku) = (None, None, None);
        each_pair(uri, |name, value| match name {
            "owner" => set(&mut owner, "owner", word::<Owner>("owner", value)?),
            "state" => set(&mut state, "state", hold_state(value)?),
            "sku" => set(&mut sku, "sku", word::<Sku>("sku", value)?),
            _ => paging.take(name, value),
        })?;
        if sku.is_some() && state != Some(HoldState::Active) {
            return Err(Problem::field("sku", "is taken only together with state=active"));
        }
        Ok(Self { owner, state, sku, limit: paging.limit(), before: paging.from })
    }
}

/// Which stock items, and how fresh they have to be.
pub(crate) struct ItemsQuery {
    pub(crate) page: StockQuery,
    pub(crate) freshness: Freshness,
}

impl FromQuery for ItemsQuery {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let (mut paging, mut prefix) = (Paging::<ItemKey>::default(), None);
        each_pair(uri, |name, value| match name {
            "prefix" => set(&mut prefix, "prefix", beginning_of_a_name(value)?),
            _ => paging.take(name, value),
        })?;
        let prefix = prefix.unwrap_or_default();
        let page = StockQuery { prefix, limit: paging.limit(), after: paging.from };
        Ok(Self { page, freshness: paging.freshness })
    }
}

/// Which locks.
pub(crate) struct LockQuery {
    pub(crate) prefix: String,
    pub(crate) after: Option<LockName>,
    pub(crate) limit: usize,
}

/// Of locks no copy is kept, so nobody is asked how fresh the answer has to be.
impl FromQuery for LockQuery {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let (mut prefix, mut limit, mut after) = (None, None, None);
        each_pair(uri, |name, value| match name {
            "prefix" => set(&mut prefix, "prefix", beginning_of_a_name(value)?),
            "limit" => set(&mut limit, "limit", items(value)?),
            "cursor" => set(&mut after, "cursor", Cursor::position(value)?),
            _ => Err(unknown(name)),
        })?;
        Ok(Self { prefix: prefix.unwrap_or_default(), after, limit: limit.unwrap_or(USUAL) })
    }
}

impl FromQuery for MovementQuery {
    fn from_query(uri: &Uri) -> Result<Self, Problem> {
        let most = Quantity::MAX.get();
        let (mut sku, mut after, mut limit) = (None, None, None);
        let mut freshness = Freshness::default();
        each_pair(uri, |name, value| match name {
            "sku" => set(&mut sku, "sku", word::<Sku>("sku", value)?),
            "after" => set(&mut after, "after", number("after", value, 0, most)?),
            "limit" => set(&mut limit, "limit", items(value)?),
            _ => freshness.take(name, value),
        })?;
        Ok(Self { sku, after: after.unwrap_or(0), limit: limit.unwrap_or(USUAL) })
    }
}

/// How many items a page has if nobody says.
pub(super) const USUAL: usize = 100;
/// The most items of a page.
pub(super) const MOST: i64 = 1_000;

/// What the queries of lists have in common.
struct Paging<P> {
    limit: Option<usize>,
    from: Option<P>,
    freshness: Freshness,
}

impl<P> Default for Paging<P> {
    fn default() -> Self {
        Self { limit: None, from: None, freshness: Freshness::default() }
    }
}

impl<P: Position> Paging<P> {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "limit" => set(&mut self.limit, "limit", items(value)?),
            "cursor" => set(&mut self.from, "cursor", Cursor::position(value)?),
            _ => self.freshness.take(name, value),
        }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL)
    }
}

fn items(text: &str) -> Result<usize, Problem> {
    let limit = number("limit", text, 1, MOST)?;
    usize::try_from(limit).map_err(|_| unknown("limit"))
}

fn hold_state(text: &str) -> Result<HoldState, Problem> {
    let named = HoldState::ALL.into_iter().find(|state| state.as_str() == text);
    named.ok_or_else(|| {
        let names = HoldState::ALL.map(HoldState::as_str).join(", ");
        Problem::field("state", format_args!("must be one of {names}"))
    })
}

/// Not a name itself: it may be empty, and end with a space.
fn beginning_of_a_name(text: &str) -> Result<String, Problem> {
    const LONGEST: usize = 128;
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        let fault = format_args!("must have at most {LONGEST} bytes and no control characters");
        return Err(Problem::field("prefix", fault));
    }
    Ok(text.to_owned())
}
