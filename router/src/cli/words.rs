//! Values and times as they are typed and shown.

use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;

/// The JSON itself, so that its digits and the order of its keys survive; what is none becomes a
/// JSON string.
pub(super) fn json_or_text(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(json) => json.get().to_owned(),
        Err(_) => Value::from(text).to_string(),
    }
}

/// What [`json_or_text`] reads back as the same value: text that is no JSON by itself, anything
/// else as JSON.
pub(super) fn shown(json: &str) -> String {
    match serde_json::from_str::<String>(json) {
        Ok(text) if serde_json::from_str::<&RawValue>(&text).is_err() => text,
        _ => json.to_owned(),
    }
}

/// A JSON value, kept as text.
pub(super) fn json(text: &str) -> Result<String, String> {
    let parsed = serde_json::from_str::<&RawValue>(text);
    let json = parsed.map_err(|error| format!("not JSON: {error}"))?;
    Ok(json.get().to_owned())
}

/// `10`, `2.5`, `500ms`, `10s`, `5m`, `1h`, `1d`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("the units are ms, s, m, h and d".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number such as 10, 2.5s or 500ms".to_owned())?;
    let secs = number * unit;
    // 2^53 ms, the longest that every serialization can say.
    if secs > 9_007_199_254_740.0 {
        return Err("too long".to_owned());
    }
    // Whole milliseconds, as they are sent.
    Ok(Duration::from_millis((secs * 1000.0).round() as u64))
}

/// A duration as options say it.
pub(super) fn millis(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_json_or_else_text() {
        for (typed, json) in [
            ("1", "1"),
            (" {\"b\": 1.50, \"a\":2} ", "{\"b\": 1.50, \"a\":2}"),
            ("hello", "\"hello\""),
            ("\"quoted\"", "\"quoted\""),
            ("null", "null"),
            ("1 2", "\"1 2\""),
            ("", "\"\""),
            ("-", "\"-\""),
        ] {
            assert_eq!(json_or_text(typed), json);
        }
    }

    #[test]
    fn text_is_shown_bare_unless_it_would_be_read_as_something_else() {
        assert_eq!(shown("\"hello\""), "hello");
        assert_eq!(shown("\"42\""), "\"42\"");
        assert_eq!(shown("42"), "42");
        assert_eq!(shown("{\"a\":1}"), "{\"a\":1}");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_as_the_same_value(text in ".*") {
            let json = Value::from(text).to_string();
            let back: Value = serde_json::from_str(&json_or_text(&shown(&json))).unwrap();
            prop_assert_eq!(back, serde_json::from_str::<Value>(&json).unwrap());
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("0", 0),
            ("10", 10_000),
            ("2.5", 2500),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1w",
            "1 s",
            "1e3",
            "1.2.3",
            "99999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
