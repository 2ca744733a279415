//! The scripted loads. Each does the same number of messages in each batch, and waits for all of a
//! batch to arrive before the next.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use reynard::Server;
use reynard::config::{Config, ListenerKind};
use serde_json::{Value, json};

use super::peer::{Encoding, Peer, Template, message, publish, subscribe};
use crate::mqtt::packet;

/// Messages that a publisher sends in one write.
const BATCH: usize = 64;
/// Subscribers of a fan-out.
const RECEIVERS: usize = 100;
/// ... and the messages of a batch that each of them gets.
const FANOUT_BATCH: usize = 16;
/// Connections that subscribe to [`BATCH`] filters each in [`Load::Wildcards`].
const HOLDERS: usize = 16;
/// Connections made in a batch.
const CONNECTS: usize = 16;
/// One text argument of 16 bytes.
const ARGUMENT: &str = "sixteen bytes ..";

/// What is done over and over.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// One MQTT publisher, one subscriber.
    Pair {
        /// Of both.
        qos: u8,
        /// Bytes of payload.
        size: usize,
    },
    /// One MQTT publisher, a hundred subscribers, 256 bytes.
    Fanout {
        /// Of all.
        qos: u8,
    },
    /// 1,024 filters over 16 connections, and two that match all: each message reaches three. More would make the set-up,
    /// which differs a little each time, louder than the messages.
    Wildcards,
    /// Retained publishes to 64 topics, which nobody follows.
    Retained,
    /// Connections with one subscription each, which end at once.
    Connects,
    /// One WAMP publisher, one subscriber.
    Events {
        /// Of both.
        encoding: Encoding,
        /// Whether the publisher waits for PUBLISHED.
        acknowledged: bool,
    },
    /// One WAMP publisher, a hundred subscribers, JSON.
    EventFanout,
    /// A caller and a callee that answers what it gets, JSON.
    Calls,
    /// From an MQTT publisher of JSON to a WAMP subscriber.
    Bridge,
}

/// All loads, by the names that `tests/costs.txt` uses.
pub const LOADS: &[(&str, Load)] = &[
    ("mqtt-pair-qos0-16", Load::Pair { qos: 0, size: 16 }),
    ("mqtt-pair-qos0-4096", Load::Pair { qos: 0, size: 4096 }),
    ("mqtt-pair-qos1-256", Load::Pair { qos: 1, size: 256 }),
    ("mqtt-pair-qos2-256", Load::Pair { qos: 2, size: 256 }),
    ("mqtt-fanout-qos0", Load::Fanout { qos: 0 }),
    ("mqtt-fanout-qos1", Load::Fanout { qos: 1 }),
    ("mqtt-wildcards", Load::Wildcards),
    ("mqtt-retained", Load::Retained),
    ("mqtt-connects", Load::Connects),
    ("wamp-events-json", events(Encoding::Json, false)),
    ("wamp-events-msgpack", events(Encoding::MsgPack, false)),
    ("wamp-events-acknowledged", events(Encoding::Json, true)),
    ("wamp-fanout-json", Load::EventFanout),
    ("wamp-calls-json", Load::Calls),
    ("mqtt-to-wamp-json", Load::Bridge),
];

const fn events(encoding: Encoding, acknowledged: bool) -> Load {
    Load::Events {
        encoding,
        acknowledged,
    }
}

/// The load of this name.
///
/// # Errors
/// Fails if there is none.
pub fn named(name: &str) -> Result<Load> {
    let known = LOADS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, load)| *load)
        .with_context(|| format!("there is no load {name}"))
}

impl Load {
    /// Deliveries, calls, connections or retained messages in a batch.
    pub const fn units(self) -> usize {
        match self {
            Load::Fanout { .. } | Load::EventFanout => RECEIVERS * FANOUT_BATCH,
            Load::Wildcards => BATCH * 3,
            Load::Connects => CONNECTS,
            Load::Pair { .. }
            | Load::Retained
            | Load::Events { .. }
            | Load::Calls
            | Load::Bridge => BATCH,
        }
    }

    /// Starts a router in this process and does so many batches, all in one thread.
    ///
    /// # Errors
    /// Fails if the router does not do its part.
    pub fn run(self, batches: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let text = "memory = true\n[[listener]]\nbind = \"127.0.0.1:0\"\n";
            let config = Config::from_toml(Path::new("costs.toml"), text)?;
            let server = Server::start(&config).await?;
            let addr = server
                .addresses(ListenerKind::Universal)
                .next()
                .context("no listener")?;
            self.play(addr, batches).await?;
            server.shutdown().await;
            Ok(())
        })
    }

    async fn play(self, addr: SocketAddr, batches: usize) -> Result<()> {
        match self {
            Load::Pair { qos, size } => pair(addr, qos, size, batches).await,
            Load::Fanout { qos } => fanout(addr, qos, batches).await,
            Load::Wildcards => wildcards(addr, batches).await,
            Load::Retained => retained(addr, batches).await,
            Load::Connects => connects(addr, batches).await,
            Load::Events {
                encoding,
                acknowledged,
            } => wamp_events(addr, encoding, acknowledged, batches).await,
            Load::EventFanout => event_fanout(addr, batches).await,
            Load::Calls => calls(addr, batches).await,
            Load::Bridge => bridge(addr, batches).await,
        }
    }
}

async fn subscriber(addr: SocketAddr, name: &str, filters: &[&str], qos: u8) -> Result<Peer> {
    let mut peer = Peer::mqtt(addr, name).await?;
    peer.send(&subscribe(filters.iter().copied(), qos)).await?;
    let mut granted = Vec::new();
    peer.frames(1, |frame, _| granted = frame.to_vec()).await?;
    ensure!(
        granted.len() >= 4 + filters.len() && granted.ends_with(&[qos]),
        "SUBACK {granted:x?}"
    );
    Ok(peer)
}

/// A batch of PUBLISH packets, with identifiers from 1.
fn batch(qos: u8, topic: &str, size: usize, count: usize) -> Vec<u8> {
    let ids = (1..).take(count);
    ids.flat_map(|id| publish(0x30 | qos << 1, topic, id, size))
        .collect()
}

/// What a receiver answers at QoS 1 and 2.
fn acknowledge(frame: &[u8], answers: &mut Vec<u8>) {
    let first = match frame[0] & 0xF6 {
        0x32 => 0x40,
        0x34 => 0x50,
        0x50 => 0x62,
        0x62 => 0x70,
        _ => return,
    };
    let id = match frame[0] >> 4 {
        3 => {
            let length = frame[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
            let topic = usize::from(u16::from_be_bytes([frame[1 + length], frame[2 + length]]));
            let at = 3 + length + topic;
            [frame[at], frame[at + 1]]
        }
        _ => [frame[2], frame[3]],
    };
    answers.extend(packet(first, &id));
}

/// The publisher's part of a handshake for all of a batch.
async fn settle(publisher: &mut Peer, qos: u8, count: usize) -> Result<()> {
    for _ in 0..qos {
        publisher.frames(count, acknowledge).await?;
    }
    Ok(())
}

/// A receiver's part, from PUBLISH on.
async fn receive(subscriber: &mut Peer, qos: u8, count: usize) -> Result<()> {
    subscriber.frames(count, acknowledge).await?;
    if qos == 2 {
        subscriber.frames(count, acknowledge).await?;
    }
    Ok(())
}

async fn pair(addr: SocketAddr, qos: u8, size: usize, batches: usize) -> Result<()> {
    let mut receiver = subscriber(addr, "receiver", &["costs/topic"], qos).await?;
    let mut publisher = Peer::mqtt(addr, "publisher").await?;
    let bytes = batch(qos, "costs/topic", size, BATCH);
    for _ in 0..batches {
        publisher.send(&bytes).await?;
        settle(&mut publisher, qos, BATCH).await?;
        receive(&mut receiver, qos, BATCH).await?;
    }
    Ok(())
}

async fn fanout(addr: SocketAddr, qos: u8, batches: usize) -> Result<()> {
    let mut receivers = Vec::new();
    for number in 0..RECEIVERS {
        let name = format!("receiver-{number}");
        receivers.push(subscriber(addr, &name, &["costs/topic"], qos).await?);
    }
    let mut publisher = Peer::mqtt(addr, "publisher").await?;
    let bytes = batch(qos, "costs/topic", 256, FANOUT_BATCH);
    for _ in 0..batches {
        publisher.send(&bytes).await?;
        settle(&mut publisher, qos, FANOUT_BATCH).await?;
        for receiver in &mut receivers {
            receive(receiver, qos, FANOUT_BATCH).await?;
        }
    }
    Ok(())
}

async fn wildcards(addr: SocketAddr, batches: usize) -> Result<()> {
    let mut holders = Vec::new();
    for holder in 0..HOLDERS {
        let filters: Vec<String> = (0..BATCH).map(|at| filter(holder * BATCH + at)).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        holders.push(subscriber(addr, &format!("holder-{holder}"), &filters, 0).await?);
    }
    let mut all = subscriber(addr, "all", &["d/#"], 0).await?;
    let mut most = subscriber(addr, "most", &["d/+/s/t"], 0).await?;
    let mut publisher = Peer::mqtt(addr, "publisher").await?;
    for batch in 0..batches {
        let holder = batch * 7 % HOLDERS;
        let topics = (0..BATCH).map(|at| format!("d/{}/s/t", holder * BATCH + at));
        let bytes: Vec<u8> = topics
            .flat_map(|topic| publish(0x30, &topic, 0, 16))
            .collect();
        publisher.send(&bytes).await?;
        for receiver in [&mut holders[holder], &mut all, &mut most] {
            receive(receiver, 0, BATCH).await?;
        }
    }
    Ok(())
}

/// Four kinds in turn.
fn filter(number: usize) -> String {
    match number % 4 {
        0 => format!("d/{number}/+/t"),
        1 => format!("d/{number}/#"),
        2 => format!("d/{number}/s/t"),
        _ => format!("+/{number}/s/t"),
    }
}

async fn retained(addr: SocketAddr, batches: usize) -> Result<()> {
    let mut publisher = Peer::mqtt(addr, "publisher").await?;
    let ids = (1..).take(BATCH);
    let bytes: Vec<u8> = ids
        .flat_map(|id| publish(0x33, &format!("costs/kept/{id}"), id, 16))
        .collect();
    for _ in 0..batches {
        publisher.send(&bytes).await?;
        settle(&mut publisher, 1, BATCH).await?;
    }
    Ok(())
}

async fn connects(addr: SocketAddr, batches: usize) -> Result<()> {
    for _ in 0..batches {
        for number in 0..CONNECTS {
            let name = format!("guest-{number}");
            let mut guest = subscriber(addr, &name, &["costs/topic"], 0).await?;
            guest.send(&[0xE0, 0]).await?;
            guest.end().await?;
        }
    }
    Ok(())
}

async fn wamp_subscriber(addr: SocketAddr, encoding: Encoding) -> Result<Peer> {
    let mut peer = Peer::wamp(addr, encoding).await?;
    request(&mut peer, encoding, 33, json!([32, 1, {}, "costs.topic"])).await?;
    Ok(peer)
}

/// Sends a request and waits for its one answer, of this type.
async fn request(peer: &mut Peer, encoding: Encoding, expected: u8, list: Value) -> Result<()> {
    peer.send(&message(encoding, &list)?).await?;
    let mut answer = Vec::new();
    peer.frames(1, |frame, _| answer = frame.to_vec()).await?;
    let code = match encoding {
        Encoding::Json => format!("[{expected},").into_bytes(),
        Encoding::MsgPack => vec![expected],
    };
    let at = usize::from(encoding == Encoding::MsgPack);
    ensure!(answer[at..].starts_with(&code), "answered {answer:x?}");
    Ok(())
}

async fn wamp_events(
    addr: SocketAddr,
    encoding: Encoding,
    acknowledged: bool,
    batches: usize,
) -> Result<()> {
    let mut receiver = wamp_subscriber(addr, encoding).await?;
    let mut publisher = Peer::wamp(addr, encoding).await?;
    let options = match acknowledged {
        true => json!({"acknowledge": true}),
        false => json!({}),
    };
    let event = |id| json!([16, id, options, "costs.topic", [ARGUMENT]]);
    let event = Template::new(encoding, event)?;
    for batch in 0..batches {
        let bytes = event.batch(batch * BATCH + 1, BATCH);
        publisher.send(&bytes).await?;
        if acknowledged {
            publisher.frames(BATCH, |_, _| {}).await?;
        }
        receiver.frames(BATCH, |_, _| {}).await?;
    }
    Ok(())
}

async fn event_fanout(addr: SocketAddr, batches: usize) -> Result<()> {
    let encoding = Encoding::Json;
    let mut receivers = Vec::new();
    for _ in 0..RECEIVERS {
        receivers.push(wamp_subscriber(addr, encoding).await?);
    }
    let mut publisher = Peer::wamp(addr, encoding).await?;
    let event = |id| json!([16, id, {}, "costs.topic", [ARGUMENT]]);
    let event = Template::new(encoding, event)?;
    for batch in 0..batches {
        let bytes = event.batch(batch * FANOUT_BATCH + 1, FANOUT_BATCH);
        publisher.send(&bytes).await?;
        for receiver in &mut receivers {
            receiver.frames(FANOUT_BATCH, |_, _| {}).await?;
        }
    }
    Ok(())
}

async fn calls(addr: SocketAddr, batches: usize) -> Result<()> {
    let encoding = Encoding::Json;
    let mut callee = Peer::wamp(addr, encoding).await?;
    let register = json!([64, 1, {}, "costs.echo"]);
    request(&mut callee, encoding, 65, register).await?;
    let mut caller = Peer::wamp(addr, encoding).await?;
    let call = |id| json!([48, id, {}, "costs.echo", [ARGUMENT]]);
    let result = |id| json!([70, id, {}, [ARGUMENT]]);
    let (call, result) = (
        Template::new(encoding, call)?,
        Template::new(encoding, result)?,
    );
    for batch in 0..batches {
        let bytes = call.batch(batch * BATCH + 1, BATCH);
        caller.send(&bytes).await?;
        let mut strange = 0;
        callee
            .frames(BATCH, |frame, answers| match invocation(frame) {
                Some(id) => result.put(id, answers),
                None => strange += 1,
            })
            .await?;
        ensure!(strange == 0, "{strange} messages are no INVOCATION");
        caller.frames(BATCH, |_, _| {}).await?;
    }
    Ok(())
}

/// The request id of an INVOCATION in JSON.
fn invocation(frame: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(frame).ok()?.strip_prefix("[68,")?;
    text.split(',').next()?.parse().ok()
}

async fn bridge(addr: SocketAddr, batches: usize) -> Result<()> {
    let mut receiver = wamp_subscriber(addr, Encoding::Json).await?;
    let mut publisher = Peer::mqtt(addr, "publisher").await?;
    let payload = br#"{"temp": 21.5}"#;
    let mut body = crate::mqtt::string("costs/topic");
    body.extend(payload);
    let bytes = packet(0x30, &body).repeat(BATCH);
    for _ in 0..batches {
        publisher.send(&bytes).await?;
        receiver.frames(BATCH, |_, _| {}).await?;
    }
    Ok(())
}
