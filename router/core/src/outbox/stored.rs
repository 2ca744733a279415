//! The stored side of what is to be settled: what is on disk alone, what a restart finds, and how far deliveries may be
//! handed out.

use super::Outbox;
use crate::model::EventDelivery;

impl Outbox {
    /// The session has stored copies from now on, written by `commit`, or none any more. Answers whether the commit's
    /// outcome is to be told.
    pub fn set_stored(&self, commit: Option<u64>) -> bool {
        self.with_queue(|queue| queue.set_stored(commit))
    }

    /// A connection to a session with stored copies begins, or [`Outbox::wants_extension`]: moves the bound up to which
    /// deliveries may be handed out on; `commit` stores it. Answers whether the commit's outcome is to be told.
    pub fn extend_bound(&self, commit: u64) -> bool {
        let mut lanes = self.lanes.lock();
        lanes.queue.get_or_insert_default().extend(commit)
    }

    /// Whether the bound should be moved on.
    #[must_use]
    pub fn wants_extension(&self) -> bool {
        let lanes = self.lanes.lock();
        let queue = lanes.queue.as_ref();
        lanes.attached && queue.is_some_and(|queue| queue.wants_extension())
    }

    /// The connection of a session with stored copies is gone: returns the bound to what was handed out; `commit`
    /// stores it. Answers whether the commit's outcome is to be told.
    pub fn close_bound(&self, commit: u64) -> bool {
        self.with_queue(|queue| queue.close_bound(commit))
    }

    /// Numbers up to this one may have been handed out; to be stored with the session.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.with_queue(|queue| queue.bound())
    }

    /// What [`Outbox::bound`] was when the router stopped; before anything else is restored.
    pub fn restore_bound(&self, bound: u64) {
        let mut lanes = self.lanes.lock();
        lanes.queue.get_or_insert_default().restore_bound(bound);
    }

    /// Puts back what was stored of an earlier life of the session, oldest first.
    pub fn restore(&self, number: u64, delivery: Option<EventDelivery>) {
        let mut lanes = self.lanes.lock();
        lanes
            .queue
            .get_or_insert_default()
            .restore(number, delivery);
    }

    /// The same for a live delivery that stays on disk: its cost in bytes and its expiry in milliseconds since the
    /// epoch.
    pub fn restore_spilled(&self, number: u64, cost: u32, expires: Option<u64>) {
        let mut lanes = self.lanes.lock();
        let queue = lanes.queue.get_or_insert_default();
        queue.restore_spilled(number, cost, expires);
    }

    /// The same for a gap: `lost` deliveries were dropped, that of `number` last.
    pub fn restore_gap(&self, number: u64, lost: u32) {
        let mut lanes = self.lanes.lock();
        lanes
            .queue
            .get_or_insert_default()
            .restore_gap(number, lost);
    }

    /// All was put back.
    pub fn restored(&self) {
        let mut lanes = self.lanes.lock();
        let resident = lanes.limits.resident;
        if let Some(queue) = &mut lanes.queue {
            queue.restored(resident);
        }
    }

    /// The first gap that nobody was told of, which is where deliveries are dropped: the number it is stored under, and how many deliveries were lost.
    #[must_use]
    pub fn gap(&self) -> Option<(u64, u32)> {
        self.with_queue(|queue| queue.gap())
    }

    /// All gaps that nobody was told of, or only by deliveries that are not settled.
    #[must_use]
    pub fn stored_gaps(&self) -> Vec<(u64, u32)> {
        self.with_queue(|queue| queue.stored_gaps())
    }

    /// The numbers of the deliveries that are on disk alone.
    #[must_use]
    pub fn spilled_numbers(&self) -> Vec<u64> {
        self.with_queue(|queue| queue.spilled_numbers())
    }

    /// Waiting deliveries to be settled that are in memory.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.with_queue(|queue| queue.resident())
    }

    /// The numbers to be read back now, if any; [`Outbox::fill`] or [`Outbox::remove`] them, then
    /// [`Outbox::end_load`].
    #[must_use]
    pub fn take_load(&self) -> Vec<u64> {
        let mut lanes = self.lanes.lock();
        let resident = lanes.limits.resident;
        match (lanes.attached, &mut lanes.queue) {
            (true, Some(queue)) => queue.take_load(resident),
            _ => Vec::new(),
        }
    }

    /// What was read back of a delivery.
    pub fn fill(&self, number: u64, delivery: EventDelivery) {
        self.with_queue(|queue| queue.fill(number, delivery));
    }

    /// A delivery that was to be read back must not be handed out, or cannot. Answers whether it still waited.
    pub fn remove(&self, number: u64) -> bool {
        self.with_queue(|queue| queue.remove(number))
    }

    /// Reading back has ended, as far as it went. Answers whether the writer must be woken.
    pub fn end_load(&self) -> bool {
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let resident = lanes.limits.resident;
        let Some(queue) = &mut lanes.queue else {
            return false;
        };
        queue.end_load();
        if !lanes.attached {
            queue.spill(resident, true);
            return false;
        }
        let cares = queue.wants_care(resident);
        (cares || lanes.has_sendable()) && lanes.wants_wake()
    }
}
