//! Batched messages (section "Batched Transport"): one frame, or body, holds one or more of them.
//!
//! In a text frame every message ends with U+001E, which JSON cannot contain; in a binary frame
//! its length in four big-endian bytes stands in front of it. A frame without a message is
//! illegal.

use super::errors::Violation;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use router_core::encoding::Encoding;

/// Ends every message of a text frame: the record separator.
const SEPARATOR: u8 = 0x1e;

/// A frame is sent when it holds this many bytes, and no message is added that would make it
/// longer; a longer message goes alone.
const FRAME_BYTES: usize = 64 << 10;

/// The messages of a frame that were not taken yet.
#[derive(Debug)]
pub struct Batch {
    encoding: Encoding,
    rest: Bytes,
}

impl Batch {
    /// Of a frame.
    ///
    /// # Errors
    /// A frame without a message.
    pub fn new(encoding: Encoding, frame: Bytes) -> Result<Batch, Violation> {
        if frame.is_empty() {
            return Err(Violation::EmptyBatch);
        }
        Ok(Batch {
            encoding,
            rest: frame,
        })
    }

    /// Whether all were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next message, still encoded; what follows is looked at when its turn comes.
    ///
    /// # Errors
    /// Where the frame ends within a message.
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Bytes>, Violation> {
        if self.is_empty() {
            return Ok(None);
        }
        let message = match self.encoding {
            Encoding::Json => self.next_text(),
            Encoding::MsgPack | Encoding::Cbor => self.next_binary(),
        };
        message.map(Some).ok_or(Violation::BrokenBatch)
    }

    fn next_text(&mut self) -> Option<Bytes> {
        let end = memchr::memchr(SEPARATOR, &self.rest)?;
        let message = self.rest.split_to(end);
        self.rest.advance(1);
        Some(message)
    }

    fn next_binary(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.rest.try_get_u32().ok()?).ok()?;
        (len <= self.rest.len()).then(|| self.rest.split_to(len))
    }
}

/// Adds a message to a batch.
pub fn put_message(encoding: Encoding, batch: &mut BytesMut, message: &[u8]) {
    match encoding {
        Encoding::Json => {
            batch.extend_from_slice(message);
            batch.put_u8(SEPARATOR);
        }
        Encoding::MsgPack | Encoding::Cbor => {
            // Messages are far below 4 GiB: transports and queues have their bounds.
            batch.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            batch.extend_from_slice(message);
        }
    }
}

/// Gathers messages into frames.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    frame: BytesMut,
}

impl Gatherer {
    /// Adds a message. Answers the frame that is full without it, if so.
    pub(super) fn add(&mut self, encoding: Encoding, message: &[u8]) -> Option<Bytes> {
        let fits = self.frame.len() + message.len() < FRAME_BYTES;
        let full = if fits { None } else { self.take() };
        put_message(encoding, &mut self.frame, message);
        full
    }

    /// The frame so far; `None` if there is nothing to send.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        (!self.frame.is_empty()).then(|| self.frame.split().freeze())
    }

    /// Gives back memory that is kept for speed only.
    pub(super) fn rest(&mut self) {
        if self.frame.is_empty() {
            self.frame = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

    fn messages(encoding: Encoding, frame: &[u8]) -> Result<Vec<Bytes>, Violation> {
        let mut batch = Batch::new(encoding, Bytes::copy_from_slice(frame))?;
        let mut all = Vec::new();
        while let Some(message) = batch.next()? {
            all.push(message);
        }
        Ok(all)
    }

    #[test]
    fn what_is_gathered_is_split_again() {
        for encoding in ALL {
            let mut gatherer = Gatherer::default();
            assert_eq!(gatherer.take(), None);
            for message in ["[1]", "", "[22]"] {
                assert_eq!(gatherer.add(encoding, message.as_bytes()), None);
            }
            let frame = gatherer.take().unwrap();
            assert_eq!(messages(encoding, &frame).unwrap(), ["[1]", "", "[22]"]);
            assert_eq!(gatherer.take(), None);
        }
        let mut gatherer = Gatherer::default();
        gatherer.add(Encoding::Json, b"[1]");
        gatherer.add(Encoding::Json, b"[2]");
        assert_eq!(gatherer.take().unwrap(), "[1]\x1e[2]\x1e");
        gatherer.add(Encoding::Cbor, b"\x81\x01");
        assert_eq!(
            gatherer.take().unwrap(),
            "\0\0\0\x02\u{81}\x01"
                .chars()
                .map(|c| c as u8)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_frame_has_a_bound_and_a_long_message_its_own() {
        for encoding in ALL {
            let mut gatherer = Gatherer::default();
            let (short, long) = (vec![b'x'; FRAME_BYTES / 4], vec![b'y'; 2 * FRAME_BYTES]);
            let mut frames = Vec::new();
            for message in [&short, &short, &short, &short, &short, &long, &short] {
                frames.extend(gatherer.add(encoding, message));
            }
            frames.extend(gatherer.take());
            let counts = frames.iter().map(|f| messages(encoding, f).unwrap().len());
            assert_eq!(counts.collect::<Vec<_>>(), [3, 2, 1, 1]);
            assert!(
                frames
                    .iter()
                    .all(|f| f.len() < FRAME_BYTES + 4 || f.contains(&b'y'))
            );
        }
    }

    #[test]
    fn an_empty_or_broken_batch_is_a_violation() {
        for encoding in ALL {
            assert!(matches!(
                messages(encoding, b""),
                Err(Violation::EmptyBatch)
            ));
        }
        for broken in ["[1]", "[1]\x1e[2]", "\x1e "] {
            let read = messages(Encoding::Json, broken.as_bytes());
            assert!(matches!(read, Err(Violation::BrokenBatch)), "{broken:?}");
        }
        for broken in [
            &[0][..],
            &[0, 0, 0],
            &[0, 0, 0, 2, 1],
            &[0, 0, 0, 0, 9],
            &[255; 8],
        ] {
            let read = messages(Encoding::Cbor, broken);
            assert!(matches!(read, Err(Violation::BrokenBatch)), "{broken:?}");
        }
    }
}
