//! Lists: what can be asked of a ledger a page at a time.

use stockhold_core::{Book, Hold, HoldId, HoldState, HoldView, ItemKey, Owner, Sku, Timestamp};

use crate::{Failure, FailureKind};

/// The most items that a page may be asked for.
const MOST: usize = 1_000;
/// The most holds that are looked at for one page.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) const MOST_HOLDS: usize = 10_000;
/// The most movements that are looked at for one page.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const MOST_MOVEMENTS: usize = 50_000;

/// Some items of a list, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items, in the order of the list. There may be fewer than were asked for, even none,
    /// though the list goes on: a page is also over when enough rows were looked at.
    pub items: Vec<T>,
    /// From where the next page goes on; none if this one reached the end.
    pub next: Option<C>,
}

/// Which holds to list, newest first.
///
/// ```
/// use stockhold::{HoldState, ledger::HoldQuery};
/// let active = HoldQuery { state: Some(HoldState::Active), ..HoldQuery::default() };
/// assert_eq!(active.limit, 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldQuery {
    /// Only those of this owner.
    pub owner: Option<Owner>,
    /// Only those in this state as it is now: a due hold counts as expired, though nobody has
    /// expired it yet (R2).
    pub state: Option<HoldState>,
    /// Only those with a line of this SKU, at any location. Only together with the state
    /// [`HoldState::Active`]: no other list is kept by SKU.
    pub sku: Option<Sku>,
    /// Only those with a lower id than this.
    pub before: Option<HoldId>,
    /// The most holds of the page: 1 to 1,000.
    pub limit: usize,
}

/// Which stock items to list, by SKU and location, both by the bytes of their UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockQuery {
    /// Only those whose SKU begins with this; empty: all.
    pub prefix: String,
    /// Only those behind this one.
    pub after: Option<ItemKey>,
    /// The most items of the page: 1 to 1,000.
    pub limit: usize,
}

/// Which movements to list, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovementQuery {
    /// Only those of this SKU, at any location.
    pub sku: Option<Sku>,
    /// Only those with a higher number than this; 0: from the first on.
    pub after: i64,
    /// The most movements of the page: 1 to 1,000.
    pub limit: usize,
}

/// How many items a page has if nobody says.
const USUAL: usize = 100;

impl Default for HoldQuery {
    fn default() -> Self {
        Self { owner: None, state: None, sku: None, before: None, limit: USUAL }
    }
}

impl Default for StockQuery {
    fn default() -> Self {
        Self { prefix: String::new(), after: None, limit: USUAL }
    }
}

impl Default for MovementQuery {
    fn default() -> Self {
        Self { sku: None, after: 0, limit: USUAL }
    }
}

impl HoldQuery {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        check_limit(self.limit)?;
        if self.sku.is_some() && self.state != Some(HoldState::Active) {
            let message = "holds are listed by sku only together with state=active";
            return Err(Failure::new(FailureKind::Invalid, message));
        }
        Ok(())
    }

    pub(crate) fn is_of(&self, owner: &str) -> bool {
        self.owner.as_ref().is_none_or(|wanted| wanted.as_str() == owner)
    }

    /// Whether the hold is one of those that are asked for, wherever the page begins.
    pub(crate) fn admits(&self, view: &HoldView) -> bool {
        let is_of_sku = |sku: &Sku| view.hold.lines.iter().any(|line| line.item.sku == *sku);
        self.is_of(view.hold.owner.as_str())
            && self.state.is_none_or(|state| state == view.hold.state)
            && self.sku.as_ref().is_none_or(is_of_sku)
    }
}

impl StockQuery {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        check_limit(self.limit)
    }

    /// The SKU and location behind which the page begins. All SKUs with the prefix lie next to
    /// each other, and no location is empty, so the first of them is behind the prefix itself.
    pub(crate) fn begin(&self) -> (&str, &str) {
        let first = (self.prefix.as_str(), "");
        let after = self.after.as_ref().map(|key| (key.sku.as_str(), key.location.as_str()));
        after.map_or(first, |after| after.max(first))
    }

    /// Whether the item is one of those that are asked for, wherever the page begins.
    pub(crate) fn admits(&self, key: &ItemKey) -> bool {
        key.sku.as_str().starts_with(&self.prefix)
    }
}

impl MovementQuery {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        check_limit(self.limit)
    }

    pub(crate) fn admits(&self, sku: &Sku) -> bool {
        self.sku.as_ref().is_none_or(|wanted| wanted == sku)
    }
}

fn check_limit(limit: usize) -> Result<(), Failure> {
    if limit == 0 || limit > MOST {
        return Err(Failure::new(FailureKind::Invalid, "limit must be from 1 to 1,000"));
    }
    Ok(())
}

/// A page of active holds, from a book that has them all.
pub(crate) fn active_page(
    book: &Book,
    query: &HoldQuery,
    now: Timestamp,
) -> Page<HoldView, HoldId> {
    let is_of_owner = |hold: &Hold| query.is_of(hold.owner.as_str());
    let (sku, before, limit) = (query.sku.as_ref(), query.before, query.limit);
    let items = book.newest_active(sku, before, limit, now, is_of_owner);
    let last = items.last().map(|view| view.hold.id);
    Page { next: last.filter(|_| items.len() >= limit), items }
}

/// A page as it is gathered from rows that are looked at one after the other.
pub(crate) struct Scan<T, C> {
    pub(crate) items: Vec<T>,
    /// The last row that was looked at.
    pub(crate) last: Option<C>,
    pub(crate) is_at_end: bool,
}

impl<T, C> Scan<T, C> {
    /// Looks at rows until the page has `limit` items or `most` rows were looked at. A row without
    /// a value is not one of those that are asked for.
    pub(crate) fn of<E>(
        rows: impl IntoIterator<Item = Result<(C, Option<T>), E>>,
        limit: usize,
        most: usize,
    ) -> Result<Self, E> {
        let mut scan = Self { items: Vec::new(), last: None, is_at_end: false };
        for (seen, row) in (1..).zip(rows) {
            let (place, item) = row?;
            scan.items.extend(item);
            scan.last = Some(place);
            if scan.items.len() >= limit || seen >= most {
                return Ok(scan);
            }
        }
        scan.is_at_end = true;
        Ok(scan)
    }

    /// The page of a list that ends.
    pub(crate) fn page(self) -> Page<T, C> {
        Page { items: self.items, next: self.last.filter(|_| !self.is_at_end) }
    }

    /// The page of a list that grows at its end: whoever has read all goes on from there later.
    pub(crate) fn page_after(self, after: C) -> Page<T, C> {
        Page { items: self.items, next: self.last.or(Some(after)) }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The even ones of the numbers below `end`.
    fn scan(end: u32, limit: usize, most: usize) -> Scan<u32, u32> {
        let rows = (0..end).map(|n| Ok::<_, Infallible>((n, n.is_multiple_of(2).then_some(n))));
        Scan::of(rows, limit, most).unwrap()
    }

    #[test]
    fn a_page_goes_on_behind_the_last_row_that_was_looked_at() {
        let of = |items: &[u32], next| Page { items: items.to_vec(), next };
        assert_eq!(scan(9, 2, 100).page(), of(&[0, 2], Some(2)));
        assert_eq!(scan(9, 100, 4).page(), of(&[0, 2], Some(3)));
        assert_eq!(scan(4, 100, 100).page(), of(&[0, 2], None));
        assert_eq!(scan(0, 100, 100).page(), of(&[], None));
    }

    #[test]
    fn a_list_that_grows_always_has_a_next() {
        let of = |items: &[u32], next| Page { items: items.to_vec(), next: Some(next) };
        assert_eq!(scan(4, 100, 100).page_after(0), of(&[0, 2], 3));
        assert_eq!(scan(0, 100, 100).page_after(7), of(&[], 7));
    }

    #[test]
    fn a_query_for_no_items_or_too_many_is_invalid() {
        for limit in [0, 1_001, usize::MAX] {
            assert!(HoldQuery { limit, ..HoldQuery::default() }.check().is_err());
            assert!(StockQuery { limit, ..StockQuery::default() }.check().is_err());
            assert!(MovementQuery { limit, ..MovementQuery::default() }.check().is_err());
        }
        assert!(HoldQuery { limit: 1_000, ..HoldQuery::default() }.check().is_ok());
    }

    #[test]
    fn holds_are_listed_by_sku_only_while_they_are_active() {
        let by_sku = |state| HoldQuery { sku: Sku::new("MUG").ok(), state, ..HoldQuery::default() };
        assert!(by_sku(Some(HoldState::Active)).check().is_ok());
        assert!(by_sku(Some(HoldState::Expired)).check().is_err());
        assert!(by_sku(None).check().is_err());
    }
}
