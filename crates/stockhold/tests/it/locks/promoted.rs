//! A replica that lacks the last grants is made the primary.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use stockhold_testkit::Proxy;
use tempfile::TempDir;

use super::{
    guarded::{client, expect_refused, overtake},
    *,
};

/// The name of a socket that leads to one server and later to another, as that of a host does.
struct Way {
    folder: TempDir,
}

impl Way {
    fn to(server: &RedisServer) -> Self {
        let way = Self { folder: tempfile::tempdir().expect("a folder") };
        way.lead_to(server);
        way
    }

    /// Whoever connects from now on. Who is connected stays where it is.
    fn lead_to(&self, server: &RedisServer) {
        let next = self.folder.path().join("next");
        symlink(server.socket(), &next).expect("linked");
        fs::rename(next, self.socket()).expect("in the place of the other one");
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn url(&self) -> String {
        let (socket, password) = (self.socket(), RedisServer::PASSWORD);
        format!("redis+unix://{}?user=stockhold&password={password}", socket.display())
    }
}

/// A shop whose Redis has a replica.
struct Pair {
    shop: Shop,
    replica: RedisServer,
    /// Between the two.
    link: Proxy,
    /// To that which instances find.
    way: Way,
}

impl Pair {
    async fn open() -> Self {
        let primary = RedisServer::set_up().with_tcp().start();
        let link = Proxy::start(primary.address().expect("it has a port"));
        let replica = RedisServer::set_up().with_tcp().start();
        replica.follow(link.address());
        let way = Way::to(&primary);
        let shop = Shop::over(PostgresServer::start(), primary);
        let shop = shop.with(1, Some(way.url().as_str())).await;
        Self { shop, replica, link, way }
    }

    /// Granted by the primary, which can tell the replica nothing any more.
    async fn granted_unheard<const N: usize>(&self, locks: [&str; N]) -> [Lease; N] {
        let (primary, fenced) = (self.shop.redis(), self.shop.locks().fenced());
        // The replica has heard of the epoch.
        had(&fenced, &name("warm")).await.release().await;
        primary.cli(&["SET", "mark", "heard"]);
        until("the mark", || self.replica.cli(&["GET", "mark"]) == "heard").await;
        self.link.stall();
        let mut leases = Vec::new();
        for lock in locks {
            leases.push(had(&fenced, &name(lock)).await);
            assert!(remembers(primary, lock) && !remembers(&self.replica, lock));
        }
        assert!(!self.replica.cli(&["KEYS", "rule*}"]).is_empty(), "it knows the epoch");
        leases.try_into().expect("as many")
    }

    /// Instances find this one from now on. They are parted from the other one, which goes on.
    fn part(&self, from: &RedisServer, to: &RedisServer) {
        self.way.lead_to(to);
        let killed = from.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert!(killed.parse::<usize>().is_ok_and(|killed| killed > 0), "{killed}");
    }
}

#[tokio::test]
async fn a_replica_that_lacks_a_lease_and_is_promoted_grants_it_anew_and_its_holder_is_refused() {
    let mut pair = Pair::open().await;
    let [stale] = pair.granted_unheard(["n"]).await;
    pair.shop.redis_mut().kill();
    pair.replica.promote();
    pair.way.lead_to(&pair.replica);
    let fresh = overtake(&pair.shop, &pair.shop.locks(), &stale).await;
    expect_lost(&stale).await;
    assert!(remembers(&pair.replica, "n"), "it is the replica that grants");
    assert_eq!(pair.shop.rule(), ("redis".to_owned(), fresh.fence().epoch));
    assert_eq!(stale.release().await, Released::Superseded);
    assert_eq!(fresh.release().await, Released::Clean);
    let Pair { mut shop, replica, .. } = pair;
    shop.redis = Some(replica);
    shop.finish().await;
}

#[tokio::test]
async fn a_primary_that_takes_over_again_does_not_honour_what_it_granted_before() {
    let pair = Pair::open().await;
    let [first, idle] = pair.granted_unheard(["n", "idle"]).await;
    let (primary, replica, locks) = (pair.shop.redis(), &pair.replica, pair.shop.locks());
    replica.promote();
    pair.part(primary, replica);
    let second = overtake(&pair.shop, &locks, &first).await;
    assert!(remembers(replica, "n"));

    pair.part(replica, primary);
    assert!(remembers(primary, "n") && remembers(primary, "idle"));
    let third = overtake(&pair.shop, &locks, &second).await;
    let mut client = client(&pair.shop).await;
    for stale in [&first, &second] {
        expect_refused(&mut client, stale).await;
        expect_lost(stale).await;
    }
    // Nobody else has had this one, but in an earlier epoch it was granted.
    assert!(remembers(primary, "idle"));
    expect_lost(&idle).await;
    assert_eq!(pair.shop.rule(), ("redis".to_owned(), third.fence().epoch));
    assert_eq!(first.release().await, Released::Superseded);
    assert_eq!(third.release().await, Released::Clean);
    pair.shop.finish().await;
}
