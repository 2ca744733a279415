//! Remote procedure calls: every call ends in exactly one result or error, whoever vanishes when.
//!
//! A call waits in the queue of its registration or runs at one callee. It leaves the queue in the
//! order it came, except that those which only some callees may take (a callee that said it is not
//! available is not asked again, not every callee takes arguments in parts) let others pass.

mod answer;
mod cancel;
mod invoke;
mod message;
mod register;

use super::meta::Own;
use super::own_calls::Caller;
use super::{Effects, Realm};
use crate::auth::Action;
use crate::dealer::{Call, CallState, Callee, Choice, Parts};
use crate::model::{
    self, CallFailure, Delivery, ErrorKind, InterruptReason, Now, Payload, Refusal, RequestId,
    Topic,
};
use crate::session::Session;
use crate::timers::Timer;
use rand::Rng as _;
use slab::Slab;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Kinds of calls in a queue, by who may take them, that are tried for one that a free callee may
/// take. Beyond so many, calls of further kinds wait although they need not.
const KINDS_TRIED: usize = 64;

/// The options of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub progress: bool,
    pub more: bool,
    pub timeout: Option<Duration>,
    pub disclose_me: bool,
}

impl Realm {
    pub(super) fn call_asked(
        &mut self,
        now: Now,
        place: usize,
        call: model::Call,
        effects: &mut Effects,
    ) {
        let options = CallOptions {
            progress: call.progress,
            more: call.more,
            timeout: call.timeout,
            disclose_me: call.disclose_me,
        };
        let (request, payload) = (call.request, call.payload);
        self.call(
            now,
            place,
            request,
            &call.procedure,
            payload,
            options,
            effects,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    pub(super) fn call(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        procedure: &Topic,
        payload: Payload,
        options: CallOptions,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if let Some(&call) = session.seldom.calls.get(&request) {
            self.call_goes_on(now, call, payload, options.more, effects);
            return;
        }
        if session.seldom.acquiring.contains_key(&request) || self.own_calls.is_open(place, request)
        {
            self.fail_again(place, request, effects);
            return;
        }
        if session.seldom.cut_short.contains(&request) {
            // It ended before its caller had sent everything, and the caller may not know yet.
            if !options.more {
                session.seldom.cut_short.remove(&request);
            }
            self.counters.parts_discarded += 1;
            return;
        }
        self.counters.calls += 1;
        if let Err((kind, message)) = self.may_call(place, procedure, &options) {
            self.refuse_call(place, request, options.more, kind, message, effects);
            return;
        }
        let lock = self.lock_procedure(procedure);
        if let Some(what) = lock.filter(|_| !options.more) {
            let caller = (place, request);
            self.call_lock(now, caller, what, &payload, options, effects);
            return;
        }
        let own = self.own_procedure(procedure);
        if lock.is_some() || own.is_some() {
            if options.more {
                let (kind, message) = (
                    ErrorKind::FeatureNotSupported,
                    "the router's own procedures take no arguments in parts",
                );
                self.refuse_call(place, request, true, kind, message, effects);
            } else if let Some(Own::Keys(what)) = own {
                let caller = Caller::new(place, request, &options);
                self.call_keys(now, caller, what, &payload, effects);
            } else if let Some(own) = own {
                self.call_own(now, place, request, own, &payload, effects);
            }
            return;
        }
        // No pattern reaches what only the router may offer.
        let found = match self.is_own_name(procedure) {
            true => None,
            false => self.registrations.best(procedure),
        };
        let Some(at) = found else {
            let message = "no callee is registered for this procedure";
            let kind = ErrorKind::NoSuchProcedure;
            self.refuse_call(place, request, options.more, kind, message, effects);
            return;
        };
        self.open_call(
            now, place, request, at, procedure, payload, options, effects,
        );
    }

    fn may_call(
        &self,
        place: usize,
        procedure: &Topic,
        options: &CallOptions,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        if !session.identity.role.permits(Action::Call, procedure) {
            return Err((
                ErrorKind::NotAuthorized,
                "the role may not call this procedure",
            ));
        }
        let disclosure = session.identity.role.disclosure;
        if disclosure.decide(options.disclose_me).is_none() {
            return Err((
                ErrorKind::DisclosureNotAllowed,
                "sessions of this role may not be disclosed",
            ));
        }
        let open = session.seldom.calls.len()
            + session.seldom.acquiring.len()
            + self.own_calls.open_at(place);
        if open >= self.settings.limits.calls_per_session {
            return Err((
                ErrorKind::QuotaExceeded,
                "the session has too many calls open",
            ));
        }
        Ok(())
    }

    /// Refuses a call before it is open; the rest of its arguments means nothing then.
    fn refuse_call(
        &mut self,
        place: usize,
        request: RequestId,
        more: bool,
        kind: ErrorKind,
        message: &'static str,
        effects: &mut Effects,
    ) {
        if more {
            self.cut_short(place, request);
        }
        let refusal = Refusal::new(kind, message);
        self.fail_request(place, request, CallFailure::Realm(refusal), effects);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    fn open_call(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        at: usize,
        procedure: &Topic,
        payload: Payload,
        options: CallOptions,
        effects: &mut Effects,
    ) {
        let Some(registration) = self.registrations.at(at) else {
            return;
        };
        let known = registration.key.procedure();
        let call = self.calls.open(Call {
            serial: 0,
            caller: Some((place, request)),
            state: CallState::Queued,
            procedure: known.cloned().unwrap_or_else(|| procedure.clone()),
            parts: Parts::new(Arc::new(payload)),
            in_parts: options.more,
            more: options.more,
            progress: options.progress,
            shown: false,
            timeout: options.timeout,
            timer: None,
            registration: registration.id,
            tried: SmallVec::new(),
            interrupted: false,
            disclose: options.disclose_me,
        });
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.calls.insert(request, call);
        }
        self.start_call_timer(now, call);
        // Those that wait already come first; but none of them may be taken by a callee that is free
        // now, or it would not wait.
        let choice = self.choose(call, at);
        self.place_call(now, call, at, choice, false, effects);
    }

    /// Picks a callee for a call that waits.
    fn choose(&mut self, call: usize, at: usize) -> Choice {
        let random = self.random.next_u64();
        let (sessions, calls) = (&self.sessions, &self.calls);
        let (Some(open), Some(registration)) = (calls.at(call), self.registrations.at_mut(at))
        else {
            return Choice::Nobody;
        };
        registration.choose(random, |callee| may_take(sessions, open, callee))
    }

    /// Does with a call what was chosen; `first` puts it before those that wait already.
    fn place_call(
        &mut self,
        now: Now,
        call: usize,
        at: usize,
        choice: Choice,
        first: bool,
        effects: &mut Effects,
    ) {
        let serial = self.calls.at(call).map_or(0, |open| open.serial);
        let most = self.settings.limits.calls_queued_per_procedure;
        match choice {
            Choice::Callee(callee) => self.invoke(now, call, at, callee, effects),
            Choice::Wait => match self.registrations.at_mut(at) {
                Some(registration) if registration.queued < most => {
                    match first {
                        true => registration.queue.push_front((call, serial)),
                        false => registration.queue.push_back((call, serial)),
                    }
                    registration.queued += 1;
                }
                _ => {
                    self.counters.quota_refused += 1;
                    let message = "too many calls wait for this procedure";
                    self.end_call(call, ErrorKind::QuotaExceeded, message, effects);
                }
            },
            Choice::Nobody => self.fail_unanswerable(call, effects),
        }
    }

    /// Callees went away: ends the calls that none of those who are left may take, behind whatever
    /// other calls they wait.
    fn end_unanswerable(&mut self, at: usize, effects: &mut Effects) {
        let (sessions, calls) = (&self.sessions, &self.calls);
        let Some(registration) = self.registrations.at(at) else {
            return;
        };
        let mut ended: SmallVec<[usize; 4]> = SmallVec::new();
        for &(call, serial) in &registration.queue {
            let open = calls.at(call).filter(|open| open.serial == serial);
            let mut callees = registration.callees.iter();
            if open.is_some_and(|open| !callees.any(|c| may_take(sessions, open, c))) {
                ended.push(call);
            }
        }
        for call in ended {
            self.fail_unanswerable(call, effects);
            self.leave_queue(at);
        }
    }

    /// A call ended that waited. Its entry is skipped later.
    fn leave_queue(&mut self, at: usize) {
        let calls = &self.calls;
        if let Some(registration) = self.registrations.at_mut(at) {
            registration.queued = registration.queued.saturating_sub(1);
            registration.tidy_queue(|call, serial| {
                calls.at(call).is_some_and(|open| open.serial == serial)
            });
        }
    }

    /// Nobody of those who offer the procedure may take this call.
    fn fail_unanswerable(&mut self, call: usize, effects: &mut Effects) {
        let (kind, message) = match self.calls.at(call) {
            Some(open) if !open.tried.is_empty() => (
                ErrorKind::NoAvailableCallee,
                "no callee of the procedure is available",
            ),
            Some(open) if open.in_parts => (
                ErrorKind::FeatureNotSupported,
                "the callee does not take arguments in parts",
            ),
            Some(open) if !self.is_opened(open) => (
                ErrorKind::FeatureNotSupported,
                "the callee did not announce that it opens sealed arguments",
            ),
            _ => (
                ErrorKind::NoSuchProcedure,
                "nobody who may is registered for this procedure",
            ),
        };
        self.end_call(call, kind, message, effects);
    }

    /// Whether any callee can open the arguments.
    fn is_opened(&self, open: &Call) -> bool {
        let seals = open.parts.seals();
        let registration = self.registrations.by_id(open.registration);
        registration.is_none_or(|known| known.callees.iter().any(|c| c.opens(seals)))
    }

    /// Ends a call that no callee works on.
    fn end_call(
        &mut self,
        call: usize,
        kind: ErrorKind,
        message: &'static str,
        effects: &mut Effects,
    ) {
        let refusal = Refusal::new(kind, message);
        self.fail_caller(call, CallFailure::Realm(refusal), effects);
        self.close_call(call);
    }

    /// The next part of the arguments of an open call.
    fn call_goes_on(
        &mut self,
        now: Now,
        call: usize,
        payload: Payload,
        more: bool,
        effects: &mut Effects,
    ) {
        let limits = self.settings.limits;
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        if !open.more {
            let Some((place, request)) = open.caller else {
                return;
            };
            self.fail_again(place, request, effects);
            return;
        }
        open.more = more;
        let part = Arc::new(payload);
        let is_kept = open.parts.push(part.clone(), &limits);
        match open.state {
            CallState::Queued if !is_kept => self.too_much(call, effects),
            CallState::Queued => {}
            CallState::Running { .. } if open.interrupted => self.counters.parts_discarded += 1,
            CallState::Running { callee, .. } => {
                if !is_kept {
                    open.parts.forget();
                }
                let session = self.sessions.get(callee);
                let has_room = session.is_some_and(|session| session.outbox.takes_more(part.len()));
                if !has_room {
                    self.too_much(call, effects);
                    return;
                }
                self.start_call_timer(now, call);
                self.hand_part(call, part, more, effects);
            }
        }
    }

    /// The request id of an open call is used for another one.
    fn fail_again(&mut self, place: usize, request: RequestId, effects: &mut Effects) {
        let message = "a call with this request id is open";
        let refusal = Refusal::new(ErrorKind::InvalidArgument, message);
        self.fail_request(place, request, CallFailure::Realm(refusal), effects);
    }

    /// Parts come faster than they are taken. One caller must not end the session of its callee.
    fn too_much(&mut self, call: usize, effects: &mut Effects) {
        self.counters.quota_refused += 1;
        let refusal = Refusal::new(
            ErrorKind::QuotaExceeded,
            "too many parts of the arguments wait for the callee",
        );
        self.fail_caller(call, CallFailure::Realm(refusal), effects);
        self.abandon(call, Some(InterruptReason::TooMuch), effects);
    }

    /// The call's time begins, or begins again.
    fn start_call_timer(&mut self, now: Now, call: usize) {
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        let is_kept_elsewhere =
            matches!(open.state, CallState::Running { offer, .. } if offer.keeps_time);
        if open.caller.is_none() || is_kept_elsewhere {
            return;
        }
        self.timers.cancel(open.timer.take());
        let deadline = open
            .timeout
            .and_then(|after| now.instant.checked_add(after));
        open.timer = deadline.map(|at| self.timers.set(at, Timer::Call(call, open.serial)));
    }

    fn fail_caller(&mut self, call: usize, failure: CallFailure, effects: &mut Effects) {
        let caller = self.calls.at(call).and_then(|open| open.caller);
        self.forget_caller(call);
        if let Some((place, request)) = caller {
            self.fail_request(place, request, failure, effects);
        }
    }

    pub(super) fn fail_request(
        &mut self,
        place: usize,
        request: RequestId,
        failure: CallFailure,
        effects: &mut Effects,
    ) {
        self.push(place, Delivery::CallFailed { request, failure }, effects);
    }

    fn forget_caller(&mut self, call: usize) {
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        self.timers.cancel(open.timer.take());
        let more = open.more;
        if let Some((place, request)) = open.caller.take() {
            if let Some(session) = self.sessions.get_mut(place) {
                session.seldom.calls.remove(&request);
            }
            if more {
                self.cut_short(place, request);
            }
        }
    }

    /// What still comes of this call is to be discarded. Callers that never send it must not fill
    /// memory; the oldest is forgotten, whose id is the least.
    fn cut_short(&mut self, place: usize, request: RequestId) {
        let most = self.settings.limits.calls_per_session;
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.cut_short.insert(request);
            if session.seldom.cut_short.len() > most {
                session.seldom.cut_short.pop_first();
            }
        }
    }

    fn close_call(&mut self, call: usize) -> Option<Call> {
        self.forget_caller(call);
        self.calls.close(call)
    }

    /// A session goes: its callers get an error, its calls are abandoned.
    pub(super) fn drop_calls_of(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let (mut registrations, mut invocations, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(seldom) = session.seldom.known() {
            registrations.extend(seldom.registrations.drain());
            invocations.extend(seldom.invocations.drain());
            calls.extend(seldom.calls.iter().map(|(r, call)| (*r, *call)));
        }
        registrations.sort_unstable();
        invocations.sort_unstable();
        calls.sort_unstable();
        self.drop_own_calls_of(place);
        for id in registrations {
            self.withdraw(now, place, id, effects);
        }
        for (_, call) in invocations {
            let refusal = Refusal::new(ErrorKind::Canceled, "the callee went away");
            self.fail_caller(call, CallFailure::Realm(refusal), effects);
            self.close_call(call);
        }
        for (_, call) in calls {
            self.abandon(call, Some(InterruptReason::Canceled), effects);
        }
        if let Some(session) = self.sessions.get_mut(place)
            && let Some(seldom) = session.seldom.known()
        {
            seldom.cut_short.clear();
        }
    }
}

/// Whether a callee of its registration may be given this call.
fn may_take(sessions: &Slab<Session>, open: &Call, callee: &Callee) -> bool {
    let may_offer = || {
        sessions.get(callee.session).is_some_and(|session| {
            let role = &session.identity.role;
            role.permits(Action::Register, &open.procedure)
        })
    };
    !open.tried.contains(&callee.id)
        && (callee.takes_parts || !open.in_parts)
        && callee.opens(open.parts.seals())
        && (!callee.restricted || may_offer())
}
