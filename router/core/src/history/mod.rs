//! The events that a realm remembers in order, so that a late subscriber can ask for what came
//! after.
//!
//! An event is kept because its publisher asked for it, or because a rule of the realm names its
//! topic; each rule has a log of its own, so that one busy topic pushes out no other. What was
//! published to certain sessions only is never kept: session ids mean nothing later (section "Event
//! History", "Security Aspects").

use crate::model::{Event, Pattern, Topic};
use bytestring::ByteString;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Topics whose events are kept without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRule {
    /// Which topics.
    pub pattern: Pattern,
    /// Events remembered; beyond it the oldest is forgotten.
    pub events_max: usize,
}

/// The logs of a realm.
#[derive(Debug)]
pub struct History {
    traced: Log,
    /// What each rule keeps, in the order of the rules; the first that matches counts.
    ruled: Vec<(Pattern, Log)>,
    reserved: ByteString,
}

/// A bounded ordered log of events.
#[derive(Debug)]
struct Log {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl History {
    /// Empty logs, each of at most `bytes_max` bytes, and of at most `events_max` events for what is
    /// kept on request; `reserved` is the realm's own first level.
    #[must_use]
    pub fn new(
        events_max: usize,
        bytes_max: usize,
        rules: &[HistoryRule],
        reserved: ByteString,
    ) -> History {
        let ruled = rules
            .iter()
            .map(|rule| (rule.pattern.clone(), Log::new(rule.events_max, bytes_max)));
        History {
            traced: Log::new(events_max, bytes_max),
            ruled: ruled.collect(),
            reserved,
        }
    }

    /// Whether an event is to be kept; `traced`: its publisher asked for it.
    #[must_use]
    pub fn wants(&self, event: &Event, traced: bool) -> bool {
        let names_sessions = |event: &Event| {
            let admission = event.admission.as_ref();
            admission.is_some_and(|admission| admission.names_sessions())
        };
        (traced || self.rule_of(&event.topic).is_some()) && !names_sessions(event)
    }

    fn rule_of(&self, topic: &Topic) -> Option<usize> {
        let mut rules = self.ruled.iter();
        rules.position(|(pattern, _)| pattern.matches(topic, &self.reserved))
    }

    /// Appends an event that it wants, whose publication id is the greatest so far. Answers how
    /// many old events were forgotten to make room.
    pub fn append(&mut self, event: Arc<Event>, traced: bool) -> u64 {
        let rule = self.rule_of(&event.topic);
        match rule.and_then(|at| self.ruled.get_mut(at)) {
            Some((_, log)) => log.append(event),
            None if traced => self.traced.append(event),
            None => 0,
        }
    }

    /// The events after publication id `after`, oldest first.
    pub fn after(&self, after: u64) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.between(after.saturating_add(1)..=u64::MAX)
    }

    /// The events whose publication ids are in the range, oldest first.
    pub fn between(
        &self,
        ids: RangeInclusive<u64>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let logs = self.ruled.iter().map(|(_, log)| log);
        let logs = std::iter::once(&self.traced).chain(logs);
        let mut events: Vec<&Arc<Event>> = Vec::new();
        for log in logs {
            events.extend(log.between(&ids));
        }
        if !self.ruled.is_empty() {
            // A merge of ordered runs, which the standard sort does in one pass for each.
            events.sort_by_key(|event| event.publication);
        }
        events.into_iter()
    }

    /// How many events are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        let ruled = self.ruled.iter().map(|(_, log)| log.events.len());
        self.traced.events.len() + ruled.sum::<usize>()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log {
    fn new(events_max: usize, bytes_max: usize) -> Log {
        Log {
            events: VecDeque::new(),
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    fn append(&mut self, event: Arc<Event>) -> u64 {
        self.bytes += event.cost();
        self.events.push_back(event);
        let mut forgotten = 0;
        while self.events.len() > self.events_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            forgotten += 1;
        }
        forgotten
    }

    fn between(&self, ids: &RangeInclusive<u64>) -> impl Iterator<Item = &Arc<Event>> {
        let start = self
            .events
            .partition_point(|event| event.publication.0 < *ids.start());
        let end = self
            .events
            .partition_point(|event| event.publication.0 <= *ids.end());
        self.events.range(start..end.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Payload, PublicationId, Qos, Topic};

    fn event(id: u64, bytes: usize) -> Arc<Event> {
        under("t", id, bytes)
    }

    fn under(topic: &'static str, id: u64, bytes: usize) -> Arc<Event> {
        Arc::new(Event {
            publication: PublicationId(id),
            topic: Topic::new(topic).unwrap(),
            payload: Payload::bytes(vec![b'x'; bytes].into(), false),
            publisher: None,
            qos: Qos::AtMostOnce,
            retain: false,
            clears: false,
            token: None,
            expires_at_ms: None,
            attributes: None,
            admission: None,
        })
    }

    #[test]
    fn positions_compare_as_numbers() {
        let mut history = History::new(100, 1 << 20, &[], "own".into());
        for id in [8, 9, 10, 11] {
            history.append(event(id, 1), true);
        }
        let ids: Vec<u64> = history.after(9).map(|e| e.publication.0).collect();
        assert_eq!(ids, [10, 11]);
        assert_eq!(history.after(11).count(), 0);
        assert_eq!(history.after(0).count(), 4);
        assert_eq!(history.after(u64::MAX).count(), 0);
        assert_eq!(history.between(9..=10).count(), 2);
        assert_eq!(history.between(RangeInclusive::new(10, 9)).count(), 0);
    }

    #[test]
    fn forgets_the_oldest_by_count_and_by_bytes() {
        let mut history = History::new(2, 1 << 20, &[], "own".into());
        assert_eq!(
            (1..=3)
                .map(|id| history.append(event(id, 1), true))
                .sum::<u64>(),
            1
        );
        assert_eq!(history.after(0).next().map(|e| e.publication.0), Some(2));
        let mut history = History::new(100, 1000, &[], "own".into());
        (1..=3).for_each(|id| {
            history.append(event(id, 400), true);
        });
        assert_eq!(history.len(), 2);
    }

    #[test]
    fn rules_have_logs_of_their_own_that_are_read_as_one() {
        let rule = |pattern, events_max| HistoryRule {
            pattern: Pattern::from_slashes(pattern).unwrap(),
            events_max,
        };
        let rules = [rule("a/+", 2), rule("#", 2)];
        let mut history = History::new(2, 1 << 20, &rules, "own".into());
        let mut forgotten = 0;
        for (id, topic) in (1..).zip(["a/x", "b", "a/x", "b", "a/y", "own/x"]) {
            let event = under(topic, id, 1);
            assert_eq!(history.wants(&event, false), topic != "own/x");
            assert!(history.wants(&event, true));
            forgotten += history.append(event, false);
        }
        let ids: Vec<u64> = history.after(0).map(|e| e.publication.0).collect();
        assert_eq!((ids, forgotten), (vec![2, 3, 4, 5], 1));
        assert_eq!(history.len(), 4);
    }

    #[test]
    fn what_was_for_certain_sessions_is_not_wanted() {
        use crate::model::{Admission, Audience, SessionId};
        let history = History::new(9, 1 << 20, &[], "own".into());
        let wanted = |audience: Audience| {
            let mut event = Arc::into_inner(event(1, 1)).unwrap();
            event.admission = Some(Box::new(Admission {
                exclude: Some(audience),
                eligible: None,
                about: None,
            }));
            history.wants(&event, true)
        };
        assert!(wanted(Audience {
            authids: Some(vec!["joe".into()]),
            ..Audience::default()
        }));
        assert!(!wanted(Audience {
            sessions: Some(vec![SessionId(1)]),
            ..Audience::default()
        }));
    }
}
