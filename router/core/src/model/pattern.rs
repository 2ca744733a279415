//! What a subscription, a registration or a rule can match: one type for every notation.

use super::topic::{Topic, TopicError, check_text, first_level};
use compact_str::CompactString;
use smallvec::SmallVec;
use std::fmt;
use thiserror::Error;

/// The most wildcard levels one pattern may have, so that a match stays cheap whatever is asked.
pub const MAX_WILDCARDS: usize = 16;

/// One level of a [`Pattern::Levels`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Matches the same level, byte for byte. A short text lies in its place, and none is a slice of a frame.
    Exact(CompactString),
    /// Matches any one level, an empty one too.
    One,
    /// Matches any number of levels, none too (so `a/#` matches `a`). Only as the last level.
    Rest,
}

/// A set of topics.
///
/// Two rules hold whatever the notation: a pattern that begins with a wildcard (or with an empty
/// string prefix) never matches a topic whose first level starts with `$`, nor the realm's own
/// topics under its reserved first level; those must be named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Exactly this topic.
    Exact(Topic),
    /// Level by level, with at least one wildcard.
    Levels(Box<[Level]>),
    /// Every topic whose text starts with this text; the last level may be partial.
    Prefix(CompactString),
}

/// Why a pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// The same limits as for topics.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// `#` stands before the last level, or inside a level.
    #[error("'#' must be the whole last level of a pattern")]
    MisplacedRest,
    /// More wildcards than [`MAX_WILDCARDS`].
    #[error("a pattern must not have more than {MAX_WILDCARDS} wildcard levels")]
    TooManyWildcards,
}

impl Pattern {
    /// Builds a pattern from typed levels; without a wildcard it becomes [`Pattern::Exact`].
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn from_levels(levels: Vec<Level>) -> Result<Pattern, PatternError> {
        let wildcards = levels
            .iter()
            .filter(|l| !matches!(l, Level::Exact(_)))
            .count();
        if wildcards > MAX_WILDCARDS {
            return Err(PatternError::TooManyWildcards);
        }
        let mut text = String::new();
        for (i, level) in levels.iter().enumerate() {
            if i > 0 {
                text.push('/');
            }
            match level {
                Level::Exact(level) if level.contains(['#', '/']) => {
                    return Err(PatternError::MisplacedRest);
                }
                Level::Exact(level) => text.push_str(level),
                Level::Rest if i + 1 != levels.len() => return Err(PatternError::MisplacedRest),
                Level::One | Level::Rest => text.push('+'),
            }
        }
        check_text(&text)?;
        if wildcards == 0 {
            return Ok(Pattern::Exact(Topic::new(text)?));
        }
        Ok(Pattern::Levels(levels.into()))
    }

    /// A string prefix; the empty one matches every topic that need not be named.
    ///
    /// # Errors
    /// When the text breaks a limit of [`Topic`].
    pub fn prefix(text: impl AsRef<str>) -> Result<Pattern, PatternError> {
        let text = text.as_ref();
        if !text.is_empty() {
            check_text(text)?;
        }
        if text.contains('#') {
            return Err(PatternError::MisplacedRest);
        }
        Ok(Pattern::Prefix(text.into()))
    }

    /// Reads the slash notation: `+` is one level, a final `#` the rest.
    ///
    /// # Errors
    /// See [`PatternError`]; `+` and `#` must be whole levels.
    pub fn from_slashes(text: &str) -> Result<Pattern, PatternError> {
        check_text(text)?;
        if memchr::memchr2(b'+', b'#', text.as_bytes()).is_none() {
            return Ok(Pattern::Exact(Topic::new(text.to_owned())?));
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            levels.push(match level {
                "+" => Level::One,
                "#" => Level::Rest,
                _ if level.contains(['+', '#']) => return Err(PatternError::MisplacedRest),
                _ => Level::Exact(level.into()),
            });
        }
        Pattern::from_levels(levels)
    }

    /// Whether this pattern matches `topic`; `reserved` is the realm's own first level.
    ///
    /// The plain definition, used for rules, replay and as the oracle of the index.
    #[must_use]
    pub fn matches(&self, topic: &Topic, reserved: &str) -> bool {
        match self {
            Pattern::Exact(exact) => exact == topic,
            Pattern::Prefix(prefix) => {
                topic.text().starts_with(&**prefix)
                    && (!must_be_named(topic.text(), reserved) || names_first_level(prefix, topic))
            }
            Pattern::Levels(levels) => {
                if must_be_named(topic.text(), reserved)
                    && !matches!(levels.first(), Some(Level::Exact(_)))
                {
                    return false;
                }
                levels_match(levels, topic)
            }
        }
    }

    /// Whether every topic that `other` matches is matched by `self` as well. Sound and, for level
    /// patterns, complete; used to decide whether a rule covers a wildcard subscription.
    #[must_use]
    pub fn covers(&self, other: &Pattern, reserved: &str) -> bool {
        match (self, other) {
            (_, Pattern::Exact(topic)) => self.matches(topic, reserved),
            (Pattern::Exact(_), _) => false,
            (Pattern::Prefix(p), Pattern::Prefix(q)) => {
                q.starts_with(&**p) && reaches(p, first_level(q), reserved)
            }
            (Pattern::Prefix(p), Pattern::Levels(levels)) => {
                let reaches = match levels.first() {
                    Some(Level::Exact(first)) => reaches(p, first, reserved),
                    _ => true,
                };
                reaches && literal_start(levels).starts_with(&**p)
            }
            (Pattern::Levels(levels), Pattern::Prefix(q)) => {
                rest_covers_prefix(levels, q, reserved)
            }
            (Pattern::Levels(a), Pattern::Levels(b)) => {
                let wild_first = !matches!(a.first(), Some(Level::Exact(_)));
                !(wild_first && first_is_special(b, reserved)) && levels_cover(a, b)
            }
        }
    }

    /// Whether a single topic is meant.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self, Pattern::Exact(_))
    }

    /// The text that every matching topic starts with, for range scans over sorted topics.
    #[must_use]
    pub fn literal_prefix(&self) -> String {
        match self {
            Pattern::Exact(topic) => topic.text().to_owned(),
            Pattern::Prefix(prefix) => prefix.to_string(),
            Pattern::Levels(levels) => literal_start(levels),
        }
    }
}

/// Whether wildcards must not reach this topic by themselves.
#[must_use]
pub fn must_be_named(topic: &str, reserved: &str) -> bool {
    topic.starts_with('$') || first_level(topic) == reserved
}

/// A string prefix names a special first level when it spells it out (`$` alone is enough for a
/// `$` topic, the reserved level must be written whole).
fn names_first_level(prefix: &str, topic: &Topic) -> bool {
    if topic.text().starts_with('$') {
        return prefix.starts_with('$');
    }
    first_level(prefix) == topic.first_level()
}

/// Whether a string prefix that a name starts with also matches it when that name's first level
/// must be named.
fn reaches(prefix: &str, first: &str, reserved: &str) -> bool {
    if first.starts_with('$') {
        prefix.starts_with('$')
    } else {
        first != reserved || first_level(prefix) == reserved
    }
}

fn levels_match(levels: &[Level], topic: &Topic) -> bool {
    let mut rest = topic.levels();
    for level in levels {
        match level {
            Level::Rest => return true,
            Level::One if rest.next().is_some() => {}
            Level::Exact(text) if rest.next() == Some(&**text) => {}
            Level::One | Level::Exact(_) => return false,
        }
    }
    rest.next().is_none()
}

fn levels_cover(a: &[Level], b: &[Level]) -> bool {
    let mut rest = b.iter();
    for level in a {
        match (level, rest.next()) {
            (Level::Rest, _) => return true,
            (Level::One, Some(Level::One | Level::Exact(_))) => {}
            (Level::Exact(x), Some(Level::Exact(y))) if x == y => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

fn first_is_special(levels: &[Level], reserved: &str) -> bool {
    matches!(levels.first(), Some(Level::Exact(first)) if must_be_named(first, reserved))
}

/// `a/#` covers the string prefix `a/b`; `#` covers every prefix that names nothing special.
fn rest_covers_prefix(levels: &[Level], prefix: &str, reserved: &str) -> bool {
    let Some((Level::Rest, literal)) = levels.split_last() else {
        return false;
    };
    let special = prefix.starts_with('$') || first_level(prefix) == reserved;
    if literal.is_empty() {
        return !special;
    }
    let whole: SmallVec<[&str; 8]> = prefix.split('/').collect();
    let Some((_, complete)) = whole.split_last() else {
        return false;
    };
    let names_special = !special || matches!(literal.first(), Some(Level::Exact(_)));
    names_special
        && complete.len() >= literal.len()
        && literal
            .iter()
            .zip(complete)
            .all(|(level, part)| match level {
                Level::Exact(text) => &**text == *part,
                Level::One => true,
                Level::Rest => false,
            })
}

fn literal_start(levels: &[Level]) -> String {
    let mut text = String::new();
    for (i, level) in levels.iter().enumerate() {
        match level {
            Level::Exact(level) => {
                if i > 0 {
                    text.push('/');
                }
                text.push_str(level);
            }
            // `a/#` matches `a` itself, so the boundary does not belong to the common start.
            Level::Rest => break,
            Level::One => {
                if i > 0 {
                    text.push('/');
                }
                break;
            }
        }
    }
    text
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(topic) => topic.fmt(f),
            Pattern::Prefix(prefix) => write!(f, "{prefix}…"),
            Pattern::Levels(levels) => {
                for (i, level) in levels.iter().enumerate() {
                    if i > 0 {
                        f.write_str("/")?;
                    }
                    match level {
                        Level::Exact(text) => f.write_str(text)?,
                        Level::One => f.write_str("+")?,
                        Level::Rest => f.write_str("#")?,
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_must_be_named_only_if_it_names_it() {
        let prefix = |text: &str| Pattern::prefix(text).unwrap();
        let levels = |text: &str| Pattern::from_slashes(text).unwrap();
        let cases = [
            ("", prefix("a"), true),
            ("", prefix("$s"), false),
            ("$", prefix("$s"), true),
            ("", levels("+/a"), true),
            ("", levels("$s/#"), false),
            ("$s", levels("$s/#"), true),
            ("", prefix("sys"), false),
            ("sy", prefix("sys"), false),
            ("sy", prefix("syst"), true),
            ("sys", prefix("sys/a"), true),
            ("sy", levels("sys/+"), false),
            ("sys", levels("sys/+"), true),
            ("a/b", levels("a/+"), false),
        ];
        for (wider, narrower, covers) in cases {
            let found = prefix(wider).covers(&narrower, "sys");
            assert_eq!(found, covers, "{wider:?} covers {narrower}");
        }
    }
}
