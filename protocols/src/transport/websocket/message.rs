//! Messages out of frames (RFC 6455, sections 5.4 to 5.6).

use super::frame::{Frame, FrameError, Opcode};
use bytes::{Bytes, BytesMut};
use std::str::from_utf8;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What a frame completes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A text message, checked to be UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A part of a message that is not whole yet.
    Part,
    /// To be answered with a Pong of the same payload.
    Ping(Bytes),
    /// A Pong.
    Pong,
    /// The peer's last frame, with the payload that the answer has.
    Close(Bytes),
}

/// The message that comes in several frames at the moment.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    is_text: bool,
    bytes: BytesMut,
    /// How many of them are known to be UTF-8.
    checked: usize,
}

impl Assembler {
    /// Takes the next frame. No message becomes longer than `max` bytes.
    ///
    /// # Errors
    /// A frame that breaks the rules; the connection must fail.
    pub(super) fn take(&mut self, frame: Frame, max: usize) -> Result<Message, FrameError> {
        match (frame.opcode, &mut self.parts) {
            (Opcode::Ping, _) => Ok(Message::Ping(frame.payload)),
            (Opcode::Pong, _) => Ok(Message::Pong),
            (Opcode::Close, _) => close(frame.payload),
            (Opcode::Text | Opcode::Binary, Some(_)) | (Opcode::Continuation, None) => {
                Err(FrameError::OutOfOrder)
            }
            (opcode, None) if frame.is_final => whole(opcode == Opcode::Text, frame.payload),
            (opcode, None) => {
                let parts = self.parts.insert(Parts {
                    is_text: opcode == Opcode::Text,
                    bytes: BytesMut::new(),
                    checked: 0,
                });
                parts.add(&frame.payload, max)?;
                Ok(Message::Part)
            }
            (_, Some(parts)) => {
                parts.add(&frame.payload, max)?;
                if !frame.is_final {
                    return Ok(Message::Part);
                }
                match self.parts.take() {
                    Some(parts) => parts.finish(),
                    None => Err(FrameError::OutOfOrder),
                }
            }
        }
    }
}

impl Parts {
    /// What can be no text is refused before its message is whole.
    fn add(&mut self, payload: &[u8], max: usize) -> Result<(), FrameError> {
        if payload.len() > max.saturating_sub(self.bytes.len()) {
            return Err(FrameError::TooLong { max });
        }
        self.bytes.extend_from_slice(payload);
        if !self.is_text {
            return Ok(());
        }
        let unchecked = self.bytes.get(self.checked..).unwrap_or_default();
        match from_utf8(unchecked) {
            Ok(_) => self.checked = self.bytes.len(),
            // The rest of the character may come.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::Utf8),
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, FrameError> {
        if self.is_text && self.checked < self.bytes.len() {
            return Err(FrameError::Utf8);
        }
        let bytes = self.bytes.freeze();
        Ok(match self.is_text {
            true => Message::Text(bytes),
            false => Message::Binary(bytes),
        })
    }
}

/// A message of one frame, which stays a slice of what was read.
fn whole(is_text: bool, payload: Bytes) -> Result<Message, FrameError> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    match from_utf8(&payload) {
        Ok(_) => Ok(Message::Text(payload)),
        Err(_) => Err(FrameError::Utf8),
    }
}

/// The answer repeats the code (section 5.5.1), unless no peer may send it.
fn close(payload: Bytes) -> Result<Message, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload.is_empty() {
            true => Ok(Message::Close(payload)),
            false => Err(FrameError::BadClose),
        };
    };
    if from_utf8(reason).is_err() {
        return Err(FrameError::Utf8);
    }
    let may_be_sent = CloseCode::from(u16::from_be_bytes(*code)).is_allowed();
    Ok(Message::Close(match may_be_sent {
        true => payload,
        false => close_payload(u16::from(CloseCode::Protocol), "a code that is not sent"),
    }))
}

/// A code and words for a person, which fit a control frame.
pub(super) fn close_payload(code: u16, reason: &str) -> Bytes {
    const REASON_BYTES: usize = 123;
    let end = reason.floor_char_boundary(REASON_BYTES);
    let reason = reason.get(..end).unwrap_or_default();
    [&code.to_be_bytes(), reason.as_bytes()].concat().into()
}
