//! What a peer can do wrong in a single message (section "Protocol Violations").
//!
//! Every [`Violation`] ends the session with ABORT `wamp.error.protocol_violation`; its text is
//! the message in the details and names the element and the reason.

use router_core::encoding::{EncodingError, Kind};
use std::fmt;
use thiserror::Error;

/// A message that breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The bytes are no value of the serialization.
    #[error("undecodable frame: {0}")]
    Undecodable(#[from] EncodingError),
    /// A batch without a message.
    #[error("a batch must not be empty")]
    EmptyBatch,
    /// A batch whose end is not the end of a message.
    #[error("a batch must end where a message does")]
    BrokenBatch,
    /// The frame holds something else than a list.
    #[error("a message must be a list")]
    NotAList,
    /// The list has no elements.
    #[error("a message must not be an empty list")]
    EmptyList,
    /// Element 0 is no integer.
    #[error("message type: expected an integer, got {}", found(*.got))]
    BadCode {
        /// What it is.
        got: Option<Kind>,
    },
    /// Element 0 is no type code of the protocol.
    #[error("unknown message type {0}")]
    UnknownCode(u64),
    /// More elements than any message has.
    #[error("a message must not have more than {max} elements")]
    TooManyElements {
        /// The most any message has.
        max: usize,
    },
    /// Not as many elements as this message has.
    #[error("{message} must have {} elements, got {got}", span(*.min, *.max))]
    ElementCount {
        /// The message.
        message: &'static str,
        /// The fewest it may have.
        min: usize,
        /// The most it may have.
        max: usize,
        /// How many there are.
        got: usize,
    },
    /// An element is not what the message demands there.
    #[error("{message} element {index} ({element}): {fault}")]
    Element {
        /// The message.
        message: &'static str,
        /// The position in the list.
        index: usize,
        /// Name and type in the specification, such as `Topic|uri`.
        element: &'static str,
        /// What is wrong.
        fault: ElementFault,
    },
    /// A member of the options or details has the wrong type.
    #[error("{key}: expected {expected}, got {}", found(*.got))]
    Member {
        /// The key.
        key: &'static str,
        /// What was expected, with its article.
        expected: &'static str,
        /// What it is.
        got: Option<Kind>,
    },
}

/// What is wrong with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ElementFault {
    /// It has another type.
    #[error("expected {expected}, got {}", found(*.got))]
    Type {
        /// What was expected, with its article.
        expected: &'static str,
        /// What it is.
        got: Option<Kind>,
    },
    /// An id outside 1..=2^53.
    #[error("an id must be an integer from 1 to 2^53")]
    IdRange,
    /// The request of a revocation is not 0.
    #[error("the request of a revocation must be 0")]
    Revocation,
    /// A string with half of a surrogate pair.
    #[error("a string with a lone surrogate")]
    LoneSurrogate,
    /// A dict of options or details that is larger than the limit.
    #[error("larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// Options or details that do not parse: a key that is no text.
    #[error("{0}")]
    Malformed(EncodingError),
}

fn found(kind: Option<Kind>) -> impl fmt::Display {
    kind.map_or_else(|| "nothing".to_owned(), |kind| kind.to_string())
}

fn span(min: usize, max: usize) -> impl fmt::Display {
    if min == max {
        min.to_string()
    } else {
        format!("{min} to {max}")
    }
}
