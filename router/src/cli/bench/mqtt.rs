//! An MQTT client of a benchmark.

use super::peer::{Hear, Heard, Peer, PubSub};
use super::stamp::{STAMP_BYTES, Stamp};
use super::topic::Filter;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::mqtt::codec::{
    Decoder, Limits, PublishHead, encode, encode_puback, encode_pubcomp, encode_pubrec,
    encode_pubrel,
};
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, Secret,
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use protocols::mqtt::reason::ReasonCode;

/// As good as none, which rumqttd refuses: nobody is silent for so long.
const KEEP_ALIVE_SECS: u16 = u16::MAX;
/// Filters of one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 100;
/// Bytes of a packet beside its payload, at most.
const HEAD_BYTES: usize = 64 << 10;

/// How a client speaks.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// The version of the protocol.
    pub version: ProtocolVersion,
    /// Of publishes, and the most that subscriptions ask for.
    pub qos: QoS,
    /// Who it is, and with which realm behind an `@`.
    pub username: Option<String>,
    /// How it proves that.
    pub password: Option<String>,
    /// Bytes of a payload.
    pub size: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct MqttPeer {
    manner: Manner,
    client_id: String,
    decoder: Decoder,
    topics: Vec<ByteString>,
    is_retained: bool,
    last_id: u16,
    /// Publishes that may wait for their acknowledgement.
    receive_maximum: u16,
    unacknowledged: u64,
    /// Pings without an answer.
    pings: u32,
}

impl MqttPeer {
    /// A client that has not said anything yet.
    pub(super) fn new(manner: Manner, client_id: String) -> MqttPeer {
        let limits = Limits {
            max_packet_bytes: manner.size + HEAD_BYTES,
            ..Limits::default()
        };
        MqttPeer {
            decoder: Decoder::client(manner.version, limits),
            manner,
            client_id,
            topics: Vec::new(),
            is_retained: false,
            last_id: 0,
            receive_maximum: u16::MAX,
            unacknowledged: 0,
            pings: 0,
        }
    }

    fn put(&self, packet: &Packet, out: &mut BytesMut) {
        // What is written here is legal by construction; a name that is too long for MQTT is left
        // out, and the other side misses it.
        let _ = encode(packet, self.manner.version, out);
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_id).unwrap_or(PacketId::MIN)
    }

    fn let_in(&mut self, connack: &ConnAck) -> Result<(), String> {
        if connack.reason.is_error() {
            return Err(format!("refused the connection: {}", connack.reason));
        }
        let Some(properties) = &connack.properties else {
            return Ok(());
        };
        if let Some(most) = properties.receive_maximum {
            self.receive_maximum = most.get();
        }
        match properties.maximum_qos {
            Some(most) if most < self.manner.qos => {
                Err(format!("takes no QoS above {}", most as u8))
            }
            _ => Ok(()),
        }
    }

    fn confirmed(&self, suback: &SubAck) -> Result<usize, String> {
        let granted = ReasonCode::granted(self.manner.qos);
        match suback.reasons.iter().find(|reason| **reason != granted) {
            None => Ok(suback.reasons.len()),
            Some(reason) if reason.is_error() => Err(format!("refused the subscription: {reason}")),
            Some(reason) => Err(format!(
                "granted QoS {} where {} was asked for",
                reason.value(),
                self.manner.qos as u8
            )),
        }
    }

    fn acknowledged(&mut self, ack: &Ack) -> Result<Heard<'static>, String> {
        if ack.reason.is_error() {
            return Err(format!("refused the publish: {}", ack.reason));
        }
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        Ok(Heard::Acknowledged)
    }

    fn message(publish: &Publish, out: &mut BytesMut, hear: &mut Hear<'_>) -> Result<(), String> {
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => encode_puback(id, out),
            (QoS::ExactlyOnce, Some(id)) => encode_pubrec(id, out),
            _ => {}
        }
        hear(Heard::Message(&publish.payload))
    }

    fn take(
        &mut self,
        packet: Packet,
        out: &mut BytesMut,
        hear: &mut Hear<'_>,
    ) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => Self::message(&publish, out, hear),
            Packet::PubAck(ack) | Packet::PubComp(ack) => hear(self.acknowledged(&ack)?),
            Packet::PubRec(ack) if ack.reason.is_error() => {
                Err(format!("refused the publish: {}", ack.reason))
            }
            Packet::PubRec(ack) => {
                encode_pubrel(ack.packet_id, out);
                Ok(())
            }
            Packet::PubRel(ack) => {
                encode_pubcomp(ack.packet_id, out);
                Ok(())
            }
            Packet::ConnAck(connack) => {
                self.let_in(&connack)?;
                hear(Heard::Welcome)
            }
            Packet::SubAck(suback) => hear(Heard::Confirmed(self.confirmed(&suback)?)),
            Packet::PingResp => {
                self.pings = self.pings.saturating_sub(1);
                match self.pings {
                    0 => hear(Heard::Quiet),
                    _ => Ok(()),
                }
            }
            Packet::Disconnect(disconnect) => {
                Err(format!("ended the session: {}", disconnect.reason))
            }
            other => Err(format!("sent an unexpected {:?}", other.packet_type())),
        }
    }

    fn publish_bytes(
        &mut self,
        at: usize,
        payload: [&[u8]; 2],
        out: &mut BytesMut,
    ) -> Result<(), String> {
        let qos = self.manner.qos;
        let packet_id = (qos > QoS::AtMostOnce).then(|| self.next_id());
        let topic = self.topics.get(at).ok_or("has no such topic")?;
        let head = PublishHead {
            dup: false,
            qos,
            retain: self.is_retained,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            shared_properties: &[],
            payload_len: payload.iter().map(|part| part.len()).sum(),
        };
        let written = head.encode(self.manner.version, out);
        written.map_err(|error| format!("cannot be sent this message: {error}"))?;
        for part in payload {
            out.extend_from_slice(part);
        }
        self.unacknowledged += u64::from(packet_id.is_some());
        Ok(())
    }
}

impl Peer for MqttPeer {
    fn hello(&mut self, out: &mut BytesMut) {
        let password = self.manner.password.as_ref();
        let connect = Connect {
            version: self.manner.version,
            clean_start: true,
            keep_alive: KEEP_ALIVE_SECS,
            client_id: self.client_id.as_str().into(),
            will: None,
            username: self.manner.username.as_deref().map(ByteString::from),
            password: password.map(|text| Secret(Bytes::from(text.clone()))),
            properties: None,
        };
        self.put(&Packet::Connect(Box::new(connect)), out);
    }

    fn handle(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        hear: &mut Hear<'_>,
    ) -> Result<(), String> {
        loop {
            let decoded = self.decoder.decode(inbound);
            let decoded = decoded.map_err(|error| format!("broke the protocol: {error}"))?;
            let Some(packet) = decoded else {
                return Ok(());
            };
            self.take(packet, out, hear)?;
        }
    }

    fn ask(&mut self, out: &mut BytesMut) {
        self.pings += 1;
        self.put(&Packet::PingReq, out);
    }

    /// A server may set a Keep Alive of its own (5.0 section 3.2.2.3.14).
    fn keep_alive(&mut self, out: &mut BytesMut) {
        self.ask(out);
    }

    fn leave(&mut self, out: &mut BytesMut) -> bool {
        let disconnect = Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: None,
        };
        self.put(&Packet::Disconnect(disconnect), out);
        false
    }
}

impl PubSub for MqttPeer {
    fn subscribe(&mut self, filters: &[Filter], _with_retained: bool, out: &mut BytesMut) {
        let options = SubscriptionOptions {
            maximum_qos: self.manner.qos,
            ..SubscriptionOptions::default()
        };
        for filters in filters.chunks(FILTERS_AT_ONCE) {
            let filters = filters.iter().map(|filter| SubscribeFilter {
                filter: filter.mqtt(),
                options,
            });
            let subscribe = Subscribe {
                packet_id: self.next_id(),
                properties: None,
                filters: filters.collect(),
            };
            self.put(&Packet::Subscribe(subscribe), out);
        }
    }

    fn aim(&mut self, topics: &[Filter], is_retained: bool, _padding: &[u8]) {
        self.topics = topics.iter().map(Filter::mqtt).collect();
        self.is_retained = is_retained;
    }

    fn room(&self) -> u64 {
        match self.manner.qos {
            QoS::AtMostOnce => u64::MAX,
            _ => u64::from(self.receive_maximum).saturating_sub(self.unacknowledged),
        }
    }

    fn publish(
        &mut self,
        at: usize,
        stamp: Stamp,
        padding: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), String> {
        let stamp: [u8; STAMP_BYTES] = stamp.write();
        self.publish_bytes(at, [&stamp, padding], out)
    }

    fn erase(&mut self, at: usize, out: &mut BytesMut) -> Result<(), String> {
        self.publish_bytes(at, [b"", b""], out)
    }
}

#[cfg(test)]
mod tests;
