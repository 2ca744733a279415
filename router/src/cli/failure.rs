//! Why a command did not do what it was asked, and with which exit code it says so.

use router_client::ClientError;
use serde_json::{Map, Value};
use std::io;

/// Something went wrong.
pub(super) const EXIT_FAILED: u8 = 1;
/// Bad arguments.
pub(super) const EXIT_USAGE: u8 = 2;
/// Not found, a condition that does not hold, a lock that somebody else has.
pub(super) const EXIT_CONDITION: u8 = 4;
/// The lock was lost.
pub(super) const EXIT_LOST: u8 = 5;

/// Error URIs of a condition that does not hold. The last one is how a publish says it.
const CONDITIONS: &[&str] = &[
    "fox.error.conflict",
    "fox.error.lock_held",
    "wamp.error.timeout",
    "wamp.error.invalid_payload",
];
const LOCK_LOST: &str = "fox.error.lock_lost";

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub code: u8,
    /// The error URI of the router, or a word of ours.
    pub error: String,
    /// For the reader; empty: nothing is to be said.
    pub message: String,
    /// What the router tells beside it, such as the current token.
    pub details: Map<String, Value>,
}

impl Failure {
    fn new(code: u8, error: &str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            error: error.to_owned(),
            message: message.into(),
            details: Map::new(),
        }
    }

    /// Something went wrong.
    pub(super) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(EXIT_FAILED, "failed", message)
    }

    /// Bad arguments.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(EXIT_USAGE, "usage", message)
    }

    /// There is nothing under `key`.
    pub(super) fn not_found(key: &str, message: String) -> Failure {
        let mut failure = Failure::new(EXIT_CONDITION, "not_found", message);
        failure.details.insert("key".to_owned(), key.into());
        failure
    }

    /// The lock was lost.
    pub(super) fn lost(message: impl Into<String>) -> Failure {
        Failure::new(EXIT_LOST, LOCK_LOST, message)
    }

    /// A signal ended the command before it did anything.
    pub(super) fn interrupted(signal: i32) -> Failure {
        let code = u8::try_from(128 + signal).unwrap_or(EXIT_FAILED);
        Failure::new(code, "interrupted", "interrupted")
    }

    /// The router answered with something else than the procedure promises.
    pub(super) fn unreadable(procedure: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::failed(format!("{procedure} answered in an unknown form: {error}"))
    }

    /// With words in front of the message.
    pub(super) fn about(mut self, what: &str) -> Failure {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Request {
                error, arguments, ..
            } => {
                // What cannot be read is left out; the error itself matters more.
                let (args, details) = arguments.to_values().unwrap_or_default();
                let code = match error.as_str() {
                    LOCK_LOST => EXIT_LOST,
                    other if CONDITIONS.contains(&other) => EXIT_CONDITION,
                    _ => EXIT_FAILED,
                };
                let message = match args.first() {
                    Some(Value::String(words)) => format!("{words} ({error})"),
                    _ => error.clone(),
                };
                Failure {
                    code,
                    error,
                    message,
                    details,
                }
            }
            other => Failure::failed(format!("{:#}", anyhow::Error::from(other))),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        // As with any filter: who reads our output has seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(0, "broken_pipe", "");
        }
        Failure::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use router_client::Arguments;
    use serde_json::json;

    fn answered(error: &str, args: &[Value], kwargs: Value) -> Failure {
        let kwargs = kwargs.as_object().cloned().expect("a dict");
        Failure::from(ClientError::Request {
            what: "call p".to_owned(),
            error: error.to_owned(),
            arguments: Arguments::new(args, &kwargs),
        })
    }

    #[test]
    fn the_routers_errors_have_their_exit_codes() {
        for (error, code) in [
            ("fox.error.conflict", 4),
            ("fox.error.lock_held", 4),
            ("wamp.error.timeout", 4),
            ("fox.error.lock_lost", 5),
            ("fox.error.queue_full", 1),
            ("wamp.error.not_authorized", 1),
            ("wamp.error.no_such_procedure", 1),
        ] {
            assert_eq!(answered(error, &[], json!({})).code, code, "{error}");
        }
    }

    #[test]
    fn a_failure_keeps_the_words_and_the_details_of_the_router() {
        let details = json!({"key": "a.b", "token": 7});
        let failure = answered("fox.error.conflict", &[json!("not now")], details.clone());
        assert_eq!(failure.message, "not now (fox.error.conflict)");
        assert_eq!(Value::from(failure.details), details);
        let wordless = answered("a.b", &[json!(1)], json!({}));
        assert_eq!(wordless.message, "a.b");
    }

    #[test]
    fn only_a_closed_stdout_is_a_quiet_end() {
        let quiet = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((quiet.code, quiet.message.as_str()), (0, ""));
        let loud = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(loud.code, 1);
        assert!(!loud.message.is_empty());
    }

    #[test]
    fn a_signal_counts_as_in_a_shell() {
        assert_eq!(Failure::interrupted(2).code, 130);
        assert_eq!(Failure::interrupted(15).code, 143);
    }
}
