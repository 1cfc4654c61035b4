//! Holds that were placed here, remembered as they were.
//!
//! The lines of a hold never change, so what is known of them once is known for good, and need not be
//! looked up before they are locked. A whole hold need not be read to expire it: for as long as it is
//! active, and has its deadline, it is as it was placed, and its rows in `active` are there. Whoever
//! removes them counts them, and so finds out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stockhold_core::{Hold, HoldId, Timestamp};

use super::{recent::Recent, rows::ItemNumber};

/// The holds that were noted last. One takes about 350 bytes.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Recent<HoldId, Noted>>);

/// What is known of a hold.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) items: Box<[ItemNumber]>,
    /// As it was placed, or last given more time.
    pub(super) hold: Arc<Hold>,
}

impl Lines {
    pub(super) fn note(&self, holds: impl Iterator<Item = Noted>) {
        let mut recent = self.recent();
        holds.for_each(|noted| recent.insert(noted.hold.id, noted));
    }

    /// Those that are known; the others.
    pub(super) fn find(&self, holds: impl Iterator<Item = HoldId>) -> (Vec<Noted>, Vec<HoldId>) {
        let recent = self.recent();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in holds {
            match recent.get(&id) {
                Some(noted) => known.push(noted.clone()),
                None => unknown.push(id),
            }
        }
        (known, unknown)
    }

    /// The hold has this deadline: another instance may have given it more time.
    pub(super) fn check(&self, id: HoldId, deadline: Timestamp) {
        let mut recent = self.recent();
        if recent.get(&id).is_some_and(|noted| noted.hold.deadline != deadline) {
            recent.remove(&id);
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent<HoldId, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_hold_with_another_deadline_is_forgotten() {
        let lines = Lines::default();
        lines.note([noted(1), noted(2)].into_iter());
        lines.check(id(1), Timestamp::from_millis(30_000));
        lines.check(id(2), Timestamp::from_millis(30_001));
        let (known, unknown) = lines.find([id(1), id(2)].into_iter());
        assert_eq!((known.len(), unknown), (1, vec![id(2)]));
    }
}
