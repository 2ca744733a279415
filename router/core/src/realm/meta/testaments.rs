//! Testaments: messages that a session leaves to be published at its end, whatever the end (section
//! "Testaments"). They are last wills of which a session may have several, and which it may take
//! back.
//!
//! What is left when a connection is gone comes before what is left when the session is; a session
//! without a name of its own ends with its connection, so that both come then. They are not stored:
//! a session that ends with the process publishes none.

use super::{invalid, text};
use crate::encoding::Encoding;
use crate::model::{Args, ErrorKind, LastWill, Now, Payload, Refusal};
use crate::realm::{Effects, Realm};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::time::Duration;

/// What is left in a message, beside its payload and topic.
const OVERHEAD: usize = 64;

/// When a testament is due; in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// When the connection is gone.
    Detached,
    /// When the session is.
    Destroyed,
}

/// A message left.
#[derive(Debug)]
pub(crate) struct Testament {
    scope: Scope,
    will: LastWill,
    /// What it counts for.
    bytes: usize,
}

impl Scope {
    fn read(kwargs: &Value) -> Result<Scope, Refusal> {
        match kwargs.get("scope") {
            None | Some(Value::Null) => Ok(Scope::Destroyed),
            Some(Value::String(scope)) if scope == "destroyed" => Ok(Scope::Destroyed),
            Some(Value::String(scope)) if scope == "detached" => Ok(Scope::Detached),
            Some(_) => Err(invalid("scope must be \"destroyed\" or \"detached\"")),
        }
    }
}

impl Realm {
    /// Leaves a message: topic, arguments, keyword arguments.
    pub(super) fn add_testament(
        &mut self,
        place: usize,
        args: &[Value],
        payload: &Payload,
    ) -> Result<(), Refusal> {
        let kwargs = payload.kwargs_value();
        let scope = Scope::read(kwargs)?;
        let topic = text(args.first(), "a topic")?;
        let left = left_payload(args.get(1), args.get(2))?;
        let none = Map::new();
        let options = match kwargs.get("publish_options") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(options)) => options,
            Some(_) => return Err(invalid("publish_options must be a dict")),
        };
        let publish = (self.settings.naming.read_publish)(topic, left, options)?;
        let waits = |options: &crate::model::PublishOptions| {
            options.when.is_some() || options.watch || options.will.is_some()
        };
        if publish.options.as_deref().is_some_and(waits) {
            return Err(invalid("a testament takes none of when, watch and will"));
        }
        // Checked once more when it is published: rights may have changed by then.
        self.may_publish(place, &publish)
            .map_err(|(kind, message)| Refusal::new(kind, message))?;
        let bytes = publish.payload.len() + publish.topic.text().len() + OVERHEAD;
        let limits = self.settings.limits;
        let Some(session) = self.sessions.get_mut(place) else {
            return Err(Refusal::new(ErrorKind::Internal, "the session is gone"));
        };
        let held: usize = session
            .seldom
            .testaments
            .iter()
            .map(|left| left.bytes)
            .sum();
        if session.seldom.testaments.len() >= limits.testaments_per_session
            || held + bytes > limits.testament_bytes_per_session
        {
            let message = "the session leaves too many testaments";
            return Err(Refusal::new(ErrorKind::QuotaExceeded, message));
        }
        let delay = Duration::ZERO;
        session.seldom.testaments.push(Testament {
            scope,
            will: LastWill { publish, delay },
            bytes,
        });
        Ok(())
    }

    /// Takes back what was left for one scope.
    pub(super) fn flush_testaments(
        &mut self,
        place: usize,
        payload: &Payload,
    ) -> Result<(), Refusal> {
        let scope = Scope::read(payload.kwargs_value())?;
        if let Some(session) = self.sessions.get_mut(place) {
            session.seldom.testaments.retain(|left| left.scope != scope);
        }
        Ok(())
    }

    /// Publishes what an ending session left, in the order of scopes and then of adding.
    pub(in crate::realm) fn publish_testaments(
        &mut self,
        now: Now,
        place: usize,
        effects: &mut Effects,
    ) {
        let session = self.sessions.get_mut(place);
        let Some(seldom) = session.and_then(|session| session.seldom.known()) else {
            return;
        };
        let mut left = std::mem::take(&mut seldom.testaments);
        left.sort_by_key(|testament| testament.scope);
        for testament in left {
            self.publish_in_name_of(now, place, testament.will, effects);
        }
    }
}

/// The payload of an event with these arguments; empty ones are left out.
fn left_payload(args: Option<&Value>, kwargs: Option<&Value>) -> Result<Payload, Refusal> {
    let args = match args {
        None | Some(Value::Null) => None,
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(list @ Value::Array(_)) => Some(Bytes::from(list.to_string())),
        Some(_) => return Err(invalid("the second argument must be a list")),
    };
    let kwargs = match kwargs {
        None | Some(Value::Null) => None,
        Some(Value::Object(dict)) if dict.is_empty() => None,
        Some(dict @ Value::Object(_)) => Some(Bytes::from(dict.to_string())),
        Some(_) => return Err(invalid("the third argument must be a dict")),
    };
    Ok(Payload::args(Encoding::Json, Args { args, kwargs }))
}
