//! Units of stock: integers that never wrap.

use std::fmt;

/// A number of units in the SKU's smallest unit, from `-(2^53 - 1)` to `2^53 - 1`, so that every
/// JSON reader can hold it.
///
/// ```
/// use stockhold_core::Quantity;
/// let three = Quantity::new(3)?;
/// assert_eq!(three.checked_add(Quantity::new(4)?)?, Quantity::new(7)?);
/// assert!(Quantity::MAX.checked_add(three).is_err());
/// # Ok::<(), stockhold_core::OutOfRange>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

/// A quantity would lie outside of what can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quantity would leave the range of -(2^53 - 1) to 2^53 - 1")]
pub struct OutOfRange;

impl Quantity {
    /// No units.
    pub const ZERO: Self = Self(0);
    /// One unit.
    pub const ONE: Self = Self(1);
    /// The largest quantity, `2^53 - 1`.
    pub const MAX: Self = Self(9_007_199_254_740_991);
    /// The smallest quantity, `-(2^53 - 1)`.
    pub const MIN: Self = Self(-9_007_199_254_740_991);

    /// Takes a number of units.
    ///
    /// # Errors
    /// [`OutOfRange`] beyond [`Quantity::MIN`] and [`Quantity::MAX`].
    pub const fn new(units: i64) -> Result<Self, OutOfRange> {
        if units < Self::MIN.0 || units > Self::MAX.0 { Err(OutOfRange) } else { Ok(Self(units)) }
    }

    /// The number of units.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`OutOfRange`] if it cannot be said.
    pub fn checked_add(self, other: Self) -> Result<Self, OutOfRange> {
        self.0.checked_add(other.0).ok_or(OutOfRange).and_then(Self::new)
    }

    /// The difference.
    ///
    /// # Errors
    /// [`OutOfRange`] if it cannot be said.
    pub fn checked_sub(self, other: Self) -> Result<Self, OutOfRange> {
        self.0.checked_sub(other.0).ok_or(OutOfRange).and_then(Self::new)
    }

    /// Whether it is one unit or more.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_range_are_refused_not_wrapped() {
        assert_eq!(Quantity::MAX.checked_add(Quantity::ONE), Err(OutOfRange));
        assert_eq!(Quantity::MIN.checked_sub(Quantity::ONE), Err(OutOfRange));
        assert_eq!(Quantity::new(i64::MAX), Err(OutOfRange));
        assert_eq!(Quantity::new(i64::MIN), Err(OutOfRange));
    }
}
