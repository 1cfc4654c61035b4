//! Which stock items there are, page by page, so that lists are put together from copies.
//!
//! Only names are kept: what is said of each item is its own copy, which whoever changes the item takes away. A name
//! stays for good, so a page of names is old only as long as an item is missing from it: one that somebody has
//! created elsewhere, since what is created here lets go of all pages.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{ItemKey, Location, Sku};

use super::LOADS;
use crate::{
    Failure,
    cache::{CacheKey, CacheValue, Loaded, Loader, Policy, Read, TieredCache},
    ledger::{Ledger, Page, StockQuery},
};

/// Pages of names, for this process alone.
#[derive(Clone, Debug)]
pub(super) struct Lists(TieredCache<StockQuery, Names>);

/// What stands on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) items: Arc<[ItemKey]>,
    pub(super) next: Option<ItemKey>,
}

impl Lists {
    pub(super) fn new(ledger: &Arc<dyn Ledger>, bytes: u64) -> Self {
        let loader = Arc::new(FromLedger(Arc::clone(ledger)));
        // Nothing is gained by asking for many pages at once, and one that cannot be read would spoil the others.
        let policy = Policy { loads: LOADS, keys_of_a_load: 1, ..Policy::default() };
        Self(TieredCache::builder("lists", loader).l1_bytes(bytes).policy(policy).start())
    }

    /// The names of a page, not older than that.
    pub(super) async fn names(
        &self,
        query: &StockQuery,
        age: Option<Duration>,
    ) -> Result<Read<Names>, Arc<Failure>> {
        self.0.read(query, age).await
    }

    /// There is an item that there was not.
    pub(super) fn let_go(&self) {
        self.0.clear();
    }
}

#[derive(Debug)]
struct FromLedger(Arc<dyn Ledger>);

#[async_trait]
impl Loader<StockQuery, Names> for FromLedger {
    async fn load(&self, queries: Vec<StockQuery>) -> Result<Vec<Loaded<Names>>, Failure> {
        let mut pages = Vec::with_capacity(queries.len());
        for query in queries {
            let Page { items, next } = self.0.items(query).await?;
            let as_of = items.iter().map(|view| view.as_of).min().unwrap_or_default();
            let items = items.iter().map(|view| ItemKey::clone(&view.item.key)).collect();
            pages.push(Loaded::new(Names { items, next }, 0, as_of));
        }
        Ok(pages)
    }
}

/// What a name takes beside its bytes.
const EACH: usize = 80;
/// Stands in no name.
const END: u8 = 0;

impl CacheKey for StockQuery {
    fn name(&self) -> Vec<u8> {
        let Self { prefix, after, limit } = self;
        let mut name = [&limit.to_be_bytes()[..], prefix.as_bytes(), &[END]].concat();
        if let Some(after) = after {
            name.extend(after.name());
        }
        name
    }
}

impl CacheValue for Names {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.next.is_some())];
        for item in self.next.iter().chain(&*self.items) {
            bytes.extend(item.name());
            bytes.push(END);
        }
        bytes
    }

    fn weight(&self) -> u32 {
        let name =
            |item: &ItemKey| item.sku.as_str().len().saturating_add(item.location.as_str().len());
        let names = self.next.iter().chain(&*self.items).map(name);
        let bytes = names.map(|name| name.saturating_add(EACH)).fold(0, usize::saturating_add);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (has_next, rest) = bytes.split_first()?;
        let mut words = rest.split(|byte| *byte == END);
        let mut items = Vec::new();
        while let (Some(sku), Some(location)) = (words.next(), words.next()) {
            let (sku, location) = (str::from_utf8(sku).ok()?, str::from_utf8(location).ok()?);
            let (sku, location) = (Sku::new(sku).ok()?, Location::new(location).ok()?);
            items.push(ItemKey { sku, location });
        }
        let next = if *has_next == 1 && !items.is_empty() { Some(items.remove(0)) } else { None };
        Some(Self { items: items.into(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sku: &str, location: &str) -> ItemKey {
        ItemKey { sku: Sku::new(sku).unwrap(), location: Location::new(location).unwrap() }
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        let (mug, hat) = (item("MUG", "regal 7"), item("HÜTE", "default"));
        for items in [vec![], vec![mug.clone()], vec![hat.clone(), mug]] {
            for next in [None, Some(hat.clone())] {
                let names = Names { items: items.clone().into(), next };
                assert_eq!(Names::decode(&names.encode()), Some(names));
            }
        }
        assert_eq!(Names::decode(b""), None);
        assert_eq!(Names::decode(b"\x00MUG\0\xff\0"), None);
    }

    #[test]
    fn no_two_pages_have_the_same_name() {
        let query = |prefix: &str, after: Option<ItemKey>, limit| StockQuery {
            prefix: prefix.to_owned(),
            after,
            limit,
        };
        let pages = [
            query("", None, 1),
            query("", None, 2),
            query("MUG", None, 1),
            query("", Some(item("MUG", "default")), 1),
            query("MUG", Some(item("MUG", "default")), 1),
            query("MUG", Some(item("MUG", "north")), 1),
        ];
        let names: std::collections::HashSet<_> = pages.iter().map(CacheKey::name).collect();
        assert_eq!(names.len(), pages.len());
    }
}
