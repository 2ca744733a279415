//! Serializations: how payload bytes are read, cut, converted and written.
//!
//! The core forwards the sender's very bytes as long as it can. This module serves the cases where
//! something must be known about them: element bounds (so that a tail passes byte for byte), a
//! parsed value (filters and conditions) or the same value in another serialization.
//!
//! * [`json`], [`msgpack`] and [`cbor`] each hold one reader and one writer; nothing else knows
//!   the formats. A further serialization is one more such file and one more arm in the matches below.
//! * [`transcode`] converts one value from any reader to any writer, without a tree.
//! * [`value`] parses to and writes from [`serde_json::Value`].
//!
//! Invariants: readers are iterative and refuse what is nested deeper than [`MAX_DEPTH`]; no
//! allocation is sized by a declared length; every byte of a value is checked before it is
//! forwarded (grammar, UTF-8), so that one bad publisher cannot break its subscribers' parsers.
//! Offsets and lengths are in bytes.
//!
//! **Binary values.** JSON has none; by convention they are strings that start with U+0000
//! followed by standard base64. Conversions apply the convention both ways, except to map keys.

pub mod cbor;
pub mod json;
pub mod msgpack;
mod scan;
mod token;
pub mod transcode;
pub mod value;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod rest;
#[cfg(test)]
mod testing;

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use thiserror::Error;

pub use scan::Entry;
pub use token::{binary_from_text, text_from_binary};

/// How many arrays and maps may be nested in one value or frame.
pub const MAX_DEPTH: usize = 128;

/// The longest head of a string or an array of less than 4 GiB, in bytes.
const HEAD_BYTES: usize = 5;

/// Where the elements of an array stand, in bytes from the start of the array.
pub type Elements = SmallVec<[Range<usize>; 8]>;

/// The same of the last elements of one.
pub type LastElements = SmallVec<[Range<usize>; 2]>;

/// A serialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON text, RFC 8259, in UTF-8.
    Json,
    /// MessagePack.
    MsgPack,
    /// CBOR, RFC 8949.
    Cbor,
}

/// What a value is, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null` or nil.
    Null,
    /// JavaScript's `undefined` (MessagePack extension type 0 of length 1, CBOR simple value 23).
    Undefined,
    /// A boolean.
    Bool,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// A string.
    Text,
    /// A byte string, or an extension.
    Binary,
    /// A list.
    Array,
    /// A dict.
    Map,
}

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{fault} at byte {at}")]
pub struct EncodingError {
    /// What is wrong.
    pub fault: Fault,
    /// Where, in bytes from the start of the input.
    pub at: usize,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The input ends inside the value.
    #[error("unexpected end")]
    Truncated,
    /// The grammar does not allow this byte here.
    #[error("unexpected byte")]
    Syntax,
    /// Text that is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// Something follows the value.
    #[error("trailing bytes")]
    Trailing,
    /// An array was asked for.
    #[error("not a list")]
    NotAnArray,
    /// A map was asked for.
    #[error("not a dict")]
    NotAMap,
    /// A map key that has no text form: an array or a map.
    #[error("a key that is no text")]
    Key,
}

impl Fault {
    pub(crate) const fn at(self, at: usize) -> EncodingError {
        EncodingError { fault: self, at }
    }
}

/// Calls `$body` with `$reader` bound to the reader of the encoding over `$input`.
macro_rules! with_reader {
    ($encoding:expr, $input:expr, $reader:ident => $body:expr) => {
        match $encoding {
            $crate::encoding::Encoding::Json => {
                let $reader = &mut $crate::encoding::json::Reader::new($input)?;
                $body
            }
            $crate::encoding::Encoding::MsgPack => {
                let $reader = &mut $crate::encoding::msgpack::Reader::new($input);
                $body
            }
            $crate::encoding::Encoding::Cbor => {
                let $reader = &mut $crate::encoding::cbor::Reader::new($input);
                $body
            }
        }
    };
}
pub(crate) use with_reader;

impl Encoding {
    /// The name, as used in subprotocols and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Json => "json",
            Encoding::MsgPack => "msgpack",
            Encoding::Cbor => "cbor",
        }
    }

    /// Checks that `input` is exactly one well-formed value.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(self, input: &[u8]) -> Result<(), EncodingError> {
        with_reader!(self, input, reader => scan::check(reader))
    }

    /// The bounds of the elements of an array. All of `input` is checked.
    ///
    /// # Errors
    /// The first fault found; [`Fault::NotAnArray`] for any other value.
    pub fn split_array(self, input: &[u8]) -> Result<Elements, EncodingError> {
        let split = self.split_array_at_most(input, usize::MAX)?;
        split.ok_or(Fault::NotAnArray.at(0))
    }

    /// As [`split_array`](Self::split_array), but `None` as soon as there are more than `max`
    /// elements; the rest of the input is then unchecked.
    ///
    /// # Errors
    /// The first fault found; [`Fault::NotAnArray`] for any other value.
    pub fn split_array_at_most(
        self,
        input: &[u8],
        max: usize,
    ) -> Result<Option<Elements>, EncodingError> {
        with_reader!(self, input, reader => scan::split_array(reader, max))
    }

    /// The bounds of the last elements of an array, in bytes from the start of `rest`, which is what follows the
    /// elements before; all of it is checked. The array has `remaining` elements more, or in JSON at most so many;
    /// `None` if it has more, or for an encoding whose elements cannot be told from the middle.
    ///
    /// # Errors
    /// The first fault found.
    pub fn split_rest(
        self,
        rest: &[u8],
        remaining: usize,
    ) -> Result<Option<LastElements>, EncodingError> {
        match self {
            Encoding::Json => scan::rest_of_array(&mut json::Reader::in_array(rest)?, remaining),
            Encoding::MsgPack => {
                let reader = &mut msgpack::Reader::in_array(rest, remaining);
                scan::rest_of_array(reader, remaining)
            }
            Encoding::Cbor => Ok(None),
        }
    }

    /// The bounds of the keys and values of a map, in order, duplicates included.
    ///
    /// # Errors
    /// The first fault found; [`Fault::NotAMap`] for any other value.
    pub fn split_map(self, input: &[u8]) -> Result<Vec<Entry>, EncodingError> {
        with_reader!(self, input, reader => scan::split_map(reader))
    }

    /// What the first bytes of a well-formed value announce; `None` if they start no value.
    #[must_use]
    pub fn kind(self, value: &[u8]) -> Option<Kind> {
        match self {
            Encoding::Json => json::kind(value),
            Encoding::MsgPack => msgpack::kind(value),
            Encoding::Cbor => cbor::kind(value),
        }
    }

    /// Whether a well-formed value is an array or a map without members.
    #[must_use]
    pub fn is_empty_container(self, value: &[u8]) -> bool {
        match self {
            Encoding::Json => json::is_empty_container(value),
            Encoding::MsgPack => msgpack::is_empty_container(value),
            Encoding::Cbor => cbor::is_empty_container(value),
        }
    }

    /// The spelling of null.
    #[must_use]
    pub const fn null(self) -> &'static [u8] {
        match self {
            Encoding::Json => b"null",
            Encoding::MsgPack => &[0xc0],
            Encoding::Cbor => &[0xf6],
        }
    }

    /// A string value.
    #[must_use]
    pub fn text_value(self, text: &str) -> Bytes {
        let mut out = Vec::with_capacity(text.len() + HEAD_BYTES);
        match self {
            Encoding::Json => json::put_text(&mut out, text),
            Encoding::MsgPack => msgpack::put_text(&mut out, text),
            Encoding::Cbor => cbor::put_text(&mut out, text),
        }
        out.into()
    }

    /// A binary value; in JSON by the convention.
    #[must_use]
    pub fn binary_value(self, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len() + HEAD_BYTES);
        match self {
            Encoding::Json => json::put_text(&mut out, &text_from_binary(bytes)),
            Encoding::MsgPack => msgpack::put_binary(&mut out, bytes),
            Encoding::Cbor => cbor::put_binary(&mut out, bytes),
        }
        out.into()
    }

    /// The content of a well-formed string value; `None` for any other value.
    #[must_use]
    pub fn as_text(self, value: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Encoding::Json => json::text(value).map(|(text, _)| text),
            Encoding::MsgPack => msgpack::text(value).map(Cow::Borrowed),
            Encoding::Cbor => cbor::text(value),
        }
    }

    /// The content of a well-formed binary value, in JSON by the convention; `None` for any other
    /// value.
    #[must_use]
    pub fn as_binary(self, value: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Encoding::Json => {
                let (text, _) = json::text(value)?;
                binary_from_text(&text).map(Cow::Owned)
            }
            Encoding::MsgPack => msgpack::binary(value).map(Cow::Borrowed),
            Encoding::Cbor => cbor::binary(value),
        }
    }

    /// The array of these already encoded values, each copied byte for byte.
    #[must_use]
    pub fn array_of(self, values: &[&[u8]]) -> Bytes {
        let mut out =
            Vec::with_capacity(values.iter().map(|v| v.len() + 1).sum::<usize>() + HEAD_BYTES);
        match self {
            Encoding::Json => {
                out.put_u8(b'[');
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        out.put_u8(b',');
                    }
                    out.put_slice(value);
                }
                out.put_u8(b']');
            }
            Encoding::MsgPack => {
                msgpack::put_array_header(&mut out, values.len());
                values.iter().for_each(|value| out.put_slice(value));
            }
            Encoding::Cbor => {
                cbor::put_array_header(&mut out, values.len());
                values.iter().for_each(|value| out.put_slice(value));
            }
        }
        out.into()
    }

    /// The map of these text keys and already encoded values, each value copied byte for byte.
    #[must_use]
    pub fn map_of(self, entries: &[(&str, &[u8])]) -> Bytes {
        let mut out = Vec::new();
        match self {
            Encoding::Json => {
                out.put_u8(b'{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.put_u8(b',');
                    }
                    json::put_text(&mut out, key);
                    out.put_u8(b':');
                    out.put_slice(value);
                }
                out.put_u8(b'}');
            }
            Encoding::MsgPack => {
                msgpack::put_map_header(&mut out, entries.len());
                for (key, value) in entries {
                    msgpack::put_text(&mut out, key);
                    out.put_slice(value);
                }
            }
            Encoding::Cbor => {
                cbor::put_map_header(&mut out, entries.len());
                for (key, value) in entries {
                    cbor::put_text(&mut out, key);
                    out.put_slice(value);
                }
            }
        }
        out.into()
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Undefined => "undefined",
            Kind::Bool => "boolean",
            Kind::Integer => "integer",
            Kind::Float => "float",
            Kind::Text => "string",
            Kind::Binary => "binary",
            Kind::Array => "list",
            Kind::Map => "dict",
        })
    }
}
