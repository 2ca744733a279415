//! The MessagePack reader: one value, token by token.

use crate::encoding::token::{self, Scalar, Step};
use crate::encoding::{EncodingError, Fault, MAX_DEPTH};
use smallvec::SmallVec;
use std::borrow::Cow;

/// An open array or map.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Values still to come; in a map keys and values both count.
    remaining: u64,
}

/// What the scalar just passed is; text and binary end where the token ends.
#[derive(Clone, Copy, Debug)]
enum Raw {
    Null,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text { from: usize },
    Binary { from: usize },
}

/// Reads one MessagePack value.
#[derive(Debug)]
pub(in crate::encoding) struct Reader<'a> {
    input: &'a [u8],
    pos: usize,
    start: usize,
    open: SmallVec<[Open; 16]>,
    done: bool,
    raw: Raw,
    len: usize,
}

impl<'a> Reader<'a> {
    pub(in crate::encoding) fn new(input: &'a [u8]) -> Reader<'a> {
        Reader {
            input,
            pos: 0,
            start: 0,
            open: SmallVec::new(),
            done: false,
            raw: Raw::Null,
            len: 0,
        }
    }

    /// Goes on in an array, the outermost value, that has `remaining` elements more.
    pub(in crate::encoding) fn in_array(rest: &'a [u8], remaining: usize) -> Reader<'a> {
        let mut reader = Reader::new(rest);
        reader.open.push(Open {
            remaining: remaining as u64,
        });
        reader
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], EncodingError> {
        let bytes = self
            .pos
            .checked_add(len)
            .and_then(|end| self.input.get(self.pos..end));
        let bytes = bytes.ok_or(Fault::Truncated.at(self.input.len()))?;
        self.pos += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodingError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Fault::Truncated.at(self.pos))
    }

    /// A big-endian length of one, two or four bytes.
    fn length(&mut self, width: usize) -> Result<usize, EncodingError> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn text(&mut self, len: usize) -> Result<Raw, EncodingError> {
        let from = self.pos;
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(Raw::Text { from }),
            Err(error) => Err(Fault::Utf8.at(from + error.valid_up_to())),
        }
    }

    fn binary(&mut self, len: usize) -> Result<Raw, EncodingError> {
        let from = self.pos;
        self.take(len)?;
        Ok(Raw::Binary { from })
    }

    fn extension(&mut self, len: usize) -> Result<Raw, EncodingError> {
        let [kind] = self.array()?;
        let raw = self.binary(len)?;
        Ok(if kind == 0 && len == 1 {
            Raw::Undefined
        } else {
            raw
        })
    }

    fn enter(&mut self, len: usize, is_map: bool) -> Result<Step, EncodingError> {
        if self.open.len() == MAX_DEPTH {
            return Err(Fault::TooDeep.at(self.start));
        }
        // Every value takes at least one byte, so a length beyond the input is a lie.
        let values = if is_map { len.saturating_mul(2) } else { len };
        if values > self.input.len() - self.pos {
            return Err(Fault::Truncated.at(self.input.len()));
        }
        self.len = len;
        self.open.push(Open {
            remaining: values as u64,
        });
        Ok(if is_map { Step::Map } else { Step::Array })
    }

    fn value(&mut self) -> Result<Step, EncodingError> {
        let [marker] = self.array()?;
        let low4 = usize::from(marker & 0x0f);
        self.raw = match marker {
            0x00..=0x7f => Raw::Unsigned(u64::from(marker)),
            0x80..=0x8f => return self.enter(low4, true),
            0x90..=0x9f => return self.enter(low4, false),
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => Raw::Null,
            0xc1 => return Err(Fault::Syntax.at(self.start)),
            0xc2 => Raw::Bool(false),
            0xc3 => Raw::Bool(true),
            0xc4..=0xc6 => {
                let len = self.length(1 << (marker - 0xc4))?;
                self.binary(len)?
            }
            0xc7..=0xc9 => {
                let len = self.length(1 << (marker - 0xc7))?;
                self.extension(len)?
            }
            0xca => Raw::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Raw::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Raw::Unsigned(u64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Raw::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Raw::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Raw::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9..=0xdb => {
                let len = self.length(1 << (marker - 0xd9))?;
                self.text(len)?
            }
            0xdc | 0xdd => {
                let len = self.length(if marker == 0xdc { 2 } else { 4 })?;
                return self.enter(len, false);
            }
            0xde | 0xdf => {
                let len = self.length(if marker == 0xde { 2 } else { 4 })?;
                return self.enter(len, true);
            }
            0xe0..=0xff => Raw::Signed(i64::from(marker.cast_signed())),
        };
        Ok(Step::Scalar)
    }

    fn bytes_from(&self, from: usize) -> &'a [u8] {
        self.input.get(from..self.pos).unwrap_or_default()
    }
}

fn signed(value: i64) -> Raw {
    u64::try_from(value).map_or(Raw::Signed(value), Raw::Unsigned)
}

impl<'a> token::Reader<'a> for Reader<'a> {
    fn step(&mut self) -> Result<Option<Step>, EncodingError> {
        self.start = self.pos;
        if self.done {
            return Ok(None);
        }
        let step = match self.open.last_mut() {
            Some(open) if open.remaining == 0 => {
                self.open.pop();
                Step::Close
            }
            Some(open) => {
                open.remaining -= 1;
                self.value()?
            }
            None => self.value()?,
        };
        self.done = self.open.is_empty();
        Ok(Some(step))
    }

    fn start(&self) -> usize {
        self.start
    }

    fn end(&self) -> usize {
        self.pos
    }

    fn depth(&self) -> usize {
        self.open.len()
    }

    fn container_len(&self) -> Option<usize> {
        Some(self.len)
    }

    fn scalar(&self) -> Scalar<'a> {
        match self.raw {
            Raw::Null => Scalar::Null,
            Raw::Undefined => Scalar::Undefined,
            Raw::Bool(value) => Scalar::Bool(value),
            Raw::Unsigned(value) => Scalar::Unsigned(value),
            Raw::Signed(value) => Scalar::Signed(value),
            Raw::Float(value) => Scalar::Float(value),
            // Checked when it was passed.
            Raw::Text { from } => Scalar::Text(String::from_utf8_lossy(self.bytes_from(from))),
            Raw::Binary { from } => Scalar::Binary(Cow::Borrowed(self.bytes_from(from))),
        }
    }

    fn finish(&mut self) -> Result<(), EncodingError> {
        if self.pos < self.input.len() {
            return Err(Fault::Trailing.at(self.pos));
        }
        Ok(())
    }
}
