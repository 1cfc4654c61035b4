//! Random histories of a small shop.

use std::{collections::HashMap, sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};
use stockhold::{
    HoldId, IdempotencyKey, LoadMode, OnExpired, Owner, Quantity, Reason, Reference, Ttl,
    conformance::ask::{basket, id, item, units},
};
use stockhold_core::{Action, Command, Place};

/// What the shop has, and D, which it has not at first.
pub(crate) const SKUS: [&str; 4] = ["A", "B", "C", "D"];

#[derive(Clone, Debug)]
pub(crate) struct History(pub(crate) Vec<Event>);

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Batch(Vec<Ask>),
    /// Time passes, and the ledger lives.
    Wait(Duration),
    /// Time passes, and the ledger is away.
    Outage(Duration),
    Reopen,
    /// Holds that have been over for that long are removed, so many in a step.
    Retire(Duration, usize),
}

/// A command, but for the numbers of holds, which are known only when it is told.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    verb: Verb,
    /// How many holds ago the hold was placed that is meant.
    ago: u64,
    key: Option<u8>,
    /// Sent again just as it was sent under this key before, if it was.
    again: bool,
}

#[derive(Clone, Debug)]
enum Verb {
    Place { owner: &'static str, lines: Lines, ttl: Option<u64>, replaces: bool, order: Option<u8> },
    Confirm { lines: Option<Lines>, on_expired: OnExpired, order: Option<u8> },
    Release,
    Extend(u64),
    Expire,
    Revoke,
    Ship(Option<Lines>),
    Cancel(Option<Lines>),
    Receive(&'static str, i64),
    Adjust(&'static str, i64, Option<i64>),
    Count(&'static str, i64, Option<i64>),
    SetPolicy(&'static str, Option<i64>, Option<i64>),
    Load(&'static str, i64, Option<i64>, LoadMode),
}

type Lines = Vec<(&'static str, i64)>;

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let seconds = |range| Strategy::prop_map(range, Duration::from_secs);
    let event = prop_oneof![
        12 => vec(ask(), 1..=20).prop_map(Event::Batch),
        2 => seconds(1..=12_u64).prop_map(Event::Wait),
        2 => (1..=2_000_u64).prop_map(Duration::from_millis).prop_map(Event::Wait),
        1 => seconds(4..=40_u64).prop_map(Event::Outage),
        1 => Just(Event::Reopen),
        1 => (seconds(0..=20_u64), 1..=10_usize).prop_map(|(age, step)| Event::Retire(age, step)),
    ];
    vec(event, 1..=25).prop_map(History)
}

fn ask() -> impl Strategy<Value = Ask> {
    let key = prop_oneof![2 => Just(None), 1 => (0..16_u8).prop_map(Some)];
    let ask = (verb(), 0..=12_u64, key, any::<bool>());
    ask.prop_map(|(verb, ago, key, again)| Ask { verb, ago, key, again })
}

fn verb() -> impl Strategy<Value = Verb> {
    let sku = || prop_oneof![9 => select(&SKUS[..3]), 1 => Just("D")];
    let lines = move || vec((sku(), 1..=3_i64), 1..=3);
    let order = || option::weighted(0.3, 0..2_u8);
    let ttl = prop_oneof![Just(1), 500..=15_000_u64, Just(60_000), Just(10_000_000)];
    let place =
        (select(&["ann", "ben"][..]), lines(), option::of(ttl), prop::bool::weighted(0.2), order());
    let place = place.prop_map(|(owner, lines, ttl, replaces, order)| Verb::Place {
        owner,
        lines,
        ttl,
        replaces,
        order,
    });
    let on_expired = select(&[OnExpired::Fail, OnExpired::Rehold][..]);
    let confirm = (option::weighted(0.3, lines()), on_expired, order());
    let confirm =
        confirm.prop_map(|(lines, on_expired, order)| Verb::Confirm { lines, on_expired, order });
    let extend = prop_oneof![100..=20_000_u64, Just(900_000)];
    let mode = select(&[LoadMode::Create, LoadMode::Count][..]);
    let load = (sku(), 0..=12_i64, option::weighted(0.3, 0..=3_i64), mode);
    let small = || option::weighted(0.3, 0..=12_i64);
    prop_oneof![
        10 => place,
        5 => confirm,
        2 => Just(Verb::Release),
        2 => extend.prop_map(Verb::Extend),
        2 => Just(Verb::Expire),
        1 => Just(Verb::Revoke),
        3 => option::of(lines()).prop_map(Verb::Ship),
        3 => option::of(lines()).prop_map(Verb::Cancel),
        2 => (sku(), 0..=6_i64).prop_map(|(sku, n)| Verb::Receive(sku, n)),
        1 => (sku(), -8..=8_i64, small()).prop_map(|(sku, n, floor)| Verb::Adjust(sku, n, floor)),
        1 => (sku(), 0..=12_i64, small()).prop_map(|(sku, n, there)| Verb::Count(sku, n, there)),
        1 => (sku(), small(), small()).prop_map(|(sku, n, safety)| Verb::SetPolicy(sku, n, safety)),
        1 => load.prop_map(|(sku, n, safety, mode)| Verb::Load(sku, n, safety, mode)),
    ]
}

/// Tells a history in commands.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    placed: u64,
    sent: HashMap<(u8, &'static str), Action>,
}

impl Teller {
    pub(crate) fn stock_up(&self) -> Vec<Command> {
        let create = |sku: &&'static str| self.command(&Verb::SetPolicy(sku, Some(12), None), 0);
        SKUS[..3].iter().map(create).map(Command::new).collect()
    }

    pub(crate) fn commands(&mut self, asks: &[Ask]) -> Vec<Command> {
        asks.iter().map(|ask| self.tell(ask)).collect()
    }

    /// Every hold that was asked for, and one that never was.
    pub(crate) fn holds(&self) -> impl Iterator<Item = HoldId> {
        (0..=self.placed).map(id)
    }

    fn tell(&mut self, ask: &Ask) -> Command {
        let hold = self.placed.saturating_sub(ask.ago);
        if matches!(ask.verb, Verb::Place { .. }) {
            self.placed += 1;
        }
        let action = self.command(&ask.verb, hold);
        let Some(key) = ask.key else { return Command::new(action) };
        let known = self.sent.get(&(key, action.verb())).filter(|_| ask.again).cloned();
        let action = known.map_or(action, |known| self.renumbered(known));
        self.sent.insert((key, action.verb()), action.clone());
        Command::keyed(action, &IdempotencyKey::new(format!("key-{key}")).expect("a key"))
    }

    /// A place that is sent again has a new number all the same.
    fn renumbered(&self, mut action: Action) -> Action {
        if let Action::Place(place) = &mut action {
            place.id = id(self.placed);
        }
        action
    }

    fn command(&self, verb: &Verb, hold: u64) -> Action {
        let (id, new) = (id(hold), id(self.placed));
        match verb {
            Verb::Place { owner, lines, ttl, replaces, order } => Action::Place(Place {
                id: new,
                owner: Owner::new(owner).expect("an owner"),
                ttl: ttl.and_then(Ttl::from_millis),
                lines: basket(lines),
                replaces: replaces.then_some(id),
                reference: order_number(*order),
            }),
            Verb::Confirm { lines, on_expired, order } => Action::Confirm {
                id,
                lines: lines.as_deref().map(basket),
                on_expired: *on_expired,
                reference: order_number(*order),
            },
            Verb::Release => Action::Release { id, reason: Some(reason()) },
            Verb::Extend(millis) => {
                Action::Extend { id, ttl: Ttl::from_millis(*millis).expect("a life") }
            }
            Verb::Expire => Action::Expire { id },
            Verb::Revoke => Action::Revoke { id, reason: reason() },
            Verb::Ship(lines) => Action::Ship { id, lines: lines.as_deref().map(basket) },
            Verb::Cancel(lines) => Action::Cancel { id, lines: lines.as_deref().map(basket) },
            Verb::Receive(sku, n) => {
                Action::Receive { item: Arc::new(item(sku)), units: units(*n), reference: None }
            }
            Verb::Adjust(sku, delta, floor) => Action::Adjust {
                item: Arc::new(item(sku)),
                delta: units(*delta),
                reason: reason(),
                min_available: floor.map(units),
            },
            Verb::Count(sku, count, there) => Action::Count {
                item: Arc::new(item(sku)),
                count: units(*count),
                reason: reason(),
                if_on_hand: there.map(units),
            },
            Verb::SetPolicy(sku, on_hand, safety_stock) => Action::SetPolicy {
                item: Arc::new(item(sku)),
                on_hand: on_hand.map(units),
                safety_stock: safety_stock.map(|units| Quantity::new(units / 4).expect("few")),
            },
            Verb::Load(sku, on_hand, safety_stock, mode) => Action::Load {
                item: Arc::new(item(sku)),
                on_hand: units(*on_hand),
                safety_stock: safety_stock.map(units),
                mode: *mode,
            },
        }
    }
}

fn order_number(order: Option<u8>) -> Option<Reference> {
    order.map(|order| Reference::new(format!("order-{order}")).expect("a reference"))
}

fn reason() -> Reason {
    Reason::new("a test").expect("a reason")
}
