//! What waits to go to the transport: small packets together, large payloads uncopied.

use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A payload above this many bytes goes out as it is; copying less is cheaper than one more piece.
pub(super) const BIG_PAYLOAD: usize = 4_096;
/// A batch of this many bytes is closed, so that it never grows by copying itself.
const FULL_BATCH: usize = 32_768;
/// A buffer larger than this is given back when it is empty: an idle connection keeps little.
const KEPT_CAPACITY: usize = 8_192;

#[derive(Debug, Default)]
pub(in crate::mqtt) struct Outputs {
    batch: BytesMut,
    /// Bytes of the last batch: room for as many is made at once.
    last: usize,
    sealed: VecDeque<Bytes>,
    close: Option<Box<(u16, &'static str)>>,
    closed: bool,
}

impl Outputs {
    /// The buffer that the next packet is appended to.
    pub(in crate::mqtt) fn batch(&mut self) -> &mut BytesMut {
        if self.batch.len() >= FULL_BATCH {
            self.seal();
        }
        if self.batch.is_empty() {
            self.batch.reserve(self.last);
        }
        &mut self.batch
    }

    /// What was appended to the batch since it had `start` bytes.
    pub(super) fn since(&self, start: usize) -> &[u8] {
        self.batch.get(start..).unwrap_or_default()
    }

    /// Appends the payload of the PUBLISH whose head is at the end of the batch.
    pub(in crate::mqtt) fn payload(&mut self, payload: &Bytes) {
        if payload.len() > BIG_PAYLOAD {
            self.seal();
            self.sealed.push_back(payload.clone());
        } else {
            self.batch.extend_from_slice(payload);
        }
    }

    /// Gives back the memory of what is empty.
    pub(super) fn rest(&mut self) {
        if self.batch.is_empty() {
            self.batch = BytesMut::new();
        }
        self.last = 0;
        if self.sealed.is_empty() {
            self.sealed = VecDeque::new();
        }
    }

    /// Closes the transport once everything before is out.
    pub(in crate::mqtt) fn close(&mut self, code: u16, reason: &'static str) {
        self.close.get_or_insert_with(|| Box::new((code, reason)));
    }

    pub(in crate::mqtt) fn poll(&mut self) -> Option<Output> {
        if self.sealed.is_empty() {
            self.seal();
        }
        if let Some(bytes) = self.sealed.pop_front() {
            return Some(Output::Bytes(bytes));
        }
        if self.closed {
            return None;
        }
        let (code, reason) = **self.close.as_ref()?;
        self.closed = true;
        Some(Output::Close { code, reason })
    }

    fn seal(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let full = if self.batch.capacity() > KEPT_CAPACITY {
            std::mem::take(&mut self.batch)
        } else {
            self.batch.split()
        };
        self.last = full.len();
        self.sealed.push_back(full.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(outputs: &mut Outputs) -> Vec<Bytes> {
        std::iter::from_fn(|| outputs.poll())
            .map(|output| match output {
                Output::Bytes(bytes) => bytes,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn small_packets_leave_together_and_large_payloads_alone() {
        let mut outputs = Outputs::default();
        outputs.batch().extend_from_slice(b"one");
        outputs.batch().extend_from_slice(b"two");
        assert_eq!(pieces(&mut outputs), ["onetwo"]);
        let large = Bytes::from(vec![7; BIG_PAYLOAD + 1]);
        outputs.batch().extend_from_slice(b"head");
        outputs.payload(&large);
        outputs.batch().extend_from_slice(b"head");
        outputs.payload(&Bytes::from_static(b"small"));
        let sent = pieces(&mut outputs);
        assert_eq!(sent, [&b"head"[..], &large, b"headsmall"]);
        assert_eq!(sent[1].as_ptr(), large.as_ptr(), "not copied");
    }

    #[test]
    fn close_comes_last_and_once() {
        let mut outputs = Outputs::default();
        outputs.close(1000, "bye");
        outputs.close(1002, "again");
        outputs.batch().extend_from_slice(b"late");
        assert!(matches!(outputs.poll(), Some(Output::Bytes(_))));
        assert!(matches!(
            outputs.poll(),
            Some(Output::Close {
                code: 1000,
                reason: "bye"
            })
        ));
        assert!(outputs.poll().is_none());
    }

    #[test]
    fn a_batch_does_not_grow_without_end() {
        let mut outputs = Outputs::default();
        for _ in 0..100 {
            outputs.batch().extend_from_slice(&[0; 1_000]);
        }
        assert!(outputs.batch.len() <= FULL_BATCH + 1_000);
        assert_eq!(
            pieces(&mut outputs).iter().map(Bytes::len).sum::<usize>(),
            100_000
        );
    }
}
