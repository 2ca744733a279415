//! What an MQTT client of a benchmark says and hears.

use super::*;
use protocols::mqtt::packet::Properties;
use std::num::NonZeroU16;

fn manner(version: ProtocolVersion, qos: QoS) -> Manner {
    Manner {
        version,
        qos,
        username: None,
        password: None,
        size: 64,
    }
}

fn peer(qos: QoS) -> MqttPeer {
    MqttPeer::new(manner(ProtocolVersion::V5, qos), "c".to_owned())
}

fn stamp(sequence: u64) -> Stamp {
    Stamp {
        time: 1,
        stream: 2,
        sequence,
    }
}

/// What the server reads.
fn said(out: &mut BytesMut) -> Vec<Packet> {
    let version = Some(ProtocolVersion::V5);
    let direction = protocols::mqtt::packet::Direction::ClientToServer;
    let mut decoder = Decoder::new(direction, version, Limits::default());
    let mut packets = Vec::new();
    while let Some(packet) = decoder.decode(out).expect("legal") {
        packets.push(packet);
    }
    packets
}

/// What the client tells of packets of the server, and what it answers.
fn heard(peer: &mut MqttPeer, packets: &[Packet]) -> Result<(Vec<String>, Vec<Packet>), String> {
    let (mut inbound, mut out, mut told) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for packet in packets {
        encode(packet, ProtocolVersion::V5, &mut inbound).expect("legal");
    }
    peer.handle(&mut inbound, &mut out, &mut |heard| {
        told.push(match heard {
            Heard::Message(payload) => String::from_utf8_lossy(payload).into_owned(),
            other => format!("{other:?}"),
        });
        Ok(())
    })?;
    Ok((told, said(&mut out)))
}

fn publish(qos: QoS, id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "t".into(),
        packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
        properties: None,
        payload: Bytes::from_static(b"hello"),
    })
}

fn connack(reason: ReasonCode, properties: Properties) -> Packet {
    Packet::ConnAck(ConnAck {
        session_present: false,
        reason,
        properties: properties.into_optional(),
    })
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

#[test]
fn a_client_says_who_it_is() {
    let manner = Manner {
        username: Some("joe@shop".to_owned()),
        password: Some("secret".to_owned()),
        ..manner(ProtocolVersion::V3_1_1, QoS::AtMostOnce)
    };
    let mut out = BytesMut::new();
    MqttPeer::new(manner, "c7".to_owned()).hello(&mut out);
    let mut decoder = Decoder::server(Limits::default());
    let Some(Packet::Connect(connect)) = decoder.decode(&mut out).expect("legal") else {
        panic!("no CONNECT");
    };
    assert_eq!((&*connect.client_id, connect.keep_alive), ("c7", u16::MAX));
    assert_eq!(connect.version, ProtocolVersion::V3_1_1);
    assert_eq!(connect.username.as_deref(), Some("joe@shop"));
    assert_eq!(
        connect.password,
        Some(Secret(Bytes::from_static(b"secret")))
    );
}

#[test]
fn messages_are_acknowledged_as_their_qos_asks() {
    for (qos, answers) in [
        (QoS::AtMostOnce, vec![]),
        (QoS::AtLeastOnce, vec![Packet::PubAck(Ack::success(id(7)))]),
        (QoS::ExactlyOnce, vec![Packet::PubRec(Ack::success(id(7)))]),
    ] {
        let (told, said) = heard(&mut peer(qos), &[publish(qos, 7)]).expect("fine");
        assert_eq!((told, said), (vec!["hello".to_owned()], answers));
    }
    let release = Packet::PubRel(Ack::success(id(7)));
    let (told, said) = heard(&mut peer(QoS::ExactlyOnce), &[release]).expect("fine");
    assert!(told.is_empty());
    assert_eq!(said, [Packet::PubComp(Ack::success(id(7)))]);
}

#[test]
fn publishes_carry_stamp_and_padding_to_their_topics() {
    let mut peer = peer(QoS::AtLeastOnce);
    peer.aim(&[Filter::new("a/b"), Filter::new("a/c")], false, b"xyz");
    let mut out = BytesMut::new();
    for at in [1, 0] {
        let sent = peer.publish(at, stamp(9), b"xyz", &mut out);
        sent.expect("fits");
    }
    let topics = said(&mut out).into_iter().map(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!(Stamp::find(&publish.payload), Some(stamp(9)));
            assert_eq!(publish.payload.len(), STAMP_BYTES + 3);
            (
                publish.topic.to_string(),
                publish.packet_id.map(PacketId::get),
            )
        }
        other => panic!("{other:?}"),
    });
    let expected = [("a/c".to_owned(), Some(1)), ("a/b".to_owned(), Some(2))];
    assert_eq!(topics.collect::<Vec<_>>(), expected);
}

#[test]
fn a_publish_of_qos_2_is_acknowledged_when_it_is_complete() {
    let mut peer = peer(QoS::ExactlyOnce);
    let (told, said) = heard(&mut peer, &[Packet::PubRec(Ack::success(id(3)))]).expect("fine");
    assert_eq!(
        (told.len(), said),
        (0, vec![Packet::PubRel(Ack::success(id(3)))])
    );
    let (told, _) = heard(&mut peer, &[Packet::PubComp(Ack::success(id(3)))]).expect("fine");
    assert_eq!(told, ["Acknowledged"]);
}

#[test]
fn no_more_is_sent_than_the_server_takes_at_a_time() {
    let mut peer = peer(QoS::AtLeastOnce);
    let properties = Properties {
        receive_maximum: NonZeroU16::new(2),
        ..Properties::default()
    };
    heard(&mut peer, &[connack(ReasonCode::Success, properties)]).expect("let in");
    peer.aim(&[Filter::new("a")], false, b"");
    assert_eq!(peer.room(), 2);
    let mut out = BytesMut::new();
    peer.publish(0, stamp(0), b"", &mut out).expect("fits");
    peer.publish(0, stamp(1), b"", &mut out).expect("fits");
    assert_eq!(peer.room(), 0);
    heard(&mut peer, &[Packet::PubAck(Ack::success(id(1)))]).expect("fine");
    assert_eq!(peer.room(), 1);
}

#[test]
fn packet_identifiers_begin_anew_behind_the_last() {
    let mut peer = peer(QoS::AtLeastOnce);
    peer.last_id = u16::MAX;
    assert_eq!(peer.next_id().get(), 1);
}

#[test]
fn many_filters_go_in_several_packets() {
    let filters: Vec<Filter> = (0..250).map(|n| Filter::new(&format!("a/{n}/+"))).collect();
    let mut out = BytesMut::new();
    peer(QoS::AtLeastOnce).subscribe(&filters, false, &mut out);
    let counts = said(&mut out).into_iter().map(|packet| match packet {
        Packet::Subscribe(subscribe) => {
            let first = &subscribe.filters[0];
            assert_eq!(first.options.maximum_qos, QoS::AtLeastOnce);
            subscribe.filters.len()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [100, 100, 50]);
}

#[test]
fn a_kept_message_is_deleted_by_an_empty_one() {
    let mut peer = peer(QoS::AtLeastOnce);
    peer.aim(&[Filter::new("a")], true, b"");
    let mut out = BytesMut::new();
    peer.erase(0, &mut out).expect("fits");
    let [Packet::Publish(publish)] = &said(&mut out)[..] else {
        panic!("one publish");
    };
    assert!(publish.retain && publish.payload.is_empty());
}

#[test]
fn refusals_are_told_in_words() {
    let suback = |reason| {
        Packet::SubAck(SubAck {
            packet_id: id(1),
            properties: None,
            reasons: vec![ReasonCode::GrantedQoS1, reason],
        })
    };
    let no_qos_1 = Properties {
        maximum_qos: Some(QoS::AtMostOnce),
        ..Properties::default()
    };
    let refused = Ack::with_reason(id(1), ReasonCode::NotAuthorized);
    let goodbye = Disconnect {
        reason: ReasonCode::ServerShuttingDown,
        properties: None,
    };
    for (packet, words) in [
        (
            connack(ReasonCode::NotAuthorized, Properties::default()),
            "refused the connection: Not authorized (0x87)",
        ),
        (
            connack(ReasonCode::Success, no_qos_1),
            "takes no QoS above 0",
        ),
        (
            suback(ReasonCode::NotAuthorized),
            "refused the subscription: Not authorized (0x87)",
        ),
        (
            suback(ReasonCode::GRANTED_QOS_0),
            "granted QoS 0 where 1 was asked for",
        ),
        (
            Packet::PubAck(refused.clone()),
            "refused the publish: Not authorized (0x87)",
        ),
        (
            Packet::PubRec(refused),
            "refused the publish: Not authorized (0x87)",
        ),
        (
            Packet::Disconnect(goodbye),
            "ended the session: Server shutting down (0x8B)",
        ),
    ] {
        let said = heard(&mut peer(QoS::AtLeastOnce), &[packet]);
        assert_eq!(said.expect_err(words), words);
    }
}

#[test]
fn bytes_of_no_server_are_refused() {
    let mut inbound = BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
    let mut out = BytesMut::new();
    let handled = peer(QoS::AtMostOnce).handle(&mut inbound, &mut out, &mut |_| Ok(()));
    let words = handled.expect_err("not MQTT");
    assert!(words.starts_with("broke the protocol: "), "{words}");
}

#[test]
fn it_is_quiet_when_the_last_sign_of_life_has_come() {
    let mut peer = peer(QoS::AtMostOnce);
    let mut out = BytesMut::new();
    peer.keep_alive(&mut out);
    peer.ask(&mut out);
    assert_eq!(said(&mut out), [Packet::PingReq, Packet::PingReq]);
    let (told, _) = heard(&mut peer, &[Packet::PingResp]).expect("fine");
    assert!(told.is_empty());
    let (told, _) = heard(&mut peer, &[Packet::PingResp]).expect("fine");
    assert_eq!(told, ["Quiet"]);
}
