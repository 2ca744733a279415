//! Authentication exchanges, and the end for a fault, through the driver: an MQTT client over a
//! stream in the same process.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "mqtt_machine_common/scram.rs"]
mod scram;

use bytes::{Bytes, BytesMut};
use protocols::gate::{Driver, DriverOptions, Proofs, Traffic};
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::machine::{MqttMachine, MqttOptions};
use protocols::mqtt::packet::{
    Auth, Connect, Packet, PacketId, PacketType, Properties, ProtocolVersion, Publish, QoS, Secret,
};
use protocols::mqtt::reason::ReasonCode;
use protocols::transport::StreamTransport;
use protocols::wamp::map::naming;
use router_core::auth::{Access, Secret as Word, User};
use router_core::limits::RealmLimits;
use router_core::runtime::{Hub, HubSettings, now};
use std::sync::Arc;
use std::time::Duration;
use storage::MemoryStorage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(3600);

struct World {
    stream: DuplexStream,
    decoder: Decoder,
    arrived: BytesMut,
    _drain: watch::Sender<bool>,
}

fn access() -> Access {
    let user = |name: &'static str, word: &'static str| {
        let secret = Word::Plain(Bytes::from_static(word.as_bytes()));
        let role = "user".into();
        (name.into(), User { role, secret })
    };
    Access {
        users: [user("joe", "joe-secret"), user("eve", "eve-secret")].into(),
        ..Access::default()
    }
}

impl World {
    fn new() -> World {
        let settings = HubSettings {
            default_realm: "realm1".into(),
            auto_realms: false,
            max_realms: 10,
            realms: [("realm1".into(), Arc::new(access()))].into(),
            limits: RealmLimits::default(),
            naming: naming(),
            sharing: router_core::broker::Sharing::default(),
            history: [].into(),
            durability: [].into(),
        };
        let hub = Hub::open(settings, Arc::new(MemoryStorage::new())).unwrap();
        let (near, stream) = tokio::io::duplex(1 << 20);
        let drain = watch::Sender::new(false);
        let options = DriverOptions {
            ping_after: LONG,
            dead_after: LONG,
            write_timeout: LONG,
            hear_out: LONG,
            linger: LONG,
            drain: drain.subscribe(),
            traffic: Arc::new(Traffic::default()),
            proofs: Proofs::default(),
        };
        let gate = Box::new(MqttMachine::new(now(), MqttOptions::default()));
        let transport = StreamTransport::new(near, BytesMut::new());
        tokio::spawn(Driver::new(transport, gate, hub, options, "test").run());
        World {
            stream,
            decoder: Decoder::client(ProtocolVersion::V5, Limits::default()),
            arrived: BytesMut::new(),
            _drain: drain,
        }
    }

    async fn say(&mut self, packets: &[Packet]) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.arrived).unwrap() {
                return packet;
            }
            let read = self.stream.read_buf(&mut self.arrived);
            let read = timeout(DEADLINE, read).await.unwrap().unwrap();
            assert!(read > 0, "closed");
        }
    }

    /// Sends CONNECT, takes the challenge, and answers as somebody with this secret.
    async fn connect(&mut self, name: &str, secret: &str) -> Packet {
        let connect = Connect {
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "c".into(),
            will: None,
            username: None,
            password: None,
            properties: method_and(scram::first(name)),
        };
        self.say(&[Packet::Connect(Box::new(connect))]).await;
        let answer = self.answer(name, secret).await;
        self.say(&[answer]).await;
        self.next().await
    }

    async fn answer(&mut self, name: &str, secret: &str) -> Packet {
        let Packet::Auth(asked) = self.next().await else {
            panic!("no challenge")
        };
        let asked = asked.properties.unwrap().authentication_data.unwrap();
        let (message, _) = scram::last(name, secret, &asked.0);
        auth(ReasonCode::ContinueAuthentication, message)
    }
}

fn method_and(data: String) -> Option<Box<Properties>> {
    Properties {
        authentication_method: Some(scram::METHOD.into()),
        authentication_data: Some(Secret(data.into())),
        ..Properties::default()
    }
    .into_optional()
}

fn auth(reason: ReasonCode, data: String) -> Packet {
    let properties = method_and(data);
    Packet::Auth(Auth { reason, properties })
}

#[tokio::test]
async fn a_proof_lets_in_and_may_be_repeated() {
    let mut world = World::new();
    match world.connect("joe", "joe-secret").await {
        Packet::ConnAck(ack) => assert_eq!(ack.reason, ReasonCode::Success),
        other => panic!("{other:?}"),
    }
    for _ in 0..2 {
        let again = auth(ReasonCode::ReAuthenticate, scram::first("joe"));
        world.say(&[again]).await;
        let answer = world.answer("joe", "joe-secret").await;
        // What follows does not wait for the proof, nor the proof for it.
        world.say(&[answer, Packet::PingReq]).await;
        let mut came = Vec::new();
        for _ in 0..2 {
            let packet = world.next().await;
            if let Packet::Auth(auth) = &packet {
                assert_eq!(auth.reason, ReasonCode::Success);
            }
            came.push(packet.packet_type());
        }
        came.sort_by_key(|kind| *kind as u8);
        assert_eq!(came, [PacketType::PingResp, PacketType::Auth]);
    }
}

#[tokio::test]
async fn a_wrong_proof_does_not() {
    for (name, secret) in [("joe", "wrong"), ("nobody", "x")] {
        let mut world = World::new();
        match world.connect(name, secret).await {
            Packet::ConnAck(ack) => assert_eq!(ack.reason, ReasonCode::NotAuthorized),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_is_not_proven_again_by_somebody_else() {
    let mut world = World::new();
    world.connect("joe", "joe-secret").await;
    let again = auth(ReasonCode::ReAuthenticate, scram::first("eve"));
    world.say(&[again]).await;
    let answer = world.answer("eve", "eve-secret").await;
    world.say(&[answer]).await;
    match world.next().await {
        Packet::Disconnect(bye) => assert_eq!(bye.reason, ReasonCode::NotAuthorized),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_came_whole_ahead_of_a_fault_is_answered_ahead_of_the_disconnect() {
    let mut world = World::new();
    world.connect("joe", "joe-secret").await;
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a".into(),
        packet_id: PacketId::new(1),
        properties: None,
        payload: Bytes::from_static(b"x"),
    });
    let mut bytes = BytesMut::new();
    encode(&publish, ProtocolVersion::V5, &mut bytes).unwrap();
    bytes.extend_from_slice(&[0, 0]);
    world.stream.write_all(&bytes).await.unwrap();
    match world.next().await {
        Packet::PubAck(ack) => assert_eq!(ack.packet_id.get(), 1),
        other => panic!("{other:?}"),
    }
    match world.next().await {
        Packet::Disconnect(end) => assert_eq!(end.reason, ReasonCode::MalformedPacket),
        other => panic!("{other:?}"),
    }
    let read = world.stream.read_buf(&mut world.arrived);
    assert_eq!(timeout(DEADLINE, read).await.unwrap().unwrap(), 0, "closed");
}
