//! What both differential tests share: feeding the same bytes to both codecs, and the tables of
//! differences that are the other codec's errors.

use bytes::BytesMut;
use protocols::mqtt::codec::{DecodeError, Decoder, Limits, encode};
use protocols::mqtt::packet::{Direction, Packet, PacketType, ProtocolVersion};

use crate::vectors::{all, decode_all};

/// Largest packet of both codecs in these tests.
pub const MAX_BYTES: usize = 1_048_576;

/// Our verdict on the first packet of `bytes`. The other codec has no directions, so packets
/// that have only one are read in it.
pub fn ours(
    version: ProtocolVersion,
    direction: Direction,
    bytes: &[u8],
) -> Result<Option<Packet>, DecodeError> {
    let limits = Limits {
        max_packet_bytes: MAX_BYTES,
        ..Limits::default()
    };
    let kind = bytes
        .first()
        .and_then(|first| PacketType::from_u8(first >> 4));
    let mut decoder = match kind {
        Some(PacketType::Connect) => Decoder::server(limits),
        Some(PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq) => {
            Decoder::new(Direction::ClientToServer, Some(version), limits)
        }
        Some(
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp,
        ) => Decoder::client(version, limits),
        _ => Decoder::new(direction, Some(version), limits),
    };
    decoder.decode(&mut BytesMut::from(bytes))
}

/// Our bytes of a legal packet.
pub fn encoded(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("a legal packet");
    out
}

/// Whether our refusal is one that the other codec is known not to make: its entry in `known`
/// names our message and the clause that is on our side.
pub fn is_known_laxity(error: &DecodeError, known: &[(&str, &str)]) -> bool {
    known.iter().any(|(message, _)| *message == error.message)
}

/// Holds the packet vectors of one version against the tables: the other codec accepts every
/// valid packet that is not in `is_their_error`, and it accepts exactly those invalid ones that
/// `known` lists; each row of `known` is needed.
pub fn check_vectors(
    file: &str,
    known: &[(&str, &str)],
    is_their_error: &dyn Fn(&Packet) -> bool,
    accepts: impl Fn(&[u8]) -> bool,
) {
    let mut witnessed = Vec::new();
    for vector in all().iter().filter(|vector| vector.place.starts_with(file)) {
        let mut decoder = vector.context.decoder(Limits::default());
        let (packets, end) = decode_all(&mut decoder, &vector.bytes, usize::MAX);
        match (packets.first(), end) {
            (Some(packet), _) => {
                let expected = is_their_error(packet) || accepts(&vector.bytes);
                assert!(expected, "only we accept {}", vector.place);
            }
            (None, Err(error)) if accepts(&vector.bytes) => {
                assert!(vector.reason.is_some(), "we refuse {}", vector.place);
                assert!(is_known_laxity(&error, known), "{error}: {}", vector.place);
                witnessed.push(error.message);
            }
            (None, _) => {}
        }
    }
    for (message, clause) in known {
        assert!(
            witnessed.contains(message),
            "needless row: {message} ({clause})"
        );
    }
}
