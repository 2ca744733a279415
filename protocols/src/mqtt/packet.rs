//! The MQTT Control Packets as values: one model for 3.1, 3.1.1 and 5.0 (5.0 section 3).
//!
//! Names are the standard's. A 3.x packet is the same value with `properties: None` and reason
//! [`ReasonCode::Success`]; nothing here knows how bytes look.
//!
//! Invariants: strings hold no U+0000, a packet identifier is never zero, values that the
//! standard forbids (Receive Maximum 0, Topic Alias 0, QoS 3) cannot be expressed. The decoder
//! never produces an empty `Some(Properties)`; an absent and an empty property block are `None`.
//!
//! Strings and payloads are slices of the read buffer. A slice keeps the whole buffer alive, so
//! whatever is stored or queued for long is copied out first: see the `detach` methods.

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;

pub use super::properties::{OptProperties, Properties};
use super::reason::ReasonCode;

/// Packet Identifier: 1 to 65,535, unique among the packets in flight in one direction.
pub type PacketId = NonZeroU16;

/// The protocol version a connection speaks, fixed by its CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// The Protocol Level byte of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// The Protocol Name of CONNECT.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }

    /// Whether packets carry properties and reason codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

/// Who sent the bytes; some packets and properties are legal in one direction only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by a client, read by the server.
    ClientToServer,
    /// Sent by the server, read by a client.
    ServerToClient,
}

/// Quality of Service of a message or the maximum of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    /// QoS 0: at most once, no acknowledgement.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once, PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: exactly once, PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; `None` for 3 and above.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// MQTT Control Packet type, the high half of the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the standard's, section 2.1.2")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type with this number; `None` for 0 and above 15.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

/// One MQTT Control Packet of any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Connection request, the first packet of a client. Boxed: rare and large.
    Connect(Box<Connect>),
    /// Connection acknowledgement, the first packet of the server (AUTH may precede it in 5.0).
    ConnAck(ConnAck),
    /// Publish message.
    Publish(Publish),
    /// QoS 1 publish acknowledgement.
    PubAck(Ack),
    /// QoS 2 publish received, part 1.
    PubRec(Ack),
    /// QoS 2 publish release, part 2.
    PubRel(Ack),
    /// QoS 2 publish complete, part 3.
    PubComp(Ack),
    /// Subscribe request.
    Subscribe(Subscribe),
    /// Subscribe acknowledgement.
    SubAck(SubAck),
    /// Unsubscribe request.
    Unsubscribe(Unsubscribe),
    /// Unsubscribe acknowledgement.
    UnsubAck(UnsubAck),
    /// PING request.
    PingReq,
    /// PING response.
    PingResp,
    /// Disconnect notification; 3.x servers never send it.
    Disconnect(Disconnect),
    /// Authentication exchange, 5.0 only.
    Auth(Auth),
}

impl Packet {
    /// The Control Packet type of this packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Bytes that must not reach a log: passwords and authentication data. `Debug` prints the length.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// CONNECT (5.0 section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Version asked for; the packet is encoded in it.
    pub version: ProtocolVersion,
    /// Clean Start; in 3.x Clean Session.
    pub clean_start: bool,
    /// Keep Alive in seconds, 0 switches it off.
    pub keep_alive: u16,
    /// Client Identifier, possibly empty.
    pub client_id: ByteString,
    /// Will Message.
    pub will: Option<Will>,
    /// User Name.
    pub username: Option<ByteString>,
    /// Password; in 5.0 possible without a user name.
    pub password: Option<Secret>,
    /// Properties of the connection; those of the will are in [`Will::properties`].
    pub properties: OptProperties,
}

/// The Will Message of a CONNECT (5.0 sections 3.1.2.5 and 3.1.3.2 to 3.1.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// QoS the will is published with.
    pub qos: QoS,
    /// Whether the will is retained.
    pub retain: bool,
    /// Topic Name the will is published to; never empty, no wildcards.
    pub topic: ByteString,
    /// Payload of the will.
    pub payload: Bytes,
    /// Will Properties, among them Will Delay Interval.
    pub properties: OptProperties,
}

/// CONNACK (5.0 section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    /// Session Present; false whenever the reason is an error `[MQTT-3.2.2-6]`.
    pub session_present: bool,
    /// Connect Reason Code; in 3.x a return code, see [`ReasonCode::connect_return_code`].
    pub reason: ReasonCode,
    /// Properties, 5.0 only.
    pub properties: OptProperties,
}

/// PUBLISH (5.0 section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Re-delivery of an earlier attempt; always false with QoS 0 `[MQTT-3.3.1-2]`.
    pub dup: bool,
    /// QoS of this delivery.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Topic Name without wildcards; empty only in 5.0 with a Topic Alias.
    pub topic: ByteString,
    /// Packet Identifier, present exactly if QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// Properties, 5.0 only.
    pub properties: OptProperties,
    /// Application Message.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (5.0 sections 3.4 to 3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The identifier acknowledged.
    pub packet_id: PacketId,
    /// Reason Code; 3.x has none and reads as Success.
    pub reason: ReasonCode,
    /// Reason String and User Properties, 5.0 only.
    pub properties: OptProperties,
}

impl Ack {
    /// A plain success, the four-byte form on the wire.
    #[must_use]
    pub const fn success(packet_id: PacketId) -> Self {
        Self::with_reason(packet_id, ReasonCode::Success)
    }

    /// An acknowledgement with a reason and no properties.
    #[must_use]
    pub const fn with_reason(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: None,
        }
    }
}

/// SUBSCRIBE (5.0 section 3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet Identifier, answered by SUBACK.
    pub packet_id: PacketId,
    /// Subscription Identifier and User Properties, 5.0 only.
    pub properties: OptProperties,
    /// At least one Topic Filter `[MQTT-3.8.3-2]`; its syntax is not checked by the decoder, see
    /// [`validate_filter`](super::codec::validate_filter).
    pub filters: Vec<SubscribeFilter>,
}

/// One Topic Filter of a SUBSCRIBE and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// The Topic Filter as sent, `$share/…` included.
    pub filter: ByteString,
    /// Subscription Options.
    pub options: SubscriptionOptions,
}

/// Subscription Options (5.0 section 3.8.3.1); 3.x has the QoS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// Maximum QoS of messages sent for this subscription.
    pub maximum_qos: QoS,
    /// No Local: do not forward to the client that published.
    pub no_local: bool,
    /// Retain As Published: keep the RETAIN flag of forwarded messages.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription (5.0 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RetainHandling {
    /// 0: at the time of the subscribe. The behaviour of 3.x.
    #[default]
    SendAtSubscribe = 0,
    /// 1: only if the subscription does not exist yet.
    SendIfNew = 1,
    /// 2: never at the time of the subscribe.
    DoNotSend = 2,
}

/// SUBACK (5.0 section 3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Reason String and User Properties, 5.0 only.
    pub properties: OptProperties,
    /// One code per filter, in order. Any error becomes 0x80 in 3.x.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE (5.0 section 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet Identifier, answered by UNSUBACK.
    pub packet_id: PacketId,
    /// User Properties, 5.0 only.
    pub properties: OptProperties,
    /// At least one Topic Filter `[MQTT-3.10.3-2]`, compared character by character.
    pub filters: Vec<ByteString>,
}

/// UNSUBACK (5.0 section 3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Reason String and User Properties, 5.0 only.
    pub properties: OptProperties,
    /// One code per filter in order; 3.x has no payload and reads as empty.
    pub reasons: Vec<ReasonCode>,
}

/// DISCONNECT (5.0 section 3.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Disconnect Reason Code; 3.x has none and reads as Normal disconnection (0x00).
    pub reason: ReasonCode,
    /// Properties, 5.0 only.
    pub properties: OptProperties,
}

/// AUTH (5.0 section 3.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Success (server), Continue authentication (both) or Re-authenticate (client).
    pub reason: ReasonCode,
    /// Authentication Method and Data, Reason String and User Properties.
    pub properties: OptProperties,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let connect = Connect {
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: ByteString::from("c"),
            will: None,
            username: None,
            password: Some(Secret(Bytes::from_static(b"hunter2"))),
            properties: None,
        };
        let text = format!("{connect:?}");
        assert!(text.contains("Secret(7 bytes)"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("104, 117"),
            "{text}"
        );
    }

    #[test]
    fn numbers_outside_the_tables_have_no_type() {
        assert_eq!(QoS::from_u8(3), None);
        assert_eq!(PacketType::from_u8(0), None);
        assert_eq!(PacketType::from_u8(16), None);
        for number in 1..=15 {
            assert_eq!(PacketType::from_u8(number).map(|t| t as u8), Some(number));
        }
    }
}
