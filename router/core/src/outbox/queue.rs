//! What the receiver settles: the lanes it waits in, and the window of what was handed out.
//!
//! Every delivery has a number, which grows by enqueueing and names its stored copy. Two lanes wait for the window:
//! live deliveries, which are bounded by the session's limits, and replayed ones, which are bounded by
//! [`Queue::replay_room`] and never make room for others. They are handed out by number, so that a value that was
//! replayed and one that came live later stay in that order.
//!
//! Where live deliveries were dropped there is a *gap*: the next one handed out tells how many were lost. A gap is
//! stored under the number of the last delivery dropped, so that in the order of numbers it is where it belongs.

mod ahead;
mod handover;
mod inspect;
mod line;
mod room;
mod window;

use super::slots::{OCCUPIED_MAX, Slots, slot_of};
use super::unheeded::Unheeded;
use super::{REPLAY_BYTES, REPLAY_WAITING, Sure};
use crate::limits::LaneLimit;
use crate::model::{Delivery, EventDelivery, Qos, Slot, Topic};
use ahead::{Ahead, BLOCK};
use line::{Entry, LOST, Line};
use std::collections::VecDeque;
use window::{Settled, Window};

/// Deliveries that were dropped.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// The last of them.
    number: u64,
    lost: u32,
}

/// The settleable part of an outbox.
#[derive(Debug)]
pub(super) struct Queue {
    live: Line,
    replay: Line,
    window: Window,
    next_number: u64,
    slots: Slots,
    ahead: Ahead,
    /// A restart found that numbers up to this one may have been handed out before.
    repeated_to: u64,
    /// Everything up to this commit is on disk.
    saved: u64,
    /// The latest commit the realm was told to report.
    noted: u64,
    /// Gaps that nobody was told of, in order.
    gaps: VecDeque<Gap>,
    /// Spilled deliveries are being read back.
    loading: bool,
    /// What was lost was written again, in the midst of what is spilled.
    respill: bool,
    /// Numbers whose stored copy is obsolete.
    obsolete: Vec<u64>,
    /// Numbers dropped to make room, until the realm takes them.
    evicted: Vec<u64>,
    /// What came since the receiver last settled something.
    pub(super) unheeded: Unheeded,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            live: Line::default(),
            replay: Line::default(),
            window: Window::default(),
            next_number: 1,
            slots: Slots::default(),
            ahead: Ahead::default(),
            repeated_to: 0,
            saved: 0,
            noted: 0,
            gaps: VecDeque::new(),
            loading: false,
            respill: false,
            obsolete: Vec::new(),
            evicted: Vec::new(),
            unheeded: Unheeded::default(),
        }
    }
}

impl Queue {
    /// Appends; `commit` is the one that stores it. Answers its number, and whether the realm has to report that
    /// commit.
    pub(super) fn push(&mut self, delivery: EventDelivery, commit: Option<u64>) -> (u64, bool) {
        let number = self.free_number();
        self.slots.take(number);
        self.line_of(delivery.replayed).push(Sure {
            number,
            commit,
            delivery,
        });
        (
            number,
            commit.is_some_and(|commit| self.is_to_report(commit)),
        )
    }

    fn is_to_report(&mut self, commit: u64) -> bool {
        let is_new = commit > self.noted;
        self.noted = self.noted.max(commit);
        is_new
    }

    fn line_of(&mut self, replayed: bool) -> &mut Line {
        match replayed {
            true => &mut self.replay,
            false => &mut self.live,
        }
    }

    /// The next number whose slot nobody occupies; there is one, since fewer than all are occupied.
    fn free_number(&mut self) -> u64 {
        let is_full = self.occupied() >= OCCUPIED_MAX;
        let oldest = self.window.oldest();
        let oldest = oldest.min(self.live.number()).min(self.replay.number());
        let oldest = (oldest != u64::MAX).then_some(oldest);
        let Queue {
            slots,
            live,
            replay,
            window,
            next_number,
            ..
        } = self;
        loop {
            let number = *next_number;
            *next_number += 1;
            let live = || {
                live.numbers()
                    .chain(replay.numbers())
                    .chain(window.numbers())
            };
            if is_full || slots.is_free(number, oldest, live) {
                return number;
            }
        }
    }

    fn occupied(&self) -> usize {
        self.live.len() + self.replay.len() + self.window.len()
    }

    /// Whether the live lane is filling up.
    pub(super) fn is_pressed(&self, limit: LaneLimit) -> bool {
        limit.is_pressed(self.live.len(), self.live.bytes())
    }

    /// Whether the live lane is at most half full.
    pub(super) fn is_roomy(&self, limit: LaneLimit) -> bool {
        limit.is_roomy(self.live.len(), self.live.bytes())
    }

    /// Messages that may be appended up to half of the bound.
    pub(super) fn room(&self, limit: LaneLimit) -> usize {
        limit.room(self.live.len(), self.live.bytes())
    }

    /// How many replayed deliveries may be appended for a window of `window`.
    pub(super) fn replay_room(&self, window: usize) -> usize {
        if self.replay.bytes() >= REPLAY_BYTES {
            return 0;
        }
        window.min(REPLAY_WAITING).saturating_sub(self.replay.len())
    }

    /// Everything up to `commit` is on disk. Answers whether that lets something out.
    pub(super) fn saved(&mut self, commit: u64) -> bool {
        let waited = !self.has_open();
        self.saved = self.saved.max(commit);
        self.ahead.saved(commit);
        waited && self.has_open()
    }

    /// What was not on disk yet was lost.
    pub(super) fn lost(&mut self) {
        let saved = self.saved;
        for body in self.live.bodies_mut().chain(self.replay.bodies_mut()) {
            if let Some(commit) = &mut body.commit
                && *commit > saved
            {
                *commit = LOST;
            }
        }
        self.ahead.lost(saved);
    }

    /// What was lost is written again with `commit`.
    pub(super) fn rewritten(&mut self, commit: u64) {
        for body in self.live.bodies_mut().chain(self.replay.bodies_mut()) {
            if body.commit == Some(LOST) {
                body.commit = Some(commit);
            }
        }
        self.ahead.rewritten(commit);
        self.noted = self.noted.max(commit);
        self.respill = true;
    }

    /// Everything is stored by `commit` from now on, or nothing any more. Answers whether the realm has to report that
    /// commit.
    pub(super) fn set_stored(&mut self, commit: Option<u64>) -> bool {
        for body in self.live.bodies_mut().chain(self.replay.bodies_mut()) {
            body.commit = commit;
        }
        if commit.is_none() {
            self.ahead.lift();
        }
        commit.is_some_and(|commit| self.is_to_report(commit))
    }

    /// Moves the bound of what may be handed out on by a block; `commit` stores it. Answers whether the realm has to
    /// report that commit.
    pub(super) fn extend(&mut self, commit: u64) -> bool {
        let waiting = self.live.len().min(BLOCK);
        let bound = match self.live.number_at(BLOCK - 1) {
            Some(number) => number,
            None => self.next_number - 1 + (BLOCK - waiting) as u64,
        };
        self.ahead.set(bound, commit);
        self.is_to_report(commit)
    }

    /// The connection is gone: the bound returns to what was handed out.
    pub(super) fn close_bound(&mut self, commit: u64) -> bool {
        self.ahead.close(commit);
        self.is_to_report(commit)
    }

    /// The bound as it is to be stored.
    pub(super) fn bound(&self) -> u64 {
        self.ahead.bound()
    }

    /// Whether the bound should be moved on.
    pub(super) fn wants_extension(&self) -> bool {
        let last = || self.live.last_number().max(self.replay.last_number());
        let soon = self.live.number_at(BLOCK / 2).or_else(last);
        soon.is_some_and(|number| number > self.ahead.bound())
    }

    /// What may have been handed out in an earlier life of the session.
    pub(super) fn restore_bound(&mut self, bound: u64) {
        self.repeated_to = bound;
    }

    /// Puts back what was stored of an earlier life of the session, oldest first.
    pub(super) fn restore(&mut self, number: u64, delivery: Option<EventDelivery>) {
        self.restore_number(number);
        let Some(mut delivery) = delivery else {
            self.window.restore_released(number);
            return;
        };
        delivery.repeated |= number <= self.repeated_to;
        let commit = Some(0);
        self.line_of(delivery.replayed).push(Sure {
            number,
            commit,
            delivery,
        });
    }

    /// The same for a live delivery that stays on disk.
    pub(super) fn restore_spilled(&mut self, number: u64, cost: u32, expires: Option<u64>) {
        self.restore_number(number);
        self.live.push_spilled(number, cost, expires);
    }

    /// The same for a gap.
    pub(super) fn restore_gap(&mut self, number: u64, lost: u32) {
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.gaps.push_back(Gap { number, lost });
    }

    fn restore_number(&mut self, number: u64) {
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.slots.take(number);
    }

    /// All was put back. New deliveries were never handed out, whatever the bound was.
    pub(super) fn restored(&mut self, resident: usize) {
        self.repeated_to = self.repeated_to.min(self.next_number - 1);
        self.ahead.restore(self.repeated_to);
        self.live.spill(resident, self.saved, true);
    }

    /// Leaves on disk alone what need not be in memory; answers how many deliveries.
    pub(super) fn spill(&mut self, resident: usize, all: bool) -> u64 {
        let all = std::mem::take(&mut self.respill) || all;
        self.live.spill(resident, self.saved, all)
    }

    /// The numbers that should be read back now; to be answered by [`Queue::fill`] or [`Queue::remove`], and
    /// [`Queue::end_load`].
    pub(super) fn take_load(&mut self, resident: usize) -> Vec<u64> {
        if !self.wants_load(resident) {
            return Vec::new();
        }
        let numbers = self.live.next_load(resident);
        self.loading = !numbers.is_empty();
        numbers
    }

    fn wants_load(&self, resident: usize) -> bool {
        !self.loading && self.live.wants_load(resident)
    }

    /// What was read back of a spilled delivery.
    pub(super) fn fill(&mut self, number: u64, mut delivery: EventDelivery) {
        delivery.repeated |= number <= self.repeated_to;
        self.live.fill(number, delivery);
    }

    /// A spilled delivery must not be handed out. Answers whether it was still there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let removed = self.live.remove(number);
        if removed {
            self.slots.give_back(number);
        }
        removed
    }

    /// Reading back has ended, as far as it went.
    pub(super) fn end_load(&mut self) {
        self.loading = false;
    }

    /// The front by number, and whether it is of the replayed.
    fn next(&self) -> Option<(bool, &Entry)> {
        match self.replay.number() < self.live.number() {
            true => Some((true, self.replay.front()?)),
            false => Some((false, self.live.front()?)),
        }
    }

    /// Whether the next delivery may be handed out, as far as the disk is concerned.
    fn has_open(&self) -> bool {
        self.next().is_some_and(|(_, next)| self.is_open(next))
    }

    /// After a crash the number of an exactly-once delivery that was not on disk is given again, and a receiver that
    /// remembers it would take the new message for the old one; so it waits for its commit.
    fn is_open(&self, entry: &Entry) -> bool {
        entry.body.as_ref().is_some_and(|body| {
            let is_safe = body.delivery.qos < Qos::ExactlyOnce
                || body.commit.is_none_or(|commit| commit <= self.saved);
            is_safe && self.ahead.covers(entry.number, body.commit)
        })
    }

    /// Whether a window of `window` lets the next delivery through.
    pub(super) fn may_send(&self, window: usize) -> bool {
        self.window.is_resent() && self.window.len() < window && self.has_open()
    }

    /// Whether a drain would hand out something.
    pub(super) fn has_sendable(&self, window: usize) -> bool {
        self.window.has_repeat() || self.may_send(window)
    }

    /// A new connection: what is unsettled will be handed out again.
    pub(super) fn resend(&mut self) {
        self.window.resend();
    }

    /// Hands out what the window lets through: repetitions, then replayed and live deliveries by number.
    pub(super) fn drain(
        &mut self,
        window: usize,
        end: usize,
        unix_ms: u64,
        out: &mut Vec<Delivery>,
    ) {
        self.window.drain(end, out);
        while out.len() < end
            && self.window.is_resent()
            && self.window.len() < window
            && let Some((replayed, next)) = self.next()
        {
            let is_expired = next.is_expired(unix_ms);
            if !is_expired && !self.is_open(next) {
                return;
            }
            let Some(Entry { number, body, .. }) = self.line_of(replayed).pop() else {
                return;
            };
            let Some(mut body) = body.filter(|_| !is_expired) else {
                self.slots.give_back(number);
                self.obsolete.push(number);
                continue;
            };
            let gaps = match replayed {
                true => Box::default(),
                false => self.take_gaps(number, &mut body.delivery),
            };
            self.ahead.note(number);
            out.push(Delivery::Event(EventDelivery {
                slot: Some(slot_of(number)),
                ..body.delivery.clone()
            }));
            self.window.send(number, body, gaps);
        }
    }

    /// The live delivery `number` tells of all gaps before it; answers them.
    fn take_gaps(&mut self, number: u64, delivery: &mut EventDelivery) -> Box<[Gap]> {
        let mut told = Vec::new();
        while let Some(gap) = self.gaps.front()
            && gap.number < number
        {
            delivery.lost = delivery.lost.saturating_add(gap.lost);
            told.push(*gap);
            self.gaps.pop_front();
        }
        told.into_boxed_slice()
    }

    /// Frees a slot; answers the number it stood for.
    pub(super) fn settle(&mut self, slot: Slot) -> Option<u64> {
        let settled = self.window.settle(slot)?;
        Some(self.let_go(settled))
    }

    fn let_go(&mut self, settled: Settled) -> u64 {
        self.slots.give_back(settled.number);
        self.obsolete.extend(settled.gaps);
        settled.number
    }

    /// Keeps only the slot; answers the number it stands for.
    pub(super) fn advance(&mut self, slot: Slot) -> Option<u64> {
        let settled = self.window.advance(slot)?;
        self.obsolete.extend(settled.gaps);
        Some(settled.number)
    }

    /// Says whether the release in `slot` is durable. Answers whether there is one.
    pub(super) fn set_durable(&mut self, slot: Slot, durable: bool) -> bool {
        self.window.set_durable(slot, durable)
    }

    /// Drops the deliveries in memory, waiting and unsettled, whose topic is denied; answers their numbers.
    pub(super) fn drop_denied(&mut self, denied: impl Fn(&Topic) -> bool) -> Vec<u64> {
        let gone = self.take_waiting(|delivery| denied(&delivery.event.topic));
        let mut dropped: Vec<u64> = gone.iter().map(|item| item.number).collect();
        for settled in self.window.drop_denied(denied) {
            dropped.push(self.let_go(settled));
        }
        dropped
    }

    /// Takes out the deliveries in memory that wait unsent and are wanted, oldest first.
    pub(super) fn take_waiting(&mut self, wanted: impl Fn(&EventDelivery) -> bool) -> Vec<Sure> {
        let mut taken = Vec::new();
        let keep = |delivery: &EventDelivery| !wanted(delivery);
        self.live.retain(keep, &mut taken);
        self.replay.retain(keep, &mut taken);
        taken.sort_by_key(|item| item.number);
        for item in &taken {
            self.slots.give_back(item.number);
        }
        taken
    }

    /// Drops everything that waits; answers the numbers.
    pub(super) fn clear_waiting(&mut self) -> Vec<u64> {
        let mut gone = self.live.clear();
        gone.extend(self.replay.clear());
        for number in &gone {
            self.slots.give_back(*number);
        }
        gone
    }

    /// Takes the numbers whose stored copies are obsolete.
    pub(super) fn take_obsolete(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.obsolete)
    }

    /// Whether the realm should look after the stored copies: forget some, read some back, or move the bound on.
    pub(super) fn wants_care(&self, resident: usize) -> bool {
        !self.obsolete.is_empty() || self.wants_load(resident) || self.wants_extension()
    }

    /// Takes the numbers dropped to make room.
    pub(super) fn take_evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// What is to be stored of the deliveries in memory, in order; the others are stored.
    pub(super) fn stored_copies(&self) -> Vec<(u64, Option<EventDelivery>)> {
        let waiting = self.live.bodies().chain(self.replay.bodies());
        let waiting = waiting.map(|(number, delivery)| (number, Some(delivery.clone())));
        let mut copies: Vec<_> = self.window.copies().chain(waiting).collect();
        copies.sort_by_key(|(number, _)| *number);
        copies
    }

    /// What is to be stored of gaps: numbers, and how many deliveries were lost. Those too that somebody was told of,
    /// until what told is settled: it may never have arrived.
    pub(super) fn stored_gaps(&self) -> Vec<(u64, u32)> {
        let gaps = self.window.gaps().chain(&self.gaps);
        gaps.map(|gap| (gap.number, gap.lost)).collect()
    }

    /// Numbers of records that hold what is not in memory.
    pub(super) fn spilled_numbers(&self) -> Vec<u64> {
        self.live.spilled_numbers().collect()
    }

    /// All numbers that have a stored record.
    pub(super) fn stored_numbers(&self) -> Vec<u64> {
        let waiting = self.live.numbers().chain(self.replay.numbers());
        let gaps = self.gaps.iter().map(|gap| gap.number);
        self.window
            .records()
            .chain(waiting)
            .chain(gaps)
            .chain(self.obsolete.iter().copied())
            .collect()
    }
}
