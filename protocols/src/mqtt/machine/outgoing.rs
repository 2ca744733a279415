//! Messages to the client and its acknowledgements (5.0 sections 3.3 to 3.7, 4.3, 4.4, 4.9).

use super::MqttMachine;
use super::aliases::Alias;
use super::options::count;
use super::output::BIG_PAYLOAD;
use crate::mqtt::codec::{PublishHead, encode_pubrel};
use crate::mqtt::inflight::Owed;
use crate::mqtt::map;
use crate::mqtt::packet::{Ack, Packet, PacketId, QoS};
use crate::mqtt::reason::ReasonCode;
use bytes::Bytes;
use router_core::model::{Command, EventDelivery, Now, Slot};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Marks what this gate makes of events; other gates have other first bytes.
const KIND: u64 = 0x4D << 56;

/// Why a message is not sent; which counter it goes to.
type Dropped = fn(&super::MqttCounters) -> &AtomicU64;

impl MqttMachine {
    /// One message of the realm.
    pub(super) fn event(&mut self, now: Now, delivery: EventDelivery) {
        if delivery.slot.is_some() && !self.window.is_open() {
            self.window.hold(delivery);
        } else {
            self.send_event(now, &delivery);
        }
    }

    fn send_event(&mut self, now: Now, delivery: &EventDelivery) {
        self.lost = self.lost.saturating_add(delivery.lost);
        if let Err(dropped) = self.try_send_event(now, delivery) {
            count(dropped(&self.options.counters));
            // As if completed [MQTT-3.1.2-25].
            if let Some(slot) = delivery.slot {
                self.command(Command::Settle { slot });
            }
        }
    }

    fn try_send_event(&mut self, now: Now, delivery: &EventDelivery) -> Result<(), Dropped> {
        let event = &*delivery.event;
        // Expiry ends when sending has begun [MQTT-4.3.3-7].
        if !delivery.repeated && event.is_expired(now.unix_ms) {
            return Err(|counters| &counters.expired_unsent);
        }
        let alike = self.is_alike(delivery).then(|| self.kind_of(delivery));
        if let Some(packet) = alike.and_then(|kind| event.made.get(kind)) {
            self.output.batch().extend_from_slice(packet);
            return Ok(());
        }
        let (payload, shared) = map::outgoing(event).map_err(|_| not_deliverable as Dropped)?;
        let qos = match delivery.slot {
            Some(_) => map::qos(delivery.qos),
            None => QoS::AtMostOnce,
        };
        let packet_id = delivery.slot.filter(|_| qos != QoS::AtMostOnce);
        let head = PublishHead {
            dup: delivery.repeated && packet_id.is_some(), // [MQTT-3.3.1-1] to [MQTT-3.3.1-3]
            qos,
            retain: delivery.retain,
            topic: event.topic.text(),
            packet_id,
            topic_alias: None, // chosen when it is written
            message_expiry_interval: map::remaining_expiry(event, now.unix_ms),
            subscription_identifiers: &delivery.identifiers,
            shared_properties: &shared,
            payload_len: payload.len(),
        };
        let start = self.output.batch().len();
        self.write_publish(&head, &payload)?;
        let are_more = payload.len() <= BIG_PAYLOAD && Arc::strong_count(&delivery.event) > 1;
        if let Some(kind) = alike.filter(|_| are_more) {
            let packet = self.output.since(start);
            event.made.keep(kind, || Bytes::copy_from_slice(packet));
        }
        match (packet_id, qos) {
            (Some(id), QoS::ExactlyOnce) => self.window.sent(id, Owed::Receipt),
            (Some(id), _) => self.window.sent(id, Owed::Acknowledgement),
            (None, _) => {}
        }
        Ok(())
    }

    /// Whether the packet has nothing of this receiver's own, so that others of its kind get the same.
    fn is_alike(&self, delivery: &EventDelivery) -> bool {
        let event = &delivery.event;
        delivery.slot.is_none()
            && delivery.identifiers.is_empty()
            && self.lost == 0
            && event.expires_at_ms.is_none()
            && self.peer.maximum_packet_size.is_none()
            && self.outgoing_aliases.are_off()
    }

    /// What such packets differ in.
    fn kind_of(&self, delivery: &EventDelivery) -> u64 {
        KIND | u64::from(self.version.is_v5()) << 1 | u64::from(delivery.retain)
    }

    fn write_publish(&mut self, head: &PublishHead<'_>, payload: &Bytes) -> Result<(), Dropped> {
        let alias = if self.version.is_v5() {
            self.outgoing_aliases.of(head.topic)
        } else {
            Alias::None
        };
        if self.lost > 0 && self.version.is_v5() && self.write_marked(head, alias) {
            self.lost = 0;
        } else {
            self.write_head(head, alias)?;
        }
        self.output.payload(payload);
        Ok(())
    }

    /// Writes the head with a mark of the gap before it, if the client takes a packet of that size.
    fn write_marked(&mut self, head: &PublishHead<'_>, alias: Alias) -> bool {
        let Ok(mark) = map::lost_property(self.lost) else {
            return false;
        };
        let marked = [head.shared_properties, &mark].concat();
        let head = PublishHead {
            shared_properties: &marked,
            ..*head
        };
        self.write_head(&head, alias).is_ok()
    }

    /// Writes the head in the form that the alias allows; a new alias that makes the packet too
    /// large for the client is left out.
    fn write_head(&mut self, head: &PublishHead<'_>, alias: Alias) -> Result<(), Dropped> {
        match alias {
            Alias::None => self.write_form(head),
            Alias::Known(alias) => self.write_form(&PublishHead {
                topic: "",
                topic_alias: Some(alias),
                ..*head
            }),
            Alias::New(alias) => {
                let form = PublishHead {
                    topic_alias: Some(alias),
                    ..*head
                };
                if self.write_form(&form).is_ok() {
                    self.outgoing_aliases.sent(head.topic, alias);
                    return Ok(());
                }
                self.write_form(head)
            }
        }
    }

    /// Writes one form of the head, or nothing.
    fn write_form(&mut self, head: &PublishHead<'_>) -> Result<(), Dropped> {
        if let Some(most) = self.peer.maximum_packet_size {
            let size = head
                .encoded_len(self.version)
                .map_err(|_| not_deliverable as Dropped)?;
            // [MQTT-3.1.2-24]
            if size > most as usize {
                return Err(|counters| &counters.too_large_for_client);
            }
        }
        // A topic with `+` or U+0000 (which stands for a `/` inside a level) is no Topic Name: the
        // encoder refuses it [MQTT-3.3.2-2].
        head.encode(self.version, self.output.batch())
            .map_err(|_| not_deliverable as Dropped)
    }

    fn send_held(&mut self, now: Now) {
        while let Some(delivery) = self.window.take_held() {
            self.send_event(now, &delivery);
        }
    }

    /// On resume a PUBREL is repeated, never the PUBLISH before it `[MQTT-4.3.3-6]`.
    pub(super) fn release_delivered(&mut self, slot: Slot) {
        if self.window.owed(slot) != Some(Owed::Completion) {
            self.window.released_again(slot); // received in an earlier connection
        }
        self.release(slot, ReasonCode::Success);
    }

    pub(super) fn puback(&mut self, now: Now, id: PacketId) {
        match self.window.owed(id) {
            // Whatever its reason: acknowledged, never repeated [MQTT-4.4.0-2].
            Some(Owed::Acknowledgement) => self.settle(now, id),
            Some(_) => self.violation("PUBACK for a QoS 2 message"),
            None => count(&self.options.counters.acks_unknown),
        }
    }

    pub(super) fn pubrec(&mut self, now: Now, id: PacketId, reason: ReasonCode) {
        match self.window.owed(id) {
            Some(Owed::Acknowledgement) => self.violation("PUBREC for a QoS 1 message"),
            Some(_) if reason.is_error() => self.settle(now, id), // [MQTT-4.4.0-2]
            // PUBREL follows when the realm cannot forget it any more [MQTT-4.3.3-4].
            Some(_) => {
                self.window.advance(id);
                self.command(Command::Advance { slot: id });
            }
            None => {
                count(&self.options.counters.acks_unknown);
                // The client may forget it (5.0 section 3.6.2.1).
                if !reason.is_error() {
                    self.release(id, ReasonCode::PacketIdentifierNotFound);
                }
            }
        }
    }

    pub(super) fn pubcomp(&mut self, now: Now, id: PacketId) {
        match self.window.owed(id) {
            Some(Owed::Completion) => self.settle(now, id),
            Some(_) => self.violation("PUBCOMP without PUBREL"),
            None => count(&self.options.counters.acks_unknown),
        }
    }

    fn settle(&mut self, now: Now, slot: Slot) {
        self.window.settle(slot);
        self.command(Command::Settle { slot });
        self.send_held(now);
    }

    fn release(&mut self, id: PacketId, reason: ReasonCode) {
        if self.peer.maximum_packet_size.is_none()
            && (reason == ReasonCode::Success || !self.version.is_v5())
        {
            encode_pubrel(id, self.output.batch());
        } else {
            self.send(&Packet::PubRel(Ack::with_reason(id, reason)));
        }
    }
}

fn not_deliverable(counters: &super::MqttCounters) -> &AtomicU64 {
    &counters.not_deliverable
}
