//! What waits to be sent to one session, bounded in messages and bytes.
//!
//! Three lanes. *Ordered*: everything a session must see in the realm's order (answers; for most
//! sessions events too). *Best*: at-most-once events of sessions that may lose some; full means the
//! oldest goes. *Sure*: events that the receiver settles; they enter a window of slots when handed
//! out and stay there, across connections, until settled.
//!
//! The realm appends under its own lock; the connection's writer takes from it without that lock.
//! One connection at a time owns the outbox: each [`Outbox::attach`] raises the generation, and the
//! holder of an older one gets nothing but [`EndReason::TakenOver`].

use crate::limits::OutboxLimits;
use crate::model::{Delivery, EndReason, EventDelivery, Slot, Topic};
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

/// The most unsettled deliveries whatever the receiver takes: half of all slots, so that new
/// deliveries always find a free one.
const WINDOW_MAX: usize = 32_767;

/// The most deliveries that wait or are unsettled at a time; each occupies its own slot.
const OCCUPIED_MAX: usize = 65_535;

/// Approximate cost of a delivery that carries no event.
const SMALL_COST: usize = 96;

/// The queue between a realm and one session.
#[derive(Debug)]
pub struct Outbox {
    lanes: Mutex<Lanes>,
}

/// What a push did, for the realm to act upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The writer sleeps and must be woken.
    pub wake: bool,
    /// More than three quarters full: the publisher should pause.
    pub pressed: bool,
    /// Full, and nothing may be dropped: the session has to end.
    pub overflow: bool,
    /// At-most-once deliveries dropped to make room.
    pub dropped: u32,
    /// Settleable deliveries were dropped to make room, this one last; [`Outbox::take_evicted`]
    /// answers all of them.
    pub evicted: Option<u64>,
}

/// What a drain leaves to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// More can be sent at once.
    pub more: bool,
    /// The realm has more to replay and there is room: call
    /// [`Realm::refill`](crate::realm::Realm::refill).
    pub refill: bool,
    /// Stored copies became obsolete: call [`Realm::refill`](crate::realm::Realm::refill) too.
    pub expired: bool,
}

/// A delivery that waits for its window, or in it for its settlement.
#[derive(Clone, Debug)]
pub struct Sure {
    /// Grows by enqueueing within the session; names the stored copy.
    pub number: u64,
    /// The delivery, without slot.
    pub delivery: EventDelivery,
}

/// What is stored of an item in the window.
#[derive(Debug)]
enum Phase {
    /// Handed out, not settled.
    Sent(EventDelivery),
    /// The receiver has it; only the release is open.
    Released,
    /// The same, but that is not durable yet, so the receiver must not be told to let go.
    Releasing,
}

#[derive(Debug)]
struct Unsettled {
    slot: Slot,
    number: u64,
    phase: Phase,
}

#[derive(Debug)]
struct Lanes {
    limits: OutboxLimits,
    generation: u64,
    /// The connection that has not let go yet, if a newer one was given the outbox.
    holder: Option<u64>,
    /// The newest connection that has let go.
    released: u64,
    /// The outbox of the session that this one replaced, and the connection that held it.
    predecessor: Option<(Arc<Outbox>, u64)>,
    /// To be woken when a connection lets go.
    successors: Vec<Waker>,
    attached: bool,
    /// The realm has welcomed the connection; before that nothing but answers may go out.
    opened: bool,
    /// The realm has more to replay once there is room.
    refill: bool,
    ended: Option<EndReason>,
    ordered: VecDeque<(Delivery, u32)>,
    ordered_bytes: usize,
    best: VecDeque<EventDelivery>,
    best_bytes: usize,
    sure: VecDeque<Sure>,
    sure_bytes: usize,
    /// Numbers in `sure` that must be on disk before they are handed out, and their commits.
    gates: VecDeque<(u64, u64)>,
    unsettled: VecDeque<Unsettled>,
    /// Items of `unsettled` still to be handed out again to a new connection.
    resend_from: usize,
    window: usize,
    next_number: u64,
    /// The slots of `sure` and `unsettled`.
    occupied: HashSet<Slot, foldhash::fast::RandomState>,
    /// Numbers whose stored copy is obsolete because they expired unsent.
    expired: Vec<u64>,
    /// Numbers dropped to make room, until the realm takes them.
    evicted: Vec<u64>,
    waker: Option<Waker>,
    /// The writer was woken and has not come yet.
    woken: bool,
    waiting_for_room: Vec<Waker>,
}

impl Outbox {
    /// An empty outbox without a connection.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Outbox {
        Outbox {
            lanes: Mutex::new(Lanes {
                limits,
                generation: 0,
                holder: None,
                released: 0,
                predecessor: None,
                successors: Vec::new(),
                attached: false,
                opened: false,
                refill: false,
                ended: None,
                ordered: VecDeque::new(),
                ordered_bytes: 0,
                best: VecDeque::new(),
                best_bytes: 0,
                sure: VecDeque::new(),
                sure_bytes: 0,
                gates: VecDeque::new(),
                unsettled: VecDeque::new(),
                resend_from: 0,
                window: WINDOW_MAX,
                next_number: 1,
                occupied: HashSet::default(),
                expired: Vec::new(),
                evicted: Vec::new(),
                waker: None,
                woken: false,
                waiting_for_room: Vec::new(),
            }),
        }
    }

    /// Gives the outbox to a new connection with a window of `window` unsettled deliveries, and
    /// answers its generation. Unsettled deliveries will be handed out again, in order.
    pub fn attach(&self, window: u16) -> u64 {
        let mut lanes = self.lanes.lock();
        if let Some(waker) = lanes.waker.take() {
            waker.wake();
        }
        let former = lanes.generation;
        lanes.generation += 1;
        // A connection may let go before the realm hears that it left.
        if lanes.attached && lanes.holder.is_none() && lanes.released < former {
            lanes.holder = Some(former);
        }
        lanes.attached = true;
        lanes.opened = false;
        lanes.refill = false;
        lanes.ended = None;
        lanes.clear_passing();
        lanes.window = usize::from(window).clamp(1, WINDOW_MAX);
        lanes.resend_from = 0;
        lanes.woken = false;
        lanes.generation
    }

    /// Nothing is handed out until connection `generation` of `predecessor`, the outbox of a session
    /// that this one's replaced, has let go. Lock order: successor before predecessor.
    pub fn follow(&self, predecessor: Arc<Outbox>, generation: u64) {
        self.lanes.lock().predecessor = Some((predecessor, generation));
    }

    /// Whether connection `generation` has let go; if not, `waker` is called when it does.
    fn has_let_go(&self, generation: u64, waker: Option<&Waker>) -> bool {
        let mut lanes = self.lanes.lock();
        let gone = lanes.released >= generation;
        if !gone
            && let Some(waker) = waker
            && !lanes.successors.iter().any(|known| known.will_wake(waker))
        {
            lanes.successors.push(waker.clone());
        }
        gone
    }

    /// Why connection `generation` is over, if it is.
    #[must_use]
    pub fn end_reason(&self, generation: u64) -> Option<EndReason> {
        let lanes = self.lanes.lock();
        if lanes.generation != generation {
            return Some(EndReason::TakenOver);
        }
        lanes.ended.clone()
    }

    /// Whether another connection of the same client waits for this one to go.
    #[must_use]
    pub fn is_taken_over(&self, generation: u64) -> bool {
        let lanes = self.lanes.lock();
        lanes.generation != generation || lanes.ended == Some(EndReason::TakenOver)
    }

    /// The connection of `generation` will not send anything any more. A connection in between,
    /// which never was let in, does not speak for the one that still holds the outbox.
    pub fn release(&self, generation: u64) {
        let mut lanes = self.lanes.lock();
        lanes.released = lanes.released.max(generation);
        for waker in lanes.successors.drain(..) {
            waker.wake();
        }
        if lanes.holder == Some(generation) {
            lanes.holder = None;
            if let Some(waker) = lanes.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether `generation` is the current connection.
    #[must_use]
    pub fn is_current(&self, generation: u64) -> bool {
        let lanes = self.lanes.lock();
        lanes.attached && lanes.generation == generation
    }

    /// The realm has more for this session once there is room.
    pub fn set_refill(&self, refill: bool) {
        self.lanes.lock().refill = refill;
    }

    /// The connection is gone: only what must be settled stays.
    pub fn detach(&self) {
        let mut lanes = self.lanes.lock();
        lanes.attached = false;
        lanes.clear_passing();
        lanes.release_waiting();
    }

    /// Ends the session's current connection with `reason` as its last delivery.
    /// Answers whether the writer must be woken.
    pub fn end(&self, reason: EndReason) -> bool {
        let mut lanes = self.lanes.lock();
        if lanes.ended.is_none() {
            lanes.ended = Some(reason);
        }
        lanes.release_waiting();
        lanes.wants_wake()
    }

    /// Appends to the ordered lane.
    pub fn push(&self, delivery: Delivery) -> Pushed {
        let mut lanes = self.lanes.lock();
        if !lanes.attached || lanes.ended.is_some() {
            return Pushed::default();
        }
        lanes.opened |= matches!(delivery, Delivery::Joined { .. });
        let cost = cost_of(&delivery);
        lanes.ordered_bytes += cost;
        lanes
            .ordered
            .push_back((delivery, u32::try_from(cost).unwrap_or(u32::MAX)));
        let limits = lanes.limits;
        let (count, bytes) = (lanes.ordered.len(), lanes.ordered_bytes);
        Pushed {
            wake: lanes.wants_wake(),
            pressed: limits.ordered.is_pressed(count, bytes),
            overflow: limits.ordered.is_over(count, bytes),
            ..Pushed::default()
        }
    }

    /// Appends to the lane that may lose its oldest.
    pub fn push_best(&self, delivery: EventDelivery) -> Pushed {
        let mut lanes = self.lanes.lock();
        if !lanes.attached || lanes.ended.is_some() {
            return Pushed::default();
        }
        lanes.best_bytes += delivery.event.cost();
        lanes.best.push_back(delivery);
        let limits = lanes.limits;
        let mut dropped = 0;
        while limits.best.is_over(lanes.best.len(), lanes.best_bytes) {
            let Some(oldest) = lanes.best.pop_front() else {
                break;
            };
            lanes.best_bytes -= oldest.event.cost();
            dropped += 1;
        }
        Pushed {
            wake: lanes.wants_wake(),
            pressed: limits.best.is_pressed(lanes.best.len(), lanes.best_bytes),
            dropped,
            ..Pushed::default()
        }
    }

    /// Appends a delivery that the receiver settles, and answers the number of its stored copy.
    pub fn push_sure(&self, delivery: EventDelivery) -> (u64, Pushed) {
        self.push_gated(delivery, None)
    }

    /// The same for a delivery that is handed out, with all behind it, only after
    /// [`Outbox::open_gates`] with that `commit` or a later one.
    pub fn push_gated(&self, delivery: EventDelivery, commit: Option<u64>) -> (u64, Pushed) {
        let mut lanes = self.lanes.lock();
        let limit = if lanes.attached {
            lanes.limits.sure
        } else {
            lanes.limits.sure_offline
        };
        let mut evicted = None;
        if lanes.occupied.len() >= OCCUPIED_MAX {
            evicted = lanes.evict();
        }
        let number = lanes.free_number();
        lanes.sure_bytes += delivery.event.cost();
        lanes.sure.push_back(Sure { number, delivery });
        lanes.gates.extend(commit.map(|commit| (number, commit)));
        // A large delivery may have to push out several small ones.
        while limit.is_over(lanes.sure.len(), lanes.sure_bytes)
            && let Some(oldest) = lanes.evict()
        {
            evicted = Some(oldest);
        }
        let pushed = Pushed {
            wake: lanes.attached
                && lanes.unsettled.len() < lanes.window
                && lanes.has_open_sure()
                && lanes.wants_wake(),
            pressed: lanes.attached && limit.is_pressed(lanes.sure.len(), lanes.sure_bytes),
            evicted,
            ..Pushed::default()
        };
        (number, pushed)
    }

    /// Everything up to `commit` is on disk. Answers whether the writer must be woken.
    pub fn open_gates(&self, commit: u64) -> bool {
        let mut lanes = self.lanes.lock();
        let open = lanes
            .gates
            .iter()
            .take_while(|(_, gate)| *gate <= commit)
            .count();
        lanes.gates.drain(..open);
        open > 0 && lanes.attached && lanes.has_sendable() && lanes.wants_wake()
    }

    /// Puts back what was stored of an earlier life of the session, oldest first.
    pub fn restore(&self, number: u64, delivery: Option<EventDelivery>) {
        let mut lanes = self.lanes.lock();
        lanes.next_number = lanes.next_number.max(number + 1);
        lanes.occupied.insert(slot_of(number));
        match delivery {
            Some(delivery) => {
                lanes.sure_bytes += delivery.event.cost();
                lanes.sure.push_back(Sure { number, delivery });
            }
            None => {
                let slot = slot_of(number);
                lanes.unsettled.push_back(Unsettled {
                    slot,
                    number,
                    phase: Phase::Released,
                });
            }
        }
    }

    /// Frees a slot. Answers the number of the stored copy, or `None` for an unknown slot.
    pub fn settle(&self, slot: Slot) -> Option<u64> {
        let mut lanes = self.lanes.lock();
        let place = lanes.unsettled.iter().position(|item| item.slot == slot)?;
        let item = lanes.unsettled.remove(place)?;
        lanes.occupied.remove(&slot);
        if place < lanes.resend_from {
            lanes.resend_from -= 1;
        }
        lanes.release_if_roomy();
        Some(item.number)
    }

    /// Whether more waits than the window lets through now.
    #[must_use]
    pub fn has_sendable(&self) -> bool {
        let lanes = self.lanes.lock();
        lanes.has_sendable()
    }

    /// The receiver has the delivery in `slot`; keeps only the slot. Answers the number of the
    /// stored copy, or `None` for an unknown slot.
    pub fn advance(&self, slot: Slot) -> Option<u64> {
        let mut lanes = self.lanes.lock();
        let item = lanes.unsettled.iter_mut().find(|item| item.slot == slot)?;
        item.phase = Phase::Released;
        Some(item.number)
    }

    /// What [`Outbox::advance`] did is not durable yet: until [`Outbox::confirm`] a new connection is
    /// not told to let go of the slot, nor of anything after it.
    pub fn unconfirm(&self, slot: Slot) {
        self.set_phase(slot, Phase::Releasing);
    }

    /// The release of `slot` is durable. Answers whether it was still open.
    pub fn confirm(&self, slot: Slot) -> bool {
        self.set_phase(slot, Phase::Released)
    }

    fn set_phase(&self, slot: Slot, phase: Phase) -> bool {
        let mut lanes = self.lanes.lock();
        match lanes.unsettled.iter_mut().find(|item| item.slot == slot) {
            Some(item) if !matches!(item.phase, Phase::Sent(_)) => {
                item.phase = phase;
                true
            }
            _ => false,
        }
    }

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
            out.extend(lanes.ended.clone().map(Delivery::Ended));
            return Drained::default();
        }
        if lanes.must_wait(None) {
            return Drained::default();
        }
        let end = out.len() + max;
        lanes.drain_ordered(end, out);
        if lanes.opened {
            lanes.drain_resend(end, out);
            lanes.drain_sure(end, unix_ms, out);
            lanes.drain_best(end, unix_ms, out);
        }
        lanes.release_if_roomy();
        let more = lanes.has_sendable();
        lanes.woken = more;
        if !more && let Some(reason) = lanes.ended.clone() {
            out.push(Delivery::Ended(reason));
        }
        // Only while the realm still knows the session, or the caller would ask for ever.
        let is_live = lanes.attached && lanes.ended.is_none();
        Drained {
            more,
            refill: is_live && lanes.refill && lanes.room() > 0,
            expired: is_live && !lanes.expired.is_empty(),
        }
    }

    /// Calls `waker` when there is something to send.
    pub fn register(&self, generation: u64, waker: &Waker) {
        let mut lanes = self.lanes.lock();
        if lanes.generation != generation {
            waker.wake_by_ref();
            return;
        }
        if lanes
            .waker
            .as_ref()
            .is_none_or(|known| !known.will_wake(waker))
        {
            lanes.waker = Some(waker.clone());
        }
        let may_send =
            !lanes.must_wait(Some(waker)) && (lanes.has_sendable() || lanes.ended.is_some());
        if may_send {
            waker.wake_by_ref();
        }
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

    /// How many deliveries a replay may append now: up to half of the fullest lane.
    #[must_use]
    pub fn room(&self) -> usize {
        self.lanes.lock().room()
    }

    /// Takes the numbers whose stored copies are obsolete.
    pub fn take_expired(&self) -> Vec<u64> {
        std::mem::take(&mut self.lanes.lock().expired)
    }

    /// Drops the waiting and unsettled deliveries whose topic is denied; answers their numbers.
    pub fn drop_waiting(&self, denied: impl Fn(&Topic) -> bool) -> Vec<u64> {
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let mut dropped = Vec::new();
        let (sure_bytes, occupied) = (&mut lanes.sure_bytes, &mut lanes.occupied);
        lanes.sure.retain(|item| {
            let keep = !denied(&item.delivery.event.topic);
            if !keep {
                *sure_bytes -= item.delivery.event.cost();
                dropped.push(item.number);
            }
            keep
        });
        lanes.unsettled.retain(|item| {
            let keep = match &item.phase {
                Phase::Sent(delivery) => !denied(&delivery.event.topic),
                Phase::Releasing | Phase::Released => true,
            };
            if !keep {
                dropped.push(item.number);
            }
            keep
        });
        for number in &dropped {
            occupied.remove(&slot_of(*number));
        }
        lanes.gates.retain(|(number, _)| !dropped.contains(number));
        dropped
    }

    /// Takes the numbers of the deliveries dropped to make room.
    pub fn take_evicted(&self) -> Vec<u64> {
        std::mem::take(&mut self.lanes.lock().evicted)
    }

    /// What is to be stored of the session's unsettled and waiting deliveries, in order: numbers,
    /// and the delivery unless only its release is open (as [`Outbox::restore`] takes them).
    #[must_use]
    pub fn stored_copies(&self) -> Vec<(u64, Option<EventDelivery>)> {
        let lanes = self.lanes.lock();
        let unsettled = lanes.unsettled.iter().map(|item| {
            let delivery = match &item.phase {
                Phase::Sent(delivery) => Some(delivery.clone()),
                Phase::Released | Phase::Releasing => None,
            };
            (item.number, delivery)
        });
        let waiting = lanes
            .sure
            .iter()
            .map(|item| (item.number, Some(item.delivery.clone())));
        unsettled.chain(waiting).collect()
    }

    /// Queued deliveries: ordered and best, waiting to be settled, in the window.
    #[must_use]
    pub fn depth(&self) -> (usize, usize, usize) {
        let lanes = self.lanes.lock();
        (
            lanes.ordered.len() + lanes.best.len(),
            lanes.sure.len(),
            lanes.unsettled.len(),
        )
    }

    /// All numbers that have a stored copy.
    #[must_use]
    pub fn stored_numbers(&self) -> Vec<u64> {
        let lanes = self.lanes.lock();
        let waiting = lanes.sure.iter().map(|item| item.number);
        lanes
            .unsettled
            .iter()
            .map(|item| item.number)
            .chain(waiting)
            .chain(lanes.expired.iter().copied())
            .collect()
    }
}

impl Lanes {
    /// Whether a former connection of the same client still has to let go.
    fn must_wait(&mut self, waker: Option<&Waker>) -> bool {
        if let Some((predecessor, generation)) = &self.predecessor
            && predecessor.has_let_go(*generation, waker)
        {
            self.predecessor = None;
        }
        self.holder.is_some() || self.predecessor.is_some()
    }

    fn wants_wake(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    fn has_sendable(&self) -> bool {
        if !self.opened {
            return !self.ordered.is_empty();
        }
        !self.ordered.is_empty()
            || !self.best.is_empty()
            || self
                .unsettled
                .get(self.resend_from)
                .is_some_and(|item| !matches!(item.phase, Phase::Releasing))
            || (self.has_open_sure()
                && self.resend_from >= self.unsettled.len()
                && self.unsettled.len() < self.window)
    }

    fn drain_ordered(&mut self, end: usize, out: &mut Vec<Delivery>) {
        while out.len() < end
            && let Some((delivery, cost)) = self.ordered.pop_front()
        {
            self.ordered_bytes = self.ordered_bytes.saturating_sub(cost as usize);
            out.push(delivery);
        }
    }

    /// Repeats what an earlier connection did not settle, in the original order.
    fn drain_resend(&mut self, end: usize, out: &mut Vec<Delivery>) {
        while out.len() < end
            && let Some(item) = self.unsettled.get(self.resend_from)
        {
            out.push(match &item.phase {
                Phase::Releasing => return,
                Phase::Released => Delivery::Release { slot: item.slot },
                Phase::Sent(delivery) => {
                    let slot = Some(item.slot);
                    Delivery::Event(EventDelivery {
                        slot,
                        repeated: true,
                        ..delivery.clone()
                    })
                }
            });
            self.resend_from += 1;
        }
    }

    /// Whether the oldest that waits may be handed out.
    fn has_open_sure(&self) -> bool {
        let gate = self.gates.front().map_or(u64::MAX, |(number, _)| *number);
        self.sure.front().is_some_and(|oldest| oldest.number < gate)
    }

    fn drain_sure(&mut self, end: usize, unix_ms: u64, out: &mut Vec<Delivery>) {
        while out.len() < end
            && self.has_open_sure()
            && self.resend_from >= self.unsettled.len()
            && self.unsettled.len() < self.window
            && let Some(Sure { number, delivery }) = self.sure.pop_front()
        {
            self.sure_bytes -= delivery.event.cost();
            let slot = slot_of(number);
            if delivery.event.is_expired(unix_ms) {
                self.occupied.remove(&slot);
                self.expired.push(number);
                continue;
            }
            let phase = Phase::Sent(delivery.clone());
            self.unsettled.push_back(Unsettled {
                slot,
                number,
                phase,
            });
            self.resend_from += 1;
            out.push(Delivery::Event(EventDelivery {
                slot: Some(slot),
                ..delivery
            }));
        }
    }

    fn drain_best(&mut self, end: usize, unix_ms: u64, out: &mut Vec<Delivery>) {
        while out.len() < end
            && let Some(delivery) = self.best.pop_front()
        {
            self.best_bytes -= delivery.event.cost();
            if !delivery.event.is_expired(unix_ms) {
                out.push(Delivery::Event(delivery));
            }
        }
    }

    /// The next number whose slot nobody occupies; there is one, since fewer than all are occupied.
    fn free_number(&mut self) -> u64 {
        loop {
            let number = self.next_number;
            self.next_number += 1;
            if self.occupied.len() >= OCCUPIED_MAX || self.occupied.insert(slot_of(number)) {
                return number;
            }
        }
    }

    /// Drops the oldest delivery that still waits; answers its number.
    fn evict(&mut self) -> Option<u64> {
        let oldest = self.sure.pop_front()?;
        self.sure_bytes -= oldest.delivery.event.cost();
        self.occupied.remove(&slot_of(oldest.number));
        self.evicted.push(oldest.number);
        Some(oldest.number)
    }

    fn clear_passing(&mut self) {
        self.ordered.clear();
        self.ordered_bytes = 0;
        self.best.clear();
        self.best_bytes = 0;
    }

    fn room(&self) -> usize {
        let limits = &self.limits;
        [
            (limits.ordered, self.ordered.len(), self.ordered_bytes),
            (limits.best, self.best.len(), self.best_bytes),
            (limits.sure, self.sure.len(), self.sure_bytes),
        ]
        .into_iter()
        .map(|(limit, frames, bytes)| limit.room(frames, bytes))
        .min()
        .unwrap_or(0)
    }

    fn is_roomy(&self) -> bool {
        let limits = &self.limits;
        limits
            .ordered
            .is_roomy(self.ordered.len(), self.ordered_bytes)
            && limits.best.is_roomy(self.best.len(), self.best_bytes)
            && limits.sure.is_roomy(self.sure.len(), self.sure_bytes)
    }

    fn release_if_roomy(&mut self) {
        if !self.waiting_for_room.is_empty() && self.is_roomy() {
            self.release_waiting();
        }
    }

    fn release_waiting(&mut self) {
        for waker in self.waiting_for_room.drain(..) {
            waker.wake();
        }
    }
}

/// Numbers map to slots in turn, so that a restarted router repeats a delivery under the very
/// packet identifier it had before, without having stored it.
fn slot_of(number: u64) -> Slot {
    let turn = (number.saturating_sub(1) % u64::from(u16::MAX)) as u16;
    Slot::MIN.saturating_add(turn)
}

fn cost_of(delivery: &Delivery) -> usize {
    SMALL_COST
        + match delivery {
            Delivery::Event(delivery) => delivery.event.cost(),
            Delivery::Invocation(invocation) => invocation.payload.len(),
            Delivery::Result { payload, .. } => payload.len(),
            _ => 0,
        }
}
