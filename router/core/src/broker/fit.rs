//! The one comparison behind `when` and `filter`.
//!
//! A wanted object asks for its members only, at any depth; a wanted null member fits a missing or
//! null one; a wanted array asks for its elements in place; everything else must be equal in type
//! and value, where 1 equals 1.0 and never "1". A shape that cannot match is simply false.

use crate::model::Event;
use serde_json::{Number, Value};

/// Whether `actual` fits `wanted`. Null fits null only (callers use null for "absent").
#[must_use]
pub fn fits(wanted: &Value, actual: &Value) -> bool {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => wanted
            .iter()
            .all(|(key, value)| fits(value, actual.get(key).unwrap_or(&Value::Null))),
        (Value::Array(wanted), Value::Array(actual)) => wanted
            .iter()
            .enumerate()
            .all(|(i, value)| fits(value, actual.get(i).unwrap_or(&Value::Null))),
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (a, b) => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    if a == b {
        return true;
    }
    match (as_integer(a), as_integer(b)) {
        (Some(a), Some(b)) => a == b,
        // An integer equals a float only if the float is that very integer.
        (Some(i), None) => b.as_f64().is_some_and(|f| float_is(f, i)),
        (None, Some(i)) => a.as_f64().is_some_and(|f| float_is(f, i)),
        (None, None) => a.as_f64() == b.as_f64(),
    }
}

fn as_integer(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

fn float_is(float: f64, integer: i128) -> bool {
    // Casts saturate, and 2^127 is no value of an i64 or u64, so equality stays exact.
    float.fract() == 0.0 && float as i128 == integer
}

/// A subscription's condition on events.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// On the body value.
    Body(Value),
    /// On the keyword arguments.
    Kwargs(Value),
}

impl Filter {
    /// Reads the option: an object whose only key is `kwargs` speaks of keyword arguments.
    #[must_use]
    pub fn new(wanted: Value) -> Filter {
        match wanted {
            Value::Object(mut map) if map.len() == 1 && map.contains_key("kwargs") => {
                Filter::Kwargs(map.remove("kwargs").unwrap_or(Value::Null))
            }
            other => Filter::Body(other),
        }
    }

    /// Whether the event is wanted. A list of arguments also fits when its first element is an
    /// object that does, so that `filter: {type: …}` finds `[{type: …}, more]`.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        match self {
            Filter::Kwargs(wanted) => fits(wanted, event.payload.kwargs_value()),
            Filter::Body(wanted) => {
                let value = event.payload.value();
                fits(wanted, value)
                    || match (wanted, value) {
                        (Value::Object(_), Value::Array(list)) => list
                            .first()
                            .is_some_and(|first| first.is_object() && fits(wanted, first)),
                        _ => false,
                    }
            }
        }
    }

    /// The option as it was given.
    #[must_use]
    pub fn option(&self) -> Value {
        match self {
            Filter::Body(value) => value.clone(),
            Filter::Kwargs(value) => serde_json::json!({"kwargs": value}),
        }
    }

    /// The option as JSON text, to be read again with [`Filter::new`].
    #[must_use]
    pub fn option_text(&self) -> String {
        match self {
            Filter::Body(value) => value.to_string(),
            Filter::Kwargs(value) => format!("{{\"kwargs\":{value}}}"),
        }
    }

    /// A text equal exactly for equal conditions, to tell subscriptions apart.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Filter::Body(value) => format!("b{value}"),
            Filter::Kwargs(value) => format!("k{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_fit_by_their_wanted_members_only() {
        assert!(fits(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
        assert!(fits(&json!({}), &json!({"b": 2})));
        assert!(fits(
            &json!({"a": {"b": 1}}),
            &json!({"a": {"b": 1, "c": 2}})
        ));
        assert!(!fits(&json!({"a": 1}), &json!({"b": 1})));
        assert!(!fits(&json!({"a": 1}), &json!({"a": 2})));
    }

    #[test]
    fn a_null_member_fits_missing_or_null() {
        assert!(fits(&json!({"a": null}), &json!({})));
        assert!(fits(&json!({"a": null}), &json!({"a": null})));
        assert!(!fits(&json!({"a": null}), &json!({"a": 0})));
    }

    #[test]
    fn null_means_absent_and_nothing_else() {
        assert!(fits(&Value::Null, &Value::Null));
        assert!(!fits(&Value::Null, &json!({})));
        assert!(!fits(&json!({}), &Value::Null));
        assert!(!fits(&Value::Null, &json!(false)));
    }

    #[test]
    fn types_are_strict_but_numbers_compare_by_value() {
        assert!(fits(&json!(1), &json!(1.0)));
        assert!(!fits(&json!(1), &json!("1")));
        assert!(!fits(&json!(0), &json!("")));
        assert!(!fits(&json!(true), &json!(1)));
        assert!(!fits(
            &json!(9_007_199_254_740_993_u64),
            &json!(9_007_199_254_740_992.0)
        ));
        assert!(fits(&json!(u64::MAX), &json!(u64::MAX)));
        assert!(!fits(&json!(-1), &json!(u64::MAX)));
    }

    #[test]
    fn arrays_fit_by_place_and_impossible_shapes_are_false() {
        assert!(fits(&json!([1]), &json!([1, 2])));
        assert!(!fits(&json!([1, 2]), &json!([1])));
        assert!(fits(&json!([1, null]), &json!([1])));
        assert!(!fits(&json!({"type": "post"}), &json!(["post"])));
        assert!(!fits(&json!({"type": "post"}), &json!("post")));
        assert!(!fits(&json!({"0": "post"}), &json!(["post"])));
    }
}
