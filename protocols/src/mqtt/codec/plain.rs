//! The commonest packets, read where they lie: a PUBLISH without properties, and acknowledgements that say no more than
//! what they acknowledge.

use std::ops::Range;

use super::decode::Decoder;
use super::publish::Flags;
use super::reader::variable_byte_integer;
use crate::mqtt::packet::{Direction, PacketId, PacketType, ProtocolVersion, QoS};

/// Bytes of an acknowledgement without reason and properties.
pub const ACK_BYTES: usize = 4;

/// A PUBLISH that [`Decoder::plain_publish`] found; its topic is as sent and not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPublish<'a> {
    /// Re-delivery of an earlier attempt.
    pub dup: bool,
    /// QoS of this delivery.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// The bytes of the Topic Name, at least one: to be compared with those of a checked one.
    pub topic: &'a [u8],
    /// Packet Identifier, present exactly if QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// Where the Application Message lies, counted from the start of the packet; it ends with it.
    pub payload: Range<usize>,
}

impl Decoder {
    /// The packet at the front of `bytes` if it is a whole PUBLISH from a client that is logged in, breaks no rule but
    /// those of Topic Names, and has neither properties nor an empty topic. `None` says nothing about it:
    /// [`Decoder::decode`] does. Whoever takes it removes its bytes.
    #[must_use]
    pub fn plain_publish<'a>(&self, bytes: &'a [u8]) -> Option<PlainPublish<'a>> {
        let version = self.plain_version()?;
        let (&first, rest) = bytes.split_first()?;
        if first >> 4 != PacketType::Publish as u8 {
            return None;
        }
        let flags = Flags::read(first).ok()?;
        let (remaining, digits) = variable_byte_integer(rest).ok()??;
        let header = 1 + digits;
        let end = header + remaining as usize;
        if !self.takes(end) {
            return None;
        }
        let body = bytes.get(header..end)?;
        let (length, body) = body.split_first_chunk::<2>()?;
        let (topic, mut body) = body.split_at_checked(u16::from_be_bytes(*length).into())?;
        if topic.is_empty() {
            return None;
        }
        let mut packet_id = None;
        if flags.qos != QoS::AtMostOnce {
            let (id, behind) = body.split_first_chunk::<2>()?;
            packet_id = Some(PacketId::new(u16::from_be_bytes(*id))?);
            body = behind;
        }
        if version.is_v5() {
            body = body.strip_prefix(&[0])?;
        }
        Some(PlainPublish {
            dup: flags.dup,
            qos: flags.qos,
            retain: flags.retain,
            topic,
            packet_id,
            payload: end - body.len()..end,
        })
    }

    /// The acknowledgement at the front of `bytes` if it is a whole one from a client that is logged in and has the form
    /// of [`ACK_BYTES`] bytes, the same in every version, which means success. `None` says nothing about it.
    #[must_use]
    pub fn plain_ack(&self, bytes: &[u8]) -> Option<(PacketType, PacketId)> {
        let &[first, 2, high, low] = bytes.first_chunk::<ACK_BYTES>()? else {
            return None;
        };
        let kind = match first {
            0x40 => PacketType::PubAck,
            0x50 => PacketType::PubRec,
            0x62 => PacketType::PubRel,
            0x70 => PacketType::PubComp,
            _ => return None,
        };
        let id = PacketId::new(u16::from_be_bytes([high, low]))?;
        let is_taken = self.plain_version().is_some() && self.takes(ACK_BYTES);
        is_taken.then_some((kind, id))
    }

    fn plain_version(&self) -> Option<ProtocolVersion> {
        let may_be_plain = self.direction() == Direction::ClientToServer && self.is_reading();
        self.version().filter(|_| may_be_plain)
    }
}
