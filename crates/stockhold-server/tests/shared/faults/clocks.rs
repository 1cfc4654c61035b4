//! Rows 27 and 28: the clock of Postgres steps, or that of an instance.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{ClockShim, PostgresServer, until};

use super::crowd::Crowd;
use crate::shop::Shop;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_secs(10);
const ALARM: &str = "the clock of the Postgres server has stepped";

fn shop_with_clock(instances: usize) -> (Shop, ClockShim) {
    let shim = ClockShim::new();
    let mut set_up = PostgresServer::set_up();
    for (name, value) in shim.variables() {
        set_up = set_up.with_variable(name, value);
    }
    (Shop::open_on(set_up.start(), instances), shim)
}

async fn wait_for_alarms(shop: &Shop) {
    until(SOON, "an alarm of every instance", || {
        let silent = shop.instances.iter().filter(|instance| !instance.log().contains(ALARM));
        match silent.count() {
            0 => Ok(()),
            n => Err(format!("{n} are silent")),
        }
    });
    for n in 0..shop.instances.len() {
        let metrics = shop.keeper(n).text("/metrics").await;
        assert!(!metrics.contains("stockhold_clock_steps_total 0\n"), "{metrics}");
        assert!(metrics.contains("stockhold_clock_steps_total "), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_clock_of_postgres_that_steps_an_hour_forth_oversells_nothing_and_raises_an_alarm() {
    let (shop, clock) = shop_with_clock(3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(40);
    clock.set_ahead(HOUR);
    crowd.wait_for_sales(40);
    wait_for_alarms(&shop).await;
    crowd.leave_all_well(&shop).await;
}

/// The time service may put it right before anybody has lost a hold. After the step these holds live
/// for seconds: what dies in the step itself is spared as after an outage.
#[tokio::test(flavor = "multi_thread")]
async fn slow_nothing_is_swept_for_10_s_after_the_clock_of_postgres_has_stepped() {
    const PAUSE: Duration = Duration::from_secs(10);
    let (mut shop, clock) = shop_with_clock(0);
    for _ in 0..2 {
        shop.join(|command| {
            command
                .env("STOCKHOLD_LIMITS_MAX_TTL", "2h")
                .env("STOCKHOLD_LIMITS_MAX_LIFETIME", "2h");
        });
    }
    shop.stock("MUG", 100).await;
    for n in 0..10 {
        let life = HOUR + Duration::from_secs(3);
        shop.keeper(n).place(&format!("{n}"), &[("MUG", 1)], life).await.id();
    }
    clock.set_ahead(HOUR);
    wait_for_alarms(&shop).await;
    let alarmed = SystemClock.boot();
    let swept = || shop.count("SELECT count(*) FROM transition WHERE step = 'expire'");
    while SystemClock.boot() < alarmed + PAUSE - Duration::from_secs(1) {
        assert_eq!(swept(), 0, "after {:?}", SystemClock.boot().saturating_sub(alarmed));
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    // That nobody swept looks like an outage, of which the dead are spared for 10 s more.
    until(2 * PAUSE, "the end of all holds", || match swept() {
        10 => Ok(()),
        n => Err(format!("{n} are swept")),
    });
    assert_eq!(shop.units(0, "MUG").await, [100, 0, 0, 100]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_clock_of_postgres_that_steps_an_hour_back_oversells_nothing_and_raises_an_alarm() {
    let (shop, clock) = shop_with_clock(3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(40);
    clock.set_behind(HOUR);
    crowd.wait_for_sales(40);
    wait_for_alarms(&shop).await;
    // The time service puts it right again.
    clock.set_ahead(Duration::ZERO);
    crowd.wait_for_sales(40);
    crowd.leave_all_well(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_instances_do_not_matter() {
    let clocks = [ClockShim::new(), ClockShim::new(), ClockShim::new()];
    let mut shop = Shop::open(0);
    for clock in &clocks {
        shop.join(|command| {
            command.envs(clock.variables());
        });
    }
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(30);
    clocks[0].set_ahead(HOUR);
    clocks[1].set_behind(HOUR);
    crowd.wait_for_sales(30);
    clocks[0].set_behind(HOUR);
    clocks[1].set_ahead(HOUR);
    crowd.wait_for_sales(30);
    crowd.leave_all_well(&shop).await;
    assert!(shop.instances.iter().all(|instance| !instance.log().contains(ALARM)));
}
