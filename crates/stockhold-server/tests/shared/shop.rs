//! A database, and the instances on it. They belong to one test.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use stockhold::{
    clock::{Clock, SystemClock},
    crash::Point,
};
use stockhold_testkit::{PostgresServer, ServerProcess, history::Ledger, process};

use crate::{account, shopper::Shopper};

/// The program with these arguments.
pub(crate) fn stockhold(args: &[&str]) -> Command {
    process::command(Path::new(env!("CARGO_BIN_EXE_stockhold")), args)
}

/// The instance hears of what others change.
pub(crate) const LINKED: &str = "stockhold_cache_link_up 1\n";
/// For so long what has to come is waited for.
const SOON: Duration = Duration::from_secs(10);

/// In SQL that reads the table `test_clock`.
pub(crate) const LEDGER_TIME: &str =
    "((extract(epoch FROM clock_timestamp()) * 1000)::bigint + test_clock.ahead)";

/// One shop on one database.
pub(crate) struct Shop {
    // Dropped first, so that no instance complains of a database that has gone.
    pub(crate) instances: Vec<ServerProcess>,
    pub(crate) postgres: PostgresServer,
    /// Where the instances find the database: the server itself, or a proxy before it.
    pub(crate) url: String,
}

impl Shop {
    /// So many instances on a database of their own.
    pub(crate) fn open(instances: usize) -> Self {
        Self::open_on(PostgresServer::start(), instances)
    }

    /// The same on a server that was set up in some way.
    pub(crate) fn open_on(postgres: PostgresServer, instances: usize) -> Self {
        let url = postgres.url();
        let mut shop = Self { instances: Vec::new(), postgres, url };
        for _ in 0..instances {
            shop.join(|_| ());
        }
        shop
    }

    /// So many instances, all set up in the same way.
    pub(crate) fn open_with(instances: usize, set_up: impl Fn(&mut Command)) -> Self {
        let mut shop = Self::open(0);
        for _ in 0..instances {
            shop.join(&set_up);
        }
        shop
    }

    /// Another instance, set up in some way.
    pub(crate) fn join(&mut self, set_up: impl FnOnce(&mut Command)) {
        let instance = self.instance(set_up);
        self.instances.push(instance);
    }

    /// An instance that ends when it passes a point of [`Point`] for the nth time, but for points of
    /// a mere sign of life.
    ///
    /// [`Point`]: stockhold::crash::Point
    pub(crate) fn doomed(&self, point: Point, nth: u32) -> ServerProcess {
        let at = format!("{}:{nth}", point.name());
        self.instance(|command| {
            command.env("STOCKHOLD_CRASH_AT", at);
        })
    }

    /// An instance that is not one of [`instances`](Self::instances).
    pub(crate) fn instance(&self, set_up: impl FnOnce(&mut Command)) -> ServerProcess {
        let mut command = stockhold(&["serve", "--ledger", &self.url, "--listen", "127.0.0.1:0"]);
        set_up(&mut command);
        ServerProcess::start(&command)
    }

    /// Where the n-th instance listens; instances are counted round.
    pub(crate) fn address(&self, n: usize) -> &str {
        self.instances[n % self.instances.len()].address()
    }

    /// Somebody who asks the n-th instance, and records nothing.
    pub(crate) fn keeper(&self, n: usize) -> Shopper {
        Shopper::new(self.address(n))
    }

    /// An item with so many units.
    pub(crate) async fn stock(&self, sku: &str, on_hand: i64) {
        self.keeper(0).put_stock(sku, on_hand).await;
    }

    /// On hand, held, allocated and available, as the n-th instance answers.
    pub(crate) async fn units(&self, n: usize, sku: &str) -> [i64; 4] {
        let item = self.keeper(n).get(&format!("/v1/stock/{sku}")).await.expect_status(200);
        ["on_hand", "held", "allocated", "available"].map(|name| item[name].as_i64().unwrap())
    }

    /// What the n-th instance counts under a name, which has its labels behind it.
    pub(crate) async fn number(&self, n: usize, name: &str) -> Option<u64> {
        let metrics = self.keeper(n).text("/metrics").await;
        let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map(|number| number.parse().unwrap())
    }

    /// Waits until locks are granted by this one.
    pub(crate) async fn wait_for_grantor(&self, wanted: &str, limit: Duration) {
        let end = SystemClock.boot() + limit;
        while self.sql("SELECT grantor FROM lock_rule WHERE is_open") != wanted {
            assert!(SystemClock.boot() < end, "locks are not granted by {wanted}");
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the metrics of the n-th instance have this line.
    pub(crate) async fn says(&self, n: usize, line: &str) {
        let end = SystemClock.boot() + SOON;
        while !self.keeper(n).text("/metrics").await.contains(line) {
            assert!(SystemClock.boot() < end, "{n} does not say {line:?}");
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until those of all have it.
    pub(crate) async fn all_say(&self, line: &str) {
        for n in 0..self.instances.len() {
            self.says(n, line).await;
        }
    }

    /// Lets so much time of the ledger pass, for all instances at once.
    pub(crate) fn pass(&self, time: Duration) {
        let millis = time.as_millis();
        self.sql(&format!(
            "BEGIN; UPDATE ledger SET alive_at = alive_at + {millis}; \
             UPDATE test_clock SET ahead = ahead + {millis}; COMMIT"
        ));
    }

    /// The same, so that this hold dies so long from now.
    pub(crate) fn pass_until_near_death(&self, hold: &str, left: Duration) {
        let left = left.as_millis();
        self.sql(&format!(
            "WITH step AS (SELECT deadline - {left} - {LEDGER_TIME} AS millis \
                 FROM hold, test_clock WHERE id = '{hold}'), \
             alive AS (UPDATE ledger SET alive_at = alive_at + millis FROM step) \
             UPDATE test_clock SET ahead = ahead + millis FROM step"
        ));
    }

    /// Runs a statement in the shop's database, past all instances.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.postgres.psql(statement)
    }

    /// One number.
    pub(crate) fn count(&self, query: &str) -> i64 {
        let answer = self.sql(query);
        answer.trim().parse().unwrap_or_else(|_| panic!("{query}: {answer:?}"))
    }

    /// What the rows of the ledger say, for the judge of a history.
    pub(crate) fn account(&self, supply: &[(&str, i64)]) -> Ledger {
        account::read(|query| self.sql(query), supply)
    }

    /// `stockhold verify`.
    pub(crate) fn verify(&self) -> Output {
        stockhold(&["verify", "--ledger", &self.postgres.url()]).output().unwrap()
    }

    /// `stockhold verify` finds nothing.
    #[track_caller]
    pub(crate) fn expect_sound(&self) {
        let report = self.verify();
        let [said, why] =
            [&report.stdout, &report.stderr].map(|text| String::from_utf8_lossy(text));
        assert_eq!(report.status.code(), Some(0), "{said}{why}");
    }
}
