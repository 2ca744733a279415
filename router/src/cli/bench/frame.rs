//! WebSocket frames as a client writes and reads them (RFC 6455 section 5), without a copy more
//! than needed: frames of many messages leave in one write and come in one read.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io::Cursor;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A client masks what it sends; with a key of zeros the bytes stay as they are, which saves the
/// generator the work and the peer nothing. What the key protects, caches on the way that
/// understand no WebSocket, is not between a benchmark and its peer.
const MASK: [u8; 4] = [0; 4];

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole message.
    Message(Bytes),
    /// To be answered by a pong with the same bytes.
    Ping(Bytes),
    /// The peer closes; in words.
    Close(String),
}

/// Appends the header of a final frame whose `length` bytes must follow.
pub(super) fn put_header(opcode: OpCode, length: usize, out: &mut BytesMut) {
    let header = FrameHeader {
        opcode,
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    // Writing into a buffer cannot fail.
    let _ = header.format(length as u64, &mut out.writer());
}

/// Appends a whole frame.
pub(super) fn put(opcode: OpCode, bytes: &[u8], out: &mut BytesMut) {
    put_header(opcode, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Cuts frames off the front of what was read.
#[derive(Debug)]
pub(super) struct Frames {
    /// The longest message that is taken.
    most: usize,
    /// What came of a message in several frames.
    parts: Option<BytesMut>,
}

impl Frames {
    /// Messages of at most `most` bytes.
    pub(super) const fn new(most: usize) -> Frames {
        Frames { most, parts: None }
    }

    /// The next one; `None`: more bytes are needed.
    ///
    /// # Errors
    /// What the peer did wrong, in words.
    pub(super) fn next(&mut self, inbound: &mut BytesMut) -> Result<Option<Frame>, String> {
        loop {
            let mut cursor = Cursor::new(&inbound[..]);
            let header = FrameHeader::parse(&mut cursor)
                .map_err(|error| format!("broke the protocol: {error}"))?;
            let Some((header, length)) = header else {
                return Ok(None);
            };
            let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            let held = self.parts.as_ref().map_or(0, |parts| parts.len());
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if header.mask.is_some() || length.saturating_add(held) > self.most {
                return Err("sent a masked or too long WebSocket frame".to_owned());
            }
            if inbound.len() - start < length {
                return Ok(None);
            }
            inbound.advance(start);
            let body = inbound.split_to(length).freeze();
            if let Some(frame) = self.take(&header, body)? {
                return Ok(Some(frame));
            }
        }
    }

    /// `None`: nothing to be told of.
    fn take(&mut self, header: &FrameHeader, body: Bytes) -> Result<Option<Frame>, String> {
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Frame::Ping(body))),
            OpCode::Control(Control::Close) => Ok(Some(Frame::Close(closing(&body)))),
            OpCode::Control(_) => Ok(None),
            OpCode::Data(Data::Text | Data::Binary) if self.parts.is_none() => {
                if header.is_final {
                    return Ok(Some(Frame::Message(body)));
                }
                self.parts = Some(BytesMut::from(&body[..]));
                Ok(None)
            }
            OpCode::Data(Data::Continue) => {
                let parts = self.parts.take();
                let mut parts = parts.ok_or("continued a message that it had not begun")?;
                parts.extend_from_slice(&body);
                if header.is_final {
                    return Ok(Some(Frame::Message(parts.freeze())));
                }
                self.parts = Some(parts);
                Ok(None)
            }
            OpCode::Data(_) => Err("sent a WebSocket frame out of place".to_owned()),
        }
    }
}

/// Code and reason of a close frame in words.
fn closing(body: &[u8]) -> String {
    match body {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let text = format!("{code} {}", String::from_utf8_lossy(reason));
            text.trim_end().to_owned()
        }
        _ => "no reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: OpCode = OpCode::Data(Data::Text);

    /// As a server writes it.
    fn served(opcode: OpCode, is_final: bool, body: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            is_final,
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header
            .format(body.len() as u64, &mut bytes)
            .expect("written");
        bytes.extend_from_slice(body);
        bytes
    }

    fn all(bytes: &[u8]) -> Result<Vec<Frame>, String> {
        let (mut frames, mut inbound) = (Frames::new(1000), BytesMut::from(bytes));
        let mut found = Vec::new();
        while let Some(frame) = frames.next(&mut inbound)? {
            found.push(frame);
        }
        Ok(found)
    }

    #[test]
    fn a_clients_frame_is_masked_and_readable_as_it_stands() {
        let mut out = BytesMut::new();
        put(TEXT, b"hello", &mut out);
        assert_eq!(&out[..], b"\x81\x85\0\0\0\0hello");
    }

    #[test]
    fn frames_are_cut_wherever_the_reads_ended() {
        let mut bytes = served(TEXT, true, &[b'x'; 300]);
        bytes.extend(served(OpCode::Control(Control::Ping), true, b"p"));
        bytes.extend(served(TEXT, true, b""));
        let (mut frames, mut inbound, mut found) = (Frames::new(1000), BytesMut::new(), vec![]);
        for byte in bytes {
            inbound.put_u8(byte);
            while let Some(frame) = frames.next(&mut inbound).expect("legal") {
                found.push(frame);
            }
        }
        let message = Frame::Message(Bytes::from(vec![b'x'; 300]));
        let ping = Frame::Ping(Bytes::from_static(b"p"));
        assert_eq!(found, [message, ping, Frame::Message(Bytes::new())]);
    }

    #[test]
    fn a_message_in_several_frames_is_one() {
        let mut bytes = served(TEXT, false, b"a");
        bytes.extend(served(OpCode::Control(Control::Pong), true, b""));
        bytes.extend(served(OpCode::Data(Data::Continue), false, b"b"));
        bytes.extend(served(OpCode::Data(Data::Continue), true, b"c"));
        assert_eq!(all(&bytes), Ok(vec![Frame::Message("abc".into())]));
    }

    #[test]
    fn a_close_tells_its_code_and_reason() {
        let close = served(OpCode::Control(Control::Close), true, b"\x03\xe9bye");
        assert_eq!(all(&close), Ok(vec![Frame::Close("1001 bye".to_owned())]));
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let mut masked = BytesMut::new();
        put(TEXT, b"hello", &mut masked);
        let long = served(TEXT, true, &[b'x'; 1001]);
        let mut parts = served(TEXT, false, &[b'x'; 600]);
        parts.extend(served(OpCode::Data(Data::Continue), true, &[b'x'; 600]));
        let orphan = served(OpCode::Data(Data::Continue), true, b"x");
        for bytes in [&masked[..], &long, &parts, &orphan, b"\x83\x00"] {
            assert!(all(bytes).is_err(), "{bytes:?}");
        }
    }
}
