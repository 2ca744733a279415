//! A seeded fuzz loop over the MQTT machine and the realm behind it: several clients, a store
//! whose commits come late or fail, broken connections, time, and bytes that are legal packets
//! with small mutations. Nothing may panic, what goes out must be legal for its client, and a
//! client that takes no part must never notice.
//!
//! `FUZZ_SECONDS=600 cargo test -p protocols --test fuzz_mqtt_machine -- --nocapture` runs longer;
//! `FUZZ_SEED` makes another run. A failure prints the seed of its one run: give that as
//! `FUZZ_SEED` to repeat it at once.
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::{Bytes, BytesMut};
use common::scram;
use common::*;
use protocols::gate::{Gate, Input};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Ack, Auth, Connect, Disconnect, Packet, Properties, ProtocolVersion, Publish, QoS,
    RetainHandling, Secret, SubscriptionOptions, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;
use std::env;
use std::num::{NonZeroU16, NonZeroU32};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

const DEFAULT_RUNS: u64 = 400;
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

#[test]
fn mutated_conversations() {
    let seed = number("FUZZ_SEED").unwrap_or(0x5EED_0F5B);
    let deadline = number("FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let (mut runs, mut let_in, mut packets) = (0u64, 0u64, 0u64);
    loop {
        let done = match deadline {
            Some(deadline) => Instant::now() >= deadline,
            None => runs >= DEFAULT_RUNS,
        };
        if done {
            break;
        }
        let own = seed.wrapping_add(runs).max(1);
        match catch_unwind(AssertUnwindSafe(|| run(own))) {
            Ok((accepted, came)) => (let_in, packets) = (let_in + accepted, packets + came),
            Err(panic) => {
                println!("FUZZ_SEED={own}");
                resume_unwind(panic);
            }
        }
        runs += 1;
    }
    println!("{runs} runs of {STEPS} steps, {let_in} clients let in, {packets} packets sent");
    assert!(let_in > runs, "too wild: hardly any client is let in");
}

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// One world; how many clients were let in, and how many packets went out.
fn run(seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut world = if random.one_in(2) {
        World::durable()
    } else {
        World::new()
    };
    world.options.receive_maximum = NonZeroU16::MIN.saturating_add(5);
    world.options.max_packet_bytes = 4_096;
    world.options.topic_alias_maximum = 3;
    world.options.max_filters = 6;
    world.options.outgoing_topic_aliases = 2;
    world.options.max_connect_bytes = 1_024;
    let witness = world.client(V5, "witness");
    world.subscribe(witness, "witness", ExactlyOnce);
    for _ in 0..STEPS {
        step(&mut random, &mut world, witness);
        for index in 0..world.clients.len() {
            let client = &mut world.clients[index];
            assert!(client.left.len() <= 1);
            assert_eq!(client.machine.is_closed(), client.closed.is_some());
            assert!(!client.machine.is_closed() || client.machine.poll_timeout().is_none());
        }
    }
    world.hold_commits = false;
    world.hold_joins = false;
    world.commit();
    world.send(witness, Packet::PingReq);
    assert_eq!(world.next(witness), Packet::PingResp);
    world.nothing(witness);
    (world.counter("connects_accepted"), world.trace.len() as u64)
}

fn step(random: &mut Random, world: &mut World, witness: usize) {
    let others: Vec<usize> = (0..world.clients.len())
        .filter(|client| *client != witness && world.clients[*client].closed.is_none())
        .collect();
    let client = (!others.is_empty()).then(|| random.pick(&others));
    let Some(client) = client.filter(|_| !random.one_in(8)) else {
        let version = random.pick(&[V3_1, V3_1_1, V5, V5]);
        let client = world.accept(version);
        world.hold_joins = random.one_in(30);
        if !random.one_in(20) {
            let packet = connect_packet(random, version);
            send(random, world, client, &[packet]);
        }
        return;
    };
    if random.one_in(2)
        && let Some(challenge) = challenge(world, client)
    {
        let packet = auth_answer(random, &challenge);
        return send(random, world, client, &[packet]);
    }
    match random.below(24) {
        0 => world.cut(client),
        1 => world.input(client, Input::Drain),
        2 => world.input(client, Input::Text(Bytes::from_static(b"x"))),
        3 => world.wait(Duration::from_millis(
            random.pick(&[1, 1_500, 9_000, 60_000]),
        )),
        4 => world.hold_commits = random.one_in(2),
        5 if random.one_in(2) => world.commit_fails(),
        5 | 6 => world.commit(),
        _ => {
            let version = world.clients[client].version;
            let count = 1 + random.below(4);
            let packets: Vec<_> = (0..count).map(|_| any_packet(random, version)).collect();
            send(random, world, client, &packets);
        }
    }
}

/// Authentication Data of the challenge that came last.
fn challenge(world: &World, client: usize) -> Option<Bytes> {
    let Some(Packet::Auth(auth)) = world.clients[client].got.back() else {
        return None;
    };
    let data = auth.properties.as_ref()?.authentication_data.as_ref()?;
    data.0.starts_with(b"r=").then(|| data.0.clone())
}

fn auth_answer(random: &mut Random, challenge: &[u8]) -> Packet {
    let secret = random.pick(&["joe-secret", "joe-secret", "joe-secret", "wrong"]);
    let (message, _) = scram::last("joe", secret, challenge);
    let mut message = message.into_bytes();
    if random.one_in(4) {
        mutate(random, &mut message);
    }
    auth(ReasonCode::ContinueAuthentication, message)
}

fn auth(reason: ReasonCode, data: Vec<u8>) -> Packet {
    Packet::Auth(Auth {
        reason,
        properties: Properties {
            authentication_method: Some(scram::METHOD.into()),
            authentication_data: Some(Secret(data.into())),
            ..Properties::default()
        }
        .into_optional(),
    })
}

/// A first message of an exchange, now and then damaged.
fn opening(random: &mut Random) -> Vec<u8> {
    let mut message = scram::first("joe").into_bytes();
    if random.one_in(4) {
        mutate(random, &mut message);
    }
    message
}

/// Sends packets as bytes, now and then damaged, in one read, in pieces or in frames.
fn send(random: &mut Random, world: &mut World, client: usize, packets: &[Packet]) {
    let mut bytes = BytesMut::new();
    for packet in packets {
        encode(packet, world.clients[client].version, &mut bytes).expect("a legal packet");
        world.note_aliases(client, packet);
    }
    let mut bytes = bytes.to_vec();
    if random.one_in(8) {
        let is_connect = matches!(packets, [Packet::Connect(_)]);
        world.clients[client].is_deaf |= is_connect;
        mutate(random, &mut bytes);
    }
    if random.one_in(3) && !bytes.is_empty() {
        let at = random.below(bytes.len());
        let (a, b) = bytes.split_at(at);
        world.raw(client, a);
        world.input(client, Input::Binary(Bytes::copy_from_slice(b)));
    } else {
        world.raw(client, &bytes);
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(2) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.pick(&[0, 1, 2, 0x23, 0x7F, 0x80, 0xFF]),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.pick(&[0, 1, 0xFF])),
            _ => {
                let end = (at + 4).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(end..end, piece);
            }
        }
    }
}

const TOPICS: [&str; 15] = [
    "$rpc/fox/kv/cas",
    "$rpc/fox/kv/watch",
    "$rpc/nobody",
    "$rpc/",
    "a",
    "a/b",
    "/",
    "b//c",
    "$x/a",
    "$SYS/x",
    "wamp/x",
    "k/1",
    "a/topic/1",
    "a/topic/2",
    "a/topic/3",
];
const FILTERS: [&str; 10] = [
    "a",
    "#",
    "+/b",
    "a/#",
    "$x/#",
    "$share/g/a",
    "$share/g",
    "a",
    "wamp/#",
    "k/+",
];
/// Each ends the connection.
const NO_FILTERS: [&str; 2] = ["a#", ""];
const QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

fn filter(random: &mut Random) -> &'static str {
    if random.one_in(40) {
        random.pick(&NO_FILTERS)
    } else {
        random.pick(&FILTERS)
    }
}

fn connect_packet(random: &mut Random, version: ProtocolVersion) -> Packet {
    let set = Properties {
        session_expiry_interval: random.maybe(&[0, 1, 100, u32::MAX]),
        receive_maximum: random.maybe(&[1, 2, 65_535]).and_then(NonZeroU16::new),
        maximum_packet_size: random.maybe(&[5, 40, 200]).and_then(NonZeroU32::new),
        request_problem_information: random.maybe(&[true, false]),
        request_response_information: random.maybe(&[true, false]),
        topic_alias_maximum: random.maybe(&[0, 1, 65_535]),
        ..Properties::default()
    };
    let set = match random.below(12) {
        0 => Properties {
            authentication_method: Some(random.pick(&[scram::METHOD, scram::METHOD, "x"]).into()),
            authentication_data: Some(Secret(opening(random).into())),
            ..set
        },
        _ => set,
    };
    let will = random.one_in(2).then(|| Will {
        qos: random.pick(&QOS),
        retain: random.one_in(2),
        topic: random.pick(&TOPICS).into(),
        payload: Bytes::from_static(b"will"),
        properties: Properties {
            will_delay_interval: random.maybe(&[0, 5, 200]).filter(|_| version.is_v5()),
            ..Properties::default()
        }
        .into_optional(),
    });
    let properties = if version.is_v5() {
        set.into_optional()
    } else {
        None
    };
    Packet::Connect(Box::new(Connect {
        clean_start: random.one_in(2),
        keep_alive: random.pick(&[0, 1, 5]),
        will,
        properties,
        ..connect(version, random.pick(&["c", "c", "d", ""]))
    }))
}

fn any_packet(random: &mut Random, version: ProtocolVersion) -> Packet {
    let number = 1 + u16::try_from(random.below(4)).expect("small");
    let reason = match random.below(4) {
        0 if version.is_v5() => ReasonCode::UnspecifiedError,
        _ => ReasonCode::Success,
    };
    let ack = Ack::with_reason(id(number), reason);
    match random.below(32) {
        0..=11 => publish_packet(random, version, number),
        12..=14 => Packet::PubAck(ack),
        15..=17 => Packet::PubRec(ack),
        18..=20 => pubrel(number),
        21..=23 => pubcomp(number),
        24..=26 => {
            let filters: Vec<_> = (0..=random.below(3))
                .map(|_| (filter(random), subscription(random, version)))
                .filter(|(filter, options)| !options.no_local || !filter.starts_with("$share"))
                .collect();
            if filters.is_empty() {
                return Packet::PingReq;
            }
            let identifier = random.maybe(&[1, 200]).filter(|_| version.is_v5());
            subscribe(number, &filters, identifier)
        }
        27 | 28 => Packet::Unsubscribe(Unsubscribe {
            packet_id: id(number),
            properties: None,
            filters: (0..=random.below(2))
                .map(|_| filter(random).into())
                .collect(),
        }),
        29 if version.is_v5() && random.one_in(3) => {
            let reason = match random.below(4) {
                0 => ReasonCode::ContinueAuthentication,
                _ => ReasonCode::ReAuthenticate,
            };
            let data = opening(random);
            auth(reason, data)
        }
        30 if random.one_in(2) => Packet::Disconnect(Disconnect {
            reason: if version.is_v5() && random.one_in(2) {
                ReasonCode::DisconnectWithWillMessage
            } else {
                ReasonCode::Success
            },
            properties: Properties {
                session_expiry_interval: random.maybe(&[0, 7]).filter(|_| version.is_v5()),
                ..Properties::default()
            }
            .into_optional(),
        }),
        _ => Packet::PingReq,
    }
}

fn publish_packet(random: &mut Random, version: ProtocolVersion, number: u16) -> Packet {
    let qos = random.pick(&QOS);
    let payload = random.pick(&[
        "",
        r#"{"args":["k/1",0,1]}"#,
        r#""k/1""#,
        "1",
        "{\"a\":1}",
        "text",
        "a longer payload than the others",
    ]);
    let Packet::Publish(made) = publish(
        random.pick(&TOPICS),
        payload,
        (qos != AtMostOnce).then_some(number),
        qos,
    ) else {
        unreachable!("made just now")
    };
    let alias = random
        .maybe(&[1, 3, 4])
        .filter(|_| version.is_v5() && random.one_in(2));
    let set = Properties {
        topic_alias: alias.and_then(NonZeroU16::new),
        message_expiry_interval: random.maybe(&[0, 1, 100]).filter(|_| version.is_v5()),
        response_topic: random
            .maybe(&["a", "k/1", "$rpc/nobody"])
            .filter(|_| version.is_v5() && random.one_in(2))
            .map(Into::into),
        ..Properties::default()
    };
    let topic = match alias {
        Some(_) if random.one_in(3) => "".into(),
        _ => made.topic.clone(),
    };
    Packet::Publish(Publish {
        dup: qos != AtMostOnce && random.one_in(3),
        retain: random.one_in(3),
        topic,
        properties: set.into_optional(),
        ..made
    })
}

fn subscription(random: &mut Random, version: ProtocolVersion) -> SubscriptionOptions {
    let maximum_qos = random.pick(&QOS);
    if !version.is_v5() {
        return options(maximum_qos);
    }
    SubscriptionOptions {
        maximum_qos,
        no_local: random.one_in(3),
        retain_as_published: random.one_in(2),
        retain_handling: random.pick(&[
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ]),
    }
}
