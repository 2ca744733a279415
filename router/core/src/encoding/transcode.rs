//! One value from one serialization to another, token by token and without a tree.
//!
//! What stays: the order of keys, duplicate keys, integers of 64 bits, the difference between an
//! integer and a float, text, and binary (see the convention in the [parent module](super)).
//! What cannot stay:
//! * JSON integers beyond 64 bits become floats, with the loss this means;
//! * NaN and infinities become null in JSON; single floats become doubles of the same value;
//! * text that happens to follow the convention for binary becomes binary in MessagePack and CBOR;
//! * MessagePack extensions become binary, `undefined` becomes null;
//! * CBOR tags are dropped, except that bignums become numbers; integers beyond 64 bits become
//!   floats, simple values without a meaning null; lengths and widths are written anew;
//! * map keys that are scalars but no text get their JSON spelling as text; an array or a map as
//!   a key is an error.

use super::token::{Reader, Scalar, Step, Writer, binary_from_text};
use super::{Encoding, EncodingError, Fault, cbor, json, msgpack, with_reader};
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The same value in the encoding `to`. Between equal encodings the very bytes, unchecked.
///
/// # Errors
/// When `value` is not exactly one well-formed value of `from`, or has a key that is no scalar.
pub fn transcode(value: &Bytes, from: Encoding, to: Encoding) -> Result<Bytes, EncodingError> {
    if from == to {
        return Ok(value.clone());
    }
    rewrite(value, from, to).map(Bytes::from)
}

/// See [`transcode`].
///
/// # Errors
/// As [`transcode`].
pub fn json_to_msgpack(value: &[u8]) -> Result<Vec<u8>, EncodingError> {
    rewrite(value, Encoding::Json, Encoding::MsgPack)
}

/// See [`transcode`].
///
/// # Errors
/// As [`transcode`].
pub fn msgpack_to_json(value: &[u8]) -> Result<Vec<u8>, EncodingError> {
    rewrite(value, Encoding::MsgPack, Encoding::Json)
}

/// Reads and writes the value, also between equal encodings.
pub(super) fn rewrite(
    value: &[u8],
    from: Encoding,
    to: Encoding,
) -> Result<Vec<u8>, EncodingError> {
    let lengths = match (from, to) {
        (Encoding::MsgPack, _) | (_, Encoding::Json) => Vec::new(),
        _ => with_reader!(from, value, reader => lengths(reader))?,
    };
    let lengths = lengths.into_iter();
    let binary_in_text = from == Encoding::Json && to != Encoding::Json;
    let mut out = Vec::with_capacity(match to {
        Encoding::Json => value.len() + value.len() / 2,
        Encoding::MsgPack | Encoding::Cbor => value.len(),
    });
    with_reader!(from, value, reader => match to {
        Encoding::Json => {
            convert(reader, &mut json::Writer::new(&mut out), lengths, binary_in_text)
        }
        Encoding::MsgPack => {
            convert(reader, &mut msgpack::Writer::new(&mut out), lengths, binary_in_text)
        }
        Encoding::Cbor => {
            convert(reader, &mut cbor::Writer::new(&mut out), lengths, binary_in_text)
        }
    })?;
    Ok(out)
}

/// What an open container has seen.
#[derive(Clone, Copy, Debug)]
struct Open {
    is_map: bool,
    /// In a map: whether the next value is a key.
    at_key: bool,
}

/// Pumps every token. `lengths` gives the number of elements or entries of those containers whose
/// bytes do not tell it beforehand; `binary_in_text` says that the source spells binary as text.
fn convert<'a>(
    reader: &mut impl Reader<'a>,
    writer: &mut impl Writer,
    mut lengths: impl Iterator<Item = usize>,
    binary_in_text: bool,
) -> Result<(), EncodingError> {
    let mut open: SmallVec<[Open; 32]> = SmallVec::new();
    while let Some(step) = reader.step()? {
        let mut length = || {
            let told = reader.container_len();
            told.or_else(|| lengths.next()).unwrap_or_default()
        };
        let mut is_key = false;
        if step != Step::Close
            && let Some(parent) = open.last_mut()
        {
            is_key = parent.at_key;
            parent.at_key = parent.is_map && !parent.at_key;
        }
        match step {
            Step::Array | Step::Map if is_key => return Err(Fault::Key.at(reader.start())),
            Step::Array => {
                writer.array(length());
                open.push(Open {
                    is_map: false,
                    at_key: false,
                });
            }
            Step::Map => {
                writer.map(length());
                open.push(Open {
                    is_map: true,
                    at_key: true,
                });
            }
            Step::Close => {
                writer.close();
                open.pop();
            }
            Step::Scalar => match reader.scalar() {
                Scalar::Text(text) if binary_in_text && !is_key => {
                    writer.scalar(match binary_from_text(&text) {
                        Some(bytes) => Scalar::Binary(Cow::Owned(bytes)),
                        None => Scalar::Text(text),
                    });
                }
                scalar => writer.scalar(scalar),
            },
        }
    }
    reader.finish()
}

/// How many elements or entries every container has whose bytes do not tell it beforehand, in the
/// order of their opening brackets: MessagePack and CBOR want to know at the start what JSON, and
/// CBOR without lengths, tell only at the end. Takes at most four times the memory of the value,
/// whose shortest such container has two bytes.
fn lengths<'a>(reader: &mut impl Reader<'a>) -> Result<Vec<usize>, EncodingError> {
    let mut lengths: Vec<usize> = Vec::new();
    // Where the length of an open container is counted, if it is; and whether it is a map.
    let mut open: SmallVec<[(Option<usize>, bool); 32]> = SmallVec::new();
    while let Some(step) = reader.step()? {
        if step == Step::Close {
            if let Some((Some(index), true)) = open.pop()
                && let Some(values) = lengths.get_mut(index)
            {
                *values /= 2;
            }
            continue;
        }
        if let Some((Some(index), _)) = open.last()
            && let Some(values) = lengths.get_mut(*index)
        {
            *values += 1;
        }
        if step != Step::Scalar {
            let counted = reader.container_len().is_none();
            open.push((counted.then_some(lengths.len()), step == Step::Map));
            if counted {
                lengths.push(0);
            }
        }
    }
    Ok(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(json: &str) -> Vec<u8> {
        json_to_msgpack(json.as_bytes()).unwrap()
    }

    fn text(packed: &[u8]) -> String {
        String::from_utf8(msgpack_to_json(packed).unwrap()).unwrap()
    }

    #[test]
    fn applies_the_binary_convention_to_values_but_not_to_keys() {
        assert_eq!(packed(r#""\u0000AQID""#), [0xc4, 3, 1, 2, 3]);
        assert_eq!(text(&[0xc4, 3, 1, 2, 3]), r#""\u0000AQID""#);
        assert_eq!(packed(r#""\u0000""#), [0xc4, 0]);
        // Unpadded is understood, written is padded.
        assert_eq!(packed(r#""\u0000QQ""#), [0xc4, 1, b'A']);
        assert_eq!(text(&[0xc4, 1, b'A']), r#""\u0000QQ==""#);
        // What is no base64 is the string it is.
        assert_eq!(packed(r#""\u0000a b""#), [0xa4, 0, b'a', b' ', b'b']);
        assert_eq!(
            packed(r#"{"\u0000AQID":1}"#),
            [&[0x81, 0xa5, 0][..], b"AQID\x01"].concat()
        );
    }

    #[test]
    fn keeps_integers_and_floats_apart() {
        let values =
            "[1.0,1,-0.0,18446744073709551615,-9223372036854775808,9007199254740993,1e300]";
        let there = packed(values);
        assert_eq!(text(&there), values);
        assert_eq!(packed("1.0")[0], 0xcb);
        assert_eq!(packed("1e2"), packed("100.0"));
        assert_eq!(packed("-0"), packed("-0.0"));
    }

    #[test]
    fn rounds_what_no_integer_can_hold() {
        let big = 1.234_567_890_123_456_8e29_f64;
        let double = |value: f64| [&[0xcb][..], &value.to_be_bytes()].concat();
        assert_eq!(packed("123456789012345678901234567890"), double(big));
        assert_eq!(
            packed("18446744073709551616"),
            double(18_446_744_073_709_551_616.0)
        );
        assert_eq!(packed("1e400"), double(f64::INFINITY));
        assert_eq!(text(&double(f64::INFINITY)), "null");
        assert_eq!(text(&double(f64::NAN)), "null");
    }

    #[test]
    fn keeps_key_order_and_duplicates() {
        let members = r#"{"b":1,"a":2,"b":{"z":[],"y":{}}}"#;
        assert_eq!(text(&packed(members)), members);
    }

    #[test]
    fn spells_other_keys_as_text() {
        let keys = [
            0x86, 0x05, 0x01, 0xff, 0x02, 0xc3, 0x03, 0xc0, 0x04, 0xc4, 1, b'A', 0x05,
        ];
        let float = [&keys[..], &[0xcb], &1.5_f64.to_be_bytes(), &[0x06]].concat();
        assert_eq!(
            text(&float),
            r#"{"5":1,"-1":2,"true":3,"null":4,"\u0000QQ==":5,"1.5":6}"#
        );
        let list_as_key = [0x81, 0x90, 0x01];
        assert_eq!(msgpack_to_json(&list_as_key), Err(Fault::Key.at(1)));
    }

    #[test]
    fn has_a_place_for_extensions() {
        assert_eq!(
            text(&[0x92, 0xd4, 0, 0, 0xd4, 5, 0xff]),
            r#"[null,"\u0000/w=="]"#
        );
        assert_eq!(text(&[0xc7, 3, 9, 1, 2, 3]), r#""\u0000AQID""#);
        assert_eq!(text(&[0xd5, 0, b'A', b'A']), r#""\u0000QUE=""#);
    }

    #[test]
    fn refuses_broken_input() {
        assert_eq!(
            msgpack_to_json(&[0xa1, 0xff]).unwrap_err().fault,
            Fault::Utf8
        );
        assert_eq!(json_to_msgpack(b"[1").unwrap_err().fault, Fault::Truncated);
        assert_eq!(json_to_msgpack(b"1 1").unwrap_err().fault, Fault::Trailing);
    }

    #[test]
    fn between_equals_passes_the_very_bytes() {
        let odd = Bytes::from_static(b" [1 , 1.0,\"\\u0041\"] ");
        assert_eq!(
            transcode(&odd, Encoding::Json, Encoding::Json),
            Ok(odd.clone())
        );
        let there = transcode(&odd, Encoding::Json, Encoding::MsgPack).unwrap();
        assert_eq!(
            transcode(&there, Encoding::MsgPack, Encoding::MsgPack),
            Ok(there.clone())
        );
        let back = transcode(&there, Encoding::MsgPack, Encoding::Json);
        assert_eq!(back.unwrap(), "[1,1.0,\"A\"]");
    }
}
