//! One connection to another MQTT server as a state machine: this side is the client (5.0 section
//! 4, 3.1.1 where the peer speaks no 5.0).
//!
//! Sans-IO and a [`Gate`](crate::gate::Gate) like the machine of the other direction, so the same
//! driver does its I/O. Towards the realm the bridge is one durable client: its subscriptions are
//! the rules that lead out, its queue is what waits while the peer is away, its receipts are the
//! QoS 2 messages of the peer. What the realm must remember across connections and restarts is
//! there, nothing of it here.
//!
//! Phases: *Connecting* until CONNACK, *Joining* until the realm has answered, *Live*, *Closed*.
//! Once the session is there its subscriptions are made, then those at the peer; when the peer has
//! answered these, messages of QoS 1 and 2 flow out.
//!
//! Invariants:
//! - a message of the peer is acknowledged after the realm has it, durably where that is promised,
//!   in the order of the PUBLISHes `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`; what the realm cannot take
//!   now is not acknowledged and the connection ends;
//! - a message of the realm is settled when every copy is acknowledged;
//! - everything kept is bounded: unacknowledged PUBLISHes by the number of Packet Identifiers,
//!   deliveries by the realm's window, input ahead of the join by one read.

mod asked;
mod backoff;
mod connect;
mod drive;
mod exchange;
mod incoming;
mod ladder;
mod options;
mod outgoing;
mod rules;
pub mod via;

pub use backoff::Backoff;
pub use connect::local_subscriptions;
pub use ladder::{Dialect, Ladder, Versions};
pub use options::{BridgeCounters, BridgeOptions, End, Note};
pub use rules::{Direction, MAX_RULES, Rule, RuleError, Rules};

use super::codec::{DecodeError, Decoder, PeerLimits, encode_within};
use super::inflight::InOrder;
use super::machine::output::Outputs;
use super::map;
use super::packet::{Disconnect, Packet, PacketId, Properties, ProtocolVersion, QoS};
use super::reason::ReasonCode;
use crate::gate::Action;
use asked::Asked;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use connect::{Clearing, Wanted};
use exchange::Exchanges;
use incoming::{Incoming, Releasing};
use router_core::model::{Answer, Command, Delivery, Now, Refusal, RequestId};
use router_core::session::Leave;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Takes what happened, for the log and the status.
pub type Report = Box<dyn FnMut(Note) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Joining,
    Live,
    Closed,
}

/// What the peer takes and does, from its CONNACK.
#[derive(Debug)]
struct Peer {
    limits: PeerLimits,
    maximum_qos: QoS,
    retain_available: bool,
    wildcards_available: bool,
    identifiers_available: bool,
    /// Its router id, if it is one of us.
    id: Option<ByteString>,
}

/// One connection to the peer; see the module.
pub struct BridgeMachine {
    options: Arc<BridgeOptions>,
    counters: Arc<BridgeCounters>,
    report: Report,
    dialect: Dialect,
    version: ProtocolVersion,
    phase: Phase,
    decoder: Decoder,
    /// What came behind CONNACK while the realm had not answered.
    input: BytesMut,
    actions: VecDeque<Action>,
    joined: bool,
    output: Outputs,
    peer: Peer,
    session_present: bool,
    /// By when CONNACK, or the last SUBACK, must be there.
    deadline: Option<Instant>,
    /// Between two PINGREQs; `None`: off.
    ping_interval: Option<Duration>,
    last_ping: Instant,
    /// Since when an answer to PINGREQ is due.
    pinged: Option<Instant>,
    /// Receipts to be forgotten because the peer has forgotten its session.
    clearing: Option<Clearing>,
    /// SUBSCRIBEs and UNSUBSCRIBEs without answer.
    wanted: HashMap<PacketId, Wanted>,
    /// Subscription Identifiers tell which filters a message matched.
    uses_identifiers: bool,
    is_flowing: bool,
    pubacks: InOrder<Incoming>,
    pubrecs: InOrder<Incoming>,
    /// QoS 2 identifiers of the peer between PUBLISH and PUBCOMP.
    unreleased: HashSet<PacketId, foldhash::fast::RandomState>,
    releasing: HashMap<PacketId, Releasing, foldhash::fast::RandomState>,
    exchanges: Exchanges,
    /// Deliveries with slots that must wait, in order.
    held: VecDeque<Delivery>,
    /// This router's [`via::VIA`] as it stands on the wire.
    own_via: Bytes,
}

impl BridgeMachine {
    /// A connection that was just opened; the first output is CONNECT.
    #[must_use]
    pub fn new(
        now: Now,
        options: Arc<BridgeOptions>,
        dialect: Dialect,
        counters: Arc<BridgeCounters>,
        report: Report,
    ) -> Self {
        let version = dialect.version();
        let mut machine = Self {
            decoder: Decoder::client(version, options.codec_limits()),
            dialect,
            version,
            phase: Phase::Connecting,
            input: BytesMut::new(),
            actions: VecDeque::new(),
            joined: false,
            output: Outputs::default(),
            peer: Peer {
                limits: PeerLimits::default(),
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
                wildcards_available: true,
                identifiers_available: version.is_v5(),
                id: None,
            },
            session_present: false,
            deadline: now.instant.checked_add(options.answer_timeout),
            ping_interval: None,
            last_ping: now.instant,
            pinged: None,
            clearing: None,
            wanted: HashMap::new(),
            uses_identifiers: false,
            is_flowing: false,
            pubacks: InOrder::new(),
            pubrecs: InOrder::new(),
            unreleased: HashSet::default(),
            releasing: HashMap::default(),
            exchanges: Exchanges::new(options.outgoing_window.get(), options.rules.copies_out()),
            held: VecDeque::new(),
            own_via: outgoing::encoded_via(&options.router_id),
            options,
            counters,
            report,
        };
        machine.connect();
        machine
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Decodes and acts while the phase allows it.
    fn consume(&mut self, now: Now, bytes: &mut BytesMut) {
        while matches!(self.phase, Phase::Connecting | Phase::Live) {
            if self.phase == Phase::Connecting && self.is_refused_in_3_1_1(bytes) {
                break;
            }
            match self.decoder.decode(bytes) {
                Ok(Some(packet)) => {
                    self.pinged = None;
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
        if self.phase == Phase::Connecting {
            match packet {
                Packet::ConnAck(ack) => self.conn_ack(now, &ack),
                _ => self.broken(ReasonCode::ProtocolError, "a packet ahead of CONNACK"),
            }
            return;
        }
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubRel(ack) => self.pubrel(ack.packet_id),
            Packet::PubAck(ack) => self.puback(now, &ack),
            Packet::PubRec(ack) => self.pubrec(now, &ack),
            Packet::PubComp(ack) => self.pubcomp(now, ack.packet_id),
            Packet::SubAck(ack) => self.sub_ack(now, &ack),
            Packet::UnsubAck(ack) => self.answered(now, ack.packet_id),
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => self.end(End::Disconnected(disconnect.reason)),
            Packet::ConnAck(_)
            | Packet::Auth(_)
            | Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => {
                self.broken(ReasonCode::ProtocolError, "a packet no server sends here");
            }
        }
    }

    fn undecodable(&mut self, error: &DecodeError) {
        self.broken(error.reason, error.message);
    }

    /// The peer broke a rule or a limit: it is told in 5.0, then the connection ends
    /// `[MQTT-4.13.1-1]`.
    fn broken(&mut self, reason: ReasonCode, message: &'static str) {
        self.farewell(reason);
        self.end(End::Broken(reason, message));
    }

    /// DISCONNECT, where a reason can be given. 3.1.1 can only say that all is well, which would
    /// delete the will.
    fn farewell(&mut self, reason: ReasonCode) {
        let may_say = self.version.is_v5() || reason == ReasonCode::NORMAL_DISCONNECTION;
        if !may_say || !matches!(self.phase, Phase::Joining | Phase::Live) {
            return;
        }
        let packet = Packet::Disconnect(Disconnect {
            reason,
            properties: None,
        });
        // A peer that takes no packet of this size is closed without a word.
        let batch = self.output.batch();
        let _ = encode_within(&packet, self.version, &self.peer.limits, batch);
    }

    /// The end, whoever caused it.
    fn end(&mut self, end: End) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.joined {
            self.actions.push_back(Action::Leave(Leave::Lost));
        } else {
            self.actions.clear();
        }
        self.phase = Phase::Closed;
        let code = match end {
            End::Broken(reason, _) => map::close_code(reason),
            _ => 1000,
        };
        self.output.close(code, end.name());
        self.input = BytesMut::new();
        self.held.clear();
        (self.report)(Note::Ended {
            dialect: self.dialect,
            end,
        });
    }

    fn command(&mut self, command: Command) {
        self.actions.push_back(Action::Command(command));
    }

    /// Sends a packet in a form the peer takes; one it cannot take at all ends the connection.
    fn send(&mut self, packet: &Packet) {
        let batch = self.output.batch();
        if encode_within(packet, self.version, &self.peer.limits, batch).is_err() {
            let message = "a packet does not fit the peer's Maximum Packet Size";
            self.broken(ReasonCode::ImplementationSpecificError, message);
        }
    }

    fn done(&mut self, request: RequestId, answer: &Answer) {
        match (Asked::of(request), answer) {
            (Some(Asked::PubAck(serial)), Answer::Published { .. }) => self.taken(serial, false),
            (Some(Asked::PubRec(serial)), Answer::Published { .. }) => self.taken(serial, true),
            (Some(Asked::PubComp(id)), Answer::Released(known)) => self.released(id, *known),
            (Some(Asked::Clear), Answer::Released(_)) => self.cleared(),
            (Some(Asked::Filter(_)), Answer::Subscribed { .. }) => {}
            _ => self.end(End::SessionEnded),
        }
    }

    fn refused(&mut self, request: RequestId, refusal: &Refusal) {
        match Asked::of(request) {
            Some(Asked::PubAck(serial)) => self.turned_down(serial, false, refusal.kind),
            Some(Asked::PubRec(serial)) => self.turned_down(serial, true, refusal.kind),
            Some(Asked::Filter(place)) => {
                let filters = self.options.rules.local_filters();
                if let Some((filter, _)) = filters.into_iter().nth(place) {
                    (self.report)(Note::NotSubscribed { filter });
                }
            }
            // What cannot be forgotten durably now is tried again on the next connection.
            Some(Asked::PubComp(_) | Asked::Clear) => self.end(End::NotTaken),
            None => self.end(End::SessionEnded),
        }
    }
}

impl End {
    /// A few words for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VersionRefused => "the peer does not speak this version",
            Self::Refused => "the peer refused the connection",
            Self::ClosedEarly => "the peer closed instead of CONNACK",
            Self::Closed => "the connection is gone",
            Self::Disconnected(_) => "the peer disconnected",
            Self::Silent => "the peer did not answer in time",
            Self::Broken(_, message) => message,
            Self::NotTaken => "a message could not be taken now",
            Self::SessionEnded => "the session on this side was ended",
            Self::Drained => "this router shuts down",
        }
    }
}

impl std::fmt::Debug for BridgeMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BridgeMachine")
            .field("dialect", &self.dialect)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// The `Properties` of a packet that has none.
fn no_properties() -> &'static Properties {
    static NONE: std::sync::LazyLock<Properties> = std::sync::LazyLock::new(Properties::default);
    &NONE
}
