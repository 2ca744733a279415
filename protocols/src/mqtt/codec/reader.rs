//! A checked cursor over the body of one packet: the data types of 5.0 section 1.5.
//!
//! Every read is bounded by the packet, so a lying length inside it is an error, never a wait for
//! more bytes and never a read of the next packet.

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::error::DecodeError;
use crate::mqtt::packet::PacketId;

const SHORT: DecodeError = DecodeError::malformed("packet ends inside a field");

pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().map_err(|_| SHORT)
    }

    /// Packet Identifier: not zero `[MQTT-2.2.1-3]` `[MQTT-2.2.1-4]`.
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::malformed("Packet Identifier is 0"))
    }

    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let (value, length) = variable_byte_integer(&self.bytes)?.ok_or(SHORT)?;
        self.bytes.advance(length);
        Ok(value)
    }

    /// The next `length` bytes as a reader of their own.
    pub(super) fn part(&mut self, length: usize) -> Result<Self, DecodeError> {
        self.take(length).map(Self::new)
    }

    /// Binary Data (5.0 section 1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    /// UTF-8 Encoded String (5.0 section 1.5.4).
    ///
    /// Ill-formed UTF-8, surrogates among it, and U+0000 are refused `[MQTT-1.5.4-1]`
    /// `[MQTT-1.5.4-2]`; U+FEFF is an ordinary character and kept `[MQTT-1.5.4-3]`.
    pub(super) fn string(&mut self) -> Result<ByteString, DecodeError> {
        let bytes = self.binary()?;
        if memchr::memchr(0, &bytes).is_some() {
            return Err(DecodeError::malformed("string contains U+0000"));
        }
        ByteString::try_from(bytes).map_err(|_| DecodeError::malformed("string is not UTF-8"))
    }

    /// Everything that is left.
    pub(super) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Ends the packet: bytes nobody asked for make it malformed.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes after the end of the packet"))
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(SHORT);
        }
        Ok(self.bytes.split_to(length))
    }
}

/// Reads a Variable Byte Integer: its value and length in bytes, `None` if it is not complete.
///
/// It must use the minimum number of bytes `[MQTT-1.5.5-1]`. The rule is applied to 3.x too,
/// whose table of Remaining Length gives the same ranges.
pub(super) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return if byte == 0 && index > 0 {
                Err(DecodeError::malformed(
                    "Variable Byte Integer is not minimal",
                ))
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if bytes.len() >= 4 {
        Err(DecodeError::malformed(
            "Variable Byte Integer is longer than 4 bytes",
        ))
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers() {
        type Case = (&'static [u8], Option<(u32, usize)>);
        let cases: [Case; 8] = [
            (&[0x00], Some((0, 1))),
            (&[0x7F, 0xFF], Some((127, 1))),
            (&[0x80, 0x01], Some((128, 2))),
            (&[0xFF, 0xFF, 0x7F], Some((2_097_151, 3))),
            (&[0xFF, 0xFF, 0xFF, 0x7F], Some((268_435_455, 4))),
            (&[], None),
            (&[0x80], None),
            (&[0xFF, 0xFF, 0xFF], None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(variable_byte_integer(bytes), Ok(expected), "{bytes:02X?}");
        }
        for bad in [
            &[0x80u8, 0x00][..],
            &[0xFF, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80],
        ] {
            assert!(variable_byte_integer(bad).is_err(), "{bad:02X?}");
        }
    }

    #[test]
    fn a_string_never_reaches_beyond_its_packet() {
        let mut reader = Reader::new(Bytes::from_static(b"\x00\x05abcd"));
        assert_eq!(reader.string(), Err(SHORT));
        let mut reader = Reader::new(Bytes::from_static(b"\x00"));
        assert_eq!(reader.string(), Err(SHORT));
    }

    #[test]
    fn strings_are_utf_8_without_nul() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).string();
        assert!(read(b"\x00\x03\xED\xA0\x80").is_err(), "surrogate U+D800");
        assert!(
            read(b"\x00\x02\xC0\x80").is_err(),
            "overlong U+0000 of modified UTF-8"
        );
        assert!(read(b"\x00\x03a\x00b").is_err(), "U+0000");
        assert!(read(b"\x00\x01\xFF").is_err(), "ill-formed");
        let kept = read(b"\x00\x04\xEF\xBB\xBFa").expect("legal");
        assert_eq!(&*kept, "\u{FEFF}a");
    }
}
