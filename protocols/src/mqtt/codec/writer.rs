//! Writing the data types of 5.0 section 1.5, to a buffer or to a mere count.
//!
//! One function writes each packet; run over a [`Count`] it yields the Remaining Length, and it
//! finds every error before the first byte reaches the buffer.

use bytes::{BufMut, BytesMut};

use super::MAX_VARIABLE_BYTE_INTEGER;
use super::error::EncodeError;

pub(super) trait Sink {
    fn slice(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.slice(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    /// UTF-8 Encoded String: without U+0000 `[MQTT-1.5.4-2]`, which other protocols may let in.
    fn string(&mut self, text: &str) -> Result<(), EncodeError> {
        if memchr::memchr(0, text.as_bytes()).is_some() {
            return Err(EncodeError::Inconsistent("string contains U+0000"));
        }
        self.binary(text.as_bytes())
    }

    /// Binary Data.
    fn binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
        self.u16(length);
        self.slice(bytes);
        Ok(())
    }

    /// Variable Byte Integer in the minimum number of bytes `[MQTT-1.5.5-1]`.
    fn variable_byte_integer(&mut self, value: usize) -> Result<(), EncodeError> {
        if value > MAX_VARIABLE_BYTE_INTEGER {
            return Err(EncodeError::PacketTooLarge {
                size: value,
                maximum: MAX_VARIABLE_BYTE_INTEGER,
            });
        }
        let digit = |at: u32| (value >> (7 * at)) as u8;
        match value {
            0..0x80 => self.u8(digit(0)),
            0x80..0x4000 => self.slice(&[digit(0) | 0x80, digit(1)]),
            0x4000..0x20_0000 => self.slice(&[digit(0) | 0x80, digit(1) | 0x80, digit(2)]),
            _ => self.slice(&[digit(0) | 0x80, digit(1) | 0x80, digit(2) | 0x80, digit(3)]),
        }
        Ok(())
    }
}

impl Sink for BytesMut {
    fn slice(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Counts the bytes that would be written.
#[derive(Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Bytes `write` would append.
pub(super) fn count(
    write: impl FnOnce(&mut Count) -> Result<(), EncodeError>,
) -> Result<usize, EncodeError> {
    let mut sink = Count::default();
    write(&mut sink)?;
    Ok(sink.0)
}

/// Bytes of fixed header and body for a Remaining Length.
pub(super) fn packet_len(remaining: usize) -> Result<usize, EncodeError> {
    let header = count(|sink| sink.variable_byte_integer(remaining))?;
    Ok(1 + header + remaining)
}

#[cfg(test)]
mod tests {
    use super::super::reader;
    use super::*;

    #[test]
    fn variable_byte_integers_are_minimal_and_read_back() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut out = BytesMut::new();
            out.variable_byte_integer(value).expect("in range");
            let read = reader::variable_byte_integer(&out)
                .expect("minimal")
                .expect("complete");
            assert_eq!((read.0 as usize, read.1), (value, out.len()));
        }
        let mut out = BytesMut::new();
        assert!(out.variable_byte_integer(268_435_456).is_err());
        assert!(out.is_empty(), "nothing is written on error");
    }

    #[test]
    fn fields_end_at_65_535_bytes() {
        let mut sink = Count::default();
        assert_eq!(sink.binary(&[0; 65_535]), Ok(()));
        assert_eq!(sink.0, 65_537);
        assert_eq!(sink.binary(&[0; 65_536]), Err(EncodeError::FieldTooLong));
    }
}
