//! The password of Redis lets in, and is told to nobody; nor is the token of who has a lock.

use std::{fs, time::Duration};

use serde_json::json;
use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{PostgresServer, RedisServer};

use super::copies::{LINK, errors, number, state, wait_for, wait_for_number};
use crate::shop::{Shop, stockhold};

const PASSWORD: &str = RedisServer::PASSWORD;
const WRONG: &str = "wr0ng-7c0e41aa";
const TOKENS: [&str; 2] = ["planted-t0ken-of-ann", "planted-t0ken-of-ben"];
/// What is said of a password that is not right.
const DENIED: &str = "Redis does not let this user do it";
const SOON: Duration = Duration::from_secs(20);

fn server() -> (RedisServer, String) {
    let redis = RedisServer::set_up().with_tcp().start();
    let url = redis.url_at(redis.address().unwrap());
    (redis, url)
}

/// An instance that logs whatever there is to log. Arguments can be seen by everybody, so it is told by a variable.
fn open(redis: &str) -> Shop {
    Shop::open_with(1, |command| {
        command.args(["--log", "trace"]).env("STOCKHOLD_REDIS", redis);
    })
}

/// Also if a secret is broken over lines, or over the cells of a table.
#[track_caller]
fn expect_silence(place: &str, text: &str) {
    let is_of_secret = |c: &char| !c.is_whitespace() && !"│┆|".contains(*c);
    let whole: String = text.chars().filter(is_of_secret).collect();
    for secret in [PASSWORD, WRONG].into_iter().chain(TOKENS) {
        let tells = text.contains(secret) || whole.contains(secret);
        assert!(!tells, "{place} tells {secret}: {text}");
    }
}

/// Two want one lock, and nobody is told of the other's token.
async fn use_locks(shop: &Shop) {
    let [ann, ben] = TOKENS;
    let mut keeper = shop.keeper(0);
    for (verb, token, status) in [
        ("", ann, 200),
        ("", ben, 409),
        ("/renew", ann, 200),
        ("/renew", ben, 409),
        ("/release", ben, 409),
        ("/release", ann, 200),
        ("", ben, 200),
        ("/release", ben, 200),
    ] {
        let body = match verb {
            "/release" => json!({"token": token}),
            _ => json!({"token": token, "ttl_ms": 10_000}),
        };
        let told = keeper.post(&format!("/v1/locks/n{verb}"), &body, None).await;
        expect_silence(verb, &told.expect_status(status).to_string());
        for path in ["/v1/locks/n", "/v1/locks?prefix=n"] {
            expect_silence(path, &keeper.text(path).await);
        }
    }
}

/// Whatever can be read of the instance.
async fn expect_silent_answers(shop: &Shop) {
    for path in ["/readyz", "/livez", "/metrics", "/v1/stock?consistency=cached", "/openapi.json"] {
        expect_silence(path, &shop.keeper(0).text(path).await);
    }
    for file in ["cmdline", "comm"] {
        let text = fs::read(format!("/proc/{}/{file}", shop.instances[0].pid())).unwrap();
        expect_silence(file, &String::from_utf8_lossy(&text));
    }
}

/// The instance ends: all that it has logged.
fn expect_silent_log(shop: &mut Shop) -> String {
    let mut instance = shop.instances.remove(0);
    let _ = instance.stop();
    let log = instance.log();
    assert!(log.len() > 1_000, "a log that says nothing hides everything: {log}");
    expect_silence("the log", &log);
    expect_silence("the line", instance.line());
    log
}

/// Somebody has shown Redis a wrong password. Were it not forgotten, it would look like a right that is missing.
fn expect_denials(redis: &RedisServer) {
    let denied = redis.denied().expect("somebody was not let in");
    assert!(denied.contains("auth") && denied.contains("stockhold"), "{denied}");
    redis.cli(&["ACL", "LOG", "RESET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_wrong_password_of_redis_counts_that_it_is_denied_and_tells_it_nobody() {
    let (redis, url) = server();
    let mut shop = open(&url.replace(PASSWORD, WRONG));
    shop.stock("MUG", 5).await;
    wait_for_number(&shop, &errors("denied"), SOON, |times| times > 0).await;
    assert_ne!(state(&shop, 0).await, "up");
    shop.wait_for_grantor("database", SOON).await;
    use_locks(&shop).await;
    shop.keeper(0).get("/v1/stock/MUG?consistency=cached").await.expect_status(200);
    expect_silent_answers(&shop).await;
    expect_silent_log(&mut shop);
    expect_denials(&redis);
    shop.expect_sound();
}

/// Its operator has set another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_redis_does_not_take_any_more_is_told_as_denied_and_not_what_it_is() {
    let (redis, url) = server();
    let mut shop = open(&url);
    shop.stock("MUG", 5).await;
    wait_for(&shop, 0, "up").await;
    shop.wait_for_grantor("redis", SOON).await;
    use_locks(&shop).await;
    assert_eq!(number(&shop, 0, &errors("denied")).await, 0);
    redis.cli(&["ACL", "SETUSER", "stockhold", "resetpass", ">another-one"]);
    redis.cli(&["CLIENT", "KILL", "USER", "stockhold"]);
    let (begun, wish) = (SystemClock.boot(), json!({"token": TOKENS[0], "ttl_ms": 1_000}));
    while !shop.instances[0].log().contains(DENIED) {
        // After a while Postgres grants, and waits first until what Redis may have granted is over.
        let told = shop.keeper(0).post("/v1/locks/n", &wish, None).await;
        expect_silence("a refusal", &told.expect_any(&[409, 503]).to_string());
        assert!(SystemClock.boot() - begun < SOON, "{}", shop.instances[0].log());
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    assert!(number(&shop, 0, &errors("denied")).await > 0);
    assert_ne!(state(&shop, 0).await, "up");
    expect_silent_answers(&shop).await;
    let log = expect_silent_log(&mut shop);
    assert!(log.contains("stockhold:***@"), "{log}");
    expect_denials(&redis);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_reached_is_told_of_without_its_password() {
    let (mut redis, url) = server();
    let mut shop = open(&url);
    shop.stock("MUG", 5).await;
    wait_for(&shop, 0, "up").await;
    shop.wait_for_grantor("redis", SOON).await;
    use_locks(&shop).await;
    redis.stop();
    wait_for_number(&shop, LINK, SOON, |is_up| is_up == 0).await;
    let wish = json!({"token": TOKENS[0], "ttl_ms": 1_000});
    let told = shop.keeper(0).post("/v1/locks/n", &wish, None).await;
    expect_silence("a refusal", &told.expect_any(&[409, 503]).to_string());
    wait_for_number(&shop, &errors("refused"), SOON, |times| times > 0).await;
    assert_ne!(state(&shop, 0).await, "up");
    expect_silent_answers(&shop).await;
    // With the same password all the time.
    redis.restart();
    wait_for(&shop, 0, "up").await;
    let log = expect_silent_log(&mut shop);
    for told in ["the link of the cache to Redis is down", "stockhold:***@"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    shop.expect_sound();
}

/// What the program says, whatever its tables are like.
fn run(args: &[&str], redis: &str) -> String {
    let output = stockhold(args).env("STOCKHOLD_REDIS", redis).output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    expect_silence(&format!("{args:?}"), &said);
    let words = said.split([' ', '\n', '│', '┆', '|']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// By each way in which it can be given.
#[test]
fn the_doctor_looks_at_redis_with_its_password_and_does_not_tell_it() {
    let (postgres, (mut redis, _)) = (PostgresServer::start(), server());
    let (ledger, address) = (postgres.url(), redis.address().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    let expect = |password: &str, found: &str| {
        fs::write(file.path(), format!("{password}\n")).unwrap();
        for url in [
            format!("redis://stockhold:{password}@{address}"),
            format!("redis://{address}?user=stockhold&password={password}"),
            format!("redis://stockhold@{address}?passwordfile={}", file.path().display()),
        ] {
            for args in
                [&["doctor", "--ledger", &*ledger][..], &["doctor", "--json", "--ledger", &*ledger]]
            {
                let said = run(args, &url);
                assert!(said.contains(found), "{found:?} is not said: {said}");
            }
            let settings = run(&["serve", "--print-settings"], &url);
            assert!(settings.contains(&address.to_string()), "{settings}");
        }
    };
    expect(PASSWORD, ", version ");
    assert_eq!(redis.denied(), None);
    expect(WRONG, DENIED);
    expect_denials(&redis);
    redis.stop();
    expect(PASSWORD, "no connection to Redis is to be had");
}
