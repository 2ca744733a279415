//! What comes from the router, and what a client makes of it.

use super::{MqttActor, State};
use crate::actor::{Cx, Phase};
use crate::ledger::{Interest, Uid};
use crate::net::{Item, LinkId};
use crate::wamp_end::uid_in;
use protocols::mqtt::packet::{Ack, ConnAck, Packet, PacketId, Publish, QoS};
use protocols::mqtt::reason::ReasonCode;
use router_core::limits::WhenFull;

impl MqttActor {
    pub(super) fn read(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(link) = self.link else { return false };
        let mut progress = false;
        while let Some(item) = cx.net.client_take(link, cx.now) {
            progress = true;
            match item {
                Item::Bytes(bytes) | Item::Binary(bytes) => self.input.extend_from_slice(&bytes),
                Item::Ping => cx.net.client_send(link, Item::Pong, cx.now, cx.dice),
                Item::Pong => {}
                Item::Text(_) => cx.ledger.fail("text in an MQTT connection"),
            }
        }
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => self.packet(packet, cx),
                Ok(None) => break,
                Err(error) => {
                    cx.ledger
                        .fail(format!("the router sent what cannot be decoded: {error:?}"));
                    break;
                }
            }
            if self.link != Some(link) {
                return true;
            }
        }
        if self.link == Some(link) && cx.net.client_ended(link, cx.now) {
            if self.state != State::Leaving {
                cx.ledger.closed_by_router(link, "end of stream");
            }
            self.lost(cx);
            return true;
        }
        progress
    }

    fn packet(&mut self, packet: Packet, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        match packet {
            Packet::ConnAck(ack) => self.connack(&ack, link, cx),
            _ if self.state == State::Connecting => {
                cx.ledger
                    .fail(format!("connection {link}: {packet:?} ahead of CONNACK"));
            }
            Packet::Publish(publish) => self.incoming(&publish, cx),
            Packet::PubRel(ack) => {
                self.received.remove(&ack.packet_id);
                self.acknowledge(Packet::PubComp(Ack::success(ack.packet_id)), cx);
            }
            Packet::PubAck(ack) => {
                let owed = self.owed_pubacks.pop_front();
                self.in_order("PUBACK", owed, ack.packet_id, cx);
                self.acknowledged(&ack, cx);
            }
            Packet::PubRec(ack) => {
                let owed = self.owed_pubrecs.pop_front();
                self.in_order("PUBREC", owed, ack.packet_id, cx);
                self.pubrec(&ack, cx);
            }
            Packet::PubComp(ack) => {
                let place = self
                    .owed_pubcomps
                    .iter()
                    .position(|id| *id == ack.packet_id);
                match place {
                    Some(place) => drop(self.owed_pubcomps.remove(place)),
                    None => cx
                        .ledger
                        .fail(format!("connection {link}: PUBCOMP for nothing: {ack:?}")),
                }
                self.out
                    .retain(|out| out.id != ack.packet_id || !out.released);
            }
            Packet::SubAck(ack) => self.suback(ack.packet_id, &ack.reasons, link, cx),
            Packet::UnsubAck(ack) => {
                if self.unsubscribing.take() != Some(ack.packet_id) {
                    cx.ledger
                        .fail(format!("connection {link}: {ack:?} for nothing"));
                }
            }
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                let how = format!("{disconnect:?}");
                if cx.ledger.tight && disconnect.reason == ReasonCode::QuotaExceeded {
                    cx.ledger.excuse(link, "too slow");
                }
                if self.state != State::Leaving {
                    cx.ledger.closed_by_router(link, &how);
                }
                self.lost(cx);
            }
            other => cx
                .ledger
                .fail(format!("connection {link}: unexpected {other:?}")),
        }
    }

    fn in_order(&self, kind: &str, owed: Option<PacketId>, got: PacketId, cx: &mut Cx<'_>) {
        if owed != Some(got) {
            cx.ledger.fail(format!(
                "client {}: {kind} {got} where {owed:?} is owed",
                self.client
            ));
        }
    }

    fn connack(&mut self, ack: &ConnAck, link: LinkId, cx: &mut Cx<'_>) {
        if self.state != State::Connecting {
            cx.ledger
                .fail(format!("connection {link}: a second CONNACK"));
            return;
        }
        if ack.reason != ReasonCode::Success {
            cx.ledger
                .closed_by_router(link, &format!("CONNACK {:?}", ack.reason));
            self.lost(cx);
            return;
        }
        cx.note(self.me, || {
            format!("is in on {link}, session present {}", ack.session_present)
        });
        let present = ack.session_present;
        if present && self.clean {
            cx.ledger.fail(format!(
                "client {}: session present after a clean start",
                self.client
            ));
        }
        if !present && self.has_session && !cx.ledger.tight {
            cx.ledger
                .fail(format!("client {}: its session is gone", self.client));
        }
        self.terms.accepted(ack);
        self.state = State::Up;
        self.anew = false;
        self.next_act = cx.now;
        cx.ledger.will_acked(link);
        if cx.phase == Phase::Leave {
            self.say_last_goodbye(cx);
            return;
        }
        if !present {
            self.forget(cx);
        }
        self.has_session = self.plan.persistent;
        if let Some(interest) = self.interest {
            cx.ledger.interest_linked(interest, true);
        }
        // [MQTT-4.4.0-1]: in the original order.
        for place in 0..self.out.len() {
            let out = &self.out[place];
            let (uid, released, id) = (out.uid, out.released, out.id);
            if released {
                self.send_release(id, cx);
            } else {
                let again = Publish {
                    dup: true,
                    ..out.publish.clone()
                };
                self.send_publish(uid, again, cx);
            }
        }
    }

    fn suback(&mut self, id: PacketId, reasons: &[ReasonCode], link: LinkId, cx: &mut Cx<'_>) {
        if self.subscribing.take() != Some(id) {
            cx.ledger
                .fail(format!("connection {link}: SUBACK {id} for nothing"));
            return;
        }
        let Some((filter, qos)) = self.plan.subscribes else {
            return;
        };
        match reasons {
            [code] if *code as u8 == qos => {
                let id = cx.ledger.interested(Interest {
                    actor: self.me,
                    filter: filter.to_owned(),
                    qos,
                    durable: self.plan.persistent,
                    own: true,
                    lossy: self.plan.packet.is_some(),
                    group: self.plan.group,
                    asked: self.asked.unwrap_or_default(),
                    told: self.plan.v5.then_some(0),
                    ..Interest::default()
                });
                self.interest = Some(id);
            }
            [code] if *code as u8 >= 0x80 && cx.ledger.store_failures > 0 => {
                self.next_act = cx.now + 500;
            }
            other => cx
                .ledger
                .fail(format!("connection {link}: SUBACK {other:?}")),
        }
    }

    fn incoming(&mut self, publish: &Publish, cx: &mut Cx<'_>) {
        let value: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
        let uid = uid_in(&value, &serde_json::Value::Null);
        let qos = publish.qos as u8;
        match self.terms.takes(publish) {
            Ok(topic) => self.check_topic(uid, &topic, cx),
            Err(what) => cx.ledger.fail(format!("client {}: {what}", self.client)),
        }
        cx.note(self.me, || {
            format!(
                "gets {uid:?} on {} qos {qos} id {:?} dup {}",
                publish.topic, publish.packet_id, publish.dup
            )
        });
        let give = match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(id)) => self.received.insert(id),
            _ => true,
        };
        if give {
            self.gap(uid, publish, cx);
            cx.ledger
                .received(self.me, uid, publish.dup, publish.retain);
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.acknowledge(Packet::PubAck(Ack::success(id)), cx),
            (QoS::ExactlyOnce, Some(id)) => self.acknowledge(Packet::PubRec(Ack::success(id)), cx),
            _ => {}
        }
    }

    fn check_topic(&self, uid: Option<Uid>, topic: &str, cx: &mut Cx<'_>) {
        let publications = &cx.ledger.publications;
        let known = uid.and_then(|uid| publications.get(usize::try_from(uid).ok()?));
        if let Some(meant) = known.map(|publication| publication.topic.clone())
            && meant != topic
        {
            let client = &self.client;
            cx.ledger.fail(format!(
                "client {client}: {uid:?} came on {topic:?} instead of {meant:?}"
            ));
        }
    }

    fn gap(&self, uid: Option<Uid>, publish: &Publish, cx: &mut Cx<'_>) {
        let marks = publish.properties.iter().flat_map(|p| &p.user_properties);
        let lost = marks
            .filter(|(name, _)| *name == "reynard-lost")
            .filter_map(|(_, count)| count.parse::<u64>().ok())
            .sum::<u64>();
        if let (Some(uid), Some(interest), true) = (uid, self.interest, lost > 0) {
            cx.ledger.gap(interest, uid, publish.dup, lost);
        }
    }

    /// Now or a little later, in order.
    fn acknowledge(&mut self, packet: Packet, cx: &mut Cx<'_>) {
        let delay = if cx.dice.permille(200) {
            cx.dice.range(0, 400)
        } else {
            0
        };
        let earliest = self.acks.back().map_or(0, |(at, _)| *at);
        self.acks
            .push_back(((cx.now + delay).max(earliest), packet));
    }

    fn acknowledged(&mut self, ack: &Ack, cx: &mut Cx<'_>) {
        let Some(place) = self.out.iter().position(|out| out.id == ack.packet_id) else {
            return;
        };
        let Some(out) = self.out.remove(place) else {
            return;
        };
        self.judge(out.uid, ack.reason, cx);
    }

    fn judge(&mut self, uid: Uid, reason: ReasonCode, cx: &mut Cx<'_>) {
        cx.note(self.me, || format!("publication {uid}: {reason:?}"));
        if !reason.is_error() {
            cx.ledger.acked(uid);
            return;
        }
        cx.ledger.refused(uid);
        let full = cx.ledger.queue_full == Some(WhenFull::RefusePublisher)
            && reason == ReasonCode::QuotaExceeded;
        if full {
            cx.ledger.count("publishes refused for full queues");
        }
        if cx.ledger.store_failures == 0 && !full {
            cx.ledger.fail(format!(
                "publication {uid} was refused without cause: {reason:?}"
            ));
        }
    }

    fn pubrec(&mut self, ack: &Ack, cx: &mut Cx<'_>) {
        let Some(place) = self.out.iter().position(|out| out.id == ack.packet_id) else {
            return;
        };
        let uid = self.out[place].uid;
        self.judge(uid, ack.reason, cx);
        if ack.reason.is_error() {
            self.out.remove(place);
            return;
        }
        self.out[place].released = true;
        self.send_release(ack.packet_id, cx);
    }
}
