//! PUBLISH from a client and its acknowledgements (5.0 sections 3.3 to 3.7, 4.3, 4.6, 4.9).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use common::*;
use protocols::mqtt::packet::{Ack, Packet, Properties, ProtocolVersion, Publish};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{Action, Role, Rule};
use router_core::limits::RealmLimits;
use router_core::model::{Call, Command, Pattern, Payload, RequestId, Topic};
use router_core::session::Leave;
use std::num::NonZeroU16;
use std::sync::Arc;

/// A world with a subscriber to `#` at QoS 2 and a publisher.
fn pair(version: ProtocolVersion) -> (World, usize, usize) {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", ExactlyOnce);
    let client = world.client(version, "c");
    (world, watcher, client)
}

#[track_caller]
fn acked(world: &mut World, client: usize) -> (u8, u16, ReasonCode) {
    let (kind, ack) = match world.next(client) {
        Packet::PubAck(ack) => (4, ack),
        Packet::PubRec(ack) => (5, ack),
        Packet::PubRel(ack) => (6, ack),
        Packet::PubComp(ack) => (7, ack),
        other => panic!("no acknowledgement: {other:?}"),
    };
    (kind, ack.packet_id.get(), ack.reason)
}

fn aliased(topic: &str, alias: u16) -> Packet {
    let set = Properties {
        topic_alias: NonZeroU16::new(alias),
        ..Properties::default()
    };
    with_properties(publish(topic, "x", None, AtMostOnce), set)
}

#[test]
fn each_qos_has_its_own_handshake() {
    for version in BOTH {
        let (mut world, watcher, client) = pair(version);
        world.send(client, publish("a", "0", None, AtMostOnce));
        world.nothing(client);
        world.send(client, publish("a", "1", Some(7), AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 7, ReasonCode::Success));
        world.send(client, publish("a", "2", Some(8), ExactlyOnce));
        assert_eq!(acked(&mut world, client), (5, 8, ReasonCode::Success));
        world.send(client, pubrel(8));
        assert_eq!(acked(&mut world, client), (7, 8, ReasonCode::Success));
        let mut came: Vec<_> = (0..3)
            .map(|_| world.next_publish(watcher))
            .map(|publish| (publish.qos, publish.payload))
            .collect();
        came.sort();
        let wanted = [(AtMostOnce, "0"), (AtLeastOnce, "1"), (ExactlyOnce, "2")];
        assert!(
            came.iter()
                .zip(wanted)
                .all(|((q, p), (wq, wp))| *q == wq && p == wp),
            "{came:?}"
        );
    }
}

#[test]
fn a_repeated_qos_2_publish_is_answered_and_not_repeated() {
    // [MQTT-4.3.3-10]
    for version in BOTH {
        let (mut world, watcher, client) = pair(version);
        let message = publish("a", "once", Some(3), ExactlyOnce);
        world.send_all(client, &[message.clone(), again(message.clone())]);
        world.send(client, again(message.clone()));
        for _ in 0..3 {
            assert_eq!(acked(&mut world, client), (5, 3, ReasonCode::Success));
        }
        world.next_publish(watcher);
        world.nothing(watcher);
        // [MQTT-4.3.3-12]: after PUBCOMP the same identifier is a new message, whatever DUP says.
        world.send(client, pubrel(3));
        assert_eq!(acked(&mut world, client), (7, 3, ReasonCode::Success));
        world.send(client, again(message));
        assert_eq!(acked(&mut world, client), (5, 3, ReasonCode::Success));
        world.next_publish(watcher);
    }
}

#[test]
fn qos_2_is_exactly_once_across_connections() {
    // [MQTT-4.3.3-10], [MQTT-4.1.0-1]
    for version in BOTH {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", AtMostOnce);
        let message = publish("a", "once", Some(3), ExactlyOnce);
        let first = world.join(persistent(version, "c"));
        world.send(first, message.clone());
        world.cut(first);
        let (second, ack) = world.join_told(persistent(version, "c"));
        assert!(ack.session_present);
        world.send(second, again(message.clone()));
        assert_eq!(acked(&mut world, second), (5, 3, ReasonCode::Success));
        world.cut(second);
        let third = world.join(persistent(version, "c"));
        world.send(third, pubrel(3));
        assert_eq!(acked(&mut world, third), (7, 3, ReasonCode::Success));
        world.next_publish(watcher);
        world.nothing(watcher);
        // Clean Start forgets the identifiers [MQTT-3.1.2-4].
        world.send(third, message.clone());
        world.cut(third);
        let clean = world.client(version, "c");
        world.send(clean, again(message));
        world.next_publish(watcher);
        world.next_publish(watcher);
        world.nothing(watcher);
    }
}

#[test]
fn qos_1_is_not_deduplicated() {
    // [MQTT-4.3.2-5]
    let (mut world, watcher, client) = pair(V5);
    let message = publish("a", "x", Some(3), AtLeastOnce);
    world.send(client, message.clone());
    world.send(client, again(message));
    world.next_publish(watcher);
    let second = world.next_publish(watcher);
    assert!(!second.dup, "DUP is not forwarded [MQTT-3.3.1-3]");
}

#[test]
fn an_unknown_pubrel_is_told() {
    let (mut world, _, client) = pair(V5);
    world.send(client, pubrel(9));
    assert_eq!(
        acked(&mut world, client),
        (7, 9, ReasonCode::PacketIdentifierNotFound)
    );
    let (mut world, _, client) = pair(V3_1_1);
    world.send(client, pubrel(9));
    assert_eq!(acked(&mut world, client), (7, 9, ReasonCode::Success));
    assert_eq!(world.counter("acks_unknown"), 1);
}

#[test]
fn no_matching_subscribers_is_told_to_5_0() {
    for (version, code) in [
        (V5, ReasonCode::NoMatchingSubscribers),
        (V3_1_1, ReasonCode::Success),
    ] {
        let mut world = World::new();
        let client = world.client(version, "c");
        world.send(client, publish("a", "x", Some(1), AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 1, code));
        world.send(client, publish("a", "x", Some(2), ExactlyOnce));
        assert_eq!(acked(&mut world, client), (5, 2, code));
        world.send(client, pubrel(2));
        assert_eq!(acked(&mut world, client), (7, 2, ReasonCode::Success));
    }
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes() {
    // [MQTT-4.6.0-2] [MQTT-4.6.0-3]: the retained ones wait for the store.
    for (qos, kind) in [(AtLeastOnce, 4), (ExactlyOnce, 5)] {
        let mut world = World::durable();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", AtMostOnce);
        let client = world.client(V5, "c");
        world.hold_commits = true;
        let message = |number: u16, retain| {
            let Packet::Publish(publish) = publish("a", "x", Some(number), qos) else {
                unreachable!("made just now")
            };
            Packet::Publish(Publish { retain, ..publish })
        };
        world.send(client, message(1, true));
        world.send_all(
            client,
            &[message(2, false), message(3, true), message(4, false)],
        );
        world.nothing(client);
        world.send(client, Packet::PingReq);
        assert_eq!(
            world.next(client),
            Packet::PingResp,
            "only acknowledgements wait"
        );
        world.commit();
        let order: Vec<_> = (0..4).map(|_| acked(&mut world, client).1).collect();
        assert_eq!(order, [1, 2, 3, 4], "QoS {qos:?}");
        assert_eq!(kind == 4, qos == AtLeastOnce);
        world.nothing(client);
    }
}

#[test]
fn qos_1_does_not_wait_for_qos_2() {
    let mut world = World::durable();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", AtMostOnce);
    let client = world.client(V5, "c");
    world.hold_commits = true;
    let Packet::Publish(kept) = publish("k", "x", Some(1), ExactlyOnce) else {
        unreachable!("made just now")
    };
    world.send(
        client,
        Packet::Publish(Publish {
            retain: true,
            ..kept
        }),
    );
    world.send(client, publish("a", "x", Some(2), AtLeastOnce));
    assert_eq!(acked(&mut world, client), (4, 2, ReasonCode::Success));
    world.commit();
    assert_eq!(acked(&mut world, client), (5, 1, ReasonCode::Success));
}

#[test]
fn receive_maximum_is_enforced_in_5_0() {
    // 5.0 section 4.9, 0x93
    for qos in [AtLeastOnce, ExactlyOnce] {
        let mut world = World::durable();
        world.options.receive_maximum = NonZeroU16::MIN.saturating_add(1);
        let client = world.client(V5, "c");
        world.hold_commits = true;
        for number in 1..=3 {
            let Packet::Publish(publish) = publish("a", "x", Some(number), qos) else {
                unreachable!("made just now")
            };
            assert!(world.clients[client].closed.is_none());
            world.send(
                client,
                Packet::Publish(Publish {
                    retain: true,
                    ..publish
                }),
            );
        }
        world.ended(client, ReasonCode::ReceiveMaximumExceeded);
        assert_eq!(world.clients[client].left, [Leave::Lost]);
    }
}

#[test]
fn the_quota_comes_back_with_puback_pubcomp_and_refusals() {
    // [MQTT-3.3.4-9]: not with PUBREC.
    let mut world = World::new();
    world.options.receive_maximum = NonZeroU16::MIN.saturating_add(1);
    let client = world.client(V5, "c");
    for number in 1..=5 {
        world.send(client, publish("a", "x", Some(number), AtLeastOnce));
        world.send(
            client,
            publish("wamp/x", "x", Some(number + 100), ExactlyOnce),
        );
    }
    world.send(client, publish("a", "x", Some(10), ExactlyOnce));
    world.send(client, publish("a", "x", Some(11), ExactlyOnce));
    // A repetition is no new message.
    world.send(client, again(publish("a", "x", Some(11), ExactlyOnce)));
    world.send(client, pubrel(10));
    world.send(client, publish("a", "x", Some(12), ExactlyOnce));
    assert!(world.clients[client].closed.is_none());
    world.clients[client].got.clear();
    world.send(client, publish("a", "x", Some(13), ExactlyOnce));
    world.ended(client, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn receive_maximum_does_not_exist_in_3_x() {
    let mut world = World::new();
    world.options.receive_maximum = NonZeroU16::MIN;
    let client = world.client(V3_1_1, "c");
    for number in 1..=200 {
        world.send(client, publish("a", "x", Some(number), ExactlyOnce));
    }
    assert_eq!(world.clients[client].got.len(), 200);
}

#[test]
fn what_a_3_x_client_leaves_unacknowledged_is_bounded_by_its_identifiers() {
    let mut world = World::durable();
    let client = world.client(V3_1_1, "c");
    world.hold_commits = true;
    world.send(client, retained_with_id("a", 1));
    // Answers to repetitions wait for the first one's commit.
    let flood: Vec<_> = (0..65_534).map(|_| retained_with_id("a", 1)).collect();
    world.send_all(client, &flood);
    assert!(world.clients[client].closed.is_none());
    world.send(client, retained_with_id("a", 1));
    world.ended(client, ReasonCode::ReceiveMaximumExceeded);
}

fn retained_with_id(topic: &str, number: u16) -> Packet {
    let Packet::Publish(publish) = publish(topic, "x", Some(number), ExactlyOnce) else {
        unreachable!("made just now")
    };
    Packet::Publish(Publish {
        retain: true,
        ..publish
    })
}

#[test]
fn what_is_not_authorized_is_told_to_5_0_and_dropped_for_3_x() {
    // [MQTT-3.3.5-2] of 3.1.1: a positive acknowledgement; the connection stays.
    for topic in ["wamp/session/on_join", "wamp", "$SYS/broker", "secret/x"] {
        for (version, code) in [
            (V5, ReasonCode::NotAuthorized),
            (V3_1_1, ReasonCode::Success),
        ] {
            let mut world = World::new();
            let rule = |action, text| Rule {
                action,
                pattern: Pattern::from_slashes(text).expect("legal"),
            };
            let watcher = world.client(V5, "watcher");
            for filter in ["#", "$SYS/#", "wamp/#"] {
                world.subscribe(watcher, filter, AtMostOnce);
            }
            world.role = Arc::new(Role::restricted(
                "user",
                vec![rule(Action::Publish, "#"), rule(Action::Publish, "$SYS/#")],
                vec![rule(Action::Publish, "secret/#")],
            ));
            let client = world.client(version, "c");
            world.clients[watcher].got.clear();
            world.publish(client, topic, "x");
            world.nothing(client);
            world.send(client, publish(topic, "x", Some(1), AtLeastOnce));
            assert_eq!(acked(&mut world, client), (4, 1, code), "{topic}");
            world.send(client, publish(topic, "x", Some(2), ExactlyOnce));
            assert_eq!(acked(&mut world, client), (5, 2, code));
            world.nothing(watcher);
            assert!(world.clients[client].closed.is_none());
            assert_eq!(world.realm.counters().publish_refused, 3);
        }
    }
}

#[test]
fn a_store_that_fails_is_told_to_5_0_and_ends_3_x() {
    for (qos, kind) in [(AtLeastOnce, 4), (ExactlyOnce, 5)] {
        for version in BOTH {
            let mut world = World::durable();
            let client = world.client(version, "c");
            world.hold_commits = true;
            let Packet::Publish(message) = publish("k", "x", Some(1), qos) else {
                unreachable!("made just now")
            };
            let message = Packet::Publish(Publish {
                retain: true,
                ..message
            });
            world.send(client, message.clone());
            world.nothing(client);
            world.commit_fails();
            if version.is_v5() {
                let (got, number, code) = acked(&mut world, client);
                assert_eq!((got, number, code), (kind, 1, ReasonCode::UnspecifiedError));
                world.send(client, message);
                assert_eq!(acked(&mut world, client).2, ReasonCode::UnspecifiedError);
            } else {
                // Never acknowledged, so the client still has it.
                world.ended(client, ReasonCode::UnspecifiedError);
                assert_eq!(world.clients[client].left, [Leave::Lost]);
            }
        }
    }
}

#[test]
fn a_refusal_says_why_where_the_client_wants_to_know() {
    for (wants, told) in [(None, true), (Some(true), true), (Some(false), false)] {
        let mut world = World::new();
        let mut asked = connect(V5, "c");
        asked.properties = Properties {
            request_problem_information: wants,
            ..Properties::default()
        }
        .into_optional();
        let client = world.join(asked);
        world.send(client, publish("wamp/x", "x", Some(1), AtLeastOnce));
        let Packet::PubAck(Ack { properties, .. }) = world.next(client) else {
            panic!("no PUBACK")
        };
        // [MQTT-3.1.2-29]
        assert_eq!(
            properties.is_some_and(|set| set.reason_string.is_some()),
            told
        );
    }
}

#[test]
fn what_the_gate_declines_says_why() {
    let mut world = World::new();
    let client = world.client(V5, "c");
    let text = Properties {
        payload_format_indicator: Some(true),
        ..Properties::default()
    };
    let no_text = match with_properties(publish("a", "", Some(1), AtLeastOnce), text) {
        Packet::Publish(publish) => Packet::Publish(Publish {
            payload: (&b"\xFF"[..]).into(),
            ..publish
        }),
        other => other,
    };
    let deep = publish(&"/".repeat(200), "x", Some(2), ExactlyOnce);
    for packet in [no_text, deep] {
        world.send(client, packet);
        let (Packet::PubAck(ack) | Packet::PubRec(ack)) = world.next(client) else {
            panic!("no acknowledgement")
        };
        assert!(ack.reason.is_error());
        assert!(
            ack.properties
                .is_some_and(|set| set.reason_string.is_some())
        );
    }
}

#[test]
fn user_properties_are_bounded() {
    for (count, length, is_taken) in [
        (1_024, 1, true),
        (1_025, 1, false),
        (4, 16_380, true),
        (4, 16_381, false),
    ] {
        let (mut world, watcher, client) = pair(V5);
        let value = "v".repeat(length);
        let set = Properties {
            user_properties: vec![("".into(), value.into()); count],
            ..Properties::default()
        };
        world.send(
            client,
            with_properties(publish("a", "x", None, AtMostOnce), set),
        );
        if is_taken {
            let came = world.next_publish(watcher).properties.expect("some");
            assert_eq!(came.user_properties.len(), count);
        } else {
            world.nothing(watcher);
            world.ended(client, ReasonCode::QuotaExceeded);
            assert_eq!(world.counter("over_limit"), 1);
        }
    }
}

#[test]
fn quotas_of_the_realm_are_told() {
    let limits = RealmLimits {
        receipts_per_session: 1,
        ..RealmLimits::default()
    };
    let mut world = World::with(false, limits);
    let client = world.client(V5, "c");
    world.send(client, publish("a", "x", Some(1), ExactlyOnce));
    assert_eq!(
        acked(&mut world, client).2,
        ReasonCode::NoMatchingSubscribers
    );
    world.send(client, publish("a", "x", Some(2), ExactlyOnce));
    assert_eq!(acked(&mut world, client), (5, 2, ReasonCode::QuotaExceeded));
    // [MQTT-4.3.3-9]: the identifier is free again.
    world.send(client, pubrel(1));
    acked(&mut world, client);
    world.send(client, publish("a", "x", Some(2), ExactlyOnce));
    assert_eq!(
        acked(&mut world, client),
        (5, 2, ReasonCode::NoMatchingSubscribers)
    );
}

#[test]
fn topic_aliases_stand_for_their_topic() {
    // [MQTT-3.3.2-12]
    let (mut world, watcher, client) = pair(V5);
    world.send(client, aliased("a/b", 1));
    world.send(client, aliased("c", 32));
    world.send(client, aliased("", 1));
    world.send(client, aliased("d", 1));
    world.send(client, aliased("", 1));
    world.send(client, aliased("", 32));
    let topics: Vec<_> = (0..6).map(|_| world.next_publish(watcher).topic).collect();
    assert_eq!(topics, ["a/b", "c", "a/b", "d", "d", "c"]);
}

#[test]
fn bad_topic_aliases_end_the_connection() {
    let (mut world, _, client) = pair(V5);
    world.send(client, aliased("a", 33)); // [MQTT-3.3.2-9]
    world.ended(client, ReasonCode::TopicAliasInvalid);
    let (mut world, _, client) = pair(V5);
    world.send(client, aliased("", 1)); // 5.0 section 3.3.4
    world.ended(client, ReasonCode::ProtocolError);
    let (mut world, _, client) = pair(V5);
    world.raw(client, &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0]); // [MQTT-3.3.2-8]
    world.ended(client, ReasonCode::TopicAliasInvalid);
    let mut world = World::new();
    world.options.topic_alias_maximum = 0;
    let client = world.client(V5, "c");
    world.send(client, aliased("a", 1));
    world.ended(client, ReasonCode::TopicAliasInvalid);
}

#[test]
fn topic_aliases_do_not_outlive_the_connection() {
    // [MQTT-3.3.2-7]
    let mut world = World::new();
    let first = world.join(persistent(V5, "c"));
    world.send(first, aliased("a", 1));
    world.cut(first);
    let second = world.join(persistent(V5, "c"));
    world.send(second, aliased("", 1));
    world.ended(second, ReasonCode::ProtocolError);
}

#[test]
fn topics_with_too_many_levels_are_declined() {
    let deep = vec!["a"; 201].join("/");
    let fits = vec!["a"; 200].join("/");
    for (version, code) in [
        (V5, ReasonCode::TopicNameInvalid),
        (V3_1_1, ReasonCode::Success),
    ] {
        let (mut world, watcher, client) = pair(version);
        world.publish(client, &deep, "x");
        world.send(client, publish(&deep, "x", Some(1), AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 1, code));
        world.send(client, publish(&deep, "x", Some(2), ExactlyOnce));
        assert_eq!(acked(&mut world, client), (5, 2, code));
        world.nothing(watcher);
        assert_eq!(world.counter("publish_invalid"), 3);
        world.publish(client, &fits, "x");
        assert_eq!(world.next_publish(watcher).topic, fits);
    }
}

#[test]
fn text_that_is_no_text_is_declined() {
    // 5.0 section 3.3.2.3.2, 0x99
    let (mut world, watcher, client) = pair(V5);
    let claim = |text: bool, number: Option<u16>, qos| {
        let set = Properties {
            payload_format_indicator: Some(text),
            ..Properties::default()
        };
        match with_properties(publish("a", "", number, qos), set) {
            Packet::Publish(publish) => Packet::Publish(Publish {
                payload: (&b"\xFF\xFE"[..]).into(),
                ..publish
            }),
            other => other,
        }
    };
    world.send(client, claim(true, None, AtMostOnce));
    world.send(client, claim(true, Some(1), AtLeastOnce));
    assert_eq!(
        acked(&mut world, client),
        (4, 1, ReasonCode::PayloadFormatInvalid)
    );
    world.send(client, claim(true, Some(2), ExactlyOnce));
    assert_eq!(
        acked(&mut world, client),
        (5, 2, ReasonCode::PayloadFormatInvalid)
    );
    world.nothing(watcher);
    world.send(client, claim(false, Some(3), AtLeastOnce));
    assert_eq!(acked(&mut world, client), (4, 3, ReasonCode::Success));
    assert_eq!(world.next_publish(watcher).payload, &b"\xFF\xFE"[..]);
}

#[test]
fn what_a_publish_must_not_be() {
    let cases: [(&[u8], ReasonCode); 7] = [
        (&[0x30, 4, 0, 1, b'#', 0], ReasonCode::TopicNameInvalid), // [MQTT-3.3.2-2]
        (
            &[0x30, 5, 0, 2, b'a', b'+', 0],
            ReasonCode::TopicNameInvalid,
        ),
        (&[0x38, 4, 0, 1, b'a', 0], ReasonCode::MalformedPacket), // [MQTT-3.3.1-2]
        (&[0x36, 6, 0, 1, b'a', 0, 1, 0], ReasonCode::MalformedPacket), // [MQTT-3.3.1-4]
        (&[0x30, 3, 0, 0, 0], ReasonCode::ProtocolError),         // [MQTT-4.7.3-1]
        (
            &[0x30, 6, 0, 1, b'a', 2, 0x0B, 1],
            ReasonCode::ProtocolError,
        ), // [MQTT-3.3.4-6]
        (&[0x30, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),  // [MQTT-3.2.2-15]
    ];
    for (bytes, reason) in cases {
        let (mut world, watcher, client) = pair(V5);
        world.raw(client, bytes);
        world.ended(client, reason);
        world.nothing(watcher);
        assert_eq!(world.clients[client].left, [Leave::Lost]);
    }
}

#[test]
fn an_answer_that_does_not_fit_the_client_ends_the_connection() {
    // [MQTT-3.1.2-24]: CONNACK fits, a SUBACK with 100 codes does not.
    let mut world = World::new();
    let mut asked = connect(V5, "c");
    asked.properties = Properties {
        maximum_packet_size: std::num::NonZeroU32::new(60),
        ..Properties::default()
    }
    .into_optional();
    let client = world.join(asked);
    let filters = vec![("a", options(AtMostOnce)); 100];
    world.send(client, subscribe(1, &filters, None));
    // The reason is told without its Reason String.
    world.ended(client, ReasonCode::ImplementationSpecificError);
}

#[test]
fn a_key_that_somebody_holds_is_not_written_and_5_0_is_told() {
    for (version, code) in [
        (V5, ReasonCode::NotAuthorized),
        (V3_1_1, ReasonCode::Success),
    ] {
        let (mut world, watcher, client) = pair(version);
        let held = world.insider(Command::Call(Box::new(Call {
            request: RequestId(1),
            procedure: Topic::new("fox/lock/acquire").expect("legal"),
            payload: Payload::from_value(&"k".into()),
            progress: false,
            more: false,
            timeout: None,
            disclose_me: false,
        })));
        assert_eq!(world.next_publish(watcher).payload, "true", "it is held");
        let write = |number, qos| match publish("k", "x", Some(number), qos) {
            Packet::Publish(publish) => Packet::Publish(Publish {
                retain: true,
                ..publish
            }),
            other => other,
        };
        world.send(client, write(1, AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 1, code));
        world.send(client, write(2, ExactlyOnce));
        assert_eq!(acked(&mut world, client), (5, 2, code));
        world.send(client, retained("k", "x"));
        world.nothing(client);
        world.nothing(watcher);
        // What is not kept is said as ever.
        world.send(client, publish("k", "said", Some(3), AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 3, ReasonCode::Success));
        assert_eq!(world.next_publish(watcher).payload, "said");
        world.dismiss(held);
        assert_eq!(world.next_publish(watcher).payload, "");
        world.send(client, write(4, AtLeastOnce));
        assert_eq!(acked(&mut world, client), (4, 4, ReasonCode::Success));
    }
}
