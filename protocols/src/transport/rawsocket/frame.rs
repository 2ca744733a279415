//! Frames (section "Framing"): four octets of prefix, `0000 XTTT` and 24 bits of length, and as
//! many octets as they say.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// Octets of a prefix.
const PREFIX: usize = 4;
/// The longest payload: 24 bits say one less, for this very length there is the bit X.
const LONGEST: usize = 1 << 24;
/// The bit X.
const X: u8 = 0x08;
/// The bits of the type.
const TYPE: u8 = 0x07;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// "regular WAMP message"
    Message = 0,
    /// To be answered with a PONG of the same payload.
    Ping = 1,
    /// The answer.
    Pong = 2,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// What follows the prefix.
    pub payload: Bytes,
}

/// What ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// One of the bits that "MUST be all zeros", or a length beyond the greatest.
    #[error("reserved bits of a frame are used")]
    ReservedBits,
    /// A type from 3 to 7.
    #[error("a frame has the reserved type {0}")]
    ReservedType(u8),
    /// Longer than was announced, or than a stranger may send.
    #[error("a frame of {length} bytes where {max} are allowed")]
    TooLong {
        /// What the prefix says.
        length: usize,
        /// The limit.
        max: usize,
    },
}

/// Cuts one frame off the front of a buffer; `None` if it is not there yet. A prefix is judged as
/// soon as it is there: nothing waits, and nothing is allocated, for what it promises.
///
/// # Errors
/// A frame that breaks the rules; the connection must fail.
pub fn decode(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let (kind, length) = read_prefix(*prefix)?;
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    if buffer.len() - PREFIX < length {
        return Ok(None);
    }
    let payload = buffer.split_to(PREFIX + length).freeze().slice(PREFIX..);
    Ok(Some(Frame { kind, payload }))
}

fn read_prefix([first, rest @ ..]: [u8; PREFIX]) -> Result<(Kind, usize), FrameError> {
    if first & !(X | TYPE) != 0 {
        return Err(FrameError::ReservedBits);
    }
    let kind = match first & TYPE {
        0 => Kind::Message,
        1 => Kind::Ping,
        2 => Kind::Pong,
        other => return Err(FrameError::ReservedType(other)),
    };
    let length = rest
        .iter()
        .fold(0, |length, octet| length << 8 | usize::from(*octet));
    match (first & X != 0, length) {
        (false, length) => Ok((kind, length)),
        (true, 0) => Ok((kind, LONGEST)),
        (true, _) => Err(FrameError::ReservedBits),
    }
}

/// The prefix of a frame; `None` if no prefix can say the length.
#[must_use]
pub fn prefix(kind: Kind, length: usize) -> Option<[u8; PREFIX]> {
    if length >= LONGEST {
        return (length == LONGEST).then_some([kind as u8 | X, 0, 0, 0]);
    }
    let [.., a, b, c] = length.to_be_bytes();
    Some([kind as u8, a, b, c])
}
