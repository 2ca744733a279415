//! Topic Aliases towards clients (5.0 sections 3.1.2.11.5 and 3.3.2.3.4).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use protocols::mqtt::packet::{Connect, Packet, Properties, ProtocolVersion, Publish, QoS};
use std::num::{NonZeroU16, NonZeroU32};

const TOPIC: &str = "building/7/floor/3/temperature";

fn with_aliases(connect: Connect, maximum: u16, size: Option<u32>) -> Connect {
    let set = connect.properties.map(|set| *set).unwrap_or_default();
    Connect {
        properties: Properties {
            topic_alias_maximum: Some(maximum),
            maximum_packet_size: size.and_then(NonZeroU32::new),
            ..set
        }
        .into_optional(),
        ..connect
    }
}

/// Topic and alias as they stood on the wire.
fn on_wire(publish: &Publish) -> (&str, Option<u16>) {
    let set = publish.properties.as_deref();
    let alias = set.and_then(|set| set.topic_alias);
    (&publish.topic, alias.map(NonZeroU16::get))
}

/// A publisher and a subscriber to everything that takes this many aliases.
fn pair(maximum: u16, size: Option<u32>) -> (World, usize, usize) {
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let client = world.join(with_aliases(connect(V5, "c"), maximum, size));
    world.subscribe(client, "#", ExactlyOnce);
    (world, publisher, client)
}

fn sent(world: &mut World, from: usize, to: usize, topic: &str) -> (String, Option<u16>) {
    world.publish(from, topic, "x");
    let came = world.next_publish(to);
    let (topic, alias) = on_wire(&came);
    (topic.to_owned(), alias)
}

#[test]
fn a_topic_is_sent_with_an_alias_and_then_by_it() {
    let (mut world, publisher, client) = pair(10, None);
    for expected in [(TOPIC, Some(1)), ("", Some(1)), ("", Some(1))] {
        let came = sent(&mut world, publisher, client, TOPIC);
        assert_eq!((&*came.0, came.1), expected);
    }
}

#[test]
fn who_allows_no_aliases_gets_none() {
    // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
    let (mut world, publisher, zero) = pair(0, None);
    let silent = world.client(V5, "silent");
    world.subscribe(silent, "#", AtMostOnce);
    let old = world.client(V3_1_1, "old");
    world.subscribe(old, "#", AtMostOnce);
    for _ in 0..4 {
        world.publish(publisher, TOPIC, "x");
        for client in [zero, silent, old] {
            assert_eq!(on_wire(&world.next_publish(client)), (TOPIC, None));
        }
    }
}

#[test]
fn the_smaller_of_both_maxima_holds() {
    for (own, theirs, expected) in [(64, 2, 2), (1, 500, 1), (0, 500, 0), (3, 3, 3)] {
        let mut world = World::new();
        world.options.outgoing_topic_aliases = own;
        let publisher = world.client(V5, "publisher");
        let client = world.join(with_aliases(connect(V5, "c"), theirs, None));
        world.subscribe(client, "#", AtMostOnce);
        for round in 0..4 {
            for topic in 0..6 {
                sent(
                    &mut world,
                    publisher,
                    client,
                    &format!("sensor/{topic}/{}", round % 2),
                );
            }
        }
        let used = world.clients[client]
            .aliases
            .keys()
            .map(|alias| alias.get());
        assert_eq!(used.max().unwrap_or(0), expected);
    }
    assert_eq!(World::new().options.outgoing_topic_aliases, 64);
}

#[test]
fn short_topics_are_sent_as_they_are() {
    let (mut world, publisher, client) = pair(10, None);
    for _ in 0..4 {
        assert_eq!(sent(&mut world, publisher, client, "a/b").1, None);
    }
}

#[test]
fn an_alias_that_was_not_sent_is_not_used() {
    // The first message, which would set the alias, is too large for the client.
    let (mut world, publisher, client) = pair(10, Some(60));
    let large = Packet::Publish(Publish {
        dup: false,
        qos: AtMostOnce,
        retain: false,
        topic: TOPIC.into(),
        packet_id: None,
        properties: None,
        payload: Bytes::from(vec![b'x'; 100]),
    });
    world.send(publisher, large);
    world.nothing(client);
    assert_eq!(world.counter("too_large_for_client"), 1);
    let came = sent(&mut world, publisher, client, TOPIC);
    assert_eq!((&*came.0, came.1), (TOPIC, Some(1)));
    let came = sent(&mut world, publisher, client, TOPIC);
    assert_eq!((&*came.0, came.1), ("", Some(1)));
}

#[test]
fn sizes_are_those_of_the_form_that_is_sent() {
    // Header 2, topic 2 + 30, property length 1, payload 1: 36 bytes, 39 with an alias.
    for (size, forms) in [
        (35, vec![]),
        (36, vec![(TOPIC, None); 4]),
        (38, vec![(TOPIC, None); 4]),
        (
            39,
            vec![
                (TOPIC, Some(1)),
                ("", Some(1)),
                ("", Some(1)),
                ("", Some(1)),
            ],
        ),
    ] {
        let (mut world, publisher, client) = pair(10, Some(size));
        for _ in 0..4 {
            world.publish(publisher, TOPIC, "x");
        }
        let came: Vec<_> = world.clients[client].got.drain(..).collect();
        let came: Vec<_> = came
            .iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => on_wire(publish),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(came, forms, "{size}");
    }
    // By its alias a message fits that would not by its topic.
    let (mut world, publisher, client) = pair(10, Some(39));
    for _ in 0..2 {
        world.publish(publisher, TOPIC, "x");
        world.next_publish(client);
    }
    world.publish(publisher, TOPIC, "a payload of 30 letters, it is");
    let came = world.next_publish(client);
    assert_eq!((on_wire(&came), came.payload.len()), (("", Some(1)), 30));
}

#[test]
fn aliases_end_with_the_connection_and_repetitions_are_whole() {
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let client = world.join(with_aliases(persistent(V5, "c"), 10, None));
    world.subscribe(client, "#", AtLeastOnce);
    for number in 1..=3 {
        world.send(publisher, publish(TOPIC, "x", Some(number), AtLeastOnce));
    }
    let forms: Vec<_> = (0..3).map(|_| world.next_publish(client)).collect();
    assert_eq!(on_wire(&forms[2]), ("", Some(1)));
    world.cut(client);
    let client = world.join(with_aliases(persistent(V5, "c"), 10, None));
    for expected in [(TOPIC, Some(1)), ("", Some(1)), ("", Some(1))] {
        let came = world.next_publish(client);
        assert!(came.dup);
        assert_eq!(on_wire(&came), expected);
    }
    // And not by a client that takes none this time.
    world.cut(client);
    let client = world.join(persistent(V5, "c"));
    for _ in 0..3 {
        assert_eq!(on_wire(&world.next_publish(client)), (TOPIC, None));
    }
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(AtMostOnce), Just(AtLeastOnce), Just(ExactlyOnce)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Whatever is published in whatever size, the client can tell the topic of each message.
    #[test]
    fn the_client_finds_every_topic(
        maximum in 0u16..5,
        size in proptest::option::of(34u32..70),
        version in prop_oneof![4 => Just(V5), 1 => Just(V3_1_1)],
        steps in proptest::collection::vec((0usize..8, 0usize..40, qos()), 0..60),
    ) {
        let mut world = World::new();
        let publisher = world.client(ProtocolVersion::V5, "publisher");
        let client = world.join(match version {
            V5 => with_aliases(connect(V5, "c"), maximum, size),
            other => connect(other, "c"),
        });
        world.subscribe(client, "#", AtMostOnce);
        let is_limited = version.is_v5() && size.is_some();
        let (mut came, mut told) = (Vec::new(), Vec::new());
        for (topic, length, qos) in steps {
            let topic = format!("sensor/of/topic/{topic}");
            told.push((topic.clone(), length));
            let number = (qos != AtMostOnce).then_some(1);
            let packet = Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                topic: topic.into(),
                packet_id: number.map(id),
                properties: None,
                payload: Bytes::from(vec![b'x'; length]),
            });
            world.send(publisher, packet);
            world.send(publisher, pubrel(1));
            while let Some(packet) = world.clients[client].got.pop_front() {
                let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                let alias = publish.properties.as_ref().and_then(|set| set.topic_alias);
                let topic = match (publish.topic.is_empty(), alias) {
                    (true, Some(alias)) => world.clients[client].aliases[&alias].to_string(),
                    _ => publish.topic.to_string(),
                };
                came.push((topic, publish.payload.len()));
            }
        }
        if is_limited {
            let mut rest = told.iter();
            prop_assert!(came.iter().all(|one| rest.any(|other| other == one)), "in order");
        } else {
            prop_assert_eq!(came, told);
        }
    }
}
