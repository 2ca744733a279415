//! The CBOR writer.

use super::reader::major;
use crate::encoding::token::{self, Scalar};
use bytes::BufMut;

/// Writes CBOR with definite lengths, every integer and head in its shortest form; floats as
/// doubles.
#[derive(Debug)]
pub(in crate::encoding) struct Writer<'o, B> {
    out: &'o mut B,
}

impl<'o, B: BufMut> Writer<'o, B> {
    pub(in crate::encoding) fn new(out: &'o mut B) -> Self {
        Writer { out }
    }
}

impl<B: BufMut> token::Writer for Writer<'_, B> {
    fn scalar(&mut self, scalar: Scalar<'_>) {
        match scalar {
            Scalar::Null | Scalar::Undefined => self.out.put_u8(0xf6),
            Scalar::Bool(false) => self.out.put_u8(0xf4),
            Scalar::Bool(true) => self.out.put_u8(0xf5),
            Scalar::Unsigned(value) => put_unsigned(self.out, value),
            // -1 - value, without the overflow.
            Scalar::Signed(value) if value < 0 => {
                put_head(self.out, major::NEGATIVE, (!value).unsigned_abs());
            }
            Scalar::Signed(value) => put_unsigned(self.out, value.unsigned_abs()),
            Scalar::Float(value) => {
                self.out.put_u8(0xfb);
                self.out.put_f64(value);
            }
            Scalar::Text(text) => put_text(self.out, &text),
            Scalar::Binary(bytes) => put_binary(self.out, &bytes),
        }
    }

    fn array(&mut self, len: usize) {
        put_array_header(self.out, len);
    }

    fn map(&mut self, len: usize) {
        put_map_header(self.out, len);
    }

    fn close(&mut self) {}
}

/// Writes an unsigned integer.
pub fn put_unsigned(out: &mut impl BufMut, value: u64) {
    put_head(out, major::UNSIGNED, value);
}

/// Writes a string.
pub fn put_text(out: &mut impl BufMut, text: &str) {
    put_head(out, major::TEXT, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// Writes a byte string.
pub fn put_binary(out: &mut impl BufMut, bytes: &[u8]) {
    put_head(out, major::BYTES, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Writes the header of an array of `len` elements, which must follow.
pub fn put_array_header(out: &mut impl BufMut, len: usize) {
    put_head(out, major::ARRAY, len as u64);
}

/// Writes the header of a map of `len` entries, which must follow.
pub fn put_map_header(out: &mut impl BufMut, len: usize) {
    put_head(out, major::MAP, len as u64);
}

/// The shortest head (RFC 8949, section 4.2.1).
fn put_head(out: &mut impl BufMut, major: u8, argument: u64) {
    let major = major << 5;
    if let Ok(argument) = u8::try_from(argument) {
        if argument < 24 {
            out.put_u8(major | argument);
        } else {
            out.put_slice(&[major | 24, argument]);
        }
    } else if let Ok(argument) = u16::try_from(argument) {
        out.put_u8(major | 25);
        out.put_u16(argument);
    } else if let Ok(argument) = u32::try_from(argument) {
        out.put_u8(major | 26);
        out.put_u32(argument);
    } else {
        out.put_u8(major | 27);
        out.put_u64(argument);
    }
}
