//! Messages to the peer and its acknowledgements (5.0 sections 3.3 to 3.7, 4.3, 4.4, 4.9).

use super::exchange::{Owed, Step, copy_id};
use super::options::count;
use super::rules::Names;
use super::via::{self, VIA};
use super::{BridgeCounters, BridgeMachine};
use crate::mqtt::codec::{PublishHead, encode_pubrel, encode_shared_properties};
use crate::mqtt::map;
use crate::mqtt::packet::{Ack, Packet, PacketId, Properties, QoS};
use crate::mqtt::reason::ReasonCode;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::model::{Command, Delivery, Event, EventDelivery, Now, Slot};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message is not sent; which counter it goes to.
type Dropped = fn(&BridgeCounters) -> &AtomicU64;

/// A message on its way out, ready to be written.
struct Outgoing<'a> {
    delivery: &'a EventDelivery,
    payload: Bytes,
    shared: Cow<'a, [u8]>,
    names: Names,
}

impl BridgeMachine {
    /// One message of the realm. Those with a slot wait for the peer's subscriptions and for room,
    /// and never overtake each other `[MQTT-4.6.0-1]`.
    pub(super) fn event(&mut self, now: Now, delivery: EventDelivery) {
        if delivery.lost > 0 {
            let lost = u64::from(delivery.lost);
            self.counters.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if delivery.slot.is_some() && (!self.is_flowing || !self.held.is_empty()) {
            self.held.push_back(Delivery::Event(delivery));
        } else if let Some(waiting) = self.try_send(now, delivery) {
            self.held.push_back(Delivery::Event(waiting));
        }
    }

    /// Sends what was held, as far as there is room.
    pub(super) fn send_held(&mut self, now: Now) {
        while let Some(delivery) = self.held.pop_front() {
            match delivery {
                Delivery::Event(event) => {
                    if let Some(waiting) = self.try_send(now, event) {
                        self.held.push_front(Delivery::Event(waiting));
                        return;
                    }
                }
                Delivery::Release { slot } => self.send_release(slot),
                _ => {}
            }
        }
    }

    /// Sends a message, drops it, or gives it back because it must wait.
    fn try_send(&mut self, now: Now, delivery: EventDelivery) -> Option<EventDelivery> {
        let outgoing = match self.prepare(now, &delivery) {
            Ok(outgoing) => outgoing,
            Err(dropped) => {
                count(dropped(&self.counters));
                self.settle(delivery.slot);
                return None;
            }
        };
        let Some(slot) = delivery.slot else {
            self.send_copies(now, None, &outgoing);
            return None;
        };
        let sure = outgoing
            .names
            .iter()
            .filter(|(_, qos)| *qos > QoS::AtMostOnce);
        let publishes = sure.count().min(self.exchanges.maximum());
        if publishes > 0 && !self.exchanges.may_start(slot, publishes) {
            return Some(delivery);
        }
        self.send_copies(now, Some(slot), &outgoing);
        None
    }

    fn prepare<'a>(&self, now: Now, delivery: &'a EventDelivery) -> Result<Outgoing<'a>, Dropped> {
        let event = &*delivery.event;
        // Expiry ends when sending has begun [MQTT-4.3.3-7].
        if !delivery.repeated && event.is_expired(now.unix_ms) {
            return Err(|counters| &counters.expired);
        }
        let adds_own = self.way_out(event)?;
        let delivered = match delivery.slot {
            Some(_) => map::qos(delivery.qos).min(self.peer.maximum_qos),
            None => QoS::AtMostOnce,
        };
        if !event.topic.is_slash_safe() {
            return Err(not_deliverable);
        }
        let names = self.options.rules.outgoing(&event.topic, delivered);
        if names.is_empty() {
            return Err(|counters| &counters.unmapped);
        }
        let (payload, mut shared) = map::outgoing(event).map_err(|_| not_deliverable as Dropped)?;
        if adds_own {
            shared.to_mut().extend_from_slice(&self.own_via);
        }
        Ok(Outgoing {
            delivery,
            payload: payload.into_owned(),
            shared,
            names,
        })
    }

    /// Whether this router's id is to be added; only 5.0 can carry it.
    fn way_out(&self, event: &Event) -> Result<bool, Dropped> {
        let passed = event.attributes.as_deref();
        let passed = passed.map_or(&[][..], |attributes| &attributes.user_properties);
        let (own, peer) = (&self.options.router_id, self.peer.id.as_ref());
        via::going_out(passed, own, peer)
            .map(|adds| adds && self.version.is_v5())
            .map_err(|via::Looped| (|counters| &counters.looped) as Dropped)
    }

    fn send_copies(&mut self, now: Now, slot: Option<Slot>, outgoing: &Outgoing<'_>) {
        let mut open: SmallVec<[(PacketId, Owed); 1]> = SmallVec::new();
        let mut is_sent = false;
        for (number, (name, qos)) in outgoing.names.iter().enumerate() {
            let mut qos = *qos;
            if qos > QoS::AtMostOnce && open.len() >= self.exchanges.maximum() {
                count(&self.counters.downgraded);
                qos = QoS::AtMostOnce;
            }
            let id = slot.filter(|_| qos > QoS::AtMostOnce);
            let id = id.map(|slot| copy_id(slot, number));
            match self.write_publish(now, outgoing, name, qos, id) {
                Ok(()) => is_sent = true,
                Err(dropped) => {
                    count(dropped(&self.counters));
                    continue;
                }
            }
            match (id, qos) {
                (Some(id), QoS::ExactlyOnce) => open.push((id, Owed::Receipt)),
                (Some(id), _) => open.push((id, Owed::Acknowledgement)),
                (None, _) => {}
            }
        }
        if is_sent {
            count(&self.counters.messages_out);
        }
        match slot {
            Some(slot) if !open.is_empty() => self.exchanges.start(slot, open),
            // As if completed [MQTT-3.1.2-25].
            slot => self.settle(slot),
        }
    }

    fn write_publish(
        &mut self,
        now: Now,
        outgoing: &Outgoing<'_>,
        name: &ByteString,
        qos: QoS,
        packet_id: Option<PacketId>,
    ) -> Result<(), Dropped> {
        let Outgoing {
            delivery,
            payload,
            shared,
            ..
        } = outgoing;
        let head = PublishHead {
            // A peer that has forgotten us sees it for the first time [MQTT-3.3.1-1].
            dup: delivery.repeated && packet_id.is_some() && self.session_present,
            qos,
            retain: delivery.retain && self.peer.retain_available,
            topic: name,
            packet_id,
            topic_alias: None,
            message_expiry_interval: map::remaining_expiry(&delivery.event, now.unix_ms),
            subscription_identifiers: &[],
            shared_properties: shared,
            payload_len: payload.len(),
        };
        if let Some(most) = self.peer.limits.maximum_packet_size {
            let size = head
                .encoded_len(self.version)
                .map_err(|_| not_deliverable as Dropped)?;
            if size > most as usize {
                return Err(not_deliverable);
            }
        }
        head.encode(self.version, self.output.batch())
            .map_err(|_| not_deliverable as Dropped)?;
        self.output.payload(payload);
        Ok(())
    }

    /// The realm cannot forget that the peer has the message: PUBREL `[MQTT-4.3.3-4]`. On resume it
    /// is repeated, never the PUBLISH before it `[MQTT-4.3.3-6]`.
    pub(super) fn release_delivered(&mut self, slot: Slot) {
        if self.is_flowing {
            // Whatever is held has not begun, so this need not wait for it.
            self.send_release(slot);
        } else {
            self.held.push_back(Delivery::Release { slot });
        }
    }

    fn send_release(&mut self, slot: Slot) {
        if !self.session_present && !self.exchanges.is_open(slot) {
            // A peer without our session does not know the identifier any more.
            self.settle(Some(slot));
            return;
        }
        for id in self.exchanges.release(slot) {
            self.pubrel_out(id, ReasonCode::Success);
        }
    }

    pub(super) fn puback(&mut self, now: Now, ack: &Ack) {
        if ack.reason.is_error() {
            count(&self.counters.refused_by_peer);
        }
        let step = self.exchanges.puback(ack.packet_id);
        self.go_on(now, ack.packet_id, step);
    }

    pub(super) fn pubrec(&mut self, now: Now, ack: &Ack) {
        let is_error = ack.reason.is_error();
        if is_error {
            count(&self.counters.refused_by_peer);
        }
        let step = self.exchanges.pubrec(ack.packet_id, is_error);
        if step == Step::Unknown && !is_error {
            // The peer may forget it (5.0 section 3.6.2.1).
            self.pubrel_out(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
        }
        self.go_on(now, ack.packet_id, step);
    }

    pub(super) fn pubcomp(&mut self, now: Now, id: PacketId) {
        let step = self.exchanges.pubcomp(id);
        self.go_on(now, id, step);
    }

    fn go_on(&mut self, now: Now, id: PacketId, step: Step) {
        match step {
            Step::Unknown | Step::Wait => {}
            Step::Wrong => {
                let message = "an acknowledgement of the wrong kind";
                self.broken(ReasonCode::ProtocolError, message);
            }
            Step::Advance(slot) => self.command(Command::Advance { slot }),
            Step::ReleaseAgain => self.pubrel_out(id, ReasonCode::Success),
            Step::Settle(slot) => {
                self.settle(Some(slot));
                self.send_held(now);
            }
        }
    }

    fn settle(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.command(Command::Settle { slot });
        }
    }

    fn pubrel_out(&mut self, id: PacketId, reason: ReasonCode) {
        if self.peer.limits.maximum_packet_size.is_none()
            && (reason == ReasonCode::Success || !self.version.is_v5())
        {
            encode_pubrel(id, self.output.batch());
        } else {
            self.send(&Packet::PubRel(Ack::with_reason(id, reason)));
        }
    }
}

fn not_deliverable(counters: &BridgeCounters) -> &AtomicU64 {
    &counters.not_deliverable
}

/// This router's step on a message's way, as a property on the wire.
pub(super) fn encoded_via(router_id: &ByteString) -> Bytes {
    let set = Properties {
        user_properties: vec![(ByteString::from_static(VIA), router_id.clone())],
        ..Properties::default()
    };
    let mut written = BytesMut::new();
    // Too long an id writes nothing: then only prefixes and No Local prevent loops.
    let _ = encode_shared_properties(&set, &mut written);
    written.freeze()
}
