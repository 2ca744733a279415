//! Laws of the machine: no legal packet sequence confuses it, cuts do not matter, messages pass
//! unaltered, QoS 2 is exactly once, acknowledgements keep their order.
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;
#[path = "mqtt_codec_common/strategies.rs"]
mod strategies;

use bytes::{Bytes, BytesMut};
use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use protocols::gate::{Gate, Input};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Direction, Packet, PacketType, Properties, ProtocolVersion, Publish, QoS,
};
use protocols::mqtt::reason::ReasonCode;
use std::collections::{BTreeSet, HashMap};

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(V3_1), Just(V3_1_1), Just(V5)]
}

/// A version and packets that a client of it may send.
fn conversation() -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    version().prop_flat_map(|version| {
        let packet = strategies::packet(version, Direction::ClientToServer);
        (Just(version), vec(packet, 0..24))
    })
}

/// PUBLISHes to few topics, one of which is refused and one a call, among other packets.
fn repetitive() -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    version().prop_flat_map(|version| {
        let topic = prop_oneof![
            3 => Just("t/a".to_owned()),
            3 => Just("t/b".to_owned()),
            1 => Just("$SYS/x".to_owned()),
            1 => Just("$rpc/x".to_owned()),
            1 => "[ab/]{1,3}",
        ];
        let qos = prop_oneof![Just(AtMostOnce), Just(AtLeastOnce), Just(ExactlyOnce)];
        let payload = prop_oneof![Just("text"), Just("")];
        let publishes = (topic, qos, 1..4u16, payload, any::<bool>()).prop_map(
            move |(topic, qos, number, payload, retain)| {
                let number = (qos != AtMostOnce).then_some(number);
                let packet = publish(&topic, payload, number, qos);
                match packet {
                    Packet::Publish(publish) => Packet::Publish(Publish { retain, ..publish }),
                    other => other,
                }
            },
        );
        let others = prop_oneof![
            Just(Packet::PingReq),
            (1..4u16).prop_map(pubrel),
            strategies::packet(version, Direction::ClientToServer).prop_filter(
                "goes on",
                |packet| !matches!(
                    packet.packet_type(),
                    PacketType::Connect | PacketType::Disconnect | PacketType::Auth
                )
            ),
        ];
        (
            Just(version),
            vec(prop_oneof![6 => publishes, 1 => others], 0..40),
        )
    })
}

fn feed(version: ProtocolVersion, bytes: &[u8], size: usize, frames: bool) -> World {
    let mut world = World::new();
    let client = world.accept(version);
    for part in bytes.chunks(size.max(1)) {
        if frames {
            world.input(client, Input::Binary(Bytes::copy_from_slice(part)));
        } else {
            world.raw(client, part);
        }
    }
    world
}

/// What must hold of every client after every input.
fn check(world: &mut World) {
    for client in 0..world.clients.len() {
        let client = &mut world.clients[client];
        assert!(client.left.len() <= 1, "left {:?}", client.left);
        assert_eq!(client.machine.is_closed(), client.closed.is_some());
        assert!(client.machine.poll_action().is_none() && client.machine.poll_output().is_none());
        assert!(!client.machine.is_closed() || client.machine.poll_timeout().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn legal_packets_in_any_order_leave_a_defined_state(
        (version, packets) in conversation(),
        connects in any::<bool>(),
        end in 0..3u8,
    ) {
        let mut world = World::new();
        let other = world.client(V5, "witness");
        world.subscribe(other, "#", ExactlyOnce);
        let client = world.accept(version);
        if connects {
            world.send(client, Packet::Connect(Box::new(persistent(version, "c"))));
            check(&mut world);
        }
        for packet in packets {
            let kind = packet.packet_type();
            let before = world.clients[client].got.len();
            let was_closed = world.clients[client].closed.is_some();
            world.send(client, packet);
            check(&mut world);
            let open = world.clients[client].closed.is_none();
            let answered = world.clients[client].got.iter().skip(before);
            let answers = answered.filter(|packet| answers(kind, packet.packet_type())).count();
            if was_closed {
                prop_assert_eq!(world.clients[client].got.len(), before);
            } else if open && wants_answer(kind) {
                prop_assert_eq!(answers, 1, "one answer to {:?}", kind);
            }
        }
        match end {
            0 => world.cut(client),
            1 => world.input(client, Input::Drain),
            _ => {}
        }
        check(&mut world);
        world.clients[other].got.retain(|packet| packet.packet_type() == PacketType::PingResp);
        world.send(other, Packet::PingReq);
        prop_assert_eq!(world.next(other), Packet::PingResp);
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter(
        (version, packets) in conversation(),
        size in 1usize..40,
    ) {
        let mut bytes = BytesMut::new();
        let connect = Packet::Connect(Box::new(persistent(version, "c")));
        for packet in std::iter::once(&connect).chain(&packets) {
            encode(packet, version, &mut bytes).expect("legal");
        }
        let whole = feed(version, &bytes, usize::MAX, false);
        for frames in [false, true] {
            let cut = feed(version, &bytes, size, frames);
            prop_assert_eq!(whole.clients[0].closed, cut.clients[0].closed);
            prop_assert_eq!(&whole.clients[0].left, &cut.clients[0].left);
            // Answers and messages may interleave differently, and an end cuts short what a larger
            // read would have brought; else what is said stays the same.
            let (mut a, mut b) = (whole.clients[0].got.clone(), cut.clients[0].got.clone());
            if whole.clients[0].closed.is_some() {
                prop_assert_eq!(a.back().filter(is_last), b.back().filter(is_last));
            } else {
                a.make_contiguous().sort_by_key(|packet| format!("{packet:?}"));
                b.make_contiguous().sort_by_key(|packet| format!("{packet:?}"));
                prop_assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn a_known_topic_makes_no_difference((version, packets) in repetitive()) {
        let mut forgetful = World::new();
        let mut world = World::new();
        let mut bytes = BytesMut::new();
        for world in [&mut world, &mut forgetful] {
            let witness = world.client(V5, "witness");
            world.subscribe(witness, "#", ExactlyOnce);
            world.join(persistent(version, "c"));
        }
        for packet in &packets {
            let mut packet_bytes = BytesMut::new();
            encode(packet, version, &mut packet_bytes).expect("legal");
            bytes.extend_from_slice(&packet_bytes);
            forgetful.clients[1].machine.rest();
            forgetful.raw(1, &packet_bytes);
        }
        world.raw(1, &bytes);
        // In order within each lane: at most once, and what is settled.
        let heard = |world: &World| {
            let mut got = Vec::from(world.clients[0].got.clone());
            got.sort_by_key(|packet| matches!(packet, Packet::Publish(p) if p.qos == AtMostOnce));
            got
        };
        prop_assert_eq!(heard(&world), heard(&forgetful));
        let said = |world: &World| {
            let client = &world.clients[1];
            let mut got = Vec::from(client.got.clone());
            got.sort_by_key(|packet| format!("{packet:?}"));
            (client.closed, client.left.clone(), client.commands.clone(), got)
        };
        let (known, asked_anew) = (said(&world), said(&forgetful));
        if known.0.is_none() {
            prop_assert_eq!(known, asked_anew);
        } else {
            // An end cuts short what is answered later.
            prop_assert_eq!(known.0, asked_anew.0);
        }
    }

    #[test]
    fn messages_pass_unaltered(
        topic in "[a-zA-Z0-9 ./%é\u{FEFF}\u{A0}*-]{1,20}",
        payload in vec(any::<u8>(), 0..6_000),
        qos in prop_oneof![Just(AtMostOnce), Just(AtLeastOnce), Just(ExactlyOnce)],
        content_type in proptest::option::of("[a-z/+]{0,12}|application/wamp\\+json"),
        user in vec(("[a-z]{0,3}", "[a-zé]{0,3}"), 0..4),
        correlation in proptest::option::of(vec(any::<u8>(), 0..9)),
        retain in any::<bool>(),
    ) {
        let set = Properties {
            content_type: content_type.map(Into::into),
            correlation_data: correlation.map(Into::into),
            user_properties: user.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            ..Properties::default()
        };
        let message = Publish {
            dup: false,
            qos,
            retain,
            topic: topic.into(),
            packet_id: (qos != AtMostOnce).then(|| id(1)),
            properties: set.into_optional(),
            payload: payload.into(),
        };
        let mut world = World::new();
        let publisher = world.client(V5, "publisher");
        let live = world.client(V5, "live");
        world.subscribe(live, "#", ExactlyOnce);
        world.send(publisher, Packet::Publish(message.clone()));
        let came = world.next_publish(live);
        prop_assert_eq!(&came, &Publish {
            retain: false,
            packet_id: came.packet_id,
            ..message.clone()
        });
        let late = world.client(V5, "late");
        world.subscribe(late, "#", ExactlyOnce);
        if retain && !message.payload.is_empty() {
            let came = world.next_publish(late);
            prop_assert_eq!(&came, &Publish { packet_id: came.packet_id, ..message });
        } else {
            world.nothing(late);
        }
    }

    #[test]
    fn qos_2_is_exactly_once_whatever_is_repeated(
        version in version(),
        steps in vec((0..3u8, 1..4u16), 0..40),
    ) {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "a", AtMostOnce);
        let mut client = world.join(persistent(version, "c"));
        let (mut open, mut wanted) = (BTreeSet::new(), 0usize);
        for (step, number) in steps {
            let message = publish("a", "x", Some(number), ExactlyOnce);
            match step {
                0 if open.insert(number) => {
                    wanted += 1;
                    world.send(client, message);
                }
                0 => world.send(client, again(message)),
                1 => {
                    open.remove(&number);
                    world.send(client, pubrel(number));
                }
                _ => {
                    world.cut(client);
                    client = world.join(persistent(version, "c"));
                }
            }
            prop_assert!(world.clients[client].closed.is_none());
        }
        prop_assert_eq!(world.clients[watcher].got.len(), wanted);
    }

    #[test]
    fn nothing_is_lost_or_doubled_towards_an_obedient_client(
        version in version(),
        window in 1..5u16,
        steps in vec((0..5u8, any::<bool>()), 0..60),
    ) {
        let mut world = World::new();
        let publisher = world.client(V3_1_1, "publisher");
        let connect = || {
            let mut connect = persistent(version, "c");
            if let Some(set) = &mut connect.properties {
                set.receive_maximum = std::num::NonZeroU16::new(window);
            }
            connect
        };
        let mut receiver = Receiver::default();
        let mut client = world.join(connect());
        world.subscribe(client, "a", ExactlyOnce);
        let mut sent = 0u32;
        let say = |world: &mut World, sent: &mut u32, twice: bool| {
            let qos = if twice { ExactlyOnce } else { AtLeastOnce };
            *sent += 1;
            world.send(publisher, Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                topic: "a".into(),
                packet_id: Some(id(1)),
                properties: None,
                payload: Bytes::copy_from_slice(&sent.to_be_bytes()),
            }));
            world.send(publisher, pubrel(1));
        };
        for (step, twice) in steps {
            match step {
                0 | 1 => say(&mut world, &mut sent, twice),
                2 => receiver.answer_one(&mut world, client),
                3 => (0..3).for_each(|_| receiver.answer_one(&mut world, client)),
                _ => {
                    world.cut(client);
                    // What was on its way may be lost; the client keeps what it has.
                    client = world.join(connect());
                }
            }
            if version.is_v5() {
                prop_assert!(receiver.unanswered(&world, client) <= usize::from(window));
            }
        }
        for _ in 0..500 {
            receiver.answer_one(&mut world, client);
        }
        let (once, twice) = receiver.finish();
        prop_assert_eq!(&twice.values().filter(|count| **count != 1).count(), &0, "QoS 2 doubled");
        let came: BTreeSet<u32> = once.into_iter().chain(twice.into_keys()).collect();
        prop_assert_eq!(came.len(), sent as usize, "all came");
    }
}

/// A client that keeps its session state across connections.
#[derive(Default)]
struct Receiver {
    once: BTreeSet<u32>,
    twice: HashMap<u32, u32>,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    open: BTreeSet<u16>,
}

impl Receiver {
    fn answer_one(&mut self, world: &mut World, client: usize) {
        match world.clients[client].got.pop_front() {
            None | Some(Packet::SubAck(_)) => {}
            Some(Packet::Publish(publish)) => {
                let number = u32::from_be_bytes(publish.payload[..].try_into().expect("a number"));
                let id = publish.packet_id.expect("QoS > 0").get();
                if publish.qos == QoS::ExactlyOnce {
                    if self.open.insert(id) {
                        *self.twice.entry(number).or_default() += 1;
                    }
                    world.send(client, pubrec(id));
                } else {
                    self.once.insert(number);
                    world.send(client, puback(id));
                }
            }
            Some(Packet::PubRel(ack)) => {
                assert_eq!(ack.reason, ReasonCode::Success);
                self.open.remove(&ack.packet_id.get());
                world.send(client, pubcomp(ack.packet_id.get()));
            }
            other => panic!("{other:?}"),
        }
    }

    fn unanswered(&self, world: &World, client: usize) -> usize {
        let got = &world.clients[client].got;
        got.iter()
            .filter(|packet| matches!(packet, Packet::Publish(_)))
            .count()
    }

    fn finish(self) -> (BTreeSet<u32>, HashMap<u32, u32>) {
        (self.once, self.twice)
    }
}

fn is_last(packet: &&Packet) -> bool {
    packet.packet_type() == PacketType::Disconnect
}

fn wants_answer(kind: PacketType) -> bool {
    matches!(
        kind,
        PacketType::Connect
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PubRel
            | PacketType::PingReq
    )
}

fn answers(question: PacketType, answer: PacketType) -> bool {
    matches!(
        (question, answer),
        (PacketType::Connect, PacketType::ConnAck)
            | (PacketType::Subscribe, PacketType::SubAck)
            | (PacketType::Unsubscribe, PacketType::UnsubAck)
            | (PacketType::PubRel, PacketType::PubComp)
            | (PacketType::PingReq, PacketType::PingResp)
    )
}
