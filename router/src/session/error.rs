//! What can go wrong for a session, in one enum, and why a session is over.

use super::values::{IntoPayload, Values};
use bytestring::ByteString;
use protocols::wamp::uris;
use router_core::model::{CallFailure, EndReason, ErrorKind, Payload, Refusal};
use router_core::runtime::EnterError;
use thiserror::Error;

/// Why something that a session was asked for did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The realm lets nobody in under this name.
    #[error("cannot enter the realm: {0}")]
    Enter(#[from] EnterError),
    /// A topic, procedure, key or pattern that names nothing.
    #[error("{name:?} is no valid name: {reason}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that cannot be written as JSON, or are nested too deeply for other receivers.
    #[error("the payload cannot be sent: {0}")]
    Payload(String),
    /// Values that came are not of the type asked for.
    #[error("the payload is of another type: {0}")]
    Type(#[from] serde_json::Error),
    /// The realm refused the request.
    #[error("{message}")]
    Refused {
        /// The kind of refusal.
        kind: ErrorKind,
        /// What was wrong.
        message: String,
    },
    /// The callee answered with an error of its own.
    #[error("the procedure failed: {error} {}", values.value())]
    Callee {
        /// The error URI.
        error: String,
        /// What came with it.
        values: Values,
    },
    /// The session is over, or ended while an answer was awaited.
    #[error("the session is over: {0}")]
    Ended(SessionEnd),
}

impl Error {
    /// The kind of a refusal by the realm.
    #[must_use]
    pub fn refusal(&self) -> Option<ErrorKind> {
        match self {
            Error::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    pub(super) fn name(name: &str, reason: impl ToString) -> Error {
        Error::Name {
            name: name.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused {
            kind: refusal.kind,
            message: refusal.message.into_owned(),
        }
    }
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Error {
        match failure {
            CallFailure::Realm(refusal) => refusal.into(),
            CallFailure::Callee { error, payload } => Error::Callee {
                error: error.to_string(),
                values: Values::from(payload),
            },
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// [`Session::close`](super::Session::close), or the last handle of it was dropped.
    #[error("the program closed it")]
    Closed,
    /// The program did not read what it subscribed to, and the queue was full.
    #[error("the program reads its events too slowly; the queue was full")]
    TooSlow,
    /// Somebody with the right to do so ended it.
    #[error("it was killed: {reason}")]
    Killed {
        /// The reason URI given.
        reason: String,
        /// Words for a person.
        message: Option<String>,
    },
    /// The router shuts down.
    #[error("the router shuts down")]
    Shutdown,
    /// The realm is gone.
    #[error("the realm is gone")]
    RealmClosed,
    /// Anything else, in words.
    #[error("{0}")]
    Other(&'static str),
}

impl From<EndReason> for SessionEnd {
    fn from(reason: EndReason) -> SessionEnd {
        match reason {
            EndReason::Killed { reason, message } => SessionEnd::Killed {
                reason: reason.to_string(),
                message: message.map(|message| message.to_string()),
            },
            EndReason::TooSlow => SessionEnd::TooSlow,
            EndReason::Shutdown => SessionEnd::Shutdown,
            EndReason::RealmClosed => SessionEnd::RealmClosed,
            EndReason::TakenOver => SessionEnd::Other("another connection took it over"),
            EndReason::StorageUnavailable => SessionEnd::Other("the store is not available"),
            EndReason::Violation(text) => SessionEnd::Other(text),
        }
    }
}

/// What a procedure's handler answers when it fails; its caller sees URI and values.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct AppError {
    pub(super) error: ByteString,
    pub(super) payload: Payload,
}

impl AppError {
    /// An error with a URI of the application's own and values. A URI that breaks WAMP's grammar
    /// would end the caller's session, so it becomes `wamp.error.runtime_error`; values that cannot
    /// be sent are left out.
    #[must_use]
    pub fn new(error: &str, values: impl IntoPayload) -> AppError {
        let error = match uris::is_concrete(error) {
            true => ByteString::from(error),
            false => ByteString::from_static(uris::error::RUNTIME_ERROR),
        };
        let payload = values
            .into_payload()
            .unwrap_or_else(|_| Payload::from_values(&[]));
        AppError { error, payload }
    }

    /// `wamp.error.runtime_error` with a message, which every caller may read.
    #[must_use]
    pub fn runtime(message: &str) -> AppError {
        AppError::new(uris::error::RUNTIME_ERROR, message)
    }

    /// `wamp.error.invalid_argument` with a message.
    #[must_use]
    pub fn invalid_argument(message: &str) -> AppError {
        AppError::new(uris::error::INVALID_ARGUMENT, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_uri_that_no_caller_could_read_is_replaced() {
        assert_eq!(
            AppError::new("app.error.sold_out", 1).error,
            "app.error.sold_out"
        );
        for bad in ["", "a b", "a..b", "a#"] {
            assert_eq!(
                AppError::new(bad, 1).error,
                uris::error::RUNTIME_ERROR,
                "{bad:?}"
            );
        }
        assert_eq!(AppError::runtime("no").payload.value(), &json!("no"));
    }

    #[test]
    fn every_end_of_the_realm_has_its_words() {
        let killed = EndReason::Killed {
            reason: "app.kick".into(),
            message: Some("bye".into()),
        };
        let end = SessionEnd::from(killed);
        assert_eq!(end.to_string(), "it was killed: app.kick");
        assert_eq!(SessionEnd::from(EndReason::TooSlow), SessionEnd::TooSlow);
        let violation = SessionEnd::from(EndReason::Violation("why"));
        assert_eq!(
            Error::Ended(violation).to_string(),
            "the session is over: why"
        );
    }
}
