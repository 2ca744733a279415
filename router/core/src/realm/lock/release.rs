//! How holds end: given up, broken, with their session, or by a plain write of their holder.

use super::arguments::{Asked, Options};
use super::{Caller, Ended, Outcome};
use crate::kv::Holder;
use crate::model::{CallFailure, Delivery, ErrorKind, Now, Payload, Publish, Refusal, Topic};
use crate::realm::meta::invalid;
use crate::realm::publish::Author;
use crate::realm::{Effects, Held, Realm, Undo};
use serde_json::{Value, json};
use std::sync::Arc;

/// A hold that its session named.
#[derive(Debug)]
pub(super) struct Named {
    pub key: String,
    pub topic: Topic,
    pub token: u64,
}

const LOST: &str = "the session does not hold the key with this token";

impl Realm {
    /// The hold that a session means: by its token, or by key and token.
    pub(super) fn named_hold<'a>(
        &self,
        place: usize,
        asked: &Asked<'a>,
    ) -> Result<(Named, Options<'a>), Refusal> {
        let (key, token, next) = match asked.args {
            [key @ Value::String(_), token, ..] => (Some(self.lock_key(Some(key))?), token, 2),
            [token, ..] => (None, token, 1),
            [] => (None, &Value::Null, 1),
        };
        let wrong = || invalid("the token must be an integer");
        let token = token.as_u64().ok_or_else(wrong)?;
        let options = asked.options(next)?;
        let found = match &key {
            Some((_, topic)) => Some(topic.clone()).filter(|t| self.holds(place, t, token)),
            None => self.held_by(place, token),
        };
        let Some(topic) = found else {
            let refusal = Refusal::new(ErrorKind::LockLost, LOST);
            return Err(match key {
                Some((spelled, _)) => refusal.with("key", spelled),
                None => refusal,
            });
        };
        let key = match key {
            Some((spelled, _)) => spelled.to_owned(),
            None => self.spelled(&topic),
        };
        Ok((Named { key, topic, token }, options))
    }

    fn holds(&self, place: usize, topic: &Topic, token: u64) -> bool {
        let session = self.sessions.get(place);
        session.is_some_and(|session| {
            let is_write = session.seldom.wills.contains_key(topic);
            session.seldom.holds.get(&token) == Some(topic)
                || (is_write && self.is_written(topic, token))
        })
    }

    /// The key that a session holds with this token, by whichever means.
    fn held_by(&self, place: usize, token: u64) -> Option<Topic> {
        let session = self.sessions.get(place)?;
        let mut written = session.seldom.wills.keys();
        let held = session.seldom.holds.get(&token);
        held.or_else(|| written.find(|topic| self.is_written(topic, token)))
            .cloned()
    }

    fn is_written(&self, topic: &Topic, token: u64) -> bool {
        let entry = self.kv.get(topic);
        entry.is_some_and(|entry| entry.event.publication.0 == token)
    }

    pub(super) fn release_held(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let (Named { key, topic, token }, _) = self.named_hold(caller.0, asked)?;
        let report = |held: u64| json!({"key": key, "token": token, "held": held});
        let before = effects.batch.len();
        match self.kv.held.holder_mut(&topic, token) {
            Some(holder) if holder.count > 1 => {
                holder.count -= 1;
                let (left, commit) = (holder.count, holder.commit);
                self.answer_with(caller, &report(left), (commit, Undo::Nothing), effects);
                return Ok(None);
            }
            Some(_) => self.end_holds(now, &topic, &[token], Ended::Released, effects),
            None => self.release_written(now, Some(caller.0), &topic, effects),
        }
        let when = self.commit_of_end(before, effects);
        self.answer_with(caller, &report(0), when, effects);
        Ok(None)
    }

    pub(super) fn break_hold(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let (key, topic) = self.lock_key(asked.args.first())?;
        let before = effects.batch.len();
        let hold = self.kv.held.get(&topic);
        let mut tokens: Vec<u64> = hold
            .map(|hold| hold.holders().map(|(token, _)| token).collect())
            .unwrap_or_default();
        if tokens.is_empty() {
            tokens.extend(self.break_written(now, &topic, effects));
        } else {
            self.end_holds(now, &topic, &tokens, Ended::Broken, effects);
        }
        self.counters.lock_breaks += tokens.len() as u64;
        if !tokens.is_empty() {
            let by = self.sessions.get(caller.0).map(|session| session.id.0);
            tracing::warn!(realm = %self.settings.name, key, by, ?tokens, "holds were broken by order");
        }
        let when = match tokens.is_empty() {
            true => (0, Undo::Nothing),
            false => self.commit_of_end(before, effects),
        };
        let report = json!({"key": key, "broken": tokens});
        self.answer_with(caller, &report, when, effects);
        Ok(None)
    }

    /// Breaks the hold of whoever wrote a key and armed a will for it; answers its token.
    fn break_written(&mut self, now: Now, topic: &Topic, effects: &mut Effects) -> Option<u64> {
        let entry = self.kv.get(topic)?;
        let (owner, token) = (entry.will.as_ref()?.session, entry.event.publication.0);
        self.release_written(now, None, topic, effects);
        self.tell_lost(now, topic, (token, owner), Ended::Broken, effects);
        Some(token)
    }

    /// Deletes a key that is held by a write, as a plain publish of the session at `place` would;
    /// without one in the name of whoever wrote it.
    fn release_written(
        &mut self,
        now: Now,
        place: Option<usize>,
        topic: &Topic,
        effects: &mut Effects,
    ) {
        let publish = Publish {
            retain: true,
            ..Publish::new(topic.clone(), Payload::from_value(&Value::Null))
        };
        let author = match place {
            Some(place) => self.author(place, &publish),
            None => Author {
                place: None,
                publisher: self.kv.get(topic).and_then(|e| e.event.publisher.clone()),
                exclude_me: false,
            },
        };
        self.keep(now, publish, &author, None, true, effects);
        self.serve_waiters(now, topic, effects);
    }

    /// Ends these holds of one key with one write, and serves who waited for it.
    pub(super) fn end_holds(
        &mut self,
        now: Now,
        topic: &Topic,
        tokens: &[u64],
        ended: Ended,
        effects: &mut Effects,
    ) {
        let mut taken: Vec<(u64, Holder)> = Vec::with_capacity(tokens.len());
        for token in tokens {
            let holder = self.take_holder(topic, *token);
            taken.extend(holder.map(|holder| (*token, holder)));
        }
        let Some((_, first)) = taken.first() else {
            return;
        };
        let (publisher, publication) = (first.publisher.clone(), self.ids.next(now.unix_ms));
        self.write_hold(now, publication, topic, publisher, Some(ended), effects);
        for (token, holder) in &taken {
            self.retract_grant(topic, holder, ended, effects);
            self.tell_end_of_hold(now, topic, (*token, holder), ended, effects);
        }
        self.serve_waiters(now, topic, effects);
    }

    /// Nothing but the key's value tells of this holder any more.
    fn take_holder(&mut self, topic: &Topic, token: u64) -> Option<Holder> {
        let holder = self.kv.held.remove(topic, token)?;
        self.forget_holder(token, &holder);
        Some(holder)
    }

    pub(super) fn forget_holder(&mut self, token: u64, holder: &Holder) {
        let timer = holder.lease.as_ref().and_then(|lease| lease.timer);
        self.timers.cancel(timer);
        if let Some(session) = self.session_mut(holder.session()) {
            session.seldom.holds.remove(&token);
        }
    }

    /// Takes all holders of a key away, which is about to be deleted by its only one.
    pub(in crate::realm) fn take_holders(&mut self, topic: &Topic) -> Vec<(u64, Holder)> {
        let hold = self.kv.held.get(topic);
        let tokens: Vec<u64> = hold
            .map(|hold| hold.holders().map(|(token, _)| token).collect())
            .unwrap_or_default();
        let take = |token| Some((token, self.take_holder(topic, token)?));
        tokens.into_iter().filter_map(take).collect()
    }

    /// A grant whose answers still wait for their commit is over already: then that is the answer.
    fn retract_grant(
        &mut self,
        topic: &Topic,
        holder: &Holder,
        ended: Ended,
        effects: &mut Effects,
    ) {
        if holder.commit <= self.committed || !matches!(ended, Ended::Expired | Ended::Broken) {
            return;
        }
        let Some(&place) = self.by_id.get(&holder.session()) else {
            return;
        };
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        // To a newer connection its requests mean nothing, and another session may have had its place.
        let (generation, outbox) = (session.generation, session.outbox.clone());
        let is_its =
            |held: &Held| held.generation == generation && Arc::ptr_eq(&held.outbox, &outbox);
        let of = |held: &Held| match &held.delivery {
            Delivery::Result { request, .. } if is_its(held) => Some(*request),
            _ => None,
        };
        let key = self.spelled(topic);
        for known in &holder.requests {
            let at = self.held.iter().position(|held| of(held) == Some(*known));
            if at.and_then(|at| self.held.remove(at)).is_some() {
                let message = "the hold ended before it was stored";
                let refusal = Refusal::new(ErrorKind::LockLost, message);
                let failure = CallFailure::Realm(refusal.with("key", &*key));
                let request = *known;
                let delivery = Delivery::CallFailed { request, failure };
                self.push_after(place, delivery, self.present_commit(), effects);
            }
        }
    }

    /// A session ends: so do its holds, in the order of their grants.
    pub(in crate::realm) fn release_all_of(
        &mut self,
        now: Now,
        place: usize,
        effects: &mut Effects,
    ) {
        let session = self.sessions.get_mut(place);
        let Some(seldom) = session.and_then(|session| session.seldom.known()) else {
            return;
        };
        for (token, topic) in std::mem::take(&mut seldom.holds) {
            self.end_holds(now, &topic, &[token], Ended::Session, effects);
        }
    }

    /// Whether somebody who is not the only holder of a held key may write it: never.
    pub(in crate::realm) fn may_write_held(
        &self,
        place: usize,
        topic: &Topic,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let is_held = self.kv.held.get(topic).is_some();
        if is_held && !self.is_sole_holder(place, topic) {
            return Err((ErrorKind::LockHeld, "somebody else holds the key"));
        }
        Ok(())
    }

    /// What a hold already says of its key, a write of its holder need not say again.
    pub(in crate::realm) fn suits_own_hold(
        &self,
        place: usize,
        publish: &Publish,
    ) -> Result<(), (ErrorKind, &'static str)> {
        if !self.is_sole_holder(place, &publish.topic) {
            return Ok(());
        }
        let options = publish.options.as_deref();
        let asks =
            options.is_some_and(|o| o.when.is_some() || o.watch || o.will.is_some() || o.merge);
        if asks || publish.expiry.is_some() {
            let message = "a key that is held takes no when, watch, will, merge or expiry";
            return Err((ErrorKind::InvalidArgument, message));
        }
        Ok(())
    }

    fn is_sole_holder(&self, place: usize, topic: &Topic) -> bool {
        let session = self.sessions.get(place);
        let sole = self.kv.held.get(topic).and_then(|hold| hold.sole());
        session
            .zip(sole)
            .is_some_and(|(session, (_, holder))| holder.session() == session.id)
    }
}
