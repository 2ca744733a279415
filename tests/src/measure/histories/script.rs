//! What a session asks for, by chance.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::linear::{Condition, Datum, Order, Wait, Wish, Write};

/// Colours of values; few, so that conditions on them fit several.
const COLOURS: u8 = 3;
/// The longest that is waited for something that may stop waiting, in milliseconds.
const WAIT_MAX_MS: u64 = 20;
/// How long a hold lasts that ends by itself, in milliseconds.
const LEASE_MS: std::ops::RangeInclusive<u64> = 5..=40;
/// Permits of a key.
const LIMIT: u64 = 3;

/// What to do next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Reads.
    Get,
    /// Reads all keys.
    List,
    /// Writes; the second is the time it may wait.
    Write(Write, Option<u64>),
    /// The same by call.
    Put(Write, Option<u64>),
    /// Writes over the token it saw last, or over another one.
    Cas(Option<Datum>, Expects),
    /// Deletes.
    Delete(Option<Expects>),
    /// Watches.
    Watch {
        /// From which token on.
        after: Option<Expects>,
        /// Every change.
        progressive: bool,
        /// The time it may wait.
        wait: Option<u64>,
    },
    /// Cancels a watch.
    Cancel,
    /// Asks for a hold; how long it may wait for it, and how long it lasts.
    Acquire(Order, Option<u64>, Option<u64>),
    /// Gives a hold up, or one that is over already.
    Release,
    /// Lets a hold go on, for so long.
    Renew(Option<u64>),
    /// Looks at who holds a key.
    Inspect,
    /// Ends the session.
    End(Farewell),
}

/// Which token is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// The one that somebody saw lately.
    Lately,
    /// An absent key.
    Absent,
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

    fn expects(&mut self) -> Expects {
        match self.percent(75) {
            true => Expects::Lately,
            false => Expects::Absent,
        }
    }

    fn wait(&mut self) -> u64 {
        self.rng.random_range(1..=WAIT_MAX_MS)
    }

    fn lease(&mut self, percent: u32) -> Option<u64> {
        let is_leased = self.percent(percent);
        is_leased.then(|| self.rng.random_range(LEASE_MS))
    }

    /// The next step; `likely` is the number the key's value has had lately.
    pub fn step(&mut self, likely: u64) -> Step {
        match self.below(100) {
            0..=9 => Step::Get,
            10..=13 => Step::List,
            14..=48 => self.write(likely),
            49..=54 => {
                let deletes = self.percent(20);
                let value = (!deletes).then(|| self.datum());
                Step::Cas(value, self.expects())
            }
            55..=58 => {
                let is_sure = self.percent(40);
                Step::Delete((!is_sure).then(|| self.expects()))
            }
            59..=64 => self.watch(),
            65..=66 => Step::Cancel,
            67..=80 => self.acquire(),
            81..=90 => Step::Release,
            91..=92 => Step::Renew(self.lease(50)),
            93..=96 => Step::Inspect,
            97..=98 => Step::End(Farewell::Polite),
            _ => Step::End(Farewell::Cut),
        }
    }

    fn write(&mut self, likely: u64) -> Step {
        let mut write = Write::plain(None);
        match self.below(72) {
            0..=11 => write.value = Some(self.datum()),
            12..=19 => {
                write.value = Some(self.datum());
                write.will = self.will();
            }
            20..=38 => {
                write.value = Some(self.datum());
                write.when = Some(self.condition(likely));
                if self.percent(30) {
                    write.will = self.will();
                }
            }
            39..=49 => {}
            50..=53 => write.when = Some(self.condition(likely)),
            54..=63 => {
                write.value = Some(self.datum());
                write.when = Some(Condition::Absent);
                write.will = Some(None);
                write.watch = true;
            }
            _ => {
                write.value = self.percent(85).then(|| self.datum());
                write.when = Some(self.condition(likely));
                write.watch = true;
                write.timed = self.percent(35);
            }
        }
        let wait = write.timed.then(|| self.wait());
        match self.percent(25) {
            true => Step::Put(write, wait),
            false => Step::Write(write, wait),
        }
    }

    fn watch(&mut self) -> Step {
        let has_token = self.percent(60);
        let is_timed = self.percent(30);
        Step::Watch {
            after: has_token.then(|| self.expects()),
            progressive: self.percent(60),
            wait: is_timed.then(|| self.wait()),
        }
    }

    fn acquire(&mut self) -> Step {
        let wish = match self.below(10) {
            0..=5 => Wish::Alone,
            6..=7 => Wish::Shared,
            _ => Wish::Permits {
                take: self.rng.random_range(1..LIMIT),
                limit: LIMIT,
            },
        };
        let wait = match self.below(10) {
            0..=2 => Wait::No,
            3..=5 => Wait::Timed,
            _ => Wait::Endless,
        };
        let ttl = self.lease(20);
        let order = Order {
            wish,
            wait,
            leased: ttl.is_some(),
            reentrant: self.percent(20),
            data: self.datum(),
        };
        let wait = (wait == Wait::Timed).then(|| self.wait());
        Step::Acquire(order, wait, ttl)
    }
}
