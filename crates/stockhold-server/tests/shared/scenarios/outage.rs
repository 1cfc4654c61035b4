//! Postgres is away, or slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use tokio::task::JoinSet;

use super::{Clients, LONG, N, timed};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

const AT_ONCE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(50);

/// Scenario 17. What is held in the beginning would die in the outage.
#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_17_while_postgres_stops_for_20_s_nothing_expires_and_nothing_is_lost() {
    const LIFE: Duration = Duration::from_secs(12);
    let mut shop = Shop::open(N);
    shop.stock("MUG", 100_000).await;
    let (clients, leave) = (Clients::new(), Arc::new(AtomicBool::new(false)));
    let mut held = Vec::new();
    for n in 0..N {
        held.push(
            clients.nth(&shop, n).place(&format!("held-{n}"), &[("MUG", 1)], LIFE).await.id(),
        );
    }
    let buyers: JoinSet<_> = (0..8)
        .map(|n| buy_until_told(clients.nth(&shop, n), n, LIFE, Arc::clone(&leave)))
        .collect();
    shop.postgres.stop();
    for second in 0..20_usize {
        for (n, hold) in held.iter().enumerate() {
            let mut client = clients.nth(&shop, n);
            let key = format!("never-{second}-{n}");
            let (placed, for_place) = timed(client.place(&key, &[("MUG", 1)], LIFE)).await;
            let (confirmed, for_confirm) = timed(client.confirm(hold)).await;
            for (told, time) in [(placed, for_place), (confirmed, for_confirm)] {
                assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
                assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()));
                assert!(time < AT_ONCE, "{time:?}");
            }
        }
        SystemClock.sleep(Duration::from_secs(1)).await;
    }
    shop.postgres.restart();
    for (n, hold) in held.iter().enumerate() {
        let confirm = timed(insist(&mut clients.nth(&shop, n + 1), hold)).await;
        assert_eq!(confirm.0.status(), 200, "{confirm:?}");
        assert!(confirm.1 < Duration::from_secs(5), "{confirm:?}");
    }
    leave.store(true, Ordering::Relaxed);
    let bought: usize = buyers.join_all().await.into_iter().sum();
    assert_eq!(shop.count("SELECT count(*) FROM transition WHERE step = 'expire'"), 0);
    let sold = i64::try_from(bought + N).unwrap();
    assert_eq!(shop.count("SELECT count(*) FROM transition WHERE step = 'confirm'"), sold);
    assert_eq!(shop.units(0, "MUG").await, [100_000, 0, sold, 100_000 - sold]);
    clients.expect_honest(&shop, &[("MUG", 100_000)], Duration::ZERO);
}

/// Buys one by one, each until it is done; says how many.
async fn buy_until_told(
    mut client: Shopper,
    n: usize,
    life: Duration,
    leave: Arc<AtomicBool>,
) -> usize {
    let mut bought = 0;
    while !leave.load(Ordering::Relaxed) {
        let key = format!("buyer-{n}-{bought}");
        let placed = loop {
            let told = client.place(&key, &[("MUG", 1)], life).await;
            if !told.is_unknown() {
                break told;
            }
            SystemClock.sleep(RETRY).await;
        };
        insist(&mut client, &placed.id()).await.expect_status(200);
        bought += 1;
    }
    bought
}

async fn insist(client: &mut Shopper, hold: &str) -> Told {
    loop {
        let told = client.confirm(hold).await;
        if !told.is_unknown() {
            return told;
        }
        SystemClock.sleep(RETRY).await;
    }
}

/// Scenario 17. Batches are small, so that it is soon too much. A commit takes a few milliseconds
/// here, and then a hundred.
#[tokio::test(flavor = "multi_thread")]
async fn slow_scenario_17_while_commits_are_slow_what_is_too_much_is_shed_and_5_s_later_nothing_is()
{
    const CLIENTS: usize = 400;
    let second = Duration::from_secs(1);
    let mut shop = Shop::open_with(N, |command| {
        command.env("STOCKHOLD_ENGINE_BATCH_COMMANDS", "20");
    });
    for sku in SKUS {
        shop.stock(sku, 1_000_000).await;
    }
    let usually = time_of_a_commit(&shop).await;
    let (clients, leave) = (Clients::new(), Arc::new(AtomicBool::new(false)));
    let begun = SystemClock.boot();
    let offered: JoinSet<_> =
        (0..CLIENTS).map(|n| offer(clients.nth(&shop, n), n, Arc::clone(&leave))).collect();
    SystemClock.sleep(3 * second).await;
    shop.postgres.reload_with("commit_siblings", 0);
    shop.postgres.reload_with("commit_delay", 100_000);
    let (slow, first) = (SystemClock.boot(), Commits::of(&shop).await);
    let mut queued = 0.0_f64;
    while SystemClock.boot() < slow + 4 * second {
        queued = queued.max(longest_queue(&shop).await);
        SystemClock.sleep(second / 20).await;
    }
    let slowly = Commits::of(&shop).await.since(first);
    shop.postgres.reload_with("commit_delay", 0);
    let healed = SystemClock.boot();
    SystemClock.sleep(7 * second).await;
    leave.store(true, Ordering::Relaxed);
    let seen = offered.join_all().await.concat();

    let between = |from: Duration, until: Duration| {
        seen.iter().filter(move |seen| seen.begun >= from && seen.begun < until)
    };
    let of = |status: u16, from, until| between(from, until).filter(|s| s.status == status).count();
    let [usual, shed, shed_later] = [
        of(201, slow - 2 * second, slow) / 2,
        of(429, slow, healed),
        of(429, healed + 5 * second, Duration::MAX),
    ];
    let again = of(201, healed + 5 * second, healed + 6 * second);
    let slowest = between(begun, Duration::MAX).map(|seen| seen.took).max();
    let report = format!(
        "{usual} holds/s, then {shed} shed; 5 s after it {shed_later} shed, {again} holds/s; \
         slowest {slowest:?}"
    );
    assert!(slowly >= 20.0 * usually, "a commit took {usually} s, and then only {slowly} s");
    // What comes to an instance in 250 ms, and a little more.
    assert!(queued < 80.0, "{queued} waited");
    let others = seen.iter().filter(|seen| !matches!(seen.status, 201 | 429)).count();
    assert_eq!(others, 0, "{report}");
    assert!(shed > 100 && shed_later == 0 && again * 10 >= usual * 8, "{report}");
    // 250 ms in the queue, and its batch.
    assert!(slowest < Some(2 * second), "{report}");
    clients.expect_honest(&shop, &SKUS.map(|sku| (sku, 1_000_000)), Duration::ZERO);
}

/// What all instances together measured of their transactions.
#[derive(Clone, Copy, Debug)]
struct Commits {
    seconds: f64,
    count: f64,
}

impl Commits {
    async fn of(shop: &Shop) -> Self {
        let mut commits = Self { seconds: 0.0, count: 0.0 };
        for n in 0..N {
            let metrics = shop.keeper(n).text("/metrics").await;
            commits.seconds += metric(&metrics, "stockhold_commit_seconds_sum ");
            commits.count += metric(&metrics, "stockhold_commit_seconds_count ");
        }
        commits
    }

    /// How long one took since then, in seconds.
    fn since(self, first: Self) -> f64 {
        (self.seconds - first.seconds) / (self.count - first.count)
    }
}

/// When one does not wait for another.
async fn time_of_a_commit(shop: &Shop) -> f64 {
    let first = Commits::of(shop).await;
    for n in 0..100 {
        let told = shop.keeper(n).place(&format!("one-{n}"), &[(SKUS[n % N], 1)], LONG).await;
        told.expect_status(201);
    }
    Commits::of(shop).await.since(first)
}

/// The most that waits before any instance.
async fn longest_queue(shop: &Shop) -> f64 {
    let mut longest = 0.0_f64;
    for n in 0..N {
        let metrics = shop.keeper(n).text("/metrics").await;
        longest = longest.max(metric(&metrics, "stockhold_queue_length{queue=\"place\"} "));
    }
    longest
}

fn metric(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
}

#[derive(Clone)]
struct Seen {
    begun: Duration,
    took: Duration,
    status: u16,
}

/// One for each instance: two commits that want the same item follow each other.
const SKUS: [&str; N] = ["A", "B", "C", "D"];

/// Places a hold every 400 ms, whatever was answered.
async fn offer(mut client: Shopper, n: usize, leave: Arc<AtomicBool>) -> Vec<Seen> {
    const PAUSE: Duration = Duration::from_millis(400);
    let mut seen = Vec::new();
    let mut next = SystemClock.boot() + PAUSE * u32::try_from(n % 400).unwrap() / 400;
    for round in 0.. {
        SystemClock.sleep(next.saturating_sub(SystemClock.boot())).await;
        if leave.load(Ordering::Relaxed) {
            break;
        }
        let begun = SystemClock.boot();
        let (told, took) =
            timed(client.place(&format!("{n}-{round}"), &[(SKUS[n % N], 1)], LONG)).await;
        if told.status() == 429 {
            assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()));
        }
        seen.push(Seen { begun, took, status: told.status() });
        next = (next + PAUSE).max(begun);
    }
    seen
}
