//! Queues of what receivers settle: appending under the policy for full ones, stored copies, and reading back what is
//! on disk alone.
//!
//! A durable session without connection keeps only the oldest deliveries in memory. While a connection drains them,
//! the next ones are read through the store's writer, never under the realm's lock. A read that fails is tried again;
//! a record that is damaged or missing is counted, logged and passed over.

use super::catchup::READ_BYTES;
use super::meta::Reading;
use super::publish::{Author, is_wanted};
use super::{Effects, NOT_SEALED, Realm, detached, note};
use crate::auth::Action;
use crate::broker::{Member, Subscription};
use crate::limits::WhenFull;
use crate::model::{
    Delivery, EndReason, ErrorKind, Event, EventDelivery, Made, Now, PublicationId, Publish, Qos,
    Slot, SubscriptionId,
};
use crate::outbox::{Outbox, Pushed};
use crate::records::{self, StoredDelivery};
use crate::session::EventStyle;
use crate::timers::Timer;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use storage::{Found, Space, StorageError};

/// How long a failed read waits before it is tried again.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// The most bytes of records read at a time.
const LOAD_BYTES: usize = 1 << 20;

/// Records to be read, and answered by [`Realm::loaded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// To be returned with the answer.
    pub id: u64,
    /// Where the records are.
    pub space: Space,
    /// Their keys.
    pub keys: Vec<Vec<u8>>,
    /// Reading may stop once this many bytes of records were read.
    pub max_bytes: usize,
}

/// A load under way, or waiting to be tried again.
#[derive(Debug)]
pub(super) struct Loading {
    pub place: usize,
    pub outbox: Arc<Outbox>,
    pub numbers: Vec<u64>,
    pub purpose: Purpose,
}

/// What is read, and for what.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Queued deliveries of the session.
    Queue,
    /// Remembered events for the replay of a subscription.
    Replay(SubscriptionId),
    /// Remembered events that were asked for.
    Reading(Box<Reading>),
}

impl Realm {
    /// The outbox of a client's session, for inspection.
    #[must_use]
    pub fn outbox_of(&self, client: &str) -> Option<Arc<Outbox>> {
        let session = self.sessions.get(*self.clients.get(client)?)?;
        Some(session.outbox.clone())
    }

    pub(super) fn deliver_sure(
        &mut self,
        place: usize,
        mut delivery: EventDelivery,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        if !session.attached {
            delivery.event = detached(&delivery.event);
        }
        let stored = self
            .is_stored(session)
            .then(|| records::encode(&stored_delivery(&delivery)));
        let commit = stored.is_some().then_some(self.commit);
        let most = self.trimming.allowance();
        let outbox = &session.outbox;
        let (unix_ms, instant) = (self.unix_ms, self.instant);
        let (number, pushed) = outbox.push_stored(delivery, commit, most, unix_ms, instant);
        if pushed.refused || pushed.disconnect {
            self.turn_down(place, pushed);
            if pushed.expired {
                self.forget_obsolete(place, effects);
            }
            return;
        }
        if pushed.report {
            self.gated.push_back((self.commit, session.outbox.clone()));
        }
        note(&session.outbox, pushed, effects);
        if let (Some(client), Some(Ok(record))) = (&session.client, stored) {
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.put(records::QUEUES, key, record);
        }
        if pushed.bound {
            self.save_session(place, effects);
        }
        if pushed.evicted.is_some() || pushed.expired {
            self.forget_evicted(place, effects);
        }
        if pushed.surplus {
            self.trimming.note(place);
        }
        self.after_push(place, pushed);
    }

    /// A full queue did not take a delivery.
    fn turn_down(&mut self, place: usize, pushed: Pushed) {
        self.note_dropped(place, 1);
        if pushed.disconnect {
            self.counters.ended_queue_full += u64::from(self.overfull.insert(place));
            self.give_up(place);
            self.doom(place, EndReason::TooSlow);
        } else {
            self.counters.not_queued += 1;
        }
    }

    /// A session is about to end with all it holds. Until that is on disk a restart would bring it back, without the
    /// messages that came meanwhile.
    fn give_up(&mut self, place: usize) {
        let session = self.sessions.get(place);
        if session.is_some_and(|session| self.is_stored(session)) {
            self.given_up = match self.store_down {
                true => NOT_SEALED,
                false => self.commit,
            };
        }
    }

    /// The commit that the answer to a message waits for whose own one is `commit`.
    pub(super) fn commit_of_message(&self, qos: Qos, commit: u64) -> u64 {
        match qos {
            Qos::AtMostOnce => commit,
            _ => commit.max(self.given_up),
        }
    }

    /// Forgets what was dropped to make room, and stores the gap it left.
    pub(super) fn forget_evicted(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let outbox = session.outbox.clone();
        let evicted = outbox.take_evicted();
        self.forget_obsolete(place, effects);
        if evicted.is_empty() {
            return;
        }
        self.trimming.spend(evicted.len());
        self.counters.dropped_sure += evicted.len() as u64;
        self.note_dropped(place, evicted.len() as u64);
        for number in evicted {
            self.forget_delivery(place, number, effects);
        }
        if let (Some((number, lost)), Some(session)) = (outbox.gap(), self.sessions.get(place))
            && self.is_stored(session)
            && let Some(client) = &session.client
            && let Ok(record) = records::encode(&stored_gap(lost))
        {
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.put(records::QUEUES, key, record);
        }
    }

    /// Why a publish is refused before anybody receives it: the store is down and the message would have to be queued
    /// there, or the policy is to refuse and a receiver's queue is full.
    pub(super) fn turned_away(
        &mut self,
        place: usize,
        publish: &Publish,
        effects: &mut Effects,
    ) -> Option<(ErrorKind, &'static str)> {
        let full = Cell::new(None);
        let why = self.why_turned_away(place, publish, &full)?;
        self.counters.refused_queue_full += u64::from(why.0 == ErrorKind::QuotaExceeded);
        if let Some(place) = full.get() {
            // What expired went, but that was not enough.
            self.forget_obsolete(place, effects);
        }
        Some(why)
    }

    fn why_turned_away(
        &self,
        place: usize,
        publish: &Publish,
        full: &Cell<Option<usize>>,
    ) -> Option<(ErrorKind, &'static str)> {
        let needs_store = self.store_down && publish.request.is_some();
        let refuses = self.settings.limits.outbox.when_full == WhenFull::RefusePublisher;
        if !needs_store && !refuses {
            return None;
        }
        let unavailable = (
            ErrorKind::StorageUnavailable,
            "the durable store refuses writes at the moment",
        );
        let stores = |place: usize| self.sessions.get(place).is_some_and(|s| self.is_stored(s));
        if needs_store && publish.receipt.is_some() && stores(place) {
            return Some(unavailable);
        }
        if needs_store && self.stores_trace_of(publish) {
            return Some(unavailable);
        }
        if publish.qos == Qos::AtMostOnce {
            return None;
        }
        if needs_store && self.given_up == NOT_SEALED {
            return Some(unavailable);
        }
        let author = self.author(place, publish);
        for slot in self.subscriptions.matching(&publish.topic) {
            let Some(subscription) = self.subscriptions.at(slot) else {
                continue;
            };
            let mut settling = subscription.members.iter();
            if needs_store && settling.any(|m| m.options.qos > Qos::AtMostOnce && stores(m.session))
            {
                return Some(unavailable);
            }
            if refuses && self.is_without_room(subscription, publish, &author, full) {
                let message = "the queue of a receiver is full";
                return Some((ErrorKind::QuotaExceeded, message));
            }
        }
        None
    }

    /// Whether a member that would receive the publish cannot take it; of a share group, whether none can.
    fn is_without_room(
        &self,
        subscription: &Subscription,
        publish: &Publish,
        author: &Author,
        full: &Cell<Option<usize>>,
    ) -> bool {
        let cost = publish.payload.len() + publish.topic.text().len() + Event::OVERHEAD;
        let mut receivers = subscription.members.iter().filter_map(|member| {
            let takes = self.takes(member, publish, author, cost)?;
            full.set((!takes).then_some(member.session).or(full.get()));
            Some(takes)
        });
        let is_full = match subscription.rota {
            None => receivers.any(|takes| !takes),
            // None at all is no reason.
            Some(_) => {
                receivers.next().is_some_and(|first| !first) && receivers.all(|takes| !takes)
            }
        };
        // Only now, because it costs a copy of the event.
        is_full
            && subscription
                .filter
                .as_ref()
                .is_none_or(|filter| filter.accepts(&preview(publish)))
    }

    /// Whether the member's queue takes the publish; `None` if it does not receive it.
    fn takes(
        &self,
        member: &Member,
        publish: &Publish,
        author: &Author,
        cost: usize,
    ) -> Option<bool> {
        let session = self.sessions.get(member.session)?;
        let options = publish.options.as_deref();
        let is_own = author.exclude_me && author.place == Some(member.session)
            || member.options.no_local && author.is(session, member.session);
        let is_receiver = !is_own
            && session.features.opens(&publish.payload)
            && options.is_none_or(|options| is_wanted(session, options))
            && session
                .identity
                .role
                .permits(Action::Subscribe, &publish.topic);
        let queues = session.style == EventStyle::Lanes && member.options.qos > Qos::AtMostOnce;
        is_receiver.then(|| !queues || !session.outbox.is_full(cost, self.unix_ms))
    }

    pub(super) fn forget_delivery(&self, place: usize, number: u64, effects: &mut Effects) {
        if let Some(session) = self.sessions.get(place)
            && (self.is_stored(session) || session.leftover)
            && let Some(client) = &session.client
        {
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.delete(records::QUEUES, key);
        }
    }

    fn forget_obsolete(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        for number in session.outbox.take_expired() {
            self.forget_delivery(place, number, effects);
        }
    }

    /// Looks after the stored copies of a session: forgets what is obsolete, moves the bound of what may be handed out
    /// on, and has read back what the connection will take next.
    pub(super) fn care(&mut self, place: usize, effects: &mut Effects) {
        self.forget_obsolete(place, effects);
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let outbox = session.outbox.clone();
        if outbox.wants_extension() && self.is_stored(session) {
            self.extend_bound(place, effects);
        }
        self.load(place, &outbox, effects);
        self.room_made(place, effects);
    }

    /// Moves on the bound up to which deliveries may be handed out, and stores it.
    pub(super) fn extend_bound(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        if session.outbox.extend_bound(self.commit) {
            self.gated.push_back((self.commit, session.outbox.clone()));
        }
        self.save_session(place, effects);
    }

    /// A stored session has lost its connection: stores what was handed out at most.
    pub(super) fn close_bound(&mut self, place: usize) {
        if let Some(session) = self.sessions.get(place)
            && self.is_stored(session)
            && session.outbox.close_bound(self.commit)
        {
            self.gated.push_back((self.commit, session.outbox.clone()));
        }
    }

    /// The session's stored copies begin with the current commit.
    pub(super) fn begin_stored(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.leftover = false;
        if session.outbox.set_stored(Some(self.commit)) {
            self.gated.push_back((self.commit, session.outbox.clone()));
        }
        self.extend_bound(place, effects);
    }

    fn load(&mut self, place: usize, outbox: &Arc<Outbox>, effects: &mut Effects) {
        let numbers = outbox.take_load();
        if !numbers.is_empty() {
            let loading = Loading {
                place,
                outbox: outbox.clone(),
                numbers,
                purpose: Purpose::Queue,
            };
            self.begin_load(loading, effects);
        }
    }

    /// Has records read; answers the number under which they come.
    pub(super) fn begin_load(&mut self, loading: Loading, effects: &mut Effects) -> u64 {
        self.last_load += 1;
        self.ask_for(self.last_load, loading, effects);
        self.last_load
    }

    fn ask_for(&mut self, id: u64, loading: Loading, effects: &mut Effects) {
        let session = self
            .sessions
            .get(loading.place)
            .filter(|session| Arc::ptr_eq(&session.outbox, &loading.outbox));
        let Some(session) = session else { return };
        let (name, numbers) = (&self.settings.name, loading.numbers.iter());
        let (space, max_bytes, keys) = match (&loading.purpose, &session.client) {
            (Purpose::Queue, None) => return,
            (Purpose::Queue, Some(client)) => {
                let keys = numbers.map(|number| records::client_key(name, client, *number));
                (records::QUEUES, LOAD_BYTES, keys.collect())
            }
            (Purpose::Replay(_) | Purpose::Reading(_), _) => {
                let keys = numbers.map(|number| records::trace_key(name, *number));
                (records::HISTORY, READ_BYTES, keys.collect())
            }
        };
        effects.loads.push(Load {
            id,
            space,
            keys,
            max_bytes,
        });
        self.loads.insert(id, loading);
    }

    /// What was found under the keys of [`Load`] `id`, in their order, the last ones possibly missing.
    pub fn loaded(&mut self, now: Now, id: u64, found: Vec<Found>, effects: &mut Effects) {
        let Some(loading) = self.loads.remove(&id) else {
            return;
        };
        let is_current = self
            .sessions
            .get(loading.place)
            .is_some_and(|session| Arc::ptr_eq(&session.outbox, &loading.outbox));
        if !is_current {
            return;
        }
        match loading.purpose {
            Purpose::Queue => self.queue_loaded(now, id, loading, found, effects),
            Purpose::Replay(_) | Purpose::Reading(_) => {
                self.note_time(now);
                self.past_loaded(now, id, loading, found, effects);
            }
        }
        self.end_doomed(now, effects);
    }

    fn queue_loaded(
        &mut self,
        now: Now,
        id: u64,
        loading: Loading,
        found: Vec<Found>,
        effects: &mut Effects,
    ) {
        let place = loading.place;
        for (at, (number, found)) in loading.numbers.iter().zip(found).enumerate() {
            match found {
                Ok(record) => self.take_in(place, &loading.outbox, *number, record, effects),
                Err(error @ StorageError::Damaged { .. }) => {
                    // The record itself stays as it is: the engine would not write over it.
                    self.pass_over(&loading.outbox, *number, &error.to_string());
                }
                Err(error) => {
                    self.counters.queue_reads_failed += 1;
                    tracing::error!(realm = %self.settings.name, %error, "queued messages cannot be read; it will be tried again");
                    // What was read may go out meanwhile.
                    effects.wake.push(loading.outbox.clone());
                    let numbers = loading.numbers.get(at..).unwrap_or_default().to_vec();
                    self.try_load_again(now, id, Loading { numbers, ..loading });
                    return;
                }
            }
        }
        if loading.outbox.end_load() {
            effects.wake.push(loading.outbox);
        }
    }

    /// A read failed: it is repeated a little later.
    pub(super) fn try_load_again(&mut self, now: Now, id: u64, loading: Loading) {
        self.loads.insert(id, loading);
        self.set_timer(now, LOAD_AGAIN, Timer::Load(id));
    }

    /// A failed read is tried again.
    pub(super) fn load_again(&mut self, id: u64, effects: &mut Effects) {
        if let Some(loading) = self.loads.remove(&id) {
            self.ask_for(id, loading, effects);
        }
    }

    fn take_in(
        &mut self,
        place: usize,
        outbox: &Arc<Outbox>,
        number: u64,
        record: Option<Vec<u8>>,
        effects: &mut Effects,
    ) {
        let Some(record) = record else {
            self.pass_over(outbox, number, "it is missing");
            return;
        };
        let delivery = match records::decode(&record).map(StoredDelivery::delivery) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => {
                // A gap may be stored there by now.
                if self.pass_over(outbox, number, "it is no message") {
                    self.forget_delivery(place, number, effects);
                }
                return;
            }
            Err(error) => {
                if self.pass_over(outbox, number, &error.to_string()) {
                    self.forget_delivery(place, number, effects);
                }
                return;
            }
        };
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        // The role may have changed since the message was queued.
        let role = &session.identity.role;
        if !role.permits(Action::Subscribe, &delivery.event.topic) {
            if outbox.remove(number) {
                self.counters.delivery_refused += 1;
                self.forget_delivery(place, number, effects);
            }
            return;
        }
        self.counters.queue_reads += 1;
        outbox.fill(number, delivery);
        if session.leftover {
            self.forget_delivery(place, number, effects);
        }
    }

    /// A queued delivery cannot be read back. Answers whether it still waited: it may have been dropped or have expired
    /// meanwhile, and its record with it.
    fn pass_over(&mut self, outbox: &Outbox, number: u64, why: &str) -> bool {
        let waited = outbox.remove(number);
        if waited {
            self.counters.queue_damaged += 1;
            tracing::error!(realm = %self.settings.name, number, why, "a queued message cannot be read and is passed over");
        }
        waited
    }

    pub(super) fn settle(&mut self, place: usize, slot: Slot, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let mut obsolete = Vec::new();
        if let Some(number) = session.outbox.settle_with(slot, &mut obsolete) {
            self.forget_delivery(place, number, effects);
            for number in obsolete {
                self.forget_delivery(place, number, effects);
            }
            self.room_made(place, effects);
        }
    }

    /// The receiver is told to let go of the id only when that cannot be forgotten any more: a
    /// crash must not repeat what the receiver has completed.
    pub(super) fn advance(&mut self, place: usize, slot: Slot, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let Some(number) = session.outbox.advance(slot) else {
            return;
        };
        let before = effects.batch.len();
        for number in session.outbox.take_expired() {
            self.forget_delivery(place, number, effects);
        }
        if self.is_stored(session)
            && let Some(client) = &session.client
            && let Ok(record) = records::encode(&StoredDelivery::Released)
        {
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.put(records::QUEUES, key, record);
        }
        let commit = self.commit_since(before, effects);
        if commit > self.committed
            && let Some(session) = self.sessions.get(place)
        {
            session.outbox.unconfirm(slot);
        }
        self.push_after(place, Delivery::Release { slot }, commit, effects);
    }
}

/// The event that a publish will become, as far as filters look at it.
fn preview(publish: &Publish) -> Event {
    Event {
        publication: PublicationId(0),
        topic: publish.topic.clone(),
        payload: publish.payload.detached(),
        publisher: None,
        qos: publish.qos,
        retain: publish.retain,
        clears: false,
        token: None,
        expires_at_ms: None,
        attributes: None,
        admission: None,
        made: Made::default(),
    }
}

/// The stored form of a delivery.
pub(super) fn stored_delivery(delivery: &EventDelivery) -> StoredDelivery {
    StoredDelivery::Waiting {
        event: (&*delivery.event).into(),
        subscription: delivery.subscription,
        qos: delivery.qos,
        replayed: delivery.replayed,
        retain: delivery.retain,
        identifiers: delivery.identifiers.to_vec(),
        handover: delivery.handover,
    }
}

/// The stored form of a gap.
pub(super) fn stored_gap(lost: u32) -> StoredDelivery {
    StoredDelivery::Lost { lost }
}
