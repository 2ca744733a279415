//! Calls that end otherwise than by their callee's answer.

use super::super::{Effects, Realm};
use crate::dealer::CallState;
use crate::model::{
    CallFailure, CancelMode, Delivery, ErrorKind, InterruptReason, Now, Refusal, RequestId,
};

impl Realm {
    pub(in crate::realm) fn cancel(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        mode: CancelMode,
        effects: &mut Effects,
    ) {
        if self.cancel_acquire(now, place, request, effects) {
            return;
        }
        let canceled = Refusal::new(ErrorKind::Canceled, "the call was canceled by its caller");
        let Some(call) = self
            .sessions
            .get(place)
            .and_then(|s| s.seldom.calls.get(&request).copied())
        else {
            self.end_own_call(now, place, request, canceled, effects);
            return;
        };
        let reason = InterruptReason::Canceled;
        if mode == CancelMode::Kill && self.interrupt(call, true, reason, effects) {
            return;
        }
        self.fail_caller(call, CallFailure::Realm(canceled), effects);
        let interrupt = (mode != CancelMode::Skip).then_some(reason);
        self.abandon(call, interrupt, effects);
    }

    pub(in crate::realm) fn call_timed_out(
        &mut self,
        call: usize,
        serial: u64,
        effects: &mut Effects,
    ) {
        if self.calls.at(call).is_none_or(|open| open.serial != serial) {
            return;
        }
        let refusal = Refusal::new(ErrorKind::Timeout, "the call took longer than its timeout");
        self.fail_caller(call, CallFailure::Realm(refusal), effects);
        self.abandon(call, Some(InterruptReason::Timeout), effects);
    }

    /// Nobody waits for the call any more. A running callee keeps its slot until it answers.
    pub(super) fn abandon(
        &mut self,
        call: usize,
        interrupt: Option<InterruptReason>,
        effects: &mut Effects,
    ) {
        self.forget_caller(call);
        let Some(open) = self.calls.at_mut(call) else {
            return;
        };
        // Nor will it be begun anew.
        open.parts.forget();
        match open.state {
            CallState::Queued => {
                let id = open.registration;
                self.close_call(call);
                if let Some(at) = self.registrations.find_id(id) {
                    self.leave_queue(at);
                }
            }
            CallState::Running { callee, .. } => {
                if let Some(reason) = interrupt {
                    self.interrupt(call, false, reason, effects);
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
    fn interrupt(
        &mut self,
        call: usize,
        answer_wanted: bool,
        reason: InterruptReason,
        effects: &mut Effects,
    ) -> bool {
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
            let interrupt = Delivery::Interrupt {
                invocation,
                answer_wanted,
                reason,
            };
            self.push(callee, interrupt, effects);
        }
        understands
    }
}
