//! A bounded map of two generations: what is asked for stays, what is not is forgotten with its generation.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    max_weight: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Bounded<K, V> {
    /// Holds at most `max_weight`.
    pub(super) fn new(max_weight: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_weight: 0,
            max_weight,
        }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// What weighs more than half of all is not kept.
    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        let half = self.max_weight / 2;
        self.old.remove(&key);
        if let Some((_, old)) = self.young.remove(&key) {
            self.young_weight -= old;
        }
        if weight > half {
            return;
        }
        if self.young_weight + weight > half {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young.insert(key, (value, weight));
        self.young_weight += weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may_and_never_lies(steps in proptest::collection::vec((0_u8..20, 0_usize..9), 0..300)) {
            let mut map = Bounded::new(16);
            let mut last = HashMap::new();
            for (key, weight) in steps {
                if weight == 0 {
                    if let Some(value) = map.get(&key) {
                        prop_assert_eq!(Some(&value), last.get(&key));
                    }
                } else {
                    let value = (key, weight);
                    last.insert(key, value);
                    map.insert(key, value, weight);
                }
                let held: usize = map.young.values().chain(map.old.values()).map(|(_, weight)| weight).sum();
                prop_assert!(held <= 16, "{}", held);
            }
        }
    }
}
