//! The beginning of a message in its plainest spelling, for those whose header is known already.
//!
//! `[code, request, ` is found without looking at the rest. Whatever is spelled otherwise is left to
//! [`decode`](fn@super::decode): white space, numbers that are not the shortest, CBOR.

use crate::wamp::message::MAX_ID;
use bytes::{Buf as _, Bytes};
use router_core::encoding::{Encoding, Kind};
use router_core::model::Args;
use std::ops::Range;

/// The longest number in decimal that may be an id: 2^53 has so many digits.
const DIGITS: usize = 16;

/// What stands before the third element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wamp) struct Head {
    /// Element 0.
    pub code: u64,
    /// Element 1, an id.
    pub request: u64,
    /// Where the third element begins, in bytes.
    pub at: usize,
    /// How many elements there are from it on; `None` where the end of the message tells.
    pub elements: Option<usize>,
}

/// Reads it; `None` for any other message or spelling.
pub(in crate::wamp) fn head(encoding: Encoding, frame: &[u8]) -> Option<Head> {
    let (code, request, rest, elements) = match encoding {
        Encoding::Json => {
            let (code, rest) = decimal(frame.strip_prefix(b"[")?)?;
            let (request, rest) = decimal(rest.strip_prefix(b",")?)?;
            (code, request, rest.strip_prefix(b",")?, None)
        }
        Encoding::MsgPack => {
            let (first, rest) = frame.split_first()?;
            let elements = match first {
                0x93..=0x9f => usize::from(first & 0x0f) - 2,
                _ => return None,
            };
            let (code, rest) = packed(rest)?;
            let (request, rest) = packed(rest)?;
            (code, request, rest, Some(elements))
        }
        Encoding::Cbor => return None,
    };
    (1..=MAX_ID).contains(&request).then(|| Head {
        code,
        request,
        at: frame.len() - rest.len(),
        elements,
    })
}

/// Where the arguments stand, in bytes from the start of the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wamp) struct Tail {
    args: Option<Range<usize>>,
    kwargs: Option<Range<usize>>,
}

/// Finds them behind the header that ends at byte `at`; `used` elements of it stand behind the
/// head. `None` for what is not exactly a list and perhaps a dict: the frame may still be a message.
pub(in crate::wamp) fn tail(
    encoding: Encoding,
    frame: &[u8],
    (head, used, at): (Head, usize, usize),
) -> Option<Tail> {
    let remaining = match head.elements {
        Some(elements) => elements.checked_sub(used).filter(|count| *count <= 2)?,
        None => 2,
    };
    let rest = frame.get(at..)?;
    let found = encoding.split_rest(rest, remaining).ok()??;
    let kinds = [Kind::Array, Kind::Map];
    for (range, kind) in found.iter().zip(kinds) {
        if encoding.kind(rest.get(range.clone())?) != Some(kind) {
            return None;
        }
    }
    let mut parts = found.into_iter();
    let mut next = || {
        let part = parts.next();
        part.map(|part| at + part.start..at + part.end)
    };
    Some(Tail {
        args: next(),
        kwargs: next(),
    })
}

impl Tail {
    /// The arguments themselves, as slices of their frame.
    pub(in crate::wamp) fn of(self, mut frame: Bytes) -> Args {
        match (self.args, self.kwargs) {
            (Some(args), None) => {
                // The only slice can as well be the frame.
                frame.truncate(args.end);
                frame.advance(args.start);
                Args {
                    args: Some(frame),
                    kwargs: None,
                }
            }
            (args, kwargs) => Args {
                args: args.map(|args| frame.slice(args)),
                kwargs: kwargs.map(|kwargs| frame.slice(kwargs)),
            },
        }
    }
}

/// An integer of at least 1, as JSON spells it.
fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    let mut used = 0;
    for byte in text.iter().take(DIGITS + 1) {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value * 10 + u64::from(byte - b'0');
        used += 1;
    }
    let is_plain = (1..=DIGITS).contains(&used) && text.first() != Some(&b'0');
    is_plain.then_some((value, text.get(used..)?))
}

/// An unsigned integer of MessagePack.
fn packed(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let width = match marker {
        0x00..=0x7f => return Some((u64::from(*marker), rest)),
        0xcc..=0xcf => 1 << (marker - 0xcc),
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let value = number
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}
