//! What a restarted router knows of a realm, and what follows from it: every session of the former
//! process is gone, so wills are applied and last wills published before anybody is let in.

use super::publish::Author;
use super::{Effects, Realm};
use crate::auth::Role;
use crate::broker::{Filter, Member, MemberOptions, Pace, SubscriptionKey};
use crate::kv::{ArmedWill, Former};
use crate::model::{LastWill, MatchKind, Now, Pattern, Publish, Publisher, Slot, Topic};
use crate::records::{
    self, StoredDelivery, StoredHead, StoredSession, StoredSubscription, StoredWill,
};
use crate::session::Identity;
use crate::timers::Timer;
use bytestring::ByteString;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

mod found;

pub use found::Restored;

/// A record that passed its checksum but does not say what it must.
#[derive(Debug, Error)]
#[error("the stored {what} of {whose:?} cannot be read: {why}")]
pub struct RestoreError {
    /// What kind of record.
    pub what: &'static str,
    /// Of which key or client.
    pub whose: String,
    /// What is wrong.
    pub why: String,
}

impl Realm {
    /// Takes in what the store holds and applies the wills of the sessions that no longer exist.
    /// `role_of` finds a role by its name; a role that is gone leaves its sessions without rights.
    ///
    /// # Errors
    /// When a record cannot be read; nothing is served then.
    pub fn restore(
        &mut self,
        now: Now,
        found: Restored,
        role_of: &dyn Fn(&str) -> Option<Arc<Role>>,
        effects: &mut Effects,
    ) -> Result<(), RestoreError> {
        self.restore_traces(found.traces, &found.marks)?;
        let wills = self.restore_values(found.values);
        let mut bounds = HashMap::new();
        for (client, record) in &found.sessions {
            let stored: StoredSession = read("session", client, record)?;
            let role = role_of(&stored.role).unwrap_or_else(|| {
                Arc::new(Role::restricted(
                    stored.role.clone(),
                    Vec::new(),
                    Vec::new(),
                ))
            });
            let identity = Arc::new(Identity {
                authid: stored.authid.clone(),
                role,
                method: stored.method.clone(),
                provider: ByteString::from_static("store"),
                transport: Arc::from([]),
            });
            let place = self.restore_session(client, &stored, identity);
            bounds.insert(place, stored.handed_out);
        }
        for topic in self.kv.expiring() {
            self.arm_value_expiry(now, &topic);
        }
        self.restore_subscriptions(now, &found.subscriptions)?;
        self.restore_queues(found.queues, found.spilled, &bounds, effects)?;
        let mut places: Vec<usize> = bounds.into_keys().collect();
        places.sort_unstable();
        for place in places {
            if let Some(session) = self.sessions.get(place) {
                session.outbox.restored();
            }
            self.restore_expiry(now, place, effects);
        }
        for (client, id) in found.receipts {
            let slot = u16::try_from(id).ok().and_then(Slot::new);
            if let (Some(session), Some(slot)) = (self.client_mut(&client), slot) {
                session.receipts.insert(slot);
            }
        }
        self.restore_last_wills(now, found.last_wills, effects)?;
        for (topic, will, publisher) in wills {
            self.apply_will(now, &topic, &will, None, publisher, effects);
        }
        self.note_time(now);
        self.arm_forgetting();
        self.trim_restored();
        self.end_doomed(now, effects);
        Ok(())
    }

    /// What the restoring wrote is on disk, under no commit number: nothing of it can be undone.
    pub fn restored(&mut self) {
        self.kv.committed(self.commit);
        for (_, outbox) in self.gated.drain(..) {
            // Nobody is connected yet, so nobody is to be woken.
            outbox.saved(self.commit);
        }
        self.commit += 1;
        self.committed = self.commit - 1;
    }

    /// Answers what is to be released because nobody holds it any more, in the order of the writes.
    fn restore_values(
        &mut self,
        former: Vec<Former>,
    ) -> Vec<(Topic, Box<ArmedWill>, Arc<Publisher>)> {
        let armed = |former: &Former| {
            let entry = former.entry.as_ref()?;
            let (will, publisher) = (entry.will.clone()?, entry.event.publisher.clone()?);
            Some((former.token, (former.topic.clone(), will, publisher)))
        };
        let mut wills: Vec<_> = former.iter().filter_map(armed).collect();
        wills.sort_by_key(|(token, _)| *token);
        self.kv.restore(former);
        wills.into_iter().map(|(_, will)| will).collect()
    }

    /// The connection is gone since it was lost, or at the latest since the restart.
    fn restore_expiry(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let since = *session
            .away
            .get_or_insert_default()
            .since_ms
            .get_or_insert(now.unix_ms);
        let gone = Duration::from_millis(now.unix_ms.saturating_sub(since));
        let left = session.expiry.saturating_sub(gone);
        self.start_expiry(now, place, left);
        self.save_session(place, effects);
    }

    fn restore_subscriptions(
        &mut self,
        now: Now,
        found: &[(String, Vec<u8>)],
    ) -> Result<(), RestoreError> {
        for (client, record) in found {
            let stored: StoredSubscription = read("subscription", client, record)?;
            let pattern = stored
                .pattern()
                .ok_or_else(|| broken("subscription", client, "the pattern is not valid"))?;
            let filter = stored
                .filter
                .as_deref()
                .map(|text| serde_json::from_str(text).map(Filter::new))
                .transpose()
                .map_err(|error| broken("subscription", client, &error.to_string()))?;
            self.rejoin(now, client, pattern, filter, &stored);
        }
        Ok(())
    }

    fn rejoin(
        &mut self,
        now: Now,
        client: &str,
        pattern: Pattern,
        filter: Option<Filter>,
        stored: &StoredSubscription,
    ) {
        let Some(&place) = self.clients.get(client) else {
            return;
        };
        let options = MemberOptions {
            qos: stored.qos,
            no_local: stored.no_local,
            retain_as_published: stored.retain_as_published,
            identifier: stored.identifier,
        };
        let kind: MatchKind = stored.kind();
        let canonical = filter.as_ref().map(Filter::canonical).unwrap_or_default();
        let key = SubscriptionKey {
            pattern,
            kind,
            filter: canonical.into(),
            share: stored.share.as_deref().map(Arc::from),
        };
        let created_ms = stored.created_ms.unwrap_or(now.unix_ms);
        if let Some(id) = stored.id {
            self.subscriptions
                .restore(id, &key, filter.as_ref(), created_ms);
        }
        let member = Member {
            session: place,
            options,
            pace: Pace::Live,
        };
        let joined =
            self.subscriptions
                .join(&key, filter.as_ref(), member, false, created_ms, |_| None);
        if let Some(session) = self.sessions.get_mut(place) {
            session.subscriptions.insert(joined.id, joined.place);
            if key.share.is_some() {
                session.seldom.shares.insert(joined.id);
            }
        }
        self.note_status_interest(&key.pattern);
        if let Some(replaying) = stored.replaying.clone() {
            self.restore_replay(place, joined.id, options, replaying);
        }
    }

    fn restore_queues(
        &mut self,
        whole: Vec<(String, u64, Vec<u8>)>,
        spilled: Vec<(String, u64, StoredHead)>,
        bounds: &HashMap<usize, u64>,
        effects: &mut Effects,
    ) -> Result<(), RestoreError> {
        let whole = whole.into_iter().map(|(c, n, record)| (c, n, Ok(record)));
        let spilled = spilled.into_iter().map(|(c, n, head)| (c, n, Err(head)));
        let mut found: Vec<_> = whole.chain(spilled).collect();
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        // Deliveries of one event to many sessions share it again.
        let mut shared: HashMap<u64, Arc<crate::model::Event>> = HashMap::new();
        let mut last = None;
        for (client, number, record) in found {
            let Some(&place) = self.clients.get(&*client) else {
                // Left on disk alone by a session that was not durable in the end.
                let key = records::client_key(&self.settings.name, &client, number);
                effects.batch.delete(records::QUEUES, key);
                continue;
            };
            let Some(session) = self.sessions.get(place) else {
                continue;
            };
            if last.replace(place) != Some(place) {
                let bound = bounds.get(&place).copied();
                session.outbox.restore_bound(bound.unwrap_or(u64::MAX));
            }
            let record = match record {
                Ok(record) => record,
                Err(StoredHead {
                    cost,
                    expires_at_ms,
                }) => {
                    session.outbox.restore_spilled(number, cost, expires_at_ms);
                    continue;
                }
            };
            let stored: StoredDelivery = read("queued message", &client, &record)?;
            if let StoredDelivery::Lost { lost } = stored {
                session.outbox.restore_gap(number, lost);
                continue;
            }
            let mut delivery = stored.delivery();
            if let Some(delivery) = &mut delivery {
                let event = delivery.event.clone();
                let event = shared.entry(event.publication.0).or_insert(event);
                delivery.event = event.clone();
            }
            let waits = delivery.as_ref().map(|d| (d.subscription, d.handover));
            session.outbox.restore(number, delivery);
            if let Some((subscription, handover)) = waits {
                self.restore_share(&client, subscription, handover);
            }
        }
        Ok(())
    }

    fn restore_last_wills(
        &mut self,
        now: Now,
        found: Vec<(String, Vec<u8>)>,
        effects: &mut Effects,
    ) -> Result<(), RestoreError> {
        for (client, record) in found {
            let stored: StoredWill = read("last will", &client, &record)?;
            let (will, publisher) = last_will(stored);
            let place = self.clients.get(&*client).copied();
            let left = place
                .and_then(|place| self.sessions.get(place))
                .map_or(Duration::ZERO, |session| will.delay.min(session.expiry));
            match place {
                Some(place) if !left.is_zero() => {
                    let timer = self.set_timer(now, left, Timer::LastWill(place));
                    if let Some(session) = self.sessions.get_mut(place) {
                        session.last_will = Some(Box::new(will));
                        session.away.get_or_insert_default().last_will_timer = timer;
                    }
                }
                place => {
                    let key = records::key(&self.settings.name, client.as_bytes());
                    effects.batch.delete(records::LAST_WILLS, key);
                    let author = Author {
                        place,
                        publisher,
                        exclude_me: false,
                    };
                    self.publish_will_message(now, will, &author, effects);
                }
            }
        }
        Ok(())
    }

    fn client_mut(&mut self, client: &str) -> Option<&mut crate::session::Session> {
        let place = *self.clients.get(client)?;
        self.sessions.get_mut(place)
    }
}

fn last_will(stored: StoredWill) -> (LastWill, Option<Arc<Publisher>>) {
    let event: crate::model::Event = stored.event.into();
    let publish = Publish {
        qos: event.qos,
        retain: event.retain,
        exclude_me: false,
        expiry: stored.expiry_secs.map(Duration::from_secs),
        attributes: event.attributes,
        ..Publish::new(event.topic, event.payload)
    };
    let delay = Duration::from_secs(stored.delay_secs);
    (LastWill { publish, delay }, event.publisher)
}

fn read<'a, T: serde::Deserialize<'a>>(
    what: &'static str,
    whose: &str,
    record: &'a [u8],
) -> Result<T, RestoreError> {
    records::decode(record).map_err(|error| broken(what, whose, &error.to_string()))
}

fn broken(what: &'static str, whose: &str, why: &str) -> RestoreError {
    RestoreError {
        what,
        whose: whose.to_owned(),
        why: why.to_owned(),
    }
}
