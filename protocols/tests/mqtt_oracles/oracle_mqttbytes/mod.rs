//! `mqttbytes`: 3.1.1, and a 5.0 that was never finished.

mod v3;
mod v5;

use std::cell::Cell;

use bytes::BytesMut;
use bytestring::ByteString;
use mqttbytes::Error;
use protocols::mqtt::packet::{Packet, PacketId, PacketType, ProtocolVersion, QoS};

use crate::harness::{MAX_BYTES, Name, Oracle, Reading};

/// The UNSUBSCRIBEs of 5.0 it is shown in one run: it prints a line for each on standard error.
const PRINTED: u32 = 200;

/// The oracle.
#[derive(Default)]
pub struct Mqttbytes {
    printed: Cell<u32>,
}

impl Oracle for Mqttbytes {
    fn name(&self) -> Name {
        Name::Mqttbytes
    }

    fn knows(&self, version: ProtocolVersion) -> bool {
        version != ProtocolVersion::V3_1
    }

    fn is_spared(&self, version: ProtocolVersion, kind: Option<PacketType>) -> bool {
        if !version.is_v5() || kind != Some(PacketType::Unsubscribe) {
            return false;
        }
        self.printed.set(self.printed.get() + 1);
        self.printed.get() > PRINTED
    }

    fn read(&self, version: ProtocolVersion, bytes: &[u8]) -> Reading {
        let mut bytes = BytesMut::from(bytes);
        if version.is_v5() {
            reading(mqttbytes::v5::read(&mut bytes, MAX_BYTES), v5::translated)
        } else {
            reading(mqttbytes::v4::read(&mut bytes, MAX_BYTES), v3::translated)
        }
    }

    /// The packet they read from the same bytes.
    fn write(
        &self,
        version: ProtocolVersion,
        _packet: &Packet,
        bytes: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut bytes = BytesMut::from(bytes);
        let mut out = BytesMut::new();
        if version.is_v5() {
            mqttbytes::v5::read(&mut bytes, MAX_BYTES)
                .and_then(|packet| v5::write(&packet, &mut out))
        } else {
            mqttbytes::v4::read(&mut bytes, MAX_BYTES)
                .and_then(|packet| v3::write(&packet, &mut out))
        }
        .map_err(|error| error.to_string())?;
        Ok(out.to_vec())
    }
}

fn reading<P>(outcome: Result<P, Error>, translated: fn(&P) -> Option<Packet>) -> Reading {
    match outcome {
        Ok(packet) => Reading::Accepted(translated(&packet)),
        Err(Error::InsufficientBytes(_)) => Reading::Incomplete,
        Err(error) => Reading::Refused(error.to_string()),
    }
}

fn qos(value: mqttbytes::QoS) -> Option<QoS> {
    QoS::from_u8(value as u8)
}

fn id(value: u16) -> Option<PacketId> {
    PacketId::new(value)
}

fn text(string: &str) -> ByteString {
    ByteString::from(string)
}
