// SPDX-License-Identifier: GPL-2.0-only

//! Random choices that a seed makes repeatable.

use rand::{rngs::SmallRng, Rng, SeedableRng};
use std::sync::{Mutex, PoisonError};

/// The device's random generator.
#[derive(Debug)]
pub struct Chance(Mutex<State>);

#[derive(Debug)]
struct State {
    seed: u64,
    rng: SmallRng,
}

impl Chance {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            seed,
            rng: SmallRng::seed_from_u64(seed),
        }))
    }

    /// Starts again from `seed`.
    pub fn reseed(&self, seed: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State {
            seed,
            rng: SmallRng::seed_from_u64(seed),
        };
    }

    /// The seed last started from.
    pub fn seed(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seed
    }

    /// A number from `least` to `greatest`; `least` when the range is empty.
    pub fn between(&self, least: u64, greatest: u64) -> u64 {
        if greatest <= least {
            return least;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rng.random_range(least..=greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_repeats() {
        let chance = Chance::new(7);
        let first: Vec<u64> = (0..16).map(|_| chance.between(0, 999)).collect();
        chance.reseed(7);
        let again: Vec<u64> = (0..16).map(|_| chance.between(0, 999)).collect();
        assert_eq!(first, again);
        assert_eq!(chance.between(5, 5), 5);
        assert_eq!(chance.between(5, 1), 5);
    }
}
