//! The JSON reader: one value, token by token.

use super::is_space;
use crate::encoding::token::{self, Scalar, Step};
use crate::encoding::{EncodingError, Fault, MAX_DEPTH};
use std::borrow::Cow;

/// What the grammar allows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrClose,
    Key,
    KeyOrClose,
    CommaOrClose,
    Nothing,
}

/// What the scalar just passed is.
#[derive(Clone, Copy, Debug)]
enum Raw {
    Null,
    Bool(bool),
    Number { integral: bool },
    Text { escaped: bool },
}

/// Reads one JSON value.
///
/// Numbers: without fraction and exponent they are integers if they fit 64 bits (`-0` is the float
/// it is for everybody else), beyond that floats with the loss this means; with fraction or
/// exponent they are floats, infinite beyond the range of a double.
#[derive(Debug)]
pub(in crate::encoding) struct Reader<'a> {
    text: &'a str,
    /// Where the next token is looked for.
    pos: usize,
    start: usize,
    end: usize,
    /// One bit per open container, innermost lowest: whether it is a map.
    maps: u128,
    depth: usize,
    max_depth: usize,
    expect: Expect,
    raw: Raw,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// [`Fault::Utf8`] if any byte of the input is not.
    pub(in crate::encoding) fn new(input: &'a [u8]) -> Result<Reader<'a>, EncodingError> {
        Reader::with_max_depth(input, MAX_DEPTH)
    }

    /// At most [`MAX_DEPTH`], which is what fits the bits of `maps`.
    pub(super) fn with_max_depth(
        input: &'a [u8],
        max_depth: usize,
    ) -> Result<Reader<'a>, EncodingError> {
        let text = std::str::from_utf8(input).map_err(|e| Fault::Utf8.at(e.valid_up_to()))?;
        Ok(Reader {
            text,
            pos: 0,
            start: 0,
            end: 0,
            maps: 0,
            depth: 0,
            max_depth: max_depth.min(MAX_DEPTH),
            expect: Expect::Value,
            raw: Raw::Null,
        })
    }

    /// Goes on behind an element of an array, the outermost value; `rest` is what follows it.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub(in crate::encoding) fn in_array(rest: &'a [u8]) -> Result<Reader<'a>, EncodingError> {
        Ok(Reader {
            depth: 1,
            expect: Expect::CommaOrClose,
            ..Reader::new(rest)?
        })
    }

    /// Whether every parser can hold the scalar just passed: text without a lone surrogate, a
    /// finite number.
    pub(super) fn is_portable(&self) -> bool {
        match self.raw {
            Raw::Null | Raw::Bool(_) | Raw::Text { escaped: false } => true,
            Raw::Text { escaped: true } => {
                let quoted = self.token();
                let inner = quoted
                    .get(1..quoted.len().saturating_sub(1))
                    .unwrap_or_default();
                unescape(inner).1
            }
            Raw::Number { integral } => match number(self.token(), integral) {
                Scalar::Float(value) => value.is_finite(),
                _ => true,
            },
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn skip_space(&mut self) {
        while self.byte(self.pos).is_some_and(is_space) {
            self.pos += 1;
        }
    }

    const fn in_map(&self) -> bool {
        self.maps & 1 == 1
    }

    fn after_value(&self) -> Expect {
        if self.depth == 0 {
            Expect::Nothing
        } else {
            Expect::CommaOrClose
        }
    }

    fn open(&mut self, is_map: bool) -> Result<Step, EncodingError> {
        if self.depth == self.max_depth {
            return Err(Fault::TooDeep.at(self.pos));
        }
        self.depth += 1;
        self.maps = self.maps << 1 | u128::from(is_map);
        self.pos += 1;
        self.end = self.pos;
        self.expect = if is_map {
            Expect::KeyOrClose
        } else {
            Expect::ValueOrClose
        };
        Ok(if is_map { Step::Map } else { Step::Array })
    }

    fn close(&mut self) -> Step {
        self.depth -= 1;
        self.maps >>= 1;
        self.pos += 1;
        self.end = self.pos;
        self.expect = self.after_value();
        Step::Close
    }

    fn value(&mut self, first: u8) -> Result<Step, EncodingError> {
        self.raw = match first {
            b'[' => return self.open(false),
            b'{' => return self.open(true),
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            b'n' => self.word("null", Raw::Null)?,
            b't' => self.word("true", Raw::Bool(true))?,
            b'f' => self.word("false", Raw::Bool(false))?,
            _ => return Err(Fault::Syntax.at(self.pos)),
        };
        self.end = self.pos;
        self.expect = self.after_value();
        Ok(Step::Scalar)
    }

    fn key(&mut self, first: u8) -> Result<Step, EncodingError> {
        if first != b'"' {
            return Err(Fault::Syntax.at(self.pos));
        }
        self.raw = self.string()?;
        self.end = self.pos;
        self.skip_space();
        match self.byte(self.pos) {
            Some(b':') => self.pos += 1,
            Some(_) => return Err(Fault::Syntax.at(self.pos)),
            None => return Err(Fault::Truncated.at(self.pos)),
        }
        self.expect = Expect::Value;
        Ok(Step::Scalar)
    }

    fn word(&mut self, word: &'static str, raw: Raw) -> Result<Raw, EncodingError> {
        for expected in word.bytes() {
            match self.byte(self.pos) {
                Some(byte) if byte == expected => self.pos += 1,
                Some(_) => return Err(Fault::Syntax.at(self.pos)),
                None => return Err(Fault::Truncated.at(self.pos)),
            }
        }
        Ok(raw)
    }

    /// From the opening quote to behind the closing one.
    fn string(&mut self) -> Result<Raw, EncodingError> {
        self.pos += 1;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.pos..).unwrap_or_default();
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let run = rest.get(..plain).unwrap_or_default();
            // Without an early exit this is a few instructions for every 16 bytes.
            if run.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
                let control = run.iter().position(|byte| *byte < 0x20).unwrap_or_default();
                return Err(Fault::Syntax.at(self.pos + control));
            }
            self.pos += plain;
            match self.byte(self.pos) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Raw::Text { escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Fault::Truncated.at(self.pos)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), EncodingError> {
        let hex_digits = match self.byte(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(Fault::Syntax.at(self.pos + 1)),
            None => return Err(Fault::Truncated.at(self.pos + 1)),
        };
        self.pos += 2;
        for _ in 0..hex_digits {
            match self.byte(self.pos) {
                Some(byte) if byte.is_ascii_hexdigit() => self.pos += 1,
                Some(_) => return Err(Fault::Syntax.at(self.pos)),
                None => return Err(Fault::Truncated.at(self.pos)),
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Raw, EncodingError> {
        let mut integral = true;
        if self.byte(self.pos) == Some(b'-') {
            self.pos += 1;
        }
        if self.byte(self.pos) == Some(b'0') {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.byte(self.pos) == Some(b'.') {
            integral = false;
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.byte(self.pos), Some(b'e' | b'E')) {
            integral = false;
            self.pos += 1;
            if matches!(self.byte(self.pos), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(Raw::Number { integral })
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), EncodingError> {
        match self.byte(self.pos) {
            Some(b'0'..=b'9') => {}
            Some(_) => return Err(Fault::Syntax.at(self.pos)),
            None => return Err(Fault::Truncated.at(self.pos)),
        }
        while self.byte(self.pos).is_some_and(|b| b.is_ascii_digit()) {
            self.pos += 1;
        }
        Ok(())
    }

    fn token(&self) -> &'a str {
        self.text.get(self.start..self.end).unwrap_or_default()
    }
}

impl<'a> token::Reader<'a> for Reader<'a> {
    fn step(&mut self) -> Result<Option<Step>, EncodingError> {
        loop {
            if self.expect == Expect::Nothing {
                return Ok(None);
            }
            self.skip_space();
            let Some(byte) = self.byte(self.pos) else {
                return Err(Fault::Truncated.at(self.pos));
            };
            self.start = self.pos;
            let closes = byte == if self.in_map() { b'}' } else { b']' };
            let step = match self.expect {
                Expect::ValueOrClose | Expect::KeyOrClose | Expect::CommaOrClose if closes => {
                    self.close()
                }
                Expect::Value | Expect::ValueOrClose => self.value(byte)?,
                Expect::Key | Expect::KeyOrClose => self.key(byte)?,
                Expect::CommaOrClose | Expect::Nothing => {
                    if byte != b',' {
                        return Err(Fault::Syntax.at(self.pos));
                    }
                    self.pos += 1;
                    self.expect = if self.in_map() {
                        Expect::Key
                    } else {
                        Expect::Value
                    };
                    continue;
                }
            };
            return Ok(Some(step));
        }
    }

    fn start(&self) -> usize {
        self.start
    }

    fn end(&self) -> usize {
        self.end
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn container_len(&self) -> Option<usize> {
        None
    }

    fn scalar(&self) -> Scalar<'a> {
        match self.raw {
            Raw::Null => Scalar::Null,
            Raw::Bool(value) => Scalar::Bool(value),
            Raw::Number { integral } => number(self.token(), integral),
            Raw::Text { escaped } => {
                let quoted = self.token();
                let inner = quoted
                    .get(1..quoted.len().saturating_sub(1))
                    .unwrap_or_default();
                Scalar::Text(if escaped {
                    unescape(inner).0
                } else {
                    Cow::Borrowed(inner)
                })
            }
        }
    }

    fn finish(&mut self) -> Result<(), EncodingError> {
        self.skip_space();
        if self.pos < self.text.len() {
            return Err(Fault::Trailing.at(self.pos));
        }
        Ok(())
    }
}

fn number<'a>(token: &str, integral: bool) -> Scalar<'a> {
    if integral && token != "-0" {
        if let Ok(value) = token.parse::<u64>() {
            return Scalar::Unsigned(value);
        }
        if let Ok(value) = token.parse::<i64>() {
            return Scalar::Signed(value);
        }
    }
    // Every JSON number is a Rust float literal, so the parse does not fail.
    token.parse::<f64>().map_or(Scalar::Null, Scalar::Float)
}

/// Resolves the escapes of a checked string; also says whether no lone surrogate was replaced.
pub(super) fn unescape(inner: &str) -> (Cow<'_, str>, bool) {
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else {
        return (Cow::Borrowed(inner), true);
    };
    let mut out = String::with_capacity(inner.len());
    out.push_str(inner.get(..first).unwrap_or_default());
    let mut exact = true;
    let mut rest = inner.get(first..).unwrap_or_default();
    while let Some(after) = rest.strip_prefix('\\') {
        let mut chars = after.chars();
        let code = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        match code {
            'u' => {
                let (c, behind) = unicode_escape(rest);
                exact &= c.is_some();
                out.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = behind;
            }
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            other => out.push(other),
        }
        let plain = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        let (run, behind) = rest.split_at_checked(plain).unwrap_or((rest, ""));
        out.push_str(run);
        rest = behind;
    }
    (Cow::Owned(out), exact)
}

/// Reads the hex digits behind `\u`, and the second half of a surrogate pair if there is one;
/// `None` is a lone surrogate.
fn unicode_escape(rest: &str) -> (Option<char>, &str) {
    let (unit, behind) = hex_unit(rest);
    if (0xd800..0xdc00).contains(&unit)
        && let Some(second) = behind.strip_prefix("\\u")
    {
        let (low, behind_pair) = hex_unit(second);
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return (char::from_u32(code), behind_pair);
        }
    }
    (char::from_u32(unit), behind)
}

fn hex_unit(rest: &str) -> (u32, &str) {
    let (digits, behind) = rest.split_at_checked(4).unwrap_or((rest, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xd800), behind)
}
