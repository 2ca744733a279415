//! One value from one serialization to another, token by token and without a tree.
//!
//! What stays: the order of keys, duplicate keys, integers of 64 bits, the difference between an
//! integer and a float, text, and binary (see the convention in the [parent module](super)).
//! What cannot stay:
//! * JSON integers beyond 64 bits become floats, with the loss this means;
//! * NaN and infinities become null in JSON; single floats become doubles of the same value;
//! * text that happens to follow the convention for binary becomes binary in MessagePack;
//! * MessagePack extensions become binary, `undefined` becomes null;
//! * map keys that are scalars but no text get their JSON spelling as text; an array or a map as
//!   a key is an error.

use super::token::{Reader, Scalar, Step, Writer, binary_from_text};
use super::{Encoding, EncodingError, Fault, json, msgpack};
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The same value in the encoding `to`. Between equal encodings the very bytes, unchecked.
///
/// # Errors
/// When `value` is not exactly one well-formed value of `from`, or has a key that is no scalar.
pub fn transcode(value: &Bytes, from: Encoding, to: Encoding) -> Result<Bytes, EncodingError> {
    match (from, to) {
        (Encoding::Json, Encoding::Json) | (Encoding::MsgPack, Encoding::MsgPack) => {
            Ok(value.clone())
        }
        (Encoding::Json, Encoding::MsgPack) => json_to_msgpack(value).map(Bytes::from),
        (Encoding::MsgPack, Encoding::Json) => msgpack_to_json(value).map(Bytes::from),
    }
}

/// See [`transcode`].
///
/// # Errors
/// As [`transcode`].
pub fn json_to_msgpack(value: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let lengths = lengths(&mut json::Reader::new(value)?)?;
    let mut lengths = lengths.into_iter();
    let mut out = Vec::with_capacity(value.len());
    let mut reader = json::Reader::new(value)?;
    let mut writer = msgpack::Writer::new(&mut out);
    convert(
        &mut reader,
        &mut writer,
        |_| lengths.next().unwrap_or(0),
        true,
    )?;
    Ok(out)
}

/// See [`transcode`].
///
/// # Errors
/// As [`transcode`].
pub fn msgpack_to_json(value: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let mut out = Vec::with_capacity(value.len() + value.len() / 2);
    let mut reader = msgpack::Reader::new(value);
    let mut writer = json::Writer::new(&mut out);
    convert(
        &mut reader,
        &mut writer,
        |reader| reader.container_len(),
        false,
    )?;
    Ok(out)
}

/// What an open container has seen.
#[derive(Clone, Copy, Debug)]
struct Open {
    is_map: bool,
    /// In a map: whether the next value is a key.
    at_key: bool,
}

/// Pumps every token. `length` gives the number of elements or entries of the container just
/// entered; `binary_in_text` says that the source spells binary as text.
fn convert<'a, R: Reader<'a>>(
    reader: &mut R,
    writer: &mut impl Writer,
    mut length: impl FnMut(&R) -> usize,
    binary_in_text: bool,
) -> Result<(), EncodingError> {
    let mut open: SmallVec<[Open; 32]> = SmallVec::new();
    while let Some(step) = reader.step()? {
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
                writer.array(length(reader));
                open.push(Open {
                    is_map: false,
                    at_key: false,
                });
            }
            Step::Map => {
                writer.map(length(reader));
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

/// How many elements or entries every container of a value has, in the order of their opening
/// brackets: MessagePack wants to know beforehand what JSON tells only at the end. Takes less
/// memory than the value itself, whose shortest container has two bytes and a separator.
fn lengths<'a>(reader: &mut impl Reader<'a>) -> Result<Vec<usize>, EncodingError> {
    let mut lengths: Vec<usize> = Vec::new();
    let mut open: SmallVec<[(usize, bool); 32]> = SmallVec::new();
    while let Some(step) = reader.step()? {
        if step == Step::Close {
            if let Some((index, true)) = open.pop()
                && let Some(values) = lengths.get_mut(index)
            {
                *values /= 2;
            }
            continue;
        }
        if let Some((index, _)) = open.last()
            && let Some(values) = lengths.get_mut(*index)
        {
            *values += 1;
        }
        if step != Step::Scalar {
            open.push((lengths.len(), step == Step::Map));
            lengths.push(0);
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
