//! What can go wrong with a session, in words for the person at the terminal.

use super::Arguments;
use protocols::wamp::uris::error;
use router_core::encoding::EncodingError;
use std::io;
use thiserror::Error;

/// Why something asked of a session did not happen. A `source` is not part of the text: whoever
/// shows the text shows the chain.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no router at {address}")]
    Unreachable {
        /// The URL.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Somebody listens, but does not speak WAMP.
    #[error("{address} is no WAMP endpoint: {reason}")]
    NotWamp {
        /// The URL.
        address: String,
        /// What happened instead.
        reason: String,
    },
    /// The router did not answer.
    #[error("the router at {address} did not answer within {secs} s")]
    Silent {
        /// The URL.
        address: String,
        /// How long was waited.
        secs: u64,
    },
    /// The router does not let us in: ABORT.
    #[error("the router refused the session: {reason}")]
    Refused {
        /// The reason and, if any, the message.
        reason: String,
    },
    /// The router answered a request by ERROR.
    #[error("{what}: {error}{}", in_words(.arguments))]
    Request {
        /// What was asked, such as `publish to com.myapp.topic1`.
        what: String,
        /// The error URI.
        error: String,
        /// What the router or the callee says about it.
        arguments: Arguments,
    },
    /// The session has ended.
    #[error("{0}")]
    Closed(Closed),
    /// Too much was asked at a time.
    #[error("more than {0} requests wait for their answer")]
    TooManyRequests(usize),
    /// Arguments that cannot be written in this serialization, or not be read.
    #[error("the arguments cannot be converted")]
    Arguments(#[from] EncodingError),
}

fn in_words(arguments: &Arguments) -> String {
    match arguments.to_string() {
        text if text == "[]" => String::new(),
        text => format!(": {text}"),
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// We said goodbye, and the router answered.
    #[error("the session is closed")]
    Goodbye,
    /// The router ended it.
    #[error("the router closed the session: {0}")]
    ByRouter(String),
    /// The connection broke.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// The router sent what no router may send.
    #[error("the router broke the protocol: {0}")]
    Violation(String),
}

/// What a handler answers instead of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error URI.
    pub error: String,
    /// Details for the caller.
    pub arguments: Arguments,
}

impl Failure {
    /// `wamp.error.runtime_error` with a message.
    pub fn runtime(message: &str) -> Failure {
        Failure {
            error: error::RUNTIME_ERROR.to_owned(),
            arguments: Arguments::list(&[message.into()]),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::runtime(&format!("{error:#}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::runtime(&error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        anyhow::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_says_what_was_asked_and_what_was_answered() {
        let text = |arguments| {
            let error = ClientError::Request {
                what: "call a.b".into(),
                error: "wamp.error.x".into(),
                arguments,
            };
            error.to_string()
        };
        assert_eq!(text(Arguments::none()), "call a.b: wamp.error.x");
        let because = Arguments::list(&[json!("because")]);
        assert_eq!(text(because), "call a.b: wamp.error.x: \"because\"");
    }

    #[test]
    fn a_failed_handler_tells_the_whole_chain() {
        let chain = anyhow::anyhow!("inner").context("outer");
        let failure = Failure::from(chain);
        assert_eq!(failure.error, "wamp.error.runtime_error");
        assert_eq!(failure.arguments.args_text(), r#"["outer: inner"]"#);
    }
}
