//! Remote procedure calls: every call ends in exactly one result or error, whoever vanishes when.

use super::{Effects, Realm};
use crate::auth::Action;
use crate::dealer::{Call, CallState, Callee, Choice};
use crate::model::{
    Answer, CallFailure, CancelMode, Delivery, ErrorKind, Invocation, InvocationId, InvokePolicy,
    Now, Payload, Refusal, Register, RegistrationId, RequestId, Topic,
};
use crate::timers::Timer;
use bytestring::ByteString;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;

/// The options of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub progress: bool,
    pub timeout: Option<Duration>,
    pub disclose_me: bool,
}

impl Realm {
    pub(super) fn register(&mut self, place: usize, register: &Register, effects: &mut Effects) {
        let request = register.request;
        if let Err((kind, message)) = self.may_register(place, register) {
            self.refuse(place, request, kind, message, effects);
            return;
        }
        let at = match self.registrations.find(&register.procedure) {
            Some(at) => at,
            None => self
                .registrations
                .create(&register.procedure, register.policy),
        };
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        let id = registration.id;
        // It may have withdrawn with invocations still to be answered.
        let calls = &self.calls;
        let running = self.sessions.get(place).map_or(0, |session| {
            let open = session.invocations.values();
            open.filter(|call| calls.at(**call).is_some_and(|c| c.registration == id))
                .count()
        });
        registration.callees.push(Callee {
            session: place,
            concurrency: register.concurrency,
            running: u32::try_from(running).unwrap_or(u32::MAX),
        });
        if let Some(session) = self.sessions.get_mut(place) {
            session.registrations.insert(id);
        }
        self.done(place, request, Answer::Registered(id), 0, effects);
        self.serve_queue(at, effects);
    }

    fn may_register(
        &self,
        place: usize,
        register: &Register,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        if self.is_own_name(&register.procedure) {
            return Err((
                ErrorKind::NotAuthorized,
                "this procedure belongs to the router",
            ));
        }
        if !session
            .identity
            .role
            .permits(Action::Register, &register.procedure)
        {
            return Err((
                ErrorKind::NotAuthorized,
                "the role may not register this procedure",
            ));
        }
        if register.concurrency == Some(0) {
            return Err((ErrorKind::InvalidArgument, "concurrency must be at least 1"));
        }
        if session.registrations.len() >= self.settings.limits.registrations_per_session {
            return Err((
                ErrorKind::QuotaExceeded,
                "the session holds too many registrations",
            ));
        }
        let known = self
            .registrations
            .find(&register.procedure)
            .and_then(|at| self.registrations.at(at));
        let Some(known) = known else { return Ok(()) };
        let shares = known.policy != InvokePolicy::Single && known.policy == register.policy;
        if !shares || known.callees.iter().any(|callee| callee.session == place) {
            return Err((
                ErrorKind::ProcedureAlreadyExists,
                "the procedure is registered already",
            ));
        }
        Ok(())
    }

    pub(super) fn unregister(
        &mut self,
        place: usize,
        request: RequestId,
        id: RegistrationId,
        effects: &mut Effects,
    ) {
        let held = self
            .sessions
            .get_mut(place)
            .is_some_and(|session| session.registrations.remove(&id));
        if !held {
            let message = "the session holds no such registration";
            self.refuse(
                place,
                request,
                ErrorKind::NoSuchRegistration,
                message,
                effects,
            );
            return;
        }
        self.done(place, request, Answer::Unregistered, 0, effects);
        self.withdraw(place, id, effects);
    }

    /// Takes a callee out of a registration. With the last one go the calls that waited for it.
    pub(super) fn withdraw(&mut self, place: usize, id: RegistrationId, effects: &mut Effects) {
        let Some(at) = self.registrations.find_id(id) else {
            return;
        };
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        registration
            .callees
            .retain(|callee| callee.session != place);
        if !registration.callees.is_empty() {
            return;
        }
        let Some(gone) = self.registrations.remove(at) else {
            return;
        };
        for (call, serial) in gone.queue {
            if self
                .calls
                .at(call)
                .is_some_and(|open| open.serial == serial)
            {
                let refusal = Refusal::new(
                    ErrorKind::NoSuchProcedure,
                    "the last callee of the procedure went away",
                );
                self.fail_caller(call, CallFailure::Realm(refusal), effects);
                self.close_call(call);
            }
        }
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
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        if session.calls.contains_key(&request) {
            let message = "a call with this request id is open";
            let refusal = Refusal::new(ErrorKind::InvalidArgument, message);
            self.fail_request(place, request, CallFailure::Realm(refusal), effects);
            return;
        }
        self.counters.calls += 1;
        let refusal = if !session.identity.role.permits(Action::Call, procedure) {
            Some((
                ErrorKind::NotAuthorized,
                "the role may not call this procedure",
            ))
        } else if session.calls.len() >= self.settings.limits.calls_per_session {
            Some((
                ErrorKind::QuotaExceeded,
                "the session has too many calls open",
            ))
        } else {
            None
        };
        if let Some((kind, message)) = refusal {
            self.fail_request(
                place,
                request,
                CallFailure::Realm(Refusal::new(kind, message)),
                effects,
            );
            return;
        }
        if let Some(own) = self.own_procedure(procedure) {
            self.call_own(now, place, request, own, &payload, effects);
            return;
        }
        let Some(at) = self.registrations.find(procedure) else {
            let refusal = Refusal::new(
                ErrorKind::NoSuchProcedure,
                "no callee is registered for this procedure",
            );
            self.fail_request(place, request, CallFailure::Realm(refusal), effects);
            return;
        };
        self.open_call(
            now, place, request, at, procedure, payload, options, effects,
        );
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
        let queue_max = self.settings.limits.calls_queued_per_procedure;
        let random = self.random.next_u64();
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        let id = registration.id;
        // Whoever waits already comes first.
        let choice = if registration.queued > 0 {
            Choice::Wait
        } else {
            registration.choose(random)
        };
        if choice == Choice::Wait && registration.queued >= queue_max {
            let message = "too many calls wait for this procedure";
            let refusal = Refusal::new(ErrorKind::QuotaExceeded, message);
            self.counters.quota_refused += 1;
            self.fail_request(place, request, CallFailure::Realm(refusal), effects);
            return;
        }
        let payload = Arc::new(payload);
        let call = self.calls.open(Call {
            serial: 0,
            caller: Some((place, request)),
            state: CallState::Queued {
                procedure: procedure.detached(),
                payload,
            },
            progress: options.progress,
            timeout: options.timeout,
            timer: None,
            registration: id,
            interrupted: false,
            disclose: options.disclose_me,
        });
        let serial = self.calls.at(call).map_or(0, |open| open.serial);
        self.start_call_timer(now, call);
        if let Some(session) = self.sessions.get_mut(place) {
            session.calls.insert(request, call);
        }
        match choice {
            Choice::Callee(callee) => self.invoke(call, at, callee, effects),
            Choice::Wait => {
                if let Some(registration) = self.registrations.at_mut(at) {
                    registration.queue.push_back((call, serial));
                    registration.queued += 1;
                }
            }
        }
    }

    /// The call's time begins, or begins again.
    fn start_call_timer(&mut self, now: Now, call: usize) {
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        if open.caller.is_none() {
            return;
        }
        self.timers.cancel(open.timer.take());
        let deadline = open
            .timeout
            .and_then(|after| now.instant.checked_add(after));
        open.timer = deadline.map(|at| self.timers.set(at, Timer::Call(call, open.serial)));
    }

    /// Hands a queued call to the callee at `which` place of its registration.
    fn invoke(&mut self, call: usize, at: usize, which: usize, effects: &mut Effects) {
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        let id = registration.id;
        let Some(callee) = registration.callees.get_mut(which) else {
            return;
        };
        callee.running += 1;
        let place = callee.session;
        let (Some(open), Some(session)) = (self.calls.at_mut(call), self.sessions.get_mut(place))
        else {
            return;
        };
        session.last_invocation += 1;
        let invocation = InvocationId(session.last_invocation);
        session.invocations.insert(invocation, call);
        let progress = open.progress && session.features.progressive_results;
        let running = CallState::Running {
            callee: place,
            invocation,
            progress,
        };
        let CallState::Queued { procedure, payload } = std::mem::replace(&mut open.state, running)
        else {
            return;
        };
        let discloses = open.disclose;
        let caller = open.caller.filter(|_| discloses).and_then(|(place, _)| {
            let session = self.sessions.get(place)?;
            let identity = &session.identity;
            Some((
                session.id,
                identity.authid.clone(),
                identity.role.name.clone(),
            ))
        });
        let invocation = Box::new(Invocation {
            invocation,
            registration: id,
            procedure,
            payload,
            progress,
            caller,
        });
        self.push(place, Delivery::Invocation(invocation), effects);
    }

    /// A slot may have become free: hands out calls in the order they came.
    fn serve_queue(&mut self, at: usize, effects: &mut Effects) {
        loop {
            let random = self.random.next_u64();
            let Some(registration) = self.registrations.at_mut(at) else {
                return;
            };
            let Some(&(call, serial)) = registration.queue.front() else {
                return;
            };
            let is_waiting = self
                .calls
                .at(call)
                .is_some_and(|open| open.serial == serial);
            if !is_waiting {
                registration.queue.pop_front();
                continue;
            }
            let Choice::Callee(callee) = registration.choose(random) else {
                return;
            };
            registration.queue.pop_front();
            registration.queued = registration.queued.saturating_sub(1);
            self.invoke(call, at, callee, effects);
        }
    }

    pub(super) fn yielded(
        &mut self,
        now: Now,
        place: usize,
        invocation: InvocationId,
        payload: Payload,
        progress: bool,
        effects: &mut Effects,
    ) {
        let Some(call) = self.call_of(place, invocation) else {
            return;
        };
        let Some(open) = self.calls.at(call) else {
            return;
        };
        let offered = matches!(open.state, CallState::Running { progress: true, .. });
        if progress && !offered {
            // The callee was not asked for progress, and the caller would not understand it.
            self.counters.answers_discarded += 1;
            return;
        }
        match open.caller {
            Some((caller, request)) => {
                let payload = Arc::new(payload);
                let result = Delivery::Result {
                    request,
                    payload,
                    progress,
                };
                self.push(caller, result, effects);
            }
            None => self.counters.answers_discarded += 1,
        }
        if progress {
            // Each sign of life gives the callee its time anew.
            self.start_call_timer(now, call);
        } else {
            self.forget_caller(call);
            self.finish(call, effects);
        }
    }

    pub(super) fn invocation_failed(
        &mut self,
        place: usize,
        invocation: InvocationId,
        error: ByteString,
        payload: Payload,
        effects: &mut Effects,
    ) {
        let Some(call) = self.call_of(place, invocation) else {
            return;
        };
        if self
            .calls
            .at(call)
            .is_some_and(|open| open.caller.is_none())
        {
            self.counters.answers_discarded += 1;
        }
        let failure = CallFailure::Callee {
            error,
            payload: Arc::new(payload),
        };
        self.fail_caller(call, failure, effects);
        self.finish(call, effects);
    }

    /// The open call of an invocation. An answer may cross with a cancel, a timeout or the caller's
    /// end, so ids that were given out are discarded; one that never was breaks the rules.
    fn call_of(&mut self, place: usize, invocation: InvocationId) -> Option<usize> {
        let session = self.sessions.get(place)?;
        if let Some(call) = session.invocations.get(&invocation) {
            return Some(*call);
        }
        if invocation.0 > session.last_invocation {
            let reason = "an answer names an invocation that was never made";
            self.doomed
                .push((place, crate::model::EndReason::Violation(reason)));
        } else {
            self.counters.answers_discarded += 1;
        }
        None
    }

    pub(super) fn cancel(
        &mut self,
        place: usize,
        request: RequestId,
        mode: CancelMode,
        effects: &mut Effects,
    ) {
        let Some(call) = self
            .sessions
            .get(place)
            .and_then(|s| s.calls.get(&request).copied())
        else {
            return;
        };
        if mode == CancelMode::Kill && self.interrupt(call, true, effects) {
            return;
        }
        let canceled = Refusal::new(ErrorKind::Canceled, "the call was canceled by its caller");
        self.fail_caller(call, CallFailure::Realm(canceled), effects);
        self.abandon(call, mode != CancelMode::Skip, effects);
    }

    pub(super) fn call_timed_out(&mut self, call: usize, serial: u64, effects: &mut Effects) {
        if self.calls.at(call).is_none_or(|open| open.serial != serial) {
            return;
        }
        let refusal = Refusal::new(ErrorKind::Timeout, "the call took longer than its timeout");
        self.fail_caller(call, CallFailure::Realm(refusal), effects);
        self.abandon(call, true, effects);
    }

    /// Nobody waits for the call any more. A running callee keeps its slot until it answers.
    pub(super) fn abandon(&mut self, call: usize, interrupt: bool, effects: &mut Effects) {
        self.forget_caller(call);
        let Some(open) = self.calls.at(call) else {
            return;
        };
        match open.state {
            CallState::Queued { .. } => {
                let id = open.registration;
                self.close_call(call);
                let calls = &self.calls;
                if let Some(registration) = self.registrations.by_id_mut(id) {
                    registration.queued = registration.queued.saturating_sub(1);
                    registration.tidy_queue(|call, serial| {
                        calls.at(call).is_some_and(|open| open.serial == serial)
                    });
                }
            }
            CallState::Running { callee, .. } => {
                if interrupt {
                    self.interrupt(call, false, effects);
                }
                let limited = self
                    .calls
                    .at(call)
                    .and_then(|open| self.registrations.by_id(open.registration))
                    .and_then(|r| r.callees.iter().find(|c| c.session == callee))
                    .is_some_and(|callee| callee.concurrency.is_some());
                if !limited {
                    // No slot to keep, and a callee that never answers must not fill memory.
                    self.free_slot(call);
                    self.close_call(call);
                }
            }
        }
    }

    /// Asks the callee to stop, once; answers whether it understands that.
    fn interrupt(&mut self, call: usize, answer_wanted: bool, effects: &mut Effects) -> bool {
        let Some(open) = self.calls.at_mut(call) else {
            return false;
        };
        let CallState::Running {
            callee, invocation, ..
        } = open.state
        else {
            return false;
        };
        let understands = self
            .sessions
            .get(callee)
            .is_some_and(|session| session.features.call_canceling);
        if understands && !std::mem::replace(&mut open.interrupted, true) {
            self.push(
                callee,
                Delivery::Interrupt {
                    invocation,
                    answer_wanted,
                },
                effects,
            );
        }
        understands
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
        if let Some((place, request)) = open.caller.take()
            && let Some(session) = self.sessions.get_mut(place)
        {
            session.calls.remove(&request);
        }
    }

    /// The callee answered: frees its slot and lets the next call in.
    fn finish(&mut self, call: usize, effects: &mut Effects) {
        self.free_slot(call);
        if let Some(closed) = self.close_call(call)
            && let Some(at) = self.registrations.find_id(closed.registration)
        {
            self.serve_queue(at, effects);
        }
    }

    fn free_slot(&mut self, call: usize) {
        let Some(open) = self.calls.at(call) else {
            return;
        };
        let CallState::Running {
            callee, invocation, ..
        } = open.state
        else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(callee) {
            session.invocations.remove(&invocation);
        }
        let registration = self.registrations.by_id_mut(open.registration);
        if let Some(callee) = registration.and_then(|registration| {
            registration
                .callees
                .iter_mut()
                .find(|c| c.session == callee)
        }) {
            callee.running = callee.running.saturating_sub(1);
        }
    }

    fn close_call(&mut self, call: usize) -> Option<Call> {
        self.forget_caller(call);
        self.calls.close(call)
    }

    /// A session goes: its callers get an error, its calls are abandoned.
    pub(super) fn drop_calls_of(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let mut registrations: Vec<_> = session.registrations.drain().collect();
        registrations.sort_unstable();
        let mut invocations: Vec<_> = session.invocations.drain().collect();
        invocations.sort_unstable();
        let mut calls: Vec<_> = session.calls.iter().map(|(r, call)| (*r, *call)).collect();
        calls.sort_unstable();
        for id in registrations {
            self.withdraw(place, id, effects);
        }
        for (_, call) in invocations {
            let refusal = Refusal::new(ErrorKind::Canceled, "the callee went away");
            self.fail_caller(call, CallFailure::Realm(refusal), effects);
            self.close_call(call);
        }
        for (_, call) in calls {
            self.abandon(call, true, effects);
        }
    }
}
