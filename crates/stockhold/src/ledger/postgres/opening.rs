//! What a batch begins with: one call locks its stock rows, and reads what its commands name.

use tokio_postgres::{Client, Error, Row, types::Type};
use uuid::Uuid;

use super::{
    rows::{self, Damaged, ItemNumber, KeyRow, Numbered, STOCK_COLUMNS},
    wanted::Wanted,
};
use crate::bug::Bug;

/// How long it may take to lock all rows of a batch. A time-out of the single lock is not enough: who
/// comes second waits for the first, and then for the row, and it would count for each of the two.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '350ms'";

/// The same for a batch of several rows: while it waits for one, it has others that are wanted.
const BEGIN_MANY: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '200ms'";

/// More keys than this are looked up by a statement of their own, behind the one that locks: where they
/// lie on disk, that may take longer than any lock should, and is no reason to take a row for stuck.
const FEW_KEYS: usize = 64;

/// How long a batch waits for a single lock.
const PATIENT: &str = "350ms";
/// For a batch beside the lane, whose row is locked by somebody else: others of its rows are free, and
/// other instances want them. It asks again soon.
const IMPATIENT: &str = "100ms";

/// What a batch asks for as it begins.
pub(super) struct Opening<'a> {
    rows: StockRows<'a>,
    keys: Vec<Uuid>,
    moves: bool,
    lock_timeout: &'static str,
}

impl<'a> Opening<'a> {
    pub(super) fn of(wanted: &'a Wanted) -> Self {
        let keys = wanted.idempotency.iter().map(|key| Uuid::from_bytes(key.to_bytes()));
        let lock_timeout = if wanted.is_beside { IMPATIENT } else { PATIENT };
        Self {
            rows: StockRows::of(wanted),
            keys: keys.collect(),
            moves: wanted.moves,
            lock_timeout,
        }
    }

    pub(super) async fn run(&self, client: &Client) -> Result<Opened, Error> {
        if Bug::NoLock.is_made() {
            // Outside of the transaction, locks end with their statement.
            let (row, keys) = tokio::try_join!(biased; self.open(client), self.find_many(client))?;
            client.batch_execute(BEGIN).await?;
            return Ok(Opened { row, keys });
        }
        let ((), row, keys) = tokio::try_join!(biased;
            client.batch_execute(self.rows.begin()),
            self.open(client),
            self.find_many(client),
        )?;
        Ok(Opened { row, keys })
    }

    async fn open(&self, client: &Client) -> Result<Row, Error> {
        let StockRows { items, skus, locations } = &self.rows;
        let (none, call) = (Vec::new(), "SELECT * FROM open_batch($1, $2, $3, $4, $5, $6)");
        let keys = if self.has_many_keys() { &none } else { &self.keys };
        let params = [
            (items as _, Type::INT8_ARRAY),
            (skus as _, Type::TEXT_ARRAY),
            (locations as _, Type::TEXT_ARRAY),
            (keys as _, Type::UUID_ARRAY),
            (&self.moves as _, Type::BOOL),
            (&self.lock_timeout as _, Type::TEXT),
        ];
        client.query_typed_one(call, &params).await
    }

    fn has_many_keys(&self) -> bool {
        self.keys.len() > FEW_KEYS
    }

    async fn find_many(&self, client: &Client) -> Result<Option<Row>, Error> {
        if !self.has_many_keys() {
            return Ok(None);
        }
        let call = "SELECT * FROM find_keys($1)";
        client.query_typed_one(call, &[(&self.keys, Type::UUID_ARRAY)]).await.map(Some)
    }
}

/// What was locked and found.
pub(super) struct Opened {
    /// Its first columns are those that [`Life::of`](super::life::Life::of) reads.
    pub(super) row: Row,
    /// Many keys are in a row of their own.
    keys: Option<Row>,
}

impl Opened {
    /// The number of the last movement, if the batch may count on.
    pub(super) fn last_movement(&self) -> Result<Option<i64>, Damaged> {
        rows::column(&self.row, 6)
    }

    /// The stock rows that are locked now.
    pub(super) fn stock(&self) -> Result<Vec<Result<Numbered, Damaged>>, Damaged> {
        rows::stock_items(&self.row, 7)
    }

    /// The keys that are there.
    pub(super) fn keys(&self) -> Result<Vec<KeyRow>, Damaged> {
        match &self.keys {
            Some(keys) => rows::keys(keys, 0),
            None => rows::keys(&self.row, 17),
        }
    }
}

/// All stock rows of a batch, by their numbers and by their names.
pub(super) struct StockRows<'a> {
    items: Vec<ItemNumber>,
    skus: Vec<&'a str>,
    locations: Vec<&'a str>,
}

impl<'a> StockRows<'a> {
    pub(super) fn of(wanted: &'a Wanted) -> Self {
        let keys = || wanted.keys_of_items.iter();
        Self {
            items: wanted.items.iter().copied().collect(),
            skus: keys().map(|key| key.sku.as_str()).collect(),
            locations: keys().map(|key| key.location.as_str()).collect(),
        }
    }

    const fn begin(&self) -> &'static str {
        if self.items.len().saturating_add(self.skus.len()) > 1 { BEGIN_MANY } else { BEGIN }
    }

    /// Reads them with this lock, or none; and which transaction has locked each.
    pub(super) async fn select(&self, client: &Client, lock: &str) -> Result<Vec<Row>, Error> {
        let select = format!(
            "SELECT {STOCK_COLUMNS}, stock.xmax::text FROM stock WHERE item IN (\
                SELECT unnest($1) UNION \
                SELECT named.item FROM unnest($2, $3) AS name (sku, location) \
                JOIN stock AS named ON named.sku = name.sku AND named.location = name.location) \
             ORDER BY item {lock}"
        );
        let params = [
            (&self.items as _, Type::INT8_ARRAY),
            (&self.skus as _, Type::TEXT_ARRAY),
            (&self.locations as _, Type::TEXT_ARRAY),
        ];
        client.query_typed(&select, &params).await
    }
}
