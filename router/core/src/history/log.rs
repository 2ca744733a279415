//! One bounded log: what is known of each event in memory, and the newest bodies.

use super::Retention;
use crate::model::{Event, PublicationId, Topic};
use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// Later than every commit: to be written once the store works again.
pub(super) const UNWRITTEN: u64 = u64::MAX;

/// What is known of a remembered event without its body.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the order.
    pub publication: PublicationId,
    /// Where it was published.
    pub topic: Topic,
    /// What it counts for, in bytes.
    pub cost: u32,
    /// The session that published it gets no copy of it while it lives.
    pub not_to_publisher: bool,
    /// Its publisher asked for it to be kept.
    pub(super) traced: bool,
    /// It stays even if the store refuses it: nobody is told that it failed.
    pub(super) stands: bool,
    /// The commit that stores it; 0 where none does or it is done.
    pub(super) commit: u64,
    /// `None`: it is on disk alone.
    pub(super) event: Option<Arc<Event>>,
}

impl Entry {
    /// The event, unless it has to be read first.
    #[must_use]
    pub fn resident(&self) -> Option<&Arc<Event>> {
        self.event.as_ref()
    }
}

/// A bounded ordered log of events.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: VecDeque<Entry>,
    keep: Retention,
    /// Bytes of all entries.
    bytes: usize,
    /// How many entries at the front are on disk alone.
    spilled: usize,
    /// Bytes of those that are not.
    resident: usize,
    /// Beyond this, bodies that are on disk leave the memory.
    resident_max: usize,
    /// The greatest publication that was here and is forgotten.
    pub(super) forgotten: u64,
    /// ... and it is not stored yet.
    pub(super) unmarked: bool,
}

impl Log {
    pub(super) fn new(keep: Retention, resident_max: usize) -> Log {
        Log {
            entries: VecDeque::new(),
            keep,
            bytes: 0,
            spilled: 0,
            resident: 0,
            resident_max,
            forgotten: 0,
            unmarked: false,
        }
    }

    pub(super) fn keep(&self) -> &Retention {
        &self.keep
    }

    /// The greatest publication that ever was here.
    pub(super) fn last(&self) -> u64 {
        let newest = self.entries.back().map_or(0, |entry| entry.publication.0);
        newest.max(self.forgotten)
    }

    /// Whether what cannot be written now may still be taken into the memory.
    pub(super) fn has_room_in_memory(&self) -> bool {
        self.resident < self.resident_max
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let cost = entry.cost as usize;
        self.bytes += cost;
        match entry.event {
            Some(_) => self.resident += cost,
            None => self.spilled += 1,
        }
        self.entries.push_back(entry);
    }

    /// Forgets what is beyond the bounds; `obsolete` is told which of it has a record.
    pub(super) fn trim(&mut self, obsolete: &mut impl Extend<u64>) -> u64 {
        let mut forgotten = 0;
        while self.entries.len() > self.keep.events || self.bytes > self.keep.bytes {
            if !self.forget_oldest(obsolete) {
                break;
            }
            forgotten += 1;
        }
        forgotten
    }

    /// The same for at most `most` entries before publication `first`. Answers how many that were, and whether there are
    /// more.
    pub(super) fn trim_before(
        &mut self,
        first: u64,
        most: usize,
        obsolete: &mut impl Extend<u64>,
    ) -> (u64, bool) {
        let is_old = |log: &Log| {
            let oldest = log.entries.front();
            oldest.is_some_and(|entry| entry.publication.0 < first)
        };
        let mut forgotten = 0;
        for _ in 0..most {
            if !is_old(self) {
                return (forgotten, false);
            }
            self.forget_oldest(obsolete);
            forgotten += 1;
        }
        (forgotten, is_old(self))
    }

    fn forget_oldest(&mut self, obsolete: &mut impl Extend<u64>) -> bool {
        let Some(oldest) = self.entries.pop_front() else {
            return false;
        };
        self.bytes -= oldest.cost as usize;
        match oldest.event {
            Some(_) => self.resident -= oldest.cost as usize,
            None => self.spilled -= 1,
        }
        self.forgotten = self.forgotten.max(oldest.publication.0);
        self.unmarked = true;
        let has_record = self.keep.durable && oldest.commit != UNWRITTEN;
        obsolete.extend(has_record.then_some(oldest.publication.0));
        true
    }

    /// Lets go of the oldest bodies beyond the bound of the memory, as far as they are on disk:
    /// everything up to `committed` is.
    pub(super) fn spill(&mut self, committed: u64) {
        while self.keep.durable
            && self.resident > self.resident_max
            && let Some(entry) = self.entries.get_mut(self.spilled)
            && entry.commit <= committed
        {
            entry.event = None;
            self.resident -= entry.cost as usize;
            self.spilled += 1;
        }
    }

    /// Nothing after `committed` is on disk: takes back what was refused and answers how much that
    /// was; the rest is to be written again.
    pub(super) fn take_back(&mut self, committed: u64) -> usize {
        let done = |entry: &Entry| entry.commit <= committed;
        let start = self.entries.partition_point(done);
        let open = self.entries.split_off(start);
        let before = open.len();
        for mut entry in open {
            let cost = entry.cost as usize;
            if entry.stands {
                entry.commit = UNWRITTEN;
                self.entries.push_back(entry);
            } else {
                self.bytes -= cost;
                self.resident -= cost;
            }
        }
        before - (self.entries.len() - start)
    }

    /// The entries that still have to be written.
    pub(super) fn unwritten(&mut self) -> impl Iterator<Item = &mut Entry> {
        let done = |entry: &Entry| entry.commit < UNWRITTEN;
        let start = self.entries.partition_point(done);
        self.entries.range_mut(start..)
    }

    /// Where the publications of a range are.
    pub(super) fn places(&self, ids: &RangeInclusive<u64>) -> Range<usize> {
        let entries = &self.entries;
        let start = entries.partition_point(|entry| entry.publication.0 < *ids.start());
        let end = entries.partition_point(|entry| entry.publication.0 <= *ids.end());
        start..end.max(start)
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        !self.places(&(id..=id)).is_empty()
    }
}
