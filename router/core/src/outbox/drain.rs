//! Taking from the outbox: what goes out next, and who is woken when.

use super::{Drained, Lanes, Outbox};
use crate::model::{Delivery, EndReason};
use std::task::Waker;

impl Outbox {
    /// Moves up to `max` deliveries into `out`. When [`Drained::more`] is false, the waker
    /// registered with [`Outbox::register`] will be called once there is something again.
    ///
    /// A connection that was replaced gets [`EndReason::TakenOver`], and its successor nothing
    /// until the former has let go ([`Outbox::release`]), so that no two live at a time.
    pub fn drain(
        &self,
        generation: u64,
        max: usize,
        unix_ms: u64,
        out: &mut Vec<Delivery>,
    ) -> Drained {
        let mut lanes = self.lanes.lock();
        if lanes.generation != generation {
            out.push(Delivery::Ended(EndReason::TakenOver));
            return Drained::default();
        }
        lanes.woken = false;
        if !lanes.attached {
            // The session has lost this connection; what it holds is for the next one.
            out.extend(lanes.ended.as_deref().cloned().map(Delivery::Ended));
            return Drained::default();
        }
        if lanes.must_wait(None) {
            return Drained::default();
        }
        let end = out.len() + max;
        lanes.drain_ordered(end, out);
        if lanes.opened {
            lanes.drain_queue(end, unix_ms, out);
            lanes.drain_best(end, unix_ms, out);
        }
        lanes.release_if_roomy();
        let more = lanes.has_sendable();
        lanes.woken = more;
        if !more && let Some(reason) = lanes.ended.as_deref().cloned() {
            out.push(Delivery::Ended(reason));
        }
        // Only while the realm still knows the session, or the caller would ask for ever.
        let is_live = lanes.attached && lanes.ended.is_none();
        Drained {
            more,
            refill: is_live && lanes.refill && lanes.has_replay_room(),
            expired: is_live && lanes.wants_care(),
        }
    }

    /// Calls `waker` when there is something to send.
    pub fn register(&self, generation: u64, waker: &Waker) {
        let mut lanes = self.lanes.lock();
        if lanes.generation != generation {
            waker.wake_by_ref();
            return;
        }
        lanes.keep_waker(waker);
        let may_send =
            !lanes.must_wait(Some(waker)) && (lanes.has_sendable() || lanes.ended.is_some());
        if may_send {
            waker.wake_by_ref();
        }
    }

    /// Calls `waker` when the connection is to end or to hear out its peer, and not for what there is to send: for a
    /// writer whose peer takes nothing at the moment.
    pub fn register_end(&self, generation: u64, waker: &Waker) {
        let mut lanes = self.lanes.lock();
        if lanes.generation != generation || lanes.ended.is_some() {
            waker.wake_by_ref();
            return;
        }
        lanes.keep_waker(waker);
        lanes.woken = true;
    }

    /// Wakes the writer; called after the realm's lock is free again.
    pub fn wake(&self) {
        let waker = self.lanes.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Calls `waker` once there is room again. Answers `false` if there is room already.
    pub fn wait_for_room(&self, waker: &Waker) -> bool {
        let mut lanes = self.lanes.lock();
        if !lanes.attached || lanes.ended.is_some() || lanes.is_roomy() {
            return false;
        }
        if !lanes
            .waiting_for_room
            .iter()
            .any(|known| known.will_wake(waker))
        {
            lanes.waiting_for_room.push(waker.clone());
        }
        true
    }
}

impl Lanes {
    fn keep_waker(&mut self, waker: &Waker) {
        let is_known = |known: &Waker| known.will_wake(waker);
        if !self.waker.as_ref().is_some_and(is_known) {
            self.waker = Some(waker.clone());
        }
    }

    pub(super) fn has_sendable(&self) -> bool {
        if !self.opened || !self.ordered.is_empty() {
            return !self.ordered.is_empty();
        }
        !self.best.items.is_empty()
            || self.best_replay.len() > 0
            || self
                .queue
                .as_ref()
                .is_some_and(|queue| queue.has_sendable(self.window))
    }

    /// Whether the realm could append to the lanes that its replays go to: the ordered one, or those for replays.
    fn has_replay_room(&self) -> bool {
        let ordered = self.limits.ordered;
        ordered.room(self.ordered.len(), self.ordered_bytes) > 0 && self.replay_room() > 0
    }

    fn wants_care(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.wants_care(self.limits.resident))
    }

    fn drain_ordered(&mut self, end: usize, out: &mut Vec<Delivery>) {
        while out.len() < end
            && let Some((delivery, cost)) = self.ordered.pop_front()
        {
            self.ordered_bytes = self.ordered_bytes.saturating_sub(cost as usize);
            out.push(delivery);
        }
    }

    fn drain_queue(&mut self, end: usize, unix_ms: u64, out: &mut Vec<Delivery>) {
        if let Some(queue) = &mut self.queue {
            queue.drain(self.window, end, unix_ms, out);
        }
    }

    fn drain_best(&mut self, end: usize, unix_ms: u64, out: &mut Vec<Delivery>) {
        while out.len() < end {
            let lane = match self.best_replay.order() < self.best.order() {
                true => self.best_replay.make(),
                false => &mut self.best,
            };
            let Some(mut delivery) = lane.pop() else {
                return;
            };
            if !delivery.event.is_expired(unix_ms) {
                delivery.lost = std::mem::take(&mut lane.lost);
                out.push(Delivery::Event(delivery));
            }
        }
    }
}
