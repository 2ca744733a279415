//! PUBLISH and PUBREL from the client, and their acknowledgements (5.0 sections 3.3 to 3.7, 4.3).

use super::options::count;
use super::{Asked, MqttMachine, rpc};
use crate::mqtt::codec::{ACK_BYTES, encode_puback, encode_pubcomp, encode_pubrec};
use crate::mqtt::map;
use crate::mqtt::packet::{Ack, Packet, PacketId, PacketType, Properties, Publish, QoS};
use crate::mqtt::reason::ReasonCode;
use bytestring::ByteString;
use router_core::model::{self, Command, Refusal};
use std::num::NonZeroU16;

/// The packet identifiers there are: what a 3.x client can leave unacknowledged at most.
const PACKET_IDS: usize = 65_535;

/// A QoS 1 or 2 PUBLISH that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Incoming {
    id: PacketId,
    answer: Option<ReasonCode>,
    /// Reason String, for refusals in 5.0.
    words: Option<Box<str>>,
}

type Fault = (ReasonCode, &'static str);

/// What the realm knows an exactly-once message by.
pub(super) fn receipt_of(qos: QoS, packet_id: Option<PacketId>) -> Option<PacketId> {
    packet_id.filter(|_| qos == QoS::ExactlyOnce)
}

impl MqttMachine {
    pub(super) fn publish(&mut self, publish: Publish) {
        let none = Properties::default();
        let set = publish.properties.as_deref().unwrap_or(&none);
        let taken = self
            .topic_name(publish.topic.clone(), set.topic_alias)
            .and_then(|topic| Ok((topic, self.expect(publish.qos, publish.packet_id)?)));
        let (topic, asked) = match taken {
            Ok(taken) => taken,
            Err((reason, message)) => return self.broken(reason, message),
        };
        if !map::is_in_format(&publish.payload, set) {
            let words = "the payload is marked as text and is not UTF-8";
            self.decline(asked, ReasonCode::PayloadFormatInvalid, words);
            return;
        }
        if let Some(procedure) = rpc::procedure(&topic) {
            return self.call_by_publish(procedure, asked, &publish, set);
        }
        let Some(topic) = map::topic(topic, self.options.max_topic_levels) else {
            let words = "the Topic Name has too many levels";
            self.decline(asked, ReasonCode::TopicNameInvalid, words);
            return;
        };
        self.known_topics.add(&topic);
        let receipt = receipt_of(publish.qos, publish.packet_id);
        self.command(Command::Publish(Box::new(model::Publish {
            request: asked.map(Asked::request),
            qos: map::assurance(publish.qos),
            retain: publish.retain,
            exclude_me: false,
            receipt,
            expiry: map::expiry(set),
            attributes: map::attributes(set),
            ..model::Publish::new(topic, map::payload(publish.payload, set))
        })));
    }

    /// The Topic Name that is meant, by itself or by alias (5.0 section 3.3.2.3.4).
    fn topic_name(
        &mut self,
        topic: ByteString,
        alias: Option<NonZeroU16>,
    ) -> Result<ByteString, Fault> {
        let Some(alias) = alias else { return Ok(topic) };
        if alias.get() > self.options.topic_alias_maximum {
            let message = "Topic Alias above the maximum"; // [MQTT-3.3.2-9]
            return Err((ReasonCode::TopicAliasInvalid, message));
        }
        let place = usize::from(alias.get() - 1);
        if topic.is_empty() {
            let known = self.aliases.get(place).and_then(Option::as_ref);
            // 5.0 section 3.3.4: a Protocol Error.
            return known
                .cloned()
                .ok_or((ReasonCode::ProtocolError, "unknown Topic Alias"));
        }
        if self.aliases.len() <= place {
            self.aliases.resize(place + 1, None);
        }
        // Copied: it outlives the read buffer.
        if let Some(slot) = self.aliases.get_mut(place) {
            *slot = Some(ByteString::from(&*topic));
        }
        Ok(topic)
    }

    /// Notes that a PUBLISH is to be acknowledged, within what the client may leave open.
    pub(super) fn expect(
        &mut self,
        qos: QoS,
        id: Option<PacketId>,
    ) -> Result<Option<Asked>, Fault> {
        let Some(id) = id else { return Ok(None) };
        let is_new = qos == QoS::AtLeastOnce || !self.unreleased.contains(id);
        let open = self.pubacks.len() + self.unreleased.len();
        let waiting = self.pubacks.len() + self.pubrecs.len();
        // [MQTT-3.3.4-9], 5.0 section 4.9: 3.x has no Receive Maximum.
        let maximum = usize::from(self.options.receive_maximum.get());
        if (self.version.is_v5() && is_new && open >= maximum) || waiting >= PACKET_IDS {
            let message = "more QoS 1 and 2 messages than Receive Maximum";
            return Err((ReasonCode::ReceiveMaximumExceeded, message));
        }
        let incoming = Incoming {
            id,
            answer: None,
            words: None,
        };
        if qos == QoS::AtLeastOnce {
            let asked = Asked::PubAck(self.pubacks.next());
            self.pubacks.push(incoming);
            return Ok(Some(asked));
        }
        if self.version.is_v5() {
            self.unreleased.insert(id);
        }
        let asked = Asked::PubRec(self.pubrecs.next());
        self.pubrecs.push(incoming);
        Ok(Some(asked))
    }

    /// Turns a message down without asking the realm. 3.x cannot be told and gets the positive
    /// acknowledgement `[MQTT-3.3.5-2]`.
    pub(super) fn decline(&mut self, asked: Option<Asked>, reason: ReasonCode, words: &str) {
        count(&self.options.counters.publish_invalid);
        let (reason, words) = if self.version.is_v5() {
            (reason, Some(words.into()))
        } else {
            (ReasonCode::Success, None)
        };
        match asked {
            Some(Asked::PubAck(serial)) => self.answer(serial, false, reason, words),
            Some(Asked::PubRec(serial)) => self.answer(serial, true, reason, words),
            _ => {}
        }
    }

    /// The realm took the message, durably where that was promised.
    pub(super) fn published(&mut self, serial: u64, exactly_once: bool, matched: bool) {
        let reason = if matched || !self.version.is_v5() {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        };
        self.answer(serial, exactly_once, reason, None);
    }

    pub(super) fn publish_refused(&mut self, serial: u64, exactly_once: bool, refusal: &Refusal) {
        if self.version.is_v5() {
            let reason = map::publish_reason(refusal.kind);
            let words = Some(Box::from(&*refusal.message));
            self.answer(serial, exactly_once, reason, words);
        } else if map::acknowledges_refusal(refusal.kind) {
            self.answer(serial, exactly_once, ReasonCode::Success, None);
        } else {
            let message = "a message could not be taken, and 3.x cannot be told";
            self.fail(map::publish_reason(refusal.kind), message);
        }
    }

    fn answer(
        &mut self,
        serial: u64,
        exactly_once: bool,
        reason: ReasonCode,
        words: Option<Box<str>>,
    ) {
        let queue = if exactly_once {
            &mut self.pubrecs
        } else {
            &mut self.pubacks
        };
        let Some(incoming) = queue.get_mut(serial) else {
            return self.unexpected_answer();
        };
        (incoming.answer, incoming.words) = (Some(reason), words);
        loop {
            let queue = if exactly_once {
                &mut self.pubrecs
            } else {
                &mut self.pubacks
            };
            let Some(front) = queue.pop_if(|front| front.answer.is_some()) else {
                break;
            };
            let reason = front.answer.unwrap_or(ReasonCode::UnspecifiedError);
            if !exactly_once {
                self.acknowledge(PacketType::PubAck, front.id, reason, front.words);
                continue;
            }
            if reason.is_error() {
                // The exchange is over, its identifier free [MQTT-4.3.3-9].
                self.unreleased.remove(front.id);
            }
            self.acknowledge(PacketType::PubRec, front.id, reason, front.words);
        }
    }

    /// PUBREL: the realm forgets the identifier, then PUBCOMP `[MQTT-4.3.3-11]`. A PUBREL that
    /// says the client does not know it has the same end.
    pub(super) fn pubrel(&mut self, id: PacketId) {
        let request = Asked::PubComp(id).request();
        self.command(Command::ReleaseReceipt {
            request,
            receipt: id,
        });
    }

    pub(super) fn released(&mut self, id: PacketId, known: bool) {
        self.unreleased.remove(id);
        let reason = if known || !self.version.is_v5() {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        if !known {
            count(&self.options.counters.acks_unknown);
        }
        self.acknowledge(PacketType::PubComp, id, reason, None);
    }

    /// Sends an acknowledgement; `kind` is PUBACK, PUBREC or PUBCOMP.
    fn acknowledge(
        &mut self,
        kind: PacketType,
        id: PacketId,
        reason: ReasonCode,
        words: Option<Box<str>>,
    ) {
        let fits = self
            .peer
            .maximum_packet_size
            .is_none_or(|size| size as usize >= ACK_BYTES);
        if reason == ReasonCode::Success && fits {
            let out = self.output.batch();
            return match kind {
                PacketType::PubAck => encode_puback(id, out),
                PacketType::PubRec => encode_pubrec(id, out),
                _ => encode_pubcomp(id, out),
            };
        }
        let properties = Properties {
            reason_string: words.map(|words| ByteString::from(&*words)),
            ..Properties::default()
        };
        let ack = Ack {
            packet_id: id,
            reason,
            properties: properties.into_optional(),
        };
        self.send(&match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            _ => Packet::PubComp(ack),
        });
    }
}
