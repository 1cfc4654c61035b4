//! Commands in a few words, for tests of ledgers. Everything is at the location `default`, owners
//! are `ann` unless said otherwise, and a word that is no name panics.

use std::sync::Arc;

use stockhold_core::{
    Action, Basket, Command, HoldId, IdempotencyKey, ItemKey, OnExpired, Owner, Place, Quantity,
    Reason, Reference, Sku, Ttl,
};

/// The stock item of this SKU.
#[must_use]
pub fn item(sku: &str) -> ItemKey {
    ItemKey::at_default(Sku::new(sku).expect("a SKU"))
}

/// That many units.
#[must_use]
pub fn units(number: i64) -> Quantity {
    Quantity::new(number).expect("a quantity")
}

/// The id of the hold number `n`; ids rise with `n`.
#[must_use]
pub fn id(n: u64) -> HoldId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    HoldId::from_bytes(bytes)
}

/// The number of the hold with this id.
#[must_use]
pub fn number(id: HoldId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.to_bytes()[8..]);
    u64::from_be_bytes(bytes)
}

/// Units of SKUs.
#[must_use]
pub fn basket(lines: &[(&str, i64)]) -> Basket {
    let lines = lines.iter().map(|&(sku, number)| (item(sku), units(number)));
    Basket::new(lines).expect("a basket")
}

/// A life of that many milliseconds.
#[must_use]
pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a life")
}

/// Creates an item.
#[must_use]
pub fn create(sku: &str, on_hand: i64) -> Command {
    let (item, on_hand) = (Arc::new(item(sku)), Some(units(on_hand)));
    Command::new(Action::SetPolicy { item, on_hand, safety_stock: None })
}

/// Places hold number `n` with the default life of 30 s.
#[must_use]
pub fn place(n: u64, lines: &[(&str, i64)]) -> Command {
    Command::new(Action::Place(plain(n, lines)))
}

/// Places hold number `n` with a life of that many milliseconds.
#[must_use]
pub fn place_for(millis: u64, n: u64, lines: &[(&str, i64)]) -> Command {
    Command::new(Action::Place(Place { ttl: Some(ttl(millis)), ..plain(n, lines) }))
}

/// Places hold number `n`, which takes the place of hold number `old`.
#[must_use]
pub fn replace(old: u64, n: u64, lines: &[(&str, i64)]) -> Command {
    Command::new(Action::Place(Place { replaces: Some(id(old)), ..plain(n, lines) }))
}

/// Hold number `n`, before anything special is asked of it.
#[must_use]
pub fn plain(n: u64, lines: &[(&str, i64)]) -> Place {
    let owner = Owner::new("ann").expect("an owner");
    Place { id: id(n), owner, ttl: None, lines: basket(lines), replaces: None, reference: None }
}

/// Confirms all of hold number `n`.
#[must_use]
pub fn confirm(n: u64) -> Command {
    let (lines, on_expired, reference) = (None, OnExpired::Fail, None);
    Command::new(Action::Confirm { id: id(n), lines, on_expired, reference })
}

/// Confirms these units of hold number `n`.
#[must_use]
pub fn confirm_part(n: u64, lines: &[(&str, i64)]) -> Command {
    let (lines, on_expired, reference) = (Some(basket(lines)), OnExpired::Fail, None);
    Command::new(Action::Confirm { id: id(n), lines, on_expired, reference })
}

/// Confirms all of hold number `n`, and takes the units again if it has died.
#[must_use]
pub fn rehold(n: u64) -> Command {
    let (lines, on_expired, reference) = (None, OnExpired::Rehold, None);
    Command::new(Action::Confirm { id: id(n), lines, on_expired, reference })
}

/// Releases hold number `n`.
#[must_use]
pub fn release(n: u64) -> Command {
    Command::new(Action::Release { id: id(n), reason: None })
}

/// Extends hold number `n` to that many milliseconds from now.
#[must_use]
pub fn extend(n: u64, millis: u64) -> Command {
    Command::new(Action::Extend { id: id(n), ttl: ttl(millis) })
}

/// Expires hold number `n` if it is due.
#[must_use]
pub fn expire(n: u64) -> Command {
    Command::new(Action::Expire { id: id(n) })
}

/// Takes hold number `n` away.
#[must_use]
pub fn revoke(n: u64) -> Command {
    Command::new(Action::Revoke { id: id(n), reason: reason() })
}

/// Ships all that is open of hold number `n`.
#[must_use]
pub fn ship(n: u64) -> Command {
    Command::new(Action::Ship { id: id(n), lines: None })
}

/// Cancels these units of hold number `n`; needs a key.
#[must_use]
pub fn cancel_part(n: u64, lines: &[(&str, i64)]) -> Command {
    Command::new(Action::Cancel { id: id(n), lines: Some(basket(lines)) })
}

/// Units arrive; needs a key.
#[must_use]
pub fn receive(sku: &str, number: i64) -> Command {
    let (item, reference) = (Arc::new(item(sku)), Reference::new("note-7").ok());
    Command::new(Action::Receive { item, units: units(number), reference })
}

/// Units appear or vanish; needs a key.
#[must_use]
pub fn adjust(sku: &str, delta: i64) -> Command {
    let (item, delta) = (Arc::new(item(sku)), units(delta));
    Command::new(Action::Adjust { item, delta, reason: reason(), min_available: None })
}

/// Somebody counted.
#[must_use]
pub fn count(sku: &str, count: i64) -> Command {
    let (item, count) = (Arc::new(item(sku)), units(count));
    Command::new(Action::Count { item, count, reason: reason(), if_on_hand: None })
}

/// The same command, under a key.
#[must_use]
pub fn keyed(key: &str, command: Command) -> Command {
    Command::keyed(command.action, &IdempotencyKey::new(key).expect("a key"))
}

fn reason() -> Reason {
    Reason::new("a test").expect("a reason")
}
