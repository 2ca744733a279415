//! What an operator asks of a session's queue.

use super::Outbox;
use crate::model::EventDelivery;

/// What waits for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Deliveries that wait to be handed out, of whatever assurance.
    pub waiting: usize,
    /// Their bytes, and those of waiting answers.
    pub bytes: usize,
    /// Deliveries handed out and not settled.
    pub in_flight: usize,
}

impl Outbox {
    /// What waits now.
    #[must_use]
    pub fn queued(&self) -> Queued {
        let lanes = self.lanes.lock();
        let queue = lanes.queue.as_deref();
        Queued {
            waiting: lanes.best.items.len()
                + lanes.best_replay.len()
                + lanes.ordered.len()
                + queue.map_or(0, |queue| queue.waiting()),
            bytes: lanes.best.bytes
                + lanes.best_replay.bytes()
                + lanes.ordered_bytes
                + queue.map_or(0, |queue| queue.waiting_bytes()),
            in_flight: queue.map_or(0, |queue| queue.unsettled()),
        }
    }

    /// The first `most` deliveries to be settled that wait, those of them that are in memory.
    #[must_use]
    pub fn first_waiting(&self, most: usize) -> Vec<EventDelivery> {
        self.with_queue(|queue| queue.first_waiting(most))
    }

    /// Drops what waits to be handed out, except answers. Answers the numbers whose stored copies
    /// are the caller's to forget, and how many deliveries of other lanes were dropped.
    pub fn purge(&self) -> (Vec<u64>, usize) {
        let mut lanes = self.lanes.lock();
        let passing = lanes.best.items.len() + lanes.best_replay.len();
        lanes.best.clear();
        lanes.best_replay.clear();
        let gone = lanes
            .queue
            .as_deref_mut()
            .map_or_else(Vec::new, |queue| queue.clear_waiting());
        lanes.release_if_roomy();
        (gone, passing)
    }
}
