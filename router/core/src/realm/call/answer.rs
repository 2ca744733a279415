//! What callees answer.

use super::super::{Effects, Realm};
use crate::dealer::{CallState, Choice};
use crate::model::{
    CallFailure, Delivery, EndReason, InvocationFailed, InvocationId, Now, Payload,
};
use std::sync::Arc;

impl Realm {
    pub(in crate::realm) fn yielded(
        &mut self,
        now: Now,
        place: usize,
        invocation: InvocationId,
        payload: Arc<Payload>,
        progress: bool,
        effects: &mut Effects,
    ) {
        let Some(call) = self.call_of(place, invocation) else {
            return;
        };
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        let offered = matches!(open.state, CallState::Running { offer, .. } if offer.progress);
        if progress && !offered {
            // The callee was not asked for progress, and the caller would not understand it.
            self.counters.answers_discarded += 1;
            return;
        }
        open.shown |= progress;
        match open.caller {
            Some((caller, request)) => {
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
            self.finish(now, call, effects);
        }
    }

    pub(in crate::realm) fn invocation_failed(
        &mut self,
        now: Now,
        place: usize,
        failed: InvocationFailed,
        effects: &mut Effects,
    ) {
        let InvocationFailed {
            invocation,
            error,
            payload,
        } = failed;
        let Some(call) = self.call_of(place, invocation) else {
            return;
        };
        if error == self.settings.naming.unavailable && self.reroute(now, call, effects) {
            return;
        }
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
        self.finish(now, call, effects);
    }

    /// The callee says that it cannot take the call: the next one by the policy gets it, of those
    /// that did not say so already. Answers whether that was tried. It is not when nobody waits any
    /// more or the callee was asked to stop, and not once the caller has a part of the result:
    /// then the callee's word is its last.
    fn reroute(&mut self, now: Now, call: usize, effects: &mut Effects) -> bool {
        let Some(open) = self.calls.at_mut(call) else {
            return false;
        };
        let CallState::Running { callee, .. } = open.state else {
            return false;
        };
        if open.caller.is_none() || open.interrupted || open.shown {
            return false;
        }
        let (id, is_whole) = (open.registration, open.parts.is_whole());
        let session = self.sessions.get(callee).map(|session| session.id);
        open.tried.extend(session);
        self.free_slot(call);
        if let Some(open) = self.calls.at_mut(call) {
            open.state = CallState::Queued;
        }
        let at = self.registrations.find_id(id);
        let Some(at) = at else {
            self.fail_unanswerable(call, effects);
            return true;
        };
        let choice = match is_whole {
            true => self.choose(call, at),
            false => Choice::Nobody,
        };
        if choice != Choice::Nobody {
            self.counters.calls_rerouted += 1;
        }
        self.place_call(now, call, at, choice, true, effects);
        self.serve_queue(now, at, effects);
        true
    }

    /// The open call of an invocation. An answer may cross with a cancel, a timeout or the caller's
    /// end, so ids that were given out are discarded; one that never was breaks the rules.
    fn call_of(&mut self, place: usize, invocation: InvocationId) -> Option<usize> {
        let session = self.sessions.get(place)?;
        if let Some(call) = session.seldom.invocations.get(&invocation) {
            return Some(*call);
        }
        if invocation.0 > session.seldom.last_invocation {
            let reason = "an answer names an invocation that was never made";
            self.doomed.push((place, EndReason::Violation(reason)));
        } else {
            self.counters.answers_discarded += 1;
        }
        None
    }

    /// The callee answered: frees its slot and lets the next call in.
    fn finish(&mut self, now: Now, call: usize, effects: &mut Effects) {
        self.free_slot(call);
        if let Some(closed) = self.close_call(call)
            && let Some(at) = self.registrations.find_id(closed.registration)
        {
            self.serve_queue(now, at, effects);
        }
    }

    pub(super) fn free_slot(&mut self, call: usize) {
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
            session.seldom.invocations.remove(&invocation);
        }
        let registration = self.registrations.by_id_mut(open.registration);
        if let Some(callee) = registration.and_then(|registration| {
            let mut callees = registration.callees.iter_mut();
            callees.find(|known| known.session == callee)
        }) {
            callee.running = callee.running.saturating_sub(1);
        }
    }
}
