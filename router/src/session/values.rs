//! Payloads as a program sees them: typed values going in, typed values coming out.
//!
//! The realm's rule for what crosses protocols holds here too: one value is one positional argument
//! (to MQTT its JSON), null is no argument, [`Arguments`] are positional and keyword arguments (to
//! MQTT the `{"args","kwargs"}` envelope), [`Raw`] is bytes as an MQTT client sends them.

use super::error::Error;
use bytes::Bytes;
use router_core::encoding::{self, Encoding};
use router_core::model::{Args, Event, Payload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What can be sent: anything serializable as one value, [`Arguments`], or [`Raw`] bytes.
pub trait IntoPayload {
    /// The payload in the realm's form.
    ///
    /// # Errors
    /// [`Error::Payload`].
    fn into_payload(self) -> Result<Payload, Error>;
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<Payload, Error> {
        let text = serde_json::to_vec(&self).map_err(|error| Error::Payload(error.to_string()))?;
        if text == b"null" {
            return Ok(Payload::args(Encoding::Json, Args::default()));
        }
        let list = checked([b"[", &*text, b"]"].concat())?;
        Ok(Payload::args(
            Encoding::Json,
            Args {
                args: Some(list),
                kwargs: None,
            },
        ))
    }
}

/// Positional and keyword arguments, for what is not one value.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    fault: Option<String>,
}

impl Arguments {
    /// None yet.
    #[must_use]
    pub fn new() -> Arguments {
        Arguments::default()
    }

    /// Adds a positional argument.
    #[must_use]
    pub fn arg(mut self, value: impl Serialize) -> Arguments {
        if let Some(value) = self.value(&value) {
            self.args.push(value);
        }
        self
    }

    /// Sets a keyword argument.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Arguments {
        if let Some(value) = self.value(&value) {
            self.kwargs.insert(name.into(), value);
        }
        self
    }

    /// A fault is told when the arguments are sent, so that building them needs no `?`.
    fn value(&mut self, value: &impl Serialize) -> Option<Value> {
        match serde_json::to_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault.get_or_insert_with(|| error.to_string());
                None
            }
        }
    }
}

impl IntoPayload for Arguments {
    fn into_payload(self) -> Result<Payload, Error> {
        if let Some(fault) = self.fault {
            return Err(Error::Payload(fault));
        }
        let text = |value: Value| checked(value.to_string().into_bytes());
        let kwargs = (!self.kwargs.is_empty()).then_some(self.kwargs);
        let args = Args {
            args: Some(text(Value::Array(self.args))?),
            kwargs: kwargs.map(|map| text(Value::Object(map))).transpose()?,
        };
        Ok(Payload::args(Encoding::Json, args))
    }
}

/// Bytes that only the applications understand. Empty ones delete a retained value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl IntoPayload for Raw {
    fn into_payload(self) -> Result<Payload, Error> {
        Ok(Payload::bytes(self.0, false))
    }
}

/// Receivers of every protocol must be able to read it: the gates check what they let in, and so
/// does this one.
fn checked(text: Vec<u8>) -> Result<Bytes, Error> {
    match Encoding::Json.check(&text) {
        Ok(()) => Ok(text.into()),
        Err(error) => Err(Error::Payload(error.to_string())),
    }
}

/// What came with an event, a call or a result; a cheap handle.
#[derive(Clone, Debug)]
pub struct Values(Source);

#[derive(Clone, Debug)]
enum Source {
    Event(Arc<Event>),
    Payload(Arc<Payload>),
}

impl From<Arc<Event>> for Values {
    fn from(event: Arc<Event>) -> Values {
        Values(Source::Event(event))
    }
}

impl From<Arc<Payload>> for Values {
    fn from(payload: Arc<Payload>) -> Values {
        Values(Source::Payload(payload))
    }
}

impl Values {
    fn payload(&self) -> &Payload {
        match &self.0 {
            Source::Event(event) => &event.payload,
            Source::Payload(payload) => payload,
        }
    }

    /// The value: null for no positional argument, the single one, or else the list of them.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.payload().value()
    }

    /// The value as a type: `v.get::<f64>()`; several positional arguments as a tuple.
    ///
    /// # Errors
    /// [`Error::Type`].
    pub fn get<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_value(self.value().clone())?)
    }

    /// The positional arguments.
    #[must_use]
    pub fn args(&self) -> Vec<Value> {
        let raw = self.payload().as_args(Encoding::Json).args;
        match raw.map(|raw| encoding::value::parse(Encoding::Json, &raw)) {
            Some(Ok(Value::Array(list))) => list,
            _ => Vec::new(),
        }
    }

    /// A keyword argument.
    #[must_use]
    pub fn kwarg(&self, name: &str) -> Option<&Value> {
        self.payload().kwargs_value().get(name)
    }

    /// The keyword arguments; null if there are none.
    #[must_use]
    pub fn kwargs(&self) -> &Value {
        self.payload().kwargs_value()
    }

    /// The bytes that an MQTT subscriber gets.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.payload().as_bytes().0
    }

    pub(super) fn cost(&self) -> usize {
        match &self.0 {
            Source::Event(event) => event.cost(),
            Source::Payload(payload) => payload.len() + 96,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(payload: impl IntoPayload) -> Values {
        Values::from(Arc::new(payload.into_payload().unwrap()))
    }

    #[test]
    fn one_value_is_one_argument_whatever_its_type() {
        for value in [
            json!(1),
            json!([1, 2]),
            json!([]),
            json!({"a": null}),
            json!(""),
        ] {
            let values = values(value.clone());
            assert_eq!(
                (values.value(), values.args()),
                (&value, vec![value.clone()])
            );
        }
        assert_eq!(values(21.5).get::<f64>().unwrap(), 21.5);
        assert_eq!(&*values(("a", 1)).bytes(), br#"["a",1]"#);
    }

    #[test]
    fn null_and_unit_are_no_argument() {
        for nothing in [values(Value::Null), values(()), values(None::<u8>)] {
            assert_eq!(
                (nothing.value(), nothing.args()),
                (&Value::Null, Vec::new())
            );
        }
    }

    #[test]
    fn arguments_keep_both_parts() {
        let values = values(Arguments::new().arg("a").arg(2).kwarg("k", true));
        assert_eq!(values.args(), [json!("a"), json!(2)]);
        assert_eq!(values.get::<(String, u8)>().unwrap(), ("a".to_owned(), 2));
        assert_eq!(values.kwarg("k"), Some(&json!(true)));
        assert_eq!(&*values.bytes(), br#"{"args":["a",2],"kwargs":{"k":true}}"#);
        assert!(values.get::<u8>().is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        assert!(matches!(deep.into_payload(), Err(Error::Payload(_))));
        let keyed_by_list = std::collections::HashMap::from([(vec![1], 1)]);
        assert!(matches!(
            (&keyed_by_list).into_payload(),
            Err(Error::Payload(_))
        ));
        let arguments = Arguments::new().arg(1).kwarg("k", &keyed_by_list);
        assert!(matches!(arguments.into_payload(), Err(Error::Payload(_))));
    }

    #[test]
    fn bytes_stay_bytes() {
        let raw = values(Raw(Bytes::from_static(b"\xff\x00")));
        assert_eq!(&*raw.bytes(), b"\xff\x00");
        assert_eq!(raw.value(), &json!("\0/wA="));
    }
}
