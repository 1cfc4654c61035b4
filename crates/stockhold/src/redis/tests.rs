//! Against real servers, each of its own.

use std::sync::LazyLock;

use ::redis::cmd;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stockhold_testkit::{
    Proxy, RedisServer,
    redis::{RedisCluster, Sentinels},
    until,
};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A key of those that the user of `deploy/redis.acl` may use.
const OURS: &str = "{stockhold/k}";

static COUNT: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])"));

fn to(url: &str) -> Redis {
    Redis::new(&url.parse().unwrap()).unwrap()
}

async fn call(redis: &Redis, words: &[&str]) -> Result<Value, Trouble> {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    redis.call_within(SOON, &command).await
}

async fn kind(redis: &Redis, words: &[&str]) -> Kind {
    call(redis, words).await.unwrap_err().kind
}

fn since(begun: Duration) -> Duration {
    SystemClock.boot().saturating_sub(begun)
}

fn count(redis: &Redis, kind: Kind) -> u64 {
    redis.troubles().find(|(other, _)| *other == kind).unwrap().1
}

#[tokio::test]
async fn a_command_is_answered() {
    let server = RedisServer::start();
    let redis = to(&server.root_url());
    assert_eq!(call(&redis, &["SET", "k", "v"]).await.unwrap(), Value::Okay);
    assert_eq!(call(&redis, &["GET", "k"]).await.unwrap(), Value::BulkString(b"v".to_vec()));
    assert_eq!(redis.troubles().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_redis_tells_its_version() {
    let server = RedisServer::start();
    let version = to(&server.root_url()).version().await.unwrap();
    assert!(server.cli(&["INFO", "server"]).contains(&format!("redis_version:{version}")));
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_share_a_connection() {
    let server = RedisServer::start();
    let redis = to(&server.root_url());
    let asking = (0..1_000).map(|_| {
        let redis = redis.clone();
        tokio::spawn(async move { call(&redis, &["INCR", "n"]).await })
    });
    for answer in asking.collect::<Vec<_>>() {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(server.cli(&["GET", "n"]), "1000");
    let info = server.cli(&["INFO", "stats"]);
    // Those of redis-cli come on top: one to see whether it has started, two just now.
    assert!(info.contains("total_connections_received:4\r"), "{info}");
}

#[tokio::test]
async fn a_script_is_known_again_after_the_server_has_forgotten_it() {
    let server = RedisServer::start();
    let redis = to(&server.root_url());
    let run = || COUNT.on(&[b"n"]).arg(2);
    for n in 1..=3 {
        assert_eq!(redis.run(SOON, &run()).await.unwrap(), Value::Int(2 * n));
        server.cli(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(count(&redis, Kind::NoScript), 3);
}

#[tokio::test]
async fn a_redis_that_comes_up_later_is_found() {
    let mut server = RedisServer::start();
    server.stop();
    let redis = to(&server.root_url());
    assert_eq!(redis.ping().await.unwrap_err().kind, Kind::Refused);
    server.restart();
    redis.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_lost_is_made_again() {
    let mut server = RedisServer::start();
    let redis = to(&server.root_url());
    redis.ping().await.unwrap();
    let waiting = tokio::spawn({
        let redis = redis.clone();
        async move { kind(&redis, &["BLPOP", "none", "0"]).await }
    });
    until(SOON, "somebody who waits", || match server.cli(&["CLIENT", "LIST"]) {
        list if list.contains("cmd=blpop") => Ok(()),
        list => Err(list),
    });
    server.kill();
    assert_eq!(waiting.await.unwrap(), Kind::Lost);
    server.restart();
    redis.ping().await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_frozen_redis_waits_for_no_longer_than_its_limit() {
    let mut server = RedisServer::start();
    let redis = to(&server.root_url());
    redis.ping().await.unwrap();
    server.pause();
    for limit in [20, 50, 100].map(Duration::from_millis) {
        let begun = SystemClock.boot();
        let trouble = redis.call_within(limit, &cmd("PING")).await.unwrap_err();
        assert_eq!(trouble.kind, Kind::Timeout);
        assert!(since(begun) < limit + Duration::from_millis(50), "{:?}", since(begun));
    }
    server.resume();
    redis.ping().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_fails_again_and_again_is_left_alone_until_it_answers() {
    let mut server = RedisServer::start();
    let redis = to(&server.root_url());
    redis.ping().await.unwrap();
    server.pause();
    for _ in 0..5 {
        assert!(!redis.is_open());
        let limit = Duration::from_millis(10);
        assert_eq!(redis.call_within(limit, &cmd("PING")).await.unwrap_err().kind, Kind::Timeout);
    }
    assert!(redis.is_open());
    let begun = SystemClock.boot();
    for _ in 0..1_000 {
        assert_eq!(redis.call_within(SOON, &cmd("PING")).await.unwrap_err().kind, Kind::Open);
    }
    assert!(since(begun) < Duration::from_millis(150), "{:?}", since(begun));
    server.resume();
    while let Err(trouble) = redis.ping().await {
        assert_eq!(trouble.kind, Kind::Open);
        assert!(since(begun) < SOON, "{trouble}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    assert!(!redis.is_open());
}

#[tokio::test]
async fn a_connection_behind_which_nobody_is_any_more_is_given_up() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.socket().as_path());
    let redis = to(&server.root_url_at(proxy.address()));
    redis.ping().await.unwrap();
    proxy.blackhole();
    assert_eq!(redis.ping().await.unwrap_err().kind, Kind::Timeout);
    proxy.heal();
    redis.ping().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_can_still_be_read() {
    let server = RedisServer::start();
    let redis = to(&server.root_url());
    call(&redis, &["SET", "k", "v"]).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(kind(&redis, &["SET", "k", "w"]).await, Kind::Full);
    assert_eq!(redis.run(SOON, &COUNT.on(&[b"n"]).arg(1)).await.unwrap_err().kind, Kind::Full);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    for _ in 0..10 {
        assert_eq!(kind(&redis, &["SET", "k", "w"]).await, Kind::Misconfigured);
    }
    assert!(!redis.is_open());
    assert_eq!(call(&redis, &["GET", "k"]).await.unwrap(), Value::BulkString(b"v".to_vec()));
}

#[tokio::test]
async fn a_redis_whose_disk_fails_takes_no_writes() {
    let server = RedisServer::set_up()
        .with("save", "3600 1")
        .with("enable-protected-configs", "yes")
        .start();
    let redis = to(&server.root_url());
    call(&redis, &["SET", "k", "v"]).await.unwrap();
    server.cli(&["CONFIG", "SET", "dbfilename", "none"]);
    // Even root cannot replace a folder by a file.
    std::fs::create_dir(server.folder().join("none")).unwrap();
    server.cli(&["BGSAVE"]);
    until(SOON, "a save that fails", || match server.cli(&["INFO", "persistence"]) {
        info if info.contains("rdb_last_bgsave_status:err") => Ok(()),
        info => Err(info),
    });
    assert_eq!(kind(&redis, &["SET", "k", "w"]).await, Kind::Misconfigured);
}

#[tokio::test]
async fn a_redis_that_is_busy_with_a_script_of_somebody_is_known_to_be_busy() {
    let server = RedisServer::set_up().with("busy-reply-threshold", 50).start();
    let redis = to(&server.root_url());
    redis.ping().await.unwrap();
    let other = to(&server.root_url());
    let endless =
        tokio::spawn(async move { kind(&other, &["EVAL", "while true do end", "0"]).await });
    let begun = SystemClock.boot();
    while call(&redis, &["GET", "k"]).await.is_ok() {
        assert!(since(begun) < SOON);
    }
    assert_eq!(kind(&redis, &["GET", "k"]).await, Kind::Busy);
    server.cli(&["SCRIPT", "KILL"]);
    assert_eq!(endless.await.unwrap(), Kind::Odd);
    call(&redis, &["GET", "k"]).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_reads_its_data_is_known_to_be_loading() {
    let mut server = RedisServer::set_up()
        .with("key-load-delay", 1_000)
        .with("loading-process-events-interval-bytes", 1_024)
        .with("enable-debug-command", "yes")
        .start();
    server.cli(&["DEBUG", "POPULATE", "5000"]);
    server.cli(&["SAVE"]);
    server.restart_without_waiting();
    let redis = to(&server.root_url());
    let begun = SystemClock.boot();
    // Before, nobody listens yet.
    while kind(&redis, &["GET", "k"]).await != Kind::Loading {
        assert!(since(begun) < SOON);
    }
}

#[tokio::test]
async fn a_replica_is_not_taken_for_the_primary() {
    let primary = RedisServer::set_up().with_tcp().start();
    let replica = RedisServer::replica_of(&primary);
    let redis = to(&replica.root_url());
    assert_eq!(kind(&redis, &["SET", "k", "v"]).await, Kind::ReadOnly);
    replica.promote();
    call(&redis, &["SET", "k", "v"]).await.unwrap();
}

#[tokio::test]
async fn a_member_of_a_cluster_says_that_it_is_one() {
    let server = RedisServer::set_up().with("cluster-enabled", "yes").with_tcp().start();
    let redis = to(&server.root_url());
    assert_eq!(kind(&redis, &["SET", "k", "v"]).await, Kind::ClusterDown);
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until(SOON, "a whole Cluster", || match server.cli(&["CLUSTER", "INFO"]) {
        info if info.contains("cluster_state:ok") => Ok(()),
        info => Err(info),
    });
    let moved = call(&redis, &["MSET", "k", "v", "l", "w"]).await.unwrap_err();
    assert_eq!(moved.kind, Kind::Moved);
    assert!(moved.to_string().contains("redis+cluster://"), "{moved}");
    let address = server.address().unwrap();
    let redis = to(&format!("redis+cluster://{address}"));
    call(&redis, &["SET", "k", "v"]).await.unwrap();
    assert_eq!(redis.run(SOON, &COUNT.on(&[b"n"]).arg(1)).await.unwrap(), Value::Int(1));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so() {
    let server =
        RedisServer::set_up().with("user till on >s3cr3t ~shop:*", "+@all -flushall").start();
    server.cli(&["CONFIG", "SET", "requirepass", "other"]);
    let of = |login: &str| to(&format!("{}?{login}", server.root_url()));
    assert_eq!(kind(&to(&server.root_url()), &["GET", "k"]).await, Kind::Denied);
    assert_eq!(of("user=till&password=wrong").ping().await.unwrap_err().kind, Kind::Denied);
    let till = of("user=till&password=s3cr3t");
    call(&till, &["SET", "shop:k", "v"]).await.unwrap();
    assert_eq!(kind(&till, &["SET", "k", "v"]).await, Kind::Denied);
    assert_eq!(kind(&till, &["FLUSHALL"]).await, Kind::Denied);
}

#[tokio::test]
async fn the_primary_is_found_by_sentinels_also_after_a_failover() {
    let mut old = RedisServer::set_up().with_tcp().start();
    let new = RedisServer::replica_of(&old);
    let sentinels = Sentinels::of(&old, Duration::from_millis(500));
    let hosts = sentinels.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    let login = format!("stockhold:{}", RedisServer::PASSWORD);
    let redis = to(&format!("redis+sentinel://{login}@{}/{}", hosts.join(","), sentinels.name()));
    call(&redis, &["SET", OURS, "old"]).await.unwrap();
    old.pause();
    let begun = SystemClock.boot();
    while call_shortly(&redis, &["SET", OURS, "new"]).await.is_err() {
        assert!(since(begun) < 6 * SOON);
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(new.cli(&["GET", OURS]), "new");
    old.resume();
}

#[tokio::test]
async fn sentinels_are_asked_also_when_the_first_of_them_says_nothing() {
    let primary = RedisServer::set_up().with_tcp().start();
    let sentinels = Sentinels::of(&primary, Duration::from_secs(5));
    // It takes connections and answers none, as a machine that has gone.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hosts = vec![silent.local_addr().unwrap()];
    hosts.extend(sentinels.addresses());
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let redis = to(&format!("redis+sentinel://{}/{}", hosts.join(","), sentinels.name()));
    let begun = SystemClock.boot();
    while call_shortly(&redis, &["SET", OURS, "v"]).await.is_err() {
        assert!(since(begun) < SOON, "the primary is not found");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    let lines = redis.listen(|_| ()).await.unwrap();
    assert_eq!(lines.each.len(), 1);
}

async fn call_shortly(redis: &Redis, words: &[&str]) -> Result<Value, Trouble> {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    redis.call_within(Duration::from_millis(250), &command).await
}

#[tokio::test]
async fn who_listens_hears_of_what_was_changed_in_the_order_in_which_it_was() {
    let server = RedisServer::start();
    let redis = to(&server.root_url());
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let mut lines = redis.listen(move |push| drop(heard.send(push))).await.unwrap();
    let track = cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").to_owned();
    track.exec_async(&mut lines.each[0]).await.unwrap();
    for n in 0..100 {
        server.cli(&["SET", &format!("k{n}"), "v"]);
    }
    for n in 0..100 {
        let push = hears.recv().await.unwrap();
        let key = Value::BulkString(format!("k{n}").into_bytes());
        assert_eq!(push.data, [Value::Array(vec![key])]);
    }
}

#[tokio::test]
async fn a_server_is_reached_by_tls_if_it_proves_who_it_is() {
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other, folder) = (authority(), authority(), tempfile::tempdir().unwrap());
    let file = |name: &str, pem: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file.display().to_string()
    };
    let (ours_file, other_file) = (file("ours.pem", ours.pem()), file("other.pem", other.pem()));
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap().pem();
    let server = RedisServer::set_up().with_tls(&certificate, &key.serialize_pem()).start();
    let port = server.address().unwrap().port();
    let login = format!("stockhold:{}", RedisServer::PASSWORD);
    let redis = to(&format!("rediss://{login}@localhost:{port}?sslrootcert={ours_file}"));
    call(&redis, &["SET", OURS, "v"]).await.unwrap();
    assert_eq!(server.cli(&["GET", OURS]), "v");
    let lines = redis.listen(|_| ()).await.unwrap();
    assert_eq!(lines.each.len(), 1);
    // Of another authority, of another name, and without TLS.
    for url in [
        format!("rediss://localhost:{port}?sslrootcert={other_file}"),
        format!("rediss://127.0.0.1:{port}?sslrootcert={ours_file}"),
        format!("redis://localhost:{port}"),
    ] {
        let (redis, begun) = (to(&url), SystemClock.boot());
        let mut trouble = redis.ping().await.unwrap_err();
        while trouble.kind == Kind::Timeout && since(begun) < SOON {
            trouble = redis.ping().await.unwrap_err();
        }
        assert!(matches!(trouble.kind, Kind::Refused | Kind::Lost), "{url}: {trouble:?}");
    }
}

/// Keys that lie on all members.
fn keys() -> impl Iterator<Item = String> {
    (0..100).map(|n| format!("k{n}"))
}

#[tokio::test]
async fn all_members_of_a_cluster_are_reached_also_where_a_slot_has_moved() {
    let cluster = RedisCluster::start(3);
    let redis = to(&cluster.root_url());
    for key in keys() {
        call(&redis, &["SET", &key, "1"]).await.unwrap();
        let counted = redis.run(SOON, &COUNT.on(&[key.as_bytes()]).arg(1)).await.unwrap();
        assert_eq!(counted, Value::Int(2));
    }
    for member in cluster.members() {
        assert!(member.cli(&["DBSIZE"]).parse::<u32>().unwrap() > 10);
    }
    let (key, home) = ("k7", cluster.home_of("k7"));
    let other = cluster.members().iter().find(|member| member.pid() != home.pid()).unwrap();
    cluster.move_slot_of(key, other);
    assert_eq!(cluster.home_of(key).pid(), other.pid());
    assert_eq!(call(&redis, &["INCR", key]).await.unwrap(), Value::Int(3));
    assert_eq!(redis.run(SOON, &COUNT.on(&[key.as_bytes()]).arg(1)).await.unwrap(), Value::Int(4));
}

/// Whether it is heard, and the keys that were said to have changed.
#[derive(Default)]
struct Notes {
    begun: AtomicU64,
    ended: AtomicU64,
    changed: std::sync::Mutex<Vec<String>>,
}

impl Hearing for Notes {
    fn is_wanted(&self) -> bool {
        true
    }

    fn request(&self) -> Cmd {
        cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").to_owned()
    }

    fn begins(&self, _: Duration) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn hears(&self, _: Duration) {}

    fn said(&self, push: &PushInfo) {
        if let Some(Value::Array(keys)) = push.data.first() {
            self.changed.lock().unwrap().extend(keys.iter().filter_map(|key| text(key.clone())));
        }
    }

    fn ends(&self, _: Option<&Trouble>) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn who_hears_a_cluster_hears_a_member_as_well_that_gets_its_first_slots_later() {
    let mut cluster = RedisCluster::start(2);
    let (redis, notes) = (to(&cluster.root_url()), Arc::<Notes>::default());
    let hearing = tokio::spawn(redis.clone().hear(Arc::clone(&notes)));
    let reaches = async |what: &str, count: &AtomicU64, number| {
        let begun = SystemClock.boot();
        while count.load(Ordering::SeqCst) < number {
            assert!(since(begun) < SOON, "{what}");
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
    };
    reaches("nobody is heard", &notes.begun, 1).await;
    cluster.grow();
    cluster.move_slot_of("k7", &cluster.members()[2]);
    // As if the connections were broken: what was said meanwhile, nobody has heard.
    reaches("the new member is not noticed", &notes.ended, 1).await;
    reaches("the new member is not heard", &notes.begun, 2).await;
    call(&redis, &["SET", "k7", "v"]).await.unwrap();
    let begun = SystemClock.boot();
    while !notes.changed.lock().unwrap().contains(&"k7".to_owned()) {
        assert!(since(begun) < SOON, "it was not said");
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    // And that was all.
    assert_eq!(notes.ended.load(Ordering::SeqCst), 1);
    hearing.abort();
}

#[tokio::test]
async fn who_listens_to_a_cluster_hears_what_all_its_members_say() {
    let cluster = RedisCluster::start(3);
    let redis = to(&cluster.root_url());
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let mut lines = redis.listen(move |push| drop(heard.send(push))).await.unwrap();
    assert_eq!(lines.each.len(), 3);
    for line in &mut lines.each {
        let track = cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").to_owned();
        track.exec_async(line).await.unwrap();
    }
    for key in keys() {
        call(&redis, &["SET", &key, "v"]).await.unwrap();
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 100 {
        let push = within(&SystemClock, SOON, hears.recv()).await.unwrap().unwrap();
        let Some(Value::Array(keys)) = push.data.first() else { panic!("{push:?}") };
        told.extend(keys.iter().map(|key| text(key.clone()).unwrap()));
    }
    assert_eq!(told, keys().collect());
}
