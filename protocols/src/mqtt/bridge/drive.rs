//! The calls of the driver: input, answers, deliveries and deadlines, by phase.

use super::{BridgeMachine, End, Phase};
use crate::gate::{Action, Gate, Input, JoinError, JoinedAs, Output};
use crate::mqtt::packet::Packet;
use crate::mqtt::reason::ReasonCode;
use bytes::BytesMut;
use router_core::model::{Delivery, EndReason, Now};
use router_core::session::Leave;
use std::time::Instant;

impl BridgeMachine {
    fn handle_stream(&mut self, now: Now, buffer: &mut BytesMut) {
        if !self.input.is_empty() {
            self.input.extend_from_slice(buffer);
            buffer.clear();
            std::mem::swap(buffer, &mut self.input);
        }
        self.consume(now, buffer);
        if self.phase == Phase::Joining && !buffer.is_empty() {
            self.input = buffer.split();
            if self.input.len() > self.options.max_packet_bytes.saturating_mul(2) {
                let message = "too much was sent behind CONNACK";
                self.broken(ReasonCode::QuotaExceeded, message);
            }
        }
    }

    /// The peer or the network is gone.
    fn gone(&mut self) {
        self.end(match self.phase {
            Phase::Connecting => End::ClosedEarly,
            _ => End::Closed,
        });
    }

    /// A PINGREQ is due, or its answer.
    fn check_life(&mut self, now: Now) {
        if self.ping_overdue().is_some_and(|at| at <= now.instant) {
            self.end(End::Silent);
        } else if self.ping_due().is_some_and(|at| at <= now.instant) {
            self.last_ping = now.instant;
            self.pinged = self.pinged.or(Some(now.instant));
            self.send(&Packet::PingReq);
        }
    }

    fn ping_due(&self) -> Option<Instant> {
        self.last_ping.checked_add(self.ping_interval?)
    }

    fn ping_overdue(&self) -> Option<Instant> {
        self.pinged?.checked_add(self.options.answer_timeout)
    }
}

impl Gate for BridgeMachine {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        if self.phase == Phase::Closed {
            if let Input::Stream(buffer) = input {
                buffer.clear();
            }
            return;
        }
        match input {
            Input::Stream(buffer) => self.handle_stream(now, buffer),
            Input::Binary(bytes) => {
                let mut bytes = BytesMut::from(bytes);
                self.handle_stream(now, &mut bytes);
                if self.phase != Phase::Closed && !bytes.is_empty() {
                    self.input = bytes;
                }
            }
            Input::Text(_) => self.broken(ReasonCode::ProtocolError, "MQTT is binary"),
            Input::Closed => self.gone(),
            Input::Drain => {
                if matches!(self.phase, Phase::Joining | Phase::Live) {
                    self.announce(b"0");
                    self.farewell(ReasonCode::NORMAL_DISCONNECTION);
                }
                self.end(End::Drained);
            }
        }
    }

    fn handle_joined(&mut self, now: Now, result: Result<JoinedAs, JoinError>) {
        match (self.phase, result) {
            (Phase::Joining, Ok(_)) => {
                self.joined = true;
                self.phase = Phase::Live;
                // A peer that has our session may have sent messages right behind CONNACK.
                let mut waiting = std::mem::take(&mut self.input);
                self.consume(now, &mut waiting);
                self.input = waiting;
            }
            (Phase::Joining, Err(_)) => {
                self.farewell(ReasonCode::ImplementationSpecificError);
                self.end(End::SessionEnded);
            }
            // The connection ended in the meantime.
            (_, Ok(_)) if !self.joined => {
                self.joined = true;
                self.actions.push_back(Action::Leave(Leave::Lost));
            }
            _ => {}
        }
    }

    fn handle_delivery(&mut self, now: Now, delivery: Delivery) {
        if self.phase != Phase::Live {
            return;
        }
        match delivery {
            Delivery::Joined { present } => self.entered(now, present),
            Delivery::Event(event) => self.event(now, event),
            Delivery::Release { slot } => self.release_delivered(slot),
            Delivery::Done { request, answer } => {
                self.done(request, &answer);
                self.look_if_cleared(now);
            }
            Delivery::Refused { request, refusal } => self.refused(request, &refusal),
            // Here only the connection ends: what was not stored is the peer's to send again.
            Delivery::Ended(EndReason::StorageUnavailable) => {
                self.farewell(ReasonCode::ImplementationSpecificError);
                self.end(End::NotTaken);
            }
            Delivery::Ended(_) => {
                self.farewell(ReasonCode::AdministrativeAction);
                self.end(End::SessionEnded);
            }
            // A session without registrations and calls gets none of the rest.
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.deadline.is_some_and(|at| at <= now.instant) {
            self.end(End::Silent);
        } else if matches!(self.phase, Phase::Joining | Phase::Live) {
            self.check_life(now);
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let life = match self.phase {
            Phase::Connecting => [None, None],
            Phase::Joining | Phase::Live => [self.ping_due(), self.ping_overdue()],
            Phase::Closed => return None,
        };
        life.into_iter().chain([self.deadline]).flatten().min()
    }
}
