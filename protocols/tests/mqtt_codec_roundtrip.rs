//! Laws of the codec: what is encoded decodes to itself, cuts do not matter, mutated bytes never
//! panic, and what a decoder accepted is stable under encoding.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/strategies.rs"]
mod strategies;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use protocols::mqtt::codec::{
    ACK_BYTES, DecodeError, Decoder, Limits, PeerLimits, encode, encode_within, encoded_len,
};
use protocols::mqtt::packet::{Ack, Direction, Packet, PacketType, ProtocolVersion, Publish};

/// A version, a direction and a packet legal in both.
type Case = (ProtocolVersion, Direction, Packet);

/// Any of the three versions.
fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![
        Just(ProtocolVersion::V3_1),
        Just(ProtocolVersion::V3_1_1),
        Just(ProtocolVersion::V5)
    ]
}

/// Any legal packet of any version.
fn case() -> impl Strategy<Value = Case> {
    (version(), any::<bool>())
        .prop_flat_map(|(version, client)| {
            let direction = match client {
                true => Direction::ClientToServer,
                false => Direction::ServerToClient,
            };
            strategies::packet(version, direction)
                .prop_map(move |packet| (version, direction, packet))
        })
        .boxed()
}

/// A decoder for packets of this kind: a CONNECT must be the first packet.
fn decoder(version: ProtocolVersion, direction: Direction, packet: &Packet) -> Decoder {
    match packet {
        Packet::Connect(_) => Decoder::server(Limits::default()),
        _ => Decoder::new(direction, Some(version), Limits::default()),
    }
}

fn encoded(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("a legal packet");
    out
}

/// Packets until the bytes run out or are refused.
fn drain(decoder: &mut Decoder, buf: &mut BytesMut) -> (Vec<Packet>, Result<(), DecodeError>) {
    let mut packets = Vec::new();
    loop {
        match decoder.decode(buf) {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => return (packets, Ok(())),
            Err(error) => return (packets, Err(error)),
        }
    }
}

fn in_pieces(decoder: &mut Decoder, bytes: &[u8]) -> (Vec<Packet>, Result<(), DecodeError>) {
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for byte in bytes {
        buf.extend_from_slice(&[*byte]);
        let (more, end) = drain(decoder, &mut buf);
        packets.extend(more);
        if end.is_err() {
            return (packets, end);
        }
    }
    (packets, Ok(()))
}

/// Decoding and encoding again reaches a fixed point at once.
fn check_stable(version: ProtocolVersion, direction: Direction, packet: &Packet) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut bytes = encoded(packet, version);
    let first = bytes.clone();
    let again = decoder(version, direction, packet).decode(&mut bytes);
    assert_eq!(again.as_ref(), Ok(&Some(packet.clone())));
    assert!(bytes.is_empty());
    assert_eq!(encoded(packet, version), first);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_plain_publish_is_read_as_the_decoder_reads_it(
        version in version(),
        publish in (any::<bool>(), 0..4u8, any::<bool>(), "[ab+#é]{0,4}", 0..3u16, vec(any::<u8>(), 0..200)),
        cut in any::<Index>(),
        noise in proptest::option::of((any::<Index>(), any::<u8>())),
    ) {
        let (dup, qos, retain, topic, id, payload) = publish;
        let mut body = Vec::from((topic.len() as u16).to_be_bytes());
        body.extend_from_slice(topic.as_bytes());
        if qos > 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        if version.is_v5() {
            body.push(0);
        }
        body.extend_from_slice(&payload);
        let mut bytes = vec![0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain)];
        match body.len() {
            length @ 0..128 => bytes.push(length as u8),
            length => bytes.extend_from_slice(&[length as u8 | 0x80, (length >> 7) as u8]),
        }
        bytes.extend_from_slice(&body);
        if let Some((at, byte)) = noise {
            let at = at.index(bytes.len().min(6));
            bytes[at] = byte;
        }
        let mut decoder = Decoder::new(Direction::ClientToServer, Some(version), Limits::default());
        let plain = decoder.plain_publish(&bytes).map(|plain| Packet::Publish(Publish {
            dup: plain.dup,
            qos: plain.qos,
            retain: plain.retain,
            topic: String::from_utf8_lossy(plain.topic).into_owned().into(),
            packet_id: plain.packet_id,
            properties: None,
            payload: Bytes::copy_from_slice(&bytes[plain.payload.clone()]),
        }));
        let short = &bytes[..cut.index(bytes.len())];
        if let Some(part) = decoder.plain_publish(short) {
            prop_assert!(part.payload.end <= short.len());
        }
        let read = decoder.decode(&mut BytesMut::from(&bytes[..]));
        match (plain, read) {
            // What the topic says is the decoder's to judge, and the machine compares it with one that passed.
            (Some(Packet::Publish(plain)), Err(_)) => {
                let topic = plain.topic.as_bytes();
                prop_assert!(topic.iter().any(|byte| !byte.is_ascii_lowercase()));
            }
            (Some(plain), Ok(read)) => prop_assert_eq!(Some(plain), read),
            (None, Ok(Some(Packet::Publish(read)))) => {
                prop_assert!(read.properties.is_some(), "the commonest packets are plain: {:?}", read);
            }
            (plain, read) => prop_assert!(plain.is_none(), "{:?} {:?}", plain, read),
        }
    }

    #[test]
    fn a_plain_acknowledgement_is_read_as_the_decoder_reads_it(
        version in version(),
        first in prop_oneof![0x3E..0x74u8, select(&[0x40, 0x50, 0x62, 0x70][..])],
        rest in (prop_oneof![0..4u8, Just(2)], 0..3u16, vec(any::<u8>(), 0..3)),
        cut in 0..4usize,
    ) {
        let (length, id, behind) = rest;
        let [high, low] = id.to_be_bytes();
        let mut bytes = vec![first, length, high, low];
        bytes.extend_from_slice(&behind);
        let mut decoder = Decoder::new(Direction::ClientToServer, Some(version), Limits::default());
        prop_assert_eq!(decoder.plain_ack(&bytes[..cut]), None);
        let plain = decoder.plain_ack(&bytes);
        let mut left = BytesMut::from(&bytes[..]);
        let read = decoder.decode(&mut left).ok().flatten().and_then(|packet| match packet {
            Packet::PubAck(ack) => Some((PacketType::PubAck, ack)),
            Packet::PubRec(ack) => Some((PacketType::PubRec, ack)),
            Packet::PubRel(ack) => Some((PacketType::PubRel, ack)),
            Packet::PubComp(ack) => Some((PacketType::PubComp, ack)),
            _ => None,
        });
        // 3.1 sets DUP in a PUBREL it repeats, which is seldom.
        let is_short = length == 2 && first & 0x08 == 0;
        let read = read.filter(|_| is_short);
        prop_assert_eq!(plain, read.as_ref().map(|(kind, ack)| (*kind, ack.packet_id)));
        if let Some((_, ack)) = read {
            prop_assert_eq!(&ack, &Ack::success(ack.packet_id));
            prop_assert_eq!(bytes.len() - left.len(), ACK_BYTES);
        }
    }

    #[test]
    fn encoding_then_decoding_is_identity((version, direction, packet) in case()) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), Ok(bytes.len()));
        let mut buf = bytes.clone();
        // Bytes of the next packet must not matter, and must stay.
        buf.extend_from_slice(b"\xC0");
        let decoded = decoder(version, direction, &packet).decode(&mut buf);
        prop_assert_eq!(decoded, Ok(Some(packet)));
        prop_assert_eq!(&buf[..], b"\xC0");
    }

    #[test]
    fn byte_by_byte_equals_at_once((version, direction, packet) in case()) {
        let bytes = encoded(&packet, version);
        let mut whole = decoder(version, direction, &packet);
        let expected = drain(&mut whole, &mut bytes.clone());
        let got = in_pieces(&mut decoder(version, direction, &packet), &bytes);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn a_prefix_waits((version, direction, packet) in case(), cut in any::<Index>()) {
        let bytes = encoded(&packet, version);
        let mut buf = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        prop_assert_eq!(decoder(version, direction, &packet).decode(&mut buf), Ok(None));
    }

    #[test]
    fn mutated_packets_are_judged_alike_and_stay_stable(
        (version, direction, packet) in case(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&packet, version);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut whole = decoder(version, direction, &packet);
        let verdict = drain(&mut whole, &mut bytes.clone());
        let cut = in_pieces(&mut decoder(version, direction, &packet), &bytes);
        prop_assert_eq!(&cut, &verdict);
        for packet in &verdict.0 {
            check_stable(version, direction, packet);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in version(),
        bytes in vec(any::<u8>(), 0..200),
        client in any::<bool>(),
    ) {
        let direction = if client { Direction::ClientToServer } else { Direction::ServerToClient };
        let mut after = Decoder::new(direction, Some(version), Limits::default());
        let verdict = drain(&mut after, &mut BytesMut::from(&bytes[..]));
        for packet in &verdict.0 {
            check_stable(version, direction, packet);
        }
        let first = drain(&mut Decoder::server(Limits::default()), &mut BytesMut::from(&bytes[..]));
        prop_assert!(first.0.is_empty() || bytes[0] == 0x10);
    }

    #[test]
    fn a_limited_encoding_never_exceeds_the_limit(
        (version, direction, packet) in case(),
        maximum in 1u32..120,
    ) {
        let limits = PeerLimits { maximum_packet_size: Some(maximum), ..PeerLimits::default() };
        let mut out = BytesMut::new();
        match encode_within(&packet, version, &limits, &mut out) {
            Ok(()) => {
                prop_assert!(out.len() <= maximum as usize);
                let decoded = decoder(version, direction, &packet).decode(&mut out);
                let kind = decoded.expect("legal").expect("complete").packet_type();
                prop_assert_eq!(kind, packet.packet_type());
            }
            Err(_) => {
                prop_assert!(out.is_empty());
                prop_assert!(encoded(&packet, version).len() > maximum as usize);
            }
        }
    }
}
