//! Subscribing, and the replays that go with it.
//!
//! On the wire: the answer, then history, then retained values, then live events. A replay that
//! does not fit the outbox goes on from where it stopped once there is room; keys written since the
//! subscription are skipped then, because their new value went out live.

use super::{Effects, Realm, Undo};
use crate::auth::Action;
use crate::broker::{Filter, Member, MemberOptions, SubscriptionKey};
use crate::model::{
    Answer, Delivery, ErrorKind, EventDelivery, Now, PublicationId, RequestId, Subscribe,
    SubscriptionId, UnsubscribeTarget,
};
use crate::records::{self, StoredSession, StoredSubscription};
use crate::session::{Replay, Session};
use crate::timers::Timer;
use std::sync::Arc;

/// Keys one replay step may visit while it holds the realm.
const VISITS_PER_STEP: usize = 2_000;

impl Realm {
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        place: usize,
        subscribe: Subscribe,
        effects: &mut Effects,
    ) {
        let request = subscribe.request;
        if let Err((kind, message)) = self.may_subscribe(place, &subscribe) {
            self.refuse(place, request, kind, message, effects);
            return;
        }
        let filter = subscribe.filter.clone().map(Filter::new);
        let options = MemberOptions {
            qos: subscribe.qos,
            no_local: subscribe.no_local,
            retain_as_published: subscribe.retain_as_published,
            identifier: subscribe.identifier,
        };
        let before = effects.batch.len();
        let (id, is_new) = if subscribe.snapshot {
            (self.subscriptions.passing_id(), true)
        } else {
            self.join_subscription(place, &subscribe, filter.as_ref(), options)
        };
        self.save_subscription(place, id, effects);
        let commit = self.commit_since(before, effects);
        let answer = Answer::Subscribed {
            subscription: id,
            qos: subscribe.qos,
        };
        let undo = if is_new {
            Undo::Subscription(id)
        } else {
            Undo::Nothing
        };
        self.push_or_undo(
            place,
            Delivery::Done { request, answer },
            commit,
            undo,
            effects,
        );
        if let Some(after) = subscribe.after {
            self.replay_history(
                place,
                id,
                &subscribe,
                filter.as_ref(),
                options,
                after,
                effects,
            );
        }
        let retained = subscribe.retained && (is_new || !subscribe.retained_if_new);
        if retained || subscribe.snapshot {
            self.start_replay(
                now, place, id, subscribe, filter, options, retained, effects,
            );
        }
    }

    fn may_subscribe(
        &self,
        place: usize,
        subscribe: &Subscribe,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        if !session
            .identity
            .role
            .permits_pattern(Action::Subscribe, &subscribe.pattern)
        {
            return Err((
                ErrorKind::NotAuthorized,
                "the role may not subscribe to this topic",
            ));
        }
        // Snapshots are no subscriptions, but each is a replay with a passing id of its own.
        let held = session.subscriptions.len() + session.replays.len();
        if held >= self.settings.limits.subscriptions_per_session
            && (subscribe.snapshot || !self.is_member(session, subscribe))
        {
            return Err((
                ErrorKind::QuotaExceeded,
                "the session holds too many subscriptions",
            ));
        }
        Ok(())
    }

    /// Whether the session holds this very subscription already, so that asking replaces it.
    fn is_member(&self, session: &Session, subscribe: &Subscribe) -> bool {
        let filter = subscribe.filter.clone().map(Filter::new);
        let key = SubscriptionKey {
            pattern: subscribe.pattern.clone(),
            kind: subscribe.kind,
            filter: filter.as_ref().map(Filter::canonical).unwrap_or_default(),
        };
        self.subscriptions
            .id_of(&key)
            .is_some_and(|id| session.subscriptions.contains_key(&id))
    }

    fn join_subscription(
        &mut self,
        place: usize,
        subscribe: &Subscribe,
        filter: Option<&Filter>,
        options: MemberOptions,
    ) -> (SubscriptionId, bool) {
        let key = SubscriptionKey {
            pattern: subscribe.pattern.clone(),
            kind: subscribe.kind,
            filter: filter.map(Filter::canonical).unwrap_or_default(),
        };
        let member = Member {
            session: place,
            options,
        };
        let Realm {
            subscriptions,
            sessions,
            ..
        } = self;
        let Some(session) = sessions.get_mut(place) else {
            return (subscriptions.passing_id(), false);
        };
        let joined = subscriptions.join(&key, filter, member, |id| {
            session.subscriptions.get(&id).copied()
        });
        session.subscriptions.insert(joined.id, joined.place);
        (joined.id, joined.new_member)
    }

    pub(super) fn unsubscribe(
        &mut self,
        place: usize,
        request: RequestId,
        target: &UnsubscribeTarget,
        effects: &mut Effects,
    ) {
        let id = match target {
            UnsubscribeTarget::Id(id) => Some(*id),
            UnsubscribeTarget::Pattern(pattern) => self.sessions.get(place).and_then(|session| {
                session.subscriptions.keys().copied().find(|id| {
                    self.subscriptions
                        .by_id(*id)
                        .is_some_and(|s| s.key.pattern == *pattern)
                })
            }),
        };
        let before = effects.batch.len();
        let stored = id.and_then(|id| {
            let session = self.sessions.get(place)?;
            self.subscription_key(session, &self.subscriptions.by_id(id)?.key)
        });
        let was_member = id.is_some_and(|id| self.leave_subscription(place, id));
        if !was_member {
            let message = "the session holds no such subscription";
            self.refuse(
                place,
                request,
                ErrorKind::NoSuchSubscription,
                message,
                effects,
            );
            return;
        }
        if let Some(key) = stored {
            effects.batch.delete(records::SUBSCRIPTIONS, key);
        }
        let commit = self.commit_since(before, effects);
        self.done(place, request, Answer::Unsubscribed, commit, effects);
    }

    /// Takes the session out of a subscription or ends its replay; answers whether there was any.
    pub(super) fn leave_subscription(&mut self, place: usize, id: SubscriptionId) -> bool {
        let had_replay = self.drop_replay(place, id);
        let Realm {
            subscriptions,
            sessions,
            ..
        } = self;
        let Some(session) = sessions.get_mut(place) else {
            return false;
        };
        let Some(at) = session.subscriptions.remove(&id) else {
            return had_replay;
        };
        if let Some(moved) = subscriptions.leave(id, at)
            && let Some(session) = sessions.get_mut(moved)
        {
            session.subscriptions.insert(id, at);
        }
        true
    }

    /// Ends the replay of one subscription; answers whether there was one.
    fn drop_replay(&mut self, place: usize, id: SubscriptionId) -> bool {
        let Some(session) = self.sessions.get_mut(place) else {
            return false;
        };
        let Some(at) = session.replays.iter().position(|r| r.subscription == id) else {
            return false;
        };
        let gone = session.replays.remove(at);
        let left = session
            .replays
            .iter()
            .any(|replay| replay.wait_for.is_none());
        session.outbox.set_refill(left);
        if let Some(mut gone) = gone {
            self.stop_waiting(place, &mut gone);
        }
        true
    }

    /// Ends all replays of a session.
    pub(super) fn drop_replays_of(&mut self, place: usize) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.outbox.set_refill(false);
        for mut replay in std::mem::take(&mut session.replays) {
            self.stop_waiting(place, &mut replay);
        }
    }

    /// The replay does not wait for the store any more.
    fn stop_waiting(&mut self, place: usize, replay: &mut Replay) {
        if let Some((after, timer)) = replay.wait_for.take() {
            self.timers.cancel(Some(timer));
            self.replay_waits
                .remove(&(after, place, replay.subscription));
        }
    }

    /// The history is bounded, so its replay is done at once: nothing live can come between.
    #[expect(clippy::too_many_arguments, reason = "one call site")]
    fn replay_history(
        &mut self,
        place: usize,
        id: SubscriptionId,
        subscribe: &Subscribe,
        filter: Option<&Filter>,
        options: MemberOptions,
        after: u64,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let role = session.identity.role.clone();
        let reserved = self.settings.naming.reserved.clone();
        let events: Vec<_> = self
            .history
            .after(after)
            .filter(|event| subscribe.pattern.matches(&event.topic, &reserved))
            .filter(|event| filter.is_none_or(|filter| filter.accepts(event)))
            .filter(|event| role.permits(Action::Subscribe, &event.topic))
            .cloned()
            .collect();
        let exact = subscribe.pattern.is_exact();
        for event in events {
            let delivery = EventDelivery {
                replayed: false,
                retain: false,
                ..Realm::replayed(&event, id, exact, options)
            };
            self.deliver(place, delivery, effects);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call site")]
    fn start_replay(
        &mut self,
        now: Now,
        place: usize,
        id: SubscriptionId,
        subscribe: Subscribe,
        filter: Option<Filter>,
        options: MemberOptions,
        retained: bool,
        effects: &mut Effects,
    ) {
        // Asked again, it begins anew.
        self.drop_replay(place, id);
        let wait_for = subscribe
            .after
            .filter(|&after| retained && after > self.kv.last_write())
            .and_then(|after| {
                let at = now.instant.checked_add(self.settings.limits.after_wait)?;
                Some((after, self.timers.set(at, Timer::Replay(place, id))))
            });
        if let Some((after, _)) = wait_for {
            self.replay_waits.insert((after, place, id));
        }
        let until = self.ids.last();
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.replays.push_back(Replay {
            subscription: id,
            // A snapshot of history alone has nothing more to visit, but its end must still be told.
            pattern: subscribe.pattern.detached(),
            filter,
            options,
            cursor: None,
            until: match (retained, subscribe.snapshot) {
                (false, _) => PublicationId(0),
                // Nothing comes live, so whatever is there when its turn comes is due.
                (true, true) => PublicationId(u64::MAX),
                (true, false) => until,
            },
            snapshot: subscribe.snapshot,
            wait_for,
        });
        self.pump_replays(now, place, effects);
    }

    /// Goes on with the session's replays as far as its outbox and this step allow.
    pub(super) fn pump_replays(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let mut visits = VISITS_PER_STEP;
        let mut waiting = std::collections::VecDeque::new();
        while let Some(session) = self.sessions.get_mut(place) {
            let room = session.outbox.room();
            let Some(mut replay) = session.replays.pop_front() else {
                break;
            };
            if replay
                .wait_for
                .is_some_and(|(after, _)| after > self.kv.last_write())
            {
                waiting.push_back(replay);
                continue;
            }
            self.stop_waiting(place, &mut replay);
            if room == 0 || visits == 0 {
                if let Some(session) = self.sessions.get_mut(place) {
                    session.replays.push_front(replay);
                }
                break;
            }
            let found = self.next_values(now, place, &mut replay, room, &mut visits);
            let done = replay.cursor.is_none();
            let exact = replay.pattern.is_exact();
            for event in found {
                let delivery = Realm::replayed(&event, replay.subscription, exact, replay.options);
                self.deliver(place, delivery, effects);
            }
            if !done {
                if let Some(session) = self.sessions.get_mut(place) {
                    session.replays.push_front(replay);
                }
            } else if replay.snapshot {
                self.end_snapshot(place, replay.subscription, effects);
            }
        }
        if let Some(session) = self.sessions.get_mut(place) {
            let unfinished = !session.replays.is_empty();
            session.outbox.set_refill(unfinished);
            session.replays.extend(waiting);
            if unfinished {
                // A step that found nothing to send must be gone on with all the same.
                effects.wake.push(session.outbox.clone());
            }
        }
    }

    /// The next values of a replay; sets its cursor to where it stopped, or to none at the end.
    fn next_values(
        &self,
        now: Now,
        place: usize,
        replay: &mut Replay,
        room: usize,
        visits: &mut usize,
    ) -> Vec<Arc<crate::model::Event>> {
        let mut found = Vec::new();
        let Some(session) = self.sessions.get(place) else {
            return found;
        };
        let role = &session.identity.role;
        let reserved = &self.settings.naming.reserved;
        let from = replay.pattern.literal_prefix();
        let cursor = replay.cursor.take();
        replay.cursor = self
            .kv
            .visit_from(&from, cursor.as_ref(), &mut |topic, entry| {
                let event = &entry.event;
                let is_due = event.publication <= replay.until
                    && replay.pattern.matches(topic, reserved)
                    && !event.is_expired(now.unix_ms)
                    && role.permits(Action::Subscribe, topic)
                    && !(replay.options.no_local
                        && event
                            .publisher
                            .as_ref()
                            .is_some_and(|p| p.session == session.id))
                    && replay
                        .filter
                        .as_ref()
                        .is_none_or(|filter| filter.accepts(event));
                if is_due {
                    found.push(event.clone());
                }
                *visits -= 1;
                found.len() < room && *visits > 0
            });
        found
    }

    fn end_snapshot(&mut self, place: usize, subscription: SubscriptionId, effects: &mut Effects) {
        let told = self
            .sessions
            .get(place)
            .is_some_and(|s| s.features.subscription_revocation);
        if told {
            let reason = "snapshot_complete";
            self.push(
                place,
                Delivery::Revoked {
                    subscription,
                    reason,
                },
                effects,
            );
        }
    }

    /// The store did not reach the position in time: no replay, live events go on.
    pub(super) fn replay_timed_out(
        &mut self,
        place: usize,
        id: SubscriptionId,
        effects: &mut Effects,
    ) {
        let waits = |replay: &Replay| replay.subscription == id && replay.wait_for.is_some();
        let timed_out = self
            .sessions
            .get(place)
            .and_then(|session| session.replays.iter().find(|replay| waits(replay)))
            .map(|replay| replay.snapshot);
        let Some(snapshot) = timed_out else { return };
        self.drop_replay(place, id);
        if snapshot {
            self.end_snapshot(place, id, effects);
        }
    }

    /// Goes on with replays that waited for the store to reach a position.
    pub(super) fn wake_replays(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(after, place, _)) = self.replay_waits.first()
            && after <= self.kv.last_write()
        {
            self.replay_waits.pop_first();
            self.pump_replays(now, place, effects);
        }
    }

    /// Writes the record of one subscription of a durable session.
    pub(super) fn save_subscription(
        &self,
        place: usize,
        id: SubscriptionId,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (Some(subscription), Some(at)) =
            (self.subscriptions.by_id(id), session.subscriptions.get(&id))
        else {
            return;
        };
        let Some(member) = subscription.members.get(*at) else {
            return;
        };
        let stored = StoredSubscription {
            kind: StoredSubscription::kind_number(subscription.key.kind),
            levels: StoredSubscription::levels_of(&subscription.key.pattern),
            filter: subscription.filter.as_ref().map(Filter::option_text),
            qos: member.options.qos,
            no_local: member.options.no_local,
            retain_as_published: member.options.retain_as_published,
            identifier: member.options.identifier,
        };
        let key = self.subscription_key(session, &subscription.key);
        if let (Some(key), Ok(record)) = (key, records::encode(&stored)) {
            effects.batch.put(records::SUBSCRIPTIONS, key, record);
        }
    }

    /// Where a subscription of a durable session is stored; `None` if the session is not.
    pub(super) fn subscription_key(
        &self,
        session: &Session,
        key: &SubscriptionKey,
    ) -> Option<Vec<u8>> {
        let client = session
            .client
            .as_ref()
            .filter(|_| self.is_stored(session))?;
        let levels = StoredSubscription::levels_of(&key.pattern);
        let kind = StoredSubscription::kind_number(key.kind);
        let name = records::encode(&(kind, levels, &key.filter)).ok()?;
        Some(records::client_part_key(&self.settings.name, client, &name))
    }

    /// Writes the record of a durable session as it is now.
    pub(super) fn save_session(&self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let Some(client) = &session.client else {
            return;
        };
        if !self.is_stored(session) {
            return;
        }
        let stored = StoredSession {
            session: session.id,
            authid: session.identity.authid.clone(),
            role: session.identity.role.name.clone(),
            method: session.identity.method.clone(),
            expiry_secs: session.expiry.as_secs(),
            detached_at_ms: session.detached_at_ms,
        };
        if let Ok(record) = records::encode(&stored) {
            let key = records::key(&self.settings.name, client.as_bytes());
            effects.batch.put(records::SESSIONS, key, record);
        }
    }
}
