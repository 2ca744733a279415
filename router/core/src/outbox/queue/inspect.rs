//! What an operator sees of a queue.

use super::Queue;
use crate::model::EventDelivery;

impl Queue {
    /// Deliveries that wait, live and replayed.
    pub(in crate::outbox) fn waiting(&self) -> usize {
        self.live.len() + self.replay.len()
    }

    /// Their bytes.
    pub(in crate::outbox) fn waiting_bytes(&self) -> usize {
        self.live.bytes() + self.replay.bytes()
    }

    /// Those of them that are in memory.
    pub(in crate::outbox) fn resident(&self) -> usize {
        self.live.resident() + self.replay.resident()
    }

    /// The first `most` that are in memory.
    pub(in crate::outbox) fn first_waiting(&self, most: usize) -> Vec<EventDelivery> {
        let waiting = self.live.bodies().chain(self.replay.bodies());
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|(number, _)| *number);
        let first = waiting.into_iter().take(most);
        first.map(|(_, delivery)| delivery.clone()).collect()
    }

    /// Deliveries handed out and not settled.
    pub(in crate::outbox) fn unsettled(&self) -> usize {
        self.window.len()
    }
}
