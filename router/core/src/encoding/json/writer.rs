//! The JSON writer.

use crate::encoding::token::{self, BASE64, Scalar};
use base64::Engine;
use bytes::BufMut;
use std::fmt;

/// Writes JSON without white space.
#[derive(Debug)]
pub(in crate::encoding) struct Writer<'o, B> {
    out: &'o mut B,
    /// One bit per open container, innermost lowest: whether it is a map.
    maps: SmallBits,
    /// How many keys and values the innermost container has so far, as far as it matters: none,
    /// an odd or an even number.
    members: Members,
}

type SmallBits = smallvec::SmallVec<[bool; 32]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    None,
    Odd,
    Even,
}

impl<'o, B: BufMut> Writer<'o, B> {
    pub(in crate::encoding) fn new(out: &'o mut B) -> Self {
        Writer {
            out,
            maps: SmallBits::new(),
            members: Members::None,
        }
    }

    fn in_map(&self) -> bool {
        self.maps.last() == Some(&true)
    }

    /// Whether the next scalar is a key.
    fn at_key(&self) -> bool {
        self.in_map() && self.members != Members::Odd
    }

    fn separate(&mut self) {
        if !self.maps.is_empty() {
            match self.members {
                Members::None => {}
                Members::Odd if self.in_map() => self.out.put_u8(b':'),
                Members::Odd | Members::Even => self.out.put_u8(b','),
            }
        }
        self.members = if self.members == Members::Odd {
            Members::Even
        } else {
            Members::Odd
        };
    }

    fn open(&mut self, is_map: bool) {
        self.separate();
        self.out.put_u8(if is_map { b'{' } else { b'[' });
        self.maps.push(is_map);
        self.members = Members::None;
    }
}

impl<B: BufMut> token::Writer for Writer<'_, B> {
    fn scalar(&mut self, scalar: Scalar<'_>) {
        let is_key = self.at_key();
        self.separate();
        let is_text = matches!(scalar, Scalar::Text(_) | Scalar::Binary(_));
        let quote = is_key && !is_text;
        if quote {
            self.out.put_u8(b'"');
        }
        match scalar {
            Scalar::Null | Scalar::Undefined => self.out.put_slice(b"null"),
            Scalar::Bool(true) => self.out.put_slice(b"true"),
            Scalar::Bool(false) => self.out.put_slice(b"false"),
            Scalar::Unsigned(value) => put_unsigned(self.out, value),
            Scalar::Signed(value) => {
                if value < 0 {
                    self.out.put_u8(b'-');
                }
                put_unsigned(self.out, value.unsigned_abs());
            }
            Scalar::Float(value) => put_float(self.out, value),
            Scalar::Text(text) => put_text(self.out, &text),
            Scalar::Binary(bytes) => {
                self.out.put_slice(b"\"\\u0000");
                self.out.put_slice(BASE64.encode(bytes).as_bytes());
                self.out.put_u8(b'"');
            }
        }
        if quote {
            self.out.put_u8(b'"');
        }
    }

    fn array(&mut self, _len: usize) {
        self.open(false);
    }

    fn map(&mut self, _len: usize) {
        self.open(true);
    }

    fn close(&mut self) {
        self.out.put_u8(if self.in_map() { b'}' } else { b']' });
        self.maps.pop();
        // The container just closed was either a value of a map or an element of an array; both
        // are followed by a comma.
        self.members = Members::Even;
    }
}

/// Writes the decimal digits.
pub fn put_unsigned(out: &mut impl BufMut, value: u64) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the shortest decimal that reads back as the same double, always with a fraction or an
/// exponent so that it stays a float; NaN and infinities become null.
fn put_float(out: &mut impl BufMut, value: f64) {
    struct Sink<'o, B>(&'o mut B);
    impl<B: BufMut> fmt::Write for Sink<'_, B> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.put_slice(text.as_bytes());
            Ok(())
        }
    }
    if !value.is_finite() || fmt::write(&mut Sink(out), format_args!("{value:?}")).is_err() {
        out.put_slice(b"null");
    }
}

/// Writes a quoted and escaped string.
pub fn put_text(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(plain) = rest
        .iter()
        .position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))
    {
        out.put_slice(rest.get(..plain).unwrap_or_default());
        match rest.get(plain) {
            Some(b'\n') => out.put_slice(b"\\n"),
            Some(b'\r') => out.put_slice(b"\\r"),
            Some(b'\t') => out.put_slice(b"\\t"),
            Some(control @ 0..=0x1f) => {
                out.put_slice(b"\\u00");
                out.put_u8(if *control < 0x10 { b'0' } else { b'1' });
                let low = control & 0xf;
                out.put_u8(if low < 10 {
                    b'0' + low
                } else {
                    b'a' + low - 10
                });
            }
            Some(special) => out.put_slice(&[b'\\', *special]),
            None => {}
        }
        rest = rest.get(plain + 1..).unwrap_or_default();
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}
