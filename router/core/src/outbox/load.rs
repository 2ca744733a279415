//! What a share group asks of its members' queues.

use super::{Outbox, Sure};
use crate::model::EventDelivery;

/// How much a receiver has to do, and what more it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// It has a connection that goes on.
    pub connected: bool,
    /// How many more deliveries its window takes, after those that wait.
    pub window: usize,
    /// Deliveries that wait or are not settled.
    pub held: usize,
    /// One more delivery to be settled pushes out none.
    pub has_room: bool,
    /// Nor does one more of the others.
    pub has_passing_room: bool,
}

impl Outbox {
    /// What the receiver has to do at `unix_ms`, and whether a delivery of `cost` bytes has room.
    #[must_use]
    pub fn load(&self, cost: usize, unix_ms: u64) -> Load {
        let mut lanes = self.lanes.lock();
        let (ordered, best) = (lanes.limits.ordered, lanes.limits.best);
        let limit = lanes.sure_limit();
        let queue = lanes.queue.as_mut();
        let has_room = queue.is_none_or(|queue| !queue.is_full(limit, cost, unix_ms));
        let queue = lanes.queue.as_ref();
        let settles = queue.map_or(0, |queue| queue.waiting() + queue.unsettled());
        Load {
            connected: lanes.attached && lanes.ended.is_none(),
            window: lanes.window.saturating_sub(settles),
            held: settles + lanes.ordered.len() + lanes.best.items.len(),
            has_room,
            has_passing_room: lanes.ordered.len() < ordered.frames
                && lanes.ordered_bytes < ordered.bytes
                && lanes.best.items.len() < best.frames
                && lanes.best.bytes < best.bytes,
        }
    }

    /// Whether what a single sender may send without end can be added to the ordered lane, `cost`
    /// bytes more: an eighth stays free for everybody else, since a full lane ends the session.
    #[must_use]
    pub fn takes_more(&self, cost: usize) -> bool {
        let lanes = self.lanes.lock();
        let limit = lanes.limits.ordered;
        let frames = limit.frames.saturating_sub((limit.frames / 8).max(1));
        let bytes = limit.bytes - limit.bytes / 8;
        let is_empty = lanes.ordered.is_empty();
        lanes.ordered.len() < frames
            && (is_empty || lanes.ordered_bytes.saturating_add(cost) <= bytes)
    }

    /// Takes out what a session that ends leaves to others: the `wanted` deliveries that wait, and
    /// those at at-least-once that were handed out and not settled; oldest first. Their stored
    /// copies are the caller's to forget.
    pub fn take_unfinished(&self, wanted: impl Fn(&EventDelivery) -> bool) -> Vec<Sure> {
        self.with_queue(|queue| queue.take_unfinished(wanted))
    }

    /// Puts back what [`Outbox::take_waiting`] took out; the writer is to be woken then.
    pub fn put_back(&self, items: Vec<Sure>) {
        self.with_queue(|queue| queue.put_back(items));
    }
}
