//! CBOR (RFC 8949), over borrowed bytes.
//!
//! The reader checks lengths against what is really there before it believes them, and text for
//! UTF-8, chunk by chunk. Strings, arrays and maps may come with or without a length, heads in any
//! width. Tags belong to the value behind them: its bounds include them, and it reads as if they
//! were not there, except that tags 2 and 3 make a byte string an integer. Integers beyond 64 bits,
//! bignums among them, read as the nearest double. Simple values that nobody has assigned read as
//! null.

mod number;
mod reader;
mod writer;

use super::Kind;
use super::token::{Reader as _, Scalar, Step};
use reader::{BIGNUM, NEGATIVE_BIGNUM, major};
use std::borrow::Cow;

pub(super) use reader::Reader;
pub(super) use writer::Writer;
pub use writer::{put_array_header, put_binary, put_map_header, put_text, put_unsigned};

/// The value of an integer from 0 to 2^64-1, whatever its width; also of a float without
/// fraction up to 2^53, since some JavaScript packers write integers so.
#[must_use]
pub fn unsigned(value: &[u8]) -> Option<u64> {
    scalar(value)?.unsigned()
}

/// The content of a string, owned if it came in chunks; `None` if the value is no well-formed
/// string.
#[must_use]
pub fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    match scalar(value)? {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

/// The content of a byte string that is no bignum; `None` for any other value.
#[must_use]
pub fn binary(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match scalar(value)? {
        Scalar::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

fn scalar(value: &[u8]) -> Option<Scalar<'_>> {
    let mut reader = Reader::new(value);
    (reader.step().ok()? == Some(Step::Scalar)).then(|| reader.scalar())
}

/// See [`Encoding::kind`](super::Encoding::kind).
pub(super) fn kind(value: &[u8]) -> Option<Kind> {
    let head = Reader::new(value).head().ok()?;
    Some(match (head.major, head.tag, head.info) {
        (major::UNSIGNED | major::NEGATIVE, ..) => Kind::Integer,
        (major::BYTES, Some(BIGNUM | NEGATIVE_BIGNUM), _) => Kind::Integer,
        (major::BYTES, ..) => Kind::Binary,
        (major::TEXT, ..) => Kind::Text,
        (major::ARRAY, ..) => Kind::Array,
        (major::MAP, ..) => Kind::Map,
        (.., 20 | 21) => Kind::Bool,
        (.., 23) => Kind::Undefined,
        (.., 25..=27) => Kind::Float,
        _ => Kind::Null,
    })
}

/// See [`Encoding::is_empty_container`](super::Encoding::is_empty_container).
pub(super) fn is_empty_container(value: &[u8]) -> bool {
    let mut reader = Reader::new(value);
    matches!(reader.step(), Ok(Some(Step::Array | Step::Map)))
        && matches!(reader.step(), Ok(Some(Step::Close)))
}

#[cfg(test)]
mod tests;
