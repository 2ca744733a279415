//! Arguments as JSON text, whatever the serialization of the session.
//!
//! They are kept as text, not parsed, so that the order of keys and the digits of numbers are
//! shown and passed on as they came.

use super::Dict;
use bytes::Bytes;
use protocols::wamp::message::Payload;
use router_core::encoding::{Encoding, EncodingError};
use serde_json::Value;
use std::fmt;

/// The arguments of a publication, an event, a call, a result or an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// In JSON; both parts are valid, or absent.
    payload: Payload,
}

impl Arguments {
    /// No arguments.
    pub fn none() -> Arguments {
        Arguments::default()
    }

    /// These; empty ones are absent.
    pub fn new(args: &[Value], kwargs: &Dict) -> Arguments {
        Arguments {
            payload: Payload::from_values(Encoding::Json, args, kwargs),
        }
    }

    /// Positional arguments only.
    pub fn list(args: &[Value]) -> Arguments {
        Arguments::new(args, &Dict::new())
    }

    /// The texts of a JSON list and of a JSON object.
    ///
    /// # Errors
    /// When one of them is something else.
    pub fn from_json(args: &str, kwargs: Option<&str>) -> Result<Arguments, serde_json::Error> {
        serde_json::from_str::<Vec<&serde_json::value::RawValue>>(args)?;
        if let Some(kwargs) = kwargs {
            serde_json::from_str::<Dict>(kwargs)?;
        }
        let bytes = |text: &str| Bytes::copy_from_slice(text.trim().as_bytes());
        Ok(Arguments {
            payload: Payload {
                args: Some(bytes(args)),
                kwargs: kwargs.map(bytes),
            },
        })
    }

    /// What stood in a message of `encoding`.
    ///
    /// # Errors
    /// When the payload is not in `encoding`, or holds what JSON cannot say.
    pub fn from_wire(payload: &Payload, encoding: Encoding) -> Result<Arguments, EncodingError> {
        let payload = payload.transcode(encoding, Encoding::Json)?;
        Ok(Arguments { payload })
    }

    /// For a message of `encoding`.
    ///
    /// # Errors
    /// When a value does not fit, such as an integer beyond 64 bits in MessagePack.
    pub fn to_wire(&self, encoding: Encoding) -> Result<Payload, EncodingError> {
        self.payload.transcode(Encoding::Json, encoding)
    }

    /// The values.
    ///
    /// # Errors
    /// When they cannot be parsed, such as for numbers that no float can hold.
    pub fn to_values(&self) -> Result<(Vec<Value>, Dict), EncodingError> {
        self.payload.to_values(Encoding::Json)
    }

    /// The first positional argument; null where there is none.
    ///
    /// # Errors
    /// As [`Arguments::to_values`].
    pub fn first(&self) -> Result<Value, EncodingError> {
        let (args, _) = self.to_values()?;
        Ok(args.into_iter().next().unwrap_or_default())
    }

    /// The positional arguments in compact JSON.
    pub fn args_text(&self) -> String {
        part_text(self.payload.args.as_ref(), "[]")
    }

    /// The keyword arguments in compact JSON.
    pub fn kwargs_text(&self) -> String {
        part_text(self.payload.kwargs.as_ref(), "{}")
    }

    /// Whether both sides say the same, in whatever spelling.
    ///
    /// # Errors
    /// As [`Arguments::to_values`].
    pub fn equals(&self, other: &Arguments) -> Result<bool, EncodingError> {
        Ok(self.to_values()? == other.to_values()?)
    }
}

/// A single positional argument by itself, anything else as list and dict.
impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (args, kwargs) = (self.args_text(), self.kwargs_text());
        let single = match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&args) {
            Ok(parts) if kwargs == "{}" => match parts.as_slice() {
                [single] => Some(single.get()),
                _ => None,
            },
            _ => None,
        };
        match single {
            Some(single) => f.write_str(single),
            None if kwargs == "{}" => f.write_str(&args),
            None => write!(f, "{args} {kwargs}"),
        }
    }
}

fn part_text(part: Option<&Bytes>, absent: &str) -> String {
    let raw = part.map_or(absent.as_bytes(), |bytes| bytes);
    compact(&String::from_utf8_lossy(raw))
}

/// JSON text without the white space between its tokens.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut is_string, mut is_escaped) = (false, false);
    for c in json.chars() {
        if is_string {
            is_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        } else {
            is_string = c == '"';
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_and_digits_survive_both_serializations() {
        let args = r#"[{"z":1,"a":[18446744073709551615,1.50]},null]"#;
        let kwargs = r#"{"key2":"b","key1":{}}"#;
        let given = Arguments::from_json(args, Some(kwargs)).unwrap();
        for encoding in [Encoding::Json, Encoding::MsgPack, Encoding::Cbor] {
            let wire = given.to_wire(encoding).unwrap();
            let back = Arguments::from_wire(&wire, encoding).unwrap();
            assert_eq!(
                back.args_text().replace("1.50", "1.5"),
                args.replace("1.50", "1.5")
            );
            assert_eq!(back.kwargs_text(), kwargs);
            assert!(back.equals(&given).unwrap());
        }
    }

    #[test]
    fn text_is_compact_and_strings_are_kept() {
        let given =
            Arguments::from_json(" [ 1 ,\n\t\"a  b \\\" c\\\\\" , { \"k\" : [ ] } ] ", None);
        assert_eq!(given.unwrap().args_text(), r#"[1,"a  b \" c\\",{"k":[]}]"#);
    }

    #[test]
    fn what_is_no_list_and_no_object_is_refused() {
        for (args, kwargs) in [
            ("{}", None),
            ("[1", None),
            ("", None),
            ("[]", Some("[]")),
            ("[]", Some("")),
            ("[] []", None),
        ] {
            assert!(
                Arguments::from_json(args, kwargs).is_err(),
                "{args} {kwargs:?}"
            );
        }
    }

    #[test]
    fn a_single_argument_is_shown_by_itself() {
        let shown = |args: &[Value], kwargs: Value| {
            let kwargs = kwargs.as_object().cloned().unwrap();
            Arguments::new(args, &kwargs).to_string()
        };
        assert_eq!(shown(&[json!("x")], json!({})), "\"x\"");
        assert_eq!(shown(&[json!([1, 2])], json!({})), "[1,2]");
        assert_eq!(shown(&[], json!({})), "[]");
        assert_eq!(shown(&[json!(1), json!(2)], json!({})), "[1,2]");
        assert_eq!(shown(&[json!(1)], json!({"a": 1})), "[1] {\"a\":1}");
        assert_eq!(Arguments::none().first().unwrap(), Value::Null);
    }
}
