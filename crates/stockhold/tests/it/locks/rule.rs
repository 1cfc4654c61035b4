//! The row that says who grants: how it is replaced, and who is told.

use super::*;

/// Of the longest lease that Redis may have granted, and of what was read of the rule.
const GHOSTS: i64 = 62_602;

impl Shop {
    /// Whether anybody grants by the rule, and in how many milliseconds no lease of an earlier one is alive.
    fn opened(&self) -> (bool, i64) {
        let row = self.postgres().psql(
            "SELECT is_open || ' ' || greatest(0, -milliseconds_since(strict_from)) FROM lock_rule",
        );
        let (is_open, strict_in) = row.split_once(' ').expect("two words");
        (is_open == "true", strict_in.parse().expect("a number"))
    }

    /// Replaces the rule as an instance does that has not opened the new one yet. Its epoch.
    fn replace(&self, grantor: &str) -> u64 {
        let (_, epoch) = self.rule();
        let replace =
            format!("SELECT replace_lock_rule({epoch}, '{grantor}', 'some', {GHOSTS}, NULL)");
        let next = self.postgres().psql(&replace).parse().expect("a number");
        assert_eq!(self.rule(), (grantor.to_owned(), next));
        next
    }

    fn open_rule(&self, epoch: u64) {
        self.postgres().psql(&format!("SELECT open_lock_rule({epoch})"));
    }

    /// What the database says to whoever asks it in this epoch, at once and without a fence.
    fn told(&self, lock: &str, token: &str, epoch: u64) -> String {
        self.postgres().psql(&format!(
            "SELECT told FROM acquire_lease('{lock}', '{token}', 10000, {epoch}, false)"
        ))
    }
}

#[tokio::test]
async fn by_a_new_rule_nobody_grants_before_it_is_opened_and_old_leases_live_on_from_then() {
    let shop = Shop::open(Grantor::Postgres).await;
    shop.until_granted_by("database").await;
    let by_redis = shop.replace("redis");
    shop.open_rule(by_redis);
    let by_database = shop.replace("database");
    // Its commit may have been waiting for a standby, while others went by the one before.
    assert_eq!(shop.opened(), (false, 0));
    assert_eq!(shop.told("n", "ann-0123456789abcdef", by_database), "epoch");
    SystemClock.sleep(SECOND).await;
    shop.open_rule(by_database);
    let (is_open, strict_in) = shop.opened();
    assert!(is_open && strict_in > GHOSTS - 500, "{strict_in}");
    assert_eq!(shop.told("n", "ann-0123456789abcdef", by_database), "granted");
    // Once more changes nothing.
    SystemClock.sleep(100 * MILLISECOND).await;
    shop.open_rule(by_database);
    assert!(shop.opened().1 < strict_in);
    shop.finish().await;
}

#[tokio::test]
async fn leases_that_may_live_are_waited_for_also_when_whoever_made_the_rule_did_not_open_it() {
    let shop = Shop::open(Grantor::Postgres).await;
    shop.until_granted_by("database").await;
    let by_redis = shop.replace("redis");
    shop.open_rule(by_redis);
    shop.replace("redis");
    let by_database = shop.replace("database");
    assert_eq!(shop.opened(), (false, 0));
    // Whoever comes next opens it.
    granted(&ask(&shop.locks(), &Token::random(), Mode::Fenced).await);
    assert_eq!(shop.rule(), ("database".to_owned(), by_database));
    let (is_open, strict_in) = shop.opened();
    assert!(is_open && strict_in > GHOSTS - 1_000, "{strict_in}");
    shop.finish().await;
}

#[tokio::test]
async fn an_instance_that_asks_for_nothing_tells_the_others_that_redis_is_well() {
    let mut shop = Shop::of(Grantor::Redis, 1).await;
    drop(shop.locks().try_acquire(&name("warm"), ttl(1_000)).await.expect("it is free"));
    let blind = shop.instance(Some("redis://127.0.0.1:1".to_owned())).await;
    let begun = SystemClock.boot();
    while since(begun) < 5 * SECOND {
        let told = ask(blind.locks(), &Token::random(), Mode::Fenced).await;
        assert!(matches!(told, Err(LockError::Unavailable(_))), "{told:?}");
        SystemClock.sleep(100 * MILLISECOND).await;
    }
    assert_eq!(shop.rule().0, "redis");
    shop.instances.push(blind);
    shop.finish().await;
}

#[tokio::test]
async fn a_lease_is_not_told_to_be_lost_by_whoever_does_not_know_yet_who_grants() {
    let shop = Shop::open(Grantor::Redis).await;
    let locks = shop.locks();
    drop(locks.try_acquire(&name("warm"), ttl(1_000)).await.expect("it is free"));
    let epoch = shop.replace("database");
    shop.open_rule(epoch);
    let token = Token::new("ann-0123456789abcdef").expect("a token");
    assert_eq!(shop.told("n", token.as_str(), epoch), "granted");
    locks.backend().renew(&name("n"), &token, ttl(10_000)).await.expect("it is hers");
    shop.finish().await;
}

#[tokio::test]
async fn a_lease_is_durable_whatever_the_role_is_content_with() {
    let shop = Shop::open(Grantor::Postgres).await;
    shop.until_granted_by("database").await;
    let (_, epoch) = shop.rule();
    let (acquire, renew, release) = (
        format!("SELECT told FROM acquire_lease('n', 'token', 10000, {epoch}, false)"),
        format!("SELECT renew_lease('n', 'token', 10000, {epoch})"),
        "SELECT release_lease('n', 'token')".to_owned(),
    );
    for (ask, told) in [(acquire, "granted"), (renew, "renewed"), (release, "clean")] {
        // One transaction, since it is one message.
        let said = shop.postgres().psql(&format!(
            "SET LOCAL synchronous_commit = off; {ask}; \
             SELECT current_setting('synchronous_commit')"
        ));
        let said: Vec<_> = said.lines().collect();
        assert!(said.ends_with(&[told, "on"]), "{said:?}");
    }
    shop.finish().await;
}

#[tokio::test]
async fn who_asks_the_database_for_what_somebody_has_writes_nothing() {
    let shop = Shop::open(Grantor::Postgres).await;
    let locks = shop.locks();
    let lease = locks.try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    let written = || -> u64 {
        let newest = shop.postgres().psql("SELECT pg_snapshot_xmax(pg_current_snapshot())");
        newest.parse().expect("a number")
    };
    let before = written();
    for _ in 0..50 {
        let busy = ask(&locks, &Token::random(), Mode::Strict).await;
        assert!(matches!(busy, Ok(Attempt::Busy(_))), "{busy:?}");
    }
    assert!(written() < before + 10, "{before}");
    lease.release().await;
    shop.finish().await;
}

#[tokio::test]
async fn all_that_has_been_over_for_a_day_is_forgotten_however_much_it_is() {
    let shop = Shop::open(Grantor::Postgres).await;
    let lease = shop.locks().try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    shop.postgres().psql(
        "INSERT INTO lease SELECT 'old-' || n, 'token', 1, n, now() - interval '2 days', \
         now() - interval '2 days' FROM generate_series(1, 250) AS n",
    );
    shop.locks().backend().tidy().await.expect("it is done");
    assert_eq!(shop.postgres().psql("SELECT count(*) FROM lease WHERE name LIKE 'old-%'"), "0");
    lease.renew().await.expect("it is not old");
    shop.finish().await;
}
