//! The numbers of stock items, remembered by name: an item keeps its number for good, so it need not be
//! looked up by its name each time. Whoever has locked the rows sees whether they are the right ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stockhold_core::ItemKey;

use super::{recent::Recent, rows::ItemNumber};

/// The items that were met last.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<Recent<Arc<ItemKey>, ItemNumber>>);

impl Numbers {
    pub(super) fn note<'a>(&self, items: impl Iterator<Item = (&'a Arc<ItemKey>, &'a ItemNumber)>) {
        let mut recent = self.recent();
        for (key, number) in items {
            recent.insert(Arc::clone(key), *number);
        }
    }

    /// Those that are known.
    pub(super) fn find<'a>(
        &self,
        keys: impl Iterator<Item = &'a Arc<ItemKey>>,
    ) -> Vec<(Arc<ItemKey>, ItemNumber)> {
        let recent = self.recent();
        keys.filter_map(|key| Some((Arc::clone(key), *recent.get(key)?))).collect()
    }

    /// Somebody has removed them by hand, or another database has taken over.
    pub(super) fn forget<'a>(&self, keys: impl Iterator<Item = &'a Arc<ItemKey>>) {
        let mut recent = self.recent();
        keys.for_each(|key| recent.remove(key));
    }

    fn recent(&self) -> MutexGuard<'_, Recent<Arc<ItemKey>, ItemNumber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
