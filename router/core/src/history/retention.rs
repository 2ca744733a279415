//! How much is remembered, and of which topics.

use crate::model::Pattern;
use std::time::Duration;

/// How much a log remembers. Beyond any of the bounds the oldest is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events.
    pub events: usize,
    /// Their bytes, as [`Event::cost`](crate::model::Event::cost) counts them.
    pub bytes: usize,
    /// How old they may become; `None`: as old as they like.
    pub age: Option<Duration>,
    /// Whether they are stored, where there is a store that outlives the process.
    pub durable: bool,
}

/// Topics whose events are kept without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRule {
    /// Which topics.
    pub pattern: Pattern,
    /// How much of them.
    pub keep: Retention,
}

/// What a realm remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistorySettings {
    /// How much of what is kept on request; `None`: as the limits of the realm say, and stored.
    pub traced: Option<Retention>,
    /// What is kept without being asked for; the first rule that matches a topic counts.
    pub rules: Vec<HistoryRule>,
}
