//! The events that a realm remembers in order, so that a late subscriber can ask for what came
//! after (ADR 0016).
//!
//! An event is kept because its publisher asked for it, or because a rule of the realm names its
//! topic; each rule has a log of its own, so that one busy topic pushes out no other. What was
//! published to certain sessions only is never kept: session ids mean nothing later (section "Event
//! History", "Security Aspects").
//!
//! Of each event the memory holds its place, topic and size; bodies that are on disk stay in memory only while they are
//! among the newest.

mod log;
mod retention;
mod walk;

pub use log::Entry;
pub use retention::{HistoryRule, HistorySettings, Retention};
pub use walk::Walk;

use crate::model::{Event, Pattern, Topic};
use bytestring::ByteString;
use log::{Log, UNWRITTEN};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The logs of a realm.
#[derive(Debug)]
pub struct History {
    traced: Log,
    /// What each rule keeps, in the order of the rules; the first that matches counts.
    ruled: Vec<(Pattern, Log)>,
    reserved: ByteString,
    /// Stored events that are forgotten: their records are to be deleted.
    obsolete: VecDeque<u64>,
    /// The last publication of earlier lives, of which logs that are not stored know nothing.
    born: u64,
}

/// How an event is to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Its publisher asked for it.
    pub traced: bool,
    /// It stays even if the store refuses it: nobody is told that it failed.
    pub stands: bool,
    /// The session that published it gets no copy of it.
    pub not_to_publisher: bool,
    /// The commit that would store it; `None`: the store is down.
    pub commit: Option<u64>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// It is in a log.
    pub kept: bool,
    /// That log is stored.
    pub durable: bool,
    /// How many others were forgotten to make room.
    pub forgotten: u64,
}

/// What a store knows of an event without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order.
    pub publication: u64,
    /// Where it was published.
    pub topic: Topic,
    /// What it counts for, in bytes.
    pub cost: u32,
    /// Its publisher asked for it to be kept.
    pub traced: bool,
}

/// The first publication that is no older than this.
pub type FirstSince<'a> = &'a dyn Fn(Duration) -> u64;

impl History {
    /// Empty logs, of which `resident_max` bytes of bodies each stay in memory if they are stored,
    /// which none is unless there `is_store`; `reserved` is the realm's own first level, and `born` the last publication
    /// before.
    #[must_use]
    pub fn new(
        traced: Retention,
        rules: &[HistoryRule],
        resident_max: usize,
        is_store: bool,
        reserved: ByteString,
        born: u64,
    ) -> History {
        let log = |keep: Retention| {
            let durable = keep.durable && is_store;
            Log::new(Retention { durable, ..keep }, resident_max)
        };
        let ruled = rules
            .iter()
            .map(|rule| (rule.pattern.clone(), log(rule.keep)));
        History {
            traced: log(traced),
            ruled: ruled.collect(),
            reserved,
            obsolete: VecDeque::new(),
            born,
        }
    }

    /// Whether an event is to be kept; `asked`: by a [rule](History::has_rule) for its topic, or by its publisher.
    #[must_use]
    pub fn wants(&self, event: &Event, asked: bool) -> bool {
        let names_sessions = |event: &Event| {
            let admission = event.admission.as_ref();
            admission.is_some_and(|admission| admission.names_sessions())
        };
        asked && !names_sessions(event)
    }

    /// Whether a rule says that what is published there is kept.
    #[must_use]
    pub fn has_rule(&self, topic: &Topic) -> bool {
        self.rule_of(topic).is_some()
    }

    /// Whether what is published there is stored.
    #[must_use]
    pub fn stores(&self, topic: &Topic, traced: bool) -> bool {
        match self.rule_of(topic).and_then(|at| self.ruled.get(at)) {
            Some((_, log)) => log.keep().durable,
            None => traced && self.traced.keep().durable,
        }
    }

    fn rule_of(&self, topic: &Topic) -> Option<usize> {
        let mut rules = self.ruled.iter();
        rules.position(|(pattern, _)| pattern.matches(topic, &self.reserved))
    }

    /// Appends an event that it wants. Not kept is one that is not the greatest so far, because it was announced before,
    /// and one that cannot be written now if the memory holds enough of those.
    pub fn append(&mut self, event: Arc<Event>, how: Keep) -> Appended {
        let log = match self.rule_of(&event.topic) {
            Some(at) => self.ruled.get_mut(at).map(|(_, log)| log),
            None => how.traced.then_some(&mut self.traced),
        };
        let Some(log) = log.filter(|log| log.last() < event.publication.0) else {
            return Appended::default();
        };
        let durable = log.keep().durable;
        if durable && how.commit.is_none() && !log.has_room_in_memory() {
            return Appended::default();
        }
        log.push(Entry {
            publication: event.publication,
            topic: event.topic.clone(),
            cost: u32::try_from(event.cost()).unwrap_or(u32::MAX),
            not_to_publisher: how.not_to_publisher,
            traced: how.traced,
            stands: how.stands,
            commit: match durable {
                true => how.commit.unwrap_or(UNWRITTEN),
                false => 0,
            },
            event: Some(event),
        });
        let forgotten = log.trim(&mut self.obsolete);
        Appended {
            kept: true,
            durable,
            forgotten,
        }
    }

    /// Everything up to `committed` is on disk: bodies beyond the bound of the memory leave it.
    pub fn spill(&mut self, committed: u64) {
        self.traced.spill(committed);
        for (_, log) in &mut self.ruled {
            log.spill(committed);
        }
    }

    /// Nothing after `committed` is on disk: takes back what was refused, and answers how much that was.
    pub fn take_back(&mut self, committed: u64) -> usize {
        let stored = self.logs_mut().filter(|log| log.keep().durable);
        stored.map(|log| log.take_back(committed)).sum()
    }

    /// Calls `write` for each event that is still to be stored, which `commit` does now, and says whether its publisher asked for it.
    pub fn write_again(&mut self, commit: u64, mut write: impl FnMut(&Event, bool)) {
        let stored = self.logs_mut().filter(|log| log.keep().durable);
        for log in stored {
            for entry in log.unwritten() {
                entry.commit = commit;
                if let Some(event) = &entry.event {
                    write(event, entry.traced);
                }
            }
        }
    }

    /// The deletion or writing of a record may have been lost: what is not remembered is to be deleted once more.
    pub fn note_lost(&mut self, id: u64) {
        if !self.logs().any(|log| log.contains(id)) {
            self.obsolete.push_back(id);
        }
    }

    /// The marks of what is forgotten may have been lost.
    pub fn unmark(&mut self) {
        self.logs_mut().for_each(|log| log.unmarked = true);
    }

    /// How many records are to be deleted.
    #[must_use]
    pub fn obsolete(&self) -> usize {
        self.obsolete.len()
    }

    /// Takes the next records to be deleted.
    pub fn take_obsolete(&mut self, most: usize) -> Vec<u64> {
        let count = most.min(self.obsolete.len());
        self.obsolete.drain(..count).collect()
    }

    /// Calls `mark` for each stored log of which more is forgotten than was marked: with its pattern, or `None` for what
    /// is kept on request, and the greatest publication forgotten.
    pub fn take_marks(&mut self, mut mark: impl FnMut(Option<&Pattern>, u64)) {
        let ruled = self
            .ruled
            .iter_mut()
            .map(|(pattern, log)| (Some(&*pattern), log));
        for (pattern, log) in std::iter::once((None, &mut self.traced)).chain(ruled) {
            if log.keep().durable && std::mem::take(&mut log.unmarked) {
                mark(pattern, log.forgotten);
            }
        }
    }

    /// Takes in what a store holds, by publication, and how much was forgotten of the log with this pattern. Answers how
    /// many events are beyond the bounds, which may have become narrower.
    pub fn restore(&mut self, heads: Vec<Head>, marks: &[(Option<Pattern>, u64)]) -> u64 {
        for (name, id) in marks {
            self.restore_mark(name.as_ref(), *id);
        }
        // Events of one topic share its text again.
        let mut topics = std::collections::HashSet::new();
        for head in heads {
            self.restore_head(head, &mut topics);
        }
        let (mut forgotten, obsolete) = (0, &mut self.obsolete);
        let ruled = self.ruled.iter_mut().map(|(_, log)| log);
        for log in std::iter::once(&mut self.traced).chain(ruled) {
            forgotten += log.trim(obsolete);
        }
        forgotten
    }

    fn restore_mark(&mut self, name: Option<&Pattern>, id: u64) {
        let is_known = |known: Option<&Pattern>| known == name;
        let mut found = false;
        let ruled = self
            .ruled
            .iter_mut()
            .map(|(pattern, log)| (Some(&*pattern), log));
        for (pattern, log) in std::iter::once((None, &mut self.traced)).chain(ruled) {
            if is_known(pattern) {
                log.forgotten = log.forgotten.max(id);
                found = true;
            }
        }
        // A rule that is gone: its topics may be anywhere now.
        if !found {
            for log in self.logs_mut() {
                log.forgotten = log.forgotten.max(id);
                log.unmarked = true;
            }
        }
    }

    fn restore_head(&mut self, head: Head, topics: &mut std::collections::HashSet<Topic>) {
        let rule = self.rule_of(&head.topic);
        let id = head.publication;
        let log = match rule.and_then(|at| self.ruled.get_mut(at)) {
            Some((_, log)) => log,
            None => &mut self.traced,
        };
        if !log.keep().durable || (rule.is_none() && !head.traced) {
            log.forgotten = log.forgotten.max(id);
            log.unmarked = true;
            self.obsolete.push_back(id);
            return;
        }
        let topic = topics.get(&head.topic).cloned().unwrap_or_else(|| {
            topics.insert(head.topic.clone());
            head.topic
        });
        log.push(Entry {
            publication: crate::model::PublicationId(id),
            topic,
            cost: head.cost,
            not_to_publisher: false,
            traced: head.traced,
            stands: false,
            commit: 0,
            event: None,
        });
    }

    /// Forgets at most `most` events of each log that are too old. Answers how many those were, and whether there are
    /// more.
    pub fn trim_old(&mut self, first: FirstSince<'_>, most: usize) -> (u64, bool) {
        let (mut forgotten, mut more) = (0, false);
        let obsolete = &mut self.obsolete;
        let ruled = self.ruled.iter_mut().map(|(_, log)| log);
        for log in std::iter::once(&mut self.traced).chain(ruled) {
            if let Some(age) = log.keep().age {
                let (gone, has_more) = log.trim_before(first(age), most, obsolete);
                forgotten += gone;
                more |= has_more;
            }
        }
        (forgotten, more)
    }

    /// The events of bounded age that will be too old next, one of each log, each with that age.
    pub fn aging(&self) -> impl Iterator<Item = (&Entry, Duration)> {
        self.logs()
            .filter_map(|log| Some((log.entries.front()?, log.keep().age?)))
    }

    /// The events in the range that `pattern` may match.
    #[must_use]
    pub fn walk(
        &self,
        ids: &RangeInclusive<u64>,
        pattern: &Pattern,
        first: FirstSince<'_>,
    ) -> Walk<'_> {
        let logs = self.reached(pattern).map(|log| {
            let first = log.keep().age.map_or(0, first);
            (log, first.max(*ids.start())..=*ids.end())
        });
        Walk::new(logs)
    }

    /// The greatest publication that `pattern` may have matched and that is forgotten, or too old; 0 if none is. To who
    /// asks for what came `after` one of an earlier life, everything of that is forgotten that was not stored.
    #[must_use]
    pub fn forgotten(&self, pattern: &Pattern, after: u64, first: FirstSince<'_>) -> u64 {
        let of = |log: &Log| {
            let old = log.keep().age.and_then(|age| {
                let places = log.places(&(0..=first(age).saturating_sub(1)));
                log.entries.get(places.end.checked_sub(1)?)
            });
            let forgotten = old.map_or(log.forgotten, |entry| entry.publication.0);
            match log.keep().durable || after == 0 {
                true => forgotten,
                false => forgotten.max(self.born),
            }
        };
        self.reached(pattern).map(of).max().unwrap_or(0)
    }

    /// The logs that hold what `pattern` may match.
    fn reached(&self, pattern: &Pattern) -> impl Iterator<Item = &Log> {
        let only = match pattern {
            Pattern::Exact(topic) => Some(self.rule_of(topic)),
            Pattern::Levels(_) | Pattern::Prefix(_) => None,
        };
        let start = pattern.literal_prefix();
        let traced = Some(&self.traced).filter(|_| only.is_none_or(|rule| rule.is_none()));
        let ruled = self
            .ruled
            .iter()
            .enumerate()
            .filter(move |(at, (rule, _))| match only {
                Some(only) => only == Some(*at),
                None => {
                    let other = rule.literal_prefix();
                    start.starts_with(&other) || other.starts_with(&start)
                }
            });
        traced.into_iter().chain(ruled.map(|(_, (_, log))| log))
    }

    /// How many events are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.logs().map(|log| log.entries.len()).sum()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs().all(|log| log.entries.is_empty())
    }

    fn logs(&self) -> impl Iterator<Item = &Log> {
        let ruled = self.ruled.iter().map(|(_, log)| log);
        std::iter::once(&self.traced).chain(ruled)
    }

    fn logs_mut(&mut self) -> impl Iterator<Item = &mut Log> {
        let ruled = self.ruled.iter_mut().map(|(_, log)| log);
        std::iter::once(&mut self.traced).chain(ruled)
    }
}

#[cfg(test)]
mod tests;
