//! Frames (RFC 6455, section 5) as a server reads and writes them.

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// The last frame of its message.
const FIN: u8 = 0x80;
/// Bits for extensions, of which none is negotiated.
const RESERVED: u8 = 0x70;
/// The payload is masked, as everything that clients send.
const MASKED: u8 = 0x80;
/// The longest payload of a control frame, and the longest length that stands in seven bits.
const SHORT: usize = 125;
/// Two octets of length follow.
const LENGTH_16: u8 = 126;
/// Eight octets of length follow.
const LENGTH_64: u8 = 127;

/// The longest header that is written.
pub(super) const HEADER_BYTES: usize = 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// The message that was begun goes on.
    Continuation = 0,
    /// A text message begins.
    Text = 1,
    /// A binary message begins.
    Binary = 2,
    /// The last frame of this side.
    Close = 8,
    /// To be answered with a Pong of the same payload.
    Ping = 9,
    /// The answer.
    Pong = 10,
}

impl Opcode {
    fn read(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// One frame, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The last one of its message.
    pub is_final: bool,
    /// What it is.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: Bytes,
}

/// How a peer breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    /// A bit for an extension that was not negotiated.
    #[error("a reserved bit of a frame is used")]
    ReservedBit,
    /// An opcode of the future.
    #[error("a frame has the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// Clients must mask.
    #[error("a frame of a client is not masked")]
    Unmasked,
    /// Control frames are short and whole.
    #[error("a control frame is too long or in parts")]
    BadControl,
    /// A continuation of nothing, or a message within another.
    #[error("the frames of a message are out of order")]
    OutOfOrder,
    /// Half a code.
    #[error("a Close frame holds half a code")]
    BadClose,
    /// Text that is not UTF-8.
    #[error("a text message is not UTF-8")]
    Utf8,
    /// More than the limit.
    #[error("a message of more than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
}

struct Header {
    is_final: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Octets of the header.
    head: usize,
    /// Octets of the payload.
    length: usize,
}

/// Cuts one frame off the front of a buffer; `None` if it is not there yet. A header is judged as
/// soon as it is there: nothing waits, and nothing is allocated, for what it promises.
///
/// # Errors
/// A frame that breaks the rules; the connection must fail.
pub(super) fn decode(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(header) = read_header(buffer, max)? else {
        return Ok(None);
    };
    if buffer.len() - header.head < header.length {
        return Ok(None);
    }
    buffer.advance(header.head);
    let mut payload = buffer.split_to(header.length);
    unmask(&mut payload, header.mask);
    Ok(Some(Frame {
        is_final: header.is_final,
        opcode: header.opcode,
        payload: payload.freeze(),
    }))
}

fn read_header(bytes: &[u8], max: usize) -> Result<Option<Header>, FrameError> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & RESERVED != 0 {
        return Err(FrameError::ReservedBit);
    }
    let bits = first & 0x0f;
    let opcode = Opcode::read(bits).ok_or(FrameError::ReservedOpcode(bits))?;
    if second & MASKED == 0 {
        return Err(FrameError::Unmasked);
    }
    let (is_final, short) = (first & FIN != 0, second & !MASKED);
    if opcode.is_control() && (!is_final || usize::from(short) > SHORT) {
        return Err(FrameError::BadControl);
    }
    let Some((length, rest)) = read_length(short, rest) else {
        return Ok(None);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > max && !opcode.is_control() {
        return Err(FrameError::TooLong { max });
    }
    let Some((mask, behind)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    Ok(Some(Header {
        is_final,
        opcode,
        mask: *mask,
        head: bytes.len() - behind.len(),
        length,
    }))
}

fn read_length(short: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    match short {
        LENGTH_16 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u64::from(u16::from_be_bytes(*length)), rest))
        }
        LENGTH_64 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*length), rest))
        }
        short => Some((u64::from(short), rest)),
    }
}

/// Section 5.3; the same for masking. Eight octets at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *octet ^= mask;
    }
}

/// Appends the header of an unmasked frame that is a whole message.
pub(super) fn put_header(out: &mut BytesMut, opcode: Opcode, length: usize) {
    let first = FIN | opcode as u8;
    if length <= SHORT {
        // At most 125.
        out.extend_from_slice(&[first, length as u8]);
    } else if let Ok(length) = u16::try_from(length) {
        let [a, b] = length.to_be_bytes();
        out.extend_from_slice(&[first, LENGTH_16, a, b]);
    } else {
        out.extend_from_slice(&[first, LENGTH_64]);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}
