//! Copies of stock items, for readers who can do with one, and say how old it may be.
//!
//! A batch takes away what it has changed, before anybody is answered: who has changed an item here does not
//! read an older copy of it afterwards. It does not put a new one there: over a shared ledger no batch knows
//! when the next hold of an item dies, which a view tells. The next reader loads it, once for all.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stockhold_core::{ItemKey, Limits, Outcome, Rejection, StockView};

use self::{
    doorkeeper::Doorkeeper,
    lists::{Lists, Names},
};
use super::{PlaceRequest, Told};
use crate::{
    Error, Failure,
    batcher::Watcher,
    cache::{CacheKey, CacheValue, Loaded, Loader, Policy, Read, TieredCache, Unchanged},
    ledger::{ChangedItem, Ledger, Page, StockQuery},
    metrics::OfCache,
    redis::Redis,
};

mod coded;
mod doorkeeper;
mod lists;

/// How copies of stock items are kept.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Room for them in this process, in bytes, of which an eighth is for lists: 64 MiB.
    pub bytes: u64,
    /// Where other instances over the same ledger find them as well; nowhere.
    pub redis: Option<Redis>,
    /// A place may be refused by copies that are not older than that, if there is a Redis by which instances tell
    /// each other what they change: 250 ms. None: never.
    pub refuse_within: Option<Duration>,
    /// What may be asked for at all: whoever asks for more is told so by the ledger.
    pub limits: Limits,
    /// What its keys in Redis begin with, before what tells the ledger from others: `stockhold`.
    pub namespace: String,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            redis: None,
            refuse_within: Some(Duration::from_millis(250)),
            limits: Limits::default(),
            namespace: "stockhold".to_owned(),
        }
    }
}

/// The most loads from the ledger at once.
const LOADS: usize = 4;

/// Copies of stock items.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub(super) cache: TieredCache<ItemKey, StockView>,
    lists: Lists,
    redis: Option<Redis>,
    doorkeeper: Option<Arc<Doorkeeper>>,
}

impl Views {
    pub(super) fn new(ledger: &Arc<dyn Ledger>, options: CacheOptions) -> Self {
        let CacheOptions { bytes, redis, refuse_within, limits, namespace } = options;
        // Nobody shares what is said of a ledger that nobody shares.
        let redis = redis.filter(|_| ledger.is_shared());
        let namespace = namespace_of(&**ledger, &namespace);
        // Of a ledger that nobody else writes to, everything that changes is known here.
        // A ledger answers for many items as fast as for one: few loads at once gather more.
        let only_writer = !ledger.is_shared();
        let policy = Policy { only_writer, loads: LOADS, ..Policy::default() };
        let loader = Arc::new(FromLedger(Arc::clone(ledger)));
        let for_lists = bytes / 8;
        let mut builder = TieredCache::builder(&namespace, loader).policy(policy);
        builder = builder.l1_bytes(bytes.saturating_sub(for_lists));
        if let Some(redis) = redis.clone() {
            builder = builder.redis(redis);
        }
        let cache = builder.start();
        let lists = Lists::new(ledger, for_lists);
        // Only where the others tell what they change: a ledger that nobody shares refuses as fast by itself.
        let within = refuse_within.filter(|within| redis.is_some() && !within.is_zero());
        let doorkeeper = within.map(|within| Doorkeeper::new(&cache, ledger, within, limits));
        Self { cache, lists, redis, doorkeeper: doorkeeper.map(Arc::new) }
    }

    /// A stock item, not older than that.
    pub(super) async fn stock(
        &self,
        item: &ItemKey,
        age: Option<Duration>,
    ) -> Result<Option<(Told, StockView)>, Arc<Failure>> {
        self.cache.read(item, age).await.map(told)
    }

    /// A page of them, each not older than that; nor is any missing that was there longer ago.
    pub(super) async fn items(
        &self,
        query: &StockQuery,
        age: Option<Duration>,
    ) -> Result<Page<(Told, StockView), ItemKey>, Arc<Failure>> {
        let names = self.lists.names(query, age).await?;
        let Some(Names { items, next }) = names.value else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        // Past their time they lack what is new, and so does the page.
        let of_page = |told: Told| {
            if names.origin.is_stale() {
                Told { origin: names.origin, age: told.age.max(names.age) }
            } else {
                told
            }
        };
        let reads = self.cache.read_many(&items, age).await;
        let mut page = Page { items: Vec::with_capacity(reads.len()), next };
        for read in reads {
            page.items.extend(told(read?).map(|(told, view)| (of_page(told), view)));
        }
        Ok(page)
    }

    /// Why a place is refused, as far as copies can tell.
    pub(super) async fn refusal(&self, request: &PlaceRequest) -> Option<Error> {
        self.doorkeeper.as_ref()?.refusal(request).await
    }

    /// The ledger has answered a place.
    pub(super) fn learn(&self, answer: &Result<Outcome, Error>) {
        if let (Some(doorkeeper), Err(Error::Rejected { rejection, .. })) =
            (&self.doorkeeper, answer)
            && let Rejection::InsufficientStock { lines, .. } = &**rejection
        {
            doorkeeper.learn(lines);
        }
    }

    pub(super) fn metrics(&self) -> OfCache {
        OfCache { cache: self.cache.clone(), redis: self.redis.clone() }
    }
}

/// What tells the keys of those who share this ledger from others.
pub(super) fn namespace_of(ledger: &dyn Ledger, namespace: &str) -> String {
    match ledger.identity() {
        Some(identity) => format!("{namespace}:{identity}"),
        None => namespace.to_owned(),
    }
}

impl Watcher for Views {
    fn changed(&self, items: &[ChangedItem]) {
        for item in items {
            self.cache.invalidate_soon(&item.key, item.version);
        }
        if items.iter().any(|item| item.is_new) {
            self.lists.let_go();
        }
    }
}

/// Asks the ledger.
#[derive(Debug)]
struct FromLedger(Arc<dyn Ledger>);

#[async_trait]
impl Loader<ItemKey, StockView> for FromLedger {
    async fn load(&self, items: Vec<ItemKey>) -> Result<Vec<Loaded<StockView>>, Failure> {
        let views = self.0.stock_of(&items).await?;
        Ok(views.into_iter().map(|view| view.map_or_else(Loaded::nothing, loaded)).collect())
    }

    async fn unchanged(&self, known: &[(ItemKey, u64)]) -> Result<Unchanged, Failure> {
        self.0.unchanged(known).await
    }
}

fn told(read: Read<StockView>) -> Option<(Told, StockView)> {
    let Read { value, origin, age, .. } = read;
    Some((Told { origin, age }, value?))
}

fn loaded(view: StockView) -> Loaded<StockView> {
    let (version, as_of) = (view.item.version, view.as_of);
    Loaded::new(view, version, as_of)
}

impl CacheKey for ItemKey {
    fn name(&self) -> Vec<u8> {
        // No name has a control character in it.
        [self.sku.as_str().as_bytes(), b"\0", self.location.as_str().as_bytes()].concat()
    }
}

impl CacheValue for StockView {
    fn encode(&self) -> Vec<u8> {
        coded::encode(self)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        coded::decode(bytes)
    }

    fn weight(&self) -> u32 {
        let ItemKey { sku, location } = &*self.item.key;
        let names = sku.as_str().len().saturating_add(location.as_str().len());
        u32::try_from(names.saturating_add(size_of::<Self>())).unwrap_or(u32::MAX)
    }
}
