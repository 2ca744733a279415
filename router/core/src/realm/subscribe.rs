//! Subscribing and unsubscribing. On the wire: the answer, then history, then retained values, then
//! live events.

use super::{Effects, Realm, Undo};
use crate::auth::Action;
use crate::broker::{Filter, Member, MemberOptions, Pace, SubscriptionKey};
use crate::model::{
    Answer, Delivery, ErrorKind, Now, RequestId, Subscribe, SubscriptionId, UnsubscribeTarget,
};
use crate::records::{self, StoredSession, StoredSubscription};
use crate::session::Session;
use bytestring::ByteString;
use std::sync::Arc;

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
        let (id, is_new, is_created) = if subscribe.snapshot {
            (self.subscriptions.passing_id(), true, false)
        } else {
            self.join_subscription(now, place, &subscribe, filter.as_ref(), options)
        };
        if !is_new {
            self.change_replay(place, id, subscribe.retained, options);
        }
        self.note_status_interest(&subscribe.pattern);
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
        if is_new && !subscribe.snapshot {
            self.announce_member(now, place, id, is_created, effects);
        }
        if subscribe.share.is_some() {
            // Nothing is replayed to a shared subscription, whatever it asks for (5.0 section 4.8.2).
            self.collect(id, effects);
            return;
        }
        let retained = subscribe.retained && (is_new || !subscribe.retained_if_new);
        if retained || subscribe.snapshot || subscribe.after.is_some() {
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
        if subscribe.share.is_some() && (subscribe.snapshot || subscribe.after.is_some()) {
            return Err((
                ErrorKind::InvalidArgument,
                "nothing is replayed to a shared subscription",
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
        let key = key_of(subscribe, filter.as_ref());
        self.subscriptions
            .id_of(&key)
            .is_some_and(|id| session.subscriptions.contains_key(&id))
    }

    /// Answers its id, whether the session is new in it, and whether it is new itself.
    fn join_subscription(
        &mut self,
        now: Now,
        place: usize,
        subscribe: &Subscribe,
        filter: Option<&Filter>,
        options: MemberOptions,
    ) -> (SubscriptionId, bool, bool) {
        let key = key_of(subscribe, filter);
        let member = Member {
            session: place,
            options,
            pace: Pace::Live,
        };
        let Realm {
            subscriptions,
            sessions,
            ..
        } = self;
        let Some(session) = sessions.get_mut(place) else {
            return (subscriptions.passing_id(), false, false);
        };
        let (attached, now_ms) = (session.attached, now.unix_ms);
        let joined = subscriptions.join(&key, filter, member, attached, now_ms, |id| {
            session.subscriptions.get(&id).copied()
        });
        session.subscriptions.insert(joined.id, joined.place);
        if key.share.is_some() {
            session.seldom.shares.insert(joined.id);
        }
        (joined.id, joined.new_member, joined.created)
    }

    pub(super) fn unsubscribe(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        target: &UnsubscribeTarget,
        effects: &mut Effects,
    ) {
        let id = match target {
            UnsubscribeTarget::Id(id) => Some(*id),
            UnsubscribeTarget::Pattern { pattern, share } => {
                self.sessions.get(place).and_then(|session| {
                    let holds = |id| session.subscriptions.contains_key(&id);
                    self.subscriptions.held(pattern, share.as_deref(), holds)
                })
            }
        };
        let before = effects.batch.len();
        let was_member = id.is_some_and(|id| self.take_out(place, id, effects));
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
        let commit = self.commit_since(before, effects);
        self.done(place, request, Answer::Unsubscribed, commit, effects);
        self.announce_departures(now, effects);
    }

    /// Ends a session's part in a subscription, its stored copy included; answers whether there was
    /// any. To be followed by [`Realm::announce_departures`].
    pub(super) fn take_out(
        &mut self,
        place: usize,
        id: SubscriptionId,
        effects: &mut Effects,
    ) -> bool {
        let stored = self
            .sessions
            .get(place)
            .and_then(|session| self.subscription_key(session, &self.subscriptions.by_id(id)?.key));
        if !self.leave_subscription(place, id) {
            return false;
        }
        if let Some(key) = stored {
            effects.batch.delete(records::SUBSCRIPTIONS, key);
        }
        self.share_left(place, id, effects);
        true
    }

    /// Takes the session out of a subscription or ends its replay; answers whether there was any.
    pub(super) fn leave_subscription(&mut self, place: usize, id: SubscriptionId) -> bool {
        let had_replay = self.drop_replay(place, id);
        let departure = self.departure(place, id);
        let Realm {
            subscriptions,
            sessions,
            backlogs,
            ..
        } = self;
        let Some(session) = sessions.get_mut(place) else {
            return false;
        };
        let Some(at) = session.subscriptions.remove(&id) else {
            return had_replay;
        };
        if let Some(rota) = subscriptions.rota_of(id) {
            rota.keepers.remove(&place);
            session.seldom.parked.remove(&id);
            session.seldom.shares.remove(&id);
        }
        if let Some(moved) = subscriptions.leave(id, at)
            && let Some(session) = sessions.get_mut(moved)
        {
            session.subscriptions.insert(id, at);
        }
        let is_gone = subscriptions.by_id(id).is_none();
        if is_gone {
            backlogs.remove(&id);
        }
        self.departures
            .extend(departure.map(|departure| departure.deletes(is_gone)));
        true
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
        let Some(key) = self.subscription_key(session, &subscription.key) else {
            return;
        };
        let stored = StoredSubscription {
            kind: StoredSubscription::kind_number(subscription.key.kind),
            levels: StoredSubscription::levels_of(&subscription.key.pattern),
            filter: subscription.filter.as_deref().map(Filter::option_text),
            qos: member.options.qos,
            no_local: member.options.no_local,
            retain_as_published: member.options.retain_as_published,
            identifier: member.options.identifier,
            replaying: Realm::stored_replay(session, id),
            share: subscription.key.share.as_deref().map(ByteString::from),
            id: Some(subscription.id),
            created_ms: Some(subscription.created_ms),
        };
        if let Ok(record) = records::encode(&stored) {
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
        let name = match &key.share {
            None => records::encode(&(kind, levels, &key.filter)).ok()?,
            Some(share) => records::encode(&(kind, levels, &key.filter, share)).ok()?,
        };
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
            detached_at_ms: session.away_since_ms(),
            handed_out: session.outbox.bound(),
        };
        if let Ok(record) = records::encode(&stored) {
            let key = records::key(&self.settings.name, client.as_bytes());
            effects.batch.put(records::SESSIONS, key, record);
        }
    }
}

fn key_of(subscribe: &Subscribe, filter: Option<&Filter>) -> SubscriptionKey {
    SubscriptionKey {
        pattern: subscribe.pattern.clone(),
        kind: subscribe.kind,
        filter: filter.map(Filter::canonical).unwrap_or_default().into(),
        share: subscribe.share.as_deref().map(Arc::from),
    }
}
