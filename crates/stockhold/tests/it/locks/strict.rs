//! Whoever checks no fence waits for all leases of which nobody knows, and then has its turn. The clock of the database
//! is set ahead, so that of a minute seconds are left.

use stockhold_testkit::ClockShim;

use super::{lost::until_answered, *};

const MINUTE: Duration = Duration::from_secs(60);
const AHEAD: Duration = Duration::from_secs(58);
/// For so long what was read of the rule counts, and the longest lease lives by the slowest clock.
const WHOLE: Duration = Duration::from_millis(62_602);

async fn shop(clock: &ClockShim) -> Shop {
    let mut set_up = PostgresServer::set_up();
    for (name, value) in clock.variables() {
        set_up = set_up.with_variable(name, value);
    }
    let redis = RedisServer::set_up().with_tcp().start();
    let url = url_of(&redis);
    Shop::over(set_up.start(), redis).with(1, Some(url.as_str())).await
}

/// How long is to be waited, as the database has it.
fn left(shop: &Shop) -> Duration {
    let left =
        "SELECT floor(extract(epoch FROM strict_from - clock_timestamp()) * 1000) FROM lock_rule";
    Duration::from_millis(shop.postgres().psql(left).parse().expect("a number"))
}

/// After a grant whose lease nobody knows of any more.
async fn has_its_turn_at_the_end(shop: &Shop, clock: &ClockShim, lost: Fence) {
    let locks = shop.locks();
    let (told, _) = until_answered(&locks, &Token::random(), Mode::Strict).await;
    assert!(matches!(told, Attempt::Busy(left) if left > MINUTE && left <= WHOLE), "{told:?}");
    assert!(left(shop) > MINUTE && left(shop) <= WHOLE, "{:?}", left(shop));

    clock.set_ahead(AHEAD);
    let (begun, left) = (SystemClock.boot(), left(shop));
    assert!(left > SECOND && left < WHOLE - AHEAD, "{left:?}");
    let lease = locks.acquire(&name("n"), ttl(1_000), PATIENCE).await.expect("it is its turn");
    let took = since(begun);
    assert!(took >= left && took < left + SECOND, "{took:?} of {left:?}");
    assert!(lease.fence() > lost && lease.fence().epoch > lost.epoch);
    assert_eq!(lease.release().await, Released::Clean);
}

#[tokio::test]
async fn when_redis_has_lost_its_data_who_checks_no_fence_has_its_turn_after_a_minute() {
    let clock = ClockShim::new();
    let shop = shop(&clock).await;
    let lost = granted(&ask(&shop.locks(), &Token::random(), Mode::Strict).await);
    shop.redis().cli(&["FLUSHALL"]);
    has_its_turn_at_the_end(&shop, &clock, lost).await;
    assert_eq!(shop.rule().0, "redis");
    shop.finish().await;
}

#[tokio::test]
async fn when_redis_is_gone_who_checks_no_fence_has_its_turn_after_a_minute() {
    let clock = ClockShim::new();
    let mut shop = shop(&clock).await;
    let lost = granted(&ask(&shop.locks(), &Token::random(), Mode::Strict).await);
    shop.redis_mut().kill();
    has_its_turn_at_the_end(&shop, &clock, lost).await;
    assert_eq!(shop.rule().0, "database");
    shop.redis = None;
    shop.finish().await;
}
