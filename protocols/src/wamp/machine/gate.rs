//! The seam to the driver: what comes in, when, and what goes out.

use super::known::Known;
use super::{State, WampMachine, code, output};
use crate::gate::{Action, Gate, Input, JoinError, JoinedAs, Output};
use crate::wamp::auth;
use crate::wamp::uris::{close, error};
use bytes::BytesMut;
use bytestring::ByteString;
use router_core::model::{Delivery, Now};
use router_core::session::Leave;
use std::collections::VecDeque;
use std::time::Instant;

impl Gate for WampMachine {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Text(frame) => self.handle_frame(now, frame, true),
            Input::Binary(frame) => self.handle_frame(now, frame, false),
            Input::Stream(buffer) => {
                buffer.clear();
                if !matches!(self.state, State::Closed) {
                    self.violation("a byte stream where messages are expected");
                }
            }
            Input::Closed => self.end(Leave::Lost),
            Input::Drain => {
                let reason = ByteString::from_static(close::SYSTEM_SHUTDOWN);
                self.goodbye(now, reason, Some("the router shuts down"));
            }
        }
    }

    fn handle_more(&mut self, now: Now) -> bool {
        let has_more = self.unread.is_some();
        self.take_unread(now);
        has_more
    }

    fn has_input(&self) -> bool {
        self.unread.is_some()
    }

    fn handle_joined(&mut self, _now: Now, result: Result<JoinedAs, JoinError>) {
        match (&self.state, result) {
            (State::Joining { deadline }, Ok(joined)) => {
                let (deadline, joined) = (*deadline, Box::new(joined));
                self.state = State::Welcoming { deadline, joined };
            }
            (State::Joining { .. }, Err(refused)) => {
                let reason = auth::join_error_uri(&refused);
                let closing = (code::NORMAL, "the session was refused");
                self.abort(reason, &refused.to_string(), closing);
            }
            // The connection ended while it was being admitted.
            (_, Ok(_)) => self.actions.push_front(Action::Leave(Leave::Lost)),
            (_, Err(_)) => {}
        }
    }

    fn handle_delivery(&mut self, now: Now, delivery: Delivery) {
        // Most are events, which need not be moved about.
        if let (State::Established, Delivery::Event(event)) = (&self.state, &delivery) {
            return self.event(now, event);
        }
        match (&mut self.state, delivery) {
            (State::Welcoming { joined, .. }, Delivery::Joined { .. }) => {
                let details = auth::welcome_details(joined, &self.options.agent);
                let session = joined.session.0;
                if self.welcome(session, details) {
                    self.state = State::Established;
                }
            }
            (State::Established | State::Welcoming { .. }, Delivery::Ended(reason)) => {
                self.handle_end(now, reason);
            }
            (State::Established, delivery) => self.handle_established(now, delivery),
            // What the realm still had for a session that said goodbye.
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if self
            .poll_timeout()
            .is_none_or(|deadline| now.instant < deadline)
        {
            return;
        }
        match self.state {
            State::Opening { again: true, .. } => {
                self.close(Leave::Lost, (code::NORMAL, "no further HELLO"));
            }
            State::ShuttingDown { .. } => {
                self.close(Leave::Lost, (code::GOING_AWAY, "no GOODBYE in time"));
            }
            _ => {
                let text = "the session was not established in time";
                self.abort(error::TIMEOUT, text, (code::POLICY, "login timeout"));
            }
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        // While a join is not answered there is nothing: whatever is said then ends the connection.
        self.actions.pop_front()
    }

    fn take_messages(&mut self, take: &mut dyn FnMut(&[u8], bool)) {
        self.take_ready(take);
    }

    fn poll_output(&mut self) -> Option<Output> {
        if let Some(message) = self.next_ready() {
            return Some(output(self.encoding, message));
        }
        if self.outputs.is_empty() {
            self.send_gathered();
        }
        self.outputs.pop_front()
    }

    fn rest(&mut self) {
        if self.actions.is_empty() {
            self.actions = VecDeque::new();
        }
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        if self.ready.is_empty() {
            (self.buffer, self.ready) = (BytesMut::new(), VecDeque::new());
        }
        self.known = Known::default();
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.rest();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Opening { deadline, .. }
            | State::Authenticating { deadline, .. }
            | State::Joining { deadline }
            | State::Welcoming { deadline, .. }
            | State::ShuttingDown { deadline } => Some(deadline),
            State::Established | State::Closed => None,
        }
    }
}
