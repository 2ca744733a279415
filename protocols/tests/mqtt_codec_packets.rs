//! Packets against their bytes, both ways, field by field; and that decoded fields are slices.

#![cfg(feature = "mqtt")]

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::mqtt::codec::{Decoder, Limits, encode, encoded_len};
use protocols::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Direction, Disconnect, Packet, PacketId, Properties,
    ProtocolVersion, Publish, QoS, RetainHandling, Secret, SubAck, Subscribe, SubscribeFilter,
    SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

use Direction::{ClientToServer, ServerToClient};
use ProtocolVersion::{V3_1, V3_1_1, V5};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn text(value: &str) -> ByteString {
    ByteString::from(value)
}

fn user(key: &str, value: &str) -> (ByteString, ByteString) {
    (text(key), text(value))
}

/// `bytes` decode to `packet`, and `packet` encodes to `bytes`.
#[track_caller]
fn same(version: ProtocolVersion, direction: Direction, bytes: &[u8], packet: Packet) {
    let mut decoder = match packet {
        Packet::Connect(_) => Decoder::server(Limits::default()),
        _ => Decoder::new(direction, Some(version), Limits::default()),
    };
    let mut buf = BytesMut::from(bytes);
    assert_eq!(decoder.decode(&mut buf), Ok(Some(packet.clone())));
    assert!(buf.is_empty());
    assert_eq!(decoder.version(), Some(version));
    let mut out = BytesMut::new();
    encode(&packet, version, &mut out).expect("a decoded packet can be encoded");
    assert_eq!(&out[..], bytes);
    assert_eq!(encoded_len(&packet, version), Ok(bytes.len()));
}

#[test]
fn connect_3_x() {
    let connect = Connect {
        version: V3_1,
        clean_start: true,
        keep_alive: 0x0102,
        client_id: text("me"),
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: text("w"),
            payload: Bytes::from_static(b"bye"),
            properties: None,
        }),
        username: Some(text("u")),
        password: Some(Secret(Bytes::from_static(b"pw"))),
        properties: None,
    };
    let bytes =
        b"\x10\x1F\x00\x06MQIsdp\x03\xEE\x01\x02\x00\x02me\x00\x01w\x00\x03bye\x00\x01u\x00\x02pw";
    same(
        V3_1,
        ClientToServer,
        bytes,
        Packet::Connect(Box::new(connect.clone())),
    );
    let bytes =
        b"\x10\x1D\x00\x04MQTT\x04\xEE\x01\x02\x00\x02me\x00\x01w\x00\x03bye\x00\x01u\x00\x02pw";
    let later = Connect {
        version: V3_1_1,
        ..connect
    };
    same(
        V3_1_1,
        ClientToServer,
        bytes,
        Packet::Connect(Box::new(later)),
    );
}

#[test]
fn connect_5_with_every_property() {
    let will_properties = Properties {
        payload_format_indicator: Some(true),
        message_expiry_interval: Some(0x0102_0304),
        content_type: Some(text("ct")),
        response_topic: Some(text("re")),
        correlation_data: Some(Bytes::from_static(b"\x00\xFF")),
        will_delay_interval: Some(9),
        user_properties: vec![user("b", "1"), user("a", "2"), user("b", "1")],
        ..Properties::default()
    };
    let properties = Properties {
        session_expiry_interval: Some(u32::MAX),
        authentication_method: Some(text("M")),
        authentication_data: Some(Secret(Bytes::from_static(b"d"))),
        request_problem_information: Some(false),
        request_response_information: Some(true),
        receive_maximum: NonZeroU16::new(20),
        topic_alias_maximum: Some(0),
        user_properties: vec![user("k", "")],
        maximum_packet_size: NonZeroU32::new(1000),
        ..Properties::default()
    };
    let connect = Connect {
        version: V5,
        clean_start: false,
        keep_alive: 60,
        client_id: text(""),
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: text("w"),
            payload: Bytes::new(),
            properties: will_properties.into_optional(),
        }),
        username: None,
        password: Some(Secret(Bytes::from_static(b"p"))),
        properties: properties.into_optional(),
    };
    let mut bytes = b"\x10\x6C\x00\x04MQTT\x05\x54\x00\x3C".to_vec();
    bytes.extend(b"\x22\x11\xFF\xFF\xFF\xFF\x15\x00\x01M\x16\x00\x01d\x17\x00\x19\x01");
    bytes.extend(b"\x21\x00\x14\x22\x00\x00\x26\x00\x01k\x00\x00\x27\x00\x00\x03\xE8");
    bytes.extend(b"\x00\x00");
    bytes.extend(b"\x30\x01\x01\x02\x01\x02\x03\x04\x03\x00\x02ct\x08\x00\x02re");
    bytes.extend(b"\x09\x00\x02\x00\xFF\x18\x00\x00\x00\x09");
    bytes.extend(b"\x26\x00\x01b\x00\x011\x26\x00\x01a\x00\x012\x26\x00\x01b\x00\x011");
    bytes.extend(b"\x00\x01w\x00\x00\x00\x01p");
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    same(
        V5,
        ClientToServer,
        &bytes,
        Packet::Connect(Box::new(connect)),
    );
}

#[test]
fn conn_ack() {
    let plain = |session_present, reason| {
        Packet::ConnAck(ConnAck {
            session_present,
            reason,
            properties: None,
        })
    };
    same(
        V3_1,
        ServerToClient,
        b"\x20\x02\x00\x04",
        plain(false, ReasonCode::BadUserNameOrPassword),
    );
    same(
        V3_1_1,
        ServerToClient,
        b"\x20\x02\x01\x00",
        plain(true, ReasonCode::Success),
    );
    same(
        V5,
        ServerToClient,
        b"\x20\x03\x00\x8A\x00",
        plain(false, ReasonCode::Banned),
    );
}

#[test]
fn conn_ack_5_with_every_property() {
    let properties = Properties {
        session_expiry_interval: Some(1),
        assigned_client_identifier: Some(text("id")),
        server_keep_alive: Some(60),
        authentication_method: Some(text("M")),
        authentication_data: Some(Secret(Bytes::from_static(b"d"))),
        response_information: Some(text("ri")),
        server_reference: Some(text("sr")),
        reason_string: Some(text("rs")),
        receive_maximum: NonZeroU16::new(2),
        topic_alias_maximum: Some(3),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        user_properties: vec![user("k", "v")],
        maximum_packet_size: NonZeroU32::new(4),
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(true),
        ..Properties::default()
    };
    let mut bytes = b"\x20\x00\x01\x00\x46".to_vec();
    bytes.extend(b"\x11\x00\x00\x00\x01\x12\x00\x02id\x13\x00\x3C\x15\x00\x01M\x16\x00\x01d");
    bytes.extend(b"\x1A\x00\x02ri\x1C\x00\x02sr\x1F\x00\x02rs\x21\x00\x02\x22\x00\x03");
    bytes.extend(b"\x24\x01\x25\x00\x26\x00\x01k\x00\x01v\x27\x00\x00\x00\x04");
    bytes.extend(b"\x28\x01\x29\x00\x2A\x01");
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    bytes[4] = u8::try_from(bytes.len() - 5).expect("short");
    let packet = Packet::ConnAck(ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: properties.into_optional(),
    });
    same(V5, ServerToClient, &bytes, packet);
}

#[test]
fn publish() {
    let publish = Publish {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: text("a/b"),
        packet_id: Some(id(0x0A0B)),
        properties: None,
        payload: Bytes::from_static(b"xyz"),
    };
    let bytes = b"\x3C\x0A\x00\x03a/b\x0A\x0Bxyz";
    same(
        V3_1,
        ClientToServer,
        bytes,
        Packet::Publish(publish.clone()),
    );
    same(
        V3_1_1,
        ServerToClient,
        bytes,
        Packet::Publish(publish.clone()),
    );
    same(
        V5,
        ServerToClient,
        b"\x3C\x0B\x00\x03a/b\x0A\x0B\x00xyz",
        Packet::Publish(publish),
    );
    let properties = Properties {
        payload_format_indicator: Some(false),
        subscription_identifiers: vec![1, 268_435_455, 1],
        topic_alias: NonZeroU16::new(7),
        ..Properties::default()
    };
    let aliased = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic: text(""),
        packet_id: None,
        properties: properties.into_optional(),
        payload: Bytes::new(),
    };
    let bytes = b"\x31\x11\x00\x00\x0E\x01\x00\x0B\x01\x0B\xFF\xFF\xFF\x7F\x0B\x01\x23\x00\x07";
    same(V5, ServerToClient, bytes, Packet::Publish(aliased));
}

#[test]
fn acknowledgements() {
    type Make = fn(Ack) -> Packet;
    let types: [(u8, Make, ReasonCode); 4] = [
        (0x40, Packet::PubAck, ReasonCode::NotAuthorized),
        (0x50, Packet::PubRec, ReasonCode::QuotaExceeded),
        (0x62, Packet::PubRel, ReasonCode::PacketIdentifierNotFound),
        (0x70, Packet::PubComp, ReasonCode::PacketIdentifierNotFound),
    ];
    for (first, make, reason) in types {
        for version in [V3_1, V3_1_1, V5] {
            same(
                version,
                ClientToServer,
                &[first, 2, 1, 2],
                make(Ack::success(id(0x0102))),
            );
        }
        let code = reason.value();
        same(
            V5,
            ServerToClient,
            &[first, 3, 1, 2, code],
            make(Ack::with_reason(id(0x0102), reason)),
        );
        let properties = Properties {
            reason_string: Some(text("r")),
            user_properties: vec![user("k", "v")],
            ..Properties::default()
        };
        let mut bytes = vec![first, 15, 0, 1, code, 11];
        bytes.extend(b"\x1F\x00\x01r\x26\x00\x01k\x00\x01v");
        let full = Ack {
            packet_id: id(1),
            reason,
            properties: properties.into_optional(),
        };
        same(V5, ServerToClient, &bytes, make(full));
    }
}

#[test]
fn subscribe() {
    let filter = |filter, maximum_qos| SubscribeFilter {
        filter: text(filter),
        options: SubscriptionOptions {
            maximum_qos,
            ..SubscriptionOptions::default()
        },
    };
    let mut subscribe = Subscribe {
        packet_id: id(10),
        properties: None,
        filters: vec![
            filter("a/#", QoS::AtMostOnce),
            filter("b", QoS::ExactlyOnce),
        ],
    };
    let bytes = b"\x82\x0C\x00\x0A\x00\x03a/#\x00\x00\x01b\x02";
    same(
        V3_1_1,
        ClientToServer,
        bytes,
        Packet::Subscribe(subscribe.clone()),
    );
    subscribe.properties = Properties {
        subscription_identifiers: vec![128],
        ..Properties::default()
    }
    .into_optional();
    subscribe.filters[0].options = SubscriptionOptions {
        maximum_qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    };
    subscribe.filters[1].options = SubscriptionOptions {
        maximum_qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let bytes = b"\x82\x10\x00\x0A\x03\x0B\x80\x01\x00\x03a/#\x25\x00\x01b\x18";
    same(V5, ClientToServer, bytes, Packet::Subscribe(subscribe));
}

#[test]
fn subscription_answers() {
    let sub_ack = SubAck {
        packet_id: id(2),
        properties: None,
        reasons: vec![ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError],
    };
    same(
        V3_1_1,
        ServerToClient,
        b"\x90\x04\x00\x02\x02\x80",
        Packet::SubAck(sub_ack.clone()),
    );
    same(
        V5,
        ServerToClient,
        b"\x90\x05\x00\x02\x00\x02\x80",
        Packet::SubAck(sub_ack),
    );
    let unsubscribe = Unsubscribe {
        packet_id: id(3),
        properties: None,
        filters: vec![text("a"), text("$share/g/b")],
    };
    let bytes = b"\xA2\x11\x00\x03\x00\x01a\x00\x0A$share/g/b";
    same(
        V3_1_1,
        ClientToServer,
        bytes,
        Packet::Unsubscribe(unsubscribe.clone()),
    );
    let bytes = b"\xA2\x12\x00\x03\x00\x00\x01a\x00\x0A$share/g/b";
    same(V5, ClientToServer, bytes, Packet::Unsubscribe(unsubscribe));
    let mut unsub_ack = UnsubAck {
        packet_id: id(3),
        properties: None,
        reasons: Vec::new(),
    };
    same(
        V3_1,
        ServerToClient,
        b"\xB0\x02\x00\x03",
        Packet::UnsubAck(unsub_ack.clone()),
    );
    unsub_ack.reasons = vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    same(
        V5,
        ServerToClient,
        b"\xB0\x05\x00\x03\x00\x00\x11",
        Packet::UnsubAck(unsub_ack),
    );
}

#[test]
fn ping_disconnect_auth() {
    for version in [V3_1, V3_1_1, V5] {
        same(version, ClientToServer, b"\xC0\x00", Packet::PingReq);
        same(version, ServerToClient, b"\xD0\x00", Packet::PingResp);
        let normal = Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: None,
        };
        same(
            version,
            ClientToServer,
            b"\xE0\x00",
            Packet::Disconnect(normal),
        );
    }
    let with_will = Disconnect {
        reason: ReasonCode::DisconnectWithWillMessage,
        properties: None,
    };
    same(
        V5,
        ClientToServer,
        b"\xE0\x01\x04",
        Packet::Disconnect(with_will),
    );
    let expiry = Properties {
        session_expiry_interval: Some(5),
        ..Properties::default()
    };
    let expiring = Disconnect {
        reason: ReasonCode::NORMAL_DISCONNECTION,
        properties: expiry.into_optional(),
    };
    let bytes = b"\xE0\x07\x00\x05\x11\x00\x00\x00\x05";
    same(V5, ClientToServer, bytes, Packet::Disconnect(expiring));
    let method = Properties {
        authentication_method: Some(text("M")),
        ..Properties::default()
    };
    let auth = Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: method.into_optional(),
    };
    same(
        V5,
        ServerToClient,
        b"\xF0\x06\x18\x04\x15\x00\x01M",
        Packet::Auth(auth),
    );
    let done = Auth {
        reason: ReasonCode::Success,
        properties: None,
    };
    same(V5, ServerToClient, b"\xF0\x00", Packet::Auth(done));
}

#[test]
fn fields_are_slices_of_the_read_buffer() {
    let mut buf = BytesMut::from(&b"\x30\x0F\x00\x05topic\x00payload"[..]);
    let range = buf.as_ptr_range();
    let mut decoder = Decoder::client(V5, Limits::default());
    let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut buf) else {
        panic!("a PUBLISH");
    };
    assert_eq!(
        (&*publish.topic, &publish.payload[..]),
        ("topic", &b"payload"[..])
    );
    assert!(range.contains(&publish.topic.as_ptr()));
    assert!(range.contains(&publish.payload.as_ptr()));
}
