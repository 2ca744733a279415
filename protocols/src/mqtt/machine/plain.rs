//! The fast way for what most clients send all the time: PUBLISHes without properties to topics they have published to
//! before, and acknowledgements without more than an identifier. Everything else, and whatever is wrong, goes the long
//! way, which comes to the same end.

use super::incoming::receipt_of;
use super::{Asked, MqttMachine, Phase, map};
use crate::mqtt::codec::ACK_BYTES;
use crate::mqtt::packet::{PacketId, PacketType, QoS};
use crate::mqtt::reason::ReasonCode;
use bytes::{Buf as _, BytesMut};
use router_core::model::{self, Command, Now, Payload, Topic};
use std::hash::BuildHasher;
use std::ops::Range;

/// Topics that a connection remembers.
const KNOWN: usize = 16;

/// Topics that this client has published to and that passed every check of the machine. Each has one place, which the
/// next one with the same place takes. Made with the first one.
#[derive(Debug, Default)]
pub(super) struct KnownTopics(Option<Box<Known>>);

#[derive(Debug, Default)]
struct Known {
    places: [Option<Topic>; KNOWN],
    hash: foldhash::fast::RandomState,
    /// PUBLISHes that are being taken together; empty otherwise.
    run: Vec<Plain>,
}

impl Known {
    fn place_of(&self, text: &[u8]) -> usize {
        self.hash.hash_one(text) as usize % KNOWN
    }

    fn get(&self, text: &[u8]) -> Option<&Topic> {
        let known = self.places.get(self.place_of(text))?.as_ref()?;
        (known.text().as_bytes() == text).then_some(known)
    }
}

impl KnownTopics {
    pub(super) fn add(&mut self, topic: &Topic) {
        let known = self.0.get_or_insert_default();
        let place = known.place_of(topic.text().as_bytes());
        if let Some(place) = known.places.get_mut(place) {
            *place = Some(topic.clone());
        }
    }

    /// Gives back the memory.
    pub(super) fn rest(&mut self) {
        self.0 = None;
    }
}

/// One of a run of PUBLISHes.
#[derive(Debug)]
pub(super) struct Plain {
    topic: Topic,
    qos: QoS,
    retain: bool,
    packet_id: Option<PacketId>,
    /// Where its payload lies in the run.
    payload: Range<usize>,
}

impl MqttMachine {
    /// Takes the PUBLISHes at the front that can go the fast way; their payloads share one buffer.
    pub(super) fn plain_publishes(&mut self, now: Now, bytes: &mut BytesMut) {
        if self.phase != Phase::Live || self.hears_nothing() {
            return;
        }
        let end = self.find_run(bytes);
        if end == 0 {
            return;
        }
        self.last_packet = now.instant;
        let frames = bytes.split_to(end).freeze();
        let run = self.known_topics.0.as_mut();
        let mut run = run.map_or_else(Vec::new, |known| std::mem::take(&mut known.run));
        for plain in run.drain(..) {
            let asked = match self.expect(plain.qos, plain.packet_id) {
                Ok(asked) => asked,
                // Nothing behind a fault is heard.
                Err((reason, message)) => {
                    self.broken(reason, message);
                    break;
                }
            };
            let payload = Payload::bytes(frames.slice(plain.payload), false);
            self.command(Command::Publish(Box::new(model::Publish {
                request: asked.map(Asked::request),
                qos: map::assurance(plain.qos),
                retain: plain.retain,
                exclude_me: false,
                receipt: receipt_of(plain.qos, plain.packet_id),
                ..model::Publish::new(plain.topic, payload)
            })));
        }
        if let Some(known) = &mut self.known_topics.0 {
            known.run = run;
        }
    }

    /// Takes the acknowledgements at the front that can go the fast way.
    pub(super) fn plain_acks(&mut self, now: Now, bytes: &mut BytesMut) {
        if self.phase != Phase::Live {
            return;
        }
        let mut end = 0;
        while !self.hears_nothing()
            && let Some(rest) = bytes.get(end..)
            && let Some((kind, id)) = self.decoder.plain_ack(rest)
        {
            end += ACK_BYTES;
            match kind {
                PacketType::PubAck => self.puback(now, id),
                PacketType::PubRec => self.pubrec(now, id, ReasonCode::Success),
                PacketType::PubRel => self.pubrel(id),
                _ => self.pubcomp(now, id),
            }
        }
        if end > 0 {
            self.last_packet = now.instant;
            bytes.advance(end);
        }
    }

    /// Fills the run; answers how many bytes it has.
    fn find_run(&mut self, bytes: &BytesMut) -> usize {
        let Some(known) = &mut self.known_topics.0 else {
            return 0;
        };
        known.run.clear();
        let mut start = 0;
        while let Some(rest) = bytes.get(start..)
            && let Some(publish) = self.decoder.plain_publish(rest)
            && let Some(topic) = known.get(publish.topic).cloned()
        {
            let end = start + publish.payload.end;
            known.run.push(Plain {
                topic,
                qos: publish.qos,
                retain: publish.retain,
                packet_id: publish.packet_id,
                payload: start + publish.payload.start..end,
            });
            start = end;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every connection there is; what is seldom there is in a box.
    #[test]
    fn a_machine_has_little_room_for_what_most_never_need() {
        let size = size_of::<MqttMachine>();
        assert!(size <= 472, "{size}");
    }
}
