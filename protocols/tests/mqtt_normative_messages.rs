//! What becomes of messages (5.0 sections 3.3, 3.8.4, 3.10.4, 4.3 to 4.8): verbatim text, retained
//! messages, subscriptions that change under way, expiry amid a handshake.
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::Bytes;
use common::*;
use protocols::mqtt::packet::{
    Ack, Packet, PacketType, Properties, ProtocolVersion, Publish, SubscriptionOptions,
    Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;
use std::time::Duration;

fn unsubscribe(world: &mut World, client: usize, filter: &str) {
    let packet = Packet::Unsubscribe(Unsubscribe {
        packet_id: id(8_888),
        properties: None,
        filters: vec![filter.into()],
    });
    world.send(client, packet);
    match world.next(client) {
        Packet::UnsubAck(ack) => assert_eq!(ack.packet_id, id(8_888)),
        other => panic!("no UNSUBACK: {other:?}"),
    }
}

/// A PUBLISH that is to be kept.
fn kept(topic: &str, payload: &'static str, number: Option<u16>) -> Packet {
    let qos = if number.is_some() {
        AtLeastOnce
    } else {
        AtMostOnce
    };
    let Packet::Publish(message) = publish(topic, payload, number, qos) else {
        unreachable!("made just now")
    };
    Packet::Publish(Publish {
        retain: true,
        ..message
    })
}

/// What a new subscriber of everything is shown: topics and payloads.
fn shown(world: &mut World, filter: &str) -> Vec<(String, Bytes)> {
    let client = world.client(V5, "onlooker");
    world.subscribe(client, filter, AtMostOnce);
    let mut values = Vec::new();
    while let Some(packet) = world.clients[client].got.pop_front() {
        let Packet::Publish(publish) = packet else {
            panic!("not a PUBLISH: {packet:?}")
        };
        assert!(publish.retain);
        values.push((publish.topic.to_string(), publish.payload));
    }
    world.cut(client);
    values
}

#[test]
fn text_is_compared_and_forwarded_byte_by_byte() {
    // [MQTT-1.5.4-3] [MQTT-4.7.3-4]: no mark is stripped, nothing is normalised or folded.
    let names = [
        "é",
        "e\u{301}",
        "É",
        "\u{FEFF}a",
        "a",
        "a ",
        " a",
        "A",
        "a\u{200B}",
        "ﬁ",
        "fi",
        "a.b",
        "a%2Eb",
        "\u{1}",
        "\u{10FFFF}",
    ];
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(version, "p");
        let clients: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                let client = world.client(version, &format!("c{number}"));
                world.subscribe(client, name, AtMostOnce);
                client
            })
            .collect();
        for (name, &client) in names.iter().zip(&clients) {
            world.publish(publisher, name, "x");
            assert_eq!(world.next_publish(client).topic, **name);
            for &other in &clients {
                world.nothing(other);
            }
        }
    }
}

#[test]
fn user_properties_are_forwarded_verbatim_and_in_order() {
    // [MQTT-1.5.4-3] [MQTT-3.3.2-17] [MQTT-3.3.2-18]: through the store and to those who wait too
    let pairs = [
        ("\u{FEFF}k", "2"),
        ("a", "1"),
        ("", ""),
        ("a", "1"),
        ("a", "0"),
    ];
    let set = Properties {
        user_properties: pairs
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect(),
        ..Properties::default()
    };
    let mut world = World::durable();
    let publisher = world.client(V5, "p");
    let first = world.join(persistent(V5, "c"));
    world.subscribe(first, "a", AtLeastOnce);
    world.cut(first);
    world.send(
        publisher,
        with_properties(kept("a", "x", Some(1)), set.clone()),
    );
    let second = world.join(persistent(V5, "c"));
    let late = world.client(V5, "late");
    world.subscribe(late, "a", AtMostOnce);
    for client in [second, late] {
        assert_eq!(world.next_publish(client).properties.as_deref(), Some(&set));
    }
}

#[test]
fn a_will_keeps_its_user_properties_in_order() {
    // [MQTT-3.1.3-10]
    let set = Properties {
        user_properties: [("b", "1"), ("a", "2"), ("b", "1"), ("b", "0")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        ..Properties::default()
    };
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "will", AtMostOnce);
    let mut asked = with_will(connect(V5, "c"), "will");
    let will = asked.will.as_mut().expect("just set");
    *will = Will {
        properties: set.clone().into_optional(),
        ..will.clone()
    };
    let client = world.join(asked);
    world.cut(client);
    assert_eq!(
        world.next_publish(watcher).properties.as_deref(),
        Some(&set)
    );
}

#[test]
fn the_longest_topic_passes() {
    // [MQTT-4.7.3-3]
    let longest = "x".repeat(65_535);
    for version in BOTH {
        let mut world = World::new();
        let client = world.client(version, "c");
        world.subscribe(client, &longest, AtMostOnce);
        world.publish(client, &longest, "x");
        assert_eq!(world.next_publish(client).topic, longest);
    }
}

#[test]
fn a_retained_message_replaces_the_former_and_an_empty_one_deletes_it() {
    // [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]: and is delivered like any other
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(version, "p");
        let watcher = world.client(version, "watcher");
        world.subscribe(watcher, "#", AtLeastOnce);
        for (number, payload) in [(1, "first"), (2, "second"), (3, "")] {
            world.send(publisher, kept("a/b", payload, Some(number)));
            let live = world.next_publish(watcher);
            assert_eq!((&*live.payload, live.retain), (payload.as_bytes(), false));
            let values = shown(&mut world, "a/b");
            let wanted: Vec<_> = [("a/b".to_owned(), Bytes::from_static(payload.as_bytes()))]
                .into_iter()
                .filter(|_| !payload.is_empty())
                .collect();
            assert_eq!(values, wanted);
        }
        // Deleting what is not there is no fault, and leaves nothing.
        world.send(publisher, kept("none", "", Some(4)));
        assert!(world.next_publish(watcher).payload.is_empty());
        assert_eq!(shown(&mut world, "#"), []);
    }
}

#[test]
fn what_is_not_retained_leaves_the_kept_message_alone() {
    // [MQTT-3.3.1-8]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(version, "p");
        world.send(publisher, kept("a", "kept", Some(1)));
        for (number, payload) in [(2, "passing"), (3, "")] {
            world.publish(publisher, "a", payload);
            world.send(publisher, publish("a", payload, Some(number), ExactlyOnce));
            world.publish(publisher, "b", payload);
        }
        let values = shown(&mut world, "#");
        assert_eq!(values, [("a".to_owned(), Bytes::from_static(b"kept"))]);
    }
}

#[test]
fn a_kept_message_that_expires_is_gone() {
    // [MQTT-3.3.2-5], 5.0 section 3.3.1.3
    let set = Properties {
        message_expiry_interval: Some(10),
        ..Properties::default()
    };
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    world.send(publisher, with_properties(kept("a", "x", None), set));
    world.wait(Duration::from_secs(9));
    assert_eq!(shown(&mut world, "a").len(), 1);
    world.wait(Duration::from_secs(1));
    assert_eq!(shown(&mut world, "a"), []);
}

#[test]
fn replacing_a_subscription_loses_nothing_that_waits() {
    // [MQTT-3.8.4-4]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", ExactlyOnce);
        world.send(publisher, publish("a", "sent", Some(1), AtLeastOnce));
        world.next_publish(first);
        world.cut(first);
        world.send(publisher, publish("a", "waits", Some(2), AtLeastOnce));
        let second = world.open(persistent(version, "c"));
        let replace = subscribe(7, &[("a", options(AtLeastOnce))], None);
        world.send(second, replace);
        world.send(publisher, publish("a", "new", Some(3), AtLeastOnce));
        let payloads: Vec<_> = std::mem::take(&mut world.clients[second].got)
            .into_iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(publish.payload),
                _ => None,
            })
            .collect();
        assert_eq!(payloads, ["sent", "waits", "new"]);
    }
}

#[test]
fn unsubscribing_lets_what_was_sent_come_to_its_end() {
    // [MQTT-3.10.4-2] [MQTT-3.10.4-3]: over a new connection too
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", ExactlyOnce);
        world.send(publisher, publish("a", "1", Some(1), ExactlyOnce));
        world.send(publisher, publish("a", "2", Some(2), AtLeastOnce));
        let sent: Vec<_> = (0..2).map(|_| world.next_publish(first)).collect();
        let ids: Vec<_> = (sent.iter())
            .map(|publish| publish.packet_id.expect("QoS > 0").get())
            .collect();
        unsubscribe(&mut world, first, "a");
        world.send(publisher, publish("a", "3", Some(3), AtLeastOnce));
        world.nothing(first);
        world.send(first, pubrec(ids[0]));
        assert_eq!(world.next(first), pubrel(ids[0]));
        world.cut(first);
        let second = world.join(persistent(version, "c"));
        assert_eq!(world.next(second), pubrel(ids[0]));
        let repeated = world.next_publish(second);
        assert_eq!((&*repeated.payload, repeated.dup), (&b"2"[..], true));
        world.send(second, pubcomp(ids[0]));
        world.send(second, puback(ids[1]));
        world.nothing(second);
        assert!(world.clients[second].closed.is_none());
    }
}

#[test]
fn an_exchange_goes_on_though_its_message_has_expired() {
    // [MQTT-4.3.3-13] from the client, [MQTT-4.3.3-7] to it
    let brief = Properties {
        message_expiry_interval: Some(1),
        ..Properties::default()
    };
    let mut world = World::new();
    let client = world.join(persistent(V5, "c"));
    world.subscribe(client, "#", ExactlyOnce);
    let message = with_properties(publish("a", "x", Some(5), ExactlyOnce), brief);
    world.send(client, message.clone());
    let mut delivered = None;
    for _ in 0..2 {
        match world.next(client) {
            Packet::PubRec(ack) => assert_eq!(ack, Ack::success(id(5))),
            Packet::Publish(publish) => delivered = publish.packet_id,
            other => panic!("{other:?}"),
        }
    }
    let delivered = delivered.expect("QoS 2").get();
    world.wait(Duration::from_secs(60));
    // The same message again is none [MQTT-4.3.3-10].
    world.send(client, again(message));
    assert_eq!(world.next(client), pubrec(5));
    world.send(client, pubrel(5));
    assert_eq!(world.next(client), pubcomp(5));
    world.send(client, pubrec(delivered));
    assert_eq!(world.next(client), pubrel(delivered));
    world.send(client, pubcomp(delivered));
    world.nothing(client);
}

#[test]
fn an_acknowledgement_names_the_packet_it_answers() {
    // [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5], at both ends of the range
    for version in BOTH {
        for number in [1, 0x0100, 0x00FF, 65_535] {
            let mut world = World::new();
            let client = world.client(version, "c");
            let filters = [("x", options(AtMostOnce))];
            let removal = Packet::Unsubscribe(Unsubscribe {
                packet_id: id(number),
                properties: None,
                filters: vec!["x".into()],
            });
            let asked = [
                (
                    publish("a", "1", Some(number), AtLeastOnce),
                    PacketType::PubAck,
                ),
                (
                    publish("a", "2", Some(number), ExactlyOnce),
                    PacketType::PubRec,
                ),
                (pubrel(number), PacketType::PubComp),
                (subscribe(number, &filters, None), PacketType::SubAck),
                (removal, PacketType::UnsubAck),
            ];
            for (packet, kind) in asked {
                world.send(client, packet);
                let came = world.next(client);
                assert_eq!(came.packet_type(), kind);
                let answered = match came {
                    Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
                        ack.packet_id
                    }
                    Packet::SubAck(ack) => ack.packet_id,
                    Packet::UnsubAck(ack) => ack.packet_id,
                    other => panic!("{other:?}"),
                };
                assert_eq!(answered, id(number));
                world.nothing(client);
            }
        }
    }
}

#[test]
fn a_qos_2_message_of_a_group_stays_with_its_member_over_a_new_connection() {
    // [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    for version in BOTH {
        for received in [false, true] {
            let mut world = World::new();
            let publisher = world.client(V5, "p");
            let first = world.join(persistent(version, "a"));
            world.subscribe(first, "$share/g/t", ExactlyOnce);
            world.send(publisher, publish("t", "x", Some(1), ExactlyOnce));
            let number = world.next_publish(first).packet_id.expect("QoS 2").get();
            let other = world.client(version, "b");
            world.subscribe(other, "$share/g/t", ExactlyOnce);
            if received {
                world.send(first, pubrec(number));
                assert_eq!(world.next(first), pubrel(number));
            }
            world.cut(first);
            world.nothing(other);
            let again = world.join(persistent(version, "a"));
            if received {
                assert_eq!(world.next(again), pubrel(number));
            } else {
                let repeated = world.next_publish(again);
                assert_eq!((repeated.packet_id, repeated.dup), (Some(id(number)), true));
            }
            // Its session ends without having finished: nobody else gets it.
            let clean = world.client(version, "a");
            world.nothing(other);
            world.nothing(clean);
        }
    }
}

#[test]
fn replayed_messages_come_ahead_of_later_ones_of_their_topic() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        world.send(publisher, kept("a", "kept", Some(1)));
        let client = world.client(version, "c");
        world.send(client, subscribe(7, &[("a", options(AtLeastOnce))], None));
        world.send(publisher, publish("a", "live", Some(2), AtLeastOnce));
        assert!(matches!(world.next(client), Packet::SubAck(_)));
        let came: Vec<_> = (0..2).map(|_| world.next_publish(client)).collect();
        assert_eq!((&*came[0].payload, came[0].retain), (&b"kept"[..], true));
        assert_eq!((&*came[1].payload, came[1].retain), (&b"live"[..], false));
    }
}

#[test]
fn text_of_properties_must_be_utf_8() {
    // [MQTT-1.5.7-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    for (identifier, pairs) in [(0x03, 1), (0x08, 1), (0x26, 2)] {
        for broken in [&b"\xFF"[..], b"\xED\xA0\x80", b"\xC0\xAF", b"\0"] {
            for place in 0..pairs {
                let mut set = vec![identifier];
                for part in 0..pairs {
                    let text = if part == place { broken } else { b"ok" };
                    set.extend([0, u8::try_from(text.len()).expect("short")]);
                    set.extend(text);
                }
                let mut packet = vec![0x30, 0, 0, 1, b'a'];
                packet.push(u8::try_from(set.len()).expect("short"));
                packet.extend(set);
                packet[1] = u8::try_from(packet.len() - 2).expect("short");
                let mut world = World::new();
                let client = world.client(V5, "c");
                world.raw(client, &packet);
                world.ended(client, ReasonCode::MalformedPacket);
            }
        }
    }
}

#[test]
fn a_3_1_1_subscription_has_no_options() {
    // 3.1.1 sections 3.3.1.3 and 3.8.4: the flag is clear live, set on replay, and a subscription
    // made again is shown everything again.
    for version in [V3_1, V3_1_1] {
        let mut world = World::new();
        let client = world.client(version, "c");
        world.send(client, kept("a", "1", None));
        for _ in 0..2 {
            world.subscribe(client, "a", AtMostOnce);
            assert!(world.next_publish(client).retain);
        }
        world.send(client, kept("a", "2", None));
        let live = world.next_publish(client);
        assert_eq!((&*live.payload, live.retain), (&b"2"[..], false));
    }
}

#[test]
fn messages_pass_between_the_versions() {
    // What 3.x cannot carry is left out; topic, payload, QoS and retain flag are the same.
    let versions: [ProtocolVersion; 3] = [V3_1, V3_1_1, V5];
    for from in versions {
        for to in versions {
            let mut world = World::new();
            let publisher = world.client(from, "p");
            let client = world.client(to, "c");
            world.subscribe_with(
                client,
                "a/+",
                SubscriptionOptions {
                    maximum_qos: ExactlyOnce,
                    retain_as_published: to.is_v5(),
                    ..SubscriptionOptions::default()
                },
            );
            world.send(publisher, kept("a/b", "x", Some(1)));
            let came = world.next_publish(client);
            assert_eq!(came.retain, to.is_v5());
            assert_eq!(
                (&*came.topic, &*came.payload, came.qos),
                ("a/b", &b"x"[..], AtLeastOnce)
            );
            assert_eq!(came.properties.map(|set| *set), None);
        }
    }
}

#[test]
fn a_will_is_kept_only_if_it_says_so() {
    // [MQTT-3.1.2-14] [MQTT-3.1.2-15], [MQTT-3.1.2-16] and [MQTT-3.1.2-17] of 3.1.1
    for version in BOTH {
        for retain in [false, true] {
            let mut world = World::new();
            let mut asked = with_will(connect(version, "c"), "will");
            asked.will.as_mut().expect("just set").retain = retain;
            let client = world.join(asked);
            world.cut(client);
            assert_eq!(shown(&mut world, "will").len(), usize::from(retain));
        }
    }
}

#[test]
fn text_of_requests_must_be_utf_8() {
    // [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    let text = |bytes: &[u8]| [&[0, u8::try_from(bytes.len()).expect("short")], bytes].concat();
    let packet = |first: u8, body: Vec<u8>| {
        [
            &[first, u8::try_from(body.len()).expect("short")],
            &body[..],
        ]
        .concat()
    };
    for broken in [&b"\xFF"[..], b"a\xED\xA0\x80", b"\xC0\xAF", b"a\0"] {
        for place in 0..3 {
            let at = |number: usize| text(if number == place { broken } else { b"ok" });
            let body = [&text(b"MQTT")[..], &[5, 0x86, 0, 0, 0], &at(0), &[0]].concat();
            let body = [body, at(1), text(b"m"), at(2)].concat();
            let mut world = World::new();
            let client = world.accept(V5);
            world.raw(client, &packet(0x10, body));
            let Packet::ConnAck(ack) = world.next(client) else {
                panic!("no CONNACK")
            };
            assert_eq!(ack.reason, ReasonCode::MalformedPacket, "{place}");
            assert!(world.joins.is_empty() && world.clients[client].closed.is_some());
        }
        for (first, end) in [(0x82, &[0][..]), (0xA2, &[])] {
            let mut world = World::new();
            let client = world.client(V5, "c");
            let body = [&[0, 1, 0][..], &text(broken), end].concat();
            world.raw(client, &packet(first, body));
            world.ended(client, ReasonCode::MalformedPacket);
        }
    }
}
