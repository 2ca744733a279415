//! One MQTT connection as a state machine (3.1, 3.1.1 and 5.0; 5.0 section 4).
//!
//! Sans-IO: bytes and deliveries go in, actions and bytes come out, time is an argument; the
//! calling order is that of [`crate::gate`]. Actions may also follow from
//! [`Gate::handle_delivery`], so the driver asks for them again after deliveries.
//!
//! Phases: *Connecting* until CONNECT, *Joining* until the realm has answered, *Admitted* until
//! the session is durable and no former connection has it any more (only then CONNACK is sent),
//! *Live*, *Closed*. What a client sends ahead of CONNACK waits undecoded.
//!
//! Invariants:
//! - a session that was joined is left exactly once unless another connection took it over, and
//!   nothing is decoded after the end;
//! - PUBACKs and PUBRECs leave in the order of the PUBLISHes `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`,
//!   SUBACKs and UNSUBACKs in the order of their requests;
//! - everything kept is bounded: unacknowledged PUBLISHes by Receive Maximum (3.x: by the number
//!   of Packet Identifiers), open Topic Filters by [`MAX_OPEN_FILTERS`], input ahead of CONNACK
//!   by the largest packet, Topic Aliases by their maximum, deliveries by the realm's window.

mod connect;
mod filters;
mod incoming;
mod options;
mod outgoing;
mod output;

pub use options::{AssignedIds, MqttCounters, MqttOptions};

use super::codec::{DecodeError, Decoder, Fault, PRE_LOGIN_MAX_BYTES, PeerLimits, encode_within};
use super::inflight::{InOrder, Window};
use super::map;
use super::packet::{Disconnect, Packet, PacketId, Properties, ProtocolVersion};
use super::reason::ReasonCode;
use crate::gate::{Action, Gate, Input, JoinError, JoinedAs, Output};
use bytes::BytesMut;
use bytestring::ByteString;
use connect::Welcome;
use filters::OpenFilters;
use incoming::Incoming;
use options::count;
use output::Outputs;
use router_core::model::{Answer, Command, Delivery, EndReason, Now, Refusal, RequestId};
use router_core::session::Leave;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Topic Filters of unanswered SUBSCRIBEs and UNSUBSCRIBEs of one connection.
const MAX_OPEN_FILTERS: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Joining,
    Admitted,
    Live,
    Closed,
}

/// What a request to the realm was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A QoS 1 PUBLISH, by its place in the order.
    PubAck(u64),
    /// A QoS 2 PUBLISH, by its place in the order.
    PubRec(u64),
    /// A PUBREL.
    PubComp(PacketId),
    /// One filter of a SUBSCRIBE or UNSUBSCRIBE: the packet's place in the order, the filter's in
    /// the packet.
    Filter(u64, u16),
}

const KIND_SHIFT: u32 = 62;
const KIND_MASK: u64 = 3 << KIND_SHIFT;

impl Asked {
    fn request(self) -> RequestId {
        let (kind, rest) = match self {
            Self::PubAck(serial) => (0, serial),
            Self::PubRec(serial) => (1, serial),
            Self::PubComp(id) => (2, u64::from(id.get())),
            Self::Filter(serial, index) => (3, serial << 16 | u64::from(index)),
        };
        RequestId(kind << KIND_SHIFT | rest & !KIND_MASK)
    }

    fn of(request: RequestId) -> Option<Self> {
        let rest = request.0 & !KIND_MASK;
        Some(match request.0 >> KIND_SHIFT {
            0 => Self::PubAck(rest),
            1 => Self::PubRec(rest),
            2 => Self::PubComp(PacketId::new(u16::try_from(rest).ok()?)?),
            _ => Self::Filter(rest >> 16, u16::try_from(rest & 0xFFFF).ok()?),
        })
    }
}

/// One MQTT connection; see the module.
#[derive(Debug)]
pub struct MqttMachine {
    options: MqttOptions,
    decoder: Decoder,
    phase: Phase,
    /// Of the CONNECT; meaningless before it.
    version: ProtocolVersion,
    /// Bytes that could not be decoded when they came, and partial packets of message transports.
    input: BytesMut,
    actions: VecDeque<Action>,
    /// A Join was handed out and is not answered.
    join_open: bool,
    /// The realm has a session for this connection, which must be left.
    joined: bool,
    output: Outputs,
    /// Until when the session must be there.
    login_deadline: Instant,
    /// One and a half Keep Alives; `None`: off.
    patience: Option<Duration>,
    last_packet: Instant,
    /// What the client must be told in CONNACK.
    welcome: Option<Box<Welcome>>,
    /// Session Expiry Interval of the CONNECT, as asked for.
    session_expiry: u32,
    peer: PeerLimits,
    aliases: Vec<Option<ByteString>>,
    pubacks: InOrder<Incoming>,
    pubrecs: InOrder<Incoming>,
    /// QoS 2 identifiers of a 5.0 client between PUBLISH and PUBCOMP, for Receive Maximum.
    unreleased: HashSet<PacketId, foldhash::fast::RandomState>,
    filters: InOrder<OpenFilters>,
    open_filters: usize,
    window: Window,
}

impl MqttMachine {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(now: Now, options: MqttOptions) -> Self {
        Self {
            decoder: Decoder::server(options.codec_limits()),
            phase: Phase::Connecting,
            version: ProtocolVersion::V5,
            input: BytesMut::new(),
            actions: VecDeque::new(),
            join_open: false,
            joined: false,
            output: Outputs::default(),
            login_deadline: now.instant + options.login_timeout,
            patience: None,
            last_packet: now.instant,
            welcome: None,
            session_expiry: 0,
            peer: PeerLimits::default(),
            aliases: Vec::new(),
            pubacks: InOrder::new(),
            pubrecs: InOrder::new(),
            unreleased: HashSet::default(),
            filters: InOrder::new(),
            open_filters: 0,
            window: Window::new(options.outgoing_window.get()),
            options,
        }
    }

    /// Whether the connection is over: only what [`Gate::poll_action`] and [`Gate::poll_output`]
    /// still have is left to be done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Decodes and acts while the phase allows it.
    fn consume(&mut self, now: Now, bytes: &mut BytesMut) {
        while matches!(self.phase, Phase::Connecting | Phase::Live) {
            match self.decoder.decode(bytes) {
                Ok(Some(packet)) => {
                    self.last_packet = now.instant;
                    self.packet(now, packet);
                }
                Ok(None) => break,
                Err(error) => self.undecodable(&error),
            }
        }
        if self.phase == Phase::Closed {
            bytes.clear();
        }
    }

    fn packet(&mut self, now: Now, packet: Packet) {
        match packet {
            Packet::Connect(connect) => self.connect(&connect),
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubRel(ack) => self.pubrel(ack.packet_id),
            Packet::PubAck(ack) => self.puback(now, ack.packet_id),
            Packet::PubRec(ack) => self.pubrec(now, &ack),
            Packet::PubComp(ack) => self.pubcomp(now, ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::PingReq => self.send(&Packet::PingResp),
            Packet::Disconnect(disconnect) => self.disconnect(&disconnect),
            // The decoder lets an AUTH of 5.0 through; without Authentication Method in CONNECT it
            // is forbidden [MQTT-4.12.0-6], and with one nobody is let in.
            Packet::Auth(_) => self.violation("AUTH without enhanced authentication"),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.violation("packet sent in the wrong direction");
            }
        }
    }

    /// Client DISCONNECT (5.0 section 3.14): 0x00 forgets the will `[MQTT-3.14.4-3]`, any other
    /// reason publishes it, and the client may change its Session Expiry Interval.
    fn disconnect(&mut self, disconnect: &Disconnect) {
        let set = disconnect.properties.as_deref();
        if let Some(seconds) = set.and_then(|set| set.session_expiry_interval) {
            if self.session_expiry == 0 && seconds != 0 {
                self.violation("Session Expiry Interval raised from 0 in DISCONNECT");
                return;
            }
            let expiry = seconds.min(self.options.max_session_expiry_secs);
            self.command(Command::SetExpiry(Duration::from_secs(expiry.into())));
        }
        if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION {
            self.command(Command::DisarmLastWill);
            self.end(Leave::Clean, 1000, "the client disconnected");
        } else {
            self.end(Leave::Lost, 1000, "the client disconnected");
        }
    }

    fn undecodable(&mut self, error: &DecodeError) {
        count(match error.fault {
            Fault::Peer => &self.options.counters.malformed,
            Fault::Limit => &self.options.counters.over_limit,
        });
        if self.phase == Phase::Connecting {
            if let Some(version) = error.reply_version {
                self.version = version;
                self.refuse(error.reason, error.message);
            } else {
                self.refuse_silently(map::close_code(error.reason), error.message);
            }
        } else {
            self.fail(error.reason, error.message);
        }
    }

    /// The client did what the state forbids (0x82).
    fn violation(&mut self, message: &'static str) {
        self.broken(ReasonCode::ProtocolError, message);
    }

    /// The client broke a rule that has a reason code of its own.
    fn broken(&mut self, reason: ReasonCode, message: &'static str) {
        count(&self.options.counters.protocol_errors);
        self.fail(reason, message);
    }

    /// Ends a live connection from our side: 5.0 is told why `[MQTT-4.13.1-1]`, 3.x knows no
    /// DISCONNECT from the server. The will is published `[MQTT-3.1.2-8]`.
    fn fail(&mut self, reason: ReasonCode, message: &'static str) {
        if self.phase == Phase::Live && self.version.is_v5() {
            let properties = Properties {
                reason_string: Some(ByteString::from_static(message)),
                ..Properties::default()
            };
            let packet = Packet::Disconnect(Disconnect {
                reason,
                properties: properties.into_optional(),
            });
            // A client that takes no packet of this size is closed without a word, which the
            // standard allows for errors.
            let _ = encode_within(&packet, self.version, &self.peer, self.output.batch());
        }
        self.end(Leave::Lost, map::close_code(reason), message);
    }

    /// The end, whoever caused it.
    fn end(&mut self, how: Leave, code: u16, reason: &'static str) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.joined {
            self.actions.push_back(Action::Leave(how));
        } else if !self.join_open {
            // A Join that was not handed out yet is not worth making.
            self.actions.clear();
        }
        self.phase = Phase::Closed;
        self.output.close(code, reason);
        self.input = BytesMut::new();
        self.aliases = Vec::new();
        self.welcome = None;
    }

    fn command(&mut self, command: Command) {
        self.actions.push_back(Action::Command(command));
    }

    /// Sends a packet in a form the client takes; one it cannot take at all ends the connection,
    /// because leaving an answer out would leave the client waiting.
    fn send(&mut self, packet: &Packet) {
        let sent = encode_within(packet, self.version, &self.peer, self.output.batch());
        if sent.is_err() {
            self.fail(
                ReasonCode::ImplementationSpecificError,
                "an answer does not fit the client's Maximum Packet Size",
            );
        }
    }

    fn done(&mut self, request: RequestId, answer: &Answer) {
        match (Asked::of(request), answer) {
            (Some(Asked::PubAck(serial)), Answer::Published { matched, .. }) => {
                self.published(serial, false, *matched);
            }
            (Some(Asked::PubRec(serial)), Answer::Published { matched, .. }) => {
                self.published(serial, true, *matched);
            }
            (Some(Asked::PubComp(id)), Answer::Released(known)) => self.released(id, *known),
            (Some(Asked::Filter(serial, index)), Answer::Subscribed { qos, .. }) => {
                let granted = ReasonCode::granted(map::qos(*qos));
                self.filter_answered(serial, index, granted);
            }
            (Some(Asked::Filter(serial, index)), Answer::Unsubscribed) => {
                self.filter_answered(serial, index, ReasonCode::Success);
            }
            _ => self.unexpected_answer(),
        }
    }

    fn refused(&mut self, request: RequestId, refusal: &Refusal) {
        match Asked::of(request) {
            Some(Asked::PubAck(serial)) => self.publish_refused(serial, false, refusal),
            Some(Asked::PubRec(serial)) => self.publish_refused(serial, true, refusal),
            Some(Asked::PubComp(id)) => self.released(id, false),
            Some(Asked::Filter(serial, index)) => self.filter_refused(serial, index, refusal.kind),
            None => self.unexpected_answer(),
        }
    }

    /// The realm answered what was not asked: a defect of the router, which one client pays for.
    fn unexpected_answer(&mut self) {
        self.fail(ReasonCode::UnspecifiedError, "internal error");
    }

    fn ended(&mut self, reason: &EndReason) {
        let (code, message) = map::end_reason(reason);
        if *reason == EndReason::TakenOver {
            // The session is its successor's: there is nothing to leave, and letting go of it
            // before the DISCONNECT is out would let two connections live [MQTT-3.1.4-3].
            self.joined = false;
        }
        match self.phase {
            Phase::Live => self.fail(code, message),
            // No DISCONNECT before CONNACK [MQTT-3.14.0-1].
            _ if *reason == EndReason::TakenOver => {
                self.refuse_silently(map::close_code(code), message);
            }
            _ => self.refuse(ReasonCode::ServerUnavailable, message),
        }
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        self.last_packet.checked_add(self.patience?)
    }

    /// Takes over what waits ahead of CONNACK, within bounds.
    fn keep_input(&mut self, bytes: &mut BytesMut) {
        if self.input.is_empty() {
            self.input = bytes.split();
        } else {
            self.input.extend_from_slice(bytes);
            bytes.clear();
        }
        let most = self.options.max_packet_bytes.max(PRE_LOGIN_MAX_BYTES);
        if self.input.len() > most {
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
        if self.phase == Phase::Closed {
            if let Input::Stream(buffer) = input {
                buffer.clear();
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
                Phase::Joining | Phase::Admitted => {
                    self.refuse(ReasonCode::ServerUnavailable, "the server shuts down");
                }
                _ => self.fail(ReasonCode::ServerShuttingDown, "the server shuts down"),
            },
        }
    }

    fn handle_joined(&mut self, now: Now, result: Result<JoinedAs, JoinError>) {
        self.join_open = false;
        match (self.phase, result) {
            (Phase::Joining, Ok(_)) => {
                self.joined = true;
                self.last_packet = now.instant;
                self.phase = Phase::Admitted;
            }
            (Phase::Joining, Err(error)) => {
                self.refuse(map::connect_reason(&error), "the client is not let in");
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
        match (self.phase, delivery) {
            (Phase::Admitted, Delivery::Joined { present }) => {
                self.welcome(now, present);
                let mut waiting = std::mem::take(&mut self.input);
                self.consume(now, &mut waiting);
                self.input = waiting;
            }
            (Phase::Admitted | Phase::Live, Delivery::Ended(reason)) => self.ended(&reason),
            (Phase::Live, Delivery::Event(event)) => self.event(now, event),
            (Phase::Live, Delivery::ReleaseAgain { slot }) => self.release_again(slot),
            (Phase::Live, Delivery::Done { request, answer }) => self.done(request, &answer),
            (Phase::Live, Delivery::Refused { request, refusal }) => {
                self.refused(request, &refusal);
            }
            // A session without registrations and calls gets none of the rest, and MQTT cannot
            // say that the router ended a subscription.
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
            Phase::Joining | Phase::Admitted => {
                count(&self.options.counters.login_timeouts);
                self.refuse(ReasonCode::ServerUnavailable, "the session took too long");
            }
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        if self.join_open {
            return None;
        }
        let action = self.actions.pop_front();
        self.join_open = matches!(action, Some(Action::Join(_)));
        action
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting | Phase::Joining | Phase::Admitted => Some(self.login_deadline),
            Phase::Live => self.keep_alive_deadline(),
            Phase::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_they_were_made_for() {
        let id = PacketId::new(65_535).expect("not zero");
        for asked in [
            Asked::PubAck(0),
            Asked::PubAck(1 << 40),
            Asked::PubRec(7),
            Asked::PubComp(id),
            Asked::Filter(1 << 40, 65_535),
            Asked::Filter(0, 0),
        ] {
            assert_eq!(Asked::of(asked.request()), Some(asked));
        }
        assert_eq!(
            Asked::of(RequestId(2 << 62)),
            None,
            "no Packet Identifier 0"
        );
    }
}
