//! What a queue does to find room: deliveries that have expired go first, and are not lost; then the oldest.

use super::{Gap, Queue};
use crate::limits::LaneLimit;
use crate::outbox::slots::OCCUPIED_MAX;

impl Queue {
    /// How many more deliveries a window of `window` lets through, not counting those that wait.
    pub(in crate::outbox) fn window_left(&self, window: usize) -> usize {
        window.saturating_sub(self.window.len())
    }

    /// Whether one more live delivery of `cost` bytes would exceed `limit`, with what has expired out of the way.
    pub(in crate::outbox) fn is_full(
        &mut self,
        limit: LaneLimit,
        cost: usize,
        unix_ms: u64,
    ) -> bool {
        if !self.has_no_room(limit, cost) {
            return false;
        }
        self.sweep(unix_ms);
        self.has_no_room(limit, cost)
    }

    fn has_no_room(&self, limit: LaneLimit, cost: usize) -> bool {
        let bytes = self.live.bytes().saturating_add(cost);
        limit.is_over(self.live.len() + 1, bytes) || self.occupied() >= OCCUPIED_MAX
    }

    /// Whether more live deliveries wait than `limit` allows.
    pub(in crate::outbox) fn is_over(&self, limit: LaneLimit) -> bool {
        self.live.is_over(limit)
    }

    /// Drops the oldest live deliveries until `limit` holds, at most `most`; answers the last number dropped.
    pub(in crate::outbox) fn make_room(
        &mut self,
        limit: LaneLimit,
        most: usize,
        unix_ms: u64,
    ) -> Option<u64> {
        if most == 0 || !self.live.is_over(limit) {
            return None;
        }
        self.sweep(unix_ms);
        let mut last = None;
        // A large delivery may have to push out several small ones.
        for _ in 0..most {
            if !self.live.is_over(limit) {
                break;
            }
            last = self.evict(unix_ms).or(last);
        }
        last
    }

    /// Drops the oldest live delivery if all slots are taken; answers its number.
    pub(in crate::outbox) fn make_slot(&mut self, unix_ms: u64) -> Option<u64> {
        if self.occupied() < OCCUPIED_MAX {
            return None;
        }
        self.sweep(unix_ms);
        match self.occupied() >= OCCUPIED_MAX {
            true => self.evict(unix_ms),
            false => None,
        }
    }

    fn sweep(&mut self, unix_ms: u64) {
        for number in self.live.sweep(unix_ms) {
            self.slots.give_back(number);
            self.obsolete.push(number);
        }
    }

    /// Drops the oldest live delivery; answers its number if that is a loss.
    fn evict(&mut self, unix_ms: u64) -> Option<u64> {
        let oldest = self.live.pop()?;
        let number = oldest.number;
        self.slots.give_back(number);
        // In a long lane a sweep may be put off.
        if oldest.is_expired(unix_ms) {
            self.obsolete.push(number);
            return None;
        }
        let mut gap = Gap { number, lost: 1 };
        // It becomes one with the gap that this delivery would have told of.
        while let Some(former) = self.gaps.pop_front_if(|former| former.number < number) {
            gap.lost = gap.lost.saturating_add(former.lost);
            // That of a delivery dropped just before was never written.
            if self.evicted.last() != Some(&former.number) {
                self.obsolete.push(former.number);
            }
        }
        self.gaps.push_front(gap);
        self.evicted.push(number);
        Some(number)
    }

    /// The first gap that nobody was told of, which is where deliveries are dropped: its number, and how many were lost.
    pub(in crate::outbox) fn gap(&self) -> Option<(u64, u32)> {
        self.gaps.front().map(|gap| (gap.number, gap.lost))
    }

    /// Whether stored copies are obsolete.
    pub(in crate::outbox) fn has_obsolete(&self) -> bool {
        !self.obsolete.is_empty()
    }
}
