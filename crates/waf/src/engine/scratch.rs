//! What a thread keeps between transactions: the caches of patterns, and buffers.

use regex_automata::meta::Cache;

use super::sum::Sum;
use super::texts::Buffers;
use crate::compile::Program;
use crate::operator::Pattern;

/// What a transaction borrows while it runs; as many exist as transactions have run at once.
#[derive(Debug, Default)]
pub struct Scratch {
    caches: Vec<Option<Box<Cache>>>,
    pub(super) buffers: Buffers,
    pub(super) sums: Vec<Sum>,
    used: u32,
    /// What is built for values while a rule runs.
    pub(super) value: Vec<u8>,
}

/// How many wait for the next transaction.
const SPARE: usize = 64;
/// What the caches of one may hold together.
const CACHE_BYTES: usize = 16 << 20;

impl Scratch {
    pub(super) fn cache(&mut self, pattern: &Pattern, number: u32) -> &mut Cache {
        let number = number as usize;
        if self.caches.len() <= number {
            self.caches.resize_with(number + 1, || None);
        }
        self.caches[number].get_or_insert_with(|| Box::new(pattern.cache()))
    }

    fn cache_bytes(&self) -> usize {
        self.caches
            .iter()
            .flatten()
            .map(|cache| cache.memory_usage())
            .sum()
    }
}

impl Program {
    pub(super) fn take_scratch(&self) -> Scratch {
        let mut spare = self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        spare.pop().unwrap_or_default()
    }

    pub(super) fn give_scratch(&self, mut scratch: Scratch) {
        scratch.used = scratch.used.wrapping_add(1);
        // Adding it all up costs some microseconds, so it is done now and then; one transaction adds little.
        if scratch.used.is_multiple_of(256) && scratch.cache_bytes() > CACHE_BYTES {
            scratch.caches.clear();
        }
        let mut spare = self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if spare.len() < SPARE {
            spare.push(scratch);
        }
    }

    /// What the scratches that wait hold, in bytes: caches grow with the traffic, up to a bound for each.
    pub fn scratch_bytes(&self) -> usize {
        let spare = self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        spare.iter().map(|scratch| scratch.cache_bytes()).sum()
    }
}
