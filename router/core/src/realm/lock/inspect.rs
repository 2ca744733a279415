//! Looking at holds and at those who wait for them.

use super::arguments::Asked;
use super::tell::value_of;
use super::{Caller, Outcome};
use crate::auth::Action;
use crate::kv::{Entry, Holder, Waiter, Wants};
use crate::model::{ErrorKind, Now, Pattern, Refusal, Topic};
use crate::realm::meta::invalid;
use crate::realm::publish::is_admitted;
use crate::realm::{Effects, IdClock, Realm, Undo};
use serde_json::{Value, json};
use std::ops::Bound;

/// Waiters shown of one key.
const WAITERS_SHOWN: usize = 100;
/// Keys on a page unless asked for otherwise.
const PAGE: u64 = 100;
/// The most keys on a page.
const PAGE_MAX: u64 = 1_000;
/// Keys looked at for a page; a page of somebody who may read few of them ends there.
const LOOKS: usize = 50_000;

impl Realm {
    pub(super) fn inspect_key(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let (key, topic) = self.lock_key(asked.args.first())?;
        let may = self.may_look(caller.0, &topic);
        may.map_err(|refusal| refusal.with("key", key))?;
        self.purge_if_expired(now, &topic, effects);
        let (token, commit) = self.kv.last_token(&topic);
        let line = self.kv.waiters.line(&topic);
        let waiting = line.len();
        let waiters: Vec<Value> = line
            .take(WAITERS_SHOWN)
            .enumerate()
            .map(|(at, waiter)| self.waiter_report(at + 1, waiter))
            .collect();
        let report = json!({
            "key": key,
            "mode": self.mode_of(&topic),
            "holders": self.holder_reports(&topic),
            "waiters": waiters,
            "waiting": waiting,
            "value": self.kv.value(&topic),
            "token": token,
        });
        self.answer_with(caller, &report, (commit, Undo::Nothing), effects);
        Ok(None)
    }

    fn may_look(&self, place: usize, topic: &Topic) -> Result<(), Refusal> {
        self.may_touch(place, Action::Subscribe, topic)?;
        let kept = self.kv.get(topic).map(|entry| &entry.event);
        let session = self.sessions.get(place);
        match session.zip(kept) {
            Some((session, event)) if !is_admitted(session, event) => {
                let message = "the value was published to others only";
                Err(Refusal::new(ErrorKind::NotAuthorized, message))
            }
            _ => Ok(()),
        }
    }

    /// How a key is held, if it is; what a write with a will holds, it holds alone.
    fn mode_of(&self, topic: &Topic) -> Option<&'static str> {
        let written = || self.kv.get(topic).is_some_and(|entry| entry.will.is_some());
        match self.kv.held.get(topic) {
            Some(hold) => Some(hold.mode.name()),
            None => written().then_some(crate::kv::Mode::Mutex.name()),
        }
    }

    fn holder_reports(&self, topic: &Topic) -> Vec<Value> {
        let entry = self.kv.get(topic);
        let Some(hold) = self.kv.held.get(topic) else {
            return entry.and_then(written_report).into_iter().collect();
        };
        let holders = hold.holders();
        holders
            .map(|(token, holder)| {
                // Its only holder may have said something else since.
                let said = entry.filter(|_| hold.mode.is_alone());
                let said = said.map(|entry| entry.event.payload.value());
                let said = said.filter(|said| **said != value_of(hold));
                holder_report(token, holder, said.unwrap_or(&holder.data))
            })
            .collect()
    }

    fn waiter_report(&self, position: usize, waiter: &Waiter) -> Value {
        let mode = match &waiter.wants {
            Wants::Hold(order) => order.wish.mode.name(),
            Wants::Write(_) => "write",
        };
        json!({
            "session": self.sessions.get(waiter.session).map(|session| session.id.0),
            "mode": mode,
            "position": position,
            "since": waiter.since_ms,
        })
    }

    pub(super) fn list_held(
        &mut self,
        _now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let prefix = match asked.args.first() {
            Some(Value::String(prefix)) => prefix.as_str(),
            _ => return Err(invalid("the first argument must be a prefix as a string")),
        };
        let (pattern, _) = (self.settings.naming.read_pattern)(prefix, Some("prefix"))?;
        let options = asked.options(1)?;
        let limit = options.number("limit", 1)?.unwrap_or(PAGE);
        let limit = usize::try_from(limit.min(PAGE_MAX)).unwrap_or(1);
        let after = match options.text("after")? {
            Some(after) => Some(self.lock_key(Some(&Value::from(after)))?.1),
            None => None,
        };
        let (found, more) = self.page_of_held(caller.0, &pattern, after.as_ref(), limit);
        let commit = found.iter().map(|topic| self.kv.last_token(topic).1).max();
        let locks: Vec<Value> = found.iter().map(|topic| self.summary_of(topic)).collect();
        let report = json!({"locks": locks, "more": more});
        let when = (commit.unwrap_or_default(), Undo::Nothing);
        self.answer_with(caller, &report, when, effects);
        Ok(None)
    }

    fn summary_of(&self, topic: &Topic) -> Value {
        json!({
            "key": self.spelled(topic),
            "mode": self.mode_of(topic),
            "holders": self.holders_of(topic),
            "waiters": self.kv.waiters.line(topic).len(),
            "token": self.kv.last_token(topic).0,
        })
    }

    /// Keys that are held or that somebody waits to hold, in their order, and whether there are
    /// more.
    fn page_of_held(
        &self,
        place: usize,
        pattern: &Pattern,
        after: Option<&Topic>,
        limit: usize,
    ) -> (Vec<Topic>, bool) {
        let first = pattern.literal_prefix();
        let from = match after.filter(|after| after.text() >= first.as_str()) {
            Some(after) => Bound::Excluded(after.text()),
            None => Bound::Included(first.as_str()),
        };
        let mut armed = self.kv.armed_from(from).peekable();
        let mut wanted = self.kv.waiters.ordered_from(from).peekable();
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let next = match (armed.peek(), wanted.peek()) {
                (Some(a), Some(b)) if a <= b => {
                    if a == b {
                        wanted.next();
                    }
                    armed.next()
                }
                (Some(_), None) => armed.next(),
                _ => wanted.next(),
            };
            let Some(topic) = next.filter(|topic| topic.text().starts_with(&first)) else {
                return (found, false);
            };
            let may = pattern.matches(topic, &self.settings.naming.reserved)
                && self.may_look(place, topic).is_ok();
            if may && found.len() == limit {
                return (found, true);
            }
            if may {
                found.push(topic.clone());
            }
        }
        (found, true)
    }
}

fn holder_report(token: u64, holder: &Holder, data: &Value) -> Value {
    json!({
        "session": holder.publisher.session.0,
        "authid": &*holder.publisher.authid,
        "token": token,
        "since": holder.since_ms,
        "expires": holder.lease.as_ref().map(|lease| lease.ends_ms),
        "permits": holder.permits,
        "count": holder.count,
        "data": data,
    })
}

/// Who holds a key by a write with a will.
fn written_report(entry: &Entry) -> Option<Value> {
    let will = entry.will.as_ref()?;
    let event = &entry.event;
    let authid = event.publisher.as_ref().map(|p| &*p.authid);
    Some(json!({
        "session": will.session.0,
        "authid": authid,
        "token": event.publication.0,
        "since": IdClock::unix_ms_of(event.publication),
        "expires": event.expires_at_ms,
        "permits": 1,
        "count": 1,
        "data": event.payload.value(),
    }))
}
