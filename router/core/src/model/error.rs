//! Refusals in the realm's own terms; each gate maps them to its protocol's codes.

use serde_json::{Map, Value};
use std::borrow::Cow;
use thiserror::Error;

/// What kind of refusal, for the table of codes of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The topic, procedure or pattern is not acceptable.
    InvalidTopic,
    /// An option has a type or value that cannot be honoured.
    InvalidArgument,
    /// An option is known but not available here.
    OptionNotAllowed,
    /// The role's sessions may not be named to others, and this one asked for it.
    DisclosureNotAllowed,
    /// The role has no right to do this.
    NotAuthorized,
    /// The session holds no such subscription.
    NoSuchSubscription,
    /// The session holds no such registration.
    NoSuchRegistration,
    /// Nobody answers this procedure.
    NoSuchProcedure,
    /// Somebody else registered it, under a policy that does not share.
    ProcedureAlreadyExists,
    /// No session with this id.
    NoSuchSession,
    /// The condition of a conditional write does not hold.
    ConditionFailed,
    /// The key's token is another than the one expected, or its value does not fit.
    Conflict,
    /// Too many wait for the key already, or the session has too many waits open.
    QueueFull,
    /// A deadline passed.
    Timeout,
    /// The callee went away or the call was cancelled.
    Canceled,
    /// A quota of the session, the key or the realm is used up.
    QuotaExceeded,
    /// The payload is larger than allowed.
    PayloadTooLarge,
    /// The durable store refuses writes at the moment; nothing was kept.
    StorageUnavailable,
    /// The callee cannot take calls now and there is no other.
    NoAvailableCallee,
    /// The feature was not announced by the peer, or is not offered.
    FeatureNotSupported,
    /// Somebody else holds the key.
    LockHeld,
    /// The session does not hold the key, or not any more.
    LockLost,
    /// Our own bug; the session goes on.
    Internal,
}

/// A refused command: the kind for the wire code, and words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind.
    pub kind: ErrorKind,
    /// What was wrong, naming the element.
    pub message: Cow<'static, str>,
    /// What a program may want to know of it, by name.
    pub about: Option<Box<Map<String, Value>>>,
}

impl Refusal {
    /// A refusal with a message.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            kind,
            message: message.into(),
            about: None,
        }
    }

    /// The same, telling one thing more that a program may want to know.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Refusal {
        let about = self.about.get_or_insert_default();
        about.insert(name.to_owned(), value.into());
        self
    }

    /// The same, with what a program may want to know of it.
    #[must_use]
    pub fn about(mut self, about: Map<String, Value>) -> Refusal {
        self.about = Some(Box::new(about));
        self
    }
}
