//! Customers who buy while things break, and what is judged when they have gone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::{
    History, Recorder,
    history::{Ledger, Rest},
    until,
};
use tokio::task::JoinSet;

use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

/// What there is to buy: something that is soon sold out, and something that is not.
pub(crate) const SUPPLY: [(&str, i64); 3] = [("HOT", 40), ("MUG", 100_000), ("TEE", 100_000)];
/// How long their holds live.
pub(crate) const TTL: Duration = Duration::from_millis(1_500);

/// Nobody waits for an answer longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Before somebody asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// All that was ever spared is over after so long.
const GRACE: Duration = Duration::from_secs(11);

/// Some customers, each with a connection of its own, who buy until they are told to leave.
pub(crate) struct Crowd {
    street: Arc<Street>,
    tasks: JoinSet<()>,
}

/// What all customers see.
struct Street {
    recorder: Arc<Recorder>,
    addresses: Mutex<Vec<String>>,
    leave: AtomicBool,
    sold: AtomicU64,
}

/// Puts on the shelves what a crowd buys.
pub(crate) async fn fill(shop: &Shop) {
    for (sku, units) in SUPPLY {
        shop.stock(sku, units).await;
    }
}

impl Crowd {
    /// So many, spread over the instances of a shop that is filled for them.
    pub(crate) async fn gather(shop: &Shop, customers: usize) -> Self {
        fill(shop).await;
        let addresses = shop.instances.iter().map(|i| i.address().to_owned()).collect();
        Self::at(addresses, customers)
    }

    /// So many, spread over these addresses.
    pub(crate) fn at(addresses: Vec<String>, customers: usize) -> Self {
        let street = Arc::new(Street {
            recorder: Arc::new(Recorder::new("crowd")),
            addresses: Mutex::new(addresses),
            leave: AtomicBool::new(false),
            sold: AtomicU64::new(0),
        });
        let tasks = (0..customers).map(|number| buy(Arc::clone(&street), number)).collect();
        Self { street, tasks }
    }

    /// The n-th instance is somewhere else now.
    pub(crate) fn moved(&self, n: usize, address: &str) {
        address.clone_into(&mut self.street.addresses.lock().unwrap()[n]);
    }

    /// Waits until so many more holds are sold.
    pub(crate) fn wait_for_sales(&self, more: u64) {
        let enough = self.sold() + more;
        until(Duration::from_secs(30), "sales", || match self.sold() {
            sold if sold >= enough => Ok(()),
            sold => Err(format!("{sold} of {enough}")),
        });
    }

    pub(crate) fn sold(&self) -> u64 {
        self.street.sold.load(Ordering::Relaxed)
    }

    /// Somebody whose purchases are judged with theirs.
    pub(crate) fn another(&self, address: &str) -> Shopper {
        Shopper::recorded(address, &self.street.recorder)
    }

    /// All go home; what they did and were told.
    pub(crate) async fn leave(mut self) -> History {
        self.street.leave.store(true, Ordering::Relaxed);
        while let Some(customer) = self.tasks.join_next().await {
            customer.unwrap();
        }
        self.street.recorder.history()
    }

    /// All go home, all that was not sold expires, and nothing is found to be wrong.
    pub(crate) async fn leave_all_well(self, shop: &Shop) -> Ledger {
        let sold = self.sold();
        let history = self.leave().await;
        settle(shop);
        let account = shop.account(&SUPPLY);
        history.expect_clean(&account, Rest::Settled);
        shop.expect_sound();
        assert!(account.sales.len() as u64 >= sold && sold > 0, "{sold} were sold");
        account
    }
}

/// Lets the time pass in which everything expires that was not sold, and waits until it has.
pub(crate) fn settle(shop: &Shop) {
    shop.pass(TTL + GRACE);
    until(Duration::from_secs(20), "the end of all holds", || {
        match shop.count("SELECT coalesce(sum(held), 0) FROM stock") {
            0 => Ok(()),
            held => Err(format!("{held} units are held")),
        }
    });
}

/// An answer, and how long it took.
pub(crate) async fn timed<T>(question: impl Future<Output = T>) -> (T, Duration) {
    let begun = SystemClock.boot();
    let answer = question.await;
    (answer, SystemClock.boot().saturating_sub(begun))
}

async fn buy(street: Arc<Street>, number: usize) {
    let mut customer = Customer {
        shopper: Shopper::recorded(&street.address(number), &street.recorder)
            .with_patience(PATIENCE),
        asks_at: number,
        street,
    };
    for round in 0.. {
        if customer.street.leave.load(Ordering::Relaxed) {
            return;
        }
        customer.buy_once(&format!("{number}-{round}"), number + round).await;
        if round % 4 == 3 {
            customer.turn_to_next();
        }
    }
}

impl Street {
    fn address(&self, n: usize) -> String {
        let addresses = self.addresses.lock().unwrap();
        addresses[n % addresses.len()].clone()
    }
}

struct Customer {
    shopper: Shopper,
    asks_at: usize,
    street: Arc<Street>,
}

impl Customer {
    /// Of five baskets three are bought, one is put back, and one is forgotten.
    async fn buy_once(&mut self, key: &str, chance: usize) {
        let told = self.place(key, basket(chance)).await;
        if !matches!(told.status(), 200 | 201) {
            return;
        }
        let hold = told.id();
        match chance % 5 {
            0..=2 => self.confirm(&hold).await,
            3 => drop(self.shopper.release(&hold).await),
            _ => {}
        }
    }

    /// Asks under one key until the answer says something.
    async fn place(&mut self, key: &str, lines: &[(&str, i64)]) -> Told {
        loop {
            let told = self.shopper.place(key, lines, TTL).await;
            if !self.wants_more(&told).await {
                return told;
            }
        }
    }

    async fn confirm(&mut self, hold: &str) {
        loop {
            let told = self.shopper.confirm(hold).await;
            if told.status() == 200 {
                self.street.sold.fetch_add(1, Ordering::Relaxed);
            }
            if !self.wants_more(&told).await {
                return;
            }
        }
    }

    /// After an answer that says nothing: asks the next instance, after a while.
    async fn wants_more(&mut self, told: &Told) -> bool {
        if !told.is_unknown() || self.street.leave.load(Ordering::Relaxed) {
            return false;
        }
        self.turn_to_next();
        SystemClock.sleep(PAUSE).await;
        true
    }

    fn turn_to_next(&mut self) {
        self.asks_at += 1;
        self.shopper.turn_to(&self.street.address(self.asks_at));
    }
}

fn basket(chance: usize) -> &'static [(&'static str, i64)] {
    match chance % 4 {
        0 => &[("HOT", 1)],
        1 => &[("MUG", 1), ("TEE", 2)],
        2 => &[("TEE", 1)],
        _ => &[("TEE", 1), ("MUG", 3)],
    }
}
