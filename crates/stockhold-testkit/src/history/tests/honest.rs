//! A shop that does one thing after the other, and clients that are told late or never.

use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::*;

/// One thing that a client does.
#[derive(Clone, Debug)]
struct Step {
    verb: u8,
    /// Which hold or key.
    which: usize,
    units: i64,
    /// How long it is on its way, how long it waits for the step before, how long its answer is.
    way: u64,
    pause: u64,
    back: u64,
    reply: Reply,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Arrives,
    IsLost,
}

fn step() -> impl Strategy<Value = Step> {
    let reply = prop_oneof![4 => Just(Reply::Arrives), 1 => Just(Reply::IsLost)];
    let way = || prop_oneof![4 => 0..300_u64, 1 => 0..4_000_u64];
    let times = (way(), 0..1_000_u64, way());
    (0..8_u8, 0..50_usize, 1..4_i64, times, reply).prop_map(
        |(verb, which, units, (way, pause, back), reply)| Step {
            verb,
            which,
            units,
            way,
            pause,
            back,
            reply,
        },
    )
}

/// Milliseconds.
const TTL: u64 = 5_000;
const SUPPLY: i64 = 6;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Active,
    Confirmed,
    Released,
    Expired,
}

struct Hold {
    key: String,
    units: i64,
    deadline: u64,
    state: State,
}

/// Time is when something happens in the shop, in ms. It starts late enough for everything to have
/// been on its way.
struct Shop {
    now: u64,
    holds: Vec<Hold>,
    received: i64,
    events: Vec<Event>,
    expires: Expires,
}

/// When the units of a due hold are free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expires {
    WhenDue,
    TooEarly,
}

impl Shop {
    fn new(expires: Expires) -> Self {
        let (holds, events) = (Vec::new(), Vec::new());
        Self { now: 10_000, holds, received: 0, events, expires }
    }

    fn after(steps: &[Step], expires: Expires) -> (History, Ledger) {
        let mut shop = Self::new(expires);
        steps.iter().for_each(|step| shop.step(step));
        let ledger = shop.ledger();
        (History::new(shop.events), ledger)
    }

    fn step(&mut self, step: &Step) {
        self.now += step.pause;
        self.expire();
        let which = step.which.checked_rem(self.holds.len()).unwrap_or(0);
        let (op, key, lines, result) = match step.verb {
            0..3 => self.place(&format!("key-{}", step.which % 20), step.units),
            _ if self.holds.is_empty() => return,
            3..5 => self.confirm(which),
            5 => self.release(which),
            6 => self.extend(which),
            _ => self.receive(step.units),
        };
        let result = match step.reply {
            Reply::Arrives => result,
            Reply::IsLost => Outcome::Unknown,
        };
        let id = ("shop".to_owned(), self.events.len() as u64);
        let nanos = |ms: u64| ms * 1_000_000;
        let (t_invoke, t_return) = (nanos(self.now - step.way), nanos(self.now + step.back));
        self.events.push(Event { id, op, key, lines, t_invoke, t_return, result });
    }

    fn expire(&mut self) {
        let early = if self.expires == Expires::TooEarly { TTL / 2 } else { 0 };
        for hold in &mut self.holds {
            if hold.state == State::Active && self.now + early >= hold.deadline {
                hold.state = State::Expired;
            }
        }
    }

    /// The units of a key never change: another request would be another test.
    fn place(&mut self, key: &str, units: i64) -> (Op, Option<String>, Vec<Line>, Outcome) {
        let known = self.holds.iter().position(|hold| hold.key == key);
        let units = known.map_or(units, |n| self.holds[n].units);
        let result = match known {
            Some(n) if self.holds[n].state == State::Expired => refused("hold_ended"),
            Some(n) if self.holds[n].state == State::Released => refused("hold_ended"),
            Some(n) => self.granted(n),
            None if self.available() < units => refused("insufficient_stock"),
            None => {
                let (key, deadline) = (key.to_owned(), self.now + TTL);
                self.holds.push(Hold { key, units, deadline, state: State::Active });
                self.granted(self.holds.len() - 1)
            }
        };
        (place(), Some(key.to_owned()), vec![Line::new("MUG", units)], result)
    }

    fn confirm(&mut self, which: usize) -> (Op, Option<String>, Vec<Line>, Outcome) {
        let hold = &mut self.holds[which];
        let result = match hold.state {
            State::Active | State::Confirmed => {
                hold.state = State::Confirmed;
                done()
            }
            State::Released => refused("already_released"),
            State::Expired => refused("hold_expired"),
        };
        // Not every client says what it confirms.
        let lines =
            if which.is_multiple_of(2) { vec![Line::new("MUG", hold.units)] } else { Vec::new() };
        (confirm(&which.to_string()), None, lines, result)
    }

    fn release(&mut self, which: usize) -> (Op, Option<String>, Vec<Line>, Outcome) {
        let hold = &mut self.holds[which];
        let state = match hold.state {
            State::Expired => "expired",
            _ => "released",
        };
        let result = match hold.state {
            State::Confirmed => refused("already_confirmed"),
            State::Expired => {
                Outcome::Ok(Granted { state: Some(state.to_owned()), ..Granted::default() })
            }
            State::Active | State::Released => {
                hold.state = State::Released;
                done()
            }
        };
        (Op::Release { hold: which.to_string() }, None, Vec::new(), result)
    }

    fn extend(&mut self, which: usize) -> (Op, Option<String>, Vec<Line>, Outcome) {
        let result = match self.holds[which].state {
            State::Active => {
                self.holds[which].deadline = self.now + TTL;
                self.granted(which)
            }
            State::Confirmed => refused("already_confirmed"),
            State::Released => refused("already_released"),
            State::Expired => refused("hold_expired"),
        };
        (Op::Extend { hold: which.to_string(), ttl_ms: TTL }, None, Vec::new(), result)
    }

    fn receive(&mut self, units: i64) -> (Op, Option<String>, Vec<Line>, Outcome) {
        self.received += units;
        (Op::Receive, None, vec![Line::new("MUG", units)], done())
    }

    fn granted(&self, which: usize) -> Outcome {
        let hold = &self.holds[which];
        let live_ms = (hold.state == State::Active).then(|| hold.deadline - self.now);
        Outcome::Ok(Granted { hold: Some(which.to_string()), live_ms, ..Granted::default() })
    }

    fn units(&self, state: State) -> i64 {
        self.holds.iter().filter(|hold| hold.state == state).map(|hold| hold.units).sum()
    }

    fn available(&self) -> i64 {
        SUPPLY + self.received - self.units(State::Active) - self.units(State::Confirmed)
    }

    fn ledger(&self) -> Ledger {
        let (held, allocated) = (self.units(State::Active), self.units(State::Confirmed));
        let (on_hand, available) = (SUPPLY + self.received, self.available());
        let item = "MUG".to_owned();
        let items = vec![Item { item, on_hand, held, allocated, available, ..Item::default() }];
        let supply = [("MUG".to_owned(), SUPPLY)].into();
        let (sales, live) = (self.listed(State::Confirmed), self.listed(State::Active));
        Ledger { supply, items, sales, live }
    }

    fn listed(&self, state: State) -> Vec<Sale> {
        let holds = self.holds.iter().enumerate().filter(|(_, hold)| hold.state == state);
        let listed = holds.map(|(n, hold)| Sale {
            hold: n.to_string(),
            key: Some(hold.key.clone()),
            lines: vec![Line::new("MUG", hold.units)],
            gone: Vec::new(),
        });
        listed.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_shop_raises_no_alarm(steps in vec(step(), 1..80)) {
        let (history, ledger) = Shop::after(&steps, Expires::WhenDue);
        prop_assert_eq!(history.check(&ledger, Rest::Busy), []);
    }
}

#[test]
fn a_shop_that_frees_units_too_early_is_found_out() {
    let mut runner = TestRunner::deterministic();
    let found: usize = (0..50)
        .map(|_| {
            let steps = vec(step(), 60..80).new_tree(&mut runner).unwrap().current();
            let (history, ledger) = Shop::after(&steps, Expires::TooEarly);
            let found = history.check(&ledger, Rest::Busy);
            found.iter().filter(|violation| ["C2", "C3"].contains(&violation.rule())).count()
        })
        .sum();
    assert!(found > 0);
}
