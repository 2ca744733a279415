//! PUBLISH and PUBREL from the peer, and their acknowledgements (5.0 sections 3.3 to 3.7, 4.3).

use super::asked::Asked;
use super::exchange::{copy_id, may_collide};
use super::options::count;
use super::via::{self, VIA};
use super::{BridgeMachine, End, no_properties, rules};
use crate::mqtt::codec::{encode_puback, encode_pubcomp, encode_pubrec};
use crate::mqtt::map;
use crate::mqtt::packet::{Ack, Packet, PacketId, PacketType, Properties, Publish, QoS};
use crate::mqtt::reason::ReasonCode;
use bytestring::ByteString;
use router_core::model::{self, Attributes, Command, ErrorKind, Slot};
use smallvec::SmallVec;

/// The Packet Identifiers there are: what a server can leave unacknowledged at most.
const PACKET_IDS: usize = 65_535;
/// Bytes of an acknowledgement without properties, the least a peer must take.
const SHORT_ACK: u32 = 4;

/// A QoS 1 or 2 PUBLISH that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Incoming {
    id: PacketId,
    /// Answers of the realm that are not there.
    missing: usize,
    reason: ReasonCode,
}

/// A PUBREL that is not answered yet.
#[derive(Debug)]
pub(super) struct Releasing {
    missing: usize,
    is_known: bool,
}

impl BridgeMachine {
    pub(super) fn publish(&mut self, publish: Publish) {
        let set = publish.properties.as_deref().unwrap_or(no_properties());
        if set.topic_alias.is_some() || publish.topic.is_empty() {
            // We announced a Topic Alias Maximum of 0 [MQTT-3.1.2-26].
            return self.broken(
                ReasonCode::TopicAliasInvalid,
                "a Topic Alias nobody asked for",
            );
        }
        let Some(asked) = self.expect(publish.qos, publish.packet_id) else {
            let message = "more unacknowledged messages than Packet Identifiers";
            return self.broken(ReasonCode::ReceiveMaximumExceeded, message);
        };
        let added = match self.way_in(set) {
            Ok(added) => added,
            Err(via::Looped) => {
                count(&self.counters.looped);
                return self.decline(asked, ReasonCode::Success);
            }
        };
        if !map::is_in_format(&publish.payload, set) {
            count(&self.counters.refused_here);
            return self.decline(asked, ReasonCode::PayloadFormatInvalid);
        }
        let names = rules::topic(publish.topic.clone())
            .map(|topic| self.names_here(&topic, publish.qos, set))
            .unwrap_or_default();
        if names.is_empty() {
            count(&self.counters.unmapped);
            return self.decline(asked, ReasonCode::Success);
        }
        count(&self.counters.messages_in);
        self.await_answers(asked, names.len());
        let attributes = with_way(map::attributes(set), &added);
        for (number, (topic, qos)) in names.into_iter().enumerate() {
            let receipt = publish
                .packet_id
                .filter(|_| publish.qos == QoS::ExactlyOnce)
                .and_then(|id| self.receipt(id, number));
            self.command(Command::Publish(Box::new(model::Publish {
                request: asked.map(Asked::request),
                qos: map::assurance(qos),
                retain: publish.retain,
                exclude_me: false,
                receipt,
                expiry: map::expiry(set),
                attributes: attributes.clone(),
                ..model::Publish::new(topic, map::payload(publish.payload.clone(), set))
            })));
        }
    }

    /// The ids to add to the message's way; only 5.0 can carry them on.
    fn way_in(&self, set: &Properties) -> Result<SmallVec<[ByteString; 2]>, via::Looped> {
        if !self.version.is_v5() {
            return Ok(SmallVec::new());
        }
        let (own, peer) = (&self.options.router_id, self.peer.id.as_ref());
        let added = via::coming_in(&set.user_properties, own, peer)?;
        Ok(added.into_iter().cloned().collect())
    }

    /// The message's topics on this side.
    fn names_here(
        &self,
        topic: &model::Topic,
        qos: QoS,
        set: &Properties,
    ) -> SmallVec<[(model::Topic, QoS); 1]> {
        let rules = &self.options.rules;
        let mut groups: SmallVec<[u32; 4]> = SmallVec::new();
        if self.uses_identifiers {
            groups.extend(
                set.subscription_identifiers
                    .iter()
                    .map(|id| id.saturating_sub(1)),
            );
        }
        let mut names = rules.incoming(topic, qos, &groups);
        if names.is_empty() {
            // Queued at the peer for a former subscription with another identifier.
            names = rules.incoming(topic, qos, &[]);
        }
        names
            .into_iter()
            .filter_map(|(name, qos)| Some((rules::topic(name)?, qos)))
            .collect()
    }

    /// Notes that a PUBLISH is to be acknowledged; `None`: the peer has too many open.
    #[expect(clippy::option_option, reason = "too many, or nothing to acknowledge")]
    fn expect(&mut self, qos: QoS, id: Option<PacketId>) -> Option<Option<Asked>> {
        let Some(id) = id else { return Some(None) };
        let is_new = qos == QoS::AtLeastOnce || !self.unreleased.contains(&id);
        let open = self.pubacks.len() + self.unreleased.len();
        let waiting = self.pubacks.len() + self.pubrecs.len();
        if waiting >= PACKET_IDS {
            return None;
        }
        // [MQTT-3.3.4-9]. Some servers exceed it when they resume a session after their own
        // restart; to close would have them do it again, for ever. What it costs is bounded by the
        // number of Packet Identifiers, as in 3.1.1.
        let maximum = usize::from(self.options.receive_maximum.get());
        if self.version.is_v5() && is_new && open >= maximum {
            count(&self.counters.over_receive_maximum);
        }
        let incoming = Incoming {
            id,
            missing: 0,
            reason: ReasonCode::Success,
        };
        let asked = if qos == QoS::AtLeastOnce {
            let asked = Asked::PubAck(self.pubacks.next());
            self.pubacks.push(incoming);
            asked
        } else {
            self.unreleased.insert(id);
            let asked = Asked::PubRec(self.pubrecs.next());
            self.pubrecs.push(incoming);
            asked
        };
        // Nothing is acknowledged before it is known how many answers there will be.
        self.await_answers(Some(asked), usize::MAX);
        Some(Some(asked))
    }

    fn await_answers(&mut self, asked: Option<Asked>, answers: usize) {
        if let Some(incoming) = self.incoming(asked) {
            incoming.missing = answers;
        }
    }

    fn incoming(&mut self, asked: Option<Asked>) -> Option<&mut Incoming> {
        match asked? {
            Asked::PubAck(serial) => self.pubacks.get_mut(serial),
            Asked::PubRec(serial) => self.pubrecs.get_mut(serial),
            _ => None,
        }
    }

    /// The receipt of a QoS 2 message under its name of this number. Identifiers of copies might be
    /// those of other messages under way; rather twice than never.
    fn receipt(&self, id: PacketId, number: usize) -> Option<Slot> {
        let copies = self.options.rules.copies_in();
        let mut others = self.unreleased.iter().filter(|other| **other != id);
        if copies > 1 && others.any(|other| may_collide(id, *other, copies)) {
            return None;
        }
        Some(copy_id(id, number))
    }

    /// Does not pass a message on; the peer is told that it is done with it.
    fn decline(&mut self, asked: Option<Asked>, reason: ReasonCode) {
        if let Some(incoming) = self.incoming(asked) {
            incoming.missing = 0;
            incoming.reason = reason;
        }
        self.acknowledge_taken();
    }

    /// The realm took one copy, durably where that was promised.
    pub(super) fn taken(&mut self, serial: u64, exactly_once: bool) {
        self.answer(serial, exactly_once, ReasonCode::Success);
    }

    /// The realm did not take one copy. What it will never take is acknowledged; what it may take
    /// later is not, so that the peer keeps it.
    pub(super) fn turned_down(&mut self, serial: u64, exactly_once: bool, kind: ErrorKind) {
        let is_final = matches!(
            kind,
            ErrorKind::NotAuthorized
                | ErrorKind::InvalidTopic
                | ErrorKind::InvalidArgument
                | ErrorKind::PayloadTooLarge
                | ErrorKind::OptionNotAllowed
                | ErrorKind::FeatureNotSupported
                | ErrorKind::ConditionFailed
                | ErrorKind::LockHeld
        );
        if !is_final {
            self.farewell(ReasonCode::ImplementationSpecificError);
            return self.end(End::NotTaken);
        }
        count(&self.counters.refused_here);
        // To the peer it is done: it could do nothing about a refusal.
        self.answer(serial, exactly_once, ReasonCode::Success);
    }

    fn answer(&mut self, serial: u64, exactly_once: bool, reason: ReasonCode) {
        let asked = if exactly_once {
            Asked::PubRec(serial)
        } else {
            Asked::PubAck(serial)
        };
        let Some(incoming) = self.incoming(Some(asked)) else {
            return self.end(End::SessionEnded);
        };
        incoming.missing = incoming.missing.saturating_sub(1);
        incoming.reason = incoming.reason.max(reason);
        self.acknowledge_taken();
    }

    /// Acknowledges what is answered and next in order.
    fn acknowledge_taken(&mut self) {
        while let Some(done) = self.pubacks.pop_if(|front| front.missing == 0) {
            self.acknowledge(PacketType::PubAck, done.id, done.reason);
        }
        while let Some(done) = self.pubrecs.pop_if(|front| front.missing == 0) {
            if done.reason.is_error() && self.version.is_v5() {
                self.unreleased.remove(&done.id); // [MQTT-4.3.3-9]
            }
            self.acknowledge(PacketType::PubRec, done.id, done.reason);
        }
    }

    /// PUBREL: the realm forgets the receipts, then PUBCOMP `[MQTT-4.3.3-11]`.
    pub(super) fn pubrel(&mut self, id: PacketId) {
        if self.releasing.contains_key(&id) {
            return;
        }
        let copies = self.options.rules.copies_in().max(1);
        let releasing = Releasing {
            missing: copies,
            is_known: false,
        };
        self.releasing.insert(id, releasing);
        for number in 0..copies {
            let request = Asked::PubComp(id).request();
            let receipt = copy_id(id, number);
            self.command(Command::ReleaseReceipt { request, receipt });
        }
    }

    pub(super) fn released(&mut self, id: PacketId, known: bool) {
        let Some(releasing) = self.releasing.get_mut(&id) else {
            return self.end(End::SessionEnded);
        };
        releasing.missing = releasing.missing.saturating_sub(1);
        releasing.is_known |= known;
        if releasing.missing > 0 {
            return;
        }
        // What was not passed on left no receipt, yet the peer is right to ask.
        let is_known = releasing.is_known | self.unreleased.remove(&id);
        self.releasing.remove(&id);
        let reason = if is_known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.acknowledge(PacketType::PubComp, id, reason);
    }

    /// Sends an acknowledgement; `kind` is PUBACK, PUBREC or PUBCOMP.
    fn acknowledge(&mut self, kind: PacketType, id: PacketId, reason: ReasonCode) {
        let most = self.peer.limits.maximum_packet_size;
        let is_short = reason == ReasonCode::Success || !self.version.is_v5();
        if is_short && most.is_none_or(|most| most >= SHORT_ACK) {
            let out = self.output.batch();
            return match kind {
                PacketType::PubAck => encode_puback(id, out),
                PacketType::PubRec => encode_pubrec(id, out),
                _ => encode_pubcomp(id, out),
            };
        }
        let ack = Ack::with_reason(id, reason);
        self.send(&match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            _ => Packet::PubComp(ack),
        });
    }
}

/// Adds routers to the way a message took.
fn with_way(attributes: Option<Box<Attributes>>, added: &[ByteString]) -> Option<Box<Attributes>> {
    if added.is_empty() {
        return attributes;
    }
    let mut attributes = attributes.unwrap_or_default();
    let added = added
        .iter()
        .map(|id| (ByteString::from_static(VIA), id.clone()));
    attributes.user_properties.extend(added);
    Some(attributes)
}
