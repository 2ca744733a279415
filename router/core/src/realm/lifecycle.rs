//! Sessions come, lose their connection, come back, and end.

use super::publish::{Author, is_traced};
use super::remember::Trace;
use super::{Effects, Realm, end_writer};
use crate::auth::Action;
use crate::model::{
    Delivery, EndReason, ErrorKind, Event, LastWill, MAX_ID, Made, Now, PublicationId, Refusal,
    SessionId, SubscriptionId, Topic,
};
use crate::outbox::Outbox;
use crate::records::{self, StoredSession, StoredWill};
use crate::session::{ClientJoin, Connection, Identity, Join, Joined, Leave, Seldom, Session};
use crate::timers::Timer;
use bytestring::ByteString;
use rand::Rng as _;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

impl Realm {
    /// Lets a session in. A client that is known goes on with its session, taking it over from the
    /// connection that has it, unless it asks for a clean start.
    ///
    /// # Errors
    /// When the realm takes no more sessions.
    pub fn join(&mut self, now: Now, join: Join, effects: &mut Effects) -> Result<Joined, Refusal> {
        self.note_time(now);
        let Join {
            identity,
            features,
            style,
            client,
        } = join;
        let Some(client) = client else {
            let place = self.new_session(identity, features, style, None);
            return Ok(self.welcome(now, place, u16::MAX, false, 0, effects));
        };
        if let Some(refusal) = self.refuses_client(&client, &identity) {
            return Err(refusal);
        }
        let before = effects.batch.len();
        let known = self.clients.get(&client.id).copied();
        let former = known
            .and_then(|place| self.sessions.get(place))
            .map(|session| (session.outbox.clone(), session.generation));
        let resumed =
            known.and_then(|place| self.take_over(now, place, &client, &identity, effects));
        self.end_doomed(now, effects);
        let present = resumed.is_some();
        let place = match resumed {
            Some(place) => {
                self.withhold_denied(place, &identity, effects);
                if let Some(session) = self.sessions.get_mut(place) {
                    session.identify(identity);
                    session.features = features;
                }
                place
            }
            None => self.new_session(identity, features, style, Some(&client)),
        };
        if let (Some((outbox, generation)), false, Some(session)) =
            (former, present, self.sessions.get(place))
        {
            session.outbox.follow(outbox, generation);
        }
        let window = client.window;
        self.set_client(place, client, effects);
        let commit = self.commit_since(before, effects);
        Ok(self.welcome(now, place, window, present, commit, effects))
    }

    /// The connection of the client that whoever has proven to be `proven` may take over.
    #[must_use]
    pub fn former(&self, client: &str, proven: Option<&ByteString>) -> Option<(Arc<Outbox>, u64)> {
        let session = self.sessions.get(*self.clients.get(client)?)?;
        let identity = &session.identity;
        let may = !identity.is_proven() || proven == Some(&identity.authid);
        (session.attached && may).then(|| (session.outbox.clone(), session.generation))
    }

    fn refuses_client(&self, client: &ClientJoin, identity: &Identity) -> Option<Refusal> {
        let known = self
            .clients
            .get(&client.id)
            .and_then(|place| self.sessions.get(*place));
        // Whoever proved a name keeps its session, queue and connection to itself.
        if known
            .is_some_and(|known| known.identity.is_proven() && !known.identity.is_same(identity))
        {
            let message = "the client id belongs to another user";
            return Some(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        if let Some(will) = &client.last_will {
            let topic = &will.publish.topic;
            // Checked once more when it is published: rights may have changed by then.
            let refusal = if self.is_reserved(topic) {
                Some("the last will's first level belongs to the router")
            } else if !identity.role.permits(Action::Publish, topic) {
                Some("the role may not publish the last will")
            } else {
                None
            };
            if let Some(message) = refusal {
                return Some(Refusal::new(ErrorKind::NotAuthorized, message));
            }
        }
        let is_full = self.sessions.len() >= self.settings.limits.detached_sessions
            && !self.clients.contains_key(&client.id);
        is_full.then(|| Refusal::new(ErrorKind::QuotaExceeded, "the realm takes no more sessions"))
    }

    /// The role may have changed since the messages were queued: what it may not receive any more
    /// goes.
    fn withhold_denied(&mut self, place: usize, identity: &Identity, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        if identity.role.is_unrestricted() || identity.role == session.identity.role {
            return;
        }
        let outbox = session.outbox.clone();
        let is_denied = |topic: &Topic| !identity.role.permits(Action::Subscribe, topic);
        self.share_denied(place, is_denied, effects);
        let denied = outbox.drop_waiting(is_denied);
        for number in denied {
            self.counters.delivery_refused += 1;
            self.forget_delivery(place, number, effects);
        }
    }

    /// The connection a client had is over. Answers the session's place if the client goes on with
    /// it, or ends it and answers `None`.
    fn take_over(
        &mut self,
        now: Now,
        place: usize,
        client: &ClientJoin,
        identity: &Identity,
        effects: &mut Effects,
    ) -> Option<usize> {
        let session = self.sessions.get_mut(place)?;
        let was_attached = session.attached;
        if was_attached {
            end_writer(&session.outbox, EndReason::TakenOver, effects);
        }
        // What nobody proved is not inherited by somebody who did.
        let same = session.identity.is_proven() == identity.is_proven();
        let goes_on = session.is_durable() && !client.clean_start && same;
        if goes_on {
            let delay = session.last_will.as_ref().map(|will| will.delay);
            // A delayed will is cancelled by the resumption; one without delay was due at once.
            if was_attached && delay.is_some_and(|delay| delay.is_zero()) {
                self.publish_last_will(now, place, effects);
            }
            self.forget_last_will(place, effects);
            self.drop_requests_of(now, place, effects);
            self.stop_expiry(place);
            return Some(place);
        }
        self.publish_last_will(now, place, effects);
        self.end_session(now, place, Leave::Lost, effects);
        None
    }

    fn new_session(
        &mut self,
        identity: Arc<Identity>,
        features: crate::session::Features,
        style: crate::session::EventStyle,
        client: Option<&ClientJoin>,
    ) -> usize {
        let id = self.fresh_session_id();
        let place = self.sessions.insert(Session {
            id,
            generation: 0,
            attached: false,
            outbox: Arc::new(Outbox::new(self.outbox_limits.clone())),
            identity,
            published_as: Default::default(),
            route: None,
            features,
            style,
            client: client.map(|client| client.id.clone()),
            expiry: Duration::ZERO,
            last_will: None,
            away: None,
            subscriptions: HashMap::default(),
            seldom: Seldom::default(),
            dropped: 0,
            receipts: HashSet::default(),
            leftover: false,
            replays: VecDeque::new(),
            merge: (PublicationId(0), 0),
            details: None,
            ended_for: None,
        });
        self.by_id.insert(id, place);
        if let Some(client) = client {
            self.clients.insert(client.id.clone(), place);
        } else {
            self.nameless.insert(id);
        }
        place
    }

    pub(super) fn fresh_session_id(&mut self) -> SessionId {
        loop {
            let id = SessionId(self.random.next_u64() % MAX_ID + 1);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    fn set_client(&mut self, place: usize, client: ClientJoin, effects: &mut Effects) {
        let expiry = client.expiry.min(self.settings.limits.expiry_max);
        if expiry.is_zero() {
            // What was stored of the session ends with this connection.
            self.stop_storing(place, effects);
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.expiry = expiry;
        session.last_will = client.last_will.map(Box::new);
        // Its timers were stopped when it was taken over.
        session.away = None;
        if session.is_durable() && self.settings.durable {
            self.extend_bound(place, effects);
        }
        self.save_last_will(place, effects);
    }

    fn welcome(
        &mut self,
        now: Now,
        place: usize,
        window: u16,
        present: bool,
        commit: u64,
        effects: &mut Effects,
    ) -> Joined {
        let Some(session) = self.sessions.get_mut(place) else {
            unreachable!("welcome is called with the place of a session just made or found")
        };
        let is_back = !std::mem::replace(&mut session.attached, true);
        self.connected += usize::from(is_back);
        self.connected_max = self.connected_max.max(self.connected);
        self.counters.sessions_joined += 1;
        session.generation = session.outbox.attach(window);
        let connection = Connection {
            place,
            session: session.id,
            generation: session.generation,
        };
        let outbox = session.outbox.clone();
        self.care(place, effects);
        self.resume_replays_of(place);
        self.push_after(place, Delivery::Joined { present }, commit, effects);
        self.member_came(place, effects);
        self.announce_join(now, place, effects);
        self.end_doomed(now, effects);
        Joined { connection, outbox }
    }

    /// The connection leaves. A client's session may outlive it; any other ends now.
    pub fn leave(&mut self, now: Now, connection: Connection, how: Leave, effects: &mut Effects) {
        let Some(place) = self.place_of(connection) else {
            return;
        };
        self.note_time(now);
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.attached = false;
        self.connected -= 1;
        session.outbox.detach();
        if session.is_durable() {
            self.member_went(place, effects);
            self.trim(place, effects);
        }
        if how == Leave::Clean {
            self.forget_last_will(place, effects);
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let expiry = session.expiry;
        if session.is_durable() {
            session.away.get_or_insert_default().since_ms = Some(now.unix_ms);
            let delay = session
                .last_will
                .as_ref()
                .map(|will| will.delay.min(expiry));
            self.drop_requests_of(now, place, effects);
            self.start_expiry(now, place, expiry);
            self.close_bound(place);
            self.save_session(place, effects);
            match delay {
                Some(delay) if !delay.is_zero() => {
                    let timer = self.set_timer(now, delay, Timer::LastWill(place));
                    if let Some(session) = self.sessions.get_mut(place) {
                        session.away.get_or_insert_default().last_will_timer = timer;
                    }
                }
                Some(_) => self.publish_last_will(now, place, effects),
                None => {}
            }
        } else {
            self.publish_last_will(now, place, effects);
            self.end_session(now, place, how, effects);
        }
        self.end_doomed(now, effects);
    }

    /// What is answered to a connection, or by it, goes with it even if the session stays: request
    /// ids mean nothing to the next connection, and nobody could answer an invocation meanwhile.
    fn drop_requests_of(&mut self, now: Now, place: usize, effects: &mut Effects) {
        self.rest_replays_of(place, effects);
        self.drop_calls_of(now, place, effects);
        self.drop_waiters_of(now, place, effects);
    }

    /// Ends a session on somebody's order; its connection is told why.
    pub(super) fn doom(&mut self, place: usize, reason: EndReason) {
        if !self.doomed.iter().any(|(known, _)| *known == place) {
            self.doomed.push((place, reason));
        }
    }

    /// Ends every session, for a shutdown or because the realm closes. Durable sessions only lose
    /// their connection.
    pub fn close(&mut self, now: Now, reason: &EndReason, effects: &mut Effects) {
        let places: Vec<usize> = self.sessions.iter().map(|(place, _)| place).collect();
        for place in places {
            if self
                .sessions
                .get(place)
                .is_some_and(|session| session.attached)
            {
                self.tell_end(place, reason.clone(), effects);
            }
        }
        self.end_doomed(now, effects);
    }

    fn tell_end(&mut self, place: usize, reason: EndReason, effects: &mut Effects) {
        if let Some(session) = self.sessions.get(place) {
            end_writer(&session.outbox, reason, effects);
        }
    }

    /// Ends the sessions that the current command doomed, and those that their end dooms.
    pub(super) fn end_doomed(&mut self, now: Now, effects: &mut Effects) {
        self.arm_trim(now);
        if !self.doomed.is_empty() {
            self.end_all_doomed(now, effects);
        }
    }

    fn end_all_doomed(&mut self, now: Now, effects: &mut Effects) {
        while let Some((place, reason)) = self.doomed.pop() {
            match reason {
                EndReason::TooSlow => self.counters.ended_too_slow += 1,
                EndReason::Violation(_) => self.counters.ended_violation += 1,
                _ => {}
            }
            if let Some(session) = self.sessions.get_mut(place) {
                session.ended_for = Some(Box::new(reason.clone()));
            }
            // Only an order ends what a client left to outlive its connections.
            let keeps_session = matches!(reason, EndReason::TooSlow | EndReason::Violation(_));
            self.tell_end(place, reason, effects);
            let Some(session) = self.sessions.get(place) else {
                continue;
            };
            if self.overfull.remove(&place) {
                self.publish_last_will(now, place, effects);
                self.end_session(now, place, Leave::Lost, effects);
                continue;
            }
            let keeps_session = keeps_session && session.is_durable();
            let connection = Connection {
                place,
                session: session.id,
                generation: session.generation,
            };
            if keeps_session {
                self.leave(now, connection, Leave::Lost, effects);
            } else {
                self.leave_doomed(now, connection, effects);
            }
        }
    }

    fn leave_doomed(&mut self, now: Now, connection: Connection, effects: &mut Effects) {
        let Some(place) = self.place_of(connection) else {
            return;
        };
        self.publish_last_will(now, place, effects);
        self.end_session(now, place, Leave::Lost, effects);
    }

    /// The order: the others learn that it left, then what it held goes, then its wills apply.
    pub(super) fn end_session(
        &mut self,
        now: Now,
        place: usize,
        how: Leave,
        effects: &mut Effects,
    ) {
        let orphans = self.take_orphans(place);
        self.forget_stored(place, true, effects);
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let was_attached = std::mem::replace(&mut session.attached, false);
        self.connected -= usize::from(was_attached);
        end_writer(&session.outbox, EndReason::RealmClosed, effects);
        let subscriptions: Vec<SubscriptionId> = session.subscriptions.keys().copied().collect();
        for id in subscriptions {
            self.leave_subscription(place, id);
        }
        self.place_orphans(place, orphans, effects);
        self.drop_replays_of(place);
        self.announce_departures(now, effects);
        self.announce_leave(now, place, effects);
        self.drop_calls_of(now, place, effects);
        self.drop_waiters_of(now, place, effects);
        self.stop_expiry(place);
        self.publish_testaments(now, place, effects);
        self.apply_wills_of(now, place, how, effects);
        self.release_all_of(now, place, effects);
        let Some(gone) = self.sessions.try_remove(place) else {
            return;
        };
        self.by_id.remove(&gone.id);
        self.nameless.remove(&gone.id);
        if let Some(client) = &gone.client
            && self.clients.get(client) == Some(&place)
        {
            self.clients.remove(client);
        }
    }

    /// The session goes on, but nothing of it is to outlive its connection. What is on disk alone stays there until it
    /// is read back.
    fn stop_storing(&mut self, place: usize, effects: &mut Effects) {
        self.forget_stored(place, false, effects);
        if let Some(session) = self.sessions.get_mut(place) {
            session.outbox.set_stored(None);
            session.leftover |= !session.outbox.spilled_numbers().is_empty();
        }
    }

    /// Forgets the stored copies of a session: everything, or all but what is on disk alone.
    fn forget_stored(&mut self, place: usize, everything: bool, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (Some(client), true) = (&session.client, self.settings.durable) else {
            return;
        };
        let realm = &self.settings.name;
        if session.last_will.is_some() {
            effects
                .batch
                .delete(records::LAST_WILLS, records::key(realm, client.as_bytes()));
        }
        if !session.is_durable() {
            // What an earlier connection left on disk alone goes with the session.
            let left = session.outbox.spilled_numbers().into_iter();
            for number in left.filter(|_| everything) {
                self.forget_delivery(place, number, effects);
            }
            return;
        }
        effects
            .batch
            .delete(records::SESSIONS, records::key(realm, client.as_bytes()));
        let mut kept: HashSet<u64> = HashSet::new();
        if !everything {
            kept.extend(session.outbox.spilled_numbers());
        }
        let numbers = session.outbox.stored_numbers().into_iter();
        for number in numbers.filter(|number| !kept.contains(number)) {
            effects
                .batch
                .delete(records::QUEUES, records::client_key(realm, client, number));
        }
        for receipt in &session.receipts {
            let number = u64::from(receipt.get());
            effects.batch.delete(
                records::RECEIPTS,
                records::client_key(realm, client, number),
            );
        }
        for id in session.subscriptions.keys() {
            let key = self
                .subscriptions
                .by_id(*id)
                .and_then(|subscription| self.subscription_key(session, &subscription.key));
            if let Some(key) = key {
                effects.batch.delete(records::SUBSCRIPTIONS, key);
            }
        }
    }

    pub(super) fn set_timer(
        &mut self,
        now: Now,
        after: Duration,
        timer: Timer,
    ) -> Option<crate::timers::TimerKey> {
        let at = now.instant.checked_add(after)?;
        Some(self.timers.set(at, timer))
    }

    pub(super) fn start_expiry(&mut self, now: Now, place: usize, after: Duration) {
        let timer = self.set_timer(now, after, Timer::Expiry(place));
        if let Some(session) = self.sessions.get_mut(place) {
            session.away.get_or_insert_default().expiry_timer = timer;
        }
    }

    fn stop_expiry(&mut self, place: usize) {
        let Realm {
            sessions, timers, ..
        } = self;
        let session = sessions.get_mut(place);
        if let Some(away) = session.and_then(|session| session.away.as_mut()) {
            timers.cancel(away.expiry_timer.take());
            timers.cancel(away.last_will_timer.take());
        }
    }

    pub(super) fn session_expired(&mut self, now: Now, place: usize, effects: &mut Effects) {
        self.counters.sessions_expired += 1;
        self.publish_last_will(now, place, effects);
        self.end_session(now, place, Leave::Lost, effects);
    }

    pub(super) fn last_will_due(&mut self, now: Now, place: usize, effects: &mut Effects) {
        self.publish_last_will(now, place, effects);
    }

    /// Changes how long the session outlives its connection.
    pub(super) fn set_expiry(
        &mut self,
        _now: Now,
        place: usize,
        expiry: Duration,
        effects: &mut Effects,
    ) {
        let most = self.settings.limits.expiry_max;
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        if expiry.is_zero() && session.is_durable() {
            // From now on nothing of it outlives the connection, so nothing stays stored either;
            // the last will does, until it is disarmed or published.
            let will = self
                .sessions
                .get_mut(place)
                .and_then(|session| session.last_will.take());
            self.stop_storing(place, effects);
            if let Some(session) = self.sessions.get_mut(place) {
                session.last_will = will;
            }
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let was_durable = session.is_durable();
        session.expiry = expiry.min(most);
        if was_durable {
            self.save_session(place, effects);
        } else {
            self.store_whole(place, effects);
        }
    }

    pub(super) fn disarm_last_will(&mut self, place: usize, effects: &mut Effects) {
        self.forget_last_will(place, effects);
    }

    fn forget_last_will(&mut self, place: usize, effects: &mut Effects) {
        if let Some((_, Some(key))) = self.take_last_will(place) {
            effects.batch.delete(records::LAST_WILLS, key);
        }
    }

    /// The session's last will and the key of its record.
    fn take_last_will(&mut self, place: usize) -> Option<(LastWill, Option<Vec<u8>>)> {
        let Realm {
            sessions,
            timers,
            settings,
            ..
        } = self;
        let session = sessions.get_mut(place)?;
        if let Some(away) = &mut session.away {
            timers.cancel(away.last_will_timer.take());
        }
        let will = *session.last_will.take()?;
        let client = session.client.as_ref().filter(|_| settings.durable);
        let key = client.map(|client| records::key(&settings.name, client.as_bytes()));
        Some((will, key))
    }

    pub(super) fn save_last_will(&self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (Some(client), Some(will)) = (&session.client, &session.last_will) else {
            return;
        };
        if !self.settings.durable {
            return;
        }
        let publish = &will.publish;
        let event = Event {
            publication: PublicationId(0),
            topic: publish.topic.clone(),
            payload: publish.payload.detached(),
            publisher: Some(session.publisher(false)),
            qos: publish.qos,
            retain: publish.retain,
            clears: false,
            token: None,
            expires_at_ms: None,
            attributes: publish.attributes.clone(),
            admission: None,
            made: Made::default(),
        };
        let stored = StoredWill {
            event: (&event).into(),
            delay_secs: will.delay.as_secs(),
            expiry_secs: publish.expiry.map(|expiry| expiry.as_secs()),
        };
        if let Ok(record) = records::encode(&stored) {
            let key = records::key(&self.settings.name, client.as_bytes());
            effects.batch.put(records::LAST_WILLS, key, record);
        }
    }

    /// Publishes the session's last will, if it has one and may.
    pub(super) fn publish_last_will(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let Some((will, key)) = self.take_last_will(place) else {
            return;
        };
        if let Some(key) = key {
            // A value is written when the store works again; the record must not go before.
            match self.store_down && will.publish.retain {
                true => self.note_lost(records::LAST_WILLS, key),
                false => effects.batch.delete(records::LAST_WILLS, key),
            }
        }
        self.publish_in_name_of(now, place, will, effects);
    }

    /// Publishes what a session left behind, if its role still may.
    pub(super) fn publish_in_name_of(
        &mut self,
        now: Now,
        place: usize,
        will: LastWill,
        effects: &mut Effects,
    ) {
        if self.may_publish(place, &will.publish).is_err() {
            self.counters.publish_refused += 1;
            return;
        }
        let author = self.author(place, &will.publish);
        self.publish_will_message(now, will, &author, effects);
    }

    pub(super) fn publish_will_message(
        &mut self,
        now: Now,
        will: LastWill,
        author: &Author,
        effects: &mut Effects,
    ) {
        self.counters.last_wills_published += 1;
        if will.publish.retain {
            self.keep_will(now, will.publish, author, effects);
        } else {
            let trace = Trace {
                asked: is_traced(will.publish.options.as_deref()),
                stands: true,
            };
            let event = self.event_of(now, will.publish, author);
            self.announce(&event, author, trace, effects);
        }
    }

    /// What a restarted router knows of a durable session.
    pub(super) fn restore_session(
        &mut self,
        client: &str,
        stored: &StoredSession,
        identity: Arc<Identity>,
    ) -> usize {
        let join = ClientJoin {
            id: client.into(),
            clean_start: false,
            expiry: Duration::from_secs(stored.expiry_secs),
            window: u16::MAX,
            last_will: None,
        };
        let features = crate::session::Features::default();
        let style = crate::session::EventStyle::Lanes;
        let place = self.new_session(identity, features, style, Some(&join));
        let Some(session) = self.sessions.get_mut(place) else {
            return place;
        };
        self.by_id.remove(&session.id);
        session.id = stored.session;
        session.expiry = join.expiry;
        session.attached = false;
        session.away.get_or_insert_default().since_ms = stored.detached_at_ms;
        self.by_id.insert(stored.session, place);
        place
    }
}
