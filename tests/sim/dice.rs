//! The one source of chance of a run.

/// A seeded generator (SplitMix64, which is cheap even without optimization) with the few questions
/// the simulation asks.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed);
        // Neighbouring seeds go apart.
        dice.0 = dice.seed();
        dice
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.seed() % (high - low + 1)
    }

    /// A place in a list of `len`, which must not be empty.
    pub fn below(&mut self, len: usize) -> usize {
        (self.seed() % len as u64) as usize
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, times: u64) -> bool {
        self.seed() % 1_000 < times
    }

    /// True half the time.
    pub fn flip(&mut self) -> bool {
        self.permille(500)
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.seed() as u8).collect()
    }

    pub fn seed(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
