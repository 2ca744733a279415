//! Retained values: one per topic, each a key of a small store with tokens, wills and waiters.
//!
//! The realm decides; this module keeps. What was written but is not yet durable can be undone:
//! every change leaves the former entry in a log until its commit is confirmed.

mod hold;
mod visit;
mod waiters;

pub use hold::{Fit, Hold, Holder, Holds, Lease, Mode, Wish};
pub use visit::{Visit, Walked};
pub use waiters::{Order, Step, Waiter, Waiters, Wants};

use crate::broker::fits;
use crate::model::{Event, SessionId, Topic, WillScope};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// A kept value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event that wrote it; it shares the text of its topic with the key.
    pub event: Arc<Event>,
    /// The commit that makes it durable.
    pub commit: u64,
    /// What becomes of it when its owner goes.
    pub will: Option<Box<ArmedWill>>,
    /// It tells of the holders in [`Kv::held`], and nobody else may write it.
    pub is_hold: bool,
}

/// A will bound to the session that armed it.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmedWill {
    /// The owner.
    pub session: SessionId,
    /// The value to write; null deletes.
    pub value: Value,
    /// On which ends.
    pub scope: WillScope,
}

/// What a key holds: a value, or the token of its deletion while that is remembered.
#[derive(Clone, Debug)]
enum State {
    Kept(Entry),
    Deleted { token: u64, commit: u64 },
}

/// What a key held in an earlier life.
#[derive(Debug)]
pub struct Former {
    /// The key.
    pub topic: Topic,
    /// Its value; `None` if it was deleted.
    pub entry: Option<Entry>,
    /// Of its last write or deletion.
    pub token: u64,
}

/// The former state of a key, until the commit that replaced it is durable.
#[derive(Debug)]
pub struct Undo {
    /// The commit.
    pub commit: u64,
    /// The key.
    pub topic: Topic,
    /// What to put back.
    before: Option<State>,
    /// The change released the key (its owner's will, or its deletion while held): it must stand
    /// even when the disk is full, and is repeated instead of undone.
    pub release: bool,
}

/// How many values a state keeps, and their bytes.
fn weight(state: Option<&State>) -> (usize, usize) {
    match state {
        Some(State::Kept(entry)) => (1, entry.event.payload.len()),
        _ => (0, 0),
    }
}

fn is_armed(state: Option<&State>) -> bool {
    matches!(state, Some(State::Kept(entry)) if entry.will.is_some())
}

fn condition_holds(entry: Option<&Entry>, when: &Value) -> bool {
    match entry {
        None => when.is_null(),
        Some(entry) => !when.is_null() && fits(when, entry.event.payload.value()),
    }
}

/// All keys of a realm.
#[derive(Debug)]
pub struct Kv {
    /// Sorted, so that a replay can go on after the last key it visited.
    states: BTreeMap<Topic, State>,
    kept: usize,
    /// Payload bytes of the kept values.
    bytes: usize,
    /// Deleted keys, oldest first, with the token that proves the place is still current.
    deleted: VecDeque<(Topic, u64)>,
    tombstones_max: usize,
    undo: VecDeque<Undo>,
    /// Publication id of the latest kept write.
    last_write: u64,
    /// Keys with an armed will: whatever is held, by whichever means.
    armed: BTreeSet<Topic>,
    /// Who holds keys that were asked for as such.
    pub held: Holds,
    /// Who waits for a key.
    pub waiters: Waiters,
}

impl Kv {
    /// An empty store that remembers the tokens of at most `tombstones_max` deleted keys.
    #[must_use]
    pub fn new(tombstones_max: usize) -> Kv {
        Kv {
            states: BTreeMap::new(),
            kept: 0,
            bytes: 0,
            deleted: VecDeque::new(),
            tombstones_max,
            undo: VecDeque::new(),
            last_write: 0,
            armed: BTreeSet::new(),
            held: Holds::default(),
            waiters: Waiters::default(),
        }
    }

    /// The value kept under `topic`.
    #[must_use]
    pub fn get(&self, topic: &Topic) -> Option<&Entry> {
        match self.states.get(topic) {
            Some(State::Kept(entry)) => Some(entry),
            _ => None,
        }
    }

    /// The armed will of a key. Costs nothing while no key has one.
    #[must_use]
    pub fn will(&self, topic: &Topic) -> Option<&ArmedWill> {
        if self.armed.is_empty() {
            return None;
        }
        self.get(topic)?.will.as_deref()
    }

    /// The token of the last write or deletion and the commit that makes it durable; zeros if the
    /// key was never written or that is forgotten.
    #[must_use]
    pub fn last_token(&self, topic: &Topic) -> (u64, u64) {
        match self.states.get(topic) {
            Some(State::Kept(entry)) => (entry.event.publication.0, entry.commit),
            Some(State::Deleted { token, commit }) => (*token, *commit),
            None => (0, 0),
        }
    }

    /// What the key has held since its last durable state, that one first: token, commit and value of each write or
    /// deletion.
    pub fn unfolding<'a>(
        &'a self,
        topic: &'a Topic,
    ) -> impl Iterator<Item = (u64, u64, Option<&'a Arc<Event>>)> {
        let first = self.undo.front().map_or(u64::MAX, |undo| undo.commit);
        let is_durable = match self.states.get(topic) {
            Some(State::Kept(Entry { commit, .. }) | State::Deleted { commit, .. }) => {
                *commit < first
            }
            None => self.undo.is_empty(),
        };
        let log = match is_durable {
            true => None,
            false => Some(self.undo.iter()),
        };
        let former = log
            .into_iter()
            .flatten()
            .filter(move |undo| undo.topic == *topic);
        let states = former
            .map(|undo| undo.before.as_ref())
            .chain([self.states.get(topic)]);
        states.map(|state| match state {
            Some(State::Kept(entry)) => {
                (entry.event.publication.0, entry.commit, Some(&entry.event))
            }
            Some(State::Deleted { token, commit }) => (*token, *commit, None),
            None => (0, 0, None),
        })
    }

    /// The body value kept, null if none.
    #[must_use]
    pub fn value(&self, topic: &Topic) -> &Value {
        const ABSENT: &Value = &Value::Null;
        self.get(topic)
            .map_or(ABSENT, |entry| entry.event.payload.value())
    }

    /// The keys whose value expires.
    #[must_use]
    pub fn expiring(&self) -> Vec<Topic> {
        let expires = |state: &State| matches!(state, State::Kept(entry) if entry.event.expires_at_ms.is_some());
        self.states
            .iter()
            .filter(|(_, state)| expires(state))
            .map(|(topic, _)| topic.clone())
            .collect()
    }

    /// Whether the condition `when` holds for a key. Null asks for an absent key, and a key that
    /// keeps keyword arguments only is not absent; anything else asks for a value that fits.
    #[must_use]
    pub fn holds(&self, topic: &Topic, when: &Value) -> bool {
        condition_holds(self.get(topic), when)
    }

    /// Whether a wish can be granted at once. It cannot while somebody waits for the key to be
    /// free, whatever the wish.
    #[must_use]
    pub fn fit(&self, topic: &Topic, wish: &Wish, most: usize) -> Fit {
        let fit = match self.held.get(topic) {
            Some(hold) => hold.fit(wish, most),
            None if self.get(topic).is_none() => Fit::Yes,
            None => Fit::No,
        };
        match fit {
            Fit::Yes if self.waiters.line(topic).len() > 0 => Fit::No,
            fit => fit,
        }
    }

    /// Takes the first waiter of a key whose turn has come. A key has at most `most` holders.
    pub fn take_ready_waiter(&mut self, topic: &Topic, most: usize) -> Option<Waiter> {
        if self.waiters.is_empty() {
            return None;
        }
        let entry = match self.states.get(topic) {
            Some(State::Kept(entry)) => Some(entry),
            _ => None,
        };
        let hold = self.held.get(topic);
        let may = |waiter: &Waiter| match (&waiter.wants, hold) {
            (Wants::Hold(order), Some(hold)) => hold.fit(&order.wish, most) != Fit::No,
            _ => entry.is_none(),
        };
        let next = self.waiters.take_next(topic, may);
        if next.is_some() || hold.is_some() {
            return next;
        }
        self.waiters
            .take_aside(topic, |when| condition_holds(entry, when))
    }

    /// The keys that are held by whichever means, from a place on.
    pub fn armed_from<'a>(&'a self, from: Bound<&'a str>) -> impl Iterator<Item = &'a Topic> {
        self.armed.range::<str, _>((from, Bound::Unbounded))
    }

    /// How many values are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept
    }

    /// The bytes of their payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether neither values nor waiters nor remembered tokens are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty() && self.waiters.is_empty()
    }

    /// Publication id of the latest write.
    #[must_use]
    pub fn last_write(&self) -> u64 {
        self.last_write
    }

    /// Stores `entry`; the change can be undone until `entry.commit` is durable.
    pub fn put(&mut self, topic: &Topic, entry: Entry, release: bool) {
        self.last_write = self.last_write.max(entry.event.publication.0);
        let commit = entry.commit;
        self.replace(topic, Some(State::Kept(entry)), commit, release);
    }

    /// Deletes the value and remembers `token`. Answers a key whose old tombstone was forgotten, so
    /// that its stored copy can go.
    pub fn delete(
        &mut self,
        topic: &Topic,
        token: u64,
        commit: u64,
        release: bool,
    ) -> Option<Topic> {
        self.last_write = self.last_write.max(token);
        self.replace(
            topic,
            Some(State::Deleted { token, commit }),
            commit,
            release,
        );
        self.remember_deleted(topic, token)
    }

    /// Puts back what was stored in an earlier life; before anything is written. Quickest in the order of the keys.
    pub fn restore(&mut self, former: Vec<Former>) {
        let states = former.into_iter().map(|former| self.admit(former));
        self.states = states.collect();
    }

    fn admit(&mut self, former: Former) -> (Topic, State) {
        let Former {
            topic,
            entry,
            token,
        } = former;
        self.last_write = self.last_write.max(token);
        let state = match entry {
            Some(entry) => State::Kept(entry),
            None => {
                self.deleted.push_back((topic.clone(), token));
                State::Deleted { token, commit: 0 }
            }
        };
        let (is_kept, bytes) = weight(Some(&state));
        self.kept += is_kept;
        self.bytes += bytes;
        if is_armed(Some(&state)) {
            self.armed.insert(topic.clone());
        }
        (topic, state)
    }

    /// Takes the will of a key away.
    pub fn disarm(&mut self, topic: &Topic, commit: u64) -> Option<&Entry> {
        let Some(State::Kept(entry)) = self.states.get(topic) else {
            return None;
        };
        let disarmed = Entry {
            will: None,
            commit,
            ..entry.clone()
        };
        self.replace(topic, Some(State::Kept(disarmed)), commit, false);
        self.get(topic)
    }

    fn replace(&mut self, topic: &Topic, state: Option<State>, commit: u64, release: bool) {
        let before = self.set(topic, state);
        if commit > 0 {
            self.undo.push_back(Undo {
                commit,
                topic: topic.clone(),
                before,
                release,
            });
        }
    }

    fn set(&mut self, topic: &Topic, state: Option<State>) -> Option<State> {
        let (is_kept, bytes) = weight(state.as_ref());
        let arms = is_armed(state.as_ref());
        let before = match state {
            Some(state) => match self.states.get_mut(topic) {
                Some(known) => Some(std::mem::replace(known, state)),
                None => self.states.insert(topic.clone(), state),
            },
            None => self.states.remove(topic),
        };
        let (was_kept, bytes_before) = weight(before.as_ref());
        match (is_armed(before.as_ref()), arms) {
            (false, true) => {
                self.armed.insert(topic.clone());
            }
            (true, false) => {
                self.armed.remove(topic);
            }
            _ => {}
        }
        self.kept = self.kept + is_kept - was_kept;
        self.bytes = self.bytes + bytes - bytes_before;
        before
    }

    fn remember_deleted(&mut self, topic: &Topic, token: u64) -> Option<Topic> {
        self.deleted.push_back((topic.clone(), token));
        while self.deleted.len() > self.tombstones_max {
            let (topic, token) = self.deleted.pop_front()?;
            let is_current = matches!(self.states.get(&topic), Some(State::Deleted { token: t, .. }) if *t == token);
            if is_current {
                self.states.remove(&topic);
                return Some(topic);
            }
        }
        None
    }

    /// Everything up to `commit` is durable.
    pub fn committed(&mut self, commit: u64) {
        while self.undo.front().is_some_and(|undo| undo.commit <= commit) {
            self.undo.pop_front();
        }
    }

    /// The store failed: takes back every change that is not durable, down to a key's last release.
    /// Answers the keys whose value changed by it, and those whose release must still be stored.
    pub fn roll_back(&mut self) -> (Vec<Topic>, Vec<Topic>) {
        let (mut changed, mut released) = (BTreeSet::new(), BTreeSet::new());
        while let Some(undo) = self.undo.pop_back() {
            if released.contains(&undo.topic) {
                continue;
            }
            if undo.release {
                released.insert(undo.topic);
            } else {
                self.set(&undo.topic, undo.before);
                changed.insert(undo.topic);
            }
        }
        (
            changed.into_iter().collect(),
            released.into_iter().collect(),
        )
    }
}
