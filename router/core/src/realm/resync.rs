//! After the store refused commits: what a session's records should say is written again.
//!
//! Kept values are taken back when a commit fails, but a session's life goes on: deliveries were
//! settled, subscriptions left, exactly-once ids released. Their lost writes are not remembered as
//! such, only their keys; each key is written as things are when the store works again.

use super::queues::{stored_delivery, stored_gap};
use super::{Effects, Realm};
use crate::model::{EventDelivery, Slot, SubscriptionId, Topic};
use crate::records::{self, StoredDelivery};
use std::collections::{HashMap, HashSet};
use storage::Space;

/// What the keys of one client's records are compared with.
#[derive(Default)]
struct Holdings {
    place: Option<usize>,
    deliveries: HashMap<u64, Option<EventDelivery>>,
    gaps: HashMap<u64, u32>,
    /// Deliveries whose record is all there is of them.
    spilled: HashSet<u64>,
    subscriptions: HashMap<Vec<u8>, SubscriptionId>,
}

impl Realm {
    /// A write of `key` was lost.
    pub(super) fn note_lost(&mut self, space: Space, key: Vec<u8>) {
        match space {
            records::META => {}
            records::HISTORY => self.note_lost_trace(&key),
            records::VALUES => {
                let topic = records::split_key(&key)
                    .and_then(|(_, text)| std::str::from_utf8(text).ok())
                    .and_then(|text| Topic::new(text.to_owned()).ok());
                self.unsaved.extend(topic);
            }
            _ => {
                self.unsynced.insert((space, key));
            }
        }
    }

    /// Writes the lost records of sessions as they are now.
    pub(super) fn write_unsynced(&self, effects: &mut Effects) {
        let mut known: HashMap<&str, Holdings> = HashMap::new();
        for (space, key) in &self.unsynced {
            let Some((client, part)) = client_of(*space, key) else {
                continue;
            };
            let holdings = known.entry(client).or_insert_with(|| self.holdings(client));
            let number = records::number(part).filter(|_| *space == records::QUEUES);
            if number.is_some_and(|number| holdings.spilled.contains(&number)) {
                continue;
            }
            let before = effects.batch.len();
            self.write_again(*space, key, part, holdings, effects);
            if effects.batch.len() == before {
                effects.batch.delete(*space, key.clone());
            }
        }
    }

    /// Writes one record if there is something to write.
    fn write_again(
        &self,
        space: Space,
        key: &[u8],
        part: &[u8],
        holdings: &Holdings,
        effects: &mut Effects,
    ) {
        let Some(place) = holdings.place else { return };
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        match space {
            records::LAST_WILLS => self.save_last_will(place, effects),
            _ if !self.is_stored(session) => {}
            records::SESSIONS => self.save_session(place, effects),
            records::SUBSCRIPTIONS => {
                if let Some(id) = holdings.subscriptions.get(key) {
                    self.save_subscription(place, *id, effects);
                }
            }
            records::QUEUES => {
                let number = records::number(part).unwrap_or_default();
                let delivery = holdings.deliveries.get(&number);
                let gap = holdings.gaps.get(&number).copied().map(stored_gap);
                let stored = delivery
                    .map(|delivery| match delivery {
                        Some(delivery) => stored_delivery(delivery),
                        None => StoredDelivery::Released,
                    })
                    .or(gap);
                if let Some(Ok(record)) = stored.map(|stored| records::encode(&stored)) {
                    effects.batch.put(space, key, record);
                }
            }
            _ => {
                let receipt = records::number(part)
                    .and_then(|number| u16::try_from(number).ok())
                    .and_then(Slot::new);
                if receipt.is_some_and(|receipt| session.receipts.contains(&receipt)) {
                    effects.batch.put(space, key, Vec::new());
                }
            }
        }
    }

    fn holdings(&self, client: &str) -> Holdings {
        let place = self.clients.get(client).copied();
        let Some((place, session)) =
            place.and_then(|place| Some((place, self.sessions.get(place)?)))
        else {
            return Holdings::default();
        };
        let subscriptions = session.subscriptions.keys().filter_map(|id| {
            let key = &self.subscriptions.by_id(*id)?.key;
            Some((self.subscription_key(session, key)?, *id))
        });
        Holdings {
            place: Some(place),
            deliveries: session.outbox.stored_copies().into_iter().collect(),
            gaps: session.outbox.stored_gaps().into_iter().collect(),
            spilled: session.outbox.spilled_numbers().into_iter().collect(),
            subscriptions: subscriptions.collect(),
        }
    }

    /// Writes every record of a session that has become durable.
    pub(super) fn store_whole(&mut self, place: usize, effects: &mut Effects) {
        if self
            .sessions
            .get(place)
            .is_some_and(|session| self.is_stored(session))
        {
            self.begin_stored(place, effects);
        }
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (Some(client), true) = (&session.client, self.is_stored(session)) else {
            return;
        };
        let realm = &self.settings.name;
        self.save_session(place, effects);
        for id in session.subscriptions.keys() {
            self.save_subscription(place, *id, effects);
        }
        for (number, delivery) in session.outbox.stored_copies() {
            let stored = delivery
                .as_ref()
                .map_or(StoredDelivery::Released, stored_delivery);
            if let Ok(record) = records::encode(&stored) {
                let key = records::client_key(realm, client, number);
                effects.batch.put(records::QUEUES, key, record);
            }
        }
        for (number, lost) in session.outbox.stored_gaps() {
            if let Ok(record) = records::encode(&stored_gap(lost)) {
                let key = records::client_key(realm, client, number);
                effects.batch.put(records::QUEUES, key, record);
            }
        }
        for receipt in &session.receipts {
            let key = records::client_key(realm, client, u64::from(receipt.get()));
            effects.batch.put(records::RECEIPTS, key, Vec::new());
        }
    }
}

/// The client a session's record belongs to, and the part of its key after that.
fn client_of(space: Space, key: &[u8]) -> Option<(&str, &[u8])> {
    if matches!(space, records::SESSIONS | records::LAST_WILLS) {
        let (_, client) = records::split_key(key)?;
        return Some((std::str::from_utf8(client).ok()?, &[]));
    }
    let (_, client, part) = records::split_client_key(key)?;
    Some((client, part))
}
