//! One subscription stands for a (pattern, notation, filter, share group) and has every session that
//! asked for it as a member; all members share its id.

use super::{Filter, Rota};
use crate::matcher::{Found, Index};
use crate::model::{MatchKind, Pattern, Qos, SubscriptionId, Topic};
use bytestring::ByteString;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// Ids stay below 2^31 as the contract says.
const MAX_ID: u64 = 0x7fff_ffff;

/// What makes two subscription requests the same subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    /// The set of topics.
    pub pattern: Pattern,
    /// The notation it was asked in.
    pub kind: MatchKind,
    /// [`Filter::canonical`], or empty.
    pub filter: Box<str>,
    /// The share group: each event goes to one of its members.
    pub share: Option<Arc<str>>,
}

/// A subscription and its members.
#[derive(Debug)]
pub struct Subscription {
    /// The id told to members.
    pub id: SubscriptionId,
    /// What it matches.
    pub key: SubscriptionKey,
    /// When it was made, in wall-clock milliseconds.
    pub created_ms: u64,
    /// The condition, if any.
    pub filter: Option<Box<Filter>>,
    /// In no particular order; each session once. Most have one.
    pub members: SmallVec<[Member; 1]>,
    /// Whose turn it is, in a share group.
    pub rota: Option<Box<Rota>>,
}

/// A session in a subscription.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its place in the realm.
    pub session: usize,
    /// How it wants events.
    pub options: MemberOptions,
    /// Whether live events reach it.
    pub pace: Pace,
}

/// How far a member is with what came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// It has what it asked for.
    #[default]
    Live,
    /// It is still shown the past: what is remembered reaches it in its turn, the rest is held back until then.
    Behind,
    /// It has what is left of the past and is to be told that something is missing.
    Gap,
}

/// How a member wants its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberOptions {
    /// At most this assurance.
    pub qos: Qos,
    /// Not its own.
    pub no_local: bool,
    /// The publisher's retain flag as it was.
    pub retain_as_published: bool,
    /// Its own number for it.
    pub identifier: Option<u32>,
}

/// All subscriptions of a realm.
#[derive(Debug)]
pub struct Subscriptions {
    slots: Slab<Subscription>,
    /// key -> slot
    by_key: HashTable<u32>,
    /// id -> slot
    by_id: HashTable<u32>,
    hasher: RandomState,
    index: Index,
    next_id: u64,
    revision: u64,
}

/// What [`Subscriptions::join`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The subscription.
    pub id: SubscriptionId,
    /// There was none before.
    pub created: bool,
    /// The session was not a member before.
    pub new_member: bool,
    /// The member's place, to be kept for [`Subscriptions::leave`].
    pub place: usize,
}

impl Subscriptions {
    /// None yet; `reserved` as for [`Index::new`].
    #[must_use]
    pub fn new(reserved: ByteString) -> Subscriptions {
        Subscriptions {
            slots: Slab::new(),
            by_key: HashTable::new(),
            by_id: HashTable::new(),
            hasher: RandomState::default(),
            index: Index::new(reserved),
            next_id: 1,
            revision: 0,
        }
    }

    /// An id that stands for no live subscription, for a replay that ends by itself.
    pub fn passing_id(&mut self) -> SubscriptionId {
        let id = SubscriptionId(self.next_id);
        // 2^31 patterns do not fit a machine.
        self.next_id = self.next_id % MAX_ID + 1;
        id
    }

    /// The id of a live subscription.
    #[must_use]
    pub fn id_of(&self, key: &SubscriptionKey) -> Option<SubscriptionId> {
        self.at(self.slot_by_key(key)?)
            .map(|subscription| subscription.id)
    }

    /// The id of the subscription to this pattern, shared in this way, that is held by whom `holds` speaks for; without
    /// a condition if there is one, in whatever notation.
    pub fn held(
        &self,
        pattern: &Pattern,
        share: Option<&str>,
        holds: impl Fn(SubscriptionId) -> bool,
    ) -> Option<SubscriptionId> {
        let plain = |kind| {
            self.id_of(&SubscriptionKey {
                pattern: pattern.clone(),
                kind,
                filter: Box::default(),
                share: share.map(Arc::from),
            })
        };
        let mut kinds = MatchKind::ALL.into_iter().filter_map(plain);
        kinds.find(|id| holds(*id)).or_else(|| {
            let mut under = Found::new();
            self.index.under(pattern, &mut under);
            under
                .into_iter()
                .filter_map(|slot| self.at(slot))
                .find(|known| known.key.share.as_deref() == share && holds(known.id))
                .map(|known| known.id)
        })
    }

    /// Makes `session` a member, or changes its options; `connected` says whether it has a
    /// connection, `created_ms` what time it is. `known_place` is where the session says it is a member already.
    pub fn join(
        &mut self,
        key: &SubscriptionKey,
        filter: Option<&Filter>,
        member: Member,
        connected: bool,
        created_ms: u64,
        known_place: impl FnOnce(SubscriptionId) -> Option<usize>,
    ) -> Joined {
        let known = self.slot_by_key(key);
        let slot = known.unwrap_or_else(|| {
            let id = self.free_id();
            self.create(id, key, filter, created_ms)
        });
        let subscription = &mut self.slots[slot as usize];
        let id = subscription.id;
        if let Some(place) = known_place(id)
            && let Some(known) = subscription.members.get_mut(place)
        {
            known.options = member.options;
            return Joined {
                id,
                created: false,
                new_member: false,
                place,
            };
        }
        subscription.members.push(member);
        if let Some(rota) = &mut subscription.rota {
            rota.join(connected);
        }
        Joined {
            id,
            created: known.is_none(),
            new_member: true,
            place: subscription.members.len() - 1,
        }
    }

    /// Makes a subscription of a former process known again under the id that queued deliveries name
    /// it by, if that is free.
    pub fn restore(
        &mut self,
        id: SubscriptionId,
        key: &SubscriptionKey,
        filter: Option<&Filter>,
        created_ms: u64,
    ) {
        self.pass_id(id);
        let is_free = (1..=MAX_ID).contains(&id.0) && self.slot_of(id).is_none();
        if is_free && self.slot_by_key(key).is_none() {
            self.create(id, key, filter, created_ms);
        }
    }

    /// New subscriptions get other ids than this one, by which something stored may name another.
    pub fn pass_id(&mut self, id: SubscriptionId) {
        if (self.next_id..=MAX_ID).contains(&id.0) {
            self.next_id = id.0 % MAX_ID + 1;
        }
    }

    fn free_id(&mut self) -> SubscriptionId {
        let mut id = self.passing_id();
        while self.slot_of(id).is_some() {
            id = self.passing_id();
        }
        id
    }

    fn create(
        &mut self,
        id: SubscriptionId,
        key: &SubscriptionKey,
        filter: Option<&Filter>,
        created_ms: u64,
    ) -> u32 {
        let subscription = Subscription {
            id,
            rota: key.share.is_some().then(Box::default),
            key: key.clone(),
            created_ms,
            filter: filter.cloned().map(Box::new),
            members: SmallVec::new(),
        };
        let slot = u32::try_from(self.slots.insert(subscription)).unwrap_or(u32::MAX);
        self.index.insert(&key.pattern, slot);
        self.revision += 1;
        let Subscriptions {
            slots,
            by_key,
            by_id,
            hasher,
            ..
        } = self;
        let slots = &*slots;
        by_key.insert_unique(hasher.hash_one(key), slot, |slot| {
            hasher.hash_one(&slots[*slot as usize].key)
        });
        by_id.insert_unique(hasher.hash_one(id), slot, |slot| {
            hasher.hash_one(slots[*slot as usize].id)
        });
        slot
    }

    /// Takes the member at `place` away. If another member moved to that place, answers which
    /// session, so that it can be told its new place.
    pub fn leave(&mut self, id: SubscriptionId, place: usize) -> Option<usize> {
        let slot = self.slot_of(id)?;
        let subscription = self.slots.get_mut(slot as usize)?;
        if place >= subscription.members.len() {
            return None;
        }
        subscription.members.swap_remove(place);
        if let Some(rota) = &mut subscription.rota {
            rota.leave(place);
        }
        if subscription.members.is_empty() {
            self.forget(slot);
            return None;
        }
        subscription.members.get(place).map(|moved| moved.session)
    }

    fn forget(&mut self, slot: u32) {
        let gone = self.slots.remove(slot as usize);
        self.index.remove(&gone.key.pattern, slot);
        self.revision += 1;
        let hashes = [
            self.hasher.hash_one(&gone.key),
            self.hasher.hash_one(gone.id),
        ];
        for (table, hash) in [&mut self.by_key, &mut self.by_id].into_iter().zip(hashes) {
            if let Ok(known) = table.find_entry(hash, |known| *known == slot) {
                known.remove();
            }
        }
    }

    /// The member at `place` is as far as `pace` says.
    pub fn set_pace(&mut self, id: SubscriptionId, place: usize, pace: Pace) {
        let subscription = self.by_id_mut(id);
        if let Some(member) = subscription.and_then(|s| s.members.get_mut(place)) {
            member.pace = pace;
        }
    }

    /// The slots of all subscriptions that match `topic`, to be read with
    /// [`Subscriptions::at`].
    #[must_use]
    pub fn matching(&self, topic: &Topic) -> Found {
        let mut found = Found::new();
        self.index.find(topic, &mut found);
        found
    }

    /// Grows whenever [`Subscriptions::matching`] may answer otherwise than before.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether anybody listens to `topic`.
    #[must_use]
    pub fn has_listener(&self, topic: &Topic) -> bool {
        self.index.matches_any(topic)
    }

    /// The subscription in a slot just found.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<&Subscription> {
        self.slots.get(slot as usize)
    }

    /// The subscription in a slot just found.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot as usize)
    }

    /// By id.
    pub fn by_id_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let slot = self.slot_of(id)?;
        self.at_mut(slot)
    }

    /// The order of a share group.
    pub fn rota_of(&mut self, id: SubscriptionId) -> Option<&mut Rota> {
        self.by_id_mut(id)?.rota.as_deref_mut()
    }

    /// The slot of a live subscription.
    #[must_use]
    pub fn slot_of(&self, id: SubscriptionId) -> Option<u32> {
        let is_it = |slot: &u32| self.at(*slot).is_some_and(|known| known.id == id);
        self.by_id.find(self.hasher.hash_one(id), is_it).copied()
    }

    fn slot_by_key(&self, key: &SubscriptionKey) -> Option<u32> {
        let is_it = |slot: &u32| self.at(*slot).is_some_and(|known| known.key == *key);
        self.by_key.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// By id.
    #[must_use]
    pub fn by_id(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.slot_of(id).and_then(|slot| self.at(slot))
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.iter().map(|(_, subscription)| subscription)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests;
