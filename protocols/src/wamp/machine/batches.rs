//! Several messages in one frame, both ways (section "Batched Transport").

use super::{State, WampMachine, output};
use crate::wamp::batch::Batch;
use bytes::{Bytes, BytesMut};
use router_core::encoding::Encoding;
use router_core::model::Now;

/// So many messages of a batch are looked at before what they ask for is done: the realm is not
/// held longer for it, and no more commands wait than frames of one turn would make.
const MESSAGES_AT_ONCE: usize = 256;

/// Messages of this length are not copied any more, in bytes.
const LONG_BYTES: usize = 4 << 10;

/// A larger buffer is given back at once, in bytes.
const KEPT_BYTES: usize = 256 << 10;

impl WampMachine {
    /// Takes a batch and its first messages. The driver shows no further frame before the rest is
    /// taken; whoever does nevertheless finds the order kept.
    pub(super) fn take_batch(&mut self, now: Now, frame: Bytes) {
        while self.unread.is_some() {
            self.take_unread(now);
        }
        match Batch::new(self.encoding, frame) {
            Ok(batch) if !matches!(self.state, State::Closed) => {
                self.unread = Some(batch);
                self.take_unread(now);
            }
            Ok(_) => {}
            Err(violation) => self.violation(&violation.to_string()),
        }
    }

    /// Takes the next messages of the batch. Whatever ends the connection ends the batch.
    pub(super) fn take_unread(&mut self, now: Now) {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(batch) = &mut self.unread else {
                return;
            };
            match batch.next() {
                Ok(Some(message)) => self.take_message(now, message),
                Ok(None) => self.unread = None,
                Err(violation) => self.violation(&violation.to_string()),
            }
        }
        if self.unread.as_ref().is_some_and(Batch::is_empty) {
            self.unread = None;
        }
    }

    /// Sends the message that was made in the buffer, or adds it to the frame that is sent next.
    pub(super) fn send_made(&mut self) {
        let Some(gatherer) = &mut self.gatherer else {
            self.send_alone();
            return;
        };
        let full = gatherer.add(self.encoding, &self.buffer);
        self.buffer.clear();
        let frame = full.map(|frame| output(self.encoding, frame));
        self.outputs.extend(frame);
    }

    /// Short messages stay where they were made; a long one, and what comes behind it, gets a piece of its own.
    fn send_alone(&mut self) {
        let made = self.buffer.len() - self.ready_bytes;
        if made < LONG_BYTES && self.outputs.is_empty() {
            self.ready.push_back(made);
            self.ready_bytes += made;
            return;
        }
        let frame = self.buffer.split_off(self.ready_bytes).freeze();
        self.outputs.push_back(output(self.encoding, frame));
    }

    /// The next of the messages that are made.
    pub(super) fn next_ready(&mut self) -> Option<Bytes> {
        let length = self.ready.pop_front()?;
        self.ready_bytes -= length;
        Some(self.buffer.split_to(length).freeze())
    }

    /// All of them; the buffer stays for others.
    pub(super) fn take_ready(&mut self, take: &mut dyn FnMut(&[u8], bool)) {
        let is_text = self.encoding == Encoding::Json;
        let mut rest = &self.buffer[..];
        for length in self.ready.drain(..) {
            let (message, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            take(message, is_text);
            rest = behind;
        }
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        self.ready_bytes = 0;
    }

    /// What was gathered becomes a frame.
    pub(super) fn send_gathered(&mut self) {
        let frame = self.gatherer.as_mut().and_then(|gatherer| gatherer.take());
        let frame = frame.map(|frame| output(self.encoding, frame));
        self.outputs.extend(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Gate as _, Output};
    use crate::wamp::machine::WampOptions;
    use std::time::Instant;

    fn machine() -> WampMachine {
        let now = Now {
            instant: Instant::now(),
            unix_ms: 0,
        };
        WampMachine::new(now, Encoding::Json, WampOptions::default())
    }

    fn say(machine: &mut WampMachine, message: &str) {
        machine.buffer.extend_from_slice(message.as_bytes());
        assert!(machine.try_send_buffer());
    }

    fn polled(machine: &mut WampMachine) -> Vec<String> {
        let text = |output| match output {
            Output::Text(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| machine.poll_output())
            .map(text)
            .collect()
    }

    fn taken(machine: &mut WampMachine) -> Vec<String> {
        let mut all = Vec::new();
        machine.take_messages(&mut |message, is_text| {
            assert!(is_text);
            all.push(String::from_utf8_lossy(message).into_owned());
        });
        all
    }

    #[test]
    fn messages_leave_in_their_order_whoever_takes_them() {
        let long = "y".repeat(LONG_BYTES);
        let all = ["[1]", "[22]", &long, "[3]", "", &long];
        let mut machine = machine();
        for is_taken in [false, true, true] {
            all.iter().for_each(|message| say(&mut machine, message));
            let mut out = Vec::new();
            if is_taken {
                out = taken(&mut machine);
                assert_eq!(out, all[..2], "a long one has a piece of its own");
            }
            out.extend(polled(&mut machine));
            assert_eq!(out, all);
        }
    }

    #[test]
    fn some_may_be_taken_one_by_one_and_the_rest_together() {
        let mut machine = machine();
        for message in ["[1]", "[2]", "[3]"] {
            say(&mut machine, message);
        }
        assert!(machine.poll_output().is_some());
        say(&mut machine, "[4]");
        assert_eq!(taken(&mut machine), ["[2]", "[3]", "[4]"]);
        assert!(taken(&mut machine).is_empty() && machine.poll_output().is_none());
    }

    #[test]
    fn what_the_peer_does_not_take_leaves_no_trace() {
        let mut machine = machine();
        machine.options.peer_bytes_max = 4;
        say(&mut machine, "[1]");
        machine.buffer.extend_from_slice(b"[22,22]");
        assert!(!machine.try_send_buffer());
        say(&mut machine, "[3]");
        assert_eq!(polled(&mut machine), ["[1]", "[3]"]);
    }
}
