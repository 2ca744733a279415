//! Typed reading of options and details.
//!
//! A key that is missing or null is absent; a value of another type is a protocol violation, as
//! the specification demands of the options it defines. Booleans are never read from numbers.

use super::errors::Violation;
use super::message::{Dict, MAX_ID};
use router_core::encoding::Kind;
use serde_json::Value;

/// Typed access to a [`Dict`]. All methods fail with [`Violation::Member`].
pub trait DictExt {
    /// A boolean.
    ///
    /// # Errors
    /// When the value is present and no boolean.
    fn boolean(&self, key: &'static str) -> Result<Option<bool>, Violation>;
    /// A string.
    ///
    /// # Errors
    /// When the value is present and no string.
    fn text(&self, key: &'static str) -> Result<Option<&str>, Violation>;
    /// An integer from 0 to 2^64-1; a float without fraction counts, since some packers write so.
    ///
    /// # Errors
    /// When the value is present and no such number.
    fn unsigned(&self, key: &'static str) -> Result<Option<u64>, Violation>;
    /// A dict.
    ///
    /// # Errors
    /// When the value is present and no dict.
    fn dict(&self, key: &'static str) -> Result<Option<&Dict>, Violation>;
    /// A list of ids in 1..=2^53.
    ///
    /// # Errors
    /// When the value is present and no list, or an element is no id.
    fn ids(&self, key: &'static str) -> Result<Option<Vec<u64>>, Violation>;
    /// A list of strings.
    ///
    /// # Errors
    /// When the value is present and no list, or an element is no string.
    fn texts(&self, key: &'static str) -> Result<Option<Vec<&str>>, Violation>;
}

impl DictExt for Dict {
    fn boolean(&self, key: &'static str) -> Result<Option<bool>, Violation> {
        read(self, key, "a boolean", Value::as_bool)
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, Violation> {
        read(self, key, "a string", Value::as_str)
    }

    fn unsigned(&self, key: &'static str) -> Result<Option<u64>, Violation> {
        read(self, key, "an integer of at least 0", unsigned)
    }

    fn dict(&self, key: &'static str) -> Result<Option<&Dict>, Violation> {
        read(self, key, "a dict", Value::as_object)
    }

    fn ids(&self, key: &'static str) -> Result<Option<Vec<u64>>, Violation> {
        let id = |value: &Value| unsigned(value).filter(|id| (1..=MAX_ID).contains(id));
        list(self, key, "a list of ids", id)
    }

    fn texts(&self, key: &'static str) -> Result<Option<Vec<&str>>, Violation> {
        list(self, key, "a list of strings", Value::as_str)
    }
}

/// The kind of a parsed value, for messages.
#[must_use]
pub fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_f64() => Kind::Float,
        Value::Number(_) => Kind::Integer,
        Value::String(_) => Kind::Text,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Map,
    }
}

/// An integer, or a float that equals one (exact up to 2^53).
fn unsigned(value: &Value) -> Option<u64> {
    const EXACT_FLOATS: f64 = MAX_ID as f64;
    value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|_| value.is_f64())?;
        (float.fract() == 0.0 && (0.0..=EXACT_FLOATS).contains(&float)).then_some(float as u64)
    })
}

fn read<'d, T>(
    dict: &'d Dict,
    key: &'static str,
    expected: &'static str,
    convert: impl Fn(&'d Value) -> Option<T>,
) -> Result<Option<T>, Violation> {
    match dict.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Violation::Member {
                key,
                expected,
                got: Some(kind_of(value)),
            }),
        },
    }
}

/// Reads a list; a wrong element is reported by its own kind.
fn list<'d, T>(
    dict: &'d Dict,
    key: &'static str,
    expected: &'static str,
    convert: impl Fn(&'d Value) -> Option<T>,
) -> Result<Option<Vec<T>>, Violation> {
    let Some(values) = read(dict, key, expected, Value::as_array)? else {
        return Ok(None);
    };
    let mut converted = Vec::with_capacity(values.len());
    for value in values {
        let wrong = || Violation::Member {
            key,
            expected,
            got: Some(kind_of(value)),
        };
        converted.push(convert(value).ok_or_else(wrong)?);
    }
    Ok(Some(converted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dict(value: Value) -> Dict {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn missing_and_null_are_absent() {
        let dict = dict(json!({"null": null}));
        for key in ["missing", "null"] {
            assert_eq!(dict.boolean(key), Ok(None));
            assert_eq!(dict.text(key), Ok(None));
            assert_eq!(dict.unsigned(key), Ok(None));
            assert_eq!(dict.dict(key), Ok(None));
            assert_eq!(dict.ids(key), Ok(None));
            assert_eq!(dict.texts(key), Ok(None));
        }
    }

    #[test]
    fn the_right_type_is_read() {
        let dict = dict(json!({
            "yes": true, "text": "x", "big": u64::MAX, "float": 3.0, "dict": {"a": 1},
            "ids": [1, 9_007_199_254_740_992_u64, 2.0], "texts": ["a", ""], "empty": [],
        }));
        assert_eq!(dict.boolean("yes"), Ok(Some(true)));
        assert_eq!(dict.text("text"), Ok(Some("x")));
        assert_eq!(dict.unsigned("big"), Ok(Some(u64::MAX)));
        assert_eq!(dict.unsigned("float"), Ok(Some(3)));
        assert_eq!(dict.dict("dict").unwrap().unwrap().len(), 1);
        assert_eq!(dict.ids("ids"), Ok(Some(vec![1, MAX_ID, 2])));
        assert_eq!(dict.texts("texts"), Ok(Some(vec!["a", ""])));
        assert_eq!(dict.ids("empty"), Ok(Some(vec![])));
        assert_eq!(dict.texts("empty"), Ok(Some(vec![])));
    }

    #[test]
    fn any_other_type_is_a_violation() {
        let dict = dict(json!({
            "one": 1, "text": "yes", "half": 1.5, "minus": -1, "list": ["a", 5], "ids": [0],
            "far": [9_007_199_254_740_993_u64], "no": false,
        }));
        let told = |violation: Violation| violation.to_string();
        assert_eq!(
            told(dict.boolean("one").unwrap_err()),
            "one: expected a boolean, got integer"
        );
        assert_eq!(
            told(dict.boolean("text").unwrap_err()),
            "text: expected a boolean, got string"
        );
        assert_eq!(
            told(dict.text("no").unwrap_err()),
            "no: expected a string, got boolean"
        );
        assert!(dict.unsigned("half").is_err());
        assert!(dict.unsigned("minus").is_err());
        assert!(dict.dict("list").is_err());
        assert!(dict.ids("text").is_err());
        assert!(dict.ids("ids").is_err());
        assert!(dict.ids("far").is_err());
        let wrong_element = dict.texts("list").unwrap_err();
        assert_eq!(
            told(wrong_element),
            "list: expected a list of strings, got integer"
        );
    }
}
