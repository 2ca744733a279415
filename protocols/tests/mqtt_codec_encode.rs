//! What the encoder refuses to write, leaves out, and writes on the hot path.

#![cfg(feature = "mqtt")]

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::mqtt::codec::{
    Decoder, EncodeError, Limits, PeerLimits, PublishHead, encode, encode_puback, encode_pubcomp,
    encode_publish_head, encode_pubrec, encode_pubrel, encode_shared_properties, encode_within,
    encoded_len,
};
use protocols::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Properties, ProtocolVersion,
    Publish, QoS, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, Will,
};
use protocols::mqtt::reason::ReasonCode;

use ProtocolVersion::{V3_1, V3_1_1, V5};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn text(value: &str) -> ByteString {
    ByteString::from(value)
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
fn illegal_packets_are_not_written() {
    let with = |change: fn(&mut Publish)| {
        let mut message = publish("t", b"");
        change(&mut message);
        Packet::Publish(message)
    };
    let no_local_shared = SubscribeFilter {
        filter: text("$share/g/t"),
        options: SubscriptionOptions {
            no_local: true,
            ..SubscriptionOptions::default()
        },
    };
    let plain = SubscribeFilter {
        filter: text("t"),
        options: SubscriptionOptions::default(),
    };
    let with_properties = |properties: Properties| {
        let properties = properties.into_optional();
        Packet::Publish(Publish {
            properties,
            ..publish("t", b"")
        })
    };
    let two_ids = Properties {
        subscription_identifiers: vec![1, 2],
        ..Properties::default()
    };
    let subscribe = |properties: Properties, filters| {
        Packet::Subscribe(Subscribe {
            packet_id: id(1),
            properties: properties.into_optional(),
            filters,
        })
    };
    let wildcard = Properties {
        response_topic: Some(text("a/+")),
        ..Properties::default()
    };
    let data_only = Properties {
        authentication_data: Some(Default::default()),
        ..Properties::default()
    };
    let alias = Properties {
        topic_alias: NonZeroU16::new(1),
        ..Properties::default()
    };
    let ack = Ack {
        properties: alias.clone().into_optional(),
        ..Ack::success(id(1))
    };
    let cases = [
        (V3_1_1, with(|p| p.topic = text("a/+"))),
        (V5, with(|p| p.topic = text("#"))),
        (V5, with(|p| p.topic = text("a\0b"))),
        (V5, with(|p| p.topic = text(""))),
        (V5, with(|p| p.topic = ByteString::from("x".repeat(65_536)))),
        (V5, with(|p| p.dup = true)),
        (V5, with(|p| p.qos = QoS::AtLeastOnce)),
        (V5, with(|p| p.packet_id = PacketId::new(1))),
        (
            V3_1_1,
            Packet::Publish(Publish {
                properties: alias.into_optional(),
                ..publish("", b"")
            }),
        ),
        (V5, Packet::PubAck(ack)),
        (
            V5,
            Packet::PubAck(Ack::with_reason(id(1), ReasonCode::Banned)),
        ),
        (V5, subscribe(Properties::default(), vec![])),
        (V5, subscribe(Properties::default(), vec![no_local_shared])),
        (V5, subscribe(two_ids, vec![plain])),
        (V5, with_properties(wildcard)),
        (
            V5,
            Packet::Auth(Auth {
                reason: ReasonCode::Success,
                properties: data_only.into_optional(),
            }),
        ),
        (
            V5,
            Packet::SubAck(SubAck {
                packet_id: id(1),
                properties: None,
                reasons: vec![],
            }),
        ),
        (
            V5,
            Packet::ConnAck(ConnAck {
                session_present: true,
                reason: ReasonCode::Banned,
                properties: None,
            }),
        ),
        (
            V3_1_1,
            Packet::ConnAck(ConnAck {
                session_present: false,
                reason: ReasonCode::MalformedPacket,
                properties: None,
            }),
        ),
        (
            V3_1_1,
            Packet::Auth(Auth {
                reason: ReasonCode::Success,
                properties: None,
            }),
        ),
        (
            V5,
            Packet::Auth(Auth {
                reason: ReasonCode::ContinueAuthentication,
                properties: None,
            }),
        ),
    ];
    for (version, packet) in cases {
        let mut out = BytesMut::from(&b"before"[..]);
        assert!(
            encode(&packet, version, &mut out).is_err(),
            "{version:?} {packet:?}"
        );
        assert_eq!(&out[..], b"before", "{packet:?}");
        assert!(encoded_len(&packet, version).is_err());
    }
}

#[test]
fn an_illegal_connect_is_not_written() {
    let connect = Connect {
        version: V3_1_1,
        clean_start: true,
        keep_alive: 0,
        client_id: text("c"),
        will: None,
        username: None,
        password: Some(Default::default()),
        properties: None,
    };
    let refused = |connect: Connect| {
        encode(
            &Packet::Connect(Box::new(connect)),
            V5,
            &mut BytesMut::new(),
        )
        .is_err()
    };
    assert!(refused(connect.clone()), "password without a user name");
    assert!(
        !refused(Connect {
            version: V5,
            ..connect.clone()
        }),
        "legal in 5.0"
    );
    let data_only = Properties {
        authentication_data: Some(Default::default()),
        ..Properties::default()
    };
    assert!(
        refused(Connect {
            version: V5,
            properties: data_only.into_optional(),
            ..connect.clone()
        }),
        "data without a method"
    );
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: text("a/#"),
        payload: Bytes::new(),
        properties: None,
    };
    assert!(refused(Connect {
        will: Some(will),
        password: None,
        ..connect
    }));
}

#[test]
fn a_packet_beyond_256_mb_is_not_written() {
    let mut message = publish("t", b"");
    message.payload = Bytes::from(vec![0; 268_435_455]);
    let mut out = BytesMut::new();
    let error = encode_publish_head(&message, V3_1_1, &mut out).expect_err("too large");
    assert!(matches!(error, EncodeError::PacketTooLarge { .. }));
    assert!(out.is_empty());
}

#[test]
fn versions_3_drop_what_they_lack() {
    let properties = Properties {
        reason_string: Some(text("why")),
        user_properties: vec![(text("k"), text("v"))],
        ..Properties::default()
    };
    let ack = Ack {
        packet_id: id(1),
        reason: ReasonCode::NotAuthorized,
        properties: properties.clone().into_optional(),
    };
    assert_eq!(
        &encoded(&Packet::PubRec(ack), V3_1_1)[..],
        b"\x50\x02\x00\x01"
    );
    let sub_ack = SubAck {
        packet_id: id(1),
        properties: properties.clone().into_optional(),
        reasons: vec![ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized],
    };
    assert_eq!(
        &encoded(&Packet::SubAck(sub_ack), V3_1)[..],
        b"\x90\x04\x00\x01\x01\x80"
    );
    let conn_ack = ConnAck {
        session_present: false,
        reason: ReasonCode::ServerBusy,
        properties: properties.clone().into_optional(),
    };
    assert_eq!(
        &encoded(&Packet::ConnAck(conn_ack), V3_1_1)[..],
        b"\x20\x02\x00\x03"
    );
    let present = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: None,
    };
    assert_eq!(
        &encoded(&Packet::ConnAck(present), V3_1)[..],
        b"\x20\x02\x00\x00"
    );
    let disconnect = Disconnect {
        reason: ReasonCode::DisconnectWithWillMessage,
        properties: properties.into_optional(),
    };
    assert_eq!(
        &encoded(&Packet::Disconnect(disconnect), V3_1_1)[..],
        b"\xE0\x00"
    );
}

#[test]
fn maximum_qos_2_is_said_by_silence() {
    let set = Properties {
        maximum_qos: Some(QoS::ExactlyOnce),
        ..Properties::default()
    };
    let ack = ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties: set.into_optional(),
    };
    assert_eq!(
        &encoded(&Packet::ConnAck(ack), V5)[..],
        b"\x20\x03\x00\x00\x00"
    );
}

#[test]
fn answers_shrink_to_the_peer_s_maximum() {
    let properties = Properties {
        reason_string: Some(text("because")),
        user_properties: vec![(text("key"), text("value"))],
        ..Properties::default()
    };
    let ack = Packet::PubAck(Ack {
        packet_id: id(1),
        reason: ReasonCode::NotAuthorized,
        properties: properties.into_optional(),
    });
    let within = |maximum: u32| {
        let limits = PeerLimits {
            maximum_packet_size: Some(maximum),
            ..PeerLimits::default()
        };
        let mut out = BytesMut::new();
        encode_within(&ack, V5, &limits, &mut out).map(|()| out)
    };
    // Both properties, the Reason String alone, and the bare reason.
    assert_eq!(within(29).expect("fits").len(), 29);
    let reason_only = within(28).expect("fits");
    assert_eq!(
        &reason_only[..],
        b"\x40\x0E\x00\x01\x87\x0A\x1F\x00\x07because"
    );
    assert_eq!(&within(15).expect("fits")[..], b"\x40\x03\x00\x01\x87");
    assert_eq!(
        within(4),
        Err(EncodeError::PacketTooLarge {
            size: 5,
            maximum: 4
        })
    );
}

#[test]
fn user_properties_stay_if_only_the_reason_string_is_too_long() {
    let properties = Properties {
        reason_string: Some(ByteString::from("x".repeat(300))),
        user_properties: vec![(text("k"), text("v"))],
        ..Properties::default()
    };
    let packet = Packet::Disconnect(Disconnect {
        reason: ReasonCode::ServerBusy,
        properties: properties.into_optional(),
    });
    let limits = PeerLimits {
        maximum_packet_size: Some(100),
        ..PeerLimits::default()
    };
    let mut out = BytesMut::new();
    encode_within(&packet, V5, &limits, &mut out).expect("fits");
    assert_eq!(&out[..], b"\xE0\x09\x89\x07\x26\x00\x01k\x00\x01v");
}

#[test]
fn problem_information_is_left_out_on_request() {
    let properties = Properties {
        reason_string: Some(text("r")),
        ..Properties::default()
    }
    .into_optional();
    let limits = PeerLimits {
        request_problem_information: false,
        ..PeerLimits::default()
    };
    let form = |packet: &Packet| {
        let mut out = BytesMut::new();
        encode_within(packet, V5, &limits, &mut out).expect("fits");
        out
    };
    let ack = Ack {
        properties: properties.clone(),
        ..Ack::success(id(1))
    };
    assert_eq!(&form(&Packet::PubAck(ack))[..], b"\x40\x02\x00\x01");
    let reason = ReasonCode::ServerBusy;
    let disconnect = Disconnect {
        reason,
        properties: properties.clone(),
    };
    let kept = form(&Packet::Disconnect(disconnect));
    assert_eq!(
        &kept[..],
        b"\xE0\x06\x89\x04\x1F\x00\x01r",
        "[MQTT-3.1.2-29] spares DISCONNECT"
    );
    let conn_ack = ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties,
    };
    let kept = form(&Packet::ConnAck(conn_ack));
    assert_eq!(
        &kept[..],
        b"\x20\x07\x00\x00\x04\x1F\x00\x01r",
        "[MQTT-3.1.2-29] spares CONNACK"
    );
}

#[test]
fn a_publish_is_never_altered_to_fit() {
    let mut message = publish("t", b"");
    message.properties = Properties {
        user_properties: vec![(text("k"), text("v"))],
        ..Properties::default()
    }
    .into_optional();
    let packet = Packet::Publish(message);
    let size = encoded_len(&packet, V5).expect("legal");
    let limits = PeerLimits {
        maximum_packet_size: Some(u32::try_from(size).expect("small") - 1),
        request_problem_information: false,
    };
    let mut out = BytesMut::new();
    let error = encode_within(&packet, V5, &limits, &mut out).expect_err("too large");
    assert_eq!(
        error,
        EncodeError::PacketTooLarge {
            size,
            maximum: size - 1
        }
    );
    assert!(out.is_empty());
}

#[test]
fn short_acknowledgements_equal_the_long_way() {
    type Fast = fn(PacketId, &mut BytesMut);
    type Make = fn(Ack) -> Packet;
    let cases: [(Fast, Make); 4] = [
        (encode_puback, Packet::PubAck),
        (encode_pubrec, Packet::PubRec),
        (encode_pubrel, Packet::PubRel),
        (encode_pubcomp, Packet::PubComp),
    ];
    for (fast, make) in cases {
        let mut out = BytesMut::new();
        fast(id(0x1234), &mut out);
        assert_eq!(out, encoded(&make(Ack::success(id(0x1234))), V5));
    }
}

#[test]
fn a_fanned_out_head_decodes_to_the_same_message() {
    let shared = Properties {
        payload_format_indicator: Some(true),
        content_type: Some(text("ct")),
        response_topic: Some(text("re")),
        correlation_data: Some(Bytes::from_static(b"c")),
        user_properties: vec![(text("b"), text("1")), (text("a"), text("2"))],
        ..Properties::default()
    };
    let own = Properties {
        message_expiry_interval: Some(5),
        subscription_identifiers: vec![3, 200],
        topic_alias: NonZeroU16::new(4),
        ..shared.clone()
    };
    let mut block = BytesMut::new();
    encode_shared_properties(&own, &mut block).expect("legal");
    let head = PublishHead {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "a/b",
        packet_id: Some(id(9)),
        topic_alias: NonZeroU16::new(4),
        message_expiry_interval: Some(5),
        subscription_identifiers: &[3, 200],
        shared_properties: &block,
        payload_len: 200,
    };
    for version in [V3_1, V3_1_1, V5] {
        let mut out = BytesMut::new();
        head.encode(version, &mut out).expect("legal");
        assert_eq!(head.encoded_len(version), Ok(out.len() + 200));
        out.extend_from_slice(&[7; 200]);
        let expected = Publish {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: text("a/b"),
            packet_id: Some(id(9)),
            properties: version.is_v5().then(|| Box::new(own.clone())),
            payload: Bytes::from(vec![7; 200]),
        };
        let mut decoder = Decoder::client(version, Limits::default());
        let mut buf = out.clone();
        assert_eq!(
            decoder.decode(&mut buf),
            Ok(Some(Packet::Publish(expected.clone())))
        );
        let mut head_only = BytesMut::new();
        encode_publish_head(&expected, version, &mut head_only).expect("legal");
        head_only.extend_from_slice(&expected.payload);
        assert_eq!(head_only, encoded(&Packet::Publish(expected), version));
    }
}

#[test]
fn an_illegal_head_is_not_written() {
    let good = PublishHead {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t",
        packet_id: None,
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: &[],
        shared_properties: &[],
        payload_len: 0,
    };
    let cases = [
        PublishHead {
            topic: "a/+",
            ..good
        },
        PublishHead { topic: "", ..good },
        PublishHead { dup: true, ..good },
        PublishHead {
            qos: QoS::AtLeastOnce,
            ..good
        },
        PublishHead {
            subscription_identifiers: &[0],
            ..good
        },
        PublishHead {
            subscription_identifiers: &[268_435_456],
            ..good
        },
        PublishHead {
            payload_len: 268_435_455,
            ..good
        },
    ];
    for head in cases {
        let mut out = BytesMut::new();
        assert!(head.encode(V5, &mut out).is_err(), "{head:?}");
        assert!(out.is_empty());
    }
    let aliased = PublishHead {
        topic: "",
        topic_alias: NonZeroU16::new(1),
        ..good
    };
    assert!(aliased.encoded_len(V5).is_ok());
    assert!(
        aliased.encoded_len(V3_1_1).is_err(),
        "3.1.1 has no alias to stand for the topic"
    );
}
