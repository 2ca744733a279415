//! Sends messages of its streams in turn.

use super::Share;
use crate::cli::bench::line::{Role, has_room};
use crate::cli::bench::peer::{Heard, PubSub};
use crate::cli::bench::run::{Run, Stage};
use crate::cli::bench::stamp::Stamp;
use bytes::BytesMut;
use std::rc::Rc;

/// Deletions that are under way at a time.
const ERASING_MAX: u64 = 64;

/// See the [module](self).
pub(in crate::cli::bench) struct Publisher {
    run: Rc<Run>,
    share: Share,
    /// By the place of the topic at its peer.
    streams: Vec<u32>,
    padding: Rc<[u8]>,
    sent: u64,
    /// Deletions that were sent, and acknowledged.
    erasures: (u64, u64),
}

impl Publisher {
    /// One that has sent nothing.
    pub(in crate::cli::bench) fn new(
        run: Rc<Run>,
        share: Share,
        streams: Vec<u32>,
        padding: Rc<[u8]>,
    ) -> Publisher {
        Publisher {
            run,
            share,
            streams,
            padding,
            sent: 0,
            erasures: (0, 0),
        }
    }

    fn publish<P: PubSub>(
        &mut self,
        peer: &mut P,
        out: &mut BytesMut,
    ) -> Result<Option<u64>, String> {
        let Some(flow) = self.run.flows.get(self.share.index) else {
            return Ok(None);
        };
        let now = self.run.now();
        let pace = self.share.pace(self.run.start());
        let allowed = pace.allows(now, self.sent, flow.under_way());
        let mut left = allowed.min(self.share.left(self.sent)).min(peer.room());
        let count = self.streams.len().max(1) as u64;
        while left > 0 && has_room(out) {
            let at = (self.sent % count) as usize;
            let stamp = Stamp {
                time: pace.intended(self.sent, now),
                stream: self.streams.get(at).copied().unwrap_or_default(),
                sequence: self.sent / count,
            };
            peer.publish(at, stamp, &self.padding, out)?;
            flow.send();
            self.sent += 1;
            left -= 1;
        }
        Ok(self.share.next(&pace, self.sent, now))
    }

    fn erase<P: PubSub>(&mut self, peer: &mut P, out: &mut BytesMut) -> Result<(), String> {
        let (sent, done) = &mut self.erasures;
        let total = self.sent.min(self.streams.len() as u64);
        while *sent < total && *sent - *done < ERASING_MAX.min(peer.room()) {
            peer.erase(*sent as usize, out)?;
            *sent += 1;
        }
        Ok(())
    }
}

impl<P: PubSub> Role<P> for Publisher {
    fn hear(&mut self, heard: Heard<'_>, _now: u64) -> Result<(), String> {
        if !matches!(heard, Heard::Acknowledged) {
            return Ok(());
        }
        self.run.hear();
        if self.run.stage() == Stage::Erasing {
            self.erasures.1 += 1;
            self.run.erase();
        } else if let Some(flow) = self.run.flows.get(self.share.index) {
            flow.acknowledge();
        }
        Ok(())
    }

    fn fill(&mut self, peer: &mut P, out: &mut BytesMut) -> Result<Option<u64>, String> {
        match self.run.stage() {
            Stage::Running => self.publish(peer, out),
            Stage::Erasing => self.erase(peer, out).map(|()| None),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::flow::Flow;
    use crate::cli::bench::mqtt::{Manner, MqttPeer};
    use crate::cli::bench::settings::Rhythm;
    use crate::cli::bench::topic::Filter;
    use protocols::mqtt::codec::{Decoder, Limits};
    use protocols::mqtt::packet::{Direction, Packet, ProtocolVersion, QoS};

    const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;

    fn publisher(rhythm: Rhythm, limit: u64) -> (Publisher, MqttPeer) {
        let run = Run::new(vec![Flow::new(1, false)], vec![0, 0]).expect("bounds");
        let share = Share {
            index: 0,
            count: 1,
            rhythm,
            limit: Some(limit),
        };
        let padding = Rc::from(&b"xyz"[..]);
        let publisher = Publisher::new(Rc::new(run), share, vec![0, 1], padding);
        let manner = Manner {
            version: VERSION,
            qos: QoS::AtMostOnce,
            username: None,
            password: None,
            size: 19,
        };
        let mut peer = MqttPeer::new(manner, "c".to_owned());
        peer.aim(&[Filter::new("a"), Filter::new("b")], false, b"xyz");
        (publisher, peer)
    }

    fn stamps(out: &mut BytesMut) -> Vec<Stamp> {
        let direction = Direction::ClientToServer;
        let mut decoder = Decoder::new(direction, Some(VERSION), Limits::default());
        let mut stamps = Vec::new();
        while let Some(Packet::Publish(publish)) = decoder.decode(out).expect("legal") {
            stamps.extend(Stamp::find(&publish.payload));
        }
        stamps
    }

    #[test]
    fn nothing_is_sent_before_and_after_the_run() {
        let (mut publisher, mut peer) = publisher(Rhythm::Window(64), 10);
        let mut out = BytesMut::new();
        for stage in [Stage::Opening, Stage::Draining, Stage::Asking] {
            publisher.run.enter(stage);
            assert_eq!(publisher.fill(&mut peer, &mut out), Ok(None));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn streams_take_turns_and_each_counts_for_itself() {
        let (mut publisher, mut peer) = publisher(Rhythm::Window(64), 5);
        publisher.run.enter(Stage::Running);
        let mut out = BytesMut::new();
        assert_eq!(publisher.fill(&mut peer, &mut out), Ok(None));
        let found = stamps(&mut out).into_iter();
        let found: Vec<_> = found.map(|stamp| (stamp.stream, stamp.sequence)).collect();
        assert_eq!(found, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]);
        assert_eq!(publisher.run.flows[0].sent(), 5);
    }

    #[test]
    fn at_a_fixed_rate_a_message_carries_the_time_at_which_it_was_due() {
        let (mut publisher, mut peer) = publisher(Rhythm::Rate(100_000.0), 1000);
        publisher.run.enter(Stage::Running);
        let start = publisher.run.start();
        let mut out = BytesMut::new();
        while publisher.sent < 1000 {
            publisher.fill(&mut peer, &mut out).expect("fits");
        }
        let times: Vec<u64> = stamps(&mut out).iter().map(|stamp| stamp.time).collect();
        let due: Vec<u64> = (0..1000).map(|n| start + 10 * n).collect();
        assert_eq!(times, due);
    }
}
