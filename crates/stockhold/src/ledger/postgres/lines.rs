//! Holds that were placed here, remembered as they were.
//!
//! The lines of a hold never change, so what is known of them once is known for good, and need not be
//! looked up before they are locked. A whole hold need not be read to expire it: for as long as it is
//! active, and has its deadline, it is as it was placed, and its rows in `active` are there. Whoever
//! removes them counts them, and so finds out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockhold_core::{Hold, HoldId, Timestamp};

use super::rows::ItemNumber;

/// Holds of one generation; two are kept. One takes about 350 bytes.
const MOST: usize = 100_000;

/// The holds that were noted last.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<HoldId, Noted>,
    old: HashMap<HoldId, Noted>,
}

/// What is known of a hold.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) items: Box<[ItemNumber]>,
    /// As it was placed, or last given more time.
    pub(super) hold: Arc<Hold>,
}

impl Lines {
    pub(super) fn note(&self, holds: impl Iterator<Item = Noted>) {
        let mut generations = self.generations();
        for noted in holds {
            if generations.young.len() >= MOST {
                generations.old = std::mem::take(&mut generations.young);
            }
            generations.young.insert(noted.hold.id, noted);
        }
    }

    /// Those that are known; the others.
    pub(super) fn find(&self, holds: impl Iterator<Item = HoldId>) -> (Vec<Noted>, Vec<HoldId>) {
        let generations = self.generations();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in holds {
            match generations.get(id) {
                Some(noted) => known.push(noted.clone()),
                None => unknown.push(id),
            }
        }
        (known, unknown)
    }

    /// The hold has this deadline: another instance may have given it more time.
    pub(super) fn check(&self, id: HoldId, deadline: Timestamp) {
        let mut generations = self.generations();
        if generations.get(id).is_some_and(|noted| noted.hold.deadline != deadline) {
            generations.young.remove(&id);
            generations.old.remove(&id);
        }
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn get(&self, id: HoldId) -> Option<&Noted> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }
}

#[cfg(test)]
mod tests {
    use stockhold_core::HoldState;

    use super::*;

    fn id(n: u32) -> HoldId {
        HoldId::from_bytes(u128::from(n).to_be_bytes())
    }

    fn noted(n: u32) -> Noted {
        let hold = Hold {
            id: id(n),
            owner: "ann".parse().unwrap(),
            reference: None,
            state: HoldState::Active,
            created_at: Timestamp::from_millis(0),
            deadline: Timestamp::from_millis(30_000),
            max_deadline: Timestamp::from_millis(900_000),
            lines: Vec::new(),
            steps: 0,
            replaced_by: None,
        };
        Noted { items: Box::from([i64::from(n)]), hold: Arc::new(hold) }
    }

    #[test]
    fn what_was_noted_last_is_known_and_the_memory_is_bounded() {
        let lines = Lines::default();
        let many = u32::try_from(3 * MOST).unwrap();
        for n in 0..many {
            lines.note([noted(n)].into_iter());
        }
        let (known, unknown) = lines.find([id(0), id(many - 1), id(many)].into_iter());
        let known: Vec<_> = known.iter().map(|noted| noted.hold.id).collect();
        assert_eq!(known, [id(many - 1)]);
        assert_eq!(unknown, [id(0), id(many)]);
        let generations = lines.generations();
        assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
    }

    #[test]
    fn a_hold_with_another_deadline_is_forgotten() {
        let lines = Lines::default();
        lines.note([noted(1), noted(2)].into_iter());
        lines.check(id(1), Timestamp::from_millis(30_000));
        lines.check(id(2), Timestamp::from_millis(30_001));
        let (known, unknown) = lines.find([id(1), id(2)].into_iter());
        assert_eq!((known.len(), unknown), (1, vec![id(2)]));
    }
}
