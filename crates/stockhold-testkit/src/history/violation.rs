//! What an honest shop cannot have answered.

use std::fmt;

use super::Fence;

/// A rule that was broken, and the numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each text below says what its fields are")]
pub enum Violation {
    LostConfirm { hold: String, answered_at: u64 },
    PhantomSale { hold: String },
    WrongSale { hold: String, item: String, answered: i64, sold: i64 },
    SoldTooMuch { item: String, sold: i64, supply: i64 },
    Oversold { item: String, at: u64, promised: i64, supply: i64, holds: Vec<String> },
    BrokenPromise { hold: String, code: String, asked_at: u64, lives_until: u64 },
    ChangedAnswer { key: String, first: String, second: String },
    KeyReused { key: String, at: u64 },
    KeyForgotten { key: String, at: u64 },
    SoldTwice { key: String, holds: Vec<String> },
    TwoEnds { hold: String, first: String, second: String },
    Leak { item: String, held: i64, live: i64 },
    NotSettled { item: String, held: i64, lent: i64 },
    DoesNotAddUp { item: String, what: &'static str, is: i64, expected: i64 },
    TwoHolders { lock: String, at: u64, fences: Vec<Fence> },
    FenceNotRising { lock: String, earlier: Fence, later: Fence, at: u64 },
}

impl Violation {
    /// The rule that was broken.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::LostConfirm { .. }
            | Self::PhantomSale { .. }
            | Self::WrongSale { .. }
            | Self::SoldTooMuch { .. } => "C1",
            Self::Oversold { .. } => "C2",
            Self::BrokenPromise { .. } => "C3",
            Self::ChangedAnswer { .. }
            | Self::KeyReused { .. }
            | Self::KeyForgotten { .. }
            | Self::SoldTwice { .. } => "C4",
            Self::TwoEnds { .. } => "C5",
            Self::Leak { .. } | Self::NotSettled { .. } | Self::DoesNotAddUp { .. } => "C6",
            Self::TwoHolders { .. } | Self::FenceNotRising { .. } => "C9",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule())?;
        match self {
            Self::LostConfirm { hold, answered_at } => {
                write!(f, "the confirm of {hold} was answered at {answered_at} ns and is lost")
            }
            Self::PhantomSale { hold } => write!(f, "{hold} is sold; nobody confirmed it"),
            Self::WrongSale { hold, item, answered, sold } => {
                write!(f, "{hold}: {answered} of {item} were confirmed, {sold} are sold")
            }
            Self::SoldTooMuch { item, sold, supply } => {
                write!(f, "{sold} of {item} are sold; there were {supply}")
            }
            Self::Oversold { item, at, promised, supply, holds } => {
                write!(f, "at {at} ns {promised} of {item} were promised; there were {supply}: ")?;
                write!(f, "{}", holds.join(", "))
            }
            Self::BrokenPromise { hold, code, asked_at, lives_until } => write!(
                f,
                "{hold} lives until {lives_until} ns; its confirm at {asked_at} ns got {code}"
            ),
            Self::ChangedAnswer { key, first, second } => {
                write!(f, "the key {key} was answered with {first} and with {second}")
            }
            Self::KeyReused { key, at } => {
                write!(f, "the key {key} came with another request at {at} ns, and was taken")
            }
            Self::KeyForgotten { key, at } => {
                write!(f, "the key {key} came with the same request at {at} ns, and was refused")
            }
            Self::SoldTwice { key, holds } => {
                write!(f, "the key {key} sold {}", holds.join(", "))
            }
            Self::TwoEnds { hold, first, second } => {
                write!(f, "{hold} was {first} and {second}")
            }
            Self::Leak { item, held, live } => {
                write!(f, "{held} of {item} are held, {live} by holds that live")
            }
            Self::NotSettled { item, held, lent } => {
                write!(f, "{held} of {item} are still held, {lent} lent")
            }
            Self::DoesNotAddUp { item, what, is, expected } => {
                write!(f, "{item}: {what} is {is} and should be {expected}")
            }
            Self::TwoHolders { lock, at, fences } => {
                write!(f, "at {at} ns {lock} was held with the fences {fences:?}")
            }
            Self::FenceNotRising { lock, earlier, later, at } => {
                write!(f, "{lock}: {later:?} at {at} ns came after {earlier:?}")
            }
        }
    }
}
