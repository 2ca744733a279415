//! Writing the packets of the hot path without a detour: the two-byte acknowledgements, and the
//! head of a PUBLISH whose payload is sent as it is.

use bytes::{BufMut, BytesMut};

use super::error::EncodeError;
use super::publish;
use super::writer::{Sink, count, packet_len};
use crate::mqtt::packet::{PacketId, ProtocolVersion, Publish};

/// Appends a PUBLISH without its payload, which must follow at once.
///
/// # Errors
/// As [`encode`](super::encode).
pub fn encode_publish_head(
    publish: &Publish,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let head = count(|sink| publish::write_head(publish, version, sink))?;
    let remaining = head + publish.payload.len();
    out.reserve(packet_len(remaining)? - publish.payload.len());
    out.put_u8(publish::first_byte(publish));
    out.variable_byte_integer(remaining)?;
    publish::write_head(publish, version, out)
}

/// Appends a PUBACK with Success, the same four bytes in every version.
pub fn encode_puback(packet_id: PacketId, out: &mut BytesMut) {
    short_ack(0x40, packet_id, out);
}

/// Appends a PUBREC with Success, the same four bytes in every version.
pub fn encode_pubrec(packet_id: PacketId, out: &mut BytesMut) {
    short_ack(0x50, packet_id, out);
}

/// Appends a PUBREL with Success, the same four bytes in every version.
pub fn encode_pubrel(packet_id: PacketId, out: &mut BytesMut) {
    short_ack(0x62, packet_id, out);
}

/// Appends a PUBCOMP with Success, the same four bytes in every version.
pub fn encode_pubcomp(packet_id: PacketId, out: &mut BytesMut) {
    short_ack(0x70, packet_id, out);
}

fn short_ack(first: u8, packet_id: PacketId, out: &mut BytesMut) {
    let [high, low] = packet_id.get().to_be_bytes();
    out.put_slice(&[first, 2, high, low]);
}
