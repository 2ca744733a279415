//! Kept values: conditional writes, waiting writes, wills, and what happens to all of them when the
//! store fails.
//!
//! Order of effects of a write: the condition is evaluated first; a write that fails it has no
//! effect at all, one that waits has none until it is granted. Then value, event, answer; then the
//! waiters whose condition has come true, first come first served, each with the value the one
//! before it wrote.

use super::lock::Ended;
use super::publish::{Author, is_traced};
use super::remember::Trace;
use super::{Effects, NOT_SEALED, Realm, Undo};
use crate::encoding::Encoding;
use crate::kv::{ArmedWill, Entry, Waiter, Wants};
use crate::model::{
    Admission, Args, Body, Delivery, ErrorKind, Event, Made, Now, Payload, PublicationId, Publish,
    PublishOptions, Publisher, Qos, Refusal, SessionId, Topic, WillScope,
};
use crate::records::{self, StoredEntry};
use crate::session::Leave;
use crate::timers::Timer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What came of a write.
pub(super) struct Kept {
    /// The event's id, and whether anybody was subscribed.
    pub answer: (PublicationId, bool),
    /// A held key was released.
    release: bool,
}

impl Realm {
    pub(super) fn write(
        &mut self,
        now: Now,
        place: usize,
        publish: Box<Publish>,
        effects: &mut Effects,
    ) {
        self.purge_if_expired(now, &publish.topic, effects);
        if let Err(reason) = self.suits_own_hold(place, &publish) {
            self.refuse_write(place, &publish, reason, effects);
            return;
        }
        let options = publish.options.as_ref();
        let when = options.and_then(|options| options.when.as_ref());
        let watch = options.is_some_and(|options| options.watch);
        // Nobody's turn comes while somebody holds the key, whatever is written there.
        let waits = watch && self.kv.held.get(&publish.topic).is_some();
        if let Some(when) = when
            && (waits || !self.kv.holds(&publish.topic, when))
        {
            if watch {
                self.park(now, place, publish, effects);
            } else {
                self.refuse_condition(place, &publish, effects);
            }
            return;
        }
        if let Err(reason) = self.may_keep(place, &publish, effects) {
            self.refuse_write(place, &publish, reason, effects);
            return;
        }
        let topic = publish.topic.clone();
        self.carry_out(now, place, publish, effects);
        self.serve_waiters(now, &topic, effects);
    }

    /// A failed condition tells what the key holds, as a read does: it waits as long as one, lest a
    /// crash take back the reason for it.
    fn refuse_condition(&mut self, place: usize, publish: &Publish, effects: &mut Effects) {
        self.counters.conditions_failed += 1;
        let Some(request) = publish.request else {
            return;
        };
        let (kind, message) = (ErrorKind::ConditionFailed, "not accepted");
        let (_, commit) = self.kv.last_token(&publish.topic);
        if self.refuse_own_write(place, request, (kind, message), commit, effects) {
            return;
        }
        let refusal = Refusal::new(kind, message);
        let delivery = Delivery::Refused { request, refusal };
        self.push_after(place, delivery, commit, effects);
    }

    /// Refuses a write; where the reason is what the key holds, as late as a failed condition.
    fn refuse_write(
        &mut self,
        place: usize,
        publish: &Publish,
        reason: (ErrorKind, &'static str),
        effects: &mut Effects,
    ) {
        let commit = match reason.0 {
            ErrorKind::LockHeld | ErrorKind::InvalidArgument | ErrorKind::Timeout => {
                self.kv.last_token(&publish.topic).1
            }
            _ => 0,
        };
        self.refuse_publish_after(place, publish.request, reason, commit, effects);
    }

    /// Stores, announces and answers one write of a living session.
    fn carry_out(
        &mut self,
        now: Now,
        place: usize,
        mut publish: Box<Publish>,
        effects: &mut Effects,
    ) {
        let before = effects.batch.len();
        let mut undo = self.remember_receipt(place, &publish, effects);
        let author = self.author(place, &publish);
        let (request, options) = (publish.request, publish.options.take());
        let kept = self.keep(now, *publish, &author, options.as_deref(), false, effects);
        let mut commit = self.commit_since(before, effects);
        if kept.release {
            undo = Undo::Stands;
            if self.store_down {
                commit = NOT_SEALED;
            }
        }
        self.answer_published(place, request, kept.answer, commit, undo, effects);
    }

    fn may_keep(
        &mut self,
        place: usize,
        publish: &Publish,
        effects: &mut Effects,
    ) -> Result<(), (ErrorKind, &'static str)> {
        self.suits_own_hold(place, publish)?;
        self.may_write_held(place, &publish.topic)?;
        let deletes = self.deletes(&publish.topic, &publish.payload, publish.options.as_deref());
        let is_held = self.kv.will(&publish.topic).is_some();
        if self.store_down && !(deletes && is_held) {
            return Err((
                ErrorKind::StorageUnavailable,
                "the durable store refuses writes at the moment",
            ));
        }
        if !deletes && self.has_no_room_for(&publish.topic) {
            return Err((ErrorKind::QuotaExceeded, "the realm keeps no more values"));
        }
        // A lock that cannot be released is worse than a receiver that does not hear of it.
        match self.turned_away(place, publish, effects) {
            Some(why) if !(deletes && is_held) => Err(why),
            _ => Ok(()),
        }
    }

    pub(super) fn has_no_room_for(&self, topic: &Topic) -> bool {
        self.kv.len() >= self.settings.limits.retained_values && self.kv.get(topic).is_none()
    }

    /// No value and no keyword arguments delete; no value alone does when it is a plain release of
    /// a held key. Opaque bytes delete only when there are none.
    fn deletes(&self, topic: &Topic, payload: &Payload, options: Option<&PublishOptions>) -> bool {
        if let Body::Bytes { data, .. } = payload.body() {
            return data.is_empty();
        }
        if !payload.has_no_value() {
            return false;
        }
        let is_held = self.kv.will(topic).is_some();
        let is_plain = options.is_none_or(|o| o.when.is_none() && o.will.is_none());
        payload.has_no_kwargs() || (is_held && is_plain)
    }

    /// Stores the value, moves the will, and announces the event. `stands`: even if the store fails.
    pub(super) fn keep(
        &mut self,
        now: Now,
        publish: Publish,
        author: &Author,
        options: Option<&PublishOptions>,
        stands: bool,
        effects: &mut Effects,
    ) -> Kept {
        let topic = publish.topic.clone();
        let deletes = self.deletes(&topic, &publish.payload, options);
        let payload = match options {
            Some(options) if options.merge && !deletes => {
                merged(self.kv.get(&topic), &publish.payload)
            }
            _ => publish.payload.detached(),
        };
        let publication = self.ids.next(now.unix_ms);
        let event = Arc::new(Event {
            publication,
            topic: topic.clone(),
            payload,
            publisher: author.publisher.clone(),
            qos: publish.qos,
            retain: true,
            clears: deletes,
            token: Some(publication.0),
            expires_at_ms: publish.expiry.map(|after| now.unix_ms_after(after)),
            attributes: publish.attributes,
            admission: options.and_then(Admission::of),
            made: Made::default(),
        });
        let will = options.and_then(|options| {
            let session = author.publisher.as_ref()?.session;
            let value = options.will.clone()?;
            Some(Box::new(ArmedWill {
                session,
                value,
                scope: options.will_scope,
            }))
        });
        let ended = match deletes {
            true => self.take_holders(&topic),
            false => Vec::new(),
        };
        let release = self.store_value(&event, will.filter(|_| !deletes), stands, effects);
        let expires = event.expires_at_ms.filter(|_| !deletes);
        self.arm_expiry(now, &topic, expires);
        let trace = Trace {
            asked: is_traced(options),
            // It is taken back together with the value.
            stands: stands || release,
        };
        let matched = self.announce(&event, author, trace, effects);
        self.wake_replays(now, effects);
        for (token, holder) in ended {
            self.tell_released(now, &topic, (token, &holder), Ended::Released, effects);
        }
        Kept {
            answer: (publication, matched),
            release,
        }
    }

    /// Puts the event in place of what the key held, or deletes the key for a clearing event.
    /// Answers whether that released a held key, which stands even if the store fails.
    fn store_value(
        &mut self,
        event: &Arc<Event>,
        will: Option<Box<ArmedWill>>,
        stands: bool,
        effects: &mut Effects,
    ) -> bool {
        let topic = &event.topic;
        let is_hold = self.kv.held.get(topic).is_some();
        let former = self.kv.will(topic).cloned().map(Box::new);
        if let Some(former) = &former {
            self.forget_will(former.session, topic);
        }
        let will = match is_hold {
            true => former.clone(),
            false => will,
        };
        if let Some(will) = will.as_ref().filter(|_| !is_hold) {
            self.will_order += 1;
            let order = self.will_order;
            if let Some(session) = self.session_mut(will.session) {
                session.seldom.wills.insert(topic.clone(), order);
            }
        }
        let release = former.is_some() && event.clears;
        let commit = self.write_commit();
        if event.clears {
            let token = event.publication.0;
            if let Some(forgotten) = self.kv.delete(topic, token, commit, release || stands) {
                self.delete_record(&forgotten, effects);
            }
        } else {
            self.kv.put(
                topic,
                Entry {
                    event: event.clone(),
                    commit,
                    will,
                    is_hold,
                },
                stands,
            );
        }
        self.save_value(topic, effects);
        release
    }

    /// The commit a write belongs to; 0 where nothing outlives the process or the store is down.
    pub(super) fn write_commit(&self) -> u64 {
        if self.settings.durable && !self.store_down {
            self.commit
        } else {
            0
        }
    }

    pub(super) fn save_value(&mut self, topic: &Topic, effects: &mut Effects) {
        if self.store_down {
            self.unsaved.insert(topic.clone());
        } else {
            self.persist_value(topic, effects);
        }
    }

    /// Writes the record of a key as it is now.
    pub(super) fn persist_value(&self, topic: &Topic, effects: &mut Effects) {
        if !self.settings.durable {
            return;
        }
        let stored = match self.kv.get(topic) {
            Some(entry) => StoredEntry::Kept {
                event: (&*entry.event).into(),
                will: entry
                    .will
                    .as_ref()
                    .map(|will| (will.session, will.value.to_string(), will.scope)),
            },
            None => match self.kv.last_token(topic) {
                (0, _) => {
                    let key = records::key(&self.settings.name, topic.text().as_bytes());
                    effects.batch.delete(records::VALUES, key);
                    return;
                }
                (token, _) => StoredEntry::Deleted { token },
            },
        };
        if let Ok(record) = records::encode(&stored) {
            let key = records::key(&self.settings.name, topic.text().as_bytes());
            effects.batch.put(records::VALUES, key, record);
        }
    }

    pub(super) fn delete_record(&mut self, topic: &Topic, effects: &mut Effects) {
        if self.store_down {
            self.unsaved.insert(topic.clone());
        } else if self.settings.durable {
            let key = records::key(&self.settings.name, topic.text().as_bytes());
            effects.batch.delete(records::VALUES, key);
        }
    }

    fn forget_will(&mut self, session: SessionId, topic: &Topic) {
        if let Some(session) = self.session_mut(session) {
            session.seldom.wills.remove(topic);
        }
    }

    pub(super) fn session_mut(&mut self, id: SessionId) -> Option<&mut crate::session::Session> {
        let place = *self.by_id.get(&id)?;
        self.sessions.get_mut(place)
    }

    /// A value past its expiry counts as absent; it goes without an event, as it went for everybody
    /// who could have received it. Whoever waited for that comes first.
    pub(super) fn purge_if_expired(&mut self, now: Now, topic: &Topic, effects: &mut Effects) {
        let expired = self
            .kv
            .get(topic)
            .is_some_and(|entry| entry.event.is_expired(now.unix_ms));
        if !expired || self.store_down {
            return;
        }
        if let Some(session) = self.kv.will(topic).map(|will| will.session) {
            self.forget_will(session, topic);
        }
        let (token, _) = self.kv.last_token(topic);
        let commit = self.write_commit();
        if let Some(forgotten) = self.kv.delete(topic, token, commit, false) {
            self.delete_record(&forgotten, effects);
        }
        self.persist_value(topic, effects);
        self.serve_waiters(now, topic, effects);
    }

    /// Sees to it that the value under `topic` goes when it expires.
    pub(super) fn arm_value_expiry(&mut self, now: Now, topic: &Topic) {
        let expires = self.kv.get(topic).and_then(|e| e.event.expires_at_ms);
        self.arm_expiry(now, topic, expires);
    }

    /// ... which is at `expires`.
    fn arm_expiry(&mut self, now: Now, topic: &Topic, expires: Option<u64>) {
        self.timers.cancel(self.value_expiry.remove(topic));
        let timer = expires.and_then(|at| {
            let after = Duration::from_millis(at.saturating_sub(now.unix_ms));
            self.set_timer(now, after, Timer::ValueExpiry(topic.clone()))
        });
        if let Some(timer) = timer {
            self.value_expiry.insert(topic.clone(), timer);
        }
    }

    pub(super) fn value_expired(&mut self, now: Now, topic: &Topic, effects: &mut Effects) {
        self.value_expiry.remove(topic);
        self.purge_if_expired(now, topic, effects);
        let expired = self
            .kv
            .get(topic)
            .is_some_and(|entry| entry.event.is_expired(now.unix_ms));
        // The wall clock may have been set back, or the value been replaced; while the store is
        // down an expired value stays until it is next looked at.
        if !expired {
            self.arm_value_expiry(now, topic);
        }
    }

    fn park(&mut self, now: Now, place: usize, publish: Box<Publish>, effects: &mut Effects) {
        let limits = &self.settings.limits;
        let topic = publish.topic.clone();
        let waiting = self
            .sessions
            .get(place)
            .map_or(0, |session| session.seldom.waiting.len());
        let is_full = waiting >= limits.waiters_per_session
            || self.kv.waiters.count(&topic) >= limits.waiters_per_key;
        if is_full {
            let message = "too many conditional writes are waiting";
            let kind = ErrorKind::QueueFull;
            self.refuse_publish(place, publish.request, kind, message, effects);
            return;
        }
        let id = self.kv.waiters.next_id();
        let timeout = publish
            .options
            .as_ref()
            .and_then(|options| options.watch_timeout);
        let timer = timeout
            .and_then(|after| now.instant.checked_add(after))
            .map(|at| self.timers.set(at, Timer::Waiter(topic.clone(), id)));
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.waiting.insert(id, topic.clone());
        }
        self.counters.writes_parked += 1;
        self.kv.waiters.park(
            &topic,
            Waiter {
                id,
                session: place,
                wants: Wants::Write(publish),
                timer,
                since_ms: now.unix_ms,
            },
        );
    }

    /// Serves every waiter of a key whose turn has come.
    pub(super) fn serve_waiters(&mut self, now: Now, topic: &Topic, effects: &mut Effects) {
        self.serve_line(now, topic, 0, effects);
    }

    /// ... of whose line `gone` waiters left at the front just now. Whoever stays in line and asked
    /// for it is told of its new place.
    pub(super) fn serve_line(
        &mut self,
        now: Now,
        topic: &Topic,
        mut gone: usize,
        effects: &mut Effects,
    ) {
        let most = self.settings.limits.holders_per_key;
        while !self.store_down {
            let Some(waiter) = self.kv.take_ready_waiter(topic, most) else {
                break;
            };
            gone += usize::from(waiter.when().is_null());
            self.forget_waiter(&waiter);
            match waiter.wants {
                Wants::Write(publish) => self.write_waiting(now, waiter.session, publish, effects),
                Wants::Hold(order) => {
                    self.grant_waiting(now, waiter.session, topic, *order, effects);
                }
            }
        }
        self.tell_steps(topic, 0, gone, effects);
    }

    fn write_waiting(
        &mut self,
        now: Now,
        place: usize,
        publish: Box<Publish>,
        effects: &mut Effects,
    ) {
        if let Err(reason) = self.may_keep(place, &publish, effects) {
            self.refuse_write(place, &publish, reason, effects);
            return;
        }
        self.counters.writes_granted += 1;
        self.carry_out(now, place, publish, effects);
    }

    /// It was taken out of its queue: nothing else points to it any more.
    fn forget_waiter(&mut self, waiter: &Waiter) {
        self.timers.cancel(waiter.timer);
        if let Some(session) = self.sessions.get_mut(waiter.session) {
            session.seldom.waiting.remove(&waiter.id);
            if let Wants::Hold(order) = &waiter.wants {
                session.seldom.acquiring.remove(&order.request);
            }
        }
    }

    /// Takes one waiter out of its queue; with how many were before it in line.
    pub(super) fn take_waiter(
        &mut self,
        topic: &Topic,
        id: u64,
    ) -> Option<(Waiter, Option<usize>)> {
        let (waiter, before) = self.kv.waiters.remove(topic, id)?;
        self.forget_waiter(&waiter);
        Some((waiter, before))
    }

    /// `gone` waiters left the line, of whom the first had `before` others before it: the next one's
    /// turn may have come. `None`: they stood aside.
    pub(super) fn line_moved(
        &mut self,
        now: Now,
        topic: &Topic,
        before: Option<usize>,
        gone: usize,
        effects: &mut Effects,
    ) {
        match before {
            None => {}
            Some(0) => self.serve_line(now, topic, gone, effects),
            Some(before) => self.tell_steps(topic, before, gone, effects),
        }
    }

    pub(super) fn serve_all_waiters(&mut self, now: Now, effects: &mut Effects) {
        for topic in self.kv.waiters.topics() {
            // A value that expired while the store was down is still there.
            self.purge_if_expired(now, &topic, effects);
            self.serve_waiters(now, &topic, effects);
        }
    }

    pub(super) fn waiter_timed_out(
        &mut self,
        now: Now,
        topic: &Topic,
        id: u64,
        effects: &mut Effects,
    ) {
        let Some((waiter, before)) = self.take_waiter(topic, id) else {
            return;
        };
        let place = waiter.session;
        match waiter.wants {
            Wants::Write(publish) => {
                self.counters.writes_timed_out += 1;
                let message = "the condition did not come true in time";
                self.refuse_write(place, &publish, (ErrorKind::Timeout, message), effects);
            }
            Wants::Hold(order) => self.acquire_timed_out(place, topic, &order, effects),
        }
        self.line_moved(now, topic, before, 1, effects);
    }

    /// Keeps a last will's message, and serves who waited for it. A will stands even if the store
    /// fails: nobody is left who could be told that it did not.
    pub(super) fn keep_will(
        &mut self,
        now: Now,
        mut publish: Publish,
        author: &Author,
        effects: &mut Effects,
    ) {
        let (topic, options) = (publish.topic.clone(), publish.options.take());
        let options = options.as_deref();
        if self.kv.held.get(&topic).is_some() {
            self.counters.wills_on_held += 1;
            return;
        }
        if !self.deletes(&topic, &publish.payload, options) && self.has_no_room_for(&topic) {
            self.counters.quota_refused += 1;
            return;
        }
        self.keep(now, publish, author, options, true, effects);
        self.serve_waiters(now, &topic, effects);
    }

    /// A leaving session waits no longer; it cannot be granted what its own end releases. Whoever
    /// waited behind it may be.
    pub(super) fn drop_waiters_of(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let session = self.sessions.get_mut(place);
        let Some(seldom) = session.and_then(|session| session.seldom.known()) else {
            return;
        };
        let mut waiting: Vec<(u64, Topic)> = seldom.waiting.drain().collect();
        waiting.sort_unstable();
        // How many left each line, and how many were before the first of them.
        let mut lines: BTreeMap<Topic, (usize, usize)> = BTreeMap::new();
        for (id, topic) in waiting {
            if let Some((_, Some(before))) = self.take_waiter(&topic, id) {
                let (first, gone) = lines.entry(topic).or_insert((before, 0));
                (*first, *gone) = (before.min(*first), *gone + 1);
            }
        }
        for (topic, (first, gone)) in lines {
            self.line_moved(now, &topic, Some(first), gone, effects);
        }
    }

    /// Applies what a leaving session left for its keys, in the order it armed them.
    pub(super) fn apply_wills_of(
        &mut self,
        now: Now,
        place: usize,
        how: Leave,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(seldom) = session.seldom.known() else {
            return;
        };
        let mut wills: Vec<(u64, Topic)> = seldom
            .wills
            .drain()
            .map(|(topic, order)| (order, topic))
            .collect();
        let publisher = session.publisher(false);
        wills.sort_unstable();
        for (_, topic) in wills {
            let will = self.kv.get(&topic).and_then(|entry| entry.will.clone());
            if let Some(will) = will.filter(|will| will.session == publisher.session) {
                self.apply_will(now, &topic, &will, Some(how), publisher.clone(), effects);
            }
        }
    }

    /// Writes one will, or only disarms it if it is for lost connections and this was none.
    /// `how` is `None` after a restart, in which every session was lost.
    pub(super) fn apply_will(
        &mut self,
        now: Now,
        topic: &Topic,
        will: &ArmedWill,
        how: Option<Leave>,
        publisher: Arc<Publisher>,
        effects: &mut Effects,
    ) {
        if will.scope == WillScope::Lost && how == Some(Leave::Clean) {
            let commit = self.write_commit();
            if self.kv.disarm(topic, commit).is_some() {
                self.save_value(topic, effects);
            }
            return;
        }
        self.counters.wills_applied += 1;
        let author = Author {
            place: None,
            publisher: Some(publisher),
            exclude_me: true,
        };
        let publication = self.ids.next(now.unix_ms);
        // What was said to some only is taken back before the same ones.
        let former = self.kv.get(topic).map(|entry| &entry.event);
        let admission = former.and_then(|event| event.admission.clone());
        let event = Arc::new(Event {
            publication,
            topic: topic.clone(),
            payload: Payload::from_value(&will.value),
            publisher: author.publisher.clone(),
            qos: Qos::AtLeastOnce,
            retain: true,
            clears: will.value.is_null(),
            token: Some(publication.0),
            expires_at_ms: None,
            attributes: None,
            admission,
            made: Made::default(),
        });
        self.release_value(&event, effects);
        // A will is a traced write, so that whoever comes later can see when a holder was lost.
        let trace = Trace {
            asked: true,
            stands: true,
        };
        self.announce(&event, &author, trace, effects);
        self.wake_replays(now, effects);
        self.serve_waiters(now, topic, effects);
    }

    /// Like [`Realm::store_value`] for a write that must stand even if the store fails.
    fn release_value(&mut self, event: &Arc<Event>, effects: &mut Effects) {
        let topic = &event.topic;
        if let Some(former) = self.kv.get(topic).and_then(|entry| entry.will.clone()) {
            self.forget_will(former.session, topic);
        }
        let commit = self.write_commit();
        if event.clears {
            if let Some(forgotten) = self.kv.delete(topic, event.publication.0, commit, true) {
                self.delete_record(&forgotten, effects);
            }
        } else {
            self.kv.put(
                topic,
                Entry {
                    event: event.clone(),
                    commit,
                    will: None,
                    is_hold: false,
                },
                true,
            );
        }
        self.save_value(topic, effects);
    }

    /// Takes back every write that is not durable, which is what came after the commit `durable`,
    /// and tells the subscribers what holds now.
    pub(super) fn take_back(&mut self, now: Now, durable: u64, effects: &mut Effects) {
        let (changed, released) = self.kv.roll_back();
        self.unsaved.extend(released);
        let told = self.take_back_holds(now, durable, effects);
        for topic in changed.into_iter().filter(|topic| !told.contains(topic)) {
            self.arm_value_expiry(now, &topic);
            if self.rebind_will(now, &topic, effects) {
                continue;
            }
            let event = match self.kv.get(&topic) {
                Some(entry) => entry.event.clone(),
                None => Arc::new(Event {
                    publication: self.ids.next(now.unix_ms),
                    topic: topic.clone(),
                    payload: Payload::from_value(&Value::Null),
                    publisher: None,
                    qos: Qos::AtMostOnce,
                    retain: true,
                    clears: true,
                    token: Some(self.kv.last_token(&topic).0),
                    expires_at_ms: None,
                    attributes: None,
                    admission: None,
                    made: Made::default(),
                }),
            };
            self.announce(&event, &Author::REALM, Trace::OWN, effects);
        }
    }

    /// After a roll-back the key may belong to its former owner again. If that one has ended
    /// meanwhile, the key is released at once by its will, which announces itself: answers whether.
    fn rebind_will(&mut self, now: Now, topic: &Topic, effects: &mut Effects) -> bool {
        for (_, session) in &mut self.sessions {
            if let Some(seldom) = session.seldom.known() {
                seldom.wills.remove(topic);
            }
        }
        let entry = self.kv.get(topic).filter(|entry| !entry.is_hold);
        let Some(will) = entry.and_then(|entry| entry.will.clone()) else {
            return false;
        };
        self.will_order += 1;
        let order = self.will_order;
        if let Some(session) = self.session_mut(will.session) {
            session.seldom.wills.insert(topic.clone(), order);
        } else if let Some(publisher) = self.kv.get(topic).and_then(|e| e.event.publisher.clone()) {
            self.apply_will(now, topic, &will, None, publisher, effects);
            return true;
        }
        false
    }

    /// Answers `key.get`: value, token, owner, waiters. Held until what it says is durable.
    pub(super) fn value_report(
        &mut self,
        now: Now,
        topic: &Topic,
        spelling: &str,
        effects: &mut Effects,
    ) -> (Value, u64) {
        self.purge_if_expired(now, topic, effects);
        let (token, commit) = self.kv.last_token(topic);
        let waiters = self.kv.waiters.count(topic);
        let entry = self.kv.get(topic);
        let list = |entry: &Entry| {
            let args = entry.event.payload.as_args(crate::encoding::Encoding::Json);
            args.args
                .and_then(|raw| serde_json::from_slice::<Value>(&raw).ok())
                .unwrap_or_else(|| Value::Array(Vec::new()))
        };
        let report = serde_json::json!({
            "key": spelling,
            "value": entry.map_or(&Value::Null, |e| e.event.payload.value()),
            "args": entry.map_or(Value::Null, list),
            "kwargs": entry.map_or(&Value::Null, |e| e.event.payload.kwargs_value()),
            "token": token,
            "owner": entry.and_then(|entry| self.owner_of(topic, entry)),
            "waiters": waiters,
        });
        (report, commit)
    }

    /// The session that what is kept belongs to. A key that several may hold is nobody's.
    pub(super) fn owner_of(&self, topic: &Topic, entry: &Entry) -> Option<u64> {
        let hold = self.kv.held.get(topic);
        let is_owned = hold.is_none_or(|hold| hold.mode.is_alone());
        let will = entry.will.as_ref().filter(|_| is_owned);
        will.map(|will| will.session.0)
    }
}

/// The patch applied to what is kept. Positional and keyword arguments are patched each for itself;
/// what the patch does not speak of stays, what is no object replaces as it was published.
fn merged(kept: Option<&Entry>, patch: &Payload) -> Payload {
    let old = kept.map(|entry| &entry.event.payload);
    let published = patch.as_args(Encoding::Json);
    let former = old
        .map(|old| old.as_args(Encoding::Json))
        .unwrap_or_default();
    let args = match patch.value() {
        Value::Null => former.args,
        Value::Object(_) => {
            let target = old.map_or(Value::Null, |old| old.value().clone());
            Some(format!("[{}]", merge_patch(target, patch.value())).into())
        }
        _ => published.args,
    };
    let kwargs = match patch.kwargs_value() {
        Value::Object(_) => {
            let target = old.map_or(Value::Null, |old| old.kwargs_value().clone());
            Some(merge_patch(target, patch.kwargs_value()).to_string().into())
        }
        _ => former.kwargs,
    };
    Payload::args(Encoding::Json, Args { args, kwargs })
}

/// RFC 7396: objects merge, null removes, anything else replaces.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut result = match target {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            result.remove(key);
        } else {
            let former = result.remove(key).unwrap_or(Value::Null);
            result.insert(key.clone(), merge_patch(former, value));
        }
    }
    Value::Object(result)
}

#[cfg(test)]
mod tests {
    use super::merge_patch;
    use serde_json::json;

    #[test]
    fn merges_as_rfc_7396_says() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ];
        for (target, patch, result) in cases {
            assert_eq!(
                merge_patch(target.clone(), &patch),
                result,
                "{target} {patch}"
            );
        }
    }
}
