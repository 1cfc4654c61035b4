//! The items of holds, remembered: a hold's lines never change, so what is known of them once is
//! known for good, and need not be looked up before they are locked.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stockhold_core::HoldId;

use super::rows::ItemNumber;

/// Holds of one generation; two are kept.
const MOST: usize = 100_000;

/// Items by hold: those that were noted last.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<HoldId, Box<[ItemNumber]>>,
    old: HashMap<HoldId, Box<[ItemNumber]>>,
}

impl Lines {
    pub(super) fn note(&self, holds: impl Iterator<Item = (HoldId, Box<[ItemNumber]>)>) {
        let mut generations = self.generations();
        for (id, items) in holds {
            if generations.young.len() >= MOST {
                generations.old = std::mem::take(&mut generations.young);
            }
            generations.young.insert(id, items);
        }
    }

    /// The items of those that are known; the others.
    pub(super) fn find(
        &self,
        holds: impl Iterator<Item = HoldId>,
    ) -> (Vec<(HoldId, Vec<ItemNumber>)>, Vec<HoldId>) {
        let generations = self.generations();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in holds {
            match generations.young.get(&id).or_else(|| generations.old.get(&id)) {
                Some(items) => known.push((id, items.to_vec())),
                None => unknown.push(id),
            }
        }
        (known, unknown)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> HoldId {
        HoldId::from_bytes(u128::from(n).to_be_bytes())
    }

    #[test]
    fn what_was_noted_last_is_known_and_the_memory_is_bounded() {
        let lines = Lines::default();
        let many = u32::try_from(3 * MOST).unwrap();
        for n in 0..many {
            lines.note([(id(n), Box::from([i64::from(n)]))].into_iter());
        }
        let (known, unknown) = lines.find([id(0), id(many - 1), id(many)].into_iter());
        assert_eq!(known, [(id(many - 1), vec![i64::from(many - 1)])]);
        assert_eq!(unknown, [id(0), id(many)]);
        let generations = lines.generations();
        assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
    }
}
