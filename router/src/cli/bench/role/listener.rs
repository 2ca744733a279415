//! Receives messages and checks them.

use crate::cli::bench::check::Track;
use crate::cli::bench::line::Role;
use crate::cli::bench::peer::Heard;
use crate::cli::bench::run::{Run, Stage};
use crate::cli::bench::stamp::Stamp;
use bytes::BytesMut;
use foldhash::HashMap;
use std::rc::Rc;

/// See the [module](self).
pub(in crate::cli::bench) struct Listener {
    run: Rc<Run>,
    /// stream -> what came of it
    tracks: HashMap<u32, Track>,
    /// Publishers to be woken.
    touched: Vec<u32>,
}

impl Listener {
    /// One that has received nothing.
    pub(in crate::cli::bench) fn new(run: Rc<Run>) -> Listener {
        Listener {
            run,
            tracks: HashMap::default(),
            touched: Vec::new(),
        }
    }

    /// Takes in the payload of a message.
    pub(in crate::cli::bench) fn message(&mut self, payload: &[u8], now: u64) {
        let stamp = Stamp::find(payload).filter(|stamp| self.run.knows(stamp.stream));
        let Some(stamp) = stamp else {
            // Deletions of what was kept carry nothing.
            if !payload.is_empty() || self.run.stage() < Stage::Erasing {
                self.run.stranger();
            }
            return;
        };
        let track = self.tracks.entry(stamp.stream).or_default();
        self.touched.extend(self.run.deliver(stamp, track, now));
    }
}

impl<P> Role<P> for Listener {
    fn hear(&mut self, heard: Heard<'_>, now: u64) -> Result<(), String> {
        if let Heard::Message(payload) = heard {
            self.message(payload, now);
        }
        Ok(())
    }

    /// Publishers learn of what arrived once for all that was read together.
    fn pause(&mut self) {
        for publisher in self.touched.drain(..) {
            if let Some(flow) = self.run.flows.get(publisher as usize) {
                flow.wake();
            }
        }
    }

    fn fill(&mut self, _peer: &mut P, _out: &mut BytesMut) -> Result<Option<u64>, String> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::flow::Flow;

    fn listener() -> Listener {
        let flows = vec![Flow::new(1, false)];
        Listener::new(Rc::new(Run::new(flows, vec![0, 0]).expect("bounds")))
    }

    fn text(stream: u32, sequence: u64) -> [u8; 16] {
        let stamp = Stamp {
            time: 0,
            stream,
            sequence,
        };
        stamp.write()
    }

    #[test]
    fn each_stream_has_an_order_of_its_own() {
        let mut listener = listener();
        for (stream, sequence) in [(0, 0), (1, 0), (0, 1), (1, 2), (1, 1), (0, 1)] {
            listener.message(&text(stream, sequence), 5);
        }
        let tally = listener.run.tally.borrow();
        let counts = tally.counts;
        assert_eq!((counts.distinct, counts.late, counts.doubled), (5, 1, 1));
        assert_eq!((tally.strange, tally.latency.len()), (0, 6));
    }

    #[test]
    fn what_nobody_of_the_run_sent_is_counted_as_strange() {
        let mut listener = listener();
        for payload in [&b"hello"[..], b"", &text(2, 0)] {
            listener.message(payload, 5);
        }
        assert_eq!(listener.run.tally.borrow().strange, 3);
        listener.run.enter(Stage::Erasing);
        listener.message(b"", 5);
        assert_eq!(listener.run.tally.borrow().strange, 3);
    }

    #[test]
    fn what_is_asked_for_late_counts_from_then() {
        let mut listener = listener();
        listener.run.ask();
        listener.message(&text(0, 0), listener.run.now() + 1000);
        let latency = listener.run.tally.borrow().latency.max();
        assert!((1000..100_000_000).contains(&latency), "{latency}");
    }
}
