//! What the decoder refuses to buffer or to expand, and how it fails.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/strategies.rs"]
mod strategies;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocols::mqtt::codec::{Decoder, Fault, Limits, PRE_LOGIN_MAX_BYTES, encode};
use protocols::mqtt::packet::{
    Direction, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, Subscribe,
    SubscribeFilter, Unsubscribe,
};
use protocols::mqtt::reason::ReasonCode;

use ProtocolVersion::{V3_1, V3_1_1, V5};

fn text(value: &str) -> ByteString {
    ByteString::from(value)
}

fn from_client(version: ProtocolVersion, limits: Limits) -> Decoder {
    Decoder::new(Direction::ClientToServer, Some(version), limits)
}

fn publish(topic: &str, payload: &'static [u8]) -> Publish {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: text(topic),
        packet_id: None,
        properties: None,
        payload: Bytes::from_static(payload),
    }
}

fn encoded(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("legal packet");
    out
}

#[test]
fn oversize_is_refused_from_the_header() {
    let limits = Limits {
        max_packet_bytes: 100,
        ..Limits::default()
    };
    for version in [V3_1, V3_1_1, V5] {
        let mut buf = BytesMut::from(&[0x30, 99][..]);
        let error = from_client(version, limits)
            .decode(&mut buf)
            .expect_err("101 bytes");
        assert_eq!(error.reason, ReasonCode::PacketTooLarge);
        assert_eq!(
            (error.fault, error.reply_version),
            (Fault::Limit, Some(version))
        );
        let mut buf = BytesMut::from(&[0x30, 98][..]);
        assert_eq!(
            from_client(version, limits).decode(&mut buf),
            Ok(None),
            "100 bytes fit"
        );
    }
}

#[test]
fn a_connect_is_capped_before_login() {
    // 65,533 bytes after a header of 4 make one byte too many.
    let header = |remaining: u32| {
        let digits = [
            remaining & 0x7F | 0x80,
            remaining >> 7 & 0x7F | 0x80,
            remaining >> 14,
        ];
        let mut buf = BytesMut::from(&[0x10][..]);
        buf.extend(digits.map(|digit| u8::try_from(digit).expect("seven bits")));
        buf
    };
    let roomy = Limits {
        max_packet_bytes: usize::MAX,
        ..Limits::default()
    };
    let body = u32::try_from(PRE_LOGIN_MAX_BYTES - 4).expect("small");
    assert_eq!(Decoder::server(roomy).decode(&mut header(body)), Ok(None));
    let error = Decoder::server(roomy)
        .decode(&mut header(body + 1))
        .expect_err("too large");
    assert_eq!(
        (error.reason, error.reply_version),
        (ReasonCode::PacketTooLarge, None)
    );
    let small = Limits {
        max_packet_bytes: 20_000,
        ..Limits::default()
    };
    assert!(
        Decoder::server(small).decode(&mut header(19_997)).is_err(),
        "the smaller cap counts"
    );
    assert_eq!(Decoder::server(small).decode(&mut header(19_996)), Ok(None));
}

#[test]
fn a_declared_length_allocates_nothing() {
    let limits = Limits {
        max_packet_bytes: 300_000_000,
        ..Limits::default()
    };
    let mut buf = BytesMut::from(&b"\x30\xFF\xFF\xFF\x7F\x00\x01a"[..]);
    let before = buf.capacity();
    assert_eq!(from_client(V3_1_1, limits).decode(&mut buf), Ok(None));
    assert_eq!((buf.capacity(), buf.len()), (before, 8));
}

/// The most memory a packet may take at once while it is read, in bytes: what it turns into, twice
/// while a list of its parts moves, and a fixed amount.
fn allowance(bytes: &[u8]) -> u64 {
    64 * bytes.len() as u64 + 2_048
}

/// The most memory that reading `bytes` took at once beyond them, in bytes.
fn peak(mut decoder: Decoder, bytes: &[u8]) -> u64 {
    let mut buf = BytesMut::from(bytes);
    let read = || drop(black_box(decoder.decode(&mut buf)));
    allocation_counter::measure(read).bytes_max
}

/// Every kind of length inside a packet, far beyond the bytes that follow.
#[test]
fn a_length_that_lies_costs_nothing() {
    let connects: [&[u8]; 4] = [
        b"\x10\x06\xFF\xFFMQTT",
        b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x3C\xFF\xFFcc",
        b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3C\xFF\xFF\xFF\x7F\x11\x00",
        b"\x10\x17\x00\x04MQTT\x05\x06\x00\x3C\x00\x00\x01c\x00\x00\x01w\xFF\xFFmm",
    ];
    let others: [&[u8]; 8] = [
        b"\x30\x04\xFF\xFFaa",
        b"\x30\x08\x00\x01a\xFF\xFF\xFF\x7F\x01",
        b"\x30\x08\x00\x01a\x04\x09\xFF\xFFd",
        b"\x30\x0B\x00\x01a\x07\x26\x00\x01k\xFF\xFFv",
        b"\x40\x08\x00\x01\x00\x04\x1F\xFF\xFFr",
        b"\x82\x07\x00\x01\x00\xFF\xFFa\x00",
        b"\xA2\x09\x00\x01\x00\x00\x01a\xFF\xFFb",
        b"\xE0\x06\x00\xFF\xFF\xFF\x7F\x1F",
    ];
    let limits = Limits {
        max_packet_bytes: 300_000_000,
        ..Limits::default()
    };
    let connects = connects.map(|bytes| (Decoder::server(limits), bytes));
    let others = others.map(|bytes| (from_client(V5, limits), bytes));
    for (decoder, bytes) in connects.into_iter().chain(others) {
        let peak = peak(decoder, bytes);
        assert!(peak <= allowance(bytes), "{peak} bytes for {bytes:02X?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn memory_grows_with_the_bytes_that_arrived(
        packet in strategies::packet(V5, Direction::ClientToServer),
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&packet, V5);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let decoder = match packet {
            Packet::Connect(_) => Decoder::server(Limits::default()),
            _ => from_client(V5, Limits::default()),
        };
        let peak = peak(decoder, &bytes);
        prop_assert!(peak <= allowance(&bytes), "{} bytes for {}", peak, bytes.len());
    }

    /// The smallest parts a packet can be made of: empty filters, empty User Properties.
    #[test]
    fn many_small_parts_stay_in_proportion(count in 1..1_024usize) {
        let filter = SubscribeFilter { filter: text(""), options: Default::default() };
        let properties = Properties {
            user_properties: vec![(text(""), text("")); count],
            ..Properties::default()
        };
        let mut message = publish("t", b"");
        message.properties = properties.into_optional();
        let packets = [
            Packet::Publish(message),
            Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                properties: None,
                filters: vec![filter; count],
            }),
            Packet::Unsubscribe(Unsubscribe {
                packet_id: PacketId::MIN,
                properties: None,
                filters: vec![text(""); count],
            }),
        ];
        for packet in packets {
            let bytes = encoded(&packet, V5);
            let peak = peak(from_client(V5, Limits::default()), &bytes);
            prop_assert!(peak <= allowance(&bytes), "{} bytes for {}", peak, bytes.len());
        }
    }
}

#[test]
fn an_error_is_final() {
    let mut decoder = from_client(V5, Limits::default());
    let first = decoder
        .decode(&mut BytesMut::from(&b"\xC1\x00"[..]))
        .expect_err("flag bit");
    let again = decoder
        .decode(&mut BytesMut::from(&b"\xC0\x00"[..]))
        .expect_err("still failed");
    assert_eq!(first, again);
    assert_eq!(decoder.decode(&mut BytesMut::new()), Err(first));
}

#[test]
fn user_properties_are_capped_by_count_and_bytes() {
    let with = |count: usize, value: usize| {
        let pair = (text("k"), ByteString::from("v".repeat(value)));
        let properties = Properties {
            user_properties: vec![pair; count],
            ..Properties::default()
        };
        let mut message = publish("t", b"");
        message.properties = properties.into_optional();
        encoded(&Packet::Publish(message), V5)
    };
    let limits = Limits {
        max_user_properties: 3,
        max_user_property_bytes: 100,
        ..Limits::default()
    };
    let verdict = |mut bytes: BytesMut| {
        from_client(V5, limits)
            .decode(&mut bytes)
            .map_err(|e| (e.reason, e.fault))
            .map(|_| ())
    };
    let refused = Err((ReasonCode::QuotaExceeded, Fault::Limit));
    assert_eq!(verdict(with(3, 1)), Ok(()));
    assert_eq!(verdict(with(4, 1)), refused);
    assert_eq!(verdict(with(2, 45)), Ok(()), "two pairs of 50 bytes");
    assert_eq!(verdict(with(1, 96)), refused, "one pair of 101 bytes");
}

#[test]
fn filters_are_capped_by_count() {
    let limits = Limits {
        max_filters: 2,
        ..Limits::default()
    };
    let mut three = BytesMut::from(&b"\x82\x0E\x00\x01\x00\x01a\x00\x00\x01a\x00\x00\x01a\x00"[..]);
    let error = from_client(V3_1_1, limits)
        .decode(&mut three)
        .expect_err("three filters");
    assert_eq!(error.reason, ReasonCode::QuotaExceeded);
    let mut two = BytesMut::from(&b"\xA2\x08\x00\x01\x00\x01a\x00\x01a"[..]);
    assert!(from_client(V3_1_1, limits).decode(&mut two).is_ok());
    let mut three = BytesMut::from(&b"\xA2\x0B\x00\x01\x00\x01a\x00\x01a\x00\x01a"[..]);
    assert!(from_client(V3_1_1, limits).decode(&mut three).is_err());
}

#[test]
fn an_unknown_level_is_answered_in_the_nearest_version() {
    let reply = |name: &[u8], level: u8| {
        let mut bytes = BytesMut::from(&[0x10, 8 + name.len() as u8, 0, name.len() as u8][..]);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[level, 2, 0, 60, 0, 0]);
        let error = Decoder::server(Limits::default())
            .decode(&mut bytes)
            .expect_err("unknown");
        assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
        assert_eq!(error.fault, Fault::Limit);
        error.reply_version
    };
    for level in [6, 7, 99, 0x7F, 0x85, 0x86, 0xFF] {
        assert_eq!(reply(b"MQTT", level), Some(V5), "{level}");
    }
    for level in [0, 1, 2, 3] {
        assert_eq!(reply(b"MQTT", level), Some(V3_1_1), "{level}");
    }
    // The name of 3.1, whose readers know no 5.0.
    for level in [0, 4, 5, 6, 99, 0x7F, 0x83, 0x85, 0xFF] {
        assert_eq!(reply(b"MQIsdp", level), Some(V3_1_1), "{level}");
    }
    for level in [0x80, 0x83, 0x84] {
        assert_eq!(reply(b"MQTT", level), Some(V3_1_1), "a bridge of 3.x");
    }
    assert_eq!(reply(b"HTTP", 4), None);
}
