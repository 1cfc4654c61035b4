//! Redis dies under load.

#![expect(clippy::print_stdout, reason = "what was measured")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::RedisServer;
use tokio::task::JoinSet;

use super::Clients;
use crate::{
    counted::Counted,
    shop::{LINKED, Shop},
    shopper::Shopper,
};

const UNITS: i64 = 50_000;
const CLIENTS: u32 = 200;
const HOLDS_PER_SECOND: u32 = 2_000;
/// When Redis is killed, when it is there again, and when all is over.
const KILLED: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_secs(25);
const OVER: Duration = Duration::from_secs(32);
const LIFE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(10);

/// How long each place took, and when it was asked.
type Times = Arc<Mutex<Vec<(Duration, Duration)>>>;

/// Places holds in a rhythm of its own, and confirms each of them: half at once, half shortly before it dies.
async fn buy(mut client: Shopper, mut late: Shopper, n: u32, begun: Duration, times: Times) -> u32 {
    let period = Duration::from_secs(1) * CLIENTS / HOLDS_PER_SECOND;
    let mut next = begun + period * n / CLIENTS;
    let (mut sold, mut paid_later) = (0, Vec::new());
    for round in 0.. {
        let now = SystemClock.boot();
        if now >= begun + OVER {
            break;
        }
        let due = next;
        SystemClock.sleep(due.saturating_sub(now)).await;
        next += period;
        // Who asks late because an answer was late has waited since it was to ask.
        let asked = due;
        let told = client.place(&format!("{n}-{round}"), &[("MUG", 1)], LIFE).await;
        let took = SystemClock.boot() - due;
        assert_eq!(told.status(), 201, "{told:?}");
        times.lock().unwrap().push((asked - begun, took));
        if round % 16 != 0 {
            // Most are given back, so that there are always some.
            client.release(&told.id()).await.expect_status(200);
        } else if round % 32 == 0 {
            client.confirm(&told.id()).await.expect_status(200);
            sold += 1;
        } else {
            paid_later.push((asked + LIFE - Duration::from_secs(1), told.id()));
        }
        while let Some((_, id)) = paid_later.first().filter(|(at, _)| SystemClock.boot() >= *at) {
            late.confirm(id).await.expect_status(200);
            paid_later.remove(0);
            sold += 1;
        }
    }
    for (_, id) in paid_later {
        late.confirm(&id).await.expect_status(200);
        sold += 1;
    }
    sold
}

/// What 99 of 100 places took at most in each second of a while, the fastest second first.
fn p99_of_seconds(times: &[(Duration, Duration)], from: Duration, to: Duration) -> Vec<Duration> {
    let mut of_seconds: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for (asked, took) in times.iter().filter(|(asked, _)| (from..to).contains(asked)) {
        of_seconds.entry(asked.as_secs()).or_default().push(*took);
    }
    let mut p99s: Vec<_> = of_seconds
        .into_values()
        .map(|mut took| {
            took.sort_unstable();
            took[took.len() * 99 / 100]
        })
        .collect();
    p99s.sort_unstable();
    p99s
}

/// The value below which so many of a hundred seconds stay.
fn percentile(p99s: &[Duration], of_hundred: usize) -> Duration {
    p99s[p99s.len() * of_hundred / 100]
}

/// Scenario 15.
#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_15_redis_dies_under_load_and_no_hold_fails() {
    let mut redis = RedisServer::set_up().with_tcp().start();
    let url = redis.url_at(redis.address().unwrap());
    let shop = Shop::open_with(2, |command| {
        command.args(["--redis", &url]);
    });
    shop.stock("MUG", UNITS).await;
    let (clients, times) = (Clients::new(), Times::default());
    let counted = Counted::begin(&shop, (0..2).map(|n| clients.nth(&shop, n)).collect()).await;
    let begun = SystemClock.boot() + Duration::from_millis(500);
    let buyers: JoinSet<_> = (0..CLIENTS)
        .map(|n| {
            let nth = n as usize;
            let (client, late) = (clients.nth(&shop, nth), clients.nth(&shop, nth + 1));
            buy(client, late, n, begun, Arc::clone(&times))
        })
        .collect();
    let at = async |moment: Duration| {
        SystemClock.sleep((begun + moment).saturating_sub(SystemClock.boot())).await;
    };
    at(KILLED).await;
    redis.kill();
    at(BACK).await;
    redis.restart_empty();
    let sold: u32 = buyers.join_all().await.into_iter().sum();
    assert!(counted.leave().await > 1_000, "hardly any copies were read");
    shop.all_say(LINKED).await;
    let times = times.lock().unwrap().clone();
    let second = Duration::from_secs(1);
    let (up, gone) = (p99_of_seconds(&times, second, KILLED), p99_of_seconds(&times, KILLED, BACK));
    println!("p99 of each second: {up:?} with Redis, {gone:?} without");
    // Now and then a disk takes its time, with Redis or without.
    for of_hundred in [50, 80] {
        let [up, gone] = [&up, &gone].map(|p99s| percentile(p99s, of_hundred));
        assert!(gone < up + Duration::from_millis(5), "{gone:?} instead of {up:?}");
    }
    // Nobody waits for Redis to find out that it has gone.
    let at_once = p99_of_seconds(&times, KILLED, KILLED + second)[0];
    assert!(at_once < Duration::from_millis(100), "{at_once:?}");
    let count = |from, to| times.iter().filter(|(asked, _)| (from..to).contains(asked)).count();
    let (with, without) = (count(second, KILLED), count(KILLED, BACK));
    // As many as were to be; and no more connections are opened than there are.
    assert!(with / 9 >= 1_900 && without / 15 >= 1_900, "{with} in 9 s, {without} in 15 s");
    assert!(connections(&shop) <= 2 * 8 + 1);
    assert!(sold > 2_000, "{sold}");
    assert_eq!(shop.units(0, "MUG").await[2], i64::from(sold));
    clients.expect_honest(&shop, &[("MUG", UNITS), ("PEN", 0)], Duration::ZERO);
}

/// To the database: of the instances, and of whoever asks.
fn connections(shop: &Shop) -> i64 {
    shop.count("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
}

/// When somebody was answered, of those who were not sent away.
type Answered = Arc<Mutex<Vec<Duration>>>;

/// One of the herd: what it asks for is sold out for the most part.
async fn ask(client: &mut Shopper, n: u32, round: u32) -> bool {
    let (key, life) = (format!("{n}-{round}"), Duration::from_secs(1));
    let told = match round % 4 {
        0 => client.place(&key, &[("MUG", 1)], life).await,
        3 => client.get("/v1/stock/HAT?consistency=cached&max_age_ms=250").await,
        _ => client.place(&key, &[("HAT", 1)], life).await,
    };
    let expected = [201, 409, 409, 200][round as usize % 4];
    told.expect_any(&[expected, 503]);
    told.status() != 503
}

/// Asks from `from` to `until`, one question after the other: as fast as it is answered, or in a rhythm that makes up for
/// answers that were late.
async fn herd(
    mut client: Shopper,
    (n, first): (u32, u32),
    (from, until): (Duration, Duration),
    period: Duration,
    answered: Answered,
) -> u32 {
    let (mut next, mut round) = (from + period * n / CLIENTS, first);
    while SystemClock.boot() < until {
        SystemClock.sleep(next.saturating_sub(SystemClock.boot())).await;
        if ask(&mut client, n, round).await {
            answered.lock().unwrap().push(SystemClock.boot());
        }
        (next, round) = (next + period, round + 1);
    }
    round
}

/// As many ask as were served with Redis, in a rhythm that does not become slower, and Redis is gone.
#[tokio::test(flavor = "multi_thread")]
async fn slow_a_herd_that_comes_as_fast_as_before_is_served_while_redis_is_gone() {
    const FAST: Duration = Duration::from_secs(4);
    let mut redis = RedisServer::start();
    let url = redis.url();
    let shop = Shop::open_with(2, |command| {
        command.args(["--redis", &url]);
    });
    shop.stock("MUG", 1_000_000).await;
    shop.stock("HAT", 0).await;
    let clients = Clients::new();
    let come = async |first: u32, window, period, answered: &Answered| {
        let herd: JoinSet<_> = (0..CLIENTS)
            .map(|n| {
                let client = clients.nth(&shop, n as usize);
                herd(client, (n, first), window, period, Arc::clone(answered))
            })
            .collect();
        herd.join_all().await.into_iter().max().unwrap_or(0)
    };
    let (begun, fast) = (SystemClock.boot(), Answered::default());
    let rounds = come(0, (begun, begun + FAST), Duration::ZERO, &fast).await;
    let second = Duration::from_secs(1);
    let of = |answered: &Answered, from: Duration, to: Duration| {
        let answered = answered.lock().unwrap();
        answered.iter().filter(|at| (from..to).contains(*at)).count()
    };
    // Per second; the first one is for connecting.
    let rate = of(&fast, begun + second, begun + FAST) / 3;
    let period = second * CLIENTS / u32::try_from(rate).unwrap();
    let (from, answered) = (SystemClock.boot(), Answered::default());
    let (killed, over) = (from + 4 * second, from + 12 * second);
    let killing = async {
        SystemClock.sleep(killed.saturating_sub(SystemClock.boot())).await;
        redis.kill();
    };
    tokio::join!(come(rounds, (from, over), period, &answered), killing);
    let (up, down) = (of(&answered, from + second, killed) / 3, of(&answered, killed, over) / 8);
    println!("{rate} a second were served with Redis; then {up}, and {down} without it");
    // Who does not wait for answers is served less, with Redis as well; but not by much.
    assert!(up * 10 >= rate * 7, "{up} instead of {rate} a second with Redis");
    assert!(down * 10 >= up * 8, "{down} instead of {up} a second");
    assert!(connections(&shop) <= 2 * 8 + 1);
    // The last of them die, and then all can be told.
    let last = SystemClock.boot() + SOON;
    while shop.units(0, "MUG").await[1] > 0 {
        assert!(SystemClock.boot() < last, "not all that have died are swept");
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    clients.expect_honest(&shop, &[("MUG", 1_000_000), ("HAT", 0)], Duration::ZERO);
}
