//! What the realm tells an open session: deliveries become messages.

use super::{WampMachine, code};
use crate::gate::Action;
use crate::wamp::codec::{self, Details};
use crate::wamp::map;
use crate::wamp::message::{Dict, Interrupt, Payload as Tail, Unregistered, Unsubscribed};
use crate::wamp::passthru::{self, Passthru};
use crate::wamp::uris::{self, close, error};
use bytestring::ByteString;
use router_core::encoding::Encoding;
use router_core::model::{
    Answer, Args, CallFailure, Command, Delivery, EndReason, ErrorKind, EventDelivery, Invocation,
    InvocationFailed, InvocationId, Now, Payload, Refusal, RegistrationId, RequestId,
    SubscriptionId,
};

/// Type codes of answers.
const PUBLISHED: u64 = 17;
const SUBSCRIBED: u64 = 33;
const UNSUBSCRIBED: u64 = 35;
const CALL: u64 = 48;
const REGISTERED: u64 = 65;
const UNREGISTERED: u64 = 67;

/// What fox-wamp's clients look for when a condition does not hold.
const NOT_ACCEPTED: &str = "not accepted";

/// `{"progress": true}`.
const fn progress_details(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Json => br#"{"progress":true}"#,
        Encoding::MsgPack => b"\x81\xa8progress\xc3",
        Encoding::Cbor => b"\xa1\x68progress\xf5",
    }
}

impl WampMachine {
    pub(super) fn handle_established(&mut self, now: Now, delivery: Delivery) {
        match delivery {
            Delivery::Event(event) => self.event(now, &event),
            Delivery::Done { request, answer } => self.answer(request, &answer),
            Delivery::Refused { request, refusal } => {
                let (code, request) = map::request_of(request);
                self.refused(code, request, &refusal);
            }
            Delivery::Invocation(invocation) => self.invocation(&invocation),
            Delivery::Interrupt {
                invocation,
                answer_wanted,
                reason,
            } => {
                let mode = if answer_wanted { "kill" } else { "killnowait" };
                let reason = map::interrupt_uri(reason);
                let options = Dict::from_iter([
                    ("mode".to_owned(), mode.into()),
                    ("reason".to_owned(), reason.into()),
                ]);
                self.say(
                    &Interrupt {
                        request: invocation.0,
                        options,
                    }
                    .into(),
                );
            }
            Delivery::Result {
                request,
                payload,
                progress,
            } => {
                self.result(request, &payload, progress);
            }
            Delivery::CallFailed { request, failure } => self.call_failed(request, &failure),
            Delivery::Revoked {
                subscription,
                reason,
            } => self.revoked(subscription, &reason),
            Delivery::Unregistered {
                registration,
                reason,
            } => self.unregistered(registration, &reason),
            // Slots belong to other styles of delivery; the first and the last one are the
            // state machine's.
            Delivery::Release { .. } | Delivery::Joined { .. } | Delivery::Ended(_) => {}
        }
    }

    pub(super) fn event(&mut self, now: Now, delivery: &EventDelivery) {
        let receiver = self.announced.subscriber;
        let lost = self.lost + u64::from(delivery.lost);
        let mut details = map::event_details(now, delivery, receiver);
        if self.lost > 0 {
            let details = details.get_or_insert_default();
            details.insert("x_lost".into(), lost.into());
        }
        let mut made = Tail::EMPTY;
        let payload = &delivery.event.payload;
        let tail = passthru::arguments(self.encoding, payload, receiver, &mut made);
        codec::put_event(
            self.encoding,
            &mut self.buffer,
            delivery.subscription.0,
            delivery.event.publication.0,
            details.as_ref().map_or(Details::Empty, Details::Dict),
            tail,
        );
        match self.try_send_buffer() {
            true => self.lost = 0,
            false => self.event_does_not_fit(lost),
        }
    }

    fn answer(&mut self, request: RequestId, answer: &Answer) {
        let (_, request) = map::request_of(request);
        let (encoding, out) = (self.encoding, &mut self.buffer);
        match answer {
            Answer::Subscribed { subscription, .. } => {
                codec::put_reply(encoding, out, SUBSCRIBED, request, subscription.0);
            }
            Answer::Published { publication, .. } => {
                codec::put_reply(encoding, out, PUBLISHED, request, publication.0);
            }
            Answer::Registered(registration) => {
                codec::put_reply(encoding, out, REGISTERED, request, registration.0);
            }
            Answer::Unsubscribed => codec::put_confirmation(encoding, out, UNSUBSCRIBED, request),
            Answer::Unregistered => codec::put_confirmation(encoding, out, UNREGISTERED, request),
            // Answers to commands that this gate never gives.
            Answer::Released(_) | Answer::Repeated => return,
        }
        self.send_buffer();
    }

    fn refused(&mut self, code: u64, request: u64, refusal: &Refusal) {
        let message = match refusal.kind {
            ErrorKind::ConditionFailed => NOT_ACCEPTED,
            _ => &refusal.message,
        };
        let error = map::error_uri(refusal.kind);
        if let Some(about) = &refusal.about {
            let tail = map::error_tail(self.encoding, message, about);
            if self.try_say_error((code, request), Details::Empty, error, &tail) {
                return;
            }
        }
        self.say_error(code, request, error, message);
    }

    fn invocation(&mut self, invocation: &Invocation) {
        let receiver = self.announced.callee;
        if !receiver.opens(&invocation.payload) {
            // Section "Payload Passthru Mode": who did not announce it cannot be called so.
            let message = "the callee did not announce payload passthru";
            let error = error::FEATURE_NOT_SUPPORTED;
            return self.fail_invocation(invocation.invocation, error, message);
        }
        let mut details = Dict::new();
        // Section "Pattern-based Registrations": the registration does not tell it.
        if !invocation.exact {
            let procedure = uris::core_to_uri(invocation.procedure.text());
            details.insert("procedure".into(), procedure.into());
        }
        if invocation.more {
            details.insert("progress".into(), true.into());
        }
        if let Some(timeout) = invocation.timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            details.insert("timeout".into(), ms.into());
        }
        passthru::describe(&mut details, &invocation.payload, receiver);
        if invocation.progress {
            details.insert("receive_progress".into(), true.into());
        }
        if let Some((session, authid, role)) = &invocation.caller {
            details.insert("caller".into(), session.0.into());
            details.insert("caller_authid".into(), (**authid).into());
            details.insert("caller_authrole".into(), (**role).into());
        }
        let mut made = Tail::EMPTY;
        let payload = &invocation.payload;
        let tail = passthru::arguments(self.encoding, payload, Passthru::default(), &mut made);
        codec::put_invocation(
            self.encoding,
            &mut self.buffer,
            invocation.invocation.0,
            invocation.registration.0,
            if details.is_empty() {
                Details::Empty
            } else {
                Details::Dict(&details)
            },
            tail,
        );
        if !self.try_send_buffer() {
            self.invocation_does_not_fit(invocation.invocation);
        }
    }

    /// Ends a call that cannot reach its callee, or whose result cannot pass.
    pub(super) fn fail_invocation(
        &mut self,
        invocation: InvocationId,
        error: &'static str,
        message: &str,
    ) {
        let Tail { args, kwargs } = map::message_tail(self.encoding, message);
        self.actions
            .push_back(Action::Command(Command::InvocationFailed(Box::new(
                InvocationFailed {
                    invocation,
                    error: ByteString::from_static(error),
                    payload: Payload::args(self.encoding, Args { args, kwargs }),
                },
            ))));
    }

    fn result(&mut self, id: RequestId, payload: &Payload, progress: bool) {
        let (_, request) = map::request_of(id);
        if self.oversized.contains(&id) {
            if !progress {
                self.oversized.remove(&id);
                self.answer_does_not_fit(request);
            }
            return;
        }
        let receiver = self.announced.caller;
        if !receiver.opens(payload) {
            // Progress that cannot be read is none; the final result ends the call.
            if !progress {
                let message = "the caller did not announce payload passthru";
                self.say_error(CALL, request, error::FEATURE_NOT_SUPPORTED, message);
            }
            return;
        }
        let mut described = Dict::new();
        passthru::describe(&mut described, payload, receiver);
        let details = match (progress, described.is_empty()) {
            (true, true) => Details::Encoded(progress_details(self.encoding)),
            (false, true) => Details::Empty,
            (progress, false) => {
                if progress {
                    described.insert("progress".into(), true.into());
                }
                Details::Dict(&described)
            }
        };
        let mut made = Tail::EMPTY;
        let tail = passthru::arguments(self.encoding, payload, Passthru::default(), &mut made);
        codec::put_result(self.encoding, &mut self.buffer, request, details, tail);
        match (self.try_send_buffer(), progress) {
            (true, _) => {}
            (false, true) => self.progress_does_not_fit(id),
            (false, false) => self.answer_does_not_fit(request),
        }
    }

    fn call_failed(&mut self, id: RequestId, failure: &CallFailure) {
        let (_, request) = map::request_of(id);
        if self.oversized.remove(&id) {
            return self.answer_does_not_fit(request);
        }
        match failure {
            CallFailure::Realm(refusal) => self.refused(CALL, request, refusal),
            CallFailure::Callee { error, payload } => {
                let receiver = self.announced.caller;
                let mut details = Dict::new();
                // What the caller cannot open is left out; the error itself still tells.
                let tail = if receiver.opens(payload) {
                    passthru::describe(&mut details, payload, receiver);
                    map::tail(self.encoding, payload)
                } else {
                    Tail::EMPTY
                };
                let details = if details.is_empty() {
                    Details::Empty
                } else {
                    Details::Dict(&details)
                };
                if !self.try_say_error((CALL, request), details, error, &tail) {
                    self.answer_does_not_fit(request);
                }
            }
        }
    }

    /// Section "Subscription Revocation": only to those who announced that they understand it.
    fn revoked(&mut self, subscription: SubscriptionId, reason: &str) {
        if self.features.subscription_revocation {
            let revocation = Dict::from_iter([
                ("subscription".to_owned(), subscription.0.into()),
                ("reason".to_owned(), reason.into()),
            ]);
            self.say(
                &Unsubscribed {
                    request: 0,
                    revocation: Some(revocation),
                }
                .into(),
            );
        }
    }

    /// Section "Registration Revocation": only to those who announced that they understand it.
    fn unregistered(&mut self, registration: RegistrationId, reason: &str) {
        if self.features.registration_revocation {
            let revocation = Dict::from_iter([
                ("registration".to_owned(), registration.0.into()),
                ("reason".to_owned(), reason.into()),
            ]);
            self.say(
                &Unregistered {
                    request: 0,
                    revocation: Some(revocation),
                }
                .into(),
            );
        }
    }

    /// The realm ended the session.
    pub(super) fn handle_end(&mut self, now: Now, reason: EndReason) {
        let named = ByteString::from_static;
        match reason {
            EndReason::Killed { reason, message } => {
                self.goodbye(now, reason, message.as_deref());
            }
            EndReason::TakenOver => {
                self.goodbye(
                    now,
                    named(close::KILLED),
                    Some("another connection took over"),
                );
            }
            EndReason::Shutdown => {
                self.goodbye(
                    now,
                    named(close::SYSTEM_SHUTDOWN),
                    Some("the router shuts down"),
                );
            }
            EndReason::RealmClosed => {
                self.goodbye(now, named(close::CLOSE_REALM), Some("the realm is closed"));
            }
            EndReason::Violation(text) => self.violation(text),
            EndReason::TooSlow => {
                let text = "the client reads too slowly: its queue of messages was full";
                self.abort(map::TOO_SLOW, text, (code::POLICY, "too slow"));
            }
            EndReason::StorageUnavailable => {
                let text = "the durable store refuses writes at the moment";
                self.abort(
                    error::UNAVAILABLE,
                    text,
                    (code::GOING_AWAY, "store unavailable"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Gate, Input, JoinedAs, Output};
    use crate::wamp::machine::WampOptions;
    use bytes::Bytes;
    use router_core::model::SessionId;
    use std::time::Instant;

    /// The frames of a session of a client that announced nothing, after these deliveries.
    fn frames_after(deliveries: Vec<Delivery>) -> Vec<Bytes> {
        let now = Now {
            instant: Instant::now(),
            unix_ms: 0,
        };
        let mut machine = WampMachine::new(now, Encoding::Json, WampOptions::default());
        let hello = br#"[1,"realm1",{"roles":{"subscriber":{}}}]"#;
        machine.handle_input(now, Input::Text(Bytes::from_static(hello)));
        assert!(machine.poll_action().is_some());
        let joined = JoinedAs {
            session: SessionId(1),
            realm: "realm1".into(),
            authid: "a".into(),
            role: "r".into(),
            method: "anonymous".into(),
            provider: "p".into(),
        };
        machine.handle_joined(now, Ok(joined));
        for delivery in deliveries {
            machine.handle_delivery(now, delivery);
        }
        let mut frames = Vec::new();
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Text(frame) => frames.push(frame),
                other => panic!("{other:?}"),
            }
        }
        frames
    }

    #[test]
    fn welcome_is_the_first_word_and_waits_for_the_realm() {
        assert!(frames_after(vec![]).is_empty());
        let early = frames_after(vec![Delivery::Interrupt {
            invocation: router_core::model::InvocationId(1),
            answer_wanted: true,
            reason: router_core::model::InterruptReason::Canceled,
        }]);
        assert!(early.is_empty());
        let welcome = frames_after(vec![Delivery::Joined { present: false }]);
        assert!(welcome.len() == 1 && welcome[0].starts_with(b"[2,1,{"));
    }

    #[test]
    fn a_revocation_is_kept_from_clients_that_did_not_announce_it() {
        let revoked = Delivery::Revoked {
            subscription: SubscriptionId(1),
            reason: "x".into(),
        };
        let unregistered = Delivery::Unregistered {
            registration: RegistrationId(1),
            reason: "x".into(),
        };
        let joined = Delivery::Joined { present: false };
        let frames = frames_after(vec![joined, revoked, unregistered]);
        assert_eq!(frames.len(), 1, "WELCOME only");
    }
}
