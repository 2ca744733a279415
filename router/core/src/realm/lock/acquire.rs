//! Asking for a hold: at once, or by waiting in line.

use super::arguments::{Acquisition, Asked};
use super::{Caller, Outcome};
use crate::auth::Action;
use crate::kv::{Fit, Holder, Order, Step, Waiter, Wants};
use crate::model::{
    CallFailure, Delivery, ErrorKind, Now, Payload, Publish, Qos, Refusal, RequestId, Topic,
};
use crate::realm::call::CallOptions;
use crate::realm::meta::invalid;
use crate::realm::{Effects, Realm, Undo};
use crate::timers::Timer;
use serde_json::json;
use std::sync::Arc;

const OTHER_LIMIT: &str = "the key is held with another limit";

impl Realm {
    /// `waiting`: how the call may wait; `None` if it may not.
    pub(super) fn acquire(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        waiting: Option<CallOptions>,
        effects: &mut Effects,
    ) -> Outcome {
        self.counters.lock_acquires += 1;
        let (key, topic) = self.lock_key(asked.args.first())?;
        let done = self.acquire_key(now, caller, (key, &topic), asked, waiting, effects);
        match done.map_err(|refusal| refusal.with("key", key)) {
            Err(refusal) if refusal.kind == ErrorKind::LockHeld => {
                self.fail_for_key(caller, &topic, refusal, effects);
            }
            done => done?,
        }
        Ok(None)
    }

    /// Refuses for what the key holds, once that is durable: a crash must not take the reason back.
    fn fail_for_key(
        &mut self,
        (place, request): Caller,
        topic: &Topic,
        refusal: Refusal,
        effects: &mut Effects,
    ) {
        let (_, commit) = self.kv.last_token(topic);
        let failure = CallFailure::Realm(refusal);
        let delivery = Delivery::CallFailed { request, failure };
        self.push_after(place, delivery, commit, effects);
    }

    fn acquire_key(
        &mut self,
        now: Now,
        caller: Caller,
        (key, topic): (&str, &Topic),
        asked: &Asked<'_>,
        waiting: Option<CallOptions>,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Acquisition {
            wish,
            wait,
            ttl,
            reentrant,
            data,
        } = asked.options(1)?.acquisition()?;
        let (place, request) = caller;
        self.may_touch(place, Action::Publish, topic)?;
        self.purge_if_expired(now, topic, effects);
        let mut order = Order {
            request,
            key: key.to_owned(),
            wish,
            ttl,
            data,
            progress: false,
            told: 0,
        };
        if reentrant && self.acquire_again(now, place, topic, &order, effects)? {
            return Ok(());
        }
        let most = self.settings.limits.holders_per_key;
        match (self.kv.fit(topic, &order.wish, most), waiting) {
            (Fit::Yes, _) => self.grant(now, place, topic, order, effects),
            (Fit::OtherLimit, _) => Err(invalid(OTHER_LIMIT)),
            (Fit::No, Some(options)) if wait.is_none_or(|wait| !wait.is_zero()) => {
                order.progress = options.progress;
                let wait = [wait, options.timeout].into_iter().flatten().min();
                self.wait_in_line(now, place, topic, order, wait, effects)
            }
            (Fit::No, _) => {
                let refusal = Refusal::new(ErrorKind::LockHeld, "somebody else holds the key");
                Err(refusal.with("holders", self.holders_of(topic)))
            }
        }
    }

    pub(super) fn holders_of(&self, topic: &Topic) -> usize {
        match self.kv.held.get(topic) {
            Some(hold) => hold.len(),
            None => usize::from(self.kv.get(topic).is_some_and(|entry| entry.will.is_some())),
        }
    }

    /// Holds a key once more that the session holds in the same mode. Answers whether it did.
    fn acquire_again(
        &mut self,
        now: Now,
        place: usize,
        topic: &Topic,
        order: &Order,
        effects: &mut Effects,
    ) -> Result<bool, Refusal> {
        let Some((session, hold)) = self.sessions.get(place).zip(self.kv.held.get(topic)) else {
            return Ok(false);
        };
        if !hold.mode.is_like(order.wish.mode) {
            return Ok(false);
        }
        let known = match session.seldom.holds.len() < hold.len() {
            true => {
                let mut known = session.seldom.holds.iter();
                known
                    .find(|(_, key)| *key == topic)
                    .map(|(token, _)| *token)
            }
            false => {
                let mut holders = hold.holders();
                holders
                    .find(|(_, holder)| holder.session() == session.id)
                    .map(|(token, _)| token)
            }
        };
        let Some(token) = known else {
            return Ok(false);
        };
        if hold.fit(&order.wish, usize::MAX) == Fit::OtherLimit {
            return Err(invalid(OTHER_LIMIT));
        }
        if order.ttl.is_some() {
            self.set_lease(now, topic, token, order.ttl);
        }
        let committed = self.committed;
        let Some(holder) = self.kv.held.holder_mut(topic, token) else {
            return Ok(false);
        };
        holder.count = holder.count.saturating_add(1);
        if holder.commit > committed {
            holder.requests.push(order.request);
        }
        let (report, commit) = (granted(&order.key, token, holder), holder.commit);
        let caller = (place, order.request);
        self.answer_with(caller, &report, (commit, Undo::Nothing), effects);
        Ok(true)
    }

    /// Makes the session a holder, tells everybody, and answers.
    fn grant(
        &mut self,
        now: Now,
        place: usize,
        topic: &Topic,
        order: Order,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        self.may_grant(place, topic, effects)?;
        let Some(session) = self.sessions.get(place) else {
            return Err(Refusal::new(ErrorKind::Internal, "the session is gone"));
        };
        let disclosure = session.identity.role.disclosure;
        let publisher = session.publisher(disclosure.decide(false).unwrap_or(false));
        let publication = self.ids.next(now.unix_ms);
        let token = publication.0;
        let Order {
            request,
            key,
            wish,
            ttl,
            data,
            ..
        } = order;
        let holder = Holder {
            publisher: publisher.clone(),
            requests: vec![request],
            mode: wish.mode,
            permits: wish.permits,
            count: 1,
            since_ms: now.unix_ms,
            commit: self.write_commit(),
            lease: None,
            data,
        };
        self.kv.held.add(topic, &wish, token, holder);
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.holds.insert(token, topic.clone());
        }
        self.set_lease(now, topic, token, ttl);
        self.counters.lock_grants += 1;
        self.write_hold(now, publication, topic, publisher, None, effects);
        if let Some(holder) = self.kv.held.holder(topic, token) {
            let (report, commit) = (granted(&key, token, holder), holder.commit);
            let caller = (place, request);
            self.answer_with(caller, &report, (commit, Undo::Nothing), effects);
        }
        Ok(())
    }

    /// What a write of the key would be refused for.
    fn may_grant(
        &mut self,
        place: usize,
        topic: &Topic,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if self.store_down {
            return Err(crate::realm::storage_refusal());
        }
        if self.has_no_room_for(topic) {
            let message = "the realm keeps no more values";
            return Err(Refusal::new(ErrorKind::QuotaExceeded, message));
        }
        let most = self.settings.limits.holds_per_session;
        let session = self.sessions.get(place);
        if session.is_some_and(|session| session.seldom.holds.len() >= most) {
            let message = "the session holds too many keys";
            return Err(Refusal::new(ErrorKind::QuotaExceeded, message));
        }
        let publish = Publish {
            qos: Qos::AtLeastOnce,
            retain: true,
            exclude_me: false,
            ..Publish::new(topic.clone(), Payload::from_value(&json!(true)))
        };
        match self.turned_away(place, &publish, effects) {
            Some((kind, message)) => Err(Refusal::new(kind, message)),
            None => Ok(()),
        }
    }

    fn wait_in_line(
        &mut self,
        now: Now,
        place: usize,
        topic: &Topic,
        order: Order,
        wait: Option<std::time::Duration>,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        let waiting = self
            .sessions
            .get(place)
            .map_or(0, |s| s.seldom.waiting.len());
        if waiting >= limits.waiters_per_session
            || self.kv.waiters.count(topic) >= limits.waiters_per_key
        {
            let message = "too many wait for the key, or too much is waited for";
            return Err(Refusal::new(ErrorKind::QueueFull, message));
        }
        let id = self.kv.waiters.next_id();
        let timer =
            wait.and_then(|wait| self.set_timer(now, wait, Timer::Waiter(topic.clone(), id)));
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.waiting.insert(id, topic.clone());
            session
                .seldom
                .acquiring
                .insert(order.request, (topic.clone(), id));
        }
        self.counters.lock_waits += 1;
        let told = order.progress.then(|| (order.request, order.key.clone()));
        let waiter = Waiter {
            id,
            session: place,
            wants: Wants::Hold(Box::new(order)),
            timer,
            since_ms: now.unix_ms,
        };
        let position = self.kv.waiters.park(topic, waiter);
        if let Some((request, key)) = told {
            let step = Step {
                session: place,
                request,
                key,
                position,
            };
            self.tell_step(&step, effects);
        }
        Ok(())
    }

    /// Its turn has come.
    pub(in crate::realm) fn grant_waiting(
        &mut self,
        now: Now,
        place: usize,
        topic: &Topic,
        order: Order,
        effects: &mut Effects,
    ) {
        let caller = (place, order.request);
        let key = order.key.clone();
        let hold = self.kv.held.get(topic);
        let is_other = hold.is_some_and(|h| h.fit(&order.wish, usize::MAX) == Fit::OtherLimit);
        let granted = match is_other {
            true => Err(invalid(OTHER_LIMIT)),
            false => {
                let may = self.may_touch(place, Action::Publish, topic);
                may.and_then(|()| self.grant(now, place, topic, order, effects))
            }
        };
        if let Err(refusal) = granted {
            self.fail_acquire(caller, refusal.with("key", key), effects);
        }
    }

    pub(in crate::realm) fn acquire_timed_out(
        &mut self,
        place: usize,
        topic: &Topic,
        order: &Order,
        effects: &mut Effects,
    ) {
        self.counters.lock_timeouts += 1;
        let refusal = Refusal::new(ErrorKind::Timeout, "the key did not become free in time");
        let refusal = refusal.with("key", &*order.key);
        self.fail_for_key((place, order.request), topic, refusal, effects);
    }

    /// Leaves the line if the call stands in one; answers whether it did.
    pub(in crate::realm) fn cancel_acquire(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        effects: &mut Effects,
    ) -> bool {
        let session = self.sessions.get(place);
        let waiting = session.and_then(|session| session.seldom.acquiring.get(&request));
        let Some((topic, id)) = waiting.cloned() else {
            return false;
        };
        let Some((waiter, before)) = self.take_waiter(&topic, id) else {
            return false;
        };
        if let Wants::Hold(order) = waiter.wants {
            let message = "the call was canceled by its caller";
            let refusal = Refusal::new(ErrorKind::Canceled, message).with("key", order.key);
            self.fail_request(place, request, CallFailure::Realm(refusal), effects);
        }
        self.line_moved(now, &topic, before, 1, effects);
        true
    }

    /// `by` waiters left the line of a key who had `before` others before them.
    pub(in crate::realm) fn tell_steps(
        &mut self,
        topic: &Topic,
        before: usize,
        by: usize,
        effects: &mut Effects,
    ) {
        if by == 0 {
            return;
        }
        for step in self.kv.waiters.moved(topic, before, by) {
            self.tell_step(&step, effects);
        }
    }

    fn tell_step(&mut self, step: &Step, effects: &mut Effects) {
        let report = json!({"key": step.key, "position": step.position});
        let result = Delivery::Result {
            request: step.request,
            payload: Arc::new(Payload::from_value(&report)),
            progress: true,
        };
        self.push(step.session, result, effects);
    }
}

/// The answer to whoever holds the key now.
fn granted(key: &str, token: u64, holder: &Holder) -> serde_json::Value {
    json!({
        "key": key,
        "token": token,
        "mode": holder.mode.name(),
        "expires": holder.lease.map(|lease| lease.ends_ms),
        "position": 0,
    })
}
