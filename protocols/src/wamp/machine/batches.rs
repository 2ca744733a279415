//! Several messages in one frame, both ways (section "Batched Transport").

use super::{State, WampMachine, output};
use crate::wamp::batch::Batch;
use bytes::Bytes;
use router_core::model::Now;

/// So many messages of a batch are looked at before what they ask for is done: the realm is not
/// held longer for it, and no more commands wait than frames of one turn would make.
const MESSAGES_AT_ONCE: usize = 256;

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

    /// Sends an encoded message, or adds it to the frame that is sent next.
    pub(super) fn send(&mut self, message: Bytes) {
        let full = match &mut self.gatherer {
            Some(gatherer) => gatherer.add(self.encoding, &message),
            None => Some(message),
        };
        let frames = full.map(|frame| output(self.encoding, frame));
        self.outputs.extend(frames);
    }

    /// What was gathered becomes a frame.
    pub(super) fn send_gathered(&mut self) {
        let frame = self.gatherer.as_mut().and_then(|gatherer| gatherer.take());
        let frame = frame.map(|frame| output(self.encoding, frame));
        self.outputs.extend(frame);
    }
}
