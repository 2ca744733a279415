//! Who offers a procedure: registering, withdrawing, taking another's place.

use super::super::{Effects, Realm};
use crate::auth::Action;
use crate::dealer::{CallState, Callee, RegistrationKey};
use crate::model::{
    Answer, Delivery, ErrorKind, InvokePolicy, Now, Pattern, Register, RegistrationId, RequestId,
};
use crate::realm::meta::RegistrationEvent;
use bytestring::ByteString;
use std::collections::VecDeque;

/// Why a callee lost its place to another one.
const REPLACED: &str = "another session registered the procedure in its place";

impl Realm {
    pub(in crate::realm) fn register(
        &mut self,
        now: Now,
        place: usize,
        register: &Register,
        effects: &mut Effects,
    ) {
        let request = register.request;
        let key = RegistrationKey {
            pattern: register.pattern.clone(),
            kind: register.kind,
        };
        if let Err((kind, message)) = self.may_register(place, register, &key) {
            self.refuse(place, request, kind, message, effects);
            return;
        }
        let waiting = match self.registrations.find(&key) {
            Some(at) if register.force => self.evict_all(now, at, effects),
            _ => VecDeque::new(),
        };
        let (at, is_new) = match self.registrations.find(&key) {
            Some(at) => (at, false),
            None => {
                let policy = register.policy;
                let at = self.registrations.create(&key, policy, now.unix_ms);
                (at, true)
            }
        };
        let Some(id) = self.add_callee(place, at, register) else {
            return;
        };
        self.take_queue(at, id, waiting);
        self.done(place, request, Answer::Registered(id), 0, effects);
        if is_new {
            self.announce_registration(now, RegistrationEvent::Created, place, at, effects);
        }
        self.announce_registration(now, RegistrationEvent::Registered, place, at, effects);
        if register.force {
            self.end_unanswerable(at, effects);
        }
        self.serve_queue(now, at, effects);
    }

    fn may_register(
        &self,
        place: usize,
        register: &Register,
        key: &RegistrationKey,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        if self.is_own_pattern(&register.pattern) {
            return Err((
                ErrorKind::NotAuthorized,
                "this procedure belongs to the router",
            ));
        }
        let role = &session.identity.role;
        let may = match &register.pattern {
            Pattern::Exact(procedure) => role.permits(Action::Register, procedure),
            pattern => role.permits_pattern(Action::Register, pattern),
        };
        if !may {
            return Err((
                ErrorKind::NotAuthorized,
                "the role may not register this procedure",
            ));
        }
        if register.concurrency == Some(0) {
            return Err((ErrorKind::InvalidArgument, "concurrency must be at least 1"));
        }
        if session.seldom.registrations.len() >= self.settings.limits.registrations_per_session {
            return Err((
                ErrorKind::QuotaExceeded,
                "the session holds too many registrations",
            ));
        }
        let known = self.registrations.find(key);
        let Some(known) = known.and_then(|at| self.registrations.at(at)) else {
            return Ok(());
        };
        let shares = known.policy != InvokePolicy::Single && known.policy == register.policy;
        let is_held = known.callees.iter().any(|callee| callee.session == place);
        if !register.force && (!shares || is_held) {
            return Err((
                ErrorKind::ProcedureAlreadyExists,
                "the procedure is registered already",
            ));
        }
        Ok(())
    }

    fn add_callee(
        &mut self,
        place: usize,
        at: usize,
        register: &Register,
    ) -> Option<RegistrationId> {
        let registration = self.registrations.at_mut(at)?;
        let session = self.sessions.get_mut(place)?;
        let (id, calls) = (registration.id, &self.calls);
        // It may have withdrawn with invocations still to be answered.
        let open = session.seldom.invocations.values();
        let running = open
            .filter(|call| calls.at(**call).is_some_and(|c| c.registration == id))
            .count();
        let features = session.features;
        registration.callees.push(Callee {
            session: place,
            id: session.id,
            concurrency: register.concurrency,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            // An upload that is not wanted any more must be stopped.
            takes_parts: features.progressive_invocations && features.call_canceling,
            opens_sealed: features.callee_opens_sealed,
            opens_bare: features.callee_opens_bare,
            learns_caller: register.disclose_caller,
            keeps_time: register.forward_timeout && features.call_timeout,
            restricted: !register.pattern.is_exact() && !session.identity.role.is_unrestricted(),
        });
        session.seldom.registrations.insert(id);
        Some(id)
    }

    /// Ends a registration to make place for another; answers the calls that waited for it.
    fn evict_all(&mut self, now: Now, at: usize, effects: &mut Effects) -> VecDeque<(usize, u64)> {
        let Some(registration) = self.registrations.at_mut(at) else {
            return VecDeque::new();
        };
        let id = registration.id;
        let waiting = std::mem::take(&mut registration.queue);
        registration.queued = 0;
        let places: Vec<usize> = registration.callees.iter().map(|c| c.session).collect();
        for place in places {
            self.evict(now, place, id, &ByteString::from_static(REPLACED), effects);
        }
        waiting
    }

    /// Takes a registration away from its callee, and tells it. What it works on it may finish.
    pub(in crate::realm) fn evict(
        &mut self,
        now: Now,
        place: usize,
        registration: RegistrationId,
        reason: &ByteString,
        effects: &mut Effects,
    ) {
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.registrations.remove(&registration);
        }
        let reason = reason.clone();
        let told = Delivery::Unregistered {
            registration,
            reason,
        };
        self.push(place, told, effects);
        self.withdraw(now, place, registration, effects);
    }

    /// Calls that waited for another registration wait for this one now.
    fn take_queue(&mut self, at: usize, id: RegistrationId, waiting: VecDeque<(usize, u64)>) {
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        for (call, serial) in waiting {
            if let Some(open) = self.calls.at_mut(call)
                && open.serial == serial
                && matches!(open.state, CallState::Queued)
            {
                open.registration = id;
                registration.queue.push_back((call, serial));
                registration.queued += 1;
            }
        }
    }

    pub(in crate::realm) fn unregister(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        id: RegistrationId,
        effects: &mut Effects,
    ) {
        let held = self
            .sessions
            .get_mut(place)
            .is_some_and(|session| session.seldom.registrations.remove(&id));
        if !held {
            let message = "the session holds no such registration";
            let kind = ErrorKind::NoSuchRegistration;
            self.refuse(place, request, kind, message, effects);
            return;
        }
        self.done(place, request, Answer::Unregistered, 0, effects);
        self.withdraw(now, place, id, effects);
    }

    /// Takes a callee out of a registration. With the last one go the calls that waited for it, with
    /// another those that only this one could take.
    pub(super) fn withdraw(
        &mut self,
        now: Now,
        place: usize,
        id: RegistrationId,
        effects: &mut Effects,
    ) {
        let Some(at) = self.registrations.find_id(id) else {
            return;
        };
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        registration.remove_callee(place);
        let is_last = registration.callees.is_empty();
        self.announce_registration(now, RegistrationEvent::Unregistered, place, at, effects);
        if !is_last {
            self.end_unanswerable(at, effects);
            self.serve_queue(now, at, effects);
            return;
        }
        self.announce_registration(now, RegistrationEvent::Deleted, place, at, effects);
        let Some(gone) = self.registrations.remove(at) else {
            return;
        };
        for (call, serial) in gone.queue {
            let open = self.calls.at(call);
            if open.is_some_and(|open| open.serial == serial) {
                let message = "the last callee of the procedure went away";
                self.end_call(call, ErrorKind::NoSuchProcedure, message, effects);
            }
        }
    }
}
