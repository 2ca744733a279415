//! MQTT clients at drivers of one router, over streams in the same process. A driver is a future
//! that each test runs when it wants to, so that what overtakes what is not left to chance.

#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::BytesMut;
use protocols::gate::{Driver, DriverOptions, Proofs, Traffic};
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::machine::{MqttMachine, MqttOptions};
use protocols::mqtt::packet::{
    ConnAck, Connect, Disconnect, Packet, Properties, ProtocolVersion, Publish, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions, Will,
};
use protocols::mqtt::reason::ReasonCode;
use protocols::transport::{StreamTransport, Transport};
use protocols::wamp::map::naming;
use router_core::auth::Access;
use router_core::limits::RealmLimits;
use router_core::runtime::{Hub, HubSettings, now};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use storage::MemoryStorage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const LONG: Duration = Duration::from_secs(3600);

/// A driver that runs only while it is polled.
pub type Held = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Server {
    pub hub: Hub,
    pub traffic: Arc<Traffic>,
    pub proofs: Proofs,
    pub mqtt: MqttOptions,
    /// Nothing is given up by time, unless a test wants it.
    pub hear_out: Duration,
    pub linger: Duration,
    drain: watch::Sender<bool>,
}

impl Server {
    pub fn new() -> Server {
        Server::with(Access::open())
    }

    pub fn with(access: Access) -> Server {
        let settings = HubSettings {
            default_realm: "realm1".into(),
            auto_realms: false,
            max_realms: 10,
            realms: [("realm1".into(), Arc::new(access))].into(),
            limits: RealmLimits::default(),
            naming: naming(),
            sharing: router_core::broker::Sharing::default(),
            history: std::collections::HashMap::new(),
            durability: std::collections::HashMap::new(),
        };
        Server {
            hub: Hub::open(settings, Arc::new(MemoryStorage::new())).unwrap(),
            traffic: Arc::new(Traffic::default()),
            proofs: Proofs::default(),
            mqtt: MqttOptions::default(),
            hear_out: LONG,
            linger: LONG,
            drain: watch::Sender::new(false),
        }
    }

    pub fn options(&self) -> DriverOptions {
        DriverOptions {
            ping_after: LONG,
            dead_after: LONG,
            write_timeout: LONG,
            hear_out: self.hear_out,
            linger: self.linger,
            drain: self.drain.subscribe(),
            traffic: self.traffic.clone(),
            proofs: self.proofs.clone(),
        }
    }

    /// A driver over any transport.
    pub fn driver<T: Transport + Unpin + 'static>(&self, transport: T) -> Held {
        let gate = Box::new(MqttMachine::new(now(), self.mqtt.clone()));
        let (hub, options) = (self.hub.clone(), self.options());
        Box::pin(Driver::new(transport, gate, hub, options, "test").run())
    }

    pub fn open(&self, room: usize) -> (Client, Held) {
        let (near, stream) = tokio::io::duplex(room);
        let driver = self.driver(StreamTransport::new(near, BytesMut::new()));
        (Client::new(stream), driver)
    }

    /// A client that is let in; its driver does not run any more.
    pub async fn connected(&self, connect: Connect) -> (Client, Held) {
        let (mut client, mut driver) = self.open(64 << 10);
        client.say(&[Packet::Connect(Box::new(connect))]).await;
        let ack = until(&mut driver, client.acknowledged()).await;
        assert_eq!(ack.reason, ReasonCode::Success);
        (client, driver)
    }

    /// Somebody who asks to be let in, with a driver that runs by itself.
    pub async fn coming(&self, connect: Connect) -> (Client, tokio::task::JoinHandle<()>) {
        let (mut client, driver) = self.open(64 << 10);
        let driver = tokio::spawn(driver);
        client.say(&[Packet::Connect(Box::new(connect))]).await;
        settle().await;
        (client, driver)
    }

    pub fn shut_down(&self) {
        self.drain.send_replace(true);
    }

    pub fn wills(&self) -> u64 {
        self.hub.stats().counters.last_wills_published
    }

    pub fn has_connection(&self, client: &str) -> bool {
        let nobody = router_core::auth::Verified {
            authid: None,
            role: Arc::new(router_core::auth::Role::unrestricted("r")),
            by_secret: false,
        };
        self.hub.former(None, client, &nobody).is_some()
    }
}

/// Runs a driver until something else is done.
pub async fn until<T>(driver: &mut Held, done: impl Future<Output = T>) -> T {
    let both = async {
        tokio::select! {
            () = driver => panic!("the driver ended"),
            result = done => result,
        }
    };
    timeout(DEADLINE, both).await.unwrap()
}

/// Lets all that can run do so.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub struct Client {
    pub stream: DuplexStream,
    decoder: Decoder,
    arrived: BytesMut,
}

impl Client {
    pub fn new(stream: DuplexStream) -> Client {
        Client {
            stream,
            decoder: Decoder::client(ProtocolVersion::V5, Limits::default()),
            arrived: BytesMut::new(),
        }
    }

    pub async fn say(&mut self, packets: &[Packet]) {
        self.stream.write_all(&bytes_of(packets)).await.unwrap();
    }

    /// The next packet; `None`: the router has closed.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.arrived).unwrap() {
                return Some(packet);
            }
            let read = self.stream.read_buf(&mut self.arrived);
            if timeout(DEADLINE, read).await.unwrap().unwrap() == 0 {
                return None;
            }
        }
    }

    pub async fn acknowledged(&mut self) -> ConnAck {
        match self.next().await {
            Some(Packet::ConnAck(ack)) => ack,
            other => panic!("{other:?}"),
        }
    }

    /// Whether nothing has come yet.
    pub fn has_nothing(&mut self) -> bool {
        use futures_util::FutureExt as _;
        self.stream
            .read_buf(&mut self.arrived)
            .now_or_never()
            .is_none()
            && self.arrived.is_empty()
    }
}

pub fn bytes_of(packets: &[Packet]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for packet in packets {
        encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
    }
    bytes
}

/// Client `c`, with a will, whose session outlives its connection.
pub fn connect(expiry: u32) -> Connect {
    Connect {
        version: ProtocolVersion::V5,
        clean_start: false,
        keep_alive: 0,
        client_id: "c".into(),
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "will".into(),
            payload: "gone".into(),
            properties: None,
        }),
        username: None,
        password: None,
        properties: expiring(expiry),
    }
}

/// A client without a will, whose session ends with its connection.
pub fn named(client_id: &str) -> Connect {
    Connect {
        client_id: client_id.into(),
        will: None,
        ..connect(0)
    }
}

pub fn subscribe(filter: &str, maximum_qos: QoS) -> Packet {
    let options = SubscriptionOptions {
        maximum_qos,
        ..SubscriptionOptions::default()
    };
    Packet::Subscribe(Subscribe {
        packet_id: 1.try_into().unwrap(),
        filters: vec![SubscribeFilter {
            filter: filter.into(),
            options,
        }],
        properties: None,
    })
}

/// PUBLISH to `t`, at QoS 1 if it has an identifier.
pub fn publish(packet_id: Option<u16>, payload: Vec<u8>) -> Packet {
    let packet_id = packet_id.map(|id| id.try_into().unwrap());
    Packet::Publish(Publish {
        dup: false,
        qos: match packet_id {
            Some(_) => QoS::AtLeastOnce,
            None => QoS::AtMostOnce,
        },
        retain: false,
        topic: "t".into(),
        packet_id,
        payload: payload.into(),
        properties: None,
    })
}

/// DISCONNECT, after which the session lives for so many seconds.
pub fn disconnect(expiry: u32) -> Packet {
    Packet::Disconnect(Disconnect {
        reason: ReasonCode::NORMAL_DISCONNECTION,
        properties: expiring(expiry),
    })
}

fn expiring(expiry: u32) -> Option<Box<Properties>> {
    Properties {
        session_expiry_interval: Some(expiry),
        ..Properties::default()
    }
    .into_optional()
}
