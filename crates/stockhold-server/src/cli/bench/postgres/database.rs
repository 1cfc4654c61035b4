//! A row's database: its stock, and what was left behind.

use stockhold::ledger::{
    Ledger,
    postgres::{PostgresLedger, PostgresOptions},
};
use tokio_postgres::{Client, Row as Found, types::ToSql};

use super::{
    super::{
        plan::{Items, Kind},
        row::{Row, ratio},
    },
    Asking, Fault,
    server::{Server, connect},
};

/// More than anybody takes in a run.
const PLENTY: i64 = 1_000_000_000;

/// Creates all items at once, as an import would: one movement for each that has any units.
const STOCK: [&str; 3] = [
    "INSERT INTO stock (sku, location, on_hand, held, allocated, lent, safety_stock, version, \
         touched_at) \
     SELECT sku, 'default', $2, 0, 0, 0, 0, 1, \
         (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
     FROM unnest($1::text[]) WITH ORDINALITY AS new (sku, n) ORDER BY n",
    "INSERT INTO movement (id, item, kind, delta, on_hand_after, at) \
     SELECT row_number() OVER (ORDER BY item), item, 'create', on_hand, on_hand, touched_at \
     FROM stock WHERE on_hand > 0",
    "UPDATE counter SET last_movement = (SELECT count(*) FROM movement)",
];

/// A database of the server, and a connection to it.
pub(in super::super) struct Database<'a> {
    server: &'a Server,
    name: String,
    client: Client,
    before: Counts,
}

/// What is in a ledger.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    holds: i64,
    /// Of all tables to which a hold adds.
    rows: i64,
    /// What the server's log has grown to, in bytes.
    log: i64,
    /// When it was counted, by the server's clock.
    at: i64,
}

impl<'a> Database<'a> {
    pub(in super::super) async fn open(server: &'a Server, name: String) -> Result<Self, Fault> {
        let client = connect(&server.url_of(&name)).await?;
        Ok(Self { server, name, client, before: Counts::default() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(in super::super) fn url(&self) -> String {
        self.server.url_of(&self.name)
    }

    pub(super) const fn server(&self) -> &Server {
        self.server
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Creates the items.
    pub(in super::super) async fn stock_up(&self, items: Items) -> Result<(), Fault> {
        let is_gone = matches!(items, Items::SoldOut | Items::Gone(_));
        self.stock_up_with(items, if is_gone { 0 } else { PLENTY }).await
    }

    async fn stock_up_with(&self, items: Items, on_hand: i64) -> Result<(), Fault> {
        let skus = items.skus();
        let params: [&(dyn ToSql + Sync); 2] = [&skus, &on_hand];
        for (n, statement) in STOCK.iter().enumerate() {
            let params = if n == 0 { &params[..] } else { &[] };
            let done = self.client.execute(*statement, params).await;
            done.asking("creating stock items")?;
        }
        self.settle().await
    }

    /// What the server would else do by itself while a row is measured.
    pub(super) async fn settle(&self) -> Result<(), Fault> {
        self.client.batch_execute("VACUUM ANALYZE").await.asking("vacuuming")
    }

    /// From here on it counts.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        // Who may not ask for one has figures that differ a little more from row to row.
        let _ = self.client.batch_execute("CHECKPOINT").await;
        self.before = self.counts().await?;
        Ok(())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let count = "SELECT (SELECT count(*) FROM hold), \
            (SELECT count(*) FROM hold) + (SELECT count(*) FROM active) \
                + (SELECT count(*) FROM transition) + (SELECT count(*) FROM idempotency) \
                + (SELECT count(*) FROM batch), \
            pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, \
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let row = self.one(count, &[]).await?;
        Ok(Counts { holds: row.get(0), rows: row.get(1), log: row.get(2), at: row.get(3) })
    }

    async fn one(&self, query: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Found, Fault> {
        self.client.query_one(query, params).await.asking("counting rows")
    }

    /// Verifies what was left behind, and notes what a hold cost.
    pub(super) async fn account(&self, row: &mut Row) -> Result<(), Fault> {
        let after = self.counts().await?;
        row.holds_verified = Some(self.verify().await?);
        let holds = after.holds.saturating_sub(self.before.holds);
        if row.job.items != Items::SoldOut {
            self.all_are_there(row.operations, holds)?;
        }
        row.rows_per_hold = ratio((after.rows - self.before.rows) as f64, holds as f64);
        row.bytes_per_hold = ratio((after.log - self.before.log) as f64, holds as f64);
        if row.job.kind == Kind::Engine {
            (row.late_p99_ms, row.late_most_ms) = self.lateness().await?;
        }
        Ok(())
    }

    fn all_are_there(&self, answered: u64, holds: i64) -> Result<(), Fault> {
        if u64::try_from(holds).unwrap_or(0) < answered {
            return Err(Fault::error(format!("{answered} holds were answered, {holds} are there")));
        }
        Ok(())
    }

    /// The invariants; how many holds were looked at.
    async fn verify(&self) -> Result<u64, Fault> {
        let ledger = PostgresLedger::connect(&self.url(), PostgresOptions::default()).await?;
        let report = ledger.verify().await?;
        ledger.close().await?;
        match report.violations.first() {
            None => Ok(report.holds),
            Some(first) => {
                let found = report.violations_found;
                Err(Fault::error(format!("the ledger has {found} violations: {first}")))
            }
        }
    }

    /// Of the holds of this row: what 99 of 100 stay under, and the most, in milliseconds.
    async fn lateness(&self) -> Result<(Option<u64>, Option<u64>), Fault> {
        let late = "SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY late), max(late) FROM ( \
            SELECT transition.at - hold.deadline AS late FROM transition \
            JOIN hold ON hold.id = transition.hold \
            WHERE transition.step = 'expire' AND hold.created_at >= $1) AS expired";
        let row = self.one(late, &[&self.before.at]).await?;
        let millis = |n| row.get::<_, Option<i64>>(n).map(|late| u64::try_from(late).unwrap_or(0));
        Ok((millis(0), millis(1)))
    }

    /// Whether a baseline has written what it said.
    pub(super) async fn count_baseline(&self, row: &Row) -> Result<(), Fault> {
        let holds = self.one("SELECT count(*) FROM stockhold_bench.hold", &[]).await?.get(0);
        self.all_are_there(row.operations, holds)
    }
}
