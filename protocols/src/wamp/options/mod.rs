//! Options of the requests a client makes: the standard's and ours, read into the core's terms.
//!
//! Three rules (`docs/gates/wamp.md`, "Options"):
//! * a standard option of the wrong type is a protocol violation;
//! * an option of ours of the wrong type is ERROR `wamp.error.invalid_argument`;
//! * every other key is ignored, so that no client reaches an internal flag by guessing its name.
//!
//! A key whose value is null is absent, except `when` and `will`, where null is a value: "the key
//! is absent" and "delete". `undefined` in MessagePack never gets here: the codec leaves it out.

mod pubsub;
mod rpc;

pub use pubsub::{Match, PublishStandard, SubscribeOptions, publish_options};
pub use rpc::{CallOptions, RegisterOptions, cancel_mode};

use super::dict::DictExt;
use super::errors::Violation;
use super::message::Dict;
use super::uris::error;
use bytestring::ByteString;
use router_core::model::SessionId;
use serde_json::Value;
use std::borrow::Cow;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The peer broke the protocol: the session ends with ABORT
    /// `wamp.error.protocol_violation` and these words.
    Violation(Cow<'static, str>),
    /// The request alone fails.
    Error {
        /// The error URI.
        error: &'static str,
        /// Words for a person.
        message: Cow<'static, str>,
    },
}

impl Reject {
    /// A request that fails with `error`.
    pub fn error(error: &'static str, message: impl Into<Cow<'static, str>>) -> Reject {
        Reject::Error {
            error,
            message: message.into(),
        }
    }
}

impl From<Violation> for Reject {
    fn from(violation: Violation) -> Reject {
        Reject::Violation(violation.to_string().into())
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Reject {
    Reject::error(error::INVALID_ARGUMENT, message)
}

/// The options of one message, by whose name violations are reported.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    message: &'static str,
    dict: &'a Dict,
}

type Read<T> = Result<Option<T>, Reject>;

impl<'a> Options<'a> {
    /// The options of the message called `message` in the specification.
    #[must_use]
    pub fn new(message: &'static str, dict: &'a Dict) -> Options<'a> {
        Options { message, dict }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    fn standard<T>(&self, read: Result<Option<T>, Violation>) -> Read<T> {
        read.map_err(|violation| {
            Reject::Violation(format!("{} options: {violation}", self.message).into())
        })
    }

    /// A standard boolean.
    ///
    /// # Errors
    /// A violation when it is none.
    pub fn boolean(&self, key: &'static str) -> Read<bool> {
        self.standard(self.dict.boolean(key))
    }

    fn flag(&self, key: &'static str) -> Result<bool, Reject> {
        Ok(self.boolean(key)?.unwrap_or(false))
    }

    /// A standard string.
    ///
    /// # Errors
    /// A violation when it is none.
    pub fn text(&self, key: &'static str) -> Read<&'a str> {
        self.standard(self.dict.text(key))
    }

    fn names(&self, key: &'static str) -> Read<Vec<ByteString>> {
        let texts = self.standard(self.dict.texts(key))?;
        Ok(texts.map(|texts| texts.into_iter().map(ByteString::from).collect()))
    }

    fn sessions(&self, key: &'static str) -> Read<Vec<SessionId>> {
        let ids = self.standard(self.dict.ids(key))?;
        Ok(ids.map(|ids| ids.into_iter().map(SessionId).collect()))
    }

    /// A value outside what the specification lists is as wrong as one of another type.
    fn unknown_value(&self, key: &'static str, expected: &str) -> Reject {
        let message = self.message;
        Reject::Violation(format!("{message} options: {key}: expected {expected}").into())
    }

    fn own_flag(&self, key: &'static str) -> Result<bool, Reject> {
        let read = self.dict.boolean(key);
        let read = read.map_err(|_| invalid(format!("{key} must be a boolean")))?;
        Ok(read.unwrap_or(false))
    }

    fn own_unsigned(&self, key: &'static str) -> Read<u64> {
        let read = self.dict.unsigned(key);
        read.map_err(|_| invalid(format!("{key} must be an integer of at least 0")))
    }

    fn own_value(&self, key: &'static str) -> Option<&'a Value> {
        self.dict.get(key)
    }
}

#[cfg(test)]
mod testing {
    //! What the tests of both halves share.

    use super::*;

    pub fn dict(value: Value) -> Dict {
        value.as_object().cloned().unwrap()
    }

    /// The error URI or "violation", and the words.
    pub fn error_of<T: std::fmt::Debug>(read: Result<T, Reject>) -> (&'static str, String) {
        match read.unwrap_err() {
            Reject::Error { error, message } => (error, message.into_owned()),
            Reject::Violation(message) => ("violation", message.into_owned()),
        }
    }
}
