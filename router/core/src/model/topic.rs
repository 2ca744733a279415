//! A topic is a list of levels, kept as one string.
//!
//! Levels are joined by `/`. A level holds any character but U+0000, `/` and `#`; it may be empty.
//! A `/` that belongs to a level itself (some protocols allow it in a component) is written as
//! U+0000 in the text, which cannot occur otherwise, so the text stays injective. Nothing is
//! normalised: two topics are equal exactly when their texts are.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// The longest topic text, in bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;
/// The most levels a topic or pattern may have.
pub const MAX_LEVELS: usize = 200;

/// A concrete topic or procedure name. Its text is shared by its copies and nothing else: unlike a slice of what was
/// read it keeps no buffer alive.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

/// Why a text is no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic must not be empty")]
    Empty,
    /// The text is longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic must not exceed {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// More levels than [`MAX_LEVELS`].
    #[error("a topic must not have more than {MAX_LEVELS} levels")]
    TooDeep,
    /// A level contains `#`, which belongs to patterns.
    #[error("a topic must not contain '#'")]
    Wildcard,
}

impl Topic {
    /// Checks `text` and takes it as a topic.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Topic, TopicError> {
        let known = text.as_ref();
        check_text(known)?;
        if memchr::memchr(b'#', known.as_bytes()).is_some() {
            return Err(TopicError::Wildcard);
        }
        Ok(Topic(text.into()))
    }

    /// The levels joined by `/`, with U+0000 for a `/` inside a level.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The levels in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The first level.
    #[must_use]
    pub fn first_level(&self) -> &str {
        first_level(&self.0)
    }

    /// Whether every level can be named in a slash-separated filter language in which `+` and `#`
    /// are wildcards and a level holds no `/`.
    #[must_use]
    pub fn is_slash_safe(&self) -> bool {
        memchr::memchr2(0, b'+', self.0.as_bytes()).is_none()
    }
}

/// The rules that topics and patterns share.
pub(super) fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    if memchr::memchr_iter(b'/', text.as_bytes())
        .nth(MAX_LEVELS - 1)
        .is_some()
    {
        return Err(TopicError::TooDeep);
    }
    Ok(())
}

/// The text up to the first level boundary.
#[must_use]
pub fn first_level(text: &str) -> &str {
    match memchr::memchr(b'/', text.as_bytes()) {
        Some(end) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Topics are sorted and told apart by their text.
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;
    fn try_from(text: String) -> Result<Topic, TopicError> {
        Topic::new(text)
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> String {
        topic.text().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_empty_levels_and_refuses_what_is_no_topic() {
        for text in ["a", "/", "a//b", "/a", "a/", "a+b", "$SYS/x", " "] {
            assert_eq!(
                Topic::new(text).map(|t| t.text().to_owned()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(Topic::new("a/#"), Err(TopicError::Wildcard));
        assert_eq!(Topic::new("x".repeat(65_536)), Err(TopicError::TooLong));
        assert!(Topic::new("x".repeat(65_535)).is_ok());
    }

    #[test]
    fn counts_levels_not_slashes() {
        let at_limit = vec!["a"; MAX_LEVELS].join("/");
        assert!(Topic::new(at_limit.clone()).is_ok());
        assert_eq!(Topic::new(at_limit + "/a"), Err(TopicError::TooDeep));
    }

    #[test]
    fn slash_safety_sees_plus_and_inner_slash() {
        let safe = |t: &str| Topic::new(t).map(|t| t.is_slash_safe());
        assert_eq!(safe("a/b"), Ok(true));
        assert_eq!(safe("a/+"), Ok(false));
        assert_eq!(safe("a\0b"), Ok(false));
    }
}
