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
    history::{Ledger, Outcome, Rest},
    until,
};
use tokio::task::JoinSet;

use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

/// What there is to buy: something that is sold out all the time, since a few more come only when
/// somebody was sent away; and something that is not.
pub(crate) const SUPPLY: [(&str, i64); 3] = [("HOT", 5), ("MUG", 100_000), ("TEE", 100_000)];
/// So many come at a time.
const DELIVERY: i64 = 3;
/// How long their holds live.
pub(crate) const TTL: Duration = Duration::from_millis(1_500);

/// Nobody waits for an answer longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Whoever has to know asks for so long, here and there: longer than any outage of these stories.
const INSISTENCE: Duration = Duration::from_secs(60);
/// Before somebody asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// All that was ever spared is over after so long.
const GRACE: Duration = Duration::from_secs(11);
/// What an honest shop may refuse a customer with: all is gone, the hold has died before it was
/// paid, or too many ask at once.
const REFUSALS: [&str; 4] = ["hold_ended", "hold_expired", "insufficient_stock", "overloaded"];

/// Some customers, each with a connection of its own, who buy until they are told to leave.
pub(crate) struct Crowd {
    street: Arc<Street>,
    tasks: JoinSet<()>,
}

/// What was found to be well.
pub(crate) struct Judged {
    pub(crate) history: History,
    pub(crate) account: Ledger,
}

/// What all customers see.
struct Street {
    recorder: Arc<Recorder>,
    addresses: Mutex<Vec<String>>,
    leave: AtomicBool,
    sold: AtomicU64,
    /// How often somebody was told that all is gone.
    sent_away: AtomicU64,
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
            sent_away: AtomicU64::new(0),
        });
        let mut tasks: JoinSet<_> =
            (0..customers).map(|number| buy(Arc::clone(&street), number)).collect();
        tasks.spawn(deliver(Arc::clone(&street)));
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

    /// What they did and were told so far.
    pub(crate) fn history(&self) -> History {
        self.street.recorder.history()
    }

    /// All go home; what they did and were told.
    pub(crate) async fn leave(mut self) -> History {
        self.go_home().await;
        self.history()
    }

    async fn go_home(&mut self) {
        self.street.leave.store(true, Ordering::Relaxed);
        while let Some(customer) = self.tasks.join_next().await {
            customer.unwrap();
        }
    }

    /// All go home, all that was not sold expires, and nothing is found to be wrong. What is hot can
    /// then be sold to the last unit, and no further.
    pub(crate) async fn leave_all_well(mut self, shop: &Shop) -> Judged {
        self.go_home().await;
        let (sold, sent_away) = (self.sold(), self.street.sent_away.load(Ordering::Relaxed));
        settle(shop);
        let (history, account) = (self.history(), shop.account(&SUPPLY));
        history.expect_clean(&account, Rest::Settled);
        expect_plain_refusals(&history);
        assert!(account.sales.len() as u64 >= sold && sold > 0, "{sold} were sold");
        assert!(sent_away > 0, "there was always enough: nothing could be oversold");

        // Not judged with the others: their holds died before their time by the clocks of clients.
        Customer::new(self.street, 0).buy_the_rest().await;
        let rest = "SELECT on_hand > 0 AND allocated = on_hand AND held = 0 FROM stock \
            WHERE sku = 'HOT'";
        assert_eq!(shop.sql(rest), "t", "it is not sold out");
        shop.expect_sound();
        Judged { history, account }
    }
}

/// Nobody is told anything but what may happen to an honest customer.
pub(crate) fn expect_plain_refusals(history: &History) {
    let odd = history.events().iter().filter(|event| match &event.result {
        Outcome::Refused(code) => !REFUSALS.contains(&code.as_str()),
        Outcome::Ok(_) | Outcome::Unknown => false,
    });
    let odd: Vec<_> = odd.collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

/// How many questions nobody knows the answer of.
pub(crate) fn unanswered(history: &History) -> usize {
    history.events().iter().filter(|event| event.result == Outcome::Unknown).count()
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
    let mut customer = Customer::new(street, number);
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

/// Brings some more of what is sold out whenever somebody was sent away.
async fn deliver(street: Arc<Street>) {
    let (mut supplier, mut brought_for) = (Customer::new(Arc::clone(&street), 0), 0);
    for n in 0.. {
        while street.sent_away.load(Ordering::Relaxed) == brought_for {
            if street.leave.load(Ordering::Relaxed) {
                return;
            }
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
        brought_for = street.sent_away.load(Ordering::Relaxed);
        supplier.bring(&format!("delivery-{n}")).await;
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
    fn new(street: Arc<Street>, number: usize) -> Self {
        let shopper = Shopper::recorded(&street.address(number), &street.recorder);
        Self { shopper: shopper.with_patience(PATIENCE), asks_at: number, street }
    }

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
            if told.code() == Some("insufficient_stock") {
                self.street.sent_away.fetch_add(1, Ordering::Relaxed);
            }
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

    /// Buys one by one until nothing is left.
    async fn buy_the_rest(&mut self) {
        for n in 0.. {
            let key = format!("rest-{n}");
            let mut placed = self.shopper.place(&key, ONE, TTL).await;
            while self.has_to_know(&placed).await {
                placed = self.shopper.place(&key, ONE, TTL).await;
            }
            if placed.code() == Some("insufficient_stock") {
                return;
            }
            let hold = placed.id();
            let mut confirmed = self.shopper.confirm(&hold).await;
            while self.has_to_know(&confirmed).await {
                confirmed = self.shopper.confirm(&hold).await;
            }
            confirmed.expect_status(200);
        }
    }

    /// Asks until there is an answer: what came is not known otherwise.
    async fn bring(&mut self, key: &str) {
        let end = SystemClock.boot() + INSISTENCE;
        let mut told = self.shopper.receive("HOT", DELIVERY, key).await;
        while self.has_to_know(&told).await {
            assert!(SystemClock.boot() < end, "nobody takes a delivery: {told:?}");
            told = self.shopper.receive("HOT", DELIVERY, key).await;
        }
    }

    /// As [`wants_more`](Self::wants_more), also when the others have left.
    async fn has_to_know(&mut self, told: &Told) -> bool {
        let is_told = !told.is_unknown() && told.code() != Some("overloaded");
        if !is_told {
            self.turn_to_next();
            SystemClock.sleep(PAUSE).await;
        }
        !is_told
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

const ONE: &[(&str, i64)] = &[("HOT", 1)];

fn basket(chance: usize) -> &'static [(&'static str, i64)] {
    match chance % 4 {
        0 => ONE,
        1 => &[("MUG", 1), ("TEE", 2)],
        2 => &[("TEE", 1)],
        _ => &[("TEE", 1), ("MUG", 3)],
    }
}
