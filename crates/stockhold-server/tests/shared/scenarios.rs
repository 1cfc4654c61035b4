//! The acceptance scenarios, with several instances and with their numbers.

use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{History, Recorder, history::Rest};
use tokio::task::JoinSet;

use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

mod baskets;
mod counts;
mod crashes;
mod damage;
mod ends;
mod expiry;
mod keys;
mod late;
mod outage;
mod redis;
mod replace;
mod selling;
mod stuck;

/// As many instances as the scenarios mean by N.
const N: usize = 4;
const TTL: Duration = Duration::from_secs(30);
/// No hold of this life dies in a test.
const LONG: Duration = Duration::from_secs(900);

/// Lets everybody wait: on a busy machine, clients at once are soon too many. Scenario 17 is about
/// those who are sent away.
fn patient(command: &mut Command) {
    command.env("STOCKHOLD_ENGINE_MAX_BEHIND", "1m");
    command.env("STOCKHOLD_ENGINE_COMMAND_DEADLINE", "1m");
}

/// So many clients at once, each in a task of its own; what they come back with, in any order.
async fn at_once<C, T>(clients: usize, client: impl Fn(usize) -> C) -> Vec<T>
where
    C: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    (0..clients).map(client).collect::<JoinSet<_>>().join_all().await
}

/// An answer, and how long it took.
async fn timed(question: impl Future<Output = Told>) -> (Told, Duration) {
    let begun = SystemClock.boot();
    let told = question.await;
    (told, SystemClock.boot().saturating_sub(begun))
}

/// How many there are of each.
fn tally<T: Ord>(of: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for one in of {
        *tally.entry(one).or_default() += 1;
    }
    tally
}

/// Clients that are written down.
struct Clients(Arc<Recorder>);

impl Clients {
    fn new() -> Self {
        Self(Arc::new(Recorder::new("clients")))
    }

    /// The n-th, at the n-th instance.
    fn nth(&self, shop: &Shop, n: usize) -> Shopper {
        self.at(shop.address(n))
    }

    fn at(&self, address: &str) -> Shopper {
        Shopper::recorded(address, &self.0)
    }

    fn history(&self) -> History {
        self.0.history()
    }

    /// An honest shop can have told them all this (C1-C6), and its rows are sound. So much time has
    /// been moved by hand, of which their clocks know nothing.
    fn expect_honest(&self, shop: &Shop, supply: &[(&str, i64)], moved: Duration) {
        let history = self.history().with_drift(u64::try_from(moved.as_millis()).unwrap());
        history.expect_clean(&shop.account(supply), Rest::Busy);
        shop.expect_sound();
    }
}
