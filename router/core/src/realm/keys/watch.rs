//! `watch`: the next change of a key, or each one until the call is canceled.
//!
//! A change has the token of the write or deletion that made it. Every watcher remembers the token
//! it was told last, so it is told each change behind that exactly once, in their order, and not
//! before the change is durable: what the store refuses is never told. A value that expires goes
//! without a new token and is no change, as it is no event.

use super::options::Asked;
use crate::auth::Action;
use crate::model::{Delivery, ErrorKind, Event, Now, Payload, Refusal, RequestId, Topic};
use crate::realm::own_calls::{Caller, Waits};
use crate::realm::publish::is_admitted;
use crate::realm::{Effects, NOT_SEALED, Realm};
use serde_json::{Value, json};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A session's place and the request of its call.
type Watcher = (usize, RequestId);

/// A change that is told once its commit is durable.
#[derive(Clone, Debug)]
struct Change {
    /// [`NOT_SEALED`] while the store is down and the change stands nevertheless.
    commit: u64,
    key: Topic,
    token: u64,
    /// The write; `None` for a deletion.
    event: Option<Arc<Event>>,
}

/// Who watches which key, and what they are to be told.
#[derive(Debug, Default)]
pub(in crate::realm) struct Watchers {
    /// key -> watchers by the serials of their calls, which is the order of asking
    by_key: HashMap<Topic, BTreeMap<u64, Watcher>, foldhash::quality::RandomState>,
    /// In the order of commits, and of tokens in each.
    changes: VecDeque<Change>,
}

impl Watchers {
    pub fn add(&mut self, key: &Topic, serial: u64, watcher: Watcher) {
        let watchers = self.by_key.entry(key.clone()).or_default();
        watchers.insert(serial, watcher);
    }

    pub fn remove(&mut self, key: &Topic, serial: u64) {
        if let Some(watchers) = self.by_key.get_mut(key) {
            watchers.remove(&serial);
            if watchers.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// The commits failed that would have made the changes durable.
    pub fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// What stood while the store was down is written again with this commit; answers whether there
    /// is any.
    pub fn rewritten(&mut self, commit: u64) -> bool {
        let mut any = false;
        let lost = |change: &&mut Change| change.commit == NOT_SEALED;
        for change in self.changes.iter_mut().filter(lost) {
            change.commit = commit;
            any = true;
        }
        any
    }

    fn push(&mut self, change: Change) {
        // What is there already when the watch begins may be older than what waits.
        let at = self
            .changes
            .partition_point(|known| (known.commit, known.token) < (change.commit, change.token));
        let known = self.changes.get(at);
        if known.is_none_or(|known| (known.commit, known.token) != (change.commit, change.token)) {
            self.changes.insert(at, change);
        }
    }
}

impl Realm {
    pub(super) fn watch_key(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let key = self.key_of(asked)?;
        let (token, wait) = (asked.whole("token")?, asked.millis("wait_ms")?);
        let refuse = |realm: &Realm, kind, message| {
            Err(Refusal::new(kind, message).about(realm.about_key(&key)))
        };
        let Some(session) = self.sessions.get(caller.place) else {
            return refuse(self, ErrorKind::Internal, "the session is gone");
        };
        if !session.identity.role.permits(Action::Subscribe, &key) {
            let message = "the role may not read this key";
            return refuse(self, ErrorKind::NotAuthorized, message);
        }
        self.purge_if_expired(now, &key, effects);
        let told = token.unwrap_or_else(|| self.kv.last_token(&key).0);
        let news = self.changes_behind(&key, told, caller.place);
        if let Some(first) = news
            .first()
            .filter(|change| change.commit <= self.committed)
            && !caller.progress
        {
            let report = self.change_report(first);
            self.answer_keys(caller, report, 0, effects);
            return Ok(());
        }
        if news.is_empty() && wait == Some(Duration::ZERO) {
            return refuse(self, ErrorKind::Timeout, "the key has not changed");
        }
        if self.own_calls.watches_at(caller.place) >= self.settings.limits.waiters_per_session {
            self.counters.quota_refused += 1;
            return refuse(self, ErrorKind::QueueFull, "the session watches too much");
        }
        self.open_own_call(now, caller, Waits::Change { key, told }, wait);
        for change in news {
            self.change(change, effects);
        }
        Ok(())
    }

    /// The changes of a key that the session may be told of, from what is on disk on, behind a token.
    fn changes_behind(&self, key: &Topic, told: u64, place: usize) -> Vec<Change> {
        let mut last = told;
        let mut changes = Vec::new();
        for (token, commit, event) in self.kv.unfolding(key) {
            let change = Change {
                commit,
                key: key.clone(),
                token,
                event: event.cloned(),
            };
            if token > last && self.may_be_told(place, &change) {
                changes.push(change);
            }
            last = last.max(token);
        }
        changes
    }

    /// The last change of a key. Token 0: none is known.
    fn present_change(&self, key: &Topic) -> Change {
        let (token, commit) = self.kv.last_token(key);
        Change {
            commit,
            key: key.clone(),
            token,
            event: self.kv.get(key).map(|entry| entry.event.clone()),
        }
    }

    /// A retained write was announced: whoever watches its key is to be told.
    pub(in crate::realm) fn note_change(&mut self, event: &Arc<Event>, effects: &mut Effects) {
        let Some(token) = event.token else {
            return;
        };
        if self.watchers.by_key.is_empty() || !self.watchers.by_key.contains_key(&event.topic) {
            return;
        }
        let change = Change {
            commit: self.present_commit(),
            key: event.topic.clone(),
            token,
            event: (!event.clears).then(|| event.clone()),
        };
        self.change(change, effects);
    }

    fn change(&mut self, change: Change, effects: &mut Effects) {
        if change.commit <= self.committed {
            self.tell_change(&change, effects);
        } else {
            self.watchers.push(change);
        }
    }

    /// Tells what is durable with `commit`.
    pub(in crate::realm) fn tell_changes(&mut self, commit: u64, effects: &mut Effects) {
        let changes = &mut self.watchers.changes;
        let until = changes.partition_point(|change| change.commit <= commit);
        let due: Vec<Change> = changes.drain(..until).collect();
        for change in due {
            self.tell_change(&change, effects);
        }
    }

    /// After a roll-back: what stands in memory all the same is told once it is stored.
    pub(in crate::realm) fn look_again(&mut self, effects: &mut Effects) {
        let mut keys: Vec<Topic> = self.watchers.by_key.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            let change = Change {
                commit: NOT_SEALED,
                ..self.present_change(&key)
            };
            if self.is_news(&change) {
                self.change(change, effects);
            }
        }
    }

    /// Whether somebody was not told of it.
    fn is_news(&mut self, change: &Change) -> bool {
        let Some(watchers) = self.watchers.by_key.get(&change.key) else {
            return false;
        };
        watchers.values().any(|(place, request)| {
            let call = self.own_calls.get_mut(*place, *request);
            call.is_some_and(|call| match call.waits {
                Waits::Change { told, .. } => told < change.token,
                Waits::Write { .. } => false,
            })
        })
    }

    fn tell_change(&mut self, change: &Change, effects: &mut Effects) {
        let Some(watchers) = self.watchers.by_key.get(&change.key) else {
            return;
        };
        let watchers: SmallVec<[Watcher; 4]> = watchers.values().copied().collect();
        let mut payload: Option<Arc<Payload>> = None;
        for (place, request) in watchers {
            if !self.takes_note(place, request, change) {
                continue;
            }
            let report = || Arc::new(Payload::from_values(&[self.change_report(change)]));
            let payload = payload.get_or_insert_with(report).clone();
            self.tell_watcher(place, request, payload, effects);
        }
    }

    /// Notes for a watcher that it is told; answers whether it is to be.
    fn takes_note(&mut self, place: usize, request: RequestId, change: &Change) -> bool {
        let may_see = self.may_be_told(place, change);
        let call = self.own_calls.get_mut(place, request);
        let Some(Waits::Change { told, .. }) = call.map(|call| &mut call.waits) else {
            return false;
        };
        if *told >= change.token || !may_see {
            return false;
        }
        *told = change.token;
        true
    }

    fn tell_watcher(
        &mut self,
        place: usize,
        request: RequestId,
        payload: Arc<Payload>,
        effects: &mut Effects,
    ) {
        let call = self.own_calls.get_mut(place, request);
        let progress = call.is_some_and(|call| call.progress);
        if progress {
            let (instant, unix_ms) = (self.instant, self.unix_ms);
            if let Some(instant) = instant {
                self.wait_anew(Now { instant, unix_ms }, place, request);
            }
        } else {
            self.close_own_call(place, request);
        }
        let result = Delivery::Result {
            request,
            payload,
            progress,
        };
        self.push(place, result, effects);
    }

    /// Whether an event of the change would reach the session.
    fn may_be_told(&self, place: usize, change: &Change) -> bool {
        self.sessions.get(place).is_some_and(|session| {
            let role = &session.identity.role;
            let event = change.event.as_ref();
            role.permits(Action::Subscribe, &change.key)
                && event.is_none_or(|event| is_admitted(session, event))
        })
    }

    fn change_report(&self, change: &Change) -> Value {
        let value = change.event.as_ref().map(|event| event.payload.value());
        json!({
            "key": self.spelled(&change.key),
            "value": value.unwrap_or(&Value::Null),
            "token": change.token,
        })
    }
}
