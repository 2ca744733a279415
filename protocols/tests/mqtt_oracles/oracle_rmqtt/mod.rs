//! `rmqtt-codec`: 3.1, 3.1.1 and 5.0, the codec of a broker.

mod v3;
mod v5;

use bytes::BytesMut;
use protocols::mqtt::packet::{Packet, ProtocolVersion, QoS};
use rmqtt_codec::error::{DecodeError, EncodeError};
use tokio_util::codec::{Decoder, Encoder};

use crate::harness::{MAX_BYTES, Name, Oracle, Reading};

const LIMIT: u32 = MAX_BYTES as u32;

/// The oracle.
pub struct Rmqtt;

impl Oracle for Rmqtt {
    fn name(&self) -> Name {
        Name::Rmqtt
    }

    fn knows(&self, _version: ProtocolVersion) -> bool {
        true
    }

    fn read(&self, version: ProtocolVersion, bytes: &[u8]) -> Reading {
        let bytes = BytesMut::from(bytes);
        if version.is_v5() {
            reading(read_v5(bytes), v5::translated)
        } else {
            reading(read_v3(bytes), v3::translated)
        }
    }

    /// The packet they read from the same bytes.
    fn write(
        &self,
        version: ProtocolVersion,
        _packet: &Packet,
        bytes: &[u8],
    ) -> Result<Vec<u8>, String> {
        let bytes = BytesMut::from(bytes);
        let mut out = BytesMut::new();
        if version.is_v5() {
            let packet = own(read_v5(bytes))?;
            rmqtt_codec::v5::Codec::new(LIMIT, LIMIT).encode(packet, &mut out)
        } else {
            let packet = own(read_v3(bytes))?;
            rmqtt_codec::v3::Codec::new(LIMIT).encode(packet, &mut out)
        }
        .map_err(|error: EncodeError| error.to_string())?;
        Ok(out.to_vec())
    }
}

/// A packet and its Remaining Length, nothing, or an error.
type Outcome<P> = Result<Option<(P, u32)>, DecodeError>;

fn read_v3(mut bytes: BytesMut) -> Outcome<rmqtt_codec::v3::Packet> {
    rmqtt_codec::v3::Codec::new(LIMIT).decode(&mut bytes)
}

fn read_v5(mut bytes: BytesMut) -> Outcome<rmqtt_codec::v5::Packet> {
    rmqtt_codec::v5::Codec::new(LIMIT, LIMIT).decode(&mut bytes)
}

fn reading<P>(outcome: Outcome<P>, translated: fn(&P) -> Option<Packet>) -> Reading {
    match outcome {
        Ok(Some((packet, _))) => Reading::Accepted(translated(&packet)),
        Ok(None) => Reading::Incomplete,
        Err(error) => Reading::Refused(format!("{error:?}")),
    }
}

fn own<P>(outcome: Outcome<P>) -> Result<P, String> {
    match outcome {
        Ok(Some((packet, _))) => Ok(packet),
        Ok(None) => Err(String::from("takes our packet for incomplete")),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn qos(value: rmqtt_codec::types::QoS) -> QoS {
    match value {
        rmqtt_codec::types::QoS::AtMostOnce => QoS::AtMostOnce,
        rmqtt_codec::types::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rmqtt_codec::types::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}
