//! `mqtt-protocol-core`: 3.1.1 and 5.0, the packet layer of a sans-IO protocol machine.
//!
//! Packets are framed by its `PacketBuilder` and read by the parsers its connections use. Writing
//! goes through its builders, from our values, because a packet it has read keeps the bytes.

mod property;
mod v3;
mod v5;

use bytes::Bytes;
use bytestring::ByteString;
use mqtt_protocol_core::mqtt::common::{Arc, Cursor};
use mqtt_protocol_core::mqtt::connection::{
    PacketBuildResult, PacketBuilder, PacketData, RawPacket,
};
use mqtt_protocol_core::mqtt::packet::Qos;
use mqtt_protocol_core::mqtt::result_code::MqttError;
use protocols::mqtt::packet::{Packet, PacketType, ProtocolVersion, QoS};
use protocols::mqtt::reason::ReasonCode;

use crate::harness::{MAX_BYTES, Name, Oracle, Reading};

/// The oracle.
pub struct ProtocolCore;

impl Oracle for ProtocolCore {
    fn name(&self) -> Name {
        Name::ProtocolCore
    }

    fn knows(&self, version: ProtocolVersion) -> bool {
        version != ProtocolVersion::V3_1
    }

    fn read(&self, version: ProtocolVersion, bytes: &[u8]) -> Reading {
        let mut builder = PacketBuilder::with_maximum_packet_size(MAX_BYTES as u32);
        let raw = match builder.feed(&mut Cursor::new(bytes)) {
            PacketBuildResult::Complete(raw) => raw,
            PacketBuildResult::Incomplete => return Reading::Incomplete,
            PacketBuildResult::Error(error) => return Reading::Refused(error.to_string()),
        };
        let Some(kind) = PacketType::from_u8(raw.packet_type()) else {
            return Reading::Refused(String::from("packet type 0"));
        };
        let packet = if version.is_v5() {
            v5::read(kind, &raw)
        } else {
            v3::read(kind, &raw)
        };
        match packet {
            Ok(packet) => Reading::Accepted(packet),
            Err(error) => Reading::Refused(error.to_string()),
        }
    }

    fn write(
        &self,
        version: ProtocolVersion,
        packet: &Packet,
        _bytes: &[u8],
    ) -> Result<Vec<u8>, String> {
        if version.is_v5() {
            v5::write(packet)
        } else {
            v3::write(packet)
        }
        .map_err(|error| error.to_string())
    }
}

/// The body of a PUBLISH, which their framing keeps apart.
fn shared(raw: &RawPacket) -> Arc<[u8]> {
    match &raw.data {
        PacketData::Publish(body) => body.clone(),
        PacketData::Normal(body) => Arc::from(&body[..]),
    }
}

fn text(string: &str) -> ByteString {
    ByteString::from(string)
}

fn blob(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn our_qos(value: Qos) -> QoS {
    match value {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

const fn their_qos(value: QoS) -> Qos {
    match value {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// Their enumeration of the codes of one packet.
fn code<C: TryFrom<u8>>(reason: ReasonCode) -> Result<C, MqttError> {
    code_of(reason.value())
}

fn code_of<C: TryFrom<u8>>(value: u8) -> Result<C, MqttError> {
    C::try_from(value).map_err(|_| MqttError::ValueOutOfRange)
}
