//! Invalidations that Redis does not know of yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::shelf::Name;

/// So many are remembered one by one; if there are more, everything is invalidated.
const MOST: usize = 100_000;

/// How far an invalidation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// No process is given the old value by Redis any more.
    Applied,
    /// This process serves it no more. Redis cannot be reached; it is told as soon as it can. Until then
    /// other processes may serve what they have, with its age.
    Queued,
    /// The same; and so many are queued that everything will be invalidated instead.
    Everything,
}

/// What Redis is still to be told.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    owed: Mutex<Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    floors: HashMap<Name, u64>,
    everything: bool,
    /// Counts what was added, so that what is added while it is worked off is not lost.
    added: u64,
}

/// What is to be told next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owing {
    /// Of these, what is below the version is old.
    Some(Vec<(Name, u64)>),
    /// Everything, up to what was added then.
    Everything(u64),
}

impl Owing {
    pub(super) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Some(floors) if floors.is_empty())
    }
}

impl Backlog {
    pub(super) fn add(&self, name: &Name, floor: u64) -> Invalidated {
        let mut owed = self.owed();
        owed.added = owed.added.saturating_add(1);
        if owed.everything || owed.floors.len() >= MOST && !owed.floors.contains_key(name) {
            owed.everything = true;
            owed.floors.clear();
            return Invalidated::Everything;
        }
        let known = owed.floors.entry(Name::clone(name)).or_default();
        *known = floor.max(*known);
        Invalidated::Queued
    }

    /// Whether what Redis has under this name is known to be old.
    pub(super) fn covers(&self, name: &[u8]) -> bool {
        let owed = self.owed();
        owed.everything || owed.floors.contains_key(name)
    }

    /// Up to so many.
    pub(super) fn next(&self, most: usize) -> Owing {
        let owed = self.owed();
        if owed.everything {
            return Owing::Everything(owed.added);
        }
        let floors = owed.floors.iter().take(most);
        Owing::Some(floors.map(|(name, floor)| (Name::clone(name), *floor)).collect())
    }

    /// Redis knows it now.
    pub(super) fn done(&self, told: &Owing) {
        let mut owed = self.owed();
        match told {
            Owing::Some(floors) => {
                for (name, floor) in floors {
                    if owed.floors.get(name) == Some(floor) {
                        owed.floors.remove(name);
                    }
                }
            }
            Owing::Everything(added) => owed.everything = owed.added != *added,
        }
    }

    /// How many are remembered one by one.
    pub(super) fn len(&self) -> usize {
        self.owed().floors.len()
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from(text.as_bytes())
    }

    #[test]
    fn what_is_owed_is_known_to_be_old_until_redis_is_told() {
        let backlog = Backlog::default();
        assert!(backlog.next(9).is_nothing());
        assert_eq!(backlog.add(&name("MUG"), 7), Invalidated::Queued);
        assert!(backlog.covers(b"MUG") && !backlog.covers(b"HAT"));
        let next = backlog.next(9);
        assert_eq!(next, Owing::Some(vec![(name("MUG"), 7)]));
        backlog.done(&next);
        assert!(!backlog.covers(b"MUG"));
    }

    #[test]
    fn what_is_added_while_redis_is_told_is_told_as_well() {
        let backlog = Backlog::default();
        backlog.add(&name("MUG"), 7);
        let next = backlog.next(9);
        backlog.add(&name("MUG"), 9);
        backlog.add(&name("MUG"), 8);
        backlog.done(&next);
        assert_eq!(backlog.next(9), Owing::Some(vec![(name("MUG"), 9)]));
    }

    #[test]
    fn redis_is_told_piece_by_piece() {
        let backlog = Backlog::default();
        for n in 0..10 {
            backlog.add(&name(&n.to_string()), 1);
        }
        for left in [7, 4, 1, 0] {
            backlog.done(&backlog.next(3));
            assert_eq!(backlog.len(), left);
        }
    }

    #[test]
    fn more_than_can_be_remembered_is_everything() {
        let backlog = Backlog::default();
        for n in 0..MOST {
            assert_eq!(backlog.add(&name(&n.to_string()), 1), Invalidated::Queued);
        }
        assert_eq!(backlog.add(&name("0"), 2), Invalidated::Queued);
        assert_eq!(backlog.add(&name("one more"), 1), Invalidated::Everything);
        assert!(backlog.covers(b"whatever"));
        let next = backlog.next(9);
        backlog.add(&name("meanwhile"), 1);
        backlog.done(&next);
        assert!(backlog.covers(b"whatever"));
        backlog.done(&backlog.next(9));
        assert!(!backlog.covers(b"whatever"));
    }
}
