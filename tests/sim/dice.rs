//! The one source of chance of a run.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A seeded generator with the few questions the simulation asks.
pub struct Dice(StdRng);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(StdRng::seed_from_u64(seed))
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// A place in a list of `len`, which must not be empty.
    pub fn below(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, times: u64) -> bool {
        self.0.random_range(0..1000u64) < times
    }

    /// True half the time.
    pub fn flip(&mut self) -> bool {
        self.permille(500)
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.0.random()).collect()
    }

    pub fn seed(&mut self) -> u64 {
        self.0.random()
    }
}
