//! Our codec against `mqttbytes`, an independent implementation of MQTT 5.0.
//!
//! The same laws as for 3.1.1, with a longer list of the other codec's errors: it was never
//! finished for 5.0.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/differential.rs"]
mod differential;
#[path = "mqtt_codec_common/mqttbytes_v5.rs"]
mod mqttbytes_v5;
#[path = "mqtt_codec_common/strategies.rs"]
mod strategies;
#[path = "mqtt_codec_common/vectors.rs"]
mod vectors;

use bytes::BytesMut;
use differential::{MAX_BYTES, check_vectors, encoded, is_known_laxity, ours};
use mqttbytes::v5;
use mqttbytes_v5::{translated, written};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocols::mqtt::packet::{Direction, Packet, ProtocolVersion, Secret};
use protocols::mqtt::reason::ReasonCode;

const VERSION: ProtocolVersion = ProtocolVersion::V5;

/// Refusals of ours that `mqttbytes` does not make: (our message, clause).
const LAXITIES: [(&str, &str); 31] = [
    (
        "second CONNECT [MQTT-3.1.0-2]",
        "MQTT-3.1.0-2; they keep no state",
    ),
    (
        "packet sent in the wrong direction",
        "table 2-1; they keep no direction",
    ),
    ("reserved flag bits [MQTT-2.1.3-1]", "MQTT-2.1.3-1"),
    ("Variable Byte Integer is not minimal", "MQTT-1.5.5-1"),
    (
        "bytes after the end of the packet",
        "2.1.4: Remaining Length covers the packet",
    ),
    (
        "packet ends inside a field",
        "2.2.2.1: a property may not cross the Property Length",
    ),
    ("Packet Identifier is 0", "MQTT-2.2.1-3"),
    ("string contains U+0000", "MQTT-1.5.4-2"),
    ("DUP with QoS 0 [MQTT-3.3.1-2]", "MQTT-3.3.1-2"),
    (
        "Topic Name contains a wildcard [MQTT-3.3.2-2]",
        "MQTT-3.3.2-2",
    ),
    ("empty Topic Name [MQTT-4.7.3-1]", "MQTT-4.7.3-1"),
    ("Topic Alias is 0 [MQTT-3.3.2-8]", "MQTT-3.3.2-8"),
    (
        "Subscription Identifier in a PUBLISH from a client [MQTT-3.3.4-6]",
        "MQTT-3.3.4-6",
    ),
    ("Subscription Identifier is 0", "3.8.2.1.2"),
    (
        "Session Expiry Interval in a DISCONNECT from the server [MQTT-3.14.2-2]",
        "MQTT-3.14.2-2",
    ),
    (
        "Response Topic is not a Topic Name [MQTT-3.3.2-14]",
        "MQTT-3.3.2-14",
    ),
    (
        "Will Topic is not a Topic Name [MQTT-4.7.3-1] [MQTT-4.7.0-1]",
        "MQTT-4.7.3-1",
    ),
    (
        "reserved connect flag is set [MQTT-3.1.2-3]",
        "MQTT-3.1.2-3",
    ),
    (
        "property given twice",
        "2.2.2.2 and the section of each property",
    ),
    (
        "property not valid in this packet",
        "2.2.2.2, in a block cut at the Property Length",
    ),
    (
        "property value is neither 0 nor 1",
        "3.1.2.11.6, 3.1.2.11.7, 3.2.2.3, 3.3.2.3.2",
    ),
    ("Receive Maximum is 0", "3.1.2.11.3"),
    ("Maximum Packet Size is 0", "3.1.2.11.4"),
    ("Authentication Data without a Method", "3.1.2.11.10"),
    ("reserved CONNACK flags [MQTT-3.2.2-1]", "MQTT-3.2.2-1"),
    (
        "Session Present with an error [MQTT-3.2.2-6]",
        "MQTT-3.2.2-6",
    ),
    (
        "reserved Subscription Options [MQTT-3.8.3-5]",
        "MQTT-3.8.3-5",
    ),
    (
        "No Local on a Shared Subscription [MQTT-3.8.3-4]",
        "MQTT-3.8.3-4",
    ),
    (
        "SUBSCRIBE without a Topic Filter [MQTT-3.8.3-2]",
        "MQTT-3.8.3-2",
    ),
    (
        "UNSUBSCRIBE without a Topic Filter [MQTT-3.10.3-2]",
        "MQTT-3.10.3-2",
    ),
    (
        "Reason Code not valid in this packet",
        "3.14.2.1, column of the sender",
    ),
];

/// Legal packets that `mqttbytes` refuses or alters.
fn is_their_error(packet: &Packet) -> bool {
    match packet {
        Packet::Connect(connect) => {
            // 3.1.3.5 and 3.1.3.6: a password is binary, and both may be empty; theirs must be
            // UTF-8, and empty is taken for absent.
            let binary = |secret: &Secret| std::str::from_utf8(&secret.0).is_err();
            connect.version != VERSION
                || connect
                    .username
                    .as_ref()
                    .is_some_and(|name| name.is_empty())
                || connect
                    .password
                    .as_ref()
                    .is_some_and(|s| s.0.is_empty() || binary(s))
        }
        // 3.3.2.3.8: each Subscription Identifier moves their end of the block by one byte, so
        // after two of them a short property is taken for payload.
        Packet::Publish(publish) => publish
            .properties
            .as_ref()
            .is_some_and(|set| set.subscription_identifiers.len() > 1),
        // 3.14.2.1: reason and properties may be left out; theirs wants a Property Length. And
        // section 2.4 lists Bad authentication method for DISCONNECT; they have only the table
        // of 3.14.2.1, which forgot it.
        Packet::Disconnect(disconnect) => {
            disconnect.properties.is_none()
                || disconnect.reason == ReasonCode::BadAuthenticationMethod
        }
        // 3.15: they have no AUTH.
        Packet::Auth(_) => true,
        _ => false,
    }
}

/// Legal packets that `mqttbytes` reads, but writes wrongly.
fn is_their_encoding_error(packet: &Packet) -> bool {
    // 3.2.2.3.1: CONNACK always has a Property Length; theirs has none without properties.
    matches!(packet, Packet::ConnAck(ack) if ack.properties.is_none())
}

#[test]
fn the_tables_of_differences_are_exact() {
    check_vectors("v5_", &LAXITIES, &is_their_error, |bytes| {
        v5::read(&mut BytesMut::from(bytes), MAX_BYTES).is_ok()
    });
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::ClientToServer),
        Just(Direction::ServerToClient)
    ]
}

fn case() -> impl Strategy<Value = (Direction, Packet)> {
    direction().prop_flat_map(|way| (Just(way), strategies::packet(VERSION, way)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn each_reads_what_the_other_writes(
        (direction, packet) in case().prop_filter("their error", |case| !is_their_error(&case.1)),
    ) {
        let bytes = encoded(&packet, VERSION);
        let theirs = v5::read(&mut bytes.clone(), MAX_BYTES);
        let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{error:?}: {packet:?}")))?;
        prop_assert_eq!(translated(&theirs), packet.clone());
        if !is_their_encoding_error(&packet) {
            prop_assert_eq!(ours(VERSION, direction, &written(&theirs)), Ok(Some(packet)));
        }
    }

    #[test]
    fn mutated_packets_are_judged_alike(
        (direction, packet) in case(),
        changes in vec((any::<Index>(), any::<u8>()), 1..3),
    ) {
        let mut bytes = encoded(&packet, VERSION);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let theirs = v5::read(&mut bytes.clone(), MAX_BYTES);
        match (ours(VERSION, direction, &bytes), theirs) {
            (Ok(Some(packet)), theirs) if is_their_error(&packet) => drop(theirs),
            (Ok(Some(packet)), Ok(theirs)) => prop_assert_eq!(translated(&theirs), packet),
            (Ok(Some(packet)), Err(error)) => prop_assert!(false, "only we take {packet:?}: {error}"),
            (Ok(None), Ok(theirs)) => prop_assert!(false, "only they take {theirs:?}"),
            // A mutated level made it a packet of another version.
            (Err(error), Ok(_)) if error.reply_version != Some(VERSION) => {}
            (Err(error), Ok(theirs)) => {
                prop_assert!(is_known_laxity(&error, &LAXITIES), "{error}: {theirs:?}");
            }
            (Ok(None) | Err(_), Err(_)) => {}
        }
    }
}
