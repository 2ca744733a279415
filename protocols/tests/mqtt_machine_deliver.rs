//! PUBLISH to a client and the client's acknowledgements (5.0 sections 3.3, 4.3, 4.4 and 4.9).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::Bytes;
use common::*;
use protocols::mqtt::packet::{
    Ack, Connect, Packet, Properties, ProtocolVersion, Publish, SubscriptionOptions,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::encoding::Encoding;
use router_core::model::{self, Args, Command, Payload, Qos, Topic};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// A world with a publisher and a subscriber of `version` to `#`.
fn pair(version: ProtocolVersion, qos: protocols::mqtt::packet::QoS) -> (World, usize, usize) {
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let client = world.client(version, "c");
    world.subscribe(client, "#", qos);
    (world, publisher, client)
}

fn with(connect: Connect, properties: Properties) -> Connect {
    Connect {
        properties: properties.into_optional(),
        ..connect
    }
}

/// A publish of somebody who sends arguments.
fn arguments(topic: &str, args: &'static str, retain: bool) -> Command {
    let args = Some(Bytes::from_static(args.as_bytes()));
    Command::Publish(Box::new(model::Publish {
        qos: Qos::AtLeastOnce,
        retain,
        ..model::Publish::new(
            Topic::new(topic.to_owned()).expect("legal"),
            Payload::args(Encoding::Json, Args { args, kwargs: None }),
        )
    }))
}

fn count(world: &World, client: usize, command: &str) -> usize {
    world.clients[client]
        .commands
        .iter()
        .filter(|name| *name == command)
        .count()
}

#[test]
fn among_others_everybody_gets_what_a_lone_subscriber_gets() {
    type Subscribes = fn(&mut World) -> usize;
    let kinds: [Subscribes; 7] = [
        |world| listener(world, connect(V3_1, "a"), options(AtMostOnce), None),
        |world| listener(world, connect(V3_1_1, "b"), options(AtMostOnce), None),
        |world| listener(world, connect(V5, "c"), options(AtMostOnce), None),
        |world| listener(world, connect(V5, "d"), options(AtLeastOnce), Some(7)),
        |world| {
            let kept = SubscriptionOptions {
                retain_as_published: true,
                ..options(AtMostOnce)
            };
            listener(world, connect(V5, "e"), kept, None)
        },
        |world| {
            let set = Properties {
                topic_alias_maximum: Some(3),
                ..Properties::default()
            };
            listener(
                world,
                with(connect(V5, "f"), set),
                options(AtMostOnce),
                None,
            )
        },
        |world| {
            let set = Properties {
                maximum_packet_size: NonZeroU32::new(40),
                ..Properties::default()
            };
            listener(
                world,
                with(connect(V5, "g"), set),
                options(AtMostOnce),
                None,
            )
        },
    ];
    let messages = || {
        let set = Properties {
            content_type: Some("text/plain".into()),
            ..Properties::default()
        };
        let long = "a payload that is too long for one of them";
        [
            publish("topic/a", "x", None, AtMostOnce),
            retained("topic/a", "y"),
            with_properties(publish("topic/a", "z", None, AtMostOnce), set),
            publish("topic/a", long, Some(1), AtLeastOnce),
        ]
    };
    let heard = |subscribe: &[Subscribes]| {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let clients = Vec::from_iter(subscribe.iter().map(|one| one(&mut world)));
        for message in messages() {
            world.send(publisher, message);
        }
        Vec::from_iter(
            clients
                .iter()
                .map(|client| world.clients[*client].got.clone()),
        )
    };
    let alone = Vec::from_iter(kinds.iter().map(|kind| heard(&[*kind]).remove(0)));
    assert!(alone.iter().all(|got| got.len() >= 3));
    let mut order = Vec::from_iter(kinds.into_iter().zip(alone));
    // Each is the first to be written to once.
    for _ in 0..order.len() {
        let kinds = Vec::from_iter(order.iter().map(|(kind, _)| *kind));
        for (got, (_, alone)) in heard(&kinds).iter().zip(&order) {
            assert_eq!(got, alone);
        }
        order.rotate_left(1);
    }
}

#[test]
fn what_fills_one_batch_after_the_other_reaches_every_subscriber() {
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let clients = ["a", "b", "c"].map(|id| {
        let client = world.client(V3_1_1, id);
        world.subscribe(client, "#", AtMostOnce);
        client
    });
    // Of a few sizes, so that a batch is full behind a message and not only ahead of one.
    let payload: &str = "x".repeat(4_000).leak();
    let messages = Vec::from_iter((0..300).map(|n| {
        let size = 3_000 + n * 3;
        publish("topic", &payload[..size], None, AtMostOnce)
    }));
    world.send_all(publisher, &messages);
    for client in clients {
        assert_eq!(world.clients[client].got.len(), messages.len());
    }
}

/// A client with a subscription to `#`.
fn listener(
    world: &mut World,
    connect: Connect,
    options: SubscriptionOptions,
    identifier: Option<u32>,
) -> usize {
    let client = world.join(connect);
    world.send(client, subscribe(9, &[("#", options)], identifier));
    assert!(matches!(world.next(client), Packet::SubAck(_)));
    client
}

#[test]
fn deliveries_have_the_lower_of_both_qos() {
    for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        for (number, sent) in [(1, AtMostOnce), (2, AtLeastOnce), (3, ExactlyOnce)] {
            let (mut world, publisher, client) = pair(V5, granted);
            let id = (sent != AtMostOnce).then_some(number);
            world.send(publisher, publish("a", "x", id, sent));
            let came = world.next_publish(client);
            assert_eq!(came.qos, sent.min(granted));
            assert_eq!(came.packet_id.is_some(), came.qos != AtMostOnce);
            assert!(!came.dup && !came.retain);
        }
    }
}

#[test]
fn the_qos_2_handshake_settles_the_message() {
    for version in BOTH {
        let (mut world, publisher, client) = pair(version, ExactlyOnce);
        world.send(publisher, publish("a", "x", Some(1), ExactlyOnce));
        let id = world.next_publish(client).packet_id.expect("QoS 2").get();
        world.send(client, pubrec(id));
        assert_eq!(world.next(client), pubrel(id));
        // [MQTT-4.3.3-4], also when the client asks twice.
        world.send(client, pubrec(id));
        assert_eq!(world.next(client), pubrel(id));
        world.send(client, pubcomp(id));
        world.nothing(client);
        assert_eq!(count(&world, client, "Advance"), 2);
        assert_eq!(count(&world, client, "Settle"), 1);
    }
}

#[test]
fn pubrel_waits_until_a_crash_cannot_repeat_the_message() {
    for version in BOTH {
        let mut world = World::durable();
        let publisher = world.client(version, "publisher");
        let client = world.join(persistent(version, "c"));
        world.subscribe(client, "#", ExactlyOnce);
        world.send(publisher, publish("a", "x", Some(1), ExactlyOnce));
        let id = world.next_publish(client).packet_id.expect("QoS 2").get();
        world.hold_commits = true;
        world.send(client, pubrec(id));
        world.send(client, pubrec(id));
        world.nothing(client);
        world.commit();
        assert_eq!(world.next(client), pubrel(id));
    }
}

#[test]
fn an_error_acknowledgement_ends_the_exchange() {
    // [MQTT-4.4.0-2]
    for (qos, kind) in [(AtLeastOnce, 4), (ExactlyOnce, 5)] {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let client = world.join(persistent(V5, "c"));
        world.subscribe(client, "#", ExactlyOnce);
        world.send(publisher, publish("a", "x", Some(1), qos));
        let id = world.next_publish(client).packet_id.expect("QoS > 0");
        let ack = Ack::with_reason(id, ReasonCode::QuotaExceeded);
        world.send(
            client,
            if kind == 4 {
                Packet::PubAck(ack)
            } else {
                Packet::PubRec(ack)
            },
        );
        world.nothing(client);
        world.cut(client);
        let again = world.join(persistent(V5, "c"));
        world.nothing(again);
    }
}

#[test]
fn unknown_acknowledgements_do_no_harm() {
    for version in BOTH {
        let (mut world, _, client) = pair(version, ExactlyOnce);
        world.send(client, puback(7));
        world.send(client, pubcomp(7));
        world.nothing(client);
        world.send(client, pubrec(7));
        let code = if version.is_v5() {
            ReasonCode::PacketIdentifierNotFound
        } else {
            ReasonCode::Success
        };
        assert_eq!(
            world.next(client),
            Packet::PubRel(Ack::with_reason(id(7), code))
        );
        assert_eq!(world.counter("acks_unknown"), 3);
        assert_eq!(
            count(&world, client, "Settle") + count(&world, client, "Advance"),
            0
        );
    }
}

#[test]
fn acknowledgements_of_the_wrong_kind_are_protocol_errors() {
    for (qos, wrong) in [
        (AtLeastOnce, pubrec as fn(u16) -> Packet),
        (AtLeastOnce, pubcomp),
        (ExactlyOnce, puback),
        (ExactlyOnce, pubcomp),
    ] {
        for version in BOTH {
            let (mut world, publisher, client) = pair(version, ExactlyOnce);
            world.send(publisher, publish("a", "x", Some(1), qos));
            let id = world.next_publish(client).packet_id.expect("QoS > 0").get();
            world.send(client, wrong(id));
            world.ended(client, ReasonCode::ProtocolError);
        }
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_in_order_with_dup() {
    // [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.3-6]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "#", ExactlyOnce);
        for (number, qos) in [
            (1, AtLeastOnce),
            (2, ExactlyOnce),
            (3, ExactlyOnce),
            (4, AtLeastOnce),
        ] {
            world.send(publisher, publish("a", "x", Some(number), qos));
        }
        let ids: Vec<_> = (0..4)
            .map(|_| world.next_publish(first).packet_id.expect("id"))
            .collect();
        world.send(first, puback(ids[0].get()));
        world.send(first, pubrec(ids[2].get()));
        // Never again on a live connection.
        world.wait(Duration::from_secs(3_600));
        assert_eq!(world.next(first), pubrel(ids[2].get()));
        world.nothing(first);
        world.cut(first);
        let (second, ack) = world.join_told(persistent(version, "c"));
        assert!(ack.session_present);
        let repeated = world.next_publish(second);
        assert_eq!((repeated.packet_id, repeated.dup), (Some(ids[1]), true));
        assert_eq!(world.next(second), pubrel(ids[2].get()));
        let repeated = world.next_publish(second);
        assert_eq!((repeated.packet_id, repeated.dup), (Some(ids[3]), true));
        world.send(second, pubcomp(ids[2].get()));
        world.send(second, puback(ids[3].get()));
        world.send(second, pubrec(ids[1].get()));
        assert_eq!(world.next(second), pubrel(ids[1].get()));
        world.send(second, pubcomp(ids[1].get()));
        world.cut(second);
        let third = world.join(persistent(version, "c"));
        world.nothing(third);
    }
}

#[test]
fn a_persistent_session_gets_what_it_missed() {
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", ExactlyOnce);
        world.cut(first);
        world.send(publisher, publish("a", "0", None, AtMostOnce));
        world.send(publisher, publish("a", "1", Some(1), AtLeastOnce));
        world.send(publisher, publish("a", "2", Some(2), ExactlyOnce));
        let second = world.join(persistent(version, "c"));
        let missed: Vec<_> = (0..2).map(|_| world.next_publish(second)).collect();
        assert!(
            missed.iter().all(|publish| !publish.dup),
            "never sent before"
        );
        assert_eq!(
            (&*missed[0].payload, &*missed[1].payload),
            (&b"1"[..], &b"2"[..])
        );
        world.nothing(second);
    }
}

#[test]
fn the_client_s_receive_maximum_is_never_exceeded() {
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let two = Properties {
        receive_maximum: NonZeroU16::new(2),
        ..Properties::default()
    };
    let client = world.join(with(connect(V5, "c"), two));
    world.subscribe(client, "#", ExactlyOnce);
    for number in 1..=6 {
        world.send(publisher, publish("a", "x", Some(number), ExactlyOnce));
    }
    let ids: Vec<_> = (0..2)
        .map(|_| world.next_publish(client).packet_id.expect("id").get())
        .collect();
    world.nothing(client);
    // QoS 0 and control packets are not delayed.
    world.publish(publisher, "a", "now");
    assert_eq!(world.next_publish(client).payload, "now");
    world.send(client, Packet::PingReq);
    assert_eq!(world.next(client), Packet::PingResp);
    world.send(client, pubrec(ids[0]));
    assert_eq!(world.next(client), pubrel(ids[0]));
    world.nothing(client);
    world.send(client, pubcomp(ids[0]));
    world.next_publish(client);
    world.nothing(client);
    let refused = Ack::with_reason(id(ids[1]), ReasonCode::UnspecifiedError);
    world.send(client, Packet::PubRec(refused));
    world.next_publish(client);
    world.nothing(client);
}

#[test]
fn a_smaller_receive_maximum_holds_for_repetitions_too() {
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let first = world.join(persistent(V5, "c"));
    world.subscribe(first, "#", AtLeastOnce);
    for number in 1..=5 {
        world.send(publisher, publish("a", "x", Some(number), AtLeastOnce));
    }
    world.cut(first);
    let mut asked = persistent(V5, "c");
    asked
        .properties
        .as_mut()
        .expect("set above")
        .receive_maximum = NonZeroU16::new(2);
    let second = world.join(asked);
    let mut open = std::collections::VecDeque::new();
    let mut order = Vec::new();
    for _ in 0..5 {
        while let Some(packet) = world.clients[second].got.pop_front() {
            let Packet::Publish(Publish {
                packet_id: Some(id),
                dup: true,
                ..
            }) = packet
            else {
                panic!("no repetition: {packet:?}")
            };
            open.push_back(id.get());
            order.push(id.get());
        }
        assert!(open.len() <= 2, "{open:?}");
        let id = open.pop_front().expect("one more");
        world.send(second, puback(id));
    }
    world.nothing(second);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!((order.len(), &order), (5, &sorted), "in the original order");
}

#[test]
fn messages_too_large_for_the_client_are_dropped_as_if_completed() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let small = Properties {
            maximum_packet_size: NonZeroU32::new(80),
            ..Properties::default()
        };
        let client = world.join(with(connect(V5, "c"), small));
        world.subscribe(client, "#", ExactlyOnce);
        let number = (qos != AtMostOnce).then_some(1);
        let body = match publish("a", "", number, qos) {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        };
        // Fixed header 2, topic 3, properties 1, and the identifier.
        let fits = 80 - 2 - 3 - 1 - if number.is_some() { 2 } else { 0 };
        for (size, arrives) in [(fits, true), (fits + 1, false), (5_000, false)] {
            let payload = Bytes::from(vec![b'x'; size]);
            world.send(
                publisher,
                Packet::Publish(Publish {
                    payload,
                    ..body.clone()
                }),
            );
            world.send(publisher, pubrel(1));
            let came = world.clients[client].got.pop_front();
            assert_eq!(came.is_some(), arrives, "{qos:?} {size}");
        }
        assert_eq!(world.counter("too_large_for_client"), 2);
        let settled = if qos == AtMostOnce { 0 } else { 2 };
        assert_eq!(count(&world, client, "Settle"), settled);
        assert!(world.clients[client].closed.is_none());
    }
}

#[test]
fn topics_that_mqtt_cannot_say_never_reach_it() {
    for topic in ["a/+/b", "a\0b", "+"] {
        let (mut world, _, client) = pair(V5, AtLeastOnce);
        world.command(arguments(topic, "[1]", false));
        world.nothing(client);
        assert_eq!(world.counter("not_deliverable"), 1, "{topic:?}");
        assert_eq!(count(&world, client, "Settle"), 1);
        world.command(arguments("a/b", "[1]", false));
        world.next_publish(client);
    }
}

#[test]
fn properties_that_mqtt_cannot_say_never_reach_it() {
    let (mut world, _, client) = pair(V5, AtLeastOnce);
    let Command::Publish(mut publish) = arguments("a", "[1]", false) else {
        unreachable!("made just now")
    };
    let wild = model::Attributes {
        response_topic: Some("a/#".into()),
        ..Default::default()
    };
    publish.attributes = Some(Box::new(wild));
    world.command(Command::Publish(publish));
    world.nothing(client);
    assert_eq!(world.counter("not_deliverable"), 1);
}

#[test]
fn arguments_reach_mqtt_as_json_or_envelope() {
    let cases: [(&str, &[u8], Option<&str>); 5] = [
        ("[{\"a\":1}]", b"{\"a\":1}", Some("application/json")),
        ("[\"text\"]", b"\"text\"", Some("application/json")),
        (
            "[1,2]",
            b"{\"args\":[1,2],\"kwargs\":{}}",
            Some("application/wamp+json"),
        ),
        (
            "[]",
            b"{\"args\":[],\"kwargs\":{}}",
            Some("application/wamp+json"),
        ),
        ("[\"\\u0000/wA=\"]", b"\xFF\0", None),
    ];
    for (args, payload, content_type) in cases {
        for version in BOTH {
            let (mut world, _, client) = pair(version, AtMostOnce);
            world.command(arguments("a", args, false));
            let came = world.next_publish(client);
            assert_eq!(&*came.payload, payload);
            let set = came.properties.map(|set| *set);
            let wanted = content_type
                .filter(|_| version.is_v5())
                .map(|name| Properties {
                    payload_format_indicator: Some(true),
                    content_type: Some(name.into()),
                    ..Properties::default()
                });
            assert_eq!(set, wanted, "{args}");
        }
    }
}

#[test]
fn a_deletion_reaches_mqtt_as_an_empty_payload() {
    for version in BOTH {
        let (mut world, publisher, client) = pair(version, AtMostOnce);
        world.send(publisher, retained("a", "x"));
        assert_eq!(world.next_publish(client).payload, "x");
        world.command(arguments("a", "[]", true));
        let came = world.next_publish(client);
        assert!(came.payload.is_empty() && came.properties.is_none());
        let late = world.client(version, "late");
        world.subscribe(late, "#", AtMostOnce);
        world.nothing(late);
    }
}

#[test]
fn properties_travel_unaltered_to_5_0_and_not_to_3_x() {
    // [MQTT-3.3.2-4], -15, -16, -17, -18, -20
    let set = Properties {
        payload_format_indicator: Some(true),
        content_type: Some("text/plain".into()),
        response_topic: Some("answer".into()),
        correlation_data: Some(Bytes::from_static(&[0, 1])),
        user_properties: vec![
            ("b".into(), "1".into()),
            ("a".into(), "2".into()),
            ("b".into(), "1".into()),
        ],
        ..Properties::default()
    };
    for retain in [false, true] {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let client = world.client(V5, "new");
        let old = world.client(V3_1_1, "old");
        let Packet::Publish(message) = publish("a", "x", None, AtMostOnce) else {
            unreachable!("made just now")
        };
        let message = with_properties(Packet::Publish(Publish { retain, ..message }), set.clone());
        if retain {
            world.send(publisher, message.clone());
        }
        world.subscribe(client, "a", AtMostOnce);
        world.subscribe(old, "a", AtMostOnce);
        if !retain {
            world.send(publisher, message);
        }
        let came = world.next_publish(client);
        assert_eq!(
            (came.properties.as_deref(), came.retain),
            (Some(&set), retain)
        );
        assert_eq!(world.next_publish(old).properties, None);
    }
}

#[test]
fn message_expiry_counts_down_and_ends_waiting() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    let expiring = |number, seconds| {
        let set = Properties {
            message_expiry_interval: Some(seconds),
            ..Properties::default()
        };
        with_properties(publish("a", "x", Some(number), AtLeastOnce), set)
    };
    let left = |publish: Publish| {
        publish
            .properties
            .and_then(|set| set.message_expiry_interval)
    };
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let client = world.join(persistent(V5, "c"));
    world.subscribe(client, "#", AtLeastOnce);
    world.send(publisher, expiring(1, 100));
    let came = world.next_publish(client);
    let first = came.packet_id.expect("id").get();
    assert_eq!(left(came), Some(100));
    world.cut(client);
    world.send(publisher, expiring(2, 10));
    world.send(publisher, expiring(3, 50));
    world.wait(Duration::from_millis(20_500));
    let again = world.join(persistent(V5, "c"));
    let repeated = world.next_publish(again);
    assert_eq!((repeated.dup, left(repeated)), (true, Some(80)));
    assert_eq!(
        left(world.next_publish(again)),
        Some(30),
        "the second has expired"
    );
    world.nothing(again);
    world.send(again, puback(first));
}

#[test]
fn a_message_once_sent_does_not_expire() {
    // [MQTT-4.3.3-7]
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let client = world.join(persistent(V5, "c"));
    world.subscribe(client, "#", ExactlyOnce);
    let set = Properties {
        message_expiry_interval: Some(5),
        ..Properties::default()
    };
    world.send(
        publisher,
        with_properties(publish("a", "x", Some(1), ExactlyOnce), set),
    );
    let sent = world.next_publish(client).packet_id;
    world.cut(client);
    world.wait(Duration::from_secs(60));
    let again = world.join(persistent(V5, "c"));
    let repeated = world.next_publish(again);
    assert_eq!((repeated.packet_id, repeated.dup), (sent, true));
    assert_eq!(
        repeated
            .properties
            .and_then(|set| set.message_expiry_interval),
        Some(0)
    );
}

#[test]
fn what_expired_before_it_was_sent_is_dropped_as_if_completed() {
    // [MQTT-3.3.2-5]: waiting in the realm for the window, and on the last step to the client.
    let mut world = World::new();
    let publisher = world.client(V5, "publisher");
    let one = Properties {
        receive_maximum: NonZeroU16::new(1),
        ..Properties::default()
    };
    let client = world.join(with(connect(V5, "c"), one));
    world.subscribe(client, "#", AtLeastOnce);
    let set = Properties {
        message_expiry_interval: Some(5),
        ..Properties::default()
    };
    let brief = with_properties(publish("brief", "x", Some(2), AtLeastOnce), set);
    world.send(publisher, publish("a", "x", Some(1), AtLeastOnce));
    world.send(publisher, brief);
    let first = world.next_publish(client).packet_id.expect("id").get();
    world.wait(Duration::from_secs(6));
    world.send(client, puback(first));
    world.nothing(client);
    let late = event_made("a", Some(world.now.unix_ms), false);
    world.deliver_made(client, model::Delivery::Event(late));
    world.nothing(client);
    assert_eq!(world.counter("expired_unsent"), 1);
    assert_eq!(count(&world, client, "Settle"), 2);
    let repeated = event_made("a", Some(world.now.unix_ms), true);
    world.deliver_made(client, model::Delivery::Event(repeated));
    assert!(world.next_publish(client).dup);
}

/// A QoS 1 delivery in slot 77.
fn event_made(topic: &str, expires_at_ms: Option<u64>, repeated: bool) -> model::EventDelivery {
    let event = model::Event {
        publication: model::PublicationId(1),
        topic: Topic::new(topic.to_owned()).expect("legal"),
        payload: Payload::bytes(Bytes::new(), false),
        publisher: None,
        qos: Qos::AtLeastOnce,
        retain: false,
        clears: false,
        token: None,
        expires_at_ms,
        attributes: None,
        admission: None,
        made: model::Made::default(),
    };
    model::EventDelivery {
        event: std::sync::Arc::new(event),
        subscription: model::SubscriptionId(1),
        exact: true,
        qos: Qos::AtLeastOnce,
        replayed: false,
        retain: false,
        identifiers: Default::default(),
        slot: Some(id(77)),
        repeated,
        lost: 0,
        gap: false,
        handover: router_core::model::Handover::Nobody,
    }
}

/// What the client was told of lost deliveries.
fn told_lost(publish: &Publish) -> Option<&str> {
    let set = publish.properties.as_deref()?;
    let mut lost = set.user_properties.iter();
    lost.find(|(name, _)| name == "reynard-lost")
        .map(|(_, value)| &**value)
}

fn lossy(topic: &str, slot: u16, lost: u32) -> model::Delivery {
    model::Delivery::Event(model::EventDelivery {
        slot: Some(id(slot)),
        lost,
        ..event_made(topic, None, false)
    })
}

#[test]
fn dropped_deliveries_are_told_with_the_next_one() {
    for version in BOTH {
        let mut world = World::new();
        let client = world.client(version, "c");
        for (slot, lost) in [(1, 0), (2, 7), (3, 0), (4, u32::MAX)] {
            world.deliver_made(client, lossy("a", slot, lost));
            let came = world.next_publish(client);
            let expected = Some(lost.to_string()).filter(|_| lost > 0 && version.is_v5());
            assert_eq!(told_lost(&came).map(str::to_owned), expected);
        }
    }
}

#[test]
fn the_mark_of_a_gap_stands_behind_the_properties_of_the_message() {
    let mut world = World::new();
    let client = world.client(V5, "c");
    let mut delivery = event_made("a", None, false);
    let event = std::sync::Arc::get_mut(&mut delivery.event).expect("not shared");
    event.attributes = Some(Box::new(model::Attributes {
        content_type: Some("text/plain".into()),
        user_properties: vec![("k".into(), "v".into())],
        ..model::Attributes::default()
    }));
    delivery.lost = 3;
    world.deliver_made(client, model::Delivery::Event(delivery));
    let set = world.next_publish(client).properties.expect("some");
    assert_eq!(set.content_type.as_deref(), Some("text/plain"));
    let expected = [("k", "v"), ("reynard-lost", "3")];
    let came: Vec<_> = (set.user_properties.iter())
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(came, expected);
}

#[test]
fn a_mark_that_does_not_fit_waits_for_a_message_with_room() {
    let mut world = World::new();
    let small = Properties {
        maximum_packet_size: NonZeroU32::new(40),
        ..Properties::default()
    };
    let client = world.join(with(connect(V5, "c"), small));
    let long = "a/long/topic/with/levels";
    world.deliver_made(client, lossy(long, 1, 2));
    assert_eq!(told_lost(&world.next_publish(client)), None);
    // Not sent at all.
    world.deliver_made(client, lossy(&"x".repeat(50), 2, 1));
    world.nothing(client);
    world.deliver_made(client, lossy("a", 3, 1));
    assert_eq!(told_lost(&world.next_publish(client)), Some("4"));
    world.deliver_made(client, lossy("a", 4, 0));
    assert_eq!(told_lost(&world.next_publish(client)), None);
}

#[test]
fn retain_as_published_and_replay_decide_the_retain_flag() {
    // [MQTT-3.3.1-8] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    for (as_published, live) in [(false, false), (true, true)] {
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let client = world.client(V5, "c");
        world.send(publisher, retained("a", "kept"));
        let wanted = SubscriptionOptions {
            retain_as_published: as_published,
            ..options(AtMostOnce)
        };
        world.subscribe_with(client, "a", wanted);
        assert!(
            world.next_publish(client).retain,
            "a replayed one always shows it"
        );
        world.send(publisher, retained("a", "new"));
        assert_eq!(world.next_publish(client).retain, live);
        world.publish(publisher, "a", "passing");
        assert!(!world.next_publish(client).retain);
    }
}

#[test]
fn large_payloads_are_not_copied_and_small_packets_share_a_piece() {
    let (mut world, publisher, client) = pair(V5, AtMostOnce);
    let Packet::Publish(small) = publish("a", "x", None, AtMostOnce) else {
        unreachable!("made just now")
    };
    let messages: Vec<_> = (0..20).map(|_| Packet::Publish(small.clone())).collect();
    world.clients[client].pieces.clear();
    world.send_all(publisher, &messages);
    assert_eq!(world.clients[client].pieces.len(), 1);
    world.clients[client].pieces.clear();
    let payload = Bytes::from(vec![7; 100_000]);
    world.send(
        publisher,
        Packet::Publish(Publish {
            payload: payload.clone(),
            ..small
        }),
    );
    let lengths: Vec<_> = world.clients[client]
        .pieces
        .iter()
        .map(Bytes::len)
        .collect();
    assert_eq!(lengths.last(), Some(&100_000), "{lengths:?}");
    assert!(lengths.iter().rev().skip(1).all(|length| *length < 100));
}

#[test]
fn no_publish_behind_a_wrong_acknowledgement_is_carried_out() {
    let (mut world, publisher, client) = pair(V5, ExactlyOnce);
    // With a topic that is known and nothing else the quickest way is taken.
    world.publish(client, "known", "before");
    world.next_publish(client);
    world.send(publisher, publish("t", "one", Some(1), AtLeastOnce));
    world.send(publisher, publish("t", "two", Some(2), ExactlyOnce));
    let [one, two] = [(); 2].map(|()| world.next_publish(client).packet_id.expect("QoS above 0"));
    let before = count(&world, client, "Publish");
    let packets = [
        puback(one.get()),
        pubcomp(two.get()),
        publish("known", "after", None, AtMostOnce),
    ];
    world.send_all(client, &packets);
    assert_eq!(count(&world, client, "Settle"), 1, "what came before is");
    assert_eq!(count(&world, client, "Publish"), before);
    world.ended(client, ReasonCode::ProtocolError);
}
