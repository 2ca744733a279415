//! Handing calls to callees.

use super::super::{Effects, Realm};
use super::KINDS_TRIED;
use crate::dealer::{Call, CallState, Choice, Offer};
use crate::model::{Delivery, Invocation, InvocationId, InvokePolicy, Now, Payload};
use smallvec::SmallVec;
use std::sync::Arc;

impl Realm {
    /// Hands a waiting call to the callee at `which` place of its registration.
    pub(super) fn invoke(
        &mut self,
        now: Now,
        call: usize,
        at: usize,
        which: usize,
        effects: &mut Effects,
    ) {
        let Some(registration) = self.registrations.at_mut(at) else {
            return;
        };
        let exact = registration.key.procedure().is_some();
        let is_single = registration.policy == InvokePolicy::Single;
        let Some(callee) = registration.callees.get_mut(which) else {
            return;
        };
        let place = callee.session;
        let caller = self.calls.at(call).and_then(|open| open.caller);
        let disclosure = caller
            .and_then(|(caller, _)| self.sessions.get(caller))
            .map(|session| session.identity.role.disclosure)
            .unwrap_or_default();
        let (Some(open), Some(session)) = (self.calls.at_mut(call), self.sessions.get_mut(place))
        else {
            return;
        };
        callee.running += 1;
        session.seldom.last_invocation += 1;
        let invocation = InvocationId(session.seldom.last_invocation);
        session.seldom.invocations.insert(invocation, call);
        let offer = Offer {
            progress: open.progress && session.features.progressive_results,
            exact,
            discloses: disclosure
                .decide(open.disclose || callee.learns_caller)
                .unwrap_or(false),
            keeps_time: callee.keeps_time && open.timeout.is_some(),
        };
        open.state = CallState::Running {
            callee: place,
            invocation,
            offer,
        };
        let (parts, more) = (open.parts.clone(), open.more);
        if is_single {
            // There will be no other callee to be given them.
            open.parts.forget();
        }
        if offer.keeps_time {
            self.timers.cancel(open.timer.take());
        } else if open.timer.is_none() {
            self.start_call_timer(now, call);
        }
        let last = parts.iter().len();
        for (nth, part) in parts.iter().enumerate() {
            self.hand_part(call, part.clone(), more || nth + 1 < last, effects);
        }
    }

    /// Hands a part of a running call's arguments to its callee; for most calls the only one.
    pub(super) fn hand_part(
        &mut self,
        call: usize,
        payload: Arc<Payload>,
        more: bool,
        effects: &mut Effects,
    ) {
        let Some(open) = self.calls.at(call) else {
            return;
        };
        let CallState::Running {
            callee,
            invocation,
            offer,
        } = open.state
        else {
            return;
        };
        let caller = open.caller.filter(|_| offer.discloses);
        let caller = caller.and_then(|(place, _)| {
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
            registration: open.registration,
            procedure: open.procedure.clone(),
            exact: offer.exact,
            payload,
            more,
            progress: offer.progress,
            timeout: open.timeout.filter(|_| offer.keeps_time),
            caller,
        });
        self.push(callee, Delivery::Invocation(invocation), effects);
    }

    /// A slot may have become free, or a callee may have gone: hands out calls in the order they
    /// came, and ends those that nobody may take any more.
    pub(super) fn serve_queue(&mut self, now: Now, at: usize, effects: &mut Effects) {
        while let Some((nth, choice)) = self.next_in_queue(at) {
            let Some(registration) = self.registrations.at_mut(at) else {
                return;
            };
            let Some((call, _)) = registration.queue.remove(nth) else {
                return;
            };
            registration.queued = registration.queued.saturating_sub(1);
            self.place_call(now, call, at, choice, false, effects);
        }
    }

    /// The first call in the queue whose wait is over, by its place there. Of calls that the same
    /// callees may take only the first is tried: where it waits the others do.
    fn next_in_queue(&mut self, at: usize) -> Option<(usize, Choice)> {
        let callees = &self.registrations.at(at)?.callees;
        let is_picky = callees.iter().any(|callee| callee.restricted);
        let mut waiting: SmallVec<[usize; 4]> = SmallVec::new();
        let mut nth = 0;
        while waiting.len() < KINDS_TRIED {
            let registration = self.registrations.at_mut(at)?;
            let &(call, serial) = registration.queue.get(nth)?;
            let calls = &self.calls;
            let open = calls.at(call).filter(|open| open.serial == serial);
            let Some(open) = open else {
                registration.queue.remove(nth);
                continue;
            };
            let mut known = waiting.iter().filter_map(|call| calls.at(*call));
            if known.any(|known| is_alike(known, open, is_picky)) {
                nth += 1;
                continue;
            }
            let is_for_all = open.tried.is_empty() && !open.in_parts && !open.is_sealed();
            match self.choose(call, at) {
                // Whoever stands behind it would have to wait for the same callees.
                Choice::Wait if is_for_all && !is_picky => return None,
                Choice::Wait => {
                    waiting.push(call);
                    nth += 1;
                }
                choice => return Some((nth, choice)),
            }
        }
        None
    }
}

/// Whether the same callees may take both calls. `is_picky`: that depends on the procedure.
fn is_alike(a: &Call, b: &Call, is_picky: bool) -> bool {
    a.tried == b.tried
        && a.in_parts == b.in_parts
        && a.parts.seals() == b.parts.seals()
        && (!is_picky || a.procedure == b.procedure)
}
