//! The driver over a RawSocket whose other end is in the same process.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use bytes::{Bytes, BytesMut};
use protocols::gate::{Driver, DriverOptions, Proofs, Traffic};
use protocols::transport::rawsocket::{self, Frame, Kind, Request, accept, decode, prefix};
use protocols::transport::{RawSocketOptions, RawSocketTransport};
use protocols::wamp::machine::{WampMachine, WampOptions, encoding_of_serializer};
use protocols::wamp::map::naming;
use router_core::limits::RealmLimits;
use router_core::runtime::{Hub, HubSettings, now};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::MemoryStorage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(3600);
/// What the router takes in these tests, and what it announces for it.
const TAKES: usize = 100_000;
const ANNOUNCED: usize = 65_536;

struct World {
    hub: Hub,
    traffic: Arc<Traffic>,
    drain: watch::Sender<bool>,
}

struct Client {
    io: DuplexStream,
    buffer: BytesMut,
    driver: tokio::task::JoinHandle<io::Result<()>>,
}

#[derive(Clone, Copy)]
struct Pings {
    after: Duration,
    dead_after: Duration,
    always: bool,
}

const NO_PINGS: Pings = Pings {
    after: LONG,
    dead_after: LONG,
    always: false,
};

impl World {
    fn new() -> World {
        let settings = HubSettings {
            default_realm: "realm1".into(),
            auto_realms: true,
            max_realms: 10,
            realms: HashMap::new(),
            limits: RealmLimits::default(),
            naming: naming(),
            sharing: router_core::broker::Sharing::default(),
            history: HashMap::new(),
            durability: HashMap::new(),
        };
        World {
            hub: Hub::open(settings, Arc::new(MemoryStorage::new())).unwrap(),
            traffic: Arc::new(Traffic::default()),
            drain: watch::Sender::new(false),
        }
    }

    /// A connection on which nothing was said yet.
    fn open(&self, pings: Pings) -> Client {
        let (mut near, io) = tokio::io::duplex(4 << 20);
        let options = DriverOptions {
            ping_after: pings.after,
            dead_after: pings.dead_after,
            write_timeout: LONG,
            hear_out: LONG,
            linger: Duration::ZERO,
            proofs: Proofs::default(),
            drain: self.drain.subscribe(),
            traffic: self.traffic.clone(),
        };
        let hub = self.hub.clone();
        let driver = tokio::spawn(async move {
            let is_served = |serializer| encoding_of_serializer(serializer).is_some();
            let request = accept(&mut near, TAKES, is_served).await?;
            let encoding = encoding_of_serializer(request.serializer).unwrap();
            let transport = RawSocketTransport::new(
                near,
                RawSocketOptions {
                    takes_bytes: rawsocket::announced_bytes(TAKES),
                    receives_bytes: request.receives_bytes,
                    is_text: request.serializer == 1,
                    always_pings: pings.always,
                },
            );
            let options_of_gate = WampOptions {
                peer_bytes_max: request.receives_bytes,
                ..WampOptions::default()
            };
            let gate = Box::new(WampMachine::new(now(), encoding, options_of_gate));
            Driver::new(transport, gate, hub, options, "test")
                .run()
                .await;
            Ok(())
        });
        Client {
            io,
            buffer: BytesMut::new(),
            driver,
        }
    }

    async fn shake(&self, second: u8, pings: Pings) -> Client {
        let mut client = self.open(pings);
        client.io.write_all(&[0x7F, second, 0, 0]).await.unwrap();
        let mut reply = [0; 4];
        client.io.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, [0x7F, 0x70 | second & 0x0F, 0, 0]);
        client
    }

    /// An open JSON session that takes 16 MiB.
    async fn join(&self, pings: Pings) -> Client {
        let mut client = self.shake(0xF1, pings).await;
        client.say(&hello()).await;
        assert_eq!(client.hear().await[0], 2);
        client
    }

    fn size(&self, of: &str) -> usize {
        let sizes = self.hub.stats().sizes;
        let found = sizes.iter().find(|(name, _)| *name == of);
        found.map_or(0, |(_, size)| *size)
    }

    fn violations(&self) -> u64 {
        self.traffic.closed_by_violation.load(Ordering::Relaxed)
    }
}

fn hello() -> Value {
    json!([1, "realm1", {"roles": {"subscriber": {}, "callee": {}, "caller": {}, "publisher": {}}}])
}

impl Client {
    async fn put(&mut self, kind: Kind, payload: &[u8]) {
        let prefix = prefix(kind, payload.len()).unwrap();
        self.io.write_all(&prefix).await.unwrap();
        self.io.write_all(payload).await.unwrap();
    }

    async fn say(&mut self, message: &Value) {
        self.put(Kind::Message, message.to_string().as_bytes())
            .await;
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = decode(&mut self.buffer, 1 << 24).unwrap() {
                return Some(frame);
            }
            let read = timeout(DEADLINE, self.io.read_buf(&mut self.buffer));
            if read.await.unwrap().unwrap() == 0 {
                return None;
            }
        }
    }

    async fn hear(&mut self) -> Value {
        let frame = self.next().await.unwrap();
        assert_eq!(frame.kind, Kind::Message);
        serde_json::from_slice(&frame.payload).unwrap()
    }

    async fn ended(self) -> io::Result<()> {
        timeout(DEADLINE, self.driver).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_session_over_each_serializer() {
    let world = World::new();
    let mut json = world.join(NO_PINGS).await;
    json.say(&json!([32, 1, {}, "t"])).await;
    assert_eq!(json.hear().await[0], 33);
    let mut packed = world.shake(0xF2, NO_PINGS).await;
    packed
        .put(
            Kind::Message,
            b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa9publisher\x80",
        )
        .await;
    let welcome = packed.next().await.unwrap();
    assert!(welcome.payload.starts_with(b"\x93\x02"), "{welcome:?}");
    // [16, 1, {}, "t", [7]]
    packed
        .put(Kind::Message, b"\x95\x10\x01\x80\xa1t\x91\x07")
        .await;
    assert_eq!(json.hear().await[4], json!([7]));
    let mut cbor = world.shake(0xF3, NO_PINGS).await;
    let hello = b"\x83\x01\x66realm1\xa1\x65roles\xa1\x69publisher\xa0";
    cbor.put(Kind::Message, hello).await;
    let welcome = cbor.next().await.unwrap();
    assert!(welcome.payload.starts_with(b"\x83\x02"), "{welcome:?}");
    // [16, 1, {}, "t", [8]]
    cbor.put(Kind::Message, b"\x85\x10\x01\xa0\x61t\x81\x08")
        .await;
    assert_eq!(json.hear().await[4], json!([8]));
    assert_eq!(world.size("sessions"), 3);
    drop((json.io, packed.io, cbor.io));
    for driver in [json.driver, packed.driver, cbor.driver] {
        assert!(driver.await.unwrap().is_ok());
    }
    assert_eq!(world.size("sessions"), 0);
    assert_eq!(world.violations(), 0, "to go away breaks no rule");
}

#[tokio::test]
async fn handshakes_that_cannot_be_accepted_are_told_why() {
    let world = World::new();
    for (request, reply) in [
        ([0x7F, 0xF0, 0, 0], 0x10),
        ([0x7F, 0xF4, 0, 0], 0x10),
        ([0x7F, 0xFF, 0, 0], 0x10),
        ([0x7F, 0xF1, 1, 0], 0x30),
        ([0x7F, 0xF1, 0, 1], 0x30),
    ] {
        let mut client = world.open(NO_PINGS);
        client.io.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        client.io.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [0x7F, reply, 0, 0], "{request:x?}");
        let error = client.ended().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    let mut other = world.open(NO_PINGS);
    other.io.write_all(b"GET ").await.unwrap();
    let mut answer = Vec::new();
    other.io.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_handshake_may_come_octet_by_octet() {
    let world = World::new();
    let mut client = world.open(NO_PINGS);
    for octet in [0x7F, 0x01, 0, 0] {
        client.io.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut reply = [0; 4];
    client.io.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply, [0x7F, 0x71, 0, 0]);
    // The shortest limit there is suffices for a session.
    client.say(&hello()).await;
    assert_eq!(client.hear().await[0], 2);
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_once_and_in_order() {
    let world = World::new();
    let mut client = world.join(NO_PINGS).await;
    let long = vec![7; 20_000];
    for payload in [&b""[..], b"abc", &long] {
        client.put(Kind::Ping, payload).await;
    }
    client.say(&json!([32, 1, {}, "t"])).await;
    for payload in [&b""[..], b"abc", &long] {
        let pong = client.next().await.unwrap();
        assert_eq!((pong.kind, &pong.payload[..]), (Kind::Pong, payload));
    }
    assert_eq!(client.hear().await[0], 33);
}

#[tokio::test]
async fn frames_against_the_rules_end_the_connection() {
    let world = World::new();
    let too_long = prefix(Kind::Message, ANNOUNCED + 1).unwrap();
    let mut count = 0;
    for bytes in [[0x10, 0, 0, 0], [3, 0, 0, 0], [8, 0, 0, 1], too_long] {
        let mut client = world.join(NO_PINGS).await;
        client.io.write_all(&bytes).await.unwrap();
        assert_eq!(client.next().await, None, "{bytes:x?}");
        client.ended().await.unwrap();
        count += 1;
        assert_eq!(world.violations(), count);
    }
    // A PING that could not come back to a peer that takes 512 bytes.
    let mut small = world.shake(0x01, NO_PINGS).await;
    small.put(Kind::Ping, &[0; 513]).await;
    assert_eq!(small.next().await, None);
    assert_eq!(world.size("sessions"), 0);
}

#[tokio::test]
async fn a_message_of_the_announced_length_is_taken() {
    let world = World::new();
    let mut client = world.join(NO_PINGS).await;
    client.say(&json!([32, 1, {}, "t"])).await;
    assert_eq!(client.hear().await[0], 33);
    let message = |filler: usize| {
        let filler = "x".repeat(filler);
        json!([16, 1, {"exclude_me": false}, "t", [filler]])
    };
    let room = ANNOUNCED - message(0).to_string().len();
    client.say(&message(room)).await;
    let event = client.hear().await;
    assert_eq!(event[4][0].as_str().unwrap().len(), room);
}

#[tokio::test]
async fn a_stranger_may_send_what_a_login_takes_and_no_more() {
    let world = World::new();
    let (mut near, io) = tokio::io::duplex(1 << 20);
    near.write_all(&prefix(Kind::Message, (64 << 10) + 1).unwrap())
        .await
        .unwrap();
    let options = RawSocketOptions {
        takes_bytes: 1 << 24,
        receives_bytes: 1 << 24,
        is_text: true,
        always_pings: false,
    };
    let patient = WampOptions {
        login_timeout: LONG,
        ..WampOptions::default()
    };
    let gate = WampMachine::new(now(), encoding_of_serializer(1).unwrap(), patient);
    let driver = DriverOptions {
        ping_after: LONG,
        dead_after: LONG,
        write_timeout: LONG,
        hear_out: LONG,
        linger: Duration::ZERO,
        proofs: Proofs::default(),
        drain: world.drain.subscribe(),
        traffic: world.traffic.clone(),
    };
    let transport = RawSocketTransport::new(io, options);
    let run = Driver::new(transport, Box::new(gate), world.hub.clone(), driver, "test").run();
    timeout(DEADLINE, run).await.unwrap();
    assert_eq!(world.violations(), 1);
}

#[tokio::test]
async fn what_is_no_text_is_a_violation_that_the_gate_names() {
    let world = World::new();
    let mut client = world.join(NO_PINGS).await;
    client.put(Kind::Message, b"[16,1,{},\"\xff\"]").await;
    let abort = client.hear().await;
    assert_eq!(abort[2], "wamp.error.protocol_violation", "{abort}");
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn many_small_messages_and_a_large_one_arrive_in_order() {
    let world = World::new();
    let (mut subscriber, mut publisher) = (world.join(NO_PINGS).await, world.join(NO_PINGS).await);
    subscriber.say(&json!([32, 1, {}, "t"])).await;
    assert_eq!(subscriber.hear().await[0], 33);
    for number in 0..2_000 {
        let filler = "x".repeat(if number % 100 == 50 { 30_000 } else { 10 });
        publisher
            .say(&json!([16, number + 1, {}, "t", [number, filler]]))
            .await;
        if number % 100 == 99 {
            for number in number - 99..=number {
                assert_eq!(subscriber.hear().await[4][0], json!(number));
            }
        }
    }
}

#[tokio::test]
async fn a_drain_says_goodbye_and_ends_the_connection() {
    let world = World::new();
    let mut client = world.join(NO_PINGS).await;
    world.drain.send_replace(true);
    assert_eq!(client.hear().await[2], "wamp.close.system_shutdown");
    client
        .say(&json!([6, {}, "wamp.close.goodbye_and_out"]))
        .await;
    assert_eq!(client.next().await, None);
    client.ended().await.unwrap();
}

const PAUSED: Pings = Pings {
    after: Duration::from_millis(5),
    dead_after: Duration::from_millis(50),
    always: true,
};

#[tokio::test]
async fn a_peer_that_answers_no_ping_loses_its_session_and_registrations() {
    let world = World::new();
    let mut dead = world.join(PAUSED).await;
    dead.say(&json!([64, 1, {}, "p"])).await;
    loop {
        // A PING may come in between.
        let frame = dead.next().await.unwrap();
        if frame.kind == Kind::Message {
            break;
        }
    }
    timeout(DEADLINE, &mut dead.driver)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(world.size("sessions"), 0);
    // The procedure is free for somebody else.
    let mut heir = world.join(NO_PINGS).await;
    heir.say(&json!([64, 1, {}, "p"])).await;
    assert_eq!(heir.hear().await[0], 65);
}

#[tokio::test]
async fn a_peer_that_answers_pings_lives_on() {
    let world = World::new();
    let pings = Pings {
        dead_after: LONG,
        ..PAUSED
    };
    let mut client = world.join(pings).await;
    for _ in 0..3 {
        let ping = client.next().await.unwrap();
        assert_eq!(ping.kind, Kind::Ping);
        client.put(Kind::Pong, &ping.payload).await;
    }
    assert_eq!(world.size("sessions"), 1);
}

#[tokio::test]
async fn only_peers_that_know_pings_are_sent_any() {
    let world = World::new();
    let pings = Pings {
        always: false,
        ..PAUSED
    };
    let mut client = world.join(pings).await;
    let quiet = timeout(
        Duration::from_millis(120),
        client.io.read_buf(&mut client.buffer),
    )
    .await;
    assert!(quiet.is_err(), "it was asked, or given up");
    client.put(Kind::Ping, b"me").await;
    assert_eq!(client.next().await.unwrap().kind, Kind::Pong);
    assert_eq!(client.next().await.unwrap().kind, Kind::Ping);
    timeout(DEADLINE, &mut client.driver)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(world.size("sessions"), 0);
}

#[test]
fn a_request_says_what_the_client_takes() {
    let request = Request::read([0x01, 0, 0]).unwrap();
    assert_eq!((request.serializer, request.receives_bytes), (1, 512));
    assert_eq!(Bytes::copy_from_slice(&request.reply(TAKES))[1], 0x71);
}
