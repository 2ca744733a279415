//! One MQTT connection as a state machine (3.1, 3.1.1 and 5.0; 5.0 section 4).
//!
//! Sans-IO: bytes and deliveries go in, actions and bytes come out, time is an argument; the
//! calling order is that of [`crate::gate`]. Actions may also follow from
//! [`Gate::handle_delivery`](crate::gate::Gate::handle_delivery), so the driver asks for them again after deliveries, and the
//! last one, to leave, from [`Gate::poll_output`](crate::gate::Gate::poll_output).
//!
//! Phases: *Connecting* until CONNECT, *Joining* until the realm has answered, *Challenged* while
//! the client owes the AUTH that the realm asked for, *Admitted* until the session is durable and
//! no former connection has it any more (only then CONNACK is sent), *Live*, *Closed*. What a
//! client sends ahead of CONNACK waits undecoded, but for AUTH while it is challenged.
//!
//! Invariants:
//! - a session that was joined is left exactly once unless another connection took it over, and
//!   nothing is decoded after the end;
//! - what came whole ahead of a fault is carried out, and what is answered at once is answered
//!   ahead of the DISCONNECT, behind which nothing may follow `[MQTT-3.14.4-1]`;
//! - PUBACKs and PUBRECs leave in the order of the PUBLISHes `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`,
//!   SUBACKs and UNSUBACKs in the order of their requests;
//! - everything kept is bounded: unacknowledged PUBLISHes by Receive Maximum (3.x: by the number
//!   of Packet Identifiers), open Topic Filters by `MAX_OPEN_FILTERS`, input ahead of CONNACK
//!   by the largest packet, Topic Aliases by their maximum, deliveries by the realm's window, calls
//!   by the realm's bound.

mod aliases;
mod asked;
mod auth;
mod connect;
mod drive;
mod filters;
mod incoming;
mod options;
mod outgoing;
pub(super) mod output;
mod plain;
mod rpc;

pub use options::{AssignedIds, MqttCounters, MqttOptions, ResponseInformation};

use super::codec::{DecodeError, Decoder, Fault, PeerLimits, encode_within};
use super::inflight::{InOrder, Unreleased, Window};
use super::map;
use super::packet::{Disconnect, Packet, Properties, ProtocolVersion};
use super::reason::ReasonCode;
use crate::gate::Action;
use aliases::OutgoingAliases;
use asked::Asked;
use auth::Exchange;
use bytes::BytesMut;
use bytestring::ByteString;
use connect::Welcome;
use filters::OpenFilters;
use incoming::Incoming;
use options::count;
use output::Outputs;
use plain::KnownTopics;
use router_core::model::{Answer, Command, EndReason, Now, Refusal, RequestId};
use router_core::session::Leave;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Topic Filters of unanswered SUBSCRIBEs and UNSUBSCRIBEs of one connection.
const MAX_OPEN_FILTERS: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Joining,
    Challenged,
    Admitted,
    Live,
    Closed,
}

/// One MQTT connection; see the module.
#[derive(Debug)]
pub struct MqttMachine {
    options: Arc<MqttOptions>,
    decoder: Decoder,
    phase: Phase,
    /// Of the CONNECT; meaningless before it.
    version: ProtocolVersion,
    /// Bytes that could not be decoded when they came, and partial packets of message transports.
    input: BytesMut,
    actions: VecDeque<Action>,
    /// A fault of the client that ends the connection with the next output.
    verdict: Option<Box<(ReasonCode, &'static str)>>,
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
    /// Present if the CONNECT named an Authentication Method.
    exchange: Option<Box<Exchange>>,
    aliases: Vec<Option<ByteString>>,
    known_topics: KnownTopics,
    outgoing_aliases: OutgoingAliases,
    /// Deliveries the realm dropped of which the client has not been told.
    lost: u32,
    pubacks: InOrder<Incoming>,
    pubrecs: InOrder<Incoming>,
    /// QoS 2 identifiers of a 5.0 client between PUBLISH and PUBCOMP, for Receive Maximum.
    unreleased: Unreleased,
    filters: InOrder<OpenFilters>,
    open_filters: usize,
    window: Window,
    calls: rpc::Calls,
}

impl MqttMachine {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(now: Now, options: impl Into<Arc<MqttOptions>>) -> Self {
        let options = options.into();
        Self {
            decoder: Decoder::server(options.codec_limits()).until_login(options.max_connect_bytes),
            phase: Phase::Connecting,
            version: ProtocolVersion::V5,
            input: BytesMut::new(),
            actions: VecDeque::new(),
            verdict: None,
            joined: false,
            output: Outputs::default(),
            login_deadline: now.instant + options.login_timeout,
            patience: None,
            last_packet: now.instant,
            welcome: None,
            session_expiry: 0,
            peer: PeerLimits::default(),
            exchange: None,
            aliases: Vec::new(),
            known_topics: KnownTopics::default(),
            outgoing_aliases: OutgoingAliases::default(),
            lost: 0,
            pubacks: InOrder::new(),
            pubrecs: InOrder::new(),
            unreleased: Unreleased::default(),
            filters: InOrder::new(),
            open_filters: 0,
            window: Window::new(options.outgoing_window.get()),
            calls: rpc::Calls::default(),
            options,
        }
    }

    /// Whether the connection is over: only what `poll_action` and `poll_output`
    /// still have is left to be done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Decodes and acts while the phase allows it.
    fn consume(&mut self, now: Now, bytes: &mut BytesMut) {
        while self.verdict.is_none()
            && matches!(
                self.phase,
                Phase::Connecting | Phase::Challenged | Phase::Live
            )
        {
            self.refuse_out_of_turn(bytes);
            if self.phase == Phase::Closed {
                break;
            }
            self.plain_acks(now, bytes);
            self.plain_publishes(now, bytes);
            if self.hears_nothing() || bytes.is_empty() {
                break;
            }
            match self.decoder.decode(bytes) {
                Ok(Some(packet)) => {
                    self.last_packet = now.instant;
                    self.packet(now, packet);
                }
                Ok(None) => break,
                Err(error) => self.undecodable(&error),
            }
        }
        if self.hears_nothing() {
            bytes.clear();
        }
    }

    /// Whether the end is certain, so that nothing the client sends matters any more.
    fn hears_nothing(&self) -> bool {
        self.phase == Phase::Closed || self.verdict.is_some()
    }

    fn packet(&mut self, now: Now, packet: Packet) {
        match packet {
            Packet::Connect(connect) => self.connect(&connect),
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubRel(ack) => self.pubrel(ack.packet_id),
            Packet::PubAck(ack) => self.puback(now, ack.packet_id),
            Packet::PubRec(ack) => self.pubrec(now, ack.packet_id, ack.reason),
            Packet::PubComp(ack) => self.pubcomp(now, ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::PingReq => self.send(&Packet::PingResp),
            Packet::Disconnect(disconnect) => self.disconnect(&disconnect),
            Packet::Auth(auth) => self.auth(&auth),
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
            self.condemn(error.reason, error.message);
        }
    }

    /// The client sent what decodes and yet is no packet of the standard (0x81).
    fn malformed(&mut self, message: &'static str) {
        count(&self.options.counters.malformed);
        self.condemn(ReasonCode::MalformedPacket, message);
    }

    /// The client did what the state forbids (0x82).
    fn violation(&mut self, message: &'static str) {
        self.broken(ReasonCode::ProtocolError, message);
    }

    /// The client broke a rule that has a reason code of its own.
    fn broken(&mut self, reason: ReasonCode, message: &'static str) {
        count(&self.options.counters.protocol_errors);
        self.condemn(reason, message);
    }

    /// Ends the connection for what the client sent, once what it sent before was carried out and
    /// the answers that need no disk are there. Others are not waited for: the client sends those
    /// messages again, as after every connection that broke.
    fn condemn(&mut self, reason: ReasonCode, message: &'static str) {
        if self.phase == Phase::Live && !self.actions.is_empty() {
            self.verdict = Some(Box::new((reason, message)));
        } else {
            self.fail(reason, message);
        }
    }

    /// Ends a live connection from our side: 5.0 is told why `[MQTT-4.13.1-1]`, 3.x knows no
    /// DISCONNECT from the server. The will is published `[MQTT-3.1.2-8]`. A client that is being
    /// challenged has no CONNACK yet and gets that instead `[MQTT-3.14.0-1]`.
    fn fail(&mut self, reason: ReasonCode, message: &'static str) {
        if self.phase == Phase::Challenged {
            return self.refuse(reason, message);
        }
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
        } else {
            // A Join that was not handed out yet is not worth making.
            self.actions.clear();
        }
        self.phase = Phase::Closed;
        self.verdict = None;
        self.output.close(code, reason);
        self.input = BytesMut::new();
        self.aliases = Vec::new();
        self.outgoing_aliases = OutgoingAliases::default();
        self.exchange = None;
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
            (Some(Asked::Call(number)), Answer::Repeated) => self.calls.forget(number),
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
            Some(Asked::Filter(serial, index)) => self.filter_refused(serial, index, refusal),
            Some(Asked::Call(_)) | None => self.unexpected_answer(),
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
}
