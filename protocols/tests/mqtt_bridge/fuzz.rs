//! A seeded fuzz loop over the bridge's machine and the realm behind it: a server that mixes legal
//! packets with mutated ones, late and failing commits, broken connections and time. Nothing may
//! panic, what goes out must be legal, and clients on this side never notice.
//!
//! `FUZZ_SECONDS=600 cargo test -p protocols --test mqtt_bridge fuzz -- --nocapture` runs longer;
//! `FUZZ_SEED` makes another run.

use crate::world::*;
use bytes::{Bytes, BytesMut};
use protocols::mqtt::bridge::Dialect;
use protocols::mqtt::bridge::Direction::{Both, In, Out};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Ack, Disconnect, Packet, Properties, ProtocolVersion, Publish, QoS, SubAck, UnsubAck,
};
use protocols::mqtt::reason::ReasonCode;
use std::num::{NonZeroU16, NonZeroU32};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

const DEFAULT_RUNS: u64 = 100;
const STEPS: usize = 60;

/// xorshift64*: repeatable, and good enough to choose steps.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() as usize) % bound.max(1)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn maybe<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        self.one_in(3).then(|| self.pick(from))
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn a_hostile_server() {
    let seed = number("FUZZ_SEED").unwrap_or(0xB41D_6E5E);
    let deadline = number("FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let (mut runs, mut crossed) = (0u64, 0u64);
    while deadline.map_or(runs < DEFAULT_RUNS, |deadline| Instant::now() < deadline) {
        let own = seed.wrapping_add(runs).max(1);
        match catch_unwind(AssertUnwindSafe(|| run(own))) {
            Ok(messages) => crossed += messages,
            Err(panic) => {
                println!("FUZZ_SEED={own}");
                resume_unwind(panic);
            }
        }
        runs += 1;
    }
    println!("{runs} runs of {STEPS} steps, {crossed} messages crossed");
    assert!(crossed > runs, "too wild: hardly anything crosses");
}

fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut world = World::new(&[
        rule(Both, "a/#", ExactlyOnce),
        prefixed(In, "a/+", ExactlyOnce, "x/", ""),
        prefixed(Out, "a/+", AtLeastOnce, "", "y/"),
    ]);
    world.options.max_packet_bytes = 512;
    world.options.stale_filters = vec!["old".into()];
    world.prepare();
    let witness = world.client(HERE, "witness");
    world.subscribe(witness, "witness");
    let mut bridge = start(&mut random, &mut world);
    for _ in 0..STEPS {
        if world.seats[bridge].is_closed {
            bridge = start(&mut random, &mut world);
        }
        step(&mut random, &mut world, bridge, witness);
    }
    world.sides[HERE].hold_commits = false;
    world.commit(HERE);
    world.drain_packets(witness);
    world.play(witness, &Packet::PingReq);
    assert_eq!(world.next(witness), Packet::PingResp);
    world.count("messages_in") + world.count("messages_out")
}

fn start(random: &mut Random, world: &mut World) -> usize {
    let dialect = random.pick(&[
        Dialect::V5,
        Dialect::V5,
        Dialect::Bridge3_1_1,
        Dialect::V3_1_1,
    ]);
    let (bridge, _) = world.scripted(dialect);
    if !random.one_in(5) {
        let properties = Properties {
            receive_maximum: random.maybe(&[1, 2, 5]).and_then(NonZeroU16::new),
            maximum_packet_size: random.maybe(&[3, 60, 4_096]).and_then(NonZeroU32::new),
            maximum_qos: random.maybe(&[QoS::AtMostOnce, QoS::AtLeastOnce]),
            retain_available: random.maybe(&[false]),
            server_keep_alive: random.maybe(&[0, 1, 10]),
            wildcard_subscription_available: random.maybe(&[false, true]),
            subscription_identifiers_available: random.maybe(&[false, true]),
            ..Properties::default()
        };
        world.play(
            bridge,
            &conn_ack(!random.one_in(6), ReasonCode::Success, properties),
        );
        if !random.one_in(6) {
            grant_all(random, world, bridge);
        }
    }
    bridge
}

/// Answers what the bridge asked so far, mostly well.
fn grant_all(random: &mut Random, world: &mut World, bridge: usize) {
    for packet in world.drain_packets(bridge) {
        if world.seats[bridge].is_closed {
            return;
        }
        let answer = match packet {
            Packet::Subscribe(subscribe) => {
                let reason = random.pick(&[ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError]);
                sub_ack(subscribe.packet_id, reason)
            }
            Packet::Unsubscribe(unsubscribe) => Packet::UnsubAck(UnsubAck {
                packet_id: unsubscribe.packet_id,
                properties: None,
                reasons: vec![ReasonCode::Success],
            }),
            Packet::Publish(Publish {
                packet_id: Some(id),
                qos: ExactlyOnce,
                ..
            }) => Packet::PubRec(Ack::success(id)),
            Packet::Publish(Publish {
                packet_id: Some(id),
                ..
            }) => Packet::PubAck(Ack::success(id)),
            Packet::PubRel(ack) => Packet::PubComp(Ack::success(ack.packet_id)),
            Packet::PubRec(ack) => Packet::PubRel(Ack::success(ack.packet_id)),
            Packet::PingReq => Packet::PingResp,
            _ => continue,
        };
        world.play(bridge, &answer);
    }
}

fn step(random: &mut Random, world: &mut World, bridge: usize, witness: usize) {
    match random.below(24) {
        0 => world.cut(bridge),
        1 if random.one_in(4) => world.drain(bridge),
        2 => {
            let millis = random.pick(&[1, 750, 9_000, 16_000]);
            world.wait(Duration::from_millis(millis));
        }
        3 => world.sides[HERE].hold_commits = random.one_in(2),
        4 if random.one_in(3) => world.commit_fails(HERE),
        4 | 5 => world.commit(HERE),
        6..=9 => {
            let qos = random.pick(&[AtMostOnce, AtLeastOnce, ExactlyOnce]);
            let packet_id = (qos > AtMostOnce).then(|| id(1 + random.below(9) as u16));
            let topic = random.pick(&["a", "a/1", "a/1/2", "b"]);
            let publish = Publish {
                retain: random.one_in(3),
                ..message(topic, "from here", packet_id, qos)
            };
            world.play(witness, &Packet::Publish(publish));
            if let (Some(id), ExactlyOnce) = (packet_id, qos) {
                world.play(witness, &Packet::PubRel(Ack::success(id)));
            }
            world.drain_packets(witness);
        }
        10..=14 => grant_all(random, world, bridge),
        _ => {
            let packet = any_packet(random);
            mutated(random, world, bridge, &packet);
        }
    }
}

fn mutated(random: &mut Random, world: &mut World, bridge: usize, packet: &Packet) {
    let mut bytes = BytesMut::new();
    let version = random.pick(&[
        ProtocolVersion::V5,
        ProtocolVersion::V5,
        ProtocolVersion::V3_1_1,
    ]);
    if encode(packet, version, &mut bytes).is_err() {
        return;
    }
    if random.one_in(6) && !bytes.is_empty() {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            _ => bytes.extend_from_slice(&[random.next() as u8]),
        }
    }
    let cut = random.below(bytes.len() + 1);
    let (first, rest) = bytes.split_at(cut);
    world.raw(bridge, first);
    if !world.seats[bridge].is_closed {
        world.raw(bridge, rest);
    }
}

fn any_packet(random: &mut Random) -> Packet {
    let packet_id = id(random.pick(&[1, 2, 3, 1_022, 2_043, 65_533, 65_534, 65_535]));
    let reason = random.pick(&[
        ReasonCode::Success,
        ReasonCode::UnspecifiedError,
        ReasonCode::PacketIdentifierNotFound,
    ]);
    let ack = Ack::with_reason(packet_id, reason);
    match random.below(13) {
        0..=4 => {
            let qos = random.pick(&[AtMostOnce, AtLeastOnce, ExactlyOnce]);
            let properties = Properties {
                subscription_identifiers: random.maybe(&[1, 2, 9]).into_iter().collect(),
                topic_alias: random.one_in(20).then_some(NonZeroU16::MIN),
                payload_format_indicator: random.maybe(&[true]),
                message_expiry_interval: random.maybe(&[0, 5]),
                user_properties: random
                    .maybe(&["A", "B"])
                    .map(|way| ("reynard-via".into(), way.into()))
                    .into_iter()
                    .collect(),
                ..Properties::default()
            };
            Packet::Publish(Publish {
                dup: qos > AtMostOnce && random.one_in(3),
                retain: random.one_in(3),
                properties: properties.into_optional(),
                payload: Bytes::from(vec![b'x'; random.pick(&[0, 1, 30, 600])]),
                ..message(
                    random.pick(&["a", "a/1", "a/1/2", "b", "wamp/x", "$SYS/x"]),
                    "",
                    (qos > AtMostOnce).then_some(packet_id),
                    qos,
                )
            })
        }
        5 => Packet::PubAck(ack),
        6 => Packet::PubRec(ack),
        7 => Packet::PubRel(ack),
        8 => Packet::PubComp(ack),
        9 => Packet::SubAck(SubAck {
            packet_id,
            properties: None,
            reasons: vec![reason; 1 + random.below(2)],
        }),
        10 => Packet::PingResp,
        11 if random.one_in(4) => Packet::Disconnect(Disconnect {
            reason: ReasonCode::ServerBusy,
            properties: None,
        }),
        _ => conn_ack(false, ReasonCode::Success, Properties::default()),
    }
}
