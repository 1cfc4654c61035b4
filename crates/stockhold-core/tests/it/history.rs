//! Random histories: what can happen to a shop, and a world in which it does.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*};
use stockhold_core::{
    Action, Basket, Book, Command, Digest, HoldId, HoldState, HoldView, IdempotencyKey, ItemKey,
    Limits, LoadMode, OnExpired, Outcome, Place, Quantity, Reason, Rejection, Sku, Timestamp, Ttl,
};

use crate::{
    ledger::{Answer, Fate, Ledger},
    oracle::{Before, deadlines_are_known},
    rows::Fault,
};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Some commands in one transaction.
    Batch(Vec<Ask>, Fate),
    /// A reply was lost: one of the last commands with a key is sent again.
    Again(u8, Fate),
    /// The sweeper comes.
    Sweep(Fate),
    /// Milliseconds pass, with a sign of life every second.
    Wait(i64),
    /// Milliseconds pass without.
    Outage(i64),
    /// The clock steps back by some milliseconds.
    StepBack(i64),
}

/// A command of somebody. Items, holds, owners, keys and references are small numbers.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    verb: Verb,
    key: Key,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    None,
    Shared(u8),
    Fresh,
}

type Lines = Vec<(u8, i64)>;

/// A command, and the key in it.
type Asked = (Command, Option<String>);

#[derive(Clone, Debug)]
enum Verb {
    Place { owner: u8, lines: Lines, ttl: Option<u64>, replaces: Option<u8>, reference: u8 },
    Confirm { hold: u8, lines: Option<Lines>, on_expired: OnExpired, reference: u8 },
    Release(u8),
    Revoke(u8),
    Expire(u8),
    Extend { hold: u8, ttl: u64 },
    Ship { hold: u8, lines: Option<Lines> },
    Cancel { hold: u8, lines: Option<Lines> },
    Receive { item: u8, units: i64 },
    Adjust { item: u8, delta: i64, floor: Option<i64> },
    Count { item: u8, count: i64, expected: Option<i64> },
    Policy { item: u8, on_hand: Option<i64>, safety: Option<i64> },
    Load { item: u8, on_hand: i64, safety: Option<i64>, mode: LoadMode },
}

/// `2^53 - 1`.
const MAX: i64 = Quantity::MAX.get();

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    vec(event(), 1..50)
}

fn event() -> impl Strategy<Value = Event> {
    let batch = (vec(ask(), 1..4), fate()).prop_map(|(asks, fate)| Event::Batch(asks, fate));
    prop_oneof![
        12 => batch,
        2 => (any::<u8>(), fate()).prop_map(|(number, fate)| Event::Again(number, fate)),
        1 => fate().prop_map(Event::Sweep),
        3 => a_while(20_000).prop_map(Event::Wait),
        1 => prop_oneof![a_while(8_000), a_while(200_000)].prop_map(Event::Outage),
        1 => a_while(40_000).prop_map(Event::StepBack),
    ]
}

/// Round numbers meet deadlines to the millisecond.
fn a_while(most: i64) -> impl Strategy<Value = i64> {
    prop_oneof![2 => (1..=most / 1_000).prop_map(|seconds| seconds * 1_000), 1 => 1..most]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Commit), 2 => Just(Fate::RollBackFirst), 1 => Just(Fate::Abandon)]
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let shared = (0_u8..4).prop_map(Key::Shared);
    let key = prop_oneof![3 => Just(Key::None), 2 => shared, 3 => Just(Key::Fresh)];
    (verb(), key).prop_map(|(verb, key)| Ask { verb, key })
}

fn units() -> impl Strategy<Value = i64> {
    prop_oneof![12 => 1_i64..6, 1 => Just(0), 1 => Just(1_000_000_000), 1 => Just(MAX)]
}

fn stock_units() -> impl Strategy<Value = i64> {
    prop_oneof![12 => 0_i64..12, 1 => -3_i64..0, 1 => Just(2_000_000_000), 1 => Just(MAX)]
}

fn lines() -> impl Strategy<Value = Lines> {
    vec((0_u8..4, units()), 1..4)
}

fn millis() -> impl Strategy<Value = u64> {
    let seconds = (1_u64..40).prop_map(|seconds| seconds * 1_000);
    prop_oneof![6 => seconds, 3 => 100_u64..40_000, 1 => Just(1), 1 => Just(Ttl::MAX_MILLIS)]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![5 => place(), 8 => on_hold(), 4 => on_stock()]
}

fn place() -> impl Strategy<Value = Verb> {
    let replaces = option::weighted(0.2, any::<u8>());
    (0_u8..2, lines(), option::of(millis()), replaces, 0_u8..3).prop_map(
        |(owner, lines, ttl, replaces, reference)| Verb::Place {
            owner,
            lines,
            ttl,
            replaces,
            reference,
        },
    )
}

fn on_hold() -> impl Strategy<Value = Verb> {
    let hold = any::<u8>;
    let named = || option::of(lines());
    let on_expired = prop_oneof![Just(OnExpired::Fail), Just(OnExpired::Rehold)];
    let confirm = (hold(), option::weighted(0.3, lines()), on_expired, 0_u8..3);
    prop_oneof![
        4 => confirm.prop_map(|(hold, lines, on_expired, reference)| {
            Verb::Confirm { hold, lines, on_expired, reference }
        }),
        1 => hold().prop_map(Verb::Release),
        1 => hold().prop_map(Verb::Revoke),
        1 => hold().prop_map(Verb::Expire),
        2 => (hold(), millis()).prop_map(|(hold, ttl)| Verb::Extend { hold, ttl }),
        2 => (hold(), named()).prop_map(|(hold, lines)| Verb::Ship { hold, lines }),
        2 => (hold(), named()).prop_map(|(hold, lines)| Verb::Cancel { hold, lines }),
    ]
}

fn on_stock() -> impl Strategy<Value = Verb> {
    let item = || 0_u8..4;
    let maybe = || option::weighted(0.3, stock_units());
    prop_oneof![
        3 => (item(), stock_units()).prop_map(|(item, units)| Verb::Receive { item, units }),
        1 => (item(), -8_i64..8, maybe()).prop_map(|(item, delta, floor)| {
            Verb::Adjust { item, delta, floor }
        }),
        1 => (item(), stock_units(), maybe()).prop_map(|(item, count, expected)| {
            Verb::Count { item, count, expected }
        }),
        2 => (item(), maybe(), maybe()).prop_map(|(item, on_hand, safety)| {
            Verb::Policy { item, on_hand, safety }
        }),
        2 => (item(), stock_units(), maybe(), mode()).prop_map(|(item, on_hand, safety, mode)| {
            Verb::Load { item, on_hand, safety, mode }
        }),
    ]
}

fn mode() -> impl Strategy<Value = LoadMode> {
    prop_oneof![Just(LoadMode::Create), Just(LoadMode::Count)]
}

/// What a key has done: one thing, for one request.
type Keys = BTreeMap<(&'static str, String), (Digest, Deed)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Hold(HoldId),
    Movement(i64),
}

/// A ledger, and what was promised to whom.
#[derive(Debug)]
pub(crate) struct World {
    ledger: Ledger,
    limits: Limits,
    /// Every number that a hold was to have, also those of places that were refused.
    ids: Vec<HoldId>,
    keys: Keys,
    fresh_keys: u32,
    /// What was sent with a key, and may be sent again.
    sent: Vec<Asked>,
    /// Until when each active hold can be confirmed, as was answered last.
    promises: BTreeMap<HoldId, Timestamp>,
    /// The latest time at which anything was written.
    high_water: Timestamp,
}

impl World {
    /// A shop with some units of three items; the fourth is not known.
    pub(crate) fn new() -> Result<Self, Fault> {
        let limits = Limits { max_quantity: units_of(1_000_000_000)?, ..Limits::default() };
        let mut world = Self {
            ledger: Ledger::new(limits.clone()),
            limits,
            ids: vec![HoldId::from_bytes([0xFF; 16])],
            keys: Keys::new(),
            fresh_keys: 0,
            sent: vec![],
            promises: BTreeMap::new(),
            high_water: Timestamp::from_millis(0),
        };
        for (item, units) in [(0, 3), (1, 8), (2, 2_000_000_000)] {
            let verb = Verb::Policy { item, on_hand: Some(units), safety: None };
            world.happen(&Event::Batch(vec![Ask { verb, key: Key::None }], Fate::Commit))?;
        }
        Ok(world)
    }

    /// Lets something happen, and checks every law.
    pub(crate) fn happen(&mut self, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Batch(asks, fate) => {
                let commands: Vec<_> = asks.iter().filter_map(|ask| self.command(ask)).collect();
                self.transact(&commands, *fate)?;
            }
            Event::Again(number, fate) => {
                let again: Vec<_> = self.sent_before(*number).into_iter().collect();
                self.transact(&again, *fate)?;
            }
            Event::Sweep(fate) => self.sweep(*fate)?,
            Event::Wait(millis) => self.ledger.wait(*millis),
            Event::Outage(millis) => self.ledger.outage(*millis)?,
            Event::StepBack(millis) => self.ledger.step_back(*millis),
        }
        self.high_water = self.high_water.max(self.ledger.book.liveness().alive_at());
        deadlines_are_known(&self.ledger.book, self.ledger.now)?;
        self.promises_are_kept()
    }

    fn sweep(&mut self, fate: Fate) -> Result<(), Fault> {
        let due = self.ledger.book.due(self.ledger.now, usize::MAX);
        let expire = due.into_iter().map(|id| Command::new(Action::Expire { id }));
        let expire: Vec<_> = expire.map(|command| (command, None)).collect();
        self.transact(&expire, fate)?;
        if fate == Fate::Abandon { Ok(()) } else { self.ledger.verify_swept() }
    }

    fn transact(&mut self, commands: &[Asked], fate: Fate) -> Result<(), Fault> {
        let (known, limits) = (self.keys.clone(), self.limits.clone());
        let mut keys = Keys::new();
        let answers = self.ledger.transact(fate, |book, now| {
            keys.clone_from(&known);
            commands.iter().map(|c| one(book, now, c, &limits, &mut keys)).collect()
        })?;
        let Some(answers): Option<Vec<Answer>> = answers else { return Ok(()) };
        self.keys = keys;
        self.high_water = self.high_water.max(self.ledger.now);
        self.sent.extend(commands.iter().filter(|(_, key)| key.is_some()).cloned());
        for ((command, _), answer) in commands.iter().zip(&answers) {
            self.note_promises(command, answer)?;
        }
        Ok(())
    }

    fn note_promises(&mut self, command: &Command, answer: &Answer) -> Result<(), Fault> {
        let view = match answer {
            Ok(Outcome::Placed(placed)) => {
                if let Action::Place(Place { replaces: Some(old), .. }) = &command.action {
                    self.promises.remove(old);
                }
                &placed.hold
            }
            Ok(Outcome::Settled(settled)) => &settled.hold,
            _ => return Ok(()),
        };
        self.note_view(view)
    }

    fn note_view(&mut self, view: &HoldView) -> Result<(), Fault> {
        let id = view.hold.id;
        if view.hold.state == HoldState::Active {
            self.promises.insert(id, view.expires_at);
            return Ok(());
        }
        let promise = self.promises.remove(&id).filter(|promise| self.high_water < *promise);
        match promise.filter(|_| view.hold.state == HoldState::Expired) {
            Some(promise) => Err(format!("G2: {id} was promised until {promise:?}: {view:?}")),
            None => Ok(()),
        }
    }

    /// G2: whoever was promised units that nobody has ended can confirm them now.
    fn promises_are_kept(&mut self) -> Result<(), Fault> {
        let high_water = self.high_water;
        let live = self.promises.iter().filter(|(_, promise)| high_water < **promise);
        let live: Vec<_> = live.map(|(id, promise)| (*id, *promise)).collect();
        self.ledger.transact(Fate::Abandon, |book, now| {
            for (id, promise) in &live {
                let (lines, reference) = (None, None);
                let confirm =
                    Action::Confirm { id: *id, lines, on_expired: OnExpired::Fail, reference };
                if let Err(refusal) = book.apply(&Command::new(confirm), now) {
                    return Err(format!("G2: {id} until {promise:?}, now {now:?}: {refusal:?}"));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The command and its key; nothing if it cannot be written down (0 units of something).
    fn command(&mut self, ask: &Ask) -> Option<Asked> {
        let action = self.action(&ask.verb)?;
        let key = match ask.key {
            Key::None => return Some((Command::new(action), None)),
            Key::Shared(number) => format!("shared-{number}"),
            Key::Fresh => {
                self.fresh_keys += 1;
                format!("fresh-{}", self.fresh_keys)
            }
        };
        let parsed = key.parse::<IdempotencyKey>().ok()?;
        Some((Command::keyed(action, &parsed), Some(key)))
    }

    /// One of the last commands with a key, as a client sends it again: a hold that it would
    /// place has another number now.
    fn sent_before(&mut self, number: u8) -> Option<Asked> {
        let back = usize::from(number) % self.sent.len().clamp(1, 8);
        let (mut command, key) = self.sent.iter().rev().nth(back)?.clone();
        if let Action::Place(place) = &mut command.action {
            place.id = self.fresh_id();
        }
        Some((command, key))
    }

    fn action(&mut self, verb: &Verb) -> Option<Action> {
        let reason = Reason::new("test").ok()?;
        Some(match verb {
            Verb::Place { owner, lines, ttl, replaces, reference } => Action::Place(Place {
                lines: basket(lines)?,
                owner: format!("owner-{owner}").parse().ok()?,
                ttl: ttl.and_then(Ttl::from_millis),
                replaces: replaces.map(|old| self.id(old)),
                reference: reference_of(*reference),
                id: self.fresh_id(),
            }),
            Verb::Confirm { hold, lines, on_expired, reference } => Action::Confirm {
                id: self.id(*hold),
                lines: maybe_basket(lines.as_ref())?,
                on_expired: *on_expired,
                reference: reference_of(*reference),
            },
            Verb::Release(hold) => Action::Release { id: self.id(*hold), reason: None },
            Verb::Revoke(hold) => Action::Revoke { id: self.id(*hold), reason },
            Verb::Expire(hold) => Action::Expire { id: self.id(*hold) },
            Verb::Extend { hold, ttl } => {
                Action::Extend { id: self.id(*hold), ttl: Ttl::from_millis(*ttl)? }
            }
            Verb::Ship { hold, lines } => {
                Action::Ship { id: self.id(*hold), lines: maybe_basket(lines.as_ref())? }
            }
            Verb::Cancel { hold, lines } => {
                Action::Cancel { id: self.id(*hold), lines: maybe_basket(lines.as_ref())? }
            }
            _ => stock_action(verb, reason)?,
        })
    }

    /// One of the holds so far; most often one of the last.
    fn id(&self, number: u8) -> HoldId {
        let back = usize::from(number) % self.ids.len().min(8);
        self.ids[self.ids.len() - 1 - back]
    }

    fn fresh_id(&mut self) -> HoldId {
        let id = HoldId::from_bytes((self.ids.len() as u128).to_be_bytes());
        self.ids.push(id);
        id
    }
}

/// Does one command of a transaction, and judges it.
fn one(
    book: &mut Book,
    now: Timestamp,
    (command, key): &Asked,
    limits: &Limits,
    keys: &mut Keys,
) -> Result<Answer, Fault> {
    let before = Before::of(book, now);
    let answer = book.apply(command, now);
    before.judge(command, &answer, book, limits).map_err(|why| format!("{why}\n{command:?}"))?;
    if let Err(Rejection::Damaged { what }) = &answer {
        return Err(format!("damaged: {what}"));
    }
    judge_key(command, key.as_ref(), &answer, keys)?;
    Ok(answer)
}

/// R11 and R19: a key does one thing, once.
fn judge_key(
    command: &Command,
    key: Option<&String>,
    answer: &Answer,
    keys: &mut Keys,
) -> Result<(), Fault> {
    let action = &command.action;
    let Some(key) = key else {
        let refused = matches!(answer, Err(Rejection::IdempotencyKeyRequired { .. }));
        let is_right = refused == action.needs_key();
        return is_right.then_some(()).ok_or_else(|| format!("R19: {answer:?} without a key"));
    };
    let entry = (action.verb(), key.clone());
    let digest = Digest::of(action);
    let done = deed(answer);
    let is_right = match (keys.get(&entry), done) {
        (None, Some((deed, replayed))) => {
            keys.insert(entry, (digest, deed));
            !replayed
        }
        (None, None) => !matches!(answer, Err(Rejection::IdempotencyKeyReused)),
        (Some((known, deed)), Some(done)) => *known == digest && done == (*deed, true),
        (Some((known, _)), None) => {
            *known != digest && matches!(answer, Err(Rejection::IdempotencyKeyReused))
                || matches!(answer, Ok(Outcome::PolicySet(_) | Outcome::Loaded(_)))
        }
    };
    is_right.then_some(()).ok_or_else(|| format!("R11, R19: {answer:?} under {key}"))
}

/// What an answer says was done, and whether it was an earlier request that did it.
fn deed(answer: &Answer) -> Option<(Deed, bool)> {
    match answer {
        Ok(Outcome::Placed(placed)) => Some((Deed::Hold(placed.hold.hold.id), placed.replayed)),
        Ok(Outcome::Settled(settled)) => Some((Deed::Hold(settled.hold.hold.id), settled.replayed)),
        Ok(Outcome::StockMoved(moved)) => Some((Deed::Movement(moved.movement.id), moved.replayed)),
        Err(Rejection::HoldEnded { hold }) => Some((Deed::Hold(hold.hold.id), true)),
        _ => None,
    }
}

fn stock_action(verb: &Verb, reason: Reason) -> Option<Action> {
    Some(match verb {
        Verb::Receive { item, units } => {
            Action::Receive { item: key(*item)?, units: units_of(*units).ok()?, reference: None }
        }
        Verb::Adjust { item, delta, floor } => Action::Adjust {
            item: key(*item)?,
            delta: units_of(*delta).ok()?,
            reason,
            min_available: floor.and_then(|floor| units_of(floor).ok()),
        },
        Verb::Count { item, count, expected } => Action::Count {
            item: key(*item)?,
            count: units_of(*count).ok()?,
            reason,
            if_on_hand: expected.and_then(|expected| units_of(expected).ok()),
        },
        Verb::Policy { item, on_hand, safety } => Action::SetPolicy {
            item: key(*item)?,
            on_hand: on_hand.and_then(|units| units_of(units).ok()),
            safety_stock: safety.and_then(|units| units_of(units).ok()),
        },
        Verb::Load { item, on_hand, safety, mode } => Action::Load {
            item: key(*item)?,
            on_hand: units_of(*on_hand).ok()?,
            safety_stock: safety.and_then(|units| units_of(units).ok()),
            mode: *mode,
        },
        _ => return None,
    })
}

fn units_of(units: i64) -> Result<Quantity, Fault> {
    Quantity::new(units).map_err(|out_of_range| out_of_range.to_string())
}

fn key(item: u8) -> Option<Arc<ItemKey>> {
    let sku = Sku::new(format!("SKU-{item}")).ok()?;
    Some(Arc::new(ItemKey::at_default(sku)))
}

fn basket(lines: &Lines) -> Option<Basket> {
    let lines: Option<Vec<_>> = lines
        .iter()
        .map(|(item, units)| Some((ItemKey::clone(&*key(*item)?), Quantity::new(*units).ok()?)))
        .collect();
    Basket::new(lines?).ok()
}

/// `Some(None)` if no lines are named; `None` if the named ones are no basket.
#[expect(clippy::option_option, reason = "not named and not sayable are two things")]
fn maybe_basket(lines: Option<&Lines>) -> Option<Option<Basket>> {
    match lines {
        None => Some(None),
        Some(lines) => basket(lines).map(Some),
    }
}

fn reference_of(number: u8) -> Option<stockhold_core::Reference> {
    if number == 0 { None } else { format!("ref-{number}").parse().ok() }
}

/// An action of each kind, for who wants to compare them.
pub(crate) fn actions() -> impl Strategy<Value = Action> {
    ask().prop_filter_map("cannot be written down", |ask| {
        let mut world = World::new().ok()?;
        world.action(&ask.verb)
    })
}
