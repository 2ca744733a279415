//! The property table of 5.0 (section 2.2.2.2), identifier by identifier and packet by packet:
//! what is allowed, what may repeat, and which values are out of range.

#![cfg(feature = "mqtt")]

use bytes::BytesMut;
use protocols::mqtt::codec::{Decoder, Limits};
use protocols::mqtt::packet::{Direction, ProtocolVersion};

/// Packets that carry properties, as (name, direction).
const PLACES: [(&str, Direction); 17] = [
    ("CONNECT", Direction::ClientToServer),
    ("will", Direction::ClientToServer),
    ("CONNACK", Direction::ServerToClient),
    ("PUBLISH", Direction::ClientToServer),
    ("PUBLISH", Direction::ServerToClient),
    ("PUBACK", Direction::ServerToClient),
    ("PUBREC", Direction::ClientToServer),
    ("PUBREL", Direction::ClientToServer),
    ("PUBCOMP", Direction::ServerToClient),
    ("SUBSCRIBE", Direction::ClientToServer),
    ("SUBACK", Direction::ServerToClient),
    ("UNSUBSCRIBE", Direction::ClientToServer),
    ("UNSUBACK", Direction::ServerToClient),
    ("DISCONNECT", Direction::ClientToServer),
    ("DISCONNECT", Direction::ServerToClient),
    ("AUTH", Direction::ClientToServer),
    ("AUTH", Direction::ServerToClient),
];

/// (identifier, a legal value, packets that may carry it).
const TABLE: [(u8, &[u8], &str); 27] = [
    (0x01, b"\x01", "PUBLISH will"),
    (0x02, b"\x00\x00\x00\x00", "PUBLISH will"),
    (0x03, b"\x00\x01t", "PUBLISH will"),
    (0x08, b"\x00\x01t", "PUBLISH will"),
    (0x09, b"\x00\x02\x00\xFF", "PUBLISH will"),
    (0x0B, b"\x81\x01", "PUBLISH SUBSCRIBE"),
    (0x11, b"\xFF\xFF\xFF\xFF", "CONNECT CONNACK DISCONNECT"),
    (0x12, b"\x00\x01c", "CONNACK"),
    (0x13, b"\x00\x00", "CONNACK"),
    (0x15, b"\x00\x01m", "CONNECT CONNACK AUTH"),
    (0x16, b"\x00\x01d", "CONNECT CONNACK AUTH"),
    (0x17, b"\x00", "CONNECT"),
    (0x18, b"\x00\x00\x00\x01", "will"),
    (0x19, b"\x01", "CONNECT"),
    (0x1A, b"\x00\x01r", "CONNACK"),
    (0x1C, b"\x00\x01s", "CONNACK DISCONNECT"),
    (
        0x1F,
        b"\x00\x01r",
        "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH",
    ),
    (0x21, b"\x00\x01", "CONNECT CONNACK"),
    (0x22, b"\x00\x00", "CONNECT CONNACK"),
    (0x23, b"\x00\x01", "PUBLISH"),
    (0x24, b"\x00", "CONNACK"),
    (0x25, b"\x01", "CONNACK"),
    (
        0x26,
        b"\x00\x01k\x00\x00",
        "CONNECT CONNACK PUBLISH will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE \
         UNSUBACK DISCONNECT AUTH",
    ),
    (0x27, b"\x00\x00\x00\x01", "CONNECT CONNACK"),
    (0x28, b"\x01", "CONNACK"),
    (0x29, b"\x01", "CONNACK"),
    (0x2A, b"\x01", "CONNACK"),
];

/// A packet around a property block.
fn packet(place: &str, direction: Direction, properties: &[u8]) -> Vec<u8> {
    let mut block = vec![u8::try_from(properties.len()).expect("short block")];
    block.extend(properties);
    let (first, before, after): (u8, &[u8], &[u8]) = match place {
        "CONNECT" => (0x10, b"\x00\x04MQTT\x05\x02\x00\x3C", b"\x00\x01c"),
        "will" => (
            0x10,
            b"\x00\x04MQTT\x05\x06\x00\x3C\x00\x00\x01c",
            b"\x00\x01w\x00\x00",
        ),
        "CONNACK" => (0x20, b"\x00\x00", b""),
        "PUBLISH" => (0x30, b"\x00\x01t", b"payload"),
        "PUBACK" => (0x40, b"\x00\x01\x00", b""),
        "PUBREC" => (0x50, b"\x00\x01\x00", b""),
        "PUBREL" => (0x62, b"\x00\x01\x00", b""),
        "PUBCOMP" => (0x70, b"\x00\x01\x00", b""),
        "SUBSCRIBE" => (0x82, b"\x00\x01", b"\x00\x01f\x00"),
        "SUBACK" => (0x90, b"\x00\x01", b"\x00"),
        "UNSUBSCRIBE" => (0xA2, b"\x00\x01", b"\x00\x01f"),
        "UNSUBACK" => (0xB0, b"\x00\x01", b"\x00"),
        "DISCONNECT" => (0xE0, b"\x00", b""),
        "AUTH" if direction == Direction::ClientToServer => (0xF0, b"\x19", b""),
        "AUTH" => (0xF0, b"\x00", b""),
        _ => panic!("no packet {place}"),
    };
    let length = u8::try_from(before.len() + block.len() + after.len()).expect("short packet");
    [&[first, length], before, &block, after].concat()
}

/// The reason code the packet is refused with, 0 if it is accepted.
fn verdict(place: &str, direction: Direction, properties: &[u8]) -> u8 {
    let version = match place {
        "CONNECT" | "will" => None,
        _ => Some(ProtocolVersion::V5),
    };
    let mut buf = BytesMut::from(&packet(place, direction, properties)[..]);
    match Decoder::new(direction, version, Limits::default()).decode(&mut buf) {
        Ok(Some(_)) => 0,
        Ok(None) => panic!("{place} is not complete"),
        Err(error) => error.reason.value(),
    }
}

fn property(id: u8, value: &[u8]) -> Vec<u8> {
    [&[id], value].concat()
}

/// The property with what it may need beside it: Data a Method, AUTH always has one.
fn in_company(id: u8, value: &[u8], place: &str) -> Vec<u8> {
    let mut block = property(id, value);
    if id != 0x15 && (id == 0x16 || place == "AUTH") {
        block.extend(b"\x15\x00\x01m");
    }
    block
}

fn allowed(id: u8, place: &str) -> bool {
    TABLE
        .iter()
        .any(|(known, _, places)| *known == id && places.split_whitespace().any(|p| p == place))
}

#[test]
fn each_property_stands_only_in_its_packets() {
    for (id, value, _) in TABLE {
        for (place, direction) in PLACES {
            let expected = match (id, place, direction) {
                // [MQTT-3.3.4-6] and [MQTT-3.14.2-2]: the packet has it, the direction not.
                (0x0B, "PUBLISH", Direction::ClientToServer)
                | (0x11, "DISCONNECT", Direction::ServerToClient) => 0x82,
                _ if allowed(id, place) => 0,
                _ => 0x81,
            };
            let block = if expected == 0 {
                in_company(id, value, place)
            } else {
                property(id, value)
            };
            let got = verdict(place, direction, &block);
            assert_eq!(got, expected, "property {id:#04X} in {place} {direction:?}");
        }
    }
}

#[test]
fn undefined_identifiers_are_malformed() {
    for id in (0..=0x7F).filter(|&id| TABLE.iter().all(|(known, ..)| *known != id)) {
        for (place, direction) in PLACES {
            let got = verdict(place, direction, &property(id, b"\x00\x00\x00\x00"));
            assert_eq!(got, 0x81, "identifier {id:#04X} in {place}");
        }
    }
}

#[test]
fn nothing_but_user_property_and_a_server_s_subscription_identifier_repeats() {
    for (id, value, _) in TABLE {
        for (place, direction) in PLACES {
            let once = in_company(id, value, place);
            if verdict(place, direction, &once) != 0 {
                continue;
            }
            let repeats = id == 0x26 || (id == 0x0B && place == "PUBLISH");
            let twice = [once, property(id, value)].concat();
            let expected = if repeats { 0 } else { 0x82 };
            let got = verdict(place, direction, &twice);
            assert_eq!(
                got, expected,
                "property {id:#04X} twice in {place} {direction:?}"
            );
        }
    }
}

#[test]
fn values_out_of_range() {
    let cases: [(u8, &[u8], u8); 24] = [
        (0x01, b"\x02", 0x82),
        (0x08, b"\x00\x00", 0x82),
        (0x08, b"\x00\x01+", 0x82),
        (0x08, b"\x00\x03a/#", 0x82),
        (0x0B, b"\x00", 0x82),
        (0x0B, b"\x80\x00", 0x81),
        (0x0B, b"\xFF\xFF\xFF\xFF\x01", 0x81),
        (0x17, b"\x02", 0x82),
        (0x19, b"\x80", 0x82),
        (0x21, b"\x00\x00", 0x82),
        (0x23, b"\x00\x00", 0x94),
        (0x24, b"\x02", 0x82),
        (0x25, b"\x02", 0x82),
        (0x27, b"\x00\x00\x00\x00", 0x82),
        (0x28, b"\x02", 0x82),
        (0x29, b"\xFF", 0x82),
        (0x2A, b"\x02", 0x82),
        (0x03, b"\x00\x01\xFF", 0x81),
        (0x12, b"\x00\x01\x00", 0x81),
        (0x1F, b"\x00\x03\xED\xA0\x80", 0x81),
        (0x26, b"\x00\x01\x00\x00\x00", 0x81),
        (0x26, b"\x00\x00\x00\x02\xC0\x80", 0x81),
        (0x02, b"\x00\x00\x00", 0x81),
        (0x13, b"\x00", 0x81),
    ];
    for (id, value, expected) in cases {
        let mut tried = 0;
        for (place, direction) in PLACES {
            let client_only =
                (id, place, direction) == (0x0B, "PUBLISH", Direction::ClientToServer);
            if allowed(id, place) && !client_only {
                // The faulty value stands last, so that a short one ends the block.
                let company: &[u8] = if place == "AUTH" {
                    b"\x15\x00\x01m"
                } else {
                    b""
                };
                let block = [company, &property(id, value)].concat();
                let got = verdict(place, direction, &block);
                assert_eq!(
                    got, expected,
                    "property {id:#04X} = {value:02X?} in {place}"
                );
                tried += 1;
            }
        }
        assert!(tried > 0, "property {id:#04X} was tried nowhere");
    }
}

#[test]
fn authentication_data_needs_a_method() {
    for place in ["CONNECT", "AUTH"] {
        let direction = match place {
            "CONNECT" => Direction::ClientToServer,
            _ => Direction::ServerToClient,
        };
        assert_eq!(verdict(place, direction, b"\x16\x00\x01d"), 0x82, "{place}");
        assert_eq!(
            verdict(place, direction, b"\x16\x00\x01d\x15\x00\x01m"),
            0,
            "{place}"
        );
    }
    // 5.0 section 3.2.2.3.18 does not say so of CONNACK.
    let direction = Direction::ServerToClient;
    assert_eq!(verdict("CONNACK", direction, b"\x16\x00\x01d"), 0);
}
