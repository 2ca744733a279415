//! The MessagePack writer.

use crate::encoding::token::{self, Scalar};
use bytes::BufMut;

/// Writes MessagePack, every integer, length and header in its shortest form; floats as doubles.
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
            Scalar::Null | Scalar::Undefined => self.out.put_u8(0xc0),
            Scalar::Bool(false) => self.out.put_u8(0xc2),
            Scalar::Bool(true) => self.out.put_u8(0xc3),
            Scalar::Unsigned(value) => put_unsigned(self.out, value),
            Scalar::Signed(value) => put_signed(self.out, value),
            Scalar::Float(value) => {
                self.out.put_u8(0xcb);
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
    if let Ok(value) = u8::try_from(value) {
        if value > 0x7f {
            out.put_u8(0xcc);
        }
        out.put_u8(value);
    } else if let Ok(value) = u16::try_from(value) {
        out.put_u8(0xcd);
        out.put_u16(value);
    } else if let Ok(value) = u32::try_from(value) {
        out.put_u8(0xce);
        out.put_u32(value);
    } else {
        out.put_u8(0xcf);
        out.put_u64(value);
    }
}

fn put_signed(out: &mut impl BufMut, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        put_unsigned(out, value);
    } else if let Ok(value) = i8::try_from(value) {
        if value < -32 {
            out.put_u8(0xd0);
        }
        out.put_i8(value);
    } else if let Ok(value) = i16::try_from(value) {
        out.put_u8(0xd1);
        out.put_i16(value);
    } else if let Ok(value) = i32::try_from(value) {
        out.put_u8(0xd2);
        out.put_i32(value);
    } else {
        out.put_u8(0xd3);
        out.put_i64(value);
    }
}

/// Writes a string.
pub fn put_text(out: &mut impl BufMut, text: &str) {
    match text.len() {
        // Below 32 by the pattern.
        len @ 0..=31 => out.put_u8(0xa0 | len as u8),
        len => put_length(out, len, [Some(0xd9), Some(0xda), Some(0xdb)]),
    }
    out.put_slice(text.as_bytes());
}

/// Writes a byte string.
pub fn put_binary(out: &mut impl BufMut, bytes: &[u8]) {
    put_length(out, bytes.len(), [Some(0xc4), Some(0xc5), Some(0xc6)]);
    out.put_slice(bytes);
}

/// Writes the header of an array of `len` elements, which must follow.
pub fn put_array_header(out: &mut impl BufMut, len: usize) {
    match len {
        // Below 16 by the pattern.
        0..=15 => out.put_u8(0x90 | len as u8),
        _ => put_length(out, len, [None, Some(0xdc), Some(0xdd)]),
    }
}

/// Writes the header of a map of `len` entries, which must follow.
pub fn put_map_header(out: &mut impl BufMut, len: usize) {
    match len {
        // Below 16 by the pattern.
        0..=15 => out.put_u8(0x80 | len as u8),
        _ => put_length(out, len, [None, Some(0xde), Some(0xdf)]),
    }
}

/// Writes the shortest of the markers for one, two and four length bytes, and the length. What is
/// in memory and came from a frame is far below 4 GiB; a longer length is written as the greatest,
/// so that the result is refused as truncated and never read as something else.
fn put_length(out: &mut impl BufMut, len: usize, [one, two, four]: [Option<u8>; 3]) {
    match (u8::try_from(len), u16::try_from(len), one, two, four) {
        (Ok(len), _, Some(marker), ..) => {
            out.put_u8(marker);
            out.put_u8(len);
        }
        (_, Ok(len), _, Some(marker), _) => {
            out.put_u8(marker);
            out.put_u16(len);
        }
        (.., marker) => {
            out.put_u8(marker.unwrap_or(0xc1));
            out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }
}
