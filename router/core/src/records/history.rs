//! The stored forms of what a realm remembers.

use super::{StoredEvent, StoredLevel, StoredSubscription, decode, encode, key, number};
use crate::history::Head;
use crate::model::{Event, Pattern, Topic};
use serde::{Deserialize, Serialize};

/// Begins the names of marks. Publications are below 2^53, so their keys begin with another byte.
pub const MARK: u8 = 1;

/// A remembered event.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredTrace {
    /// What it counts for, in bytes.
    pub cost: u32,
    /// Its publisher asked for it to be kept.
    pub traced: bool,
    /// What.
    pub event: StoredEvent,
}

impl StoredTrace {
    /// The stored form of an event.
    #[must_use]
    pub fn of(event: &Event, traced: bool) -> StoredTrace {
        StoredTrace {
            cost: u32::try_from(event.cost()).unwrap_or(u32::MAX),
            traced,
            event: event.into(),
        }
    }
}

/// A remembered event read without its body.
#[derive(Deserialize)]
struct Glance {
    cost: u32,
    traced: bool,
    event: GlanceEvent,
}

#[derive(Deserialize)]
struct GlanceEvent {
    publication: u64,
    topic: Topic,
}

/// What a restart needs of a [`StoredTrace`] record, or why that cannot be read.
///
/// # Errors
/// When the bytes are not such a record.
pub fn trace_of(record: &[u8]) -> Result<Head, rmp_serde::decode::Error> {
    let Glance {
        cost,
        traced,
        event,
    } = decode(record)?;
    Ok(Head {
        publication: event.publication,
        topic: event.topic,
        cost,
        traced,
    })
}

/// How much is forgotten of one log.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredMark {
    /// The levels of the rule's pattern, as of a subscription; `None`: what is kept on request.
    pub rule: Option<Vec<StoredLevel>>,
    /// The greatest publication forgotten.
    pub forgotten: u64,
}

impl StoredMark {
    /// The mark of the log with this pattern.
    #[must_use]
    pub fn of(rule: Option<&Pattern>, forgotten: u64) -> StoredMark {
        StoredMark {
            rule: rule.map(StoredSubscription::levels_of),
            forgotten,
        }
    }

    /// The pattern of the log, and how much is forgotten; `None` if that is no pattern.
    #[must_use]
    pub fn read(self) -> Option<(Option<Pattern>, u64)> {
        let rule = match self.rule {
            Some(levels) => Some(super::pattern_of(&levels)?),
            None => None,
        };
        Some((rule, self.forgotten))
    }
}

/// The key of a remembered event.
#[must_use]
pub fn trace_key(realm: &str, publication: u64) -> Vec<u8> {
    key(realm, &publication.to_be_bytes())
}

/// The key of the mark of a log; `None` if its pattern cannot be expressed, which no pattern here is.
#[must_use]
pub fn mark_key(realm: &str, rule: Option<&Pattern>) -> Option<Vec<u8>> {
    let name = encode(&rule.map(StoredSubscription::levels_of)).ok()?;
    let mut part = Vec::with_capacity(1 + name.len());
    part.push(MARK);
    part.extend_from_slice(&name);
    Some(key(realm, &part))
}

/// The publication of a key made by [`trace_key`] after its realm; `None` for a mark.
#[must_use]
pub fn publication(part: &[u8]) -> Option<u64> {
    match part.first() {
        Some(&MARK) => None,
        _ => number(part),
    }
}
