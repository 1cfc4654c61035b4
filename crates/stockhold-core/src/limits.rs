//! How long, how many, how much: the bounds that a shop sets.

use std::time::Duration;

use crate::{Quantity, Ttl};

/// The bounds of what may be asked. [`Limits::default`] fits most shops; a wider one is possible
/// up to the hard limits, which [`Limits::check`] enforces.
///
/// ```
/// use std::time::Duration;
/// use stockhold_core::{Limits, Ttl};
/// let limits = Limits::default();
/// assert_eq!(limits.clamp(None), Duration::from_secs(30));
/// assert_eq!(limits.clamp(Ttl::from_millis(1)), Duration::from_millis(100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The life of a hold that asks for none: 30 s.
    pub default_ttl: Duration,
    /// The shortest life: 100 ms.
    pub min_ttl: Duration,
    /// The longest life by one place or extend: 15 min, at most 7 days.
    pub max_ttl: Duration,
    /// The longest life over all extends: 15 min, at most 7 days.
    pub max_lifetime: Duration,
    /// Lines of a basket, after the same item was summed: 100, at most 1,000.
    pub max_lines: usize,
    /// Units of a line, after the same item was summed: 1,000,000, at most 10^9.
    pub max_quantity: Quantity,
}

/// A limit that cannot be set as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {rule}")]
pub struct InvalidLimit {
    /// The field.
    pub name: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

const SEVEN_DAYS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MOST_LINES: usize = 1_000;
const MOST_UNITS: i64 = 1_000_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            default_ttl: Duration::from_secs(30),
            min_ttl: Duration::from_millis(100),
            max_ttl: Duration::from_secs(15 * 60),
            max_lifetime: Duration::from_secs(15 * 60),
            max_lines: 100,
            max_quantity: Quantity::new(1_000_000).unwrap_or(Quantity::MAX),
        }
    }
}

impl Limits {
    /// Checks the limits against each other and against the hard limits.
    ///
    /// # Errors
    /// [`InvalidLimit`] names the first that is wrong.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let wrong = |name, rule| Err(InvalidLimit { name, rule });
        if self.min_ttl < Duration::from_millis(1) {
            return wrong("min_ttl", "at least 1 ms");
        }
        if self.max_ttl < self.min_ttl || self.max_ttl > SEVEN_DAYS {
            return wrong("max_ttl", "between min_ttl and 7 days");
        }
        if self.default_ttl < self.min_ttl || self.default_ttl > self.max_ttl {
            return wrong("default_ttl", "between min_ttl and max_ttl");
        }
        if self.max_lifetime < self.max_ttl || self.max_lifetime > SEVEN_DAYS {
            return wrong("max_lifetime", "between max_ttl and 7 days");
        }
        if self.max_lines == 0 || self.max_lines > MOST_LINES {
            return wrong("max_lines", "from 1 to 1,000");
        }
        if !self.max_quantity.is_positive() || self.max_quantity.get() > MOST_UNITS {
            return wrong("max_quantity", "from 1 to 10^9");
        }
        Ok(())
    }

    /// The life that is granted to who asks for `ttl`: within `min_ttl` and `max_ttl`.
    #[must_use]
    pub fn clamp(&self, ttl: Option<Ttl>) -> Duration {
        ttl.map_or(self.default_ttl, |ttl| ttl.duration().clamp(self.min_ttl, self.max_ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn hard_limits_cannot_be_passed() {
        let days = Limits { max_lifetime: SEVEN_DAYS.saturating_mul(2), ..Limits::default() };
        assert_eq!(days.check().unwrap_err().name, "max_lifetime");
        let lines = Limits { max_lines: 1_001, ..Limits::default() };
        assert_eq!(lines.check().unwrap_err().name, "max_lines");
    }
}
