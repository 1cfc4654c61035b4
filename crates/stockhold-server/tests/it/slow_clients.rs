//! Clients that send a byte a second do not keep the others waiting.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::{
    child::Serving,
    load::{Waits, allow_many_files, connect, hold, now},
    support::rest,
};

const SLOW: usize = 2_000;
const OTHERS: usize = 8;
const ROUNDS: usize = 3;
/// Differences below this are those of a machine that does other things as well.
const NOISE: Duration = Duration::from_millis(5);

/// The best of a few rounds each counts, since whatever else the machine does only makes it worse.
#[tokio::test(flavor = "multi_thread")]
async fn slow_two_thousand_slow_clients_are_hardly_felt() {
    allow_many_files(SLOW as u64 + 200);
    let serving = Serving::start("memory:");
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);
    let alone = best_p99(&serving.address).await;
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(drip(TcpStream::connect(&serving.address).await.unwrap()));
    }
    rest(1_000).await;
    let among_them = best_p99(&serving.address).await;
    assert_eq!(slow.len(), SLOW);
    assert!(slow.try_join_next().is_none(), "a slow client was cut off");
    let bound = (alone * 2).max(NOISE);
    assert!(among_them <= bound, "p99 {among_them:?}, without slow clients {alone:?}");
}

/// Sends a head, a byte a second, for as long as the test runs.
async fn drip(mut stream: TcpStream) {
    for byte in b"POST /v1/holds HTTP/1.1\r\nHost: localhost\r\nX: ".iter().chain([b'x'; 60].iter())
    {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        rest(1_000).await;
    }
}

async fn best_p99(address: &str) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(p99(address).await);
    }
    best
}

async fn p99(address: &str) -> Duration {
    let until = now() + Duration::from_secs(2);
    let mut others = JoinSet::new();
    for _ in 0..OTHERS {
        let mut shop = connect(address).await;
        others.spawn(async move {
            let mut waits = Waits::default();
            while now() < until {
                let begun = now();
                let reply = shop.post("/v1/holds", &hold("quick"), None).await.unwrap();
                assert_eq!(reply.status, 201);
                waits.note(begun);
                rest(2).await;
            }
            waits
        });
    }
    let mut waits = Waits::default();
    others.join_all().await.into_iter().for_each(|of_one| waits.add(of_one));
    assert!(waits.count() > 100, "only {} requests", waits.count());
    waits.p99()
}
