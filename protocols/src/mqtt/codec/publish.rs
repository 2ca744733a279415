//! PUBLISH, the hot path (5.0 section 3.3): reading it and writing its head.
//!
//! A message that fans out is the same for every receiver but for a few bytes. So the head is
//! written per receiver, from borrowed parts and properties encoded once per message, and the
//! payload follows as the shared `Bytes` it always was.

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};

use super::decode::Limits;
use super::error::{DecodeError, EncodeError};
use super::property::{self, FORWARDED, Place};
use super::property_write::{self, Fields};
use super::reader::Reader;
use super::topic::has_wildcard;
use super::writer::{Sink, count, packet_len};
use crate::mqtt::packet::{
    Direction, PacketId, PacketType, Properties, ProtocolVersion, Publish, QoS,
};
use crate::mqtt::reason::ReasonCode;

/// The flags of the first byte of a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

impl Flags {
    /// Reads the low half of the first byte (5.0 section 3.3.1).
    pub(super) fn read(first: u8) -> Result<Self, DecodeError> {
        let qos = QoS::from_u8((first >> 1) & 3)
            .ok_or(DecodeError::malformed("PUBLISH with QoS 3 [MQTT-3.3.1-4]"))?;
        let flags = Self {
            dup: first & 8 != 0,
            qos,
            retain: first & 1 != 0,
        };
        if flags.dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP with QoS 0 [MQTT-3.3.1-2]"));
        }
        Ok(flags)
    }

    const fn byte(self) -> u8 {
        (PacketType::Publish as u8) << 4
            | (self.dup as u8) << 3
            | (self.qos as u8) << 1
            | self.retain as u8
    }
}

/// Reads the body of a PUBLISH; what properties and topic leave is the payload.
pub(super) fn read(
    flags: Flags,
    mut reader: Reader,
    version: ProtocolVersion,
    direction: Direction,
    limits: &Limits,
) -> Result<Publish, DecodeError> {
    let topic = reader.string()?;
    if has_wildcard(&topic) {
        return Err(DecodeError::peer(
            ReasonCode::TopicNameInvalid,
            "Topic Name contains a wildcard [MQTT-3.3.2-2]",
        ));
    }
    let packet_id = match flags.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
    };
    let properties = if version.is_v5() {
        property::read(&mut reader, Place::Publish, direction, limits)?
    } else {
        None
    };
    let aliased = properties
        .as_ref()
        .is_some_and(|set| set.topic_alias.is_some());
    if topic.is_empty() && !aliased {
        return Err(DecodeError::protocol("empty Topic Name [MQTT-4.7.3-1]"));
    }
    Ok(Publish {
        dup: flags.dup,
        qos: flags.qos,
        retain: flags.retain,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

/// A PUBLISH about to be sent to one of many receivers, without its payload.
#[derive(Debug, Clone, Copy)]
pub struct PublishHead<'a> {
    /// Re-delivery; only with QoS 1 and 2.
    pub dup: bool,
    /// QoS of this delivery.
    pub qos: QoS,
    /// Retain flag of this delivery.
    pub retain: bool,
    /// Topic Name; empty only in 5.0 with a Topic Alias.
    pub topic: &'a str,
    /// Packet Identifier, exactly if QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// Topic Alias of this connection; not written in 3.x.
    pub topic_alias: Option<NonZeroU16>,
    /// Seconds that remain of the Message Expiry Interval; not written in 3.x.
    pub message_expiry_interval: Option<u32>,
    /// Subscription Identifiers of the matching subscriptions; not written in 3.x.
    pub subscription_identifiers: &'a [u32],
    /// Output of [`encode_shared_properties`]; not written in 3.x.
    pub shared_properties: &'a [u8],
    /// Bytes of the payload that will follow.
    pub payload_len: usize,
}

/// The lengths that a head has in a version.
struct Shape {
    /// Bytes of the properties that belong to this receiver.
    own: usize,
    /// Remaining Length.
    remaining: usize,
}

impl PublishHead<'_> {
    /// Bytes of the whole packet, the payload included: compare with Maximum Packet Size.
    ///
    /// # Errors
    /// As [`PublishHead::encode`].
    pub fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        packet_len(self.shape(version)?.remaining)
    }

    /// Appends everything but the payload, which must follow at once.
    ///
    /// # Errors
    /// A field or the packet is too long for MQTT, or the parts contradict each other; nothing
    /// is appended then.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Shape { own, remaining } = self.shape(version)?;
        out.reserve(packet_len(remaining)? - self.payload_len);
        let flags = Flags {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
        };
        out.put_u8(flags.byte());
        out.variable_byte_integer(remaining)?;
        put_start(self.packet_id, self.topic, out)?;
        if version.is_v5() {
            out.variable_byte_integer(own + self.shared_properties.len())?;
            self.write_own_properties(out)?;
            out.put_slice(self.shared_properties);
        }
        Ok(())
    }

    /// Finds every error before the first byte is written.
    fn shape(&self, version: ProtocolVersion) -> Result<Shape, EncodeError> {
        let aliased = version.is_v5() && self.topic_alias.is_some();
        check_start(self.dup, self.qos, self.packet_id, self.topic, aliased)?;
        if self.topic.len() > usize::from(u16::MAX) {
            return Err(EncodeError::FieldTooLong);
        }
        let id = usize::from(self.packet_id.is_some()) * 2;
        let mut shape = Shape {
            own: 0,
            remaining: 2 + self.topic.len() + id + self.payload_len,
        };
        if version.is_v5() {
            shape.own = count(|sink| self.write_own_properties(sink))?;
            let properties = shape.own + self.shared_properties.len();
            let digits = count(|sink| sink.variable_byte_integer(properties))?;
            shape.remaining += digits + properties;
        }
        Ok(shape)
    }

    fn write_own_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        let mut fields = Fields::of_publish(sink);
        fields.u32(0x02, self.message_expiry_interval)?;
        for &id in self.subscription_identifiers {
            fields.subscription_identifier(id)?;
        }
        fields.u16(0x23, self.topic_alias.map(NonZeroU16::get))
    }
}

/// Appends the properties that travel unaltered with a message: Payload Format Indicator, Content
/// Type, Response Topic, Correlation Data and User Properties, for [`PublishHead`]. The other
/// properties of `set` depend on the receiver and are left out.
///
/// # Errors
/// A field is longer than 65,535 bytes or not valid in MQTT; nothing is appended then.
pub fn encode_shared_properties(set: &Properties, out: &mut BytesMut) -> Result<(), EncodeError> {
    let length = count(|sink| property_write::write_fields(set, Place::Publish, !FORWARDED, sink))?;
    out.reserve(length);
    property_write::write_fields(set, Place::Publish, !FORWARDED, out)
}

/// The first byte of this PUBLISH.
pub(super) const fn first_byte(publish: &Publish) -> u8 {
    Flags {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
    }
    .byte()
}

/// Writes everything between fixed header and payload.
pub(super) fn write_head<S: Sink>(
    publish: &Publish,
    version: ProtocolVersion,
    sink: &mut S,
) -> Result<(), EncodeError> {
    let aliased = publish
        .properties
        .as_ref()
        .is_some_and(|set| set.topic_alias.is_some());
    write_start(
        publish.dup,
        publish.qos,
        publish.packet_id,
        &publish.topic,
        aliased && version.is_v5(),
        sink,
    )?;
    if version.is_v5() {
        property_write::write(&publish.properties, Place::Publish, 0, sink)?;
    }
    Ok(())
}

/// Writes topic and identifier, refusing what would be an illegal packet on any wire.
fn write_start<S: Sink>(
    dup: bool,
    qos: QoS,
    packet_id: Option<PacketId>,
    topic: &str,
    aliased: bool,
    sink: &mut S,
) -> Result<(), EncodeError> {
    check_start(dup, qos, packet_id, topic, aliased)?;
    put_start(packet_id, topic, sink)
}

fn put_start<S: Sink>(
    packet_id: Option<PacketId>,
    topic: &str,
    sink: &mut S,
) -> Result<(), EncodeError> {
    sink.binary(topic.as_bytes())?;
    if let Some(id) = packet_id {
        sink.u16(id.get());
    }
    Ok(())
}

fn check_start(
    dup: bool,
    qos: QoS,
    packet_id: Option<PacketId>,
    topic: &str,
    aliased: bool,
) -> Result<(), EncodeError> {
    if dup && qos == QoS::AtMostOnce {
        return Err(EncodeError::Inconsistent("DUP with QoS 0"));
    }
    if packet_id.is_some() != (qos > QoS::AtMostOnce) {
        return Err(EncodeError::Inconsistent(
            "Packet Identifier does not fit the QoS",
        ));
    }
    if !is_topic_name(topic) || (topic.is_empty() && !aliased) {
        return Err(EncodeError::Inconsistent("not a Topic Name"));
    }
    Ok(())
}

/// Whether there is neither a wildcard `[MQTT-3.3.2-2]` nor U+0000 `[MQTT-1.5.4-2]`, which other protocols may let in.
/// Without an early end, so that many bytes are looked at together.
fn is_topic_name(topic: &str) -> bool {
    let is_bad = |byte| matches!(byte, 0 | b'+' | b'#');
    !topic.bytes().fold(false, |bad, byte| bad | is_bad(byte))
}
