//! What waits to be sent to one session, bounded in messages and bytes.
//!
//! Lanes. *Ordered*: everything a session must see in the realm's order (answers; for most sessions events too).
//! *Best*: at-most-once events of sessions that may lose some; full means the oldest goes. *Live*: events that the
//! receiver settles; they enter a window of slots when handed out and stay there, across connections, until settled.
//! *Replay*: kept values shown to a new subscription of such a session, of either kind; bounded by what the receiver
//! takes ([`Outbox::replay_room`]), never dropped, and handed out in the order of enqueueing among their kind.
//!
//! The realm appends under its own lock; the connection's writer takes from it without that lock.
//! One connection at a time owns the outbox: each [`Outbox::attach`] raises the generation, and the
//! holder of an older one gets nothing but [`EndReason::TakenOver`].

mod drain;
mod hearing;
mod inspect;
mod load;
mod passing;
mod queue;
mod relay;
mod slots;
mod stored;
mod unheeded;

pub use hearing::Former;
pub use inspect::Queued;
pub use load::Load;

use crate::limits::{LaneLimit, OutboxLimits, WhenFull};
use crate::model::{Delivery, EndReason, EventDelivery, Qos, Slot, Topic};
use hearing::Unheard;
use parking_lot::Mutex;
use passing::{Passing, Replayed};
use queue::Queue;
use relay::Relay;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Instant;
use unheeded::Unheeded;

/// The most unsettled deliveries whatever the receiver takes: half of all slots, so that new
/// deliveries always find a free one.
const WINDOW_MAX: usize = 32_767;

/// Replayed deliveries that wait for the window, beyond which a replay pauses.
const REPLAY_WAITING: usize = 64;

/// Replayed at-most-once deliveries that wait to be written, beyond which a replay pauses.
const REPLAY_FRAMES: usize = 256;

/// Bytes in a replay lane, beyond which a replay pauses.
const REPLAY_BYTES: usize = 256 << 10;

/// Approximate cost of a delivery that carries no event.
const SMALL_COST: usize = 96;

/// The queue between a realm and one session.
#[derive(Debug)]
pub struct Outbox {
    lanes: Mutex<Lanes>,
    /// The last asking to hear out the peer; outside the lock, because every turn looks at it.
    asked: AtomicU64,
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
    /// The outcome of the commit that stores the delivery is to be told: [`Outbox::saved`], or [`Outbox::lost`] and
    /// [`Outbox::rewritten`].
    pub report: bool,
    /// [`Outbox::bound`] was moved on and is to be stored by the same commit.
    pub bound: bool,
    /// More waits than the bound allows, because only so many may be dropped at a time: to be continued with
    /// [`Outbox::trim`].
    pub surplus: bool,
    /// Stored copies became obsolete: [`Outbox::take_expired`] answers them.
    pub expired: bool,
    /// Full, and the delivery was not taken.
    pub refused: bool,
    /// Full, and the delivery was not taken: the receiver's session is to end with all it holds.
    pub disconnect: bool,
}

/// What a drain leaves to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// More can be sent at once.
    pub more: bool,
    /// The realm has more to replay and there is room: call
    /// [`Realm::refill`](crate::realm::Realm::refill).
    pub refill: bool,
    /// Stored copies became obsolete, or are to be read back: call [`Realm::refill`](crate::realm::Realm::refill) too.
    pub expired: bool,
}

/// A delivery that waits for its window.
#[derive(Clone, Debug)]
pub struct Sure {
    /// Grows by enqueueing within the session; names the stored copy.
    pub number: u64,
    /// The commit that stores it, if any does.
    pub commit: Option<u64>,
    /// The delivery, without slot.
    pub delivery: EventDelivery,
}

#[derive(Debug)]
struct Lanes {
    limits: Arc<OutboxLimits>,
    generation: u64,
    /// The newest connection that has let go.
    released: u64,
    relay: Option<Box<Relay>>,
    /// `None`: whoever asked was answered.
    unheard: Option<Box<Unheard>>,
    attached: bool,
    /// The realm has welcomed the connection; before that nothing but answers may go out.
    opened: bool,
    /// The realm has more to replay once there is room.
    refill: bool,
    ended: Option<Box<EndReason>>,
    ordered: VecDeque<(Delivery, u32)>,
    ordered_bytes: usize,
    best: Passing,
    /// Replayed deliveries of the same kind.
    best_replay: Replayed,
    /// The place of the next at-most-once delivery in the order of enqueueing.
    next_order: u64,
    /// Most sessions never get anything that they have to settle.
    queue: Option<Box<Queue>>,
    window: usize,
    waker: Option<Waker>,
    /// The writer was woken and has not come yet.
    woken: bool,
    waiting_for_room: Vec<Waker>,
}

impl Outbox {
    /// An empty outbox without a connection.
    #[must_use]
    pub fn new(limits: impl Into<Arc<OutboxLimits>>) -> Outbox {
        Outbox {
            lanes: Mutex::new(Lanes {
                limits: limits.into(),
                generation: 0,
                released: 0,
                relay: None,
                unheard: None,
                attached: false,
                opened: false,
                refill: false,
                ended: None,
                ordered: VecDeque::new(),
                ordered_bytes: 0,
                best: Passing::default(),
                best_replay: Replayed::default(),
                next_order: 0,
                queue: None,
                window: WINDOW_MAX,
                waker: None,
                woken: false,
                waiting_for_room: Vec::new(),
            }),
            asked: AtomicU64::new(0),
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
        lanes.stop_hearing();
        // A connection may let go before the realm hears that it left.
        if lanes.attached && lanes.released < former {
            lanes
                .relay
                .get_or_insert_default()
                .holder
                .get_or_insert(former);
        }
        lanes.attached = true;
        lanes.opened = false;
        lanes.refill = false;
        lanes.ended = None;
        lanes.clear_passing();
        lanes.window = usize::from(window).clamp(1, WINDOW_MAX);
        if let Some(queue) = &mut lanes.queue {
            queue.resend();
            queue.unheeded = Unheeded::default();
        }
        lanes.woken = false;
        lanes.generation
    }

    /// Why connection `generation` is over, if it is.
    #[must_use]
    pub fn end_reason(&self, generation: u64) -> Option<EndReason> {
        let lanes = self.lanes.lock();
        if lanes.generation != generation {
            return Some(EndReason::TakenOver);
        }
        lanes.ended.as_deref().cloned()
    }

    /// Whether another connection of the same client waits for this one to go.
    #[must_use]
    pub fn is_taken_over(&self, generation: u64) -> bool {
        let lanes = self.lanes.lock();
        lanes.generation != generation || lanes.ended.as_deref() == Some(&EndReason::TakenOver)
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
        let resident = lanes.limits.resident;
        if let Some(queue) = &mut lanes.queue {
            queue.spill(resident, true);
        }
    }

    /// Ends the session's current connection with `reason` as its last delivery. The writer is to be woken, even if it
    /// was before: its peer may take nothing ([`Outbox::register_end`]).
    pub fn end(&self, reason: EndReason) {
        let mut lanes = self.lanes.lock();
        if lanes.ended.is_none() {
            lanes.ended = Some(Box::new(reason));
        }
        lanes.stop_hearing();
        lanes.release_waiting();
        lanes.woken = true;
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
        let limit = lanes.limits.ordered;
        let (count, bytes) = (lanes.ordered.len(), lanes.ordered_bytes);
        Pushed {
            wake: lanes.wants_wake(),
            pressed: limit.is_pressed(count, bytes),
            overflow: limit.is_over(count, bytes),
            ..Pushed::default()
        }
    }

    /// Appends an at-most-once delivery; live ones to the lane that may lose its oldest.
    pub fn push_best(&self, delivery: EventDelivery) -> Pushed {
        let mut lanes = self.lanes.lock();
        if !lanes.attached || lanes.ended.is_some() {
            return Pushed::default();
        }
        let order = lanes.next_order;
        lanes.next_order += 1;
        if delivery.replayed {
            lanes.best_replay.make().push(order, delivery);
            return Pushed {
                wake: lanes.wants_wake(),
                ..Pushed::default()
            };
        }
        let limit = lanes.limits.best;
        let best = &mut lanes.best;
        best.push(order, delivery);
        let mut dropped = 0;
        while limit.is_over(best.items.len(), best.bytes) && best.pop().is_some() {
            dropped += 1;
        }
        best.lost = best.lost.saturating_add(dropped);
        let pressed = limit.is_pressed(best.items.len(), best.bytes);
        Pushed {
            wake: lanes.wants_wake(),
            pressed,
            dropped,
            ..Pushed::default()
        }
    }

    /// Appends a delivery that the receiver settles, and answers its number. Nothing is taken for expired.
    pub fn push_sure(&self, delivery: EventDelivery) -> (u64, Pushed) {
        self.push_stored(delivery, None, usize::MAX, 0, None)
    }

    /// The same at `unix_ms` or `instant` for a delivery that is stored by `commit` under that number. At exactly-once it is handed
    /// out, with all behind it, only after [`Outbox::saved`] with that commit or a later one. At most `most` others are
    /// dropped to make room.
    pub fn push_stored(
        &self,
        delivery: EventDelivery,
        commit: Option<u64>,
        most: usize,
        unix_ms: u64,
        instant: Option<Instant>,
    ) -> (u64, Pushed) {
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let (replayed, cost) = (delivery.replayed, delivery.event.cost());
        let limit = lanes.sure_limit();
        let drops = lanes.limits.when_full == WhenFull::DropOldest;
        let queue = lanes.queue.get_or_insert_default();
        if !drops && !replayed && queue.is_full(limit, cost, unix_ms) {
            let disconnect = lanes.limits.when_full == WhenFull::Disconnect;
            let pushed = Pushed {
                refused: !disconnect,
                disconnect,
                expired: queue.has_obsolete(),
                ..Pushed::default()
            };
            return (0, pushed);
        }
        if !replayed {
            // From the next one on, so that who asked for room before gets what it was told.
            queue.unheeded.note(cost, instant, &lanes.limits);
        }
        let first = queue.make_slot(unix_ms);
        let (number, report) = queue.push(delivery, commit);
        let mut evicted = first;
        // What somebody was promised goes only where the policy says so.
        if drops && !replayed {
            evicted = queue.make_room(limit, most, unix_ms).or(first);
        }
        let mut pushed = Pushed {
            pressed: lanes.attached && !replayed && queue.is_pressed(limit),
            evicted,
            surplus: drops && queue.is_over(limit),
            expired: queue.has_obsolete(),
            report,
            ..Pushed::default()
        };
        if let Some(commit) = commit
            && lanes.attached
            && queue.wants_extension()
        {
            pushed.report |= queue.extend(commit);
            pushed.bound = true;
        }
        pushed.wake = lanes.attached && queue.may_send(lanes.window) && lanes.wants_wake();
        (number, pushed)
    }

    /// Whether one more delivery to be settled, of `cost` bytes as [`Event::cost`](crate::model::Event::cost) counts
    /// them, would at `unix_ms` be refused or push out another.
    #[must_use]
    pub fn is_full(&self, cost: usize, unix_ms: u64) -> bool {
        let mut lanes = self.lanes.lock();
        let limit = lanes.sure_limit();
        match &mut lanes.queue {
            Some(queue) => queue.is_full(limit, cost, unix_ms),
            None => limit.is_over(1, cost),
        }
    }

    /// Drops at most `most` deliveries that wait beyond the bound, if the policy is to drop. Answers whether there are
    /// more; [`Outbox::take_evicted`] and [`Outbox::take_expired`] answer which went.
    pub fn trim(&self, most: usize, unix_ms: u64) -> bool {
        let mut lanes = self.lanes.lock();
        let limit = lanes.sure_limit();
        let drops = lanes.limits.when_full == WhenFull::DropOldest;
        match &mut lanes.queue {
            Some(queue) if drops => {
                queue.make_room(limit, most, unix_ms);
                queue.is_over(limit)
            }
            _ => false,
        }
    }

    /// Everything up to `commit` is on disk. Answers whether the writer must be woken.
    pub fn saved(&self, commit: u64) -> bool {
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let Some(queue) = &mut lanes.queue else {
            return false;
        };
        let opens = queue.saved(commit);
        if !lanes.attached {
            queue.spill(lanes.limits.resident, false);
        }
        opens && lanes.attached && lanes.has_sendable() && lanes.wants_wake()
    }

    /// The store refused everything that [`Outbox::saved`] has not reported.
    pub fn lost(&self) {
        if let Some(queue) = &mut self.lanes.lock().queue {
            queue.lost();
        }
    }

    /// What was [lost](Outbox::lost) is written again with `commit`.
    pub fn rewritten(&self, commit: u64) {
        if let Some(queue) = &mut self.lanes.lock().queue {
            queue.rewritten(commit);
        }
    }

    /// Frees a slot. Answers the number of the stored copy, or `None` for an unknown slot.
    pub fn settle(&self, slot: Slot) -> Option<u64> {
        self.settle_with(slot, &mut Vec::new())
    }

    /// The same; adds to `obsolete` what [`Outbox::take_expired`] would answer.
    pub fn settle_with(&self, slot: Slot, obsolete: &mut Vec<u64>) -> Option<u64> {
        let mut lanes = self.lanes.lock();
        let queue = lanes.queue.as_mut()?;
        let number = queue.settle(slot)?;
        if queue.has_obsolete() {
            obsolete.append(&mut queue.take_obsolete());
        }
        queue.unheeded = Unheeded::default();
        lanes.release_if_roomy();
        Some(number)
    }

    /// Whether more waits than the window lets through now.
    #[must_use]
    pub fn has_sendable(&self) -> bool {
        self.lanes.lock().has_sendable()
    }

    /// The receiver has the delivery in `slot`; keeps only the slot. Answers the number of the
    /// stored copy, or `None` for an unknown slot.
    pub fn advance(&self, slot: Slot) -> Option<u64> {
        let mut lanes = self.lanes.lock();
        let queue = lanes.queue.as_mut()?;
        let number = queue.advance(slot)?;
        queue.unheeded = Unheeded::default();
        Some(number)
    }

    /// What [`Outbox::advance`] did is not durable yet: until [`Outbox::confirm`] a new connection is
    /// not told to let go of the slot, nor of anything after it.
    pub fn unconfirm(&self, slot: Slot) {
        self.set_durable(slot, false);
    }

    /// The release of `slot` is durable. Answers whether it was still open.
    pub fn confirm(&self, slot: Slot) -> bool {
        self.set_durable(slot, true)
    }

    fn set_durable(&self, slot: Slot, durable: bool) -> bool {
        let mut lanes = self.lanes.lock();
        lanes
            .queue
            .as_mut()
            .is_some_and(|queue| queue.set_durable(slot, durable))
    }

    /// How many deliveries a replay may append now to a session that sees all in order: up to half of the fullest lane.
    #[must_use]
    pub fn room(&self) -> usize {
        self.lanes.lock().room()
    }

    /// How many replayed deliveries may be appended now, of whatever assurance.
    #[must_use]
    pub fn replay_room(&self) -> usize {
        self.lanes.lock().replay_room()
    }

    /// How many replayed deliveries may be appended now if none has a higher assurance than `qos`.
    #[must_use]
    pub fn replay_room_at(&self, qos: Qos) -> usize {
        let lanes = self.lanes.lock();
        match qos {
            Qos::AtMostOnce => lanes.best_replay_room(),
            Qos::AtLeastOnce | Qos::ExactlyOnce => lanes.replay_room(),
        }
    }

    /// Takes the numbers whose stored copies are obsolete.
    pub fn take_expired(&self) -> Vec<u64> {
        self.with_queue(Queue::take_obsolete)
    }

    /// Drops the waiting and unsettled deliveries whose topic is denied; answers their numbers.
    pub fn drop_waiting(&self, denied: impl Fn(&Topic) -> bool) -> Vec<u64> {
        self.with_queue(|queue| queue.drop_denied(denied))
    }

    /// Takes out the deliveries that wait unsent and are `wanted`, oldest first; their stored copies are the caller's
    /// to forget.
    pub fn take_waiting(&self, wanted: impl Fn(&EventDelivery) -> bool) -> Vec<Sure> {
        self.with_queue(|queue| queue.take_waiting(wanted))
    }

    /// Takes the numbers of the deliveries dropped to make room.
    pub fn take_evicted(&self) -> Vec<u64> {
        self.with_queue(Queue::take_evicted)
    }

    fn with_queue<T: Default>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut lanes = self.lanes.lock();
        lanes.queue.as_deref_mut().map_or_else(T::default, work)
    }

    /// What is to be stored of the session's unsettled and waiting deliveries that are in memory, in order: numbers,
    /// and the delivery unless only its release is open (as [`Outbox::restore`] takes them).
    #[must_use]
    pub fn stored_copies(&self) -> Vec<(u64, Option<EventDelivery>)> {
        self.with_queue(|queue| queue.stored_copies())
    }

    /// Gives back the memory of what is empty; for a session to which nothing happens.
    pub fn rest(&self) {
        let lanes = &mut *self.lanes.lock();
        if lanes.ordered.is_empty() {
            lanes.ordered = VecDeque::new();
        }
        lanes.best.rest();
        lanes.best_replay.rest();
        lanes.waiting_for_room.shrink_to_fit();
    }

    /// Queued deliveries: ordered and at most once, waiting to be settled, in the window.
    #[must_use]
    pub fn depth(&self) -> (usize, usize, usize) {
        let lanes = self.lanes.lock();
        let passing = lanes.ordered.len() + lanes.best.items.len() + lanes.best_replay.len();
        let queue = lanes.queue.as_ref();
        queue.map_or((passing, 0, 0), |queue| {
            (passing, queue.waiting(), queue.unsettled())
        })
    }

    /// How many more deliveries the receiver's window takes at once, after those that wait; 0 without a connection.
    #[must_use]
    pub fn window_room(&self) -> usize {
        let lanes = self.lanes.lock();
        if !lanes.attached {
            return 0;
        }
        let queue = lanes.queue.as_ref();
        let used = queue.map_or(0, |queue| queue.waiting() + queue.unsettled());
        lanes.window.saturating_sub(used)
    }

    /// All numbers that have a stored record.
    #[must_use]
    pub fn stored_numbers(&self) -> Vec<u64> {
        self.with_queue(|queue| queue.stored_numbers())
    }
}

impl Lanes {
    fn wants_wake(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    /// The bound on live deliveries that wait. What the window of an open connection lets through waits only for the
    /// writer, so it does not count.
    /// The bound of the queue now. A receiver that settles what it gets may fall behind as far as any
    /// other: a burst is worked off.
    fn sure_limit(&self) -> LaneLimit {
        let sure = self.limits.sure;
        let queue = self.queue.as_ref();
        let is_stuck = queue.is_some_and(|queue| queue.unheeded.is_stuck);
        let keeps_up = self.attached && !is_stuck;
        let LaneLimit { frames, bytes } = match keeps_up {
            true => sure.max_of(self.limits.ordered),
            false => sure,
        };
        let at_once = match (&self.queue, self.attached) {
            (_, false) => 0,
            (Some(queue), true) => queue.window_left(self.window),
            (None, true) => self.window,
        };
        let frames = frames.saturating_add(at_once);
        LaneLimit { frames, bytes }
    }

    fn clear_passing(&mut self) {
        self.ordered.clear();
        self.ordered_bytes = 0;
        self.best.clear();
        self.best_replay.clear();
    }

    fn room(&self) -> usize {
        let limits = &self.limits;
        let best = &self.best;
        let queue = self.queue.as_ref();
        let sure = queue.map_or(usize::MAX, |queue| queue.room(limits.sure));
        limits
            .ordered
            .room(self.ordered.len(), self.ordered_bytes)
            .min(limits.best.room(best.items.len(), best.bytes))
            .min(sure)
    }

    fn replay_room(&self) -> usize {
        let window = self.window;
        let queue = self.queue.as_ref();
        let sure = queue.map_or(window.min(REPLAY_WAITING), |queue| {
            queue.replay_room(window)
        });
        sure.min(self.best_replay_room())
    }

    fn best_replay_room(&self) -> usize {
        let lane = &self.best_replay;
        match lane.bytes() >= REPLAY_BYTES {
            true => 0,
            false => REPLAY_FRAMES.saturating_sub(lane.len()),
        }
    }

    fn is_roomy(&self) -> bool {
        let limits = &self.limits;
        let best = &self.best;
        let queue = self.queue.as_ref();
        limits
            .ordered
            .is_roomy(self.ordered.len(), self.ordered_bytes)
            && limits.best.is_roomy(best.items.len(), best.bytes)
            && queue.is_none_or(|queue| queue.is_roomy(self.sure_limit()))
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

fn cost_of(delivery: &Delivery) -> usize {
    SMALL_COST
        + match delivery {
            Delivery::Event(delivery) => delivery.event.cost(),
            Delivery::Invocation(invocation) => invocation.payload.len(),
            Delivery::Result { payload, .. } => payload.len(),
            _ => 0,
        }
}
