//! MessagePack, over borrowed bytes.
//!
//! The reader checks lengths against what is really there before it believes them, and text for
//! UTF-8. Extensions read as binary (their type is dropped), except type 0 of length 1: JavaScript
//! packers write `undefined` so. The byte 0xc1 starts nothing.

mod reader;
mod writer;

use super::Kind;
use super::token::{Reader as _, Scalar, Step};
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

/// The content of a string; `None` if the value is no well-formed string.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    match scalar(value)? {
        Scalar::Text(Cow::Borrowed(text)) => Some(text),
        _ => None,
    }
}

/// The content of a byte string or an extension; `None` if the value is neither.
#[must_use]
pub fn binary(value: &[u8]) -> Option<&[u8]> {
    match scalar(value)? {
        Scalar::Binary(Cow::Borrowed(bytes)) => Some(bytes),
        _ => None,
    }
}

fn scalar(value: &[u8]) -> Option<Scalar<'_>> {
    let mut reader = Reader::new(value);
    (reader.step().ok()? == Some(Step::Scalar)).then(|| reader.scalar())
}

/// See [`Encoding::kind`](super::Encoding::kind).
pub(super) fn kind(value: &[u8]) -> Option<Kind> {
    Some(match (*value.first()?, value.get(1), value.get(2)) {
        (0xc0, ..) => Kind::Null,
        (0xd4, Some(0), _) | (0xc7, Some(1), Some(0)) => Kind::Undefined,
        (0xc2 | 0xc3, ..) => Kind::Bool,
        (0x00..=0x7f | 0xcc..=0xd3 | 0xe0.., ..) => Kind::Integer,
        (0xca | 0xcb, ..) => Kind::Float,
        (0xa0..=0xbf | 0xd9..=0xdb, ..) => Kind::Text,
        (0xc4..=0xc9 | 0xd4..=0xd8, ..) => Kind::Binary,
        (0x90..=0x9f | 0xdc | 0xdd, ..) => Kind::Array,
        (0x80..=0x8f | 0xde | 0xdf, ..) => Kind::Map,
        (0xc1, ..) => return None,
    })
}

/// See [`Encoding::is_empty_container`](super::Encoding::is_empty_container).
pub(super) fn is_empty_container(value: &[u8]) -> bool {
    matches!(
        value,
        [0x90 | 0x80] | [0xdc | 0xde, 0, 0] | [0xdd | 0xdf, 0, 0, 0, 0]
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, Fault};
    use super::*;

    fn fault(bytes: &[u8]) -> Option<Fault> {
        Encoding::MsgPack
            .check(bytes)
            .err()
            .map(|error| error.fault)
    }

    #[test]
    fn believes_no_length() {
        let lies: [&[u8]; 10] = [
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0x00],
            &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 0x05],
            &[0x92, 0x01],
            &[0x81, 0x01],
            &[0xcf, 0, 0, 0],
            &[0xd8, 0x01],
            &[],
        ];
        for lie in lies {
            assert_eq!(fault(lie), Some(Fault::Truncated), "{lie:x?}");
        }
    }

    #[test]
    fn refuses_what_starts_nothing_and_what_is_no_text() {
        assert_eq!(fault(&[0xc1]), Some(Fault::Syntax));
        assert_eq!(fault(&[0xa1, 0xff]), Some(Fault::Utf8));
        assert_eq!(fault(&[0x91, 0xd9, 2, b'a', 0xc3]), Some(Fault::Utf8));
        assert_eq!(fault(&[0x01, 0x01]), Some(Fault::Trailing));
        assert_eq!(fault(&[0xc4, 1, 0xff]), None);
    }

    #[test]
    fn accepts_integral_floats_as_integers() {
        let double = |value: f64| [&[0xcb][..], &value.to_be_bytes()].concat();
        assert_eq!(unsigned(&double(7.0)), Some(7));
        assert_eq!(unsigned(&double(9_007_199_254_740_992.0)), Some(1 << 53));
        assert_eq!(unsigned(&[0xca, 0x40, 0xe0, 0, 0]), Some(7));
        assert_eq!(unsigned(&[0xd3, 0, 0, 0, 0, 0, 0, 0, 9]), Some(9));
        for other in [0.5, -1.0, 1.8e16, f64::NAN, f64::INFINITY] {
            assert_eq!(unsigned(&double(other)), None, "{other}");
        }
        for other in [&[0xff][..], &[0xa1, b'1'], &[0xc3], &[0x91, 1]] {
            assert_eq!(unsigned(other), None, "{other:x?}");
        }
    }

    #[test]
    fn recognises_undefined_and_nothing_else() {
        assert_eq!(kind(&[0xd4, 0, 0]), Some(Kind::Undefined));
        assert_eq!(kind(&[0xc7, 1, 0, 9]), Some(Kind::Undefined));
        assert_eq!(kind(&[0xd4, 1, 0]), Some(Kind::Binary));
        assert_eq!(kind(&[0xd5, 0, 0, 0]), Some(Kind::Binary));
        assert_eq!(kind(&[0xc7, 2, 0, 0, 0]), Some(Kind::Binary));
    }

    #[test]
    fn tells_kinds_and_empty_containers() {
        let kinds: [(&[u8], Kind); 14] = [
            (&[0xc0], Kind::Null),
            (&[0xc2], Kind::Bool),
            (&[0x05], Kind::Integer),
            (&[0xe0], Kind::Integer),
            (&[0xcc, 200], Kind::Integer),
            (&[0xd0, 200], Kind::Integer),
            (&[0xca, 0, 0, 0, 0], Kind::Float),
            (&[0xa0], Kind::Text),
            (&[0xd9, 0], Kind::Text),
            (&[0xc4, 0], Kind::Binary),
            (&[0x90], Kind::Array),
            (&[0xdc, 0, 0], Kind::Array),
            (&[0x80], Kind::Map),
            (&[0xdf, 0, 0, 0, 0], Kind::Map),
        ];
        for (value, wanted) in kinds {
            assert_eq!(kind(value), Some(wanted), "{value:x?}");
            let is_container = matches!(wanted, Kind::Array | Kind::Map);
            assert_eq!(is_empty_container(value), is_container, "{value:x?}");
        }
        assert_eq!((kind(&[0xc1]), kind(&[])), (None, None));
        assert!(!is_empty_container(&[0x91, 0xc0]));
    }
}
