//! Postgres is away for a while.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, Proxy, until};
use tokio::task::JoinSet;

use super::crowd::{Crowd, timed};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

const AT_ONCE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(10);

async fn ready(shop: &Shop, n: usize) -> u16 {
    shop.keeper(n).get("/readyz").await.status()
}

/// Every instance has noticed that Postgres is there again.
async fn wait_until_ready(shop: &Shop) {
    let end = SystemClock.boot() + SOON;
    for n in 0..shop.instances.len() {
        while ready(shop, n).await != 200 {
            assert!(SystemClock.boot() < end, "{n} is not ready");
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    }
}

fn expect_unavailable(told: &Told) {
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")), "{told:?}");
    assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_everybody_is_told_so_at_once() {
    let mut shop = Shop::open(2);
    shop.stock("MUG", 5).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], SOON).await.id();
    shop.postgres.stop();
    for n in 0..20 {
        let mut ann = Shopper::new(shop.address(n));
        let (placed, for_place) = timed(ann.place(&format!("{n}"), &[("MUG", 1)], SOON)).await;
        let (confirmed, for_confirm) = timed(ann.confirm(&hold)).await;
        expect_unavailable(&placed);
        expect_unavailable(&confirmed);
        assert!(for_place < AT_ONCE && for_confirm < AT_ONCE, "{for_place:?}, {for_confirm:?}");
    }
    shop.postgres.restart();
    wait_until_ready(&shop).await;
    assert_eq!(shop.keeper(1).confirm(&hold).await.status(), 200);
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 1, 4]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_ledger_is_away_lives_and_is_not_ready() {
    let mut shop = Shop::open(1);
    assert_eq!(ready(&shop, 0).await, 200);
    shop.postgres.stop();
    let told = shop.keeper(0).get("/readyz").await.expect_status(503);
    assert_eq!(told["dependencies"][0]["state"], "down", "{told}");
    assert_eq!(shop.keeper(0).get("/livez").await.status(), 200);
    shop.postgres.restart();
    until(SOON, "a connection", || match shop.instances[0].ended() {
        None => Ok(()),
        Some(status) => Err(format!("{status}")),
    });
    wait_until_ready(&shop).await;
}

/// TTL 12 s: the hold dies in the outage. It takes a while to make the gap longer than 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn slow_what_dies_in_an_outage_of_20_s_lives_10_s_longer_for_all_instances() {
    let mut shop = Shop::open(3);
    shop.stock("MUG", 5).await;
    let ttl = Duration::from_secs(12);
    let [first, second] = {
        let mut ann = shop.keeper(0);
        [
            ann.place("first", &[("MUG", 1)], ttl).await,
            ann.place("second", &[("MUG", 2)], ttl).await,
        ]
    }
    .map(|told| told.id());
    shop.postgres.stop();
    SystemClock.sleep(Duration::from_secs(20)).await;
    shop.postgres.restart();
    wait_until_ready(&shop).await;
    assert_eq!(shop.units(0, "MUG").await, [5, 3, 0, 2]);
    assert_eq!(shop.keeper(1).confirm(&first).await.status(), 200);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    assert_eq!(shop.count("SELECT graces[3] - graces[2] FROM ledger"), 10_000);

    let mut until_when = Vec::new();
    for n in 0..3 {
        let hold = shop.keeper(n).get(&format!("/v1/holds/{second}")).await.expect_status(200);
        until_when.push(hold["expires_at"].clone());
    }
    assert!(until_when[0].is_string(), "{until_when:?}");
    assert!(until_when.iter().all(|at| at == &until_when[0]), "{until_when:?}");
    shop.pass(Duration::from_secs(10));
    assert_eq!(shop.keeper(2).confirm(&second).await.code(), Some("hold_expired"));
    assert_eq!(shop.units(0, "MUG").await, [5, 0, 1, 4]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_customers_go_on_by_themselves_after_an_outage() {
    let mut shop = Shop::open(3);
    let crowd = Crowd::gather(&shop, 12).await;
    for seconds in [1, 5] {
        crowd.wait_for_sales(40);
        shop.postgres.stop();
        SystemClock.sleep(Duration::from_secs(seconds)).await;
        shop.postgres.restart();
    }
    crowd.wait_for_sales(40);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    crowd.leave_all_well(&shop).await;
}

/// A shop over TCP.
fn shop_far_from_postgres(instances: usize) -> (Shop, Proxy) {
    let mut shop = Shop::open_on(PostgresServer::set_up().with_tcp().start(), 0);
    let proxy = Proxy::start(shop.postgres.address().unwrap());
    shop.url = shop.postgres.url_at(proxy.address());
    for _ in 0..instances {
        shop.join(|_| ());
    }
    (shop, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_postgres_that_stands_still_is_told_as_away_and_is_there_again_when_it_goes_on() {
    let (mut shop, _proxy) = shop_far_from_postgres(2);
    let (crowd, hold) = crowd_and_a_hold(&shop).await;
    shop.postgres.pause();
    Box::pin(expect_silence_to_be_told(&shop, &crowd, &hold)).await;
    shop.postgres.resume();
    expect_to_go_on(&shop, crowd, &hold).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_network_that_swallows_everything_is_told_as_away_and_is_there_again_when_it_is_mended()
 {
    let (shop, proxy) = shop_far_from_postgres(2);
    let (crowd, hold) = crowd_and_a_hold(&shop).await;
    proxy.blackhole();
    Box::pin(expect_silence_to_be_told(&shop, &crowd, &hold)).await;
    proxy.heal();
    expect_to_go_on(&shop, crowd, &hold).await;
}

/// A hold that dies in a silence.
async fn crowd_and_a_hold(shop: &Shop) -> (Crowd, String) {
    let crowd = Crowd::gather(shop, 12).await;
    crowd.wait_for_sales(40);
    let ttl = Duration::from_secs(4);
    let hold = crowd.another(shop.address(0)).place("ann", &[("MUG", 1)], ttl).await.id();
    (crowd, hold)
}

/// Everybody is told, and nobody is lied to. How long that may take is another story.
async fn expect_silence_to_be_told(shop: &Shop, crowd: &Crowd, hold: &str) {
    const PATIENCE: Duration = Duration::from_secs(12);
    for n in 0..4 {
        let mut client = crowd.another(shop.address(n));
        let (confirmed, for_confirm) = timed(client.confirm(hold)).await;
        let (placed, for_place) = timed(client.place(&format!("{n}"), &[("MUG", 1)], SOON)).await;
        let (ready, for_ready) = timed(ready(shop, n)).await;
        expect_unavailable(&confirmed);
        expect_unavailable(&placed);
        assert_eq!(ready, 503);
        let longest = for_confirm.max(for_place).max(for_ready);
        assert!(longest < PATIENCE, "somebody waited for {longest:?}");
    }
}

/// Those who ask while nobody knows yet, and those who ask when it is known: several at once, since
/// one of them may be the one who tries to connect.
#[tokio::test(flavor = "multi_thread")]
async fn slow_while_postgres_says_nothing_the_first_wait_for_their_deadline_and_others_not_at_all()
{
    const DEADLINE: Duration = Duration::from_secs(5);
    let (mut shop, _proxy) = shop_far_from_postgres(1);
    shop.stock("MUG", 100).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], Duration::from_secs(60)).await.id();
    shop.postgres.pause();
    let ask = async |name: &str| {
        let asked: JoinSet<_> = (0..8)
            .map(|n| {
                let (mut client, hold, key) = (shop.keeper(0), hold.clone(), format!("{name}-{n}"));
                async move {
                    match n % 2 {
                        0 => timed(client.confirm(&hold)).await,
                        _ => timed(client.place(&key, &[("MUG", 1)], SOON)).await,
                    }
                }
            })
            .collect();
        let told = asked.join_all().await;
        told.iter().for_each(|(told, _)| expect_unavailable(told));
        told.into_iter().map(|(_, time)| time).max().unwrap()
    };
    let first = ask("first").await;
    let known = SystemClock.boot();
    let mut later = Duration::ZERO;
    for n in 0.. {
        if SystemClock.boot() >= known + Duration::from_secs(3) {
            break;
        }
        later = later.max(ask(&format!("later-{n}")).await);
    }
    assert!(
        first < DEADLINE + AT_ONCE && later < AT_ONCE,
        "the first waited for {first:?}, and others for {later:?}"
    );
}

/// The hold lives longer, since it could not be paid in time.
async fn expect_to_go_on(shop: &Shop, crowd: Crowd, hold: &str) {
    wait_until_ready(shop).await;
    assert_eq!(crowd.another(shop.address(1)).confirm(hold).await.status(), 200);
    assert_eq!(shop.count("SELECT cardinality(graces) / 3 FROM ledger"), 1);
    crowd.wait_for_sales(40);
    crowd.leave_all_well(shop).await;
}
