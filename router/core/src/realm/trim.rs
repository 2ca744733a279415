//! Queues that hold more than their bound, brought down in steps.
//!
//! What is dropped is deleted from the store, and a batch is written as a whole: one with a million deletions would
//! hold up everybody, and an engine may need kilobytes for each of them until it is done. So a batch drops no more than
//! [`PER_BATCH`] deliveries (and [`LEAST`] for each new one, so that no queue grows beyond its bound while that is used
//! up). What is left goes a little later, once the store has taken the step before. A queue comes to hold more than its
//! bound where the bound sinks: with the window of a connection that ends, or at a restart with other settings.

use super::{Effects, Realm};
use crate::limits::WhenFull;
use crate::model::Now;
use crate::timers::Timer;
use std::collections::BTreeSet;
use std::time::Duration;

/// Deliveries dropped to make room in one batch.
pub(super) const PER_BATCH: usize = 1_024;

/// ... and for each new one even if that is used up.
const LEAST: usize = 2;

/// Between two steps.
const STEP_AFTER: Duration = Duration::from_millis(10);

/// What is still to be dropped.
#[derive(Debug)]
pub(super) struct Trimming {
    /// Places of the sessions whose queue holds more than its bound.
    overlong: BTreeSet<usize>,
    /// A step will be taken.
    is_due: bool,
    /// The batch that the latest step went with.
    commit: u64,
    /// How many deliveries the current batch may still drop.
    left: usize,
}

impl Default for Trimming {
    fn default() -> Trimming {
        Trimming {
            overlong: BTreeSet::new(),
            is_due: false,
            commit: 0,
            left: PER_BATCH,
        }
    }
}

impl Trimming {
    /// How many deliveries may be dropped to make room for one.
    pub(super) fn allowance(&self) -> usize {
        self.left.max(LEAST)
    }

    /// So many were dropped.
    pub(super) fn spend(&mut self, dropped: usize) {
        self.left = self.left.saturating_sub(dropped);
    }

    /// A new batch begins.
    pub(super) fn begin_batch(&mut self) {
        self.left = PER_BATCH;
    }

    /// The queue of the session at `place` holds more than its bound.
    pub(super) fn note(&mut self, place: usize) {
        self.overlong.insert(place);
    }
}

impl Realm {
    /// The bound of the session's queue may have sunk.
    pub(super) fn trim(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let has_more = session.outbox.trim(self.trimming.left, self.unix_ms);
        self.forget_evicted(place, effects);
        if has_more {
            self.trimming.note(place);
        }
    }

    /// All sessions were restored, possibly under lower bounds.
    pub(super) fn trim_restored(&mut self) {
        if self.settings.limits.outbox.when_full != WhenFull::DropOldest {
            return;
        }
        for (place, session) in &self.sessions {
            if session.outbox.trim(0, self.unix_ms) {
                self.trimming.note(place);
            }
        }
    }

    /// Sees to it that the next step is taken.
    pub(super) fn arm_trim(&mut self, now: Now) {
        if !self.trimming.is_due && !self.trimming.overlong.is_empty() {
            let timer = self.set_timer(now, STEP_AFTER, Timer::Trim);
            self.trimming.is_due = timer.is_some();
        }
    }

    /// Takes the next step, unless the store has not taken the one before.
    pub(super) fn trim_step(&mut self, effects: &mut Effects) {
        self.trimming.is_due = false;
        if self.store_down || self.trimming.commit > self.committed {
            return;
        }
        let before = effects.batch.len();
        while self.trimming.left > 0
            && let Some(place) = self.trimming.overlong.pop_first()
        {
            self.trim(place, effects);
        }
        self.trimming.commit = self.commit_since(before, effects);
    }
}
