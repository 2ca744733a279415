//! The fast way for what most clients send all the time: PUBLISHes without properties to topics they have published to
//! before. Everything else, and whatever is wrong, goes the long way, which comes to the same end.

use super::incoming::receipt_of;
use super::{Asked, MqttMachine, Phase, map};
use crate::mqtt::packet::{PacketId, QoS};
use bytes::BytesMut;
use router_core::model::{self, Command, Now, Payload, Topic};
use std::hash::BuildHasher;
use std::ops::Range;

/// Topics that a connection remembers.
const KNOWN: usize = 16;

/// Topics that this client has published to and that passed every check of the machine. Each has one place, which the
/// next one with the same place takes.
#[derive(Debug, Default)]
pub(super) struct KnownTopics {
    places: Option<Box<[Option<Topic>; KNOWN]>>,
    hash: foldhash::fast::RandomState,
}

impl KnownTopics {
    fn place_of(&self, text: &[u8]) -> usize {
        self.hash.hash_one(text) as usize % KNOWN
    }

    fn get(&self, text: &[u8]) -> Option<&Topic> {
        let places = self.places.as_ref()?;
        let known = places.get(self.place_of(text))?.as_ref()?;
        (known.text().as_bytes() == text).then_some(known)
    }

    pub(super) fn add(&mut self, topic: &Topic) {
        let place = self.place_of(topic.text().as_bytes());
        let places = self.places.get_or_insert_default();
        if let Some(place) = places.get_mut(place) {
            *place = Some(topic.clone());
        }
    }

    /// Gives back the memory.
    pub(super) fn rest(&mut self) {
        self.places = None;
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
        if self.phase != Phase::Live {
            return;
        }
        let end = self.find_run(bytes);
        if end == 0 {
            return;
        }
        self.last_packet = now.instant;
        let frames = bytes.split_to(end).freeze();
        let mut run = std::mem::take(&mut self.run);
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
        self.run = run;
    }

    /// Fills `run`; answers how many bytes it has.
    fn find_run(&mut self, bytes: &BytesMut) -> usize {
        self.run.clear();
        let mut start = 0;
        while let Some(rest) = bytes.get(start..)
            && let Some(publish) = self.decoder.plain_publish(rest)
            && let Some(topic) = self.known_topics.get(publish.topic)
        {
            let end = start + publish.payload.end;
            self.run.push(Plain {
                topic: topic.clone(),
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
