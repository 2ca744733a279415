//! Arguments and answers of calls as the payloads and properties of messages.

use crate::mqtt::packet::Properties;
use bytes::Bytes;
use bytestring::ByteString;
use router_core::encoding::{Encoding, json};
use router_core::model::{Args, Attributes, ENVELOPE_CONTENT_TYPE, Payload};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Tells what an answer is: `result`, `progress` or `error`.
const KIND_PROPERTY: &str = "reynard-result";
/// The URI of an error.
const ERROR_PROPERTY: &str = "reynard-error";

/// The arguments that a request brings: none for no bytes, those of `{"args": […], "kwargs": {…}}`
/// if it has no other members, and else the one that the JSON is. `None`: it is no JSON.
#[must_use]
pub fn arguments(data: &Bytes) -> Option<Payload> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        args: Option<&'a RawValue>,
        #[serde(borrow, default)]
        kwargs: Option<&'a RawValue>,
    }
    if data.is_empty() {
        return Some(Payload::args(Encoding::Json, Args::default()));
    }
    if !json::is_json(data) {
        return None;
    }
    // Copied: a call may wait longer than the read buffer should live.
    let part = |raw: Option<&RawValue>| raw.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
    let envelope = serde_json::from_slice::<Envelope<'_>>(data).ok();
    let opened = envelope.filter(|envelope| {
        let is = |raw: Option<&RawValue>, open| raw.is_none_or(|raw| raw.get().starts_with(open));
        let is_any = envelope.args.is_some() || envelope.kwargs.is_some();
        is_any && is(envelope.args, '[') && is(envelope.kwargs, '{')
    });
    let args = match opened {
        Some(envelope) => Args {
            args: part(envelope.args),
            kwargs: part(envelope.kwargs),
        },
        None => Args {
            args: Some([b"[", &data[..], b"]"].concat().into()),
            kwargs: None,
        },
    };
    Some(Payload::args(Encoding::Json, args))
}

/// The arguments of an error as the envelope, whatever their number. Sealed ones, which nobody here
/// can open, are left out.
#[must_use]
pub fn envelope(payload: &Payload) -> Payload {
    let args = match payload.is_opened_by(false, false) {
        true => payload.as_args(Encoding::Json),
        false => Args::default(),
    };
    let list = args.args.unwrap_or_else(|| Bytes::from_static(b"[]"));
    let map = args.kwargs.unwrap_or_else(|| Bytes::from_static(b"{}"));
    let text = [b"{\"args\":", &list[..], b",\"kwargs\":", &map[..], b"}"].concat();
    Payload::bytes(text.into(), true)
}

/// What stands beside an answer: its kind, the Correlation Data of the request, and for an error
/// its URI and the content type of the envelope.
#[must_use]
pub fn answer_attributes(
    kind: &'static str,
    correlation_data: Option<Bytes>,
    error: Option<&str>,
) -> Box<Attributes> {
    let property = |name, value: &str| (ByteString::from_static(name), ByteString::from(value));
    let mut user_properties = vec![property(KIND_PROPERTY, kind)];
    user_properties.extend(error.map(|error| property(ERROR_PROPERTY, error)));
    Box::new(Attributes {
        is_text: error.map(|_| true),
        content_type: error.map(|_| ByteString::from_static(ENVELOPE_CONTENT_TYPE)),
        response_topic: None,
        correlation_data,
        user_properties: user_properties.into_iter().collect(),
    })
}

/// The last User Property of this name.
#[must_use]
pub fn user_property<'a>(set: &'a Properties, name: &str) -> Option<&'a str> {
    let mut found = set.user_properties.iter().rev();
    let (_, value) = found.find(|(known, _)| &**known == name)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_request_brings_one_argument_or_those_of_the_envelope() {
        for (text, list, named) in [
            ("", json!([]), Value::Null),
            ("7", json!([7]), Value::Null),
            ("null", json!([null]), Value::Null),
            (r#"[1,2]"#, json!([[1, 2]]), Value::Null),
            (r#"{}"#, json!([{}]), Value::Null),
            (r#"{"a":1}"#, json!([{"a": 1}]), Value::Null),
            (r#"{"args":[1,2]}"#, json!([1, 2]), Value::Null),
            (r#"{"kwargs":{"a":1}}"#, json!([]), json!({"a": 1})),
            (
                r#" {"kwargs":{"a":1},"args":[]}"#,
                json!([]),
                json!({"a": 1}),
            ),
            (r#"{"args":null,"kwargs":{}}"#, json!([]), json!({})),
            (r#"{"args":7}"#, json!([{"args": 7}]), Value::Null),
            (
                r#"{"args":[],"kwargs":[]}"#,
                json!([{"args": [], "kwargs": []}]),
                Value::Null,
            ),
            (
                r#"{"args":[],"more":1}"#,
                json!([{"args": [], "more": 1}]),
                Value::Null,
            ),
        ] {
            let read = arguments(&Bytes::from(text)).expect(text);
            let found = read.as_args(Encoding::Json);
            let list_of = |raw: Option<Bytes>, none| {
                raw.map_or(none, |raw| serde_json::from_slice(&raw).expect("JSON"))
            };
            assert_eq!(list_of(found.args, json!([])), list, "{text}");
            assert_eq!(list_of(found.kwargs, Value::Null), named, "{text}");
        }
        for text in ["{", "hello", "1 2", "\u{0}"] {
            assert!(arguments(&Bytes::from(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn an_error_is_always_the_envelope() {
        let of = |payload: &Payload| {
            let (bytes, _) = envelope(payload).as_bytes();
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        };
        let one = Payload::from_values(&[json!("no")]);
        assert_eq!(of(&one), json!({"args": ["no"], "kwargs": {}}));
        let none = Payload::args(Encoding::Json, Args::default());
        assert_eq!(of(&none), json!({"args": [], "kwargs": {}}));
        let named = one.with_kwargs(Some(json!({"key": "k"})));
        assert_eq!(of(&named), json!({"args": ["no"], "kwargs": {"key": "k"}}));
    }
}
