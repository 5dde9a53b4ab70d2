// SPDX-License-Identifier: GPL-2.0-only

//! Counters, named by their offset in the control BAR ([`vadreno_ctl::counter`]).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vadreno_ctl::counter::{BASE, COUNT, NAMES};

/// What the device has done since start or since the last reset of the counters.
#[derive(Debug)]
pub struct Counters([AtomicU64; COUNT]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    fn slot(&self, offset: usize) -> Option<&AtomicU64> {
        self.0.get(offset.checked_sub(BASE)? / 8)
    }

    /// Adds one to the counter at `offset` of the control BAR.
    pub fn bump(&self, offset: usize) {
        self.add(offset, 1);
    }

    /// Adds `count` to the counter at `offset` of the control BAR.
    pub fn add(&self, offset: usize, count: u64) {
        if let Some(counter) = self.slot(offset) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// The counter at `offset` of the control BAR; `None` when there is none.
    pub fn get(&self, offset: usize) -> Option<u64> {
        self.slot(offset).map(|counter| counter.load(Relaxed))
    }

    /// All counters become 0.
    pub fn reset(&self) {
        for counter in &self.0 {
            counter.store(0, Relaxed);
        }
    }

    /// All counters by name, in the order of their offsets.
    pub fn to_json(&self) -> serde_json::Value {
        NAMES
            .iter()
            .zip(&self.0)
            .map(|(name, counter)| (name.to_string(), counter.load(Relaxed).into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vadreno_ctl::counter;

    #[test]
    fn counted_by_offset_and_named() {
        let counters = Counters::default();
        counters.bump(counter::WALKS);
        counters.bump(counter::WALKS);
        counters.bump(counter::BASE + 8 * COUNT);
        counters.bump(0);
        assert_eq!(counters.get(counter::WALKS), Some(2));
        assert_eq!(counters.get(counter::BASE + 8 * COUNT), None);
        assert_eq!(counters.to_json()["walks"], 2);
        counters.reset();
        assert_eq!(counters.to_json()["walks"], 0);
    }
}
