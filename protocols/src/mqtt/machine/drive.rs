//! The calls of the driver: input, answers, deliveries and deadlines, by phase.

use super::options::count;
use super::{MqttMachine, Phase};
use crate::gate::{Action, Authentication, Gate, Input, JoinError, JoinedAs, Output};
use crate::mqtt::map;
use crate::mqtt::reason::ReasonCode;
use bytes::BytesMut;
use router_core::model::{Delivery, Now};
use router_core::session::Leave;
use std::collections::VecDeque;
use std::time::Instant;

impl MqttMachine {
    /// Takes over what waits ahead of CONNACK, within bounds.
    fn keep_input(&mut self, bytes: &mut BytesMut) {
        if self.input.is_empty() {
            self.input = bytes.split();
        } else {
            self.input.extend_from_slice(bytes);
            bytes.clear();
        }
        let input = std::mem::take(&mut self.input);
        self.refuse_out_of_turn(&input);
        let most = self.options.max_packet_bytes;
        if self.phase == Phase::Closed {
            return;
        }
        let is_too_much = input.len() > most.max(self.options.max_connect_bytes);
        self.input = input;
        if is_too_much {
            count(&self.options.counters.over_limit);
            let message = "too much was sent ahead of CONNACK";
            self.refuse(ReasonCode::QuotaExceeded, message);
        }
    }

    fn handle_stream(&mut self, now: Now, buffer: &mut BytesMut) {
        if !self.input.is_empty() {
            self.input.extend_from_slice(buffer);
            buffer.clear();
            std::mem::swap(buffer, &mut self.input);
        }
        self.consume(now, buffer);
        if matches!(self.phase, Phase::Joining | Phase::Admitted) && !buffer.is_empty() {
            self.keep_input(buffer);
        }
    }

    fn handle_binary(&mut self, now: Now, mut bytes: BytesMut) {
        // Packets may be split over frames and joined in them [MQTT-6.0.0-2].
        self.handle_stream(now, &mut bytes);
        if self.phase != Phase::Closed && !bytes.is_empty() {
            self.input = bytes;
        }
    }
}

impl Gate for MqttMachine {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        if self.hears_nothing() {
            match input {
                Input::Stream(buffer) => buffer.clear(),
                Input::Closed => self.end(Leave::Lost, 1000, "the connection is gone"),
                _ => {}
            }
            return;
        }
        match input {
            Input::Stream(buffer) => self.handle_stream(now, buffer),
            Input::Binary(bytes) => self.handle_binary(now, bytes.into()),
            Input::Text(_) => {
                count(&self.options.counters.protocol_errors);
                // [MQTT-6.0.0-1]
                self.fail(ReasonCode::ProtocolError, "MQTT takes binary frames only");
            }
            Input::Closed => self.end(Leave::Lost, 1000, "the connection is gone"),
            Input::Drain => match self.phase {
                Phase::Joining | Phase::Challenged | Phase::Admitted => {
                    self.refuse(ReasonCode::ServerUnavailable, "the server shuts down");
                }
                _ => self.fail(ReasonCode::ServerShuttingDown, "the server shuts down"),
            },
        }
    }

    fn handle_joined(&mut self, now: Now, result: Result<JoinedAs, JoinError>) {
        match (self.phase, result) {
            (Phase::Joining, Ok(_)) => {
                self.joined = true;
                self.last_packet = now.instant;
                self.phase = Phase::Admitted;
            }
            (Phase::Joining, Err(error)) => {
                let reason = if self.exchange.is_some() {
                    map::proof_refused(&error)
                } else {
                    map::connect_reason(&error)
                };
                self.refuse(reason, "the client is not let in");
            }
            // The connection ended in the meantime.
            (_, Ok(_)) if !self.joined => {
                self.joined = true;
                self.actions.push_back(Action::Leave(Leave::Lost));
            }
            _ => {}
        }
    }

    fn handle_authentication(&mut self, now: Now, step: Authentication) {
        self.authentication(now, step);
    }

    fn handle_delivery(&mut self, now: Now, delivery: Delivery) {
        let is_live = self.phase == Phase::Live;
        let is_admitted = self.phase == Phase::Admitted;
        match delivery {
            Delivery::Joined { present } if is_admitted => {
                self.welcome(now, present);
                let mut waiting = std::mem::take(&mut self.input);
                self.consume(now, &mut waiting);
                self.input = waiting;
            }
            Delivery::Ended(reason) if is_admitted || is_live => self.ended(&reason),
            _ if !is_live => {}
            Delivery::Event(event) => self.event(now, event),
            Delivery::Release { slot } => self.release_delivered(slot),
            Delivery::Done { request, answer } => self.done(request, &answer),
            Delivery::Refused { request, refusal } => self.refused(request, &refusal),
            Delivery::Result {
                request,
                payload,
                progress,
            } => self.call_result(request, &payload, progress),
            Delivery::CallFailed { request, failure } => self.call_failed(request, &failure),
            // A session without registrations gets none of the rest, and MQTT cannot say that the
            // router ended a subscription.
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
        match self.phase {
            Phase::Closed => {}
            Phase::Live => {
                count(&self.options.counters.keep_alive_timeouts);
                // [MQTT-3.1.2-22], [MQTT-3.1.2-24] of 3.1.1
                self.fail(
                    ReasonCode::KeepAliveTimeout,
                    "nothing came for 1.5 Keep Alives",
                );
            }
            Phase::Connecting => {
                count(&self.options.counters.login_timeouts);
                self.refuse_silently(1008, "no CONNECT came in time");
            }
            Phase::Challenged => {
                count(&self.options.counters.login_timeouts);
                self.refuse(ReasonCode::NotAuthorized, "no AUTH came in time");
            }
            Phase::Joining | Phase::Admitted => {
                count(&self.options.counters.login_timeouts);
                self.refuse(ReasonCode::ServerUnavailable, "the session took too long");
            }
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        // Nothing is decoded while a Join is open, so nothing can be behind it.
        self.actions.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output> {
        if let Some((reason, message)) = self.verdict.take().map(|verdict| *verdict) {
            self.fail(reason, message);
        }
        self.output.poll()
    }

    fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    fn rest(&mut self) {
        if self.actions.is_empty() {
            self.actions = VecDeque::new();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.unreleased.rest();
        self.known_topics.rest();
        self.calls.rest();
        self.output.rest();
        self.pubacks.rest();
        self.pubrecs.rest();
        self.filters.rest();
        self.window.rest();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting | Phase::Joining | Phase::Challenged | Phase::Admitted => {
                Some(self.login_deadline)
            }
            Phase::Live => self.keep_alive_deadline(),
            Phase::Closed => None,
        }
    }
}
