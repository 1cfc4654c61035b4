//! How much was moved: numbers for statistics, on which no rule depends.

use std::time::Duration;

use crate::{Line, Quantity, Step};

/// Units that were moved, by what happened to them. A sum that would overflow stays where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// By the steps in their order, and last those that were placed.
    units: [u64; 8],
    /// How long after its deadline a hold was expired; the longest, none if no hold was.
    pub lateness: Option<Duration>,
}

const PLACE: usize = 7;

impl Traffic {
    /// What happened (`place`, or the word of a step), and to how many units.
    pub fn units(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = Step::ALL.into_iter().map(Step::as_str).chain(["place"]);
        words.zip(self.units)
    }

    pub(crate) fn placed(&mut self, units: Quantity) {
        self.add(PLACE, Some(units));
    }

    pub(crate) fn expired(&mut self, lateness: Duration) {
        self.lateness = self.lateness.max(Some(lateness));
    }

    /// A confirm also releases what it does not name, so the line is looked at, not the step.
    pub(crate) fn stepped(&mut self, step: Step, before: &Line, after: &Line) {
        let confirm = if step == Step::Rehold { Step::Rehold } else { Step::Confirm };
        let counts = [
            (confirm, before.confirmed, after.confirmed),
            (Step::Release, before.released, after.released),
            (Step::Expire, before.expired, after.expired),
            (Step::Revoke, before.revoked, after.revoked),
            (Step::Ship, before.shipped, after.shipped),
            (Step::Cancel, before.cancelled, after.cancelled),
        ];
        for (step, before, after) in counts {
            self.add(step as usize, after.checked_sub(before).ok());
        }
    }

    fn add(&mut self, what: usize, units: Option<Quantity>) {
        let units = units.and_then(|units| u64::try_from(units.get()).ok()).unwrap_or(0);
        self.units[what] = self.units[what].saturating_add(units);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ItemKey, Sku};

    #[test]
    fn a_unit_is_counted_where_it_went() {
        let units = |n| Quantity::new(n).unwrap();
        let item = Arc::new(ItemKey::at_default(Sku::new("MUG").unwrap()));
        let held = Line::held(item, units(5));
        let expired = Line { held: units(0), expired: units(5), ..held.clone() };
        let reheld = Line { expired: units(2), confirmed: units(3), ..expired.clone() };
        let mut traffic = Traffic::default();
        traffic.placed(units(5));
        traffic.stepped(Step::Expire, &held, &expired);
        traffic.stepped(Step::Rehold, &expired, &reheld);
        let moved: Vec<_> = traffic.units().filter(|(_, units)| *units > 0).collect();
        assert_eq!(moved, [("rehold", 3), ("expire", 5), ("place", 5)]);
    }
}
