//! What the realm itself says of holds: the values of held keys, and events about their ends.

use crate::kv::{ArmedWill, Entry, Hold, Holder, Mode};
use crate::model::{
    Admission, Audience, Event, Made, Now, Payload, PublicationId, Publisher, Qos, Topic, WillScope,
};
use crate::realm::publish::Author;
use crate::realm::remember::Trace;
use crate::realm::{Effects, Realm};
use serde_json::{Value, json};
use std::sync::Arc;

/// Why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::realm) enum Ended {
    /// Its session gave it up.
    Released,
    /// Its session ended.
    Session,
    /// It was not renewed.
    Expired,
    /// Somebody with the right to do so ended it.
    Broken,
    /// The store did not keep its grant.
    Store,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Ended::Released => "released",
            Ended::Session => "session",
            Ended::Expired => "expired",
            Ended::Broken => "broken",
            Ended::Store => "store",
        }
    }

    /// Whether its session did not mean it to end and is there to be told.
    fn is_loss(self) -> bool {
        matches!(self, Ended::Expired | Ended::Broken | Ended::Store)
    }

    /// Whether whoever comes later should find it in the history.
    fn is_traced(self) -> bool {
        self != Ended::Released
    }
}

impl Realm {
    /// Writes what a key says of its holders now, under `publication`, in the name of `publisher`;
    /// a key without holders is deleted. `stands`: even if the store fails.
    pub(super) fn write_hold(
        &mut self,
        now: Now,
        publication: PublicationId,
        topic: &Topic,
        publisher: Arc<Publisher>,
        stands: Option<Ended>,
        effects: &mut Effects,
    ) {
        let value = self.kv.held.get(topic).map_or(Value::Null, value_of);
        let commit = self.write_commit();
        let session = publisher.session;
        let event = Arc::new(Event {
            publication,
            topic: topic.clone(),
            payload: Payload::from_value(&value),
            publisher: Some(publisher),
            qos: Qos::AtLeastOnce,
            retain: true,
            clears: value.is_null(),
            token: Some(publication.0),
            expires_at_ms: None,
            attributes: None,
            admission: None,
            made: Made::default(),
        });
        if event.clears {
            if let Some(forgotten) = self.kv.delete(topic, publication.0, commit, true) {
                self.delete_record(&forgotten, effects);
            }
        } else {
            // Should the process die, this will releases the key at the next start.
            let will = ArmedWill {
                session,
                value: Value::Null,
                scope: WillScope::Any,
            };
            let entry = Entry {
                event: event.clone(),
                commit,
                will: Some(Box::new(will)),
                is_hold: true,
            };
            self.kv.put(topic, entry, stands.is_some());
        }
        self.save_value(topic, effects);
        let traced = stands.is_some_and(Ended::is_traced);
        let trace = Trace {
            asked: traced,
            // A grant is taken back together with the value.
            stands: stands.is_some(),
        };
        self.announce(&event, &Author::REALM, trace, effects);
        self.wake_replays(now, effects);
    }
}

impl Realm {
    /// Tells that a hold ended: its session, if that lost it, and everybody who may read the key.
    pub(super) fn tell_end_of_hold(
        &mut self,
        now: Now,
        topic: &Topic,
        (token, holder): (u64, &Holder),
        ended: Ended,
        effects: &mut Effects,
    ) {
        if ended.is_loss() {
            self.tell_lost(
                now,
                topic,
                (token, holder.publisher.session),
                ended,
                effects,
            );
        }
        if ended != Ended::Store {
            self.tell_released(now, topic, (token, holder), ended, effects);
        }
    }

    /// Tells a session that it does not hold a key any more.
    pub(super) fn tell_lost(
        &mut self,
        now: Now,
        topic: &Topic,
        (token, session): (u64, crate::model::SessionId),
        ended: Ended,
        effects: &mut Effects,
    ) {
        let audience = Audience {
            sessions: Some(vec![session]),
            ..Audience::default()
        };
        let admission = Admission {
            eligible: Some(audience),
            ..Admission::default()
        };
        let key = self.spelled(topic);
        let report = || json!({"key": key, "token": token, "reason": ended.word()});
        self.tell_of_locks(now, "on_lost", admission, report, effects);
    }

    /// Tells whoever may read the key.
    pub(in crate::realm) fn tell_released(
        &mut self,
        now: Now,
        topic: &Topic,
        (token, holder): (u64, &Holder),
        ended: Ended,
        effects: &mut Effects,
    ) {
        let admission = Admission {
            about: Some(topic.clone()),
            ..Admission::default()
        };
        let (key, session) = (self.spelled(topic), holder.session().0);
        let report =
            || json!({"key": key, "token": token, "session": session, "reason": ended.word()});
        self.tell_of_locks(now, "on_released", admission, report, effects);
    }

    fn tell_of_locks(
        &mut self,
        now: Now,
        name: &str,
        admission: Admission,
        report: impl FnOnce() -> Value,
        effects: &mut Effects,
    ) {
        let Ok(topic) = Topic::new(format!("{}/{name}", self.settings.naming.locks)) else {
            return;
        };
        if !self.subscriptions.has_listener(&topic) {
            return;
        }
        let event = Arc::new(Event {
            publication: self.ids.next(now.unix_ms),
            topic,
            payload: Payload::from_value(&report()),
            publisher: None,
            // While the store is down nothing that must be kept for later can be said.
            qos: match self.store_down {
                true => Qos::AtMostOnce,
                false => Qos::AtLeastOnce,
            },
            retain: false,
            clears: false,
            token: None,
            expires_at_ms: None,
            attributes: None,
            admission: Some(Box::new(admission)),
            made: Made::default(),
        });
        self.announce(&event, &Author::REALM, Trace::OWN, effects);
    }
}

/// What a held key says: what its only holder gave, or how many hold it.
pub(super) fn value_of(hold: &Hold) -> Value {
    if let Some((_, holder)) = hold.sole() {
        return match &holder.data {
            Value::Null => Value::Bool(true),
            data => data.clone(),
        };
    }
    let mode = hold.mode.name();
    match hold.mode {
        Mode::Permit => json!({"mode": mode, "limit": hold.limit, "taken": hold.taken()}),
        _ => json!({"mode": mode, "holders": hold.len()}),
    }
}
