//! Parsed values, for what must look inside: options, filters, conditions.
//!
//! A parsed value lacks what [`serde_json::Value`] has no place for: binary is text by the
//! convention of the [parent module](super), the last of duplicate keys wins, NaN and infinities
//! are null, lone surrogates are U+FFFD. Parsing costs up to a hundred times the size of the input
//! (many small maps), so callers bound the input.

use super::token::{Reader, Scalar, Step, Writer, binary_from_text, text_from_binary};
use super::{Encoding, EncodingError, Fault, cbor, json, msgpack, with_reader};
use bytes::{BufMut, Bytes};
use serde_json::{Map, Number, Value};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Parses one value; `undefined` is null.
///
/// # Errors
/// When `input` is not exactly one well-formed value, or has a map key that is an array or a map.
pub fn parse(encoding: Encoding, input: &[u8]) -> Result<Value, EncodingError> {
    with_reader!(encoding, input, reader => build(reader, Undefined::IsNull))
}

/// Parses one map; members that are `undefined` are absent, at any depth.
///
/// # Errors
/// As [`parse`], and [`Fault::NotAMap`] for any other value.
pub fn parse_map(encoding: Encoding, input: &[u8]) -> Result<Map<String, Value>, EncodingError> {
    match with_reader!(encoding, input, reader => build(reader, Undefined::IsAbsent))? {
        Value::Object(map) => Ok(map),
        _ => Err(Fault::NotAMap.at(0)),
    }
}

/// Writes `value` in `encoding`.
#[must_use]
pub fn to_bytes(encoding: Encoding, value: &Value) -> Bytes {
    let mut out = Vec::new();
    write(encoding, value, &mut out);
    out.into()
}

/// Appends `value` in `encoding`.
pub fn write(encoding: Encoding, value: &Value, out: &mut impl BufMut) {
    match encoding {
        Encoding::Json => emit(Node::Value(value), &mut json::Writer::new(out), false),
        Encoding::MsgPack => emit(Node::Value(value), &mut msgpack::Writer::new(out), true),
        Encoding::Cbor => emit(Node::Value(value), &mut cbor::Writer::new(out), true),
    }
}

/// Appends a map in `encoding`.
pub fn write_map(encoding: Encoding, map: &Map<String, Value>, out: &mut impl BufMut) {
    match encoding {
        Encoding::Json => emit(Node::Map(map), &mut json::Writer::new(out), false),
        Encoding::MsgPack => emit(Node::Map(map), &mut msgpack::Writer::new(out), true),
        Encoding::Cbor => emit(Node::Map(map), &mut cbor::Writer::new(out), true),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undefined {
    IsNull,
    /// In maps; elsewhere it is null as well.
    IsAbsent,
}

/// A container under construction.
enum Open {
    Array(Vec<Value>),
    /// The members so far, and the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

fn build<'a>(reader: &mut impl Reader<'a>, undefined: Undefined) -> Result<Value, EncodingError> {
    let mut open: SmallVec<[Open; 4]> = SmallVec::new();
    let mut root = Value::Null;
    while let Some(step) = reader.step()? {
        let value = match step {
            Step::Scalar => {
                let scalar = reader.scalar();
                match open.last_mut() {
                    Some(Open::Map(_, key @ None)) => {
                        *key = Some(key_text(scalar));
                        continue;
                    }
                    Some(Open::Map(_, key))
                        if undefined == Undefined::IsAbsent && scalar == Scalar::Undefined =>
                    {
                        *key = None;
                        continue;
                    }
                    _ => scalar_value(scalar),
                }
            }
            Step::Array | Step::Map => {
                if matches!(open.last(), Some(Open::Map(_, None))) {
                    return Err(Fault::Key.at(reader.start()));
                }
                open.push(if step == Step::Map {
                    Open::Map(Map::new(), None)
                } else {
                    Open::Array(Vec::new())
                });
                continue;
            }
            Step::Close => match open.pop() {
                Some(Open::Array(elements)) => Value::Array(elements),
                Some(Open::Map(members, _)) => Value::Object(members),
                None => Value::Null,
            },
        };
        match open.last_mut() {
            Some(Open::Array(elements)) => elements.push(value),
            Some(Open::Map(members, key)) => {
                members.insert(key.take().unwrap_or_default(), value);
            }
            None => root = value,
        }
    }
    reader.finish()?;
    Ok(root)
}

fn scalar_value(scalar: Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null | Scalar::Undefined => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Unsigned(value) => value.into(),
        Scalar::Signed(value) => value.into(),
        Scalar::Float(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Scalar::Text(text) => Value::String(text.into_owned()),
        Scalar::Binary(bytes) => Value::String(text_from_binary(&bytes)),
    }
}

/// A key is text: the JSON spelling of any other scalar.
fn key_text(scalar: Scalar<'_>) -> String {
    match scalar {
        Scalar::Text(text) => text.into_owned(),
        Scalar::Binary(bytes) => text_from_binary(&bytes),
        other => scalar_value(other).to_string(),
    }
}

/// What is written next.
enum Node<'v> {
    Value(&'v Value),
    Map(&'v Map<String, Value>),
}

/// What remains of a container.
enum Rest<'v> {
    Array(std::slice::Iter<'v, Value>),
    Map(serde_json::map::Iter<'v>),
}

fn emit(root: Node<'_>, writer: &mut impl Writer, has_binary: bool) {
    let mut open: Vec<Rest<'_>> = Vec::new();
    let mut next = Some(root);
    loop {
        match next.take() {
            Some(Node::Map(members) | Node::Value(Value::Object(members))) => {
                writer.map(members.len());
                open.push(Rest::Map(members.iter()));
            }
            Some(Node::Value(Value::Array(elements))) => {
                writer.array(elements.len());
                open.push(Rest::Array(elements.iter()));
            }
            Some(Node::Value(scalar)) => writer.scalar(value_scalar(scalar, has_binary)),
            None => {}
        }
        next = match open.last_mut() {
            None => return,
            Some(Rest::Array(elements)) => elements.next().map(Node::Value),
            Some(Rest::Map(members)) => members.next().map(|(key, value)| {
                writer.scalar(Scalar::Text(Cow::Borrowed(key)));
                Node::Value(value)
            }),
        };
        if next.is_none() {
            writer.close();
            open.pop();
        }
    }
}

fn value_scalar(value: &Value, has_binary: bool) -> Scalar<'_> {
    match value {
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), ..) => Scalar::Unsigned(value),
            (_, Some(value), _) => Scalar::Signed(value),
            (.., Some(value)) => Scalar::Float(value),
            _ => Scalar::Null,
        },
        Value::String(text) => match binary_from_text(text) {
            Some(bytes) if has_binary => Scalar::Binary(Cow::Owned(bytes)),
            _ => Scalar::Text(Cow::Borrowed(text)),
        },
        // Containers are written by `emit`.
        Value::Null | Value::Array(_) | Value::Object(_) => Scalar::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn undefined_is_absent_in_options_and_null_in_payloads() {
        // {"a": undefined, "b": {"c": undefined, "d": [undefined]}}
        let bytes = b"\x82\xa1a\xd4\0\0\xa1b\x82\xa1c\xd4\0\0\xa1d\x91\xd4\0\0";
        let options = parse_map(Encoding::MsgPack, bytes).unwrap();
        assert_eq!(Value::Object(options), json!({"b": {"d": [null]}}));
        let payload = parse(Encoding::MsgPack, bytes).unwrap();
        assert_eq!(payload, json!({"a": null, "b": {"c": null, "d": [null]}}));
    }

    #[test]
    fn binary_in_options_is_text_and_comes_back_as_binary() {
        let bytes = b"\x81\xa1k\xc4\x03\x01\x02\x03";
        let options = parse_map(Encoding::MsgPack, bytes).unwrap();
        assert_eq!(options.get("k"), Some(&json!("\0AQID")));
        let mut out = Vec::new();
        write_map(Encoding::MsgPack, &options, &mut out);
        assert_eq!(out, bytes);
        let mut out = Vec::new();
        write_map(Encoding::Json, &options, &mut out);
        assert_eq!(out, br#"{"k":"\u0000AQID"}"#);
    }

    #[test]
    fn only_a_map_is_a_map() {
        let fault = |input: &[u8]| parse_map(Encoding::Json, input).unwrap_err().fault;
        assert_eq!(fault(b"[]"), Fault::NotAMap);
        assert_eq!(fault(b"{"), Fault::Truncated);
        assert_eq!(fault(b"{} {}"), Fault::Trailing);
        let list_as_key = parse(Encoding::MsgPack, &[0x81, 0x90, 0x01]);
        assert_eq!(list_as_key, Err(Fault::Key.at(1)));
    }

    #[test]
    fn numbers_are_exact_or_null() {
        let parsed = parse(
            Encoding::Json,
            b"[18446744073709551615,-9223372036854775808,1.0,1e400]",
        );
        assert_eq!(parsed.unwrap(), json!([u64::MAX, i64::MIN, 1.0, null]));
        let keys = parse(Encoding::MsgPack, &[0x82, 0x05, 0xc0, 0xc3, 0xc0]).unwrap();
        assert_eq!(keys, json!({"5": null, "true": null}));
    }

    #[test]
    fn writes_a_deep_value_without_recursion() {
        let mut deep = json!([]);
        for _ in 0..5_000 {
            deep = Value::Array(vec![deep]);
        }
        assert_eq!(to_bytes(Encoding::Json, &deep).len(), 2 * 5_001);
        assert_eq!(to_bytes(Encoding::MsgPack, &deep).len(), 5_001);
    }
}
