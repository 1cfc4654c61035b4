//! All who are there while Redis breaks: customers, readers of copies, and those who take locks.

use std::{process::Command, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer, history::Outcome};

use crate::{
    counted::Counted,
    faults::{
        crowd::{Crowd, unanswered},
        lockers::Lockers,
    },
    shop::{LINKED, Shop},
};

const CUSTOMERS: usize = 12;
const SOON: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Instances, and who asks them.
pub(super) struct Street {
    pub(super) shop: Shop,
    crowd: Crowd,
    counted: Counted,
    lockers: Option<Lockers>,
}

/// What Redis is called by whoever reads the metrics.
pub(super) const UNLINKED: &str = "stockhold_cache_link_up 0\n";
pub(super) const LEFT_ALONE: &str = "stockhold_redis_breaker_open 1\n";
pub(super) const ASKED: &str = "stockhold_redis_breaker_open 0\n";

/// So many instances, each of which finds Redis at one of these addresses.
pub(super) fn open(instances: usize, urls: &[String]) -> Shop {
    let mut shop = Shop::open_on(PostgresServer::start(), 0);
    for url in urls.iter().cycle().take(instances) {
        shop.join(|command: &mut Command| {
            command.args(["--redis", url]);
        });
    }
    shop
}

pub(super) fn url_of(server: &RedisServer) -> String {
    server.url_at(server.address().unwrap())
}

impl Street {
    /// All are there, all instances hear of Redis, which has something to lose, and grants locks.
    pub(super) async fn gather(shop: Shop, redis: &RedisServer) -> Self {
        let street = Self::without_locks(shop).await;
        let lockers = Lockers::begin(&street.shop);
        lockers.wait_for_leases(20);
        assert!(has_keys(redis), "Redis has nothing to lose");
        Self { lockers: Some(lockers), ..street }
    }

    /// The same, and nobody takes locks.
    pub(super) async fn without_locks(shop: Shop) -> Self {
        let crowd = Crowd::gather(&shop, CUSTOMERS).await;
        let suppliers = shop.instances.iter().map(|instance| crowd.another(instance.address()));
        let counted = Counted::begin(&shop, suppliers.collect()).await;
        let street = Self { shop, crowd, counted, lockers: None };
        street.all_say(LINKED).await;
        street.wait_for_sales(50);
        street
    }

    pub(super) fn wait_for_sales(&self, more: u64) {
        self.crowd.wait_for_sales(more);
    }

    pub(super) fn wait_for_leases(&self, more: u64) {
        self.lockers.as_ref().expect("somebody takes locks").wait_for_leases(more);
    }

    /// Waits until the metrics of this instance have this line.
    pub(super) async fn says(&self, n: usize, line: &str) {
        self.shop.says(n, line).await;
    }

    /// Waits until those of all do.
    pub(super) async fn all_say(&self, line: &str) {
        self.shop.all_say(line).await;
    }

    /// How often this instance has met this sort of trouble with Redis.
    pub(super) async fn troubles(&self, n: usize, kind: &str) -> u64 {
        let name = format!("stockhold_redis_errors_total{{kind=\"{kind}\"}}");
        self.shop.number(n, &name).await.unwrap_or(0)
    }

    /// Does this to Redis, and waits until this instance has met that sort of trouble because of it.
    pub(super) async fn meets(&self, n: usize, kind: &str, fault: impl FnOnce()) -> Duration {
        let before = self.troubles(n, kind).await;
        let begun = SystemClock.boot();
        fault();
        while self.troubles(n, kind).await == before {
            assert!(SystemClock.boot() - begun < SOON, "{n} does not notice that Redis is {kind}");
            SystemClock.sleep(LOOK_AGAIN).await;
        }
        SystemClock.boot() - begun
    }

    /// Waits until locks are granted by this one.
    pub(super) async fn locks_are_granted_by(&self, grantor: &str) {
        self.shop.wait_for_grantor(grantor, 3 * SOON).await;
    }

    /// Nobody has noticed anything: no question of a customer was left without an answer, no copy was older than it
    /// said, and no lock had two holders.
    pub(super) async fn leave_undisturbed(self) {
        if let Some(lockers) = self.lockers {
            lockers.leave().await;
        }
        assert!(self.counted.leave().await > 20, "no copies were read");
        let judged = self.crowd.leave_all_well(&self.shop).await;
        let odd = judged.history.events().iter().filter(|event| event.result == Outcome::Unknown);
        let odd: Vec<_> = odd.collect();
        assert_eq!(unanswered(&judged.history), 0, "{odd:#?}");
    }
}

pub(super) fn has_keys(redis: &RedisServer) -> bool {
    redis.cli(&["DBSIZE"]) != "0"
}
