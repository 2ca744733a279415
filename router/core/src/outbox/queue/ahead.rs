//! How far deliveries may be handed out, so that a restart knows what may have been sent.
//!
//! A delivery that may have reached the receiver carries the mark of a repetition after a restart, one that never was
//! handed out does not. Writing each number as it is handed out would cost a commit each time.
//! Instead the session's record says up to which number deliveries may have been handed out, some way ahead of those
//! that were, and nothing beyond what is durable of it is handed out. The bound moves on a block at a time, with a
//! batch that is written anyway: that of the welcome, of a delivery, of a settlement. A delivery stored by the same
//! batch as the bound that covers it, or a later one, need not wait: either both are found after a crash or neither.
//!
//! When a connection ends, the bound returns to what was handed out. After a crash up to [`BLOCK`] deliveries that
//! were not handed out are taken for repeated.

use super::line::LOST;
use std::collections::VecDeque;

/// Deliveries by which the bound is moved on.
pub(super) const BLOCK: usize = 256;

/// The bound of a session with stored copies; without any there is no bound.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The highest number handed out.
    sent: u64,
    durable: u64,
    /// Bounds under way, and the commits that store them.
    pending: VecDeque<(u64, u64)>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead {
            sent: 0,
            durable: u64::MAX,
            pending: VecDeque::new(),
        }
    }
}

impl Ahead {
    /// The number was handed out.
    pub(super) fn note(&mut self, number: u64) {
        self.sent = self.sent.max(number);
    }

    /// The bound as it is or will be stored.
    pub(super) fn bound(&self) -> u64 {
        self.pending
            .back()
            .map_or(self.durable, |(_, bound)| *bound)
    }

    /// Whether the number, stored by `commit`, may be handed out.
    pub(super) fn covers(&self, number: u64, commit: Option<u64>) -> bool {
        number <= self.durable
            || self
                .pending
                .iter()
                .any(|(with, bound)| number <= *bound && commit.is_some_and(|own| own >= *with))
    }

    /// `commit` stores `bound`.
    pub(super) fn set(&mut self, bound: u64, commit: u64) {
        if self.durable == u64::MAX {
            self.durable = 0;
        }
        self.pending.push_back((commit, bound));
    }

    /// `commit` stores the highest number handed out as the bound; answers that number.
    pub(super) fn close(&mut self, commit: u64) {
        self.durable = self.durable.min(self.sent);
        self.pending.clear();
        self.pending.push_back((commit, self.sent));
    }

    /// A restart found `bound` stored.
    pub(super) fn restore(&mut self, bound: u64) {
        (self.sent, self.durable) = (bound, bound);
    }

    /// The session has no stored copies any more.
    pub(super) fn lift(&mut self) {
        self.durable = u64::MAX;
        self.pending.clear();
    }

    pub(super) fn saved(&mut self, commit: u64) {
        while let Some((with, bound)) = self.pending.front()
            && *with <= commit
        {
            self.durable = *bound;
            self.pending.pop_front();
        }
    }

    pub(super) fn lost(&mut self, saved: u64) {
        for (with, _) in self.pending.iter_mut().filter(|(with, _)| *with > saved) {
            *with = LOST;
        }
    }

    pub(super) fn rewritten(&mut self, commit: u64) {
        for (with, _) in self.pending.iter_mut().filter(|(with, _)| *with == LOST) {
            *with = commit;
        }
    }
}
