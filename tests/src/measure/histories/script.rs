//! What a session asks for, by chance.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::linear::{Condition, Datum, Write};

/// Colours of values; few, so that conditions on them fit several.
const COLOURS: u8 = 3;
/// The longest a write that may stop waiting waits, in milliseconds.
const WATCH_MAX_MS: u64 = 20;

/// What to do next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Reads.
    Get,
    /// Writes; the second is the time it may wait.
    Write(Write, Option<u64>),
    /// Ends the session.
    End(Farewell),
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// GOODBYE, and waiting for the echo.
    Polite,
    /// The socket is closed.
    Cut,
}

/// Chance.
pub struct Dice {
    rng: StdRng,
    /// Numbers of values come from here, each once in a history.
    next_number: u64,
    stride: u64,
}

impl Dice {
    /// The dice of client `who` of `of`.
    pub fn new(seed: u64, who: u64, of: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed ^ who << 48),
            next_number: who + 1,
            stride: of,
        }
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    fn datum(&mut self) -> Datum {
        let number = self.next_number;
        self.next_number += self.stride;
        Datum {
            number,
            colour: self.rng.random_range(0..COLOURS),
        }
    }

    fn condition(&mut self, likely: u64) -> Condition {
        match self.below(10) {
            0..=3 => Condition::Absent,
            4..=6 => Condition::Number(likely),
            7..=8 => Condition::Colour(self.rng.random_range(0..COLOURS)),
            _ => Condition::Present,
        }
    }

    fn will(&mut self) -> Option<Option<Datum>> {
        let leaves_a_value = self.percent(40);
        Some(leaves_a_value.then(|| self.datum()))
    }

    /// The next step; `likely` is the number the key's value has had lately.
    pub fn step(&mut self, likely: u64) -> Step {
        let mut write = Write {
            value: None,
            when: None,
            watch: false,
            timed: false,
            will: None,
        };
        match self.below(100) {
            0..=24 => return Step::Get,
            25..=36 => write.value = Some(self.datum()),
            37..=44 => {
                write.value = Some(self.datum());
                write.will = self.will();
            }
            45..=64 => {
                write.value = Some(self.datum());
                write.when = Some(self.condition(likely));
                if self.percent(30) {
                    write.will = self.will();
                }
            }
            65..=73 => {}
            74..=77 => write.when = Some(self.condition(likely)),
            78..=87 => {
                write.value = Some(self.datum());
                write.when = Some(Condition::Absent);
                write.will = Some(None);
                write.watch = true;
            }
            88..=95 => {
                write.value = self.percent(85).then(|| self.datum());
                write.when = Some(self.condition(likely));
                write.watch = true;
                write.timed = self.percent(35);
            }
            96..=97 => return Step::End(Farewell::Polite),
            _ => return Step::End(Farewell::Cut),
        }
        let wait = write.timed.then(|| self.rng.random_range(1..=WATCH_MAX_MS));
        Step::Write(write, wait)
    }
}
