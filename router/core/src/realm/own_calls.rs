//! Calls of the realm's own procedures that are answered later.
//!
//! Such a call is in one table, by its caller's place and request, with what it waits for: a write
//! that is carried out once its condition holds, or the next change of a key. It leaves the table
//! with its answer, when it is canceled, when its time is over, and with its caller. A write that
//! was made for a call carries the call's request, so its answer finds the call.

use super::call::CallOptions;
use super::{Effects, NOT_SEALED, Realm, Undo};
use crate::model::{
    CallFailure, Delivery, ErrorKind, Now, Payload, PublicationId, Refusal, RequestId, Topic,
};
use crate::timers::{Timer, TimerKey};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Who calls an own procedure, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub place: usize,
    pub request: RequestId,
    /// Progressive results are wanted.
    pub progress: bool,
    pub timeout: Option<Duration>,
}

impl Caller {
    pub fn new(place: usize, request: RequestId, options: &CallOptions) -> Caller {
        Caller {
            place,
            request,
            progress: options.progress,
            timeout: options.timeout,
        }
    }
}

/// What a call waits for.
#[derive(Debug)]
pub(super) enum Waits {
    /// A write of this key to be carried out or refused. `existed`: what a deletion found.
    Write { key: Topic, existed: Option<bool> },
    /// A change of this key behind the token `told`.
    Change { key: Topic, told: u64 },
}

/// A call that is open.
#[derive(Debug)]
pub(super) struct OwnCall {
    pub waits: Waits,
    pub progress: bool,
    /// Unique in the realm; later calls have larger ones.
    pub serial: u64,
    /// The longest it waits for its next answer.
    patience: Option<Duration>,
    timer: Option<TimerKey>,
}

/// The open calls of one session.
#[derive(Debug, Default)]
struct Place {
    calls: BTreeMap<RequestId, OwnCall>,
    /// How many of them wait for a change.
    watches: usize,
}

/// place -> its open calls
#[derive(Debug, Default)]
pub(super) struct OwnCalls {
    places: HashMap<usize, Place, foldhash::fast::RandomState>,
    len: usize,
    serial: u64,
}

impl OwnCalls {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn open_at(&self, place: usize) -> usize {
        self.places.get(&place).map_or(0, |at| at.calls.len())
    }

    pub fn watches_at(&self, place: usize) -> usize {
        self.places.get(&place).map_or(0, |at| at.watches)
    }

    pub fn is_open(&self, place: usize, request: RequestId) -> bool {
        self.get(place, request).is_some()
    }

    fn get(&self, place: usize, request: RequestId) -> Option<&OwnCall> {
        self.places.get(&place)?.calls.get(&request)
    }

    pub fn get_mut(&mut self, place: usize, request: RequestId) -> Option<&mut OwnCall> {
        self.places.get_mut(&place)?.calls.get_mut(&request)
    }

    fn insert(&mut self, place: usize, request: RequestId, call: OwnCall) {
        let at = self.places.entry(place).or_default();
        at.watches += usize::from(matches!(call.waits, Waits::Change { .. }));
        at.calls.insert(request, call);
        self.len += 1;
    }

    fn remove(&mut self, place: usize, request: RequestId) -> Option<OwnCall> {
        let at = self.places.get_mut(&place)?;
        let call = at.calls.remove(&request)?;
        at.watches -= usize::from(matches!(call.waits, Waits::Change { .. }));
        if at.calls.is_empty() {
            self.places.remove(&place);
        }
        self.len -= 1;
        Some(call)
    }

    fn requests_at(&self, place: usize) -> Vec<RequestId> {
        let at = self.places.get(&place);
        at.map_or_else(Vec::new, |at| at.calls.keys().copied().collect())
    }
}

impl Realm {
    /// Enters a call that is not answered yet; `wait` is its own bound beside the caller's timeout.
    pub(super) fn open_own_call(
        &mut self,
        now: Now,
        caller: Caller,
        waits: Waits,
        wait: Option<Duration>,
    ) {
        self.own_calls.serial += 1;
        let serial = self.own_calls.serial;
        if let Waits::Change { key, .. } = &waits {
            let watcher = (caller.place, caller.request);
            self.watchers.add(key, serial, watcher);
        }
        let call = OwnCall {
            waits,
            progress: caller.progress,
            serial,
            patience: [caller.timeout, wait].into_iter().flatten().min(),
            timer: None,
        };
        self.own_calls.insert(caller.place, caller.request, call);
        self.wait_anew(now, caller.place, caller.request);
    }

    /// The call's time begins, or begins again with a progressive result.
    pub(super) fn wait_anew(&mut self, now: Now, place: usize, request: RequestId) {
        let Some(call) = self.own_calls.get_mut(place, request) else {
            return;
        };
        self.timers.cancel(call.timer.take());
        let deadline = call.patience.and_then(|p| now.instant.checked_add(p));
        call.timer = deadline.map(|at| {
            let timer = Timer::OwnCall(place, request, call.serial);
            self.timers.set(at, timer)
        });
    }

    /// Takes a call out of the table. Whoever does owes its answer.
    pub(super) fn close_own_call(&mut self, place: usize, request: RequestId) -> Option<OwnCall> {
        let call = self.own_calls.remove(place, request)?;
        self.timers.cancel(call.timer);
        if let Waits::Change { key, .. } = &call.waits {
            self.watchers.remove(key, call.serial);
        }
        Some(call)
    }

    /// Ends a call before its answer, with this refusal.
    pub(super) fn end_own_call(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        refusal: Refusal,
        effects: &mut Effects,
    ) {
        let Some(call) = self.close_own_call(place, request) else {
            return;
        };
        let key = match call.waits {
            Waits::Write { key, .. } => {
                let line = self.withdraw_write(&key, place, request);
                self.line_moved(now, &key, line, 1, effects);
                key
            }
            Waits::Change { key, .. } => key,
        };
        let refusal = refusal.about(self.about_key(&key));
        self.fail_request(place, request, CallFailure::Realm(refusal), effects);
    }

    /// The write of a call waits no longer. Answers how many were before it in line, if it was.
    fn withdraw_write(&mut self, key: &Topic, place: usize, request: RequestId) -> Option<usize> {
        let id = self.kv.waiters.of_request(key, place, request)?;
        let (_, before) = self.take_waiter(key, id)?;
        before
    }

    pub(super) fn own_call_timed_out(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        serial: u64,
        effects: &mut Effects,
    ) {
        let is_same = |call: &OwnCall| call.serial == serial;
        if self.own_calls.get(place, request).is_some_and(is_same) {
            let message = "what the call waits for did not come in time";
            let refusal = Refusal::new(ErrorKind::Timeout, message);
            self.end_own_call(now, place, request, refusal, effects);
        }
    }

    /// A session or its connection goes: nobody is left to be answered. Its waiting writes go as
    /// those of publishes do.
    pub(super) fn drop_own_calls_of(&mut self, place: usize) {
        for request in self.own_calls.requests_at(place) {
            self.close_own_call(place, request);
        }
    }

    /// Whether a publish uses the request id of an open call, and so is refused: its answer would
    /// be taken for that of the call.
    pub(super) fn is_own_request(
        &mut self,
        place: usize,
        request: Option<RequestId>,
        effects: &mut Effects,
    ) -> bool {
        let Some(request) = request else {
            return false;
        };
        let is_open = self.own_calls.len() > 0 && self.own_calls.is_open(place, request);
        if is_open {
            let message = "a call with this request id is open";
            self.refuse(place, request, ErrorKind::InvalidArgument, message, effects);
        }
        is_open
    }

    /// Answers the call that a write was made for; answers whether there is one.
    pub(super) fn answer_own_write(
        &mut self,
        place: usize,
        request: RequestId,
        publication: PublicationId,
        commit: u64,
        undo: Undo,
        effects: &mut Effects,
    ) -> bool {
        let Some(key) = self.close_own_write(place, request) else {
            return false;
        };
        let (key, existed) = key;
        let mut report = self.about_key(&key);
        report.insert("token".to_owned(), publication.0.into());
        if let Some(existed) = existed {
            report.insert("existed".to_owned(), existed.into());
        }
        let result = Delivery::Result {
            request,
            payload: Arc::new(Payload::from_values(&[Value::Object(report)])),
            progress: false,
        };
        self.push_or_undo(place, result, commit, undo, effects);
        true
    }

    /// The same for a write that was refused.
    pub(super) fn refuse_own_write(
        &mut self,
        place: usize,
        request: RequestId,
        (kind, message): (ErrorKind, &'static str),
        commit: u64,
        effects: &mut Effects,
    ) -> bool {
        let Some((key, _)) = self.close_own_write(place, request) else {
            return false;
        };
        if kind == ErrorKind::ConditionFailed {
            self.fail_conflict(place, request, &key, "the value does not fit", effects);
            return true;
        }
        if matches!(kind, ErrorKind::QuotaExceeded | ErrorKind::QueueFull) {
            self.counters.quota_refused += 1;
        }
        let refusal = Refusal::new(kind, message).about(self.about_key(&key));
        let failure = CallFailure::Realm(refusal);
        let delivery = Delivery::CallFailed { request, failure };
        self.push_after(place, delivery, commit, effects);
        true
    }

    fn close_own_write(
        &mut self,
        place: usize,
        request: RequestId,
    ) -> Option<(Topic, Option<bool>)> {
        if self.own_calls.len() == 0 {
            return None;
        }
        match self.own_calls.get(place, request)?.waits {
            Waits::Write { .. } => {}
            Waits::Change { .. } => return None,
        }
        match self.close_own_call(place, request)?.waits {
            Waits::Write { key, existed } => Some((key, existed)),
            Waits::Change { .. } => None,
        }
    }

    /// A write that found another state than it expected. The error tells the present token, so it
    /// waits until that is durable.
    pub(super) fn fail_conflict(
        &mut self,
        place: usize,
        request: RequestId,
        key: &Topic,
        message: &'static str,
        effects: &mut Effects,
    ) {
        let (token, commit) = self.kv.last_token(key);
        let mut about = self.about_key(key);
        about.insert("token".to_owned(), token.into());
        let refusal = Refusal::new(ErrorKind::Conflict, message).about(about);
        let failure = CallFailure::Realm(refusal);
        self.push_after(
            place,
            Delivery::CallFailed { request, failure },
            commit,
            effects,
        );
    }

    /// The key by its name, as answers and errors begin.
    pub(super) fn about_key(&self, key: &Topic) -> Map<String, Value> {
        Map::from_iter([("key".to_owned(), self.spelled(key).into())])
    }

    /// The commit that makes what is done now durable.
    pub(super) fn present_commit(&self) -> u64 {
        match (self.settings.durable, self.store_down) {
            (false, _) => 0,
            (true, false) => self.commit,
            (true, true) => NOT_SEALED,
        }
    }
}
