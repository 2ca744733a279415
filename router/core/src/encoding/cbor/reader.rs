//! The CBOR reader: one data item, token by token.

use super::number;
use crate::encoding::token::{self, Scalar, Step};
use crate::encoding::{EncodingError, Fault, MAX_DEPTH};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Major types (RFC 8949, section 3.1).
pub(super) mod major {
    pub const UNSIGNED: u8 = 0;
    pub const NEGATIVE: u8 = 1;
    pub const BYTES: u8 = 2;
    pub const TEXT: u8 = 3;
    pub const ARRAY: u8 = 4;
    pub const MAP: u8 = 5;
    pub const TAG: u8 = 6;
}

/// The "break" stop code (RFC 8949, section 3.2.1).
const BREAK: u8 = 0xff;

/// Tags of bignums (RFC 8949, section 3.4.3).
pub(super) const BIGNUM: u64 = 2;
pub(super) const NEGATIVE_BIGNUM: u64 = 3;

/// The head of a data item, behind its tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The innermost tag.
    pub tag: Option<u64>,
    /// The major type.
    pub major: u8,
    /// The low five bits of the initial byte.
    pub info: u8,
    /// The argument; `None`: indefinite length.
    pub argument: Option<u64>,
}

/// An open array or map.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Values still to come, where keys and values both count; `None`: up to a break.
    remaining: Option<u64>,
    /// In a map without a length: whether the last one was a key, so that no break may follow.
    in_pair: bool,
    is_map: bool,
}

/// What the scalar just passed is; text and binary end where the token ends.
#[derive(Clone, Copy, Debug)]
enum Raw {
    Null,
    Undefined,
    Bool(bool),
    Number(number::Number),
    Text(Content),
    Binary(Content),
}

/// Where a string has its bytes.
#[derive(Clone, Copy, Debug)]
struct Content {
    from: usize,
    /// In chunks, each with a head, and a break behind the last.
    chunked: bool,
}

/// Reads one CBOR data item.
#[derive(Debug)]
pub(in crate::encoding) struct Reader<'a> {
    input: &'a [u8],
    pos: usize,
    start: usize,
    open: SmallVec<[Open; 16]>,
    done: bool,
    raw: Raw,
    len: Option<usize>,
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
            len: None,
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], EncodingError> {
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| self.pos.checked_add(len))
            .and_then(|end| self.input.get(self.pos..end));
        let bytes = bytes.ok_or(Fault::Truncated.at(self.input.len()))?;
        self.pos += bytes.len();
        Ok(bytes)
    }

    /// The initial byte and its argument (RFC 8949, section 3).
    fn item(&mut self) -> Result<Head, EncodingError> {
        let at = self.pos;
        let initial = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (initial >> 5, initial & 0x1f);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
            }
            31 if (major::BYTES..=major::MAP).contains(&major) => None,
            // 28 to 30 are reserved, and a break has no place here.
            _ => return Err(Fault::Syntax.at(at)),
        };
        Ok(Head {
            tag: None,
            major,
            info,
            argument,
        })
    }

    /// The next head that is no tag. Tags say how to understand a value, not what it is; those
    /// that are not known here are passed over (RFC 8949, section 3.4).
    pub(super) fn head(&mut self) -> Result<Head, EncodingError> {
        let mut tag = None;
        loop {
            let head = self.item()?;
            if head.major != major::TAG {
                return Ok(Head { tag, ..head });
            }
            tag = head.argument;
        }
    }

    /// The bytes of the next chunk of a string without a length; `None` at its break. A chunk is a
    /// string of the same type with a length (RFC 8949, section 3.2.3).
    fn chunk(&mut self, major: u8) -> Result<Option<&'a [u8]>, EncodingError> {
        let at = self.pos;
        if self.input.get(at) == Some(&BREAK) {
            self.pos += 1;
            return Ok(None);
        }
        match self.item()? {
            Head {
                major: of_chunk,
                argument: Some(len),
                ..
            } if of_chunk == major => self.run(major, len).map(Some),
            _ => Err(Fault::Syntax.at(at)),
        }
    }

    /// Bytes of a string; those of text are UTF-8, in every chunk for itself.
    fn run(&mut self, major: u8, len: u64) -> Result<&'a [u8], EncodingError> {
        let from = self.pos;
        let bytes = self.take(len)?;
        if major == major::TEXT
            && let Err(error) = std::str::from_utf8(bytes)
        {
            return Err(Fault::Utf8.at(from + error.valid_up_to()));
        }
        Ok(bytes)
    }

    fn string(&mut self, head: Head) -> Result<Content, EncodingError> {
        let content = Content {
            from: self.pos,
            chunked: head.argument.is_none(),
        };
        match head.argument {
            Some(len) => drop(self.run(head.major, len)?),
            None => while self.chunk(head.major)?.is_some() {},
        }
        Ok(content)
    }

    fn enter(&mut self, head: Head) -> Result<Step, EncodingError> {
        if self.open.len() == MAX_DEPTH {
            return Err(Fault::TooDeep.at(self.start));
        }
        let is_map = head.major == major::MAP;
        let remaining = match head.argument {
            Some(len) if is_map => Some(len.saturating_mul(2)),
            other => other,
        };
        // Every value takes at least one byte, so a length beyond the input is a lie.
        let left = (self.input.len() - self.pos) as u64;
        if remaining.is_some_and(|values| values > left) {
            return Err(Fault::Truncated.at(self.input.len()));
        }
        self.len = head.argument.and_then(|len| usize::try_from(len).ok());
        self.open.push(Open {
            remaining,
            in_pair: false,
            is_map,
        });
        Ok(if is_map { Step::Map } else { Step::Array })
    }

    fn value(&mut self) -> Result<Step, EncodingError> {
        let head = self.head()?;
        let argument = head.argument.unwrap_or_default();
        self.raw = match head.major {
            major::UNSIGNED => Raw::Number(number::Number::Unsigned(argument)),
            major::NEGATIVE => Raw::Number(number::negative(argument)),
            major::BYTES => {
                let content = self.string(head)?;
                match head.tag {
                    Some(tag @ (BIGNUM | NEGATIVE_BIGNUM)) => {
                        let bytes = self.content(content);
                        Raw::Number(number::bignum(&bytes, tag == NEGATIVE_BIGNUM))
                    }
                    _ => Raw::Binary(content),
                }
            }
            major::TEXT => Raw::Text(self.string(head)?),
            major::ARRAY | major::MAP => return self.enter(head),
            _ => match (head.info, argument) {
                (20, _) => Raw::Bool(false),
                (21, _) => Raw::Bool(true),
                (23, _) => Raw::Undefined,
                (25, bits) => Raw::Number(number::half(bits)),
                (26, bits) => Raw::Number(number::single(bits)),
                (27, bits) => Raw::Number(number::double(bits)),
                // One value has one spelling (RFC 8949, section 3.3).
                (24, ..32) => return Err(Fault::Syntax.at(self.pos - 2)),
                // Null, and simple values that nobody has assigned.
                _ => Raw::Null,
            },
        };
        Ok(Step::Scalar)
    }

    fn bytes_from(&self, from: usize) -> &'a [u8] {
        self.input.get(from..self.pos).unwrap_or_default()
    }

    /// The bytes of a string that ends here, and was checked when it was passed.
    fn content(&self, content: Content) -> Cow<'a, [u8]> {
        let bytes = self.bytes_from(content.from);
        if !content.chunked {
            return Cow::Borrowed(bytes);
        }
        let mut chunks = Reader::new(bytes);
        let mut joined = Vec::new();
        // Their type is that of the string, whatever it is.
        while chunks.input.get(chunks.pos) != Some(&BREAK) {
            let Ok(Head {
                argument: Some(len),
                ..
            }) = chunks.item()
            else {
                break;
            };
            joined.extend_from_slice(chunks.take(len).unwrap_or_default());
        }
        Cow::Owned(joined)
    }

    fn text(&self, content: Content) -> Cow<'a, str> {
        match self.content(content) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).unwrap_or_default()),
        }
    }
}

impl<'a> token::Reader<'a> for Reader<'a> {
    fn step(&mut self) -> Result<Option<Step>, EncodingError> {
        self.start = self.pos;
        if self.done {
            return Ok(None);
        }
        let at_break = self.input.get(self.pos) == Some(&BREAK);
        let step = match self.open.last_mut() {
            Some(Open {
                remaining: Some(0), ..
            }) => {
                self.open.pop();
                Step::Close
            }
            Some(Open {
                remaining: None,
                in_pair: false,
                ..
            }) if at_break => {
                self.pos += 1;
                self.open.pop();
                Step::Close
            }
            Some(open) => {
                open.remaining = open.remaining.map(|values| values - 1);
                open.in_pair = open.is_map && !open.in_pair;
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
        self.len
    }

    fn scalar(&self) -> Scalar<'a> {
        match self.raw {
            Raw::Null => Scalar::Null,
            Raw::Undefined => Scalar::Undefined,
            Raw::Bool(value) => Scalar::Bool(value),
            Raw::Number(number::Number::Unsigned(value)) => Scalar::Unsigned(value),
            Raw::Number(number::Number::Signed(value)) => Scalar::Signed(value),
            Raw::Number(number::Number::Float(value)) => Scalar::Float(value),
            Raw::Text(content) => Scalar::Text(self.text(content)),
            Raw::Binary(content) => Scalar::Binary(self.content(content)),
        }
    }

    fn finish(&mut self) -> Result<(), EncodingError> {
        if self.pos < self.input.len() {
            return Err(Fault::Trailing.at(self.pos));
        }
        Ok(())
    }
}
