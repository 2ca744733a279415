//! Our codec against `mqttbytes`, an independent implementation of MQTT 3.1.1.
//!
//! Three laws: it reads what we write, we read what it writes, and on mutated packets the two
//! differ only where a table below says so, each row with the clause that decides for us.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/differential.rs"]
mod differential;
#[path = "mqtt_codec_common/strategies.rs"]
mod strategies;
#[path = "mqtt_codec_common/vectors.rs"]
mod vectors;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use differential::{MAX_BYTES, check_vectors, encoded, is_known_laxity, ours};
use mqttbytes::v4;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Direction, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS,
    Secret, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;

/// Refusals of ours that `mqttbytes` does not make: (our message, clause of 3.1.1).
const LAXITIES: [(&str, &str); 19] = [
    (
        "first packet is not CONNECT [MQTT-3.1.0-1]",
        "MQTT-3.1.0-1; they keep no state",
    ),
    (
        "second CONNECT [MQTT-3.1.0-2]",
        "MQTT-3.1.0-2; they keep no state",
    ),
    (
        "packet sent in the wrong direction",
        "table 2.1; they keep no direction",
    ),
    ("reserved flag bits [MQTT-2.1.3-1]", "MQTT-2.2.2-2"),
    (
        "Variable Byte Integer is not minimal",
        "table 2.4; MQTT-1.5.5-1 of 5.0",
    ),
    (
        "bytes after the end of the packet",
        "2.2.3: Remaining Length covers the packet",
    ),
    ("Packet Identifier is 0", "MQTT-2.3.1-1"),
    ("string contains U+0000", "MQTT-1.5.3-2"),
    ("DUP with QoS 0 [MQTT-3.3.1-2]", "MQTT-3.3.1-2"),
    (
        "Topic Name contains a wildcard [MQTT-3.3.2-2]",
        "MQTT-3.3.2-2",
    ),
    ("empty Topic Name [MQTT-4.7.3-1]", "MQTT-4.7.3-1"),
    (
        "Will Topic is not a Topic Name [MQTT-4.7.3-1] [MQTT-4.7.0-1]",
        "MQTT-4.7.3-1",
    ),
    (
        "reserved connect flag is set [MQTT-3.1.2-3]",
        "MQTT-3.1.2-3",
    ),
    (
        "password without a user name [MQTT-3.1.2-22]",
        "MQTT-3.1.2-22",
    ),
    ("reserved CONNACK flags [MQTT-3.2.2-1]", "3.2.2.1"),
    (
        "Session Present with an error [MQTT-3.2.2-6]",
        "MQTT-3.2.2-4",
    ),
    (
        "reserved Subscription Options [MQTT-3.8.3-5]",
        "MQTT-3-8.3-4",
    ),
    (
        "SUBSCRIBE without a Topic Filter [MQTT-3.8.3-2]",
        "MQTT-3.8.3-3",
    ),
    (
        "UNSUBSCRIBE without a Topic Filter [MQTT-3.10.3-2]",
        "MQTT-3.10.3-2",
    ),
];

/// Legal packets that `mqttbytes` refuses or alters.
fn is_their_error(packet: &Packet) -> bool {
    let Packet::Connect(connect) = packet else {
        return false;
    };
    // 3.1.3.5: a password is binary; theirs must be UTF-8.
    let binary = |secret: &Secret| std::str::from_utf8(&secret.0).is_err();
    // 3.1.3.4 and 3.1.3.5: both may be empty; theirs takes empty for absent.
    connect.version != VERSION
        || connect
            .username
            .as_ref()
            .is_some_and(|name| name.is_empty())
        || connect
            .password
            .as_ref()
            .is_some_and(|secret| secret.0.is_empty() || binary(secret))
}

fn qos(value: mqttbytes::QoS) -> QoS {
    QoS::from_u8(value as u8).expect("three values")
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("we accepted it")
}

fn texts(strings: &[String]) -> Vec<ByteString> {
    strings
        .iter()
        .map(|string| ByteString::from(string.as_str()))
        .collect()
}

/// Their packet as ours, field by field.
fn translated(packet: &v4::Packet) -> Packet {
    match packet {
        v4::Packet::Connect(connect) => Packet::Connect(Box::new(translated_connect(connect))),
        v4::Packet::ConnAck(ack) => Packet::ConnAck(ConnAck {
            session_present: ack.session_present,
            reason: ReasonCode::from_connect_return_code(ack.code as u8).expect("defined"),
            properties: None,
        }),
        v4::Packet::Publish(publish) => Packet::Publish(Publish {
            dup: publish.dup,
            qos: qos(publish.qos),
            retain: publish.retain,
            topic: ByteString::from(publish.topic.as_str()),
            packet_id: PacketId::new(publish.pkid),
            properties: None,
            payload: publish.payload.clone(),
        }),
        v4::Packet::PubAck(ack) => Packet::PubAck(Ack::success(id(ack.pkid))),
        v4::Packet::PubRec(ack) => Packet::PubRec(Ack::success(id(ack.pkid))),
        v4::Packet::PubRel(ack) => Packet::PubRel(Ack::success(id(ack.pkid))),
        v4::Packet::PubComp(ack) => Packet::PubComp(Ack::success(id(ack.pkid))),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe(Subscribe {
            packet_id: id(subscribe.pkid),
            properties: None,
            filters: subscribe.filters.iter().map(translated_filter).collect(),
        }),
        v4::Packet::SubAck(ack) => Packet::SubAck(SubAck {
            packet_id: id(ack.pkid),
            properties: None,
            reasons: ack
                .return_codes
                .iter()
                .map(|&code| translated_code(code))
                .collect(),
        }),
        v4::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe(Unsubscribe {
            packet_id: id(unsubscribe.pkid),
            properties: None,
            filters: texts(&unsubscribe.topics),
        }),
        v4::Packet::UnsubAck(ack) => Packet::UnsubAck(UnsubAck {
            packet_id: id(ack.pkid),
            properties: None,
            reasons: Vec::new(),
        }),
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::PingResp => Packet::PingResp,
        v4::Packet::Disconnect => Packet::Disconnect(Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: None,
        }),
    }
}

fn translated_connect(connect: &v4::Connect) -> Connect {
    let login = connect.login.as_ref();
    let given = |text: &&String| !text.is_empty();
    Connect {
        version: VERSION,
        clean_start: connect.clean_session,
        keep_alive: connect.keep_alive,
        client_id: ByteString::from(connect.client_id.as_str()),
        will: connect.last_will.as_ref().map(|will| Will {
            qos: qos(will.qos),
            retain: will.retain,
            topic: ByteString::from(will.topic.as_str()),
            payload: will.message.clone(),
            properties: None,
        }),
        username: login
            .map(|login| &login.username)
            .filter(given)
            .map(|name| ByteString::from(name.as_str())),
        password: login
            .map(|login| &login.password)
            .filter(given)
            .map(|password| Secret(Bytes::from(password.clone()))),
        properties: None,
    }
}

fn translated_filter(filter: &v4::SubscribeFilter) -> SubscribeFilter {
    SubscribeFilter {
        filter: ByteString::from(filter.path.as_str()),
        options: SubscriptionOptions {
            maximum_qos: qos(filter.qos),
            ..Default::default()
        },
    }
}

fn translated_code(code: v4::SubscribeReasonCode) -> ReasonCode {
    match code {
        v4::SubscribeReasonCode::Success(granted) => ReasonCode::granted(qos(granted)),
        v4::SubscribeReasonCode::Failure => ReasonCode::UnspecifiedError,
    }
}

/// Their bytes of their packet.
fn written(packet: &v4::Packet) -> BytesMut {
    let mut out = BytesMut::new();
    match packet {
        v4::Packet::Connect(packet) => packet.write(&mut out),
        v4::Packet::ConnAck(packet) => packet.write(&mut out),
        v4::Packet::Publish(packet) => packet.write(&mut out),
        v4::Packet::PubAck(packet) => packet.write(&mut out),
        v4::Packet::PubRec(packet) => packet.write(&mut out),
        v4::Packet::PubRel(packet) => packet.write(&mut out),
        v4::Packet::PubComp(packet) => packet.write(&mut out),
        v4::Packet::Subscribe(packet) => packet.write(&mut out),
        v4::Packet::SubAck(packet) => packet.write(&mut out),
        v4::Packet::Unsubscribe(packet) => packet.write(&mut out),
        v4::Packet::UnsubAck(packet) => packet.write(&mut out),
        v4::Packet::PingReq => v4::PingReq.write(&mut out),
        v4::Packet::PingResp => v4::PingResp.write(&mut out),
        v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
    }
    .expect("they can write what they read");
    out
}

#[test]
fn the_tables_of_differences_are_exact() {
    check_vectors("v3_1_1_", &LAXITIES, &is_their_error, |bytes| {
        v4::read(&mut BytesMut::from(bytes), MAX_BYTES).is_ok()
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
        let theirs = v4::read(&mut bytes.clone(), MAX_BYTES);
        let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{error:?}: {packet:?}")))?;
        prop_assert_eq!(translated(&theirs), packet.clone());
        prop_assert_eq!(ours(VERSION, direction, &written(&theirs)), Ok(Some(packet)));
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
        let theirs = v4::read(&mut bytes.clone(), MAX_BYTES);
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
