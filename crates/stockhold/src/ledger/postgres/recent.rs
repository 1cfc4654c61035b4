//! A bounded memory of what was met last.

use std::{collections::HashMap, hash::Hash};

/// Values of one generation; two are kept.
const MOST: usize = 100_000;

/// The last 100,000 to 200,000 values, by key.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_last_is_known_and_the_memory_is_bounded() {
        let mut recent = Recent::default();
        for n in 0..3 * MOST {
            recent.insert(n, n);
        }
        assert_eq!((recent.get(&0), recent.get(&(3 * MOST - 1))), (None, Some(&(3 * MOST - 1))));
        assert!(recent.young.len() + recent.old.len() <= 2 * MOST);
    }

    #[test]
    fn what_is_removed_is_forgotten_by_both_generations() {
        let mut recent = Recent::default();
        recent.insert(0, "old");
        for n in 1..=MOST {
            recent.insert(n, "filler");
        }
        recent.insert(0, "young");
        recent.remove(&0);
        assert_eq!(recent.get(&0), None);
    }
}
