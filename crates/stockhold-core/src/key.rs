//! Idempotency keys as the ledger remembers them (R11, R19).

use sha2::{Digest as _, Sha256};

use crate::{Action, Basket, HoldId, IdempotencyKey, LoadMode, OnExpired, Quantity};

/// A key within the space of its verb: 128 bits of SHA-256, so that a row of the key store has a
/// fixed size whatever the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

/// What was asked under a key: 128 bits of SHA-256 over the request. Two requests are the same if
/// their digests are.
///
/// A place is the same if owner, life as sent, lines (summed and sorted), `replaces` and
/// reference are; the hold's number is ours and does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

/// What was done under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A verb on this hold, or its place.
    Hold(HoldId),
    /// The movement of this number.
    Movement(i64),
}

/// One row of the key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub id: KeyId,
    /// What was asked.
    pub digest: Digest,
    /// What was done.
    pub done: Done,
}

impl KeyId {
    /// Digests a key in the space of a verb.
    #[must_use]
    pub fn of(verb: &str, key: &IdempotencyKey) -> Self {
        let mut writer = Writer::default();
        writer.text(verb);
        writer.text(key.as_str());
        Self(writer.finish())
    }

    /// Reads the 16 bytes of [`KeyId::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl Digest {
    /// Digests what an action asks for.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let mut writer = Writer::default();
        writer.action(action);
        Self(writer.finish())
    }

    /// Reads the 16 bytes of [`Digest::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Writes fields so that no two different requests give the same bytes: every text and list
/// carries its length, every optional field says whether it is there.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn finish(self) -> [u8; 16] {
        let hash = Sha256::digest(&self.0);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        bytes
    }

    fn action(&mut self, action: &Action) {
        self.text(action.verb());
        match action {
            Action::Place(place) => {
                self.text(place.owner.as_str());
                self.optional(place.ttl, |w, ttl| w.number(ttl.as_millis()));
                self.basket(&place.lines);
                self.optional(place.replaces, Self::hold);
                self.optional(place.reference.as_ref(), |w, text| w.text(text.as_str()));
            }
            Action::Confirm { id, lines, on_expired, reference } => {
                self.hold(*id);
                self.optional(lines.as_ref(), Self::basket);
                self.number(u64::from(*on_expired == OnExpired::Rehold));
                self.optional(reference.as_ref(), |w, text| w.text(text.as_str()));
            }
            Action::Release { id, reason } => {
                self.hold(*id);
                self.optional(reason.as_ref(), |w, text| w.text(text.as_str()));
            }
            Action::Extend { id, ttl } => {
                self.hold(*id);
                self.number(ttl.as_millis());
            }
            Action::Expire { id } => self.hold(*id),
            Action::Revoke { id, reason } => {
                self.hold(*id);
                self.text(reason.as_str());
            }
            Action::Ship { id, lines } | Action::Cancel { id, lines } => {
                self.hold(*id);
                self.optional(lines.as_ref(), Self::basket);
            }
            Action::Receive { item, units, reference } => {
                self.item(item);
                self.quantity(*units);
                self.optional(reference.as_ref(), |w, text| w.text(text.as_str()));
            }
            Action::Adjust { item, delta, reason, min_available } => {
                self.item(item);
                self.quantity(*delta);
                self.text(reason.as_str());
                self.optional(*min_available, Self::quantity);
            }
            Action::Count { item, count, reason, if_on_hand } => {
                self.item(item);
                self.quantity(*count);
                self.text(reason.as_str());
                self.optional(*if_on_hand, Self::quantity);
            }
            Action::SetPolicy { item, on_hand, safety_stock } => {
                self.item(item);
                self.optional(*on_hand, Self::quantity);
                self.optional(*safety_stock, Self::quantity);
            }
            Action::Load { item, on_hand, safety_stock, mode } => {
                self.item(item);
                self.quantity(*on_hand);
                self.optional(*safety_stock, Self::quantity);
                self.number(u64::from(*mode == LoadMode::Count));
            }
        }
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn quantity(&mut self, units: Quantity) {
        self.0.extend_from_slice(&units.get().to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn hold(&mut self, id: HoldId) {
        self.0.extend_from_slice(&id.to_bytes());
    }

    fn item(&mut self, item: &crate::ItemKey) {
        self.text(item.sku.as_str());
        self.text(item.location.as_str());
    }

    fn basket(&mut self, basket: &Basket) {
        self.number(u64::try_from(basket.len()).unwrap_or(u64::MAX));
        for (item, units) in basket.iter() {
            self.item(item);
            self.quantity(units);
        }
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => {
                self.0.push(1);
                write(self, value);
            }
            None => self.0.push(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_space_of_its_own() {
        let key = IdempotencyKey::new("k").unwrap();
        assert_ne!(KeyId::of("place", &key), KeyId::of("confirm", &key));
        assert_eq!(KeyId::of("place", &key), KeyId::of("place", &key));
    }
}
