//! What both ends of a connection have agreed on: window, aliases of topics, size of packets.
//!
//! A client draws its own side anew for each connection; the router must keep to it.

use crate::dice::Dice;
use bytestring::ByteString;
use protocols::mqtt::codec::Limits;
use protocols::mqtt::packet::{ConnAck, Packet, PacketId, Properties, Publish, QoS};
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32};

#[derive(Debug, Default)]
pub struct Terms {
    v5: bool,
    /// Receive Maximum, Topic Alias Maximum and Maximum Packet Size of the client.
    window: Option<NonZeroU16>,
    most_aliases: u16,
    packet: Option<NonZeroU32>,
    unsettled: BTreeSet<PacketId>,
    incoming: BTreeMap<u16, ByteString>,
    /// What the router takes.
    router_aliases: u16,
    outgoing: BTreeMap<ByteString, u16>,
}

impl Terms {
    pub fn new(v5: bool, packet: Option<u32>, dice: &mut Dice) -> Terms {
        if !v5 {
            return Terms::default();
        }
        Terms {
            v5,
            window: NonZeroU16::new(*dice.pick(&[0, 1, 2, 5, 20])),
            most_aliases: *dice.pick(&[0, 1, 2, 8]),
            packet: packet.and_then(NonZeroU32::new),
            ..Terms::default()
        }
    }

    /// The properties of CONNECT.
    pub fn properties(&self, durable: bool) -> Option<Box<Properties>> {
        self.v5.then(|| {
            Box::new(Properties {
                session_expiry_interval: durable.then_some(100_000),
                receive_maximum: self.window,
                topic_alias_maximum: Some(self.most_aliases),
                maximum_packet_size: self.packet,
                ..Properties::default()
            })
        })
    }

    pub fn limits(&self) -> Limits {
        let whole = Limits::default();
        Limits {
            max_packet_bytes: self
                .packet
                .map_or(whole.max_packet_bytes, |most| most.get() as usize),
            ..whole
        }
    }

    pub fn accepted(&mut self, ack: &ConnAck) {
        let properties = ack.properties.as_deref();
        self.router_aliases = properties
            .and_then(|properties| properties.topic_alias_maximum)
            .unwrap_or(0);
    }

    /// The form in which a PUBLISH is sent: now and then with an alias, new or known.
    pub fn shorten(&mut self, mut publish: Publish, dice: &mut Dice) -> Publish {
        let most = self.router_aliases.min(2);
        if most == 0 || dice.flip() {
            return publish;
        }
        let known = self.outgoing.get(&publish.topic).copied();
        let alias = known.unwrap_or_else(|| dice.range(1, u64::from(most)) as u16);
        if known.is_some() && dice.permille(800) {
            publish.topic = ByteString::new();
        } else {
            self.outgoing.retain(|_, given| *given != alias);
            self.outgoing.insert(publish.topic.clone(), alias);
        }
        publish.properties.get_or_insert_default().topic_alias = NonZeroU16::new(alias);
        publish
    }

    /// The topic of what came, if the router was allowed to send it.
    ///
    /// # Errors
    /// What it was not allowed to.
    pub fn takes(&mut self, publish: &Publish) -> Result<ByteString, String> {
        if let (Some(id), true) = (publish.packet_id, publish.qos > QoS::AtMostOnce) {
            self.unsettled.insert(id);
        }
        let most = self.window.map_or(usize::MAX, |most| most.get().into());
        if self.unsettled.len() > most {
            return Err(format!(
                "{} messages in a window of {most}",
                self.unsettled.len()
            ));
        }
        let alias = publish.properties.as_ref().and_then(|p| p.topic_alias);
        let Some(alias) = alias.map(NonZeroU16::get) else {
            return Ok(publish.topic.clone());
        };
        if alias > self.most_aliases {
            return Err(format!("alias {alias} of {}", self.most_aliases));
        }
        if publish.topic.is_empty() {
            let known = self.incoming.get(&alias).cloned();
            return known.ok_or_else(|| format!("alias {alias} stands for nothing"));
        }
        self.incoming.insert(alias, publish.topic.clone());
        Ok(publish.topic.clone())
    }

    /// The client sends this: a place in its window may be free.
    pub fn sends(&mut self, packet: &Packet) {
        if let Packet::PubAck(ack) | Packet::PubComp(ack) = packet {
            self.unsettled.remove(&ack.packet_id);
        }
    }
}
