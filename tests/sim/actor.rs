//! What takes part in a run from outside, and what it sees of the world.

use crate::dice::Dice;
use crate::ledger::{ActorId, Ledger};
use crate::net::{LinkId, Net};

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work and faults.
    Chaos,
    /// No faults, no new work: what was begun comes to its end.
    Settle,
    /// Everybody says goodbye for good.
    Leave,
}

/// What an actor works with.
pub struct Cx<'a> {
    pub net: &'a mut Net,
    pub ledger: &'a mut Ledger,
    pub dice: &'a mut Dice,
    pub now: u64,
    pub phase: Phase,
    pub trace: bool,
}

impl Cx<'_> {
    pub fn note(&self, who: ActorId, what: impl FnOnce() -> String) {
        if self.trace {
            println!(
                "{:>8} ms  step {:<6} actor {who:<2} {}",
                self.now,
                self.ledger.step,
                what()
            );
        }
    }
}

/// A simulated client.
pub trait Actor {
    /// Does one thing, if there is one to be done; answers whether it did.
    fn turn(&mut self, cx: &mut Cx<'_>) -> bool;

    /// When it wants its next turn, its connection aside.
    fn next(&self) -> Option<u64>;

    /// Its connection.
    fn link(&self) -> Option<LinkId>;

    /// What it still waits for; `None`: nothing.
    fn waits(&self, phase: Phase) -> Option<String>;

    /// Whether slow reading is among what may happen to it.
    fn may_stall(&self) -> bool {
        true
    }
}
