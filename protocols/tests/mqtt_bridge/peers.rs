//! What a server may say, ask for, refuse or get wrong; the test plays it.

use crate::world::*;
use bytes::{Bytes, BytesMut};
use protocols::mqtt::bridge::Direction::{Both, In, Out};
use protocols::mqtt::bridge::{Dialect, End, Note};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Ack, Auth, Disconnect, Packet, Properties, ProtocolVersion, Publish, RetainHandling, SubAck,
};
use protocols::mqtt::reason::ReasonCode;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

fn refused(packet: Packet) -> World {
    let mut world = World::new(&[rule(Both, "a", ExactlyOnce)]);
    let (bridge, _) = world.scripted(Dialect::V5);
    world.play(bridge, &packet);
    world
}

#[test]
fn connect_says_what_the_bridge_is() {
    let mut world = World::new(&[rule(Both, "a/#", ExactlyOnce)]);
    let (_, connect) = world.scripted(Dialect::V5);
    let set = connect.properties.expect("properties");
    assert_eq!(
        (&*connect.client_id, connect.clean_start, connect.keep_alive),
        ("b-at-peer", false, 60)
    );
    assert_eq!(set.session_expiry_interval, Some(3_600));
    assert_eq!(set.receive_maximum.map(NonZeroU16::get), Some(10));
    assert_eq!(set.maximum_packet_size.map(NonZeroU32::get), Some(4_096));
    assert_eq!(set.topic_alias_maximum, None);
    world.options.clean_start = true;
    let (_, connect) = world.scripted(Dialect::V5);
    assert!(connect.clean_start);
    assert_eq!(
        connect
            .properties
            .expect("properties")
            .session_expiry_interval,
        None
    );
}

#[test]
fn only_the_bridge_dialect_sets_the_bit_and_only_5_0_has_the_options() {
    let mut world = World::new(&[rule(In, "a/#", ExactlyOnce)]);
    for dialect in [Dialect::V5, Dialect::Bridge3_1_1, Dialect::V3_1_1] {
        let (bridge, connect) = world.scripted(dialect);
        let is_v5 = connect.version == ProtocolVersion::V5;
        assert_eq!(is_v5, dialect == Dialect::V5);
        world.play(
            bridge,
            &conn_ack(false, ReasonCode::Success, Properties::default()),
        );
        let Packet::Subscribe(subscribe) = world.next(bridge) else {
            panic!("no SUBSCRIBE");
        };
        let options = subscribe.filters[0].options;
        assert_eq!(
            (options.no_local, options.retain_as_published),
            (is_v5, is_v5)
        );
        assert_eq!(options.retain_handling, RetainHandling::SendAtSubscribe);
    }
}

#[test]
fn refusals_of_the_version_are_told_apart_from_others() {
    let v5 = |reason| conn_ack(false, reason, Properties::default());
    assert_eq!(
        refused(v5(ReasonCode::UnsupportedProtocolVersion)).end(),
        Some(End::VersionRefused)
    );
    let world = refused(v5(ReasonCode::NotAuthorized));
    let notes = world.notes();
    assert!(notes.contains(&Note::Refused {
        reason: ReasonCode::NotAuthorized,
        words: "".into()
    }));
    assert!(matches!(
        notes.last(),
        Some(Note::Ended {
            end: End::Refused,
            ..
        })
    ));
    // Servers that know no 5.0 answer in their own form.
    for (code, end) in [
        (1, End::VersionRefused),
        (5, End::Refused),
        (9, End::VersionRefused),
    ] {
        let mut world = World::new(&[rule(Both, "a", ExactlyOnce)]);
        let (bridge, _) = world.scripted(Dialect::V5);
        world.raw(bridge, &[0x20, 2]);
        assert_eq!(world.end(), None, "not all of it");
        world.raw(bridge, &[0, code]);
        assert_eq!(world.end(), Some(end), "{code}");
    }
    let mut world = World::new(&[rule(Both, "a", ExactlyOnce)]);
    let (bridge, _) = world.scripted(Dialect::V5);
    world.cut(bridge);
    assert_eq!(world.end(), Some(End::ClosedEarly));
    let bridge = world.let_in(false, Properties::default());
    world.cut(bridge);
    assert_eq!(world.end(), Some(End::Closed));
}

#[test]
fn the_peer_s_limits_are_kept() {
    let mut world = World::new(&[rule(Out, "a/#", ExactlyOnce)]);
    let limits = Properties {
        receive_maximum: NonZeroU16::new(2),
        maximum_packet_size: NonZeroU32::new(100),
        maximum_qos: Some(AtLeastOnce),
        retain_available: Some(false),
        ..Properties::default()
    };
    let bridge = world.let_in(false, limits);
    let here = world.client(HERE, "here");
    world.publish(here, "a/large", &"x".repeat(100), ExactlyOnce, false);
    for number in 0..4 {
        world.publish(here, "a/1", &number.to_string(), ExactlyOnce, true);
    }
    let (first, second) = (world.next_publish(bridge), world.next_publish(bridge));
    assert_eq!(
        (first.qos, first.retain, &*first.payload),
        (AtLeastOnce, false, &b"0"[..])
    );
    world.nothing(bridge);
    world.play(
        bridge,
        &Packet::PubAck(Ack::success(second.packet_id.expect("QoS 1"))),
    );
    assert_eq!(world.next_publish(bridge).payload, "2");
    world.nothing(bridge);
    assert_eq!(world.count("not_deliverable"), 1);
}

#[test]
fn a_peer_of_maximum_qos_0_gets_what_it_can_take() {
    let mut world = World::new(&[rule(Out, "a", ExactlyOnce)]);
    world.prepare();
    let here = world.client(HERE, "here");
    world.publish(here, "a", "x", ExactlyOnce, false);
    let zero = Properties {
        maximum_qos: Some(AtMostOnce),
        ..Properties::default()
    };
    let bridge = world.let_in(false, zero.clone());
    assert_eq!(world.next_publish(bridge).qos, AtMostOnce);
    world.cut(bridge);
    let bridge = world.let_in(true, zero);
    world.nothing(bridge);
}

#[test]
fn filters_that_are_refused_or_impossible_are_told() {
    let mut world = World::new(&[
        rule(In, "a/#", ExactlyOnce),
        rule(In, "b", ExactlyOnce),
        rule(Out, "c", AtLeastOnce),
    ]);
    let (bridge, _) = world.scripted(Dialect::V5);
    let none = Properties {
        wildcard_subscription_available: Some(false),
        ..Properties::default()
    };
    world.play(bridge, &conn_ack(false, ReasonCode::Success, none));
    let Packet::Subscribe(subscribe) = world.next(bridge) else {
        panic!("no SUBSCRIBE");
    };
    assert_eq!(&*subscribe.filters[0].filter, "b");
    let here = world.client(HERE, "here");
    world.publish(here, "c", "x", AtLeastOnce, false);
    world.nothing(bridge);
    world.play(
        bridge,
        &sub_ack(subscribe.packet_id, ReasonCode::NotAuthorized),
    );
    assert_eq!(world.next_publish(bridge).payload, "x", "the rest goes on");
    let notes = world.notes();
    let told = |filter: &str, reason| {
        notes.contains(&Note::FilterRefused {
            filter: filter.into(),
            reason,
        })
    };
    assert!(told("a/#", ReasonCode::WildcardSubscriptionsNotSupported));
    assert!(told("b", ReasonCode::NotAuthorized));
    assert!(notes.contains(&Note::Flowing));
}

#[test]
fn identifiers_are_used_where_filters_overlap_and_the_peer_knows_them() {
    let mut world = World::new(&[
        prefixed(In, "a/#", AtLeastOnce, "x/", ""),
        prefixed(In, "a/+", AtLeastOnce, "y/", ""),
    ]);
    let (bridge, _) = world.scripted(Dialect::V5);
    world.play(
        bridge,
        &conn_ack(false, ReasonCode::Success, Properties::default()),
    );
    let mut identifiers = Vec::new();
    for _ in 0..2 {
        let Packet::Subscribe(subscribe) = world.next(bridge) else {
            panic!("no SUBSCRIBE");
        };
        identifiers.extend(subscribe.properties.expect("one").subscription_identifiers);
        world.play(
            bridge,
            &sub_ack(subscribe.packet_id, ReasonCode::GrantedQoS1),
        );
    }
    assert_eq!(identifiers, [1, 2]);
    let here = world.client(HERE, "here");
    world.subscribe(here, "#");
    let second = Properties {
        subscription_identifiers: vec![2],
        ..Properties::default()
    };
    let publish = Publish {
        properties: second.into_optional(),
        ..message("a/1", "x", None, AtMostOnce)
    };
    world.play(bridge, &Packet::Publish(publish));
    assert_eq!(world.received(here), [("y/a/1".to_owned(), "x".to_owned())]);
}

#[test]
fn former_filters_are_unsubscribed_where_the_session_goes_on() {
    let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
    world.options.stale_filters = vec!["old/#".into()];
    for present in [true, false] {
        let (bridge, _) = world.scripted(Dialect::V5);
        world.play(
            bridge,
            &conn_ack(present, ReasonCode::Success, Properties::default()),
        );
        assert!(matches!(world.next(bridge), Packet::Subscribe(_)));
        if present {
            let Packet::Unsubscribe(unsubscribe) = world.next(bridge) else {
                panic!("no UNSUBSCRIBE");
            };
            assert_eq!(unsubscribe.filters, ["old/#"]);
        }
        world.nothing(bridge);
        world.cut(bridge);
    }
}

#[test]
fn pings_keep_the_connection_and_find_a_dead_peer() {
    let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
    let ten = Properties {
        server_keep_alive: Some(10),
        ..Properties::default()
    };
    let bridge = world.let_in(false, ten);
    world.notes();
    for _ in 0..3 {
        world.wait(Duration::from_millis(7_499));
        world.nothing(bridge);
        world.wait(Duration::from_millis(1));
        assert_eq!(world.next(bridge), Packet::PingReq);
        world.play(bridge, &Packet::PingResp);
    }
    world.wait(Duration::from_millis(7_500));
    assert_eq!(world.next(bridge), Packet::PingReq);
    for _ in 0..2 {
        world.wait(Duration::from_millis(7_490));
    }
    assert_eq!(world.end(), None);
    world.wait(Duration::from_millis(20));
    assert_eq!(world.end(), Some(End::Silent));
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
    world.scripted(Dialect::V5);
    world.wait(Duration::from_secs(15));
    assert_eq!(world.end(), Some(End::Silent), "no CONNACK");
    let (bridge, _) = world.scripted(Dialect::V5);
    world.play(
        bridge,
        &conn_ack(false, ReasonCode::Success, Properties::default()),
    );
    world.wait(Duration::from_secs(15));
    assert_eq!(world.end(), Some(End::Silent), "no SUBACK");
}

#[test]
fn what_no_server_may_send_ends_the_connection() {
    let publish = |packet| Packet::Publish(message("a", "x", Some(id(packet)), AtLeastOnce));
    let alias = Properties {
        topic_alias: NonZeroU16::new(1),
        ..Properties::default()
    };
    let cases: Vec<(Packet, ReasonCode)> = vec![
        (
            conn_ack(false, ReasonCode::Success, Properties::default()),
            ReasonCode::ProtocolError,
        ),
        (Packet::PingReq, ReasonCode::ProtocolError),
        (
            Packet::Auth(Auth {
                reason: ReasonCode::Success,
                properties: None,
            }),
            ReasonCode::ProtocolError,
        ),
        (
            Packet::Publish(Publish {
                properties: alias.into_optional(),
                ..message("a", "x", None, AtMostOnce)
            }),
            ReasonCode::TopicAliasInvalid,
        ),
        (
            Packet::Publish(message("a", &"x".repeat(5_000), None, AtMostOnce)),
            ReasonCode::PacketTooLarge,
        ),
    ];
    for (packet, reason) in cases {
        let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
        let bridge = world.let_in(false, Properties::default());
        world.notes();
        world.play(bridge, &packet);
        let Some(End::Broken(found, _)) = world.end() else {
            panic!("still open after {packet:?}");
        };
        assert_eq!(found, reason, "{packet:?}");
        let said = Disconnect {
            reason,
            properties: None,
        };
        assert_eq!(world.next(bridge), Packet::Disconnect(said));
    }
    let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
    let (bridge, _) = world.scripted(Dialect::V5);
    world.play(bridge, &publish(1));
    assert!(
        matches!(world.end(), Some(End::Broken(..))),
        "ahead of CONNACK"
    );
}

#[test]
fn what_a_peer_leaves_open_beyond_receive_maximum_is_counted_and_bounded() {
    let mut world = World::new(&[rule(In, "a", ExactlyOnce)]);
    let sleeper = world.client(HERE, "sleeper");
    world.subscribe(sleeper, "a");
    let bridge = world.let_in(false, Properties::default());
    world.notes();
    world.sides[HERE].hold_commits = true;
    let publish = |number| Packet::Publish(message("a", "x", Some(id(number)), ExactlyOnce));
    for number in 1..=10 {
        world.play(bridge, &publish(number));
    }
    assert_eq!(world.count("over_receive_maximum"), 0);
    world.play(bridge, &publish(11));
    assert_eq!(world.count("over_receive_maximum"), 1);
    let mut bytes = BytesMut::new();
    for _ in 11..=65_535 {
        encode(&publish(12), ProtocolVersion::V5, &mut bytes).expect("legal");
    }
    world.raw(bridge, &bytes);
    let Some(End::Broken(ReasonCode::ReceiveMaximumExceeded, _)) = world.end() else {
        panic!("no bound");
    };
}

#[test]
fn acknowledgements_that_fit_nothing_do_no_harm_and_wrong_ones_end_it() {
    let mut world = World::new(&[rule(Out, "a", ExactlyOnce)]);
    let bridge = world.let_in(false, Properties::default());
    world.notes();
    for packet in [
        Packet::PubAck(Ack::success(id(77))),
        Packet::PubComp(Ack::success(id(77))),
        sub_ack(id(77), ReasonCode::Success),
        Packet::SubAck(SubAck {
            packet_id: id(5),
            properties: None,
            reasons: vec![ReasonCode::Success; 9],
        }),
        Packet::PingResp,
    ] {
        world.play(bridge, &packet);
        world.nothing(bridge);
    }
    world.play(bridge, &Packet::PubRec(Ack::success(id(77))));
    let gone = Ack::with_reason(id(77), ReasonCode::PacketIdentifierNotFound);
    assert_eq!(world.next(bridge), Packet::PubRel(gone));
    world.play(bridge, &Packet::PubRel(Ack::success(id(77))));
    let unknown = Ack::with_reason(id(77), ReasonCode::PacketIdentifierNotFound);
    assert_eq!(world.next(bridge), Packet::PubComp(unknown));
    let here = world.client(HERE, "here");
    world.publish(here, "a", "x", ExactlyOnce, false);
    let sent = world.next_publish(bridge).packet_id.expect("QoS 2");
    world.play(bridge, &Packet::PubAck(Ack::success(sent)));
    assert!(matches!(
        world.end(),
        Some(End::Broken(ReasonCode::ProtocolError, _))
    ));
}

#[test]
fn an_error_of_the_peer_drops_the_message_and_is_counted() {
    let mut world = World::new(&[rule(Out, "a", ExactlyOnce)]);
    let bridge = world.let_in(false, Properties::default());
    let here = world.client(HERE, "here");
    for qos in [AtLeastOnce, ExactlyOnce] {
        world.publish(here, "a", "x", qos, false);
        let sent = world.next_publish(bridge).packet_id.expect("an identifier");
        let ack = Ack::with_reason(sent, ReasonCode::QuotaExceeded);
        world.play(
            bridge,
            &match qos {
                AtLeastOnce => Packet::PubAck(ack),
                _ => Packet::PubRec(ack),
            },
        );
    }
    assert_eq!(world.count("refused_by_peer"), 2);
    world.cut(bridge);
    let bridge = world.let_in(true, Properties::default());
    world.nothing(bridge);
}

#[test]
fn the_peer_s_goodbye_has_its_reason() {
    let mut world = World::new(&[rule(Out, "a", ExactlyOnce)]);
    let bridge = world.let_in(false, Properties::default());
    world.notes();
    let reason = ReasonCode::SessionTakenOver;
    world.play(
        bridge,
        &Packet::Disconnect(Disconnect {
            reason,
            properties: None,
        }),
    );
    assert_eq!(world.end(), Some(End::Disconnected(reason)));
    assert!(world.seats[bridge].is_closed);
}

#[test]
fn messages_right_behind_connack_are_taken() {
    let mut world = World::new(&[rule(In, "a", AtLeastOnce)]);
    let here = world.client(HERE, "here");
    world.subscribe(here, "a");
    let (bridge, _) = world.scripted(Dialect::V5);
    let mut bytes = BytesMut::new();
    for packet in [
        conn_ack(true, ReasonCode::Success, Properties::default()),
        Packet::Publish(message("a", "x", Some(id(1)), AtLeastOnce)),
    ] {
        encode(&packet, ProtocolVersion::V5, &mut bytes).expect("legal");
    }
    world.raw(bridge, &bytes);
    assert_eq!(world.received(here).len(), 1);
    let is_ack = |packet: &Packet| *packet == Packet::PubAck(Ack::success(id(1)));
    let answers = [world.next(bridge), world.next(bridge)];
    assert!(answers.iter().any(is_ack), "{answers:?}");
}

#[test]
fn text_that_is_none_and_topics_that_cannot_be_are_declined() {
    let mut world = World::new(&[rule(In, "#", AtLeastOnce)]);
    let here = world.client(HERE, "here");
    world.subscribe(here, "#");
    let bridge = world.let_in(false, Properties::default());
    let text = Properties {
        payload_format_indicator: Some(true),
        ..Properties::default()
    };
    let publish = Publish {
        properties: text.into_optional(),
        payload: Bytes::from_static(b"\xFF"),
        ..message("a", "", Some(id(1)), AtLeastOnce)
    };
    world.play(bridge, &Packet::Publish(publish));
    let declined = Ack::with_reason(id(1), ReasonCode::PayloadFormatInvalid);
    assert_eq!(world.next(bridge), Packet::PubAck(declined));
    let deep = ["a"; 300].join("/");
    world.play(
        bridge,
        &Packet::Publish(message(&deep, "x", Some(id(2)), AtLeastOnce)),
    );
    assert_eq!(world.next(bridge), Packet::PubAck(Ack::success(id(2))));
    world.play(
        bridge,
        &Packet::Publish(message("wamp/x", "x", Some(id(3)), AtLeastOnce)),
    );
    assert_eq!(
        world.next(bridge),
        Packet::PubAck(Ack::success(id(3))),
        "never to be taken"
    );
    assert_eq!(world.received(here), []);
    assert_eq!(
        (world.count("unmapped"), world.count("refused_here")),
        (1, 2)
    );
}
