//! Where a list goes on: opaque to clients, so that it may change.

use serde::{Serialize, Serializer};
use stockhold::{HoldId, ItemKey, Location, LockName, Sku};

use crate::problem::Problem;

/// A place in a list.
pub(crate) trait Position: Sized {
    fn bytes(&self) -> Vec<u8>;

    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Position for HoldId {
    fn bytes(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }
}

/// No name has a control character, so the zero byte stands between them only.
impl Position for ItemKey {
    fn bytes(&self) -> Vec<u8> {
        [self.sku.as_str(), self.location.as_str()].join("\0").into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sku, location) = std::str::from_utf8(bytes).ok()?.split_once('\0')?;
        Some(Self { sku: Sku::new(sku).ok()?, location: Location::new(location).ok()? })
    }
}

impl Position for LockName {
    fn bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

/// A place in a list as it is sent: in hexadecimal digits.
#[derive(Debug)]
pub(crate) struct Cursor(String);

impl Cursor {
    pub(crate) fn of(position: &impl Position) -> Self {
        Self(position.bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads one that was sent back.
    pub(crate) fn position<P: Position>(text: &str) -> Result<P, Problem> {
        let position = from_hex(text).and_then(|bytes| P::from_bytes(&bytes));
        let what = "must be the next_cursor of an earlier page of this list";
        position.ok_or_else(|| Problem::field("cursor", what))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let item = ItemKey { sku: Sku::new("Größe 42").unwrap(), location: Location::default() };
        assert_eq!(Cursor::position::<ItemKey>(&Cursor::of(&item).0).unwrap(), item);
        let hold = HoldId::from_bytes([0xa5; 16]);
        assert_eq!(Cursor::position::<HoldId>(&Cursor::of(&hold).0).unwrap(), hold);
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        let item = Cursor::of(&ItemKey::at_default(Sku::new("MUG").unwrap())).0;
        let hold = Cursor::of(&HoldId::from_bytes([1; 16])).0;
        for text in ["", "0", "zz", "4D", "é", &item[1..], &item] {
            assert!(Cursor::position::<HoldId>(text).is_err(), "{text}");
        }
        for text in ["", "00", "4d5547", "4d554700", &item.replace("00", "0000"), &hold] {
            assert!(Cursor::position::<ItemKey>(text).is_err(), "{text}");
        }
    }
}
