//! The names that a shop gives to things, and the numbers that we give to ours.
//!
//! Every name is parsed once, at the edge; a value of one of these types needs no second check.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {fault}")]
pub struct InvalidName {
    /// What was being parsed: `sku`, `location`, `owner`, ...
    pub what: &'static str,
    /// What is wrong with it.
    pub fault: NameFault,
}

/// What can be wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// There is no text.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than allowed.
    #[error("has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A control character stands in it.
    #[error("has a control character at byte {at}")]
    Control {
        /// Byte offset of the first one.
        at: usize,
    },
    /// Something other than visible ASCII stands in it.
    #[error("may only have visible ASCII characters; byte {at} is none")]
    NotVisibleAscii {
        /// Byte offset of the first one.
        at: usize,
    },
    /// It begins or ends with a space.
    #[error("must not begin or end with a space")]
    Padded,
    /// It is `.` or `..`, which URL paths cannot carry.
    #[error("must not be \".\" or \"..\"")]
    Dots,
    /// It is not a UUID in hyphenated form.
    #[error("must be a UUID, written like 01927c1e-5f3a-7cc3-98c4-dc0c0c07398f")]
    NotUuid,
}

const NAME_MAX: usize = 128;
const TEXT_MAX: usize = 255;

fn check_name(text: &str) -> Result<(), NameFault> {
    if text.is_empty() {
        return Err(NameFault::Empty);
    }
    check_text(text, NAME_MAX)?;
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(NameFault::Padded);
    }
    if text == "." || text == ".." {
        return Err(NameFault::Dots);
    }
    Ok(())
}

fn check_text(text: &str, max: usize) -> Result<(), NameFault> {
    if text.len() > max {
        return Err(NameFault::TooLong { bytes: text.len(), max });
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(NameFault::Control { at }),
        None => Ok(()),
    }
}

fn check_free_text(text: &str) -> Result<(), NameFault> {
    check_text(text, TEXT_MAX)
}

fn check_key(text: &str) -> Result<(), NameFault> {
    if text.is_empty() {
        return Err(NameFault::Empty);
    }
    if text.len() > TEXT_MAX {
        return Err(NameFault::TooLong { bytes: text.len(), max: TEXT_MAX });
    }
    match text.bytes().position(|b| !b.is_ascii_graphic()) {
        Some(at) => Err(NameFault::NotVisibleAscii { at }),
        None => Ok(()),
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a text.
            ///
            /// # Errors
            /// [`InvalidName`] says what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                $check(text).map_err(|fault| InvalidName { what: $what, fault })?;
                Ok(Self(text.into()))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    };
}

text_type! {
    /// The shop's own identifier of a thing that is sold: 1-128 bytes of UTF-8 without control
    /// characters, without a space at either end, and not `.` or `..`.
    ///
    /// ```
    /// use stockhold_core::Sku;
    /// assert_eq!(Sku::new("TEE-RED-M")?.as_str(), "TEE-RED-M");
    /// assert!(Sku::new(" TEE").is_err());
    /// # Ok::<(), stockhold_core::InvalidName>(())
    /// ```
    Sku, "sku", check_name
}

text_type! {
    /// Where units lie; written like a [`Sku`]. A shop with one place says [`Location::default`].
    Location, "location", check_name
}

text_type! {
    /// Whom a hold belongs to, for example a cart; written like a [`Sku`].
    Owner, "owner", check_name
}

text_type! {
    /// What a mutual exclusion is called that is not about stock, for example `nightly-report`; written like
    /// a [`Sku`].
    LockName, "lock", check_name
}

text_type! {
    /// A shop's own mark on a hold or a receipt, for example an order number: up to 255 bytes
    /// without control characters.
    Reference, "reference", check_free_text
}

text_type! {
    /// Why something was done, for people: up to 255 bytes without control characters.
    Reason, "reason", check_free_text
}

text_type! {
    /// A client's own name for one request, so that it can be sent again: 1-255 visible ASCII
    /// characters.
    IdempotencyKey, "idempotency_key", check_key
}

impl Default for Location {
    fn default() -> Self {
        Self("default".into())
    }
}

/// One SKU at one location: what a stock item is found by.
///
/// ```
/// use stockhold_core::{ItemKey, Sku};
/// let mug = ItemKey::at_default(Sku::new("MUG")?);
/// assert_eq!(mug.to_string(), "MUG@default");
/// # Ok::<(), stockhold_core::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// What it is.
    pub sku: Sku,
    /// Where it lies.
    pub location: Location,
}

impl ItemKey {
    /// The item of this SKU at the location `default`.
    #[must_use]
    pub fn at_default(sku: Sku) -> Self {
        Self { sku, location: Location::default() }
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.sku, self.location)
    }
}

/// The number of a hold: a UUIDv7, chosen before the hold is written.
///
/// Ids of one process rise with time, so that new holds lie next to each other on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(Uuid);

impl HoldId {
    /// Takes an id that was chosen by the caller.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Reads the 16 bytes of [`HoldId::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the UUID, which sort as the ids do.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for HoldId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fault = InvalidName { what: "id", fault: NameFault::NotUuid };
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(fault);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> NameFault {
        Sku::new(text).unwrap_err().fault
    }

    #[test]
    fn names_say_what_is_wrong_with_them() {
        assert_eq!(fault(""), NameFault::Empty);
        assert_eq!(fault(&"x".repeat(129)), NameFault::TooLong { bytes: 129, max: 128 });
        assert_eq!(fault("a\u{7}b"), NameFault::Control { at: 1 });
        assert_eq!(fault("a "), NameFault::Padded);
        assert_eq!(fault(".."), NameFault::Dots);
        assert!(Sku::new("x".repeat(128)).is_ok());
        assert!(Sku::new("Größe 42 🧦").is_ok());
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(IdempotencyKey::new("8e03978e-40d5").is_ok());
        let spaced = IdempotencyKey::new("a b").unwrap_err();
        assert_eq!(spaced.fault, NameFault::NotVisibleAscii { at: 1 });
        assert!(IdempotencyKey::new("ü").is_err());
    }

    #[test]
    fn hold_ids_are_read_in_one_form_only() {
        let id: HoldId = "01927c1e-5f3a-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        assert_eq!(HoldId::from_bytes(id.to_bytes()), id);
        assert!("01927c1e5f3a7cc398c4dc0c0c07398f".parse::<HoldId>().is_err());
        assert!("{01927c1e-5f3a-7cc3-98c4-dc0c0c07398f}".parse::<HoldId>().is_err());
    }
}
