//! An MQTT server that does what no server should.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use bytes::BytesMut;
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::packet::{
    Ack, ConnAck, Packet, PacketId, ProtocolVersion, Publish, QoS, SubAck,
};
use protocols::mqtt::reason::ReasonCode;

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
/// The publish that something happens to, counted from 0.
const CHOSEN: usize = 5;

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Never says anything.
    Hangs,
    /// Lets nobody in.
    Refuses,
    /// Closes at the first publish.
    Closes,
    /// Answers with what is not MQTT.
    Babbles,
    /// Acknowledges, and forwards nothing.
    Swallows,
    /// Forwards all but one message.
    Loses,
    /// Forwards one message twice.
    Doubles,
    /// Forwards one message behind the next.
    Swaps,
}

/// One that listens; it ends with the test's process.
#[derive(Debug)]
pub struct Peer {
    address: String,
}

/// What its connections share.
#[derive(Debug, Default)]
struct Shared {
    subscriber: Option<TcpStream>,
    seen: usize,
    held_back: Option<Publish>,
    last_id: u16,
}

impl Peer {
    /// Listens on a port that the system picks.
    pub fn start(manner: Manner) -> Result<Peer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Mutex::new(Shared::default()));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // How a connection ends is what the other side is asked about.
                thread::spawn(move || serve(stream, manner, &shared));
            }
        });
        Ok(Peer { address })
    }

    /// `HOST:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn serve(mut stream: TcpStream, manner: Manner, shared: &Mutex<Shared>) -> Result<()> {
    let mut decoder = Decoder::server(Limits::default());
    let mut inbound = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        while let Some(packet) = decoder.decode(&mut inbound)? {
            match (manner, &packet) {
                (Manner::Hangs, _) => {}
                (Manner::Closes, Packet::Publish(_)) => return Ok(()),
                (Manner::Babbles, _) => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?,
                _ => answer(&mut stream, manner, packet, shared)?,
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => inbound.extend_from_slice(&chunk[..read]),
        }
    }
}

fn send(stream: &mut TcpStream, packet: &Packet) -> Result<()> {
    let mut out = BytesMut::new();
    encode(packet, VERSION, &mut out)?;
    stream.write_all(&out).context("gone")
}

fn answer(
    stream: &mut TcpStream,
    manner: Manner,
    packet: Packet,
    shared: &Mutex<Shared>,
) -> Result<()> {
    // The lock is held while a packet is written, so that no two are mixed up.
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match packet {
        Packet::Connect(_) => {
            let reason = match manner {
                Manner::Refuses => ReasonCode::NotAuthorized,
                _ => ReasonCode::Success,
            };
            let connack = ConnAck {
                session_present: false,
                reason,
                properties: None,
            };
            send(stream, &Packet::ConnAck(connack))
        }
        Packet::Subscribe(subscribe) => {
            shared.subscriber = Some(stream.try_clone()?);
            let granted = subscribe.filters.iter();
            let granted = granted.map(|filter| ReasonCode::granted(filter.options.maximum_qos));
            let suback = SubAck {
                packet_id: subscribe.packet_id,
                properties: None,
                reasons: granted.collect(),
            };
            send(stream, &Packet::SubAck(suback))
        }
        Packet::Publish(publish) => {
            if let Some(id) = publish.packet_id {
                let ack = Ack::success(id);
                send(
                    stream,
                    &match publish.qos {
                        QoS::ExactlyOnce => Packet::PubRec(ack),
                        _ => Packet::PubAck(ack),
                    },
                )?;
            }
            shared.forward(manner, publish)
        }
        Packet::PubRec(ack) => send(stream, &Packet::PubRel(Ack::success(ack.packet_id))),
        Packet::PubRel(ack) => send(stream, &Packet::PubComp(Ack::success(ack.packet_id))),
        Packet::PingReq => send(stream, &Packet::PingResp),
        _ => Ok(()),
    }
}

impl Shared {
    fn forward(&mut self, manner: Manner, publish: Publish) -> Result<()> {
        let is_chosen = self.seen == CHOSEN;
        self.seen += 1;
        match manner {
            Manner::Swallows => return Ok(()),
            Manner::Loses if is_chosen => return Ok(()),
            Manner::Doubles if is_chosen => self.send(publish.clone())?,
            Manner::Swaps if is_chosen => {
                self.held_back = Some(publish);
                return Ok(());
            }
            _ => {}
        }
        self.send(publish)?;
        match self.held_back.take() {
            Some(publish) => self.send(publish),
            None => Ok(()),
        }
    }

    fn send(&mut self, mut publish: Publish) -> Result<()> {
        self.last_id += 1;
        let id = PacketId::new(self.last_id);
        publish.packet_id = id.filter(|_| publish.qos > QoS::AtMostOnce);
        let subscriber = self.subscriber.as_mut().context("nobody subscribed")?;
        send(subscriber, &Packet::Publish(publish))
    }
}
