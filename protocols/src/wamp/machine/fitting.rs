//! What the peer can take: transports with a limit (RawSocket) may not be sent more.
//!
//! An EVENT that does not fit is dropped for this peer, counted, and told of with the next one
//! (`x_lost`). Whoever waits for what does not fit gets `wamp.error.payload_size_exceeded`: the
//! caller of an INVOCATION, of a RESULT or of a callee's ERROR. What only says too much for a
//! person is said in fewer words.

use super::{WampMachine, after, code, details_with, shortened};
use crate::gate::Action;
use crate::wamp::auth;
use crate::wamp::codec::{self, Details};
use crate::wamp::map;
use crate::wamp::message::{Abort, Dict, Goodbye, Message, Payload as Tail, Welcome};
use crate::wamp::uris::error;
use bytestring::ByteString;
use router_core::model::{CancelMode, Command, InvocationId, Now, RequestId};
use router_core::session::Leave;
use std::sync::atomic::{AtomicU64, Ordering};

/// Type code of CALL, in ERROR.
const CALL: u64 = 48;

/// What happened on all connections with the same options.
#[derive(Debug, Default)]
pub struct WampCounters {
    /// Events dropped because the receiver does not take messages of that length.
    pub events_too_large: AtomicU64,
    /// Calls that failed because the caller or the callee does not take messages of that length.
    pub calls_too_large: AtomicU64,
}

impl WampCounters {
    /// Name, help text and value of every counter, for exposition.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            (
                "events_too_large",
                "Events dropped because the receiver does not take messages of that length",
                read(&self.events_too_large),
            ),
            (
                "calls_too_large",
                "Calls that failed because a peer does not take messages of that length",
                read(&self.calls_too_large),
            ),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl WampMachine {
    /// Sends a message that the protocol cannot do without.
    pub(super) fn say(&mut self, message: &Message) {
        if !self.try_say(message) {
            self.cannot_tell();
        }
    }

    /// Sends a message; answers whether the peer takes one of its length.
    pub(super) fn try_say(&mut self, message: &Message) -> bool {
        let frame = message.encode(self.encoding);
        self.buffer.extend_from_slice(&frame);
        self.try_send_buffer()
    }

    /// Sends what was encoded into the buffer, which the protocol cannot do without.
    pub(super) fn send_buffer(&mut self) {
        if !self.try_send_buffer() {
            self.cannot_tell();
        }
    }

    /// Sends what was encoded into the buffer; answers whether the peer takes that much.
    pub(super) fn try_send_buffer(&mut self) -> bool {
        let made = self.buffer.len() - self.ready_bytes;
        let fits = made <= self.options.peer_bytes_max;
        match fits {
            true => self.send_made(),
            false => self.buffer.truncate(self.ready_bytes),
        }
        fits
    }

    /// Without this message the client would be wrong about its session.
    fn cannot_tell(&mut self) {
        if !matches!(self.state, super::State::Closed) {
            let closing = (code::TOO_BIG, "the client takes too short messages");
            self.close(Leave::Lost, closing);
        }
    }

    /// Says WELCOME, without the features where they are too long; answers whether it was said.
    pub(super) fn welcome(&mut self, session: u64, mut details: Dict) -> bool {
        let full = Welcome {
            session,
            details: details.clone(),
        };
        if self.try_say(&full.into()) {
            return true;
        }
        auth::without_features(&mut details);
        let is_said = self.try_say(&Welcome { session, details }.into());
        if !is_said {
            let text = "the client takes shorter messages than WELCOME";
            let closing = (code::TOO_BIG, "the client takes too short messages");
            self.abort(error::PAYLOAD_SIZE_EXCEEDED, text, closing);
        }
        is_said
    }

    /// Says ABORT, without words for a person where they are too long.
    pub(super) fn say_abort(&mut self, reason: &str, message: &str) {
        let abort = |message| {
            let (details, payload) = (details_with(message), Tail::EMPTY);
            let reason = ByteString::from(reason);
            Abort {
                details,
                reason,
                payload,
            }
            .into()
        };
        if !self.try_say(&abort(Some(message))) {
            let _ = self.try_say(&abort(None));
        }
    }

    /// Says GOODBYE, without words for a person where they are too long, and waits for the answer.
    pub(super) fn say_goodbye(&mut self, now: Now, reason: ByteString, message: Option<&str>) {
        let goodbye = |message| {
            let (details, reason) = (details_with(message), reason.clone());
            Goodbye { details, reason }.into()
        };
        if !self.try_say(&goodbye(message)) {
            self.say(&goodbye(None));
        }
        if !matches!(self.state, super::State::Closed) {
            let deadline = after(now, self.options.goodbye_timeout);
            self.state = super::State::ShuttingDown { deadline };
        }
    }

    /// Answers a request with an ERROR, without words for a person where they are too long.
    pub(super) fn say_error(&mut self, code: u64, request: u64, error: &str, message: &str) {
        let tail = map::message_tail(self.encoding, shortened(message));
        let request = (code, request);
        if !self.try_say_error(request, Details::Empty, error, &tail)
            && !self.try_say_error(request, Details::Empty, error, &Tail::EMPTY)
        {
            self.cannot_tell();
        }
    }

    /// The same with any details and arguments; answers whether the peer takes that much.
    pub(super) fn try_say_error(
        &mut self,
        request: (u64, u64),
        details: Details<'_>,
        error: &str,
        tail: &Tail,
    ) -> bool {
        let (encoding, out) = (self.encoding, &mut self.buffer);
        codec::put_error(encoding, out, request, details, error, tail);
        self.try_send_buffer()
    }

    /// The EVENT in hand does not fit; `before` are those lost just before it.
    pub(super) fn event_does_not_fit(&mut self, before: u64) {
        count(&self.options.counters.events_too_large);
        self.lost = before + 1;
    }

    /// The callee does not take the INVOCATION: its call has failed.
    pub(super) fn invocation_does_not_fit(&mut self, invocation: InvocationId) {
        count(&self.options.counters.calls_too_large);
        let message = "the callee does not take messages of that length";
        self.fail_invocation(invocation, error::PAYLOAD_SIZE_EXCEEDED, message);
    }

    /// The caller does not take the end of its call, a RESULT or an ERROR.
    pub(super) fn answer_does_not_fit(&mut self, request: u64) {
        count(&self.options.counters.calls_too_large);
        let message = "the answer is longer than the caller takes";
        self.say_error(CALL, request, error::PAYLOAD_SIZE_EXCEEDED, message);
    }

    /// The caller does not take a progressive result: the call is withdrawn, and fails when the
    /// realm has let go of its request.
    pub(super) fn progress_does_not_fit(&mut self, request: RequestId) {
        if self.oversized.insert(request) {
            self.actions.push_back(Action::Command(Command::Cancel {
                request,
                mode: CancelMode::KillNoWait,
            }));
        }
    }
}
