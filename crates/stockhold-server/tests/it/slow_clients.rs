//! Clients that send a byte a second do not keep the others waiting.
#![expect(clippy::print_stdout, reason = "the figures are what one reads the test for")]

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::{
    child::Serving,
    load::{Waits, allow_many_files, connect, hold, now},
    support::rest,
};

const SLOW: usize = 2_000;
const OTHERS: usize = 8;
const ROUNDS: usize = 5;
/// Differences below this are those of a machine that does other things as well.
const NOISE: Duration = Duration::from_millis(2);

/// Rounds with and without slow clients take turns, so that both meet the same machine; of each
/// sort the middle one counts.
#[tokio::test(flavor = "multi_thread")]
async fn slow_two_thousand_slow_clients_are_hardly_felt() {
    allow_many_files(SLOW as u64 + 200);
    let serving = Serving::start("memory:");
    serving.ask("PUT", "/v1/stock/HOT", r#"{"on_hand":100000000}"#).await.expect(201);
    let (mut alone, mut among_them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(p99(&serving.address).await);
        let mut slow = JoinSet::new();
        for _ in 0..SLOW {
            slow.spawn(drip(TcpStream::connect(&serving.address).await.unwrap()));
        }
        rest(1_000).await; // until each has sent something
        among_them.push(p99(&serving.address).await);
        assert_eq!(slow.len(), SLOW);
        assert!(slow.try_join_next().is_none(), "a slow client was cut off");
        slow.shutdown().await;
    }
    let told = format!("p99 {among_them:?}, without slow clients {alone:?}");
    println!("{told}");
    assert!(middle(among_them) <= NOISE.max(middle(alone) * 2), "{told}");
}

fn middle(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
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
