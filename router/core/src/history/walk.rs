//! Several logs read as one.

use super::log::{Entry, Log};
use std::ops::{Range, RangeInclusive};

/// Remembered events of some logs, oldest first, or newest first from the back.
#[derive(Debug)]
pub struct Walk<'a> {
    /// Each log with what is left of it.
    runs: Vec<(&'a Log, Range<usize>)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(logs: impl Iterator<Item = (&'a Log, RangeInclusive<u64>)>) -> Walk<'a> {
        let runs = logs.map(|(log, ids)| (log, log.places(&ids)));
        Walk {
            runs: runs.filter(|(_, places)| !places.is_empty()).collect(),
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let heads = self
            .runs
            .iter()
            .enumerate()
            .filter_map(|(at, (log, places))| {
                let head = Some(places.start).filter(|start| *start < places.end)?;
                Some((log.entries.get(head)?, at))
            });
        let (entry, at) = heads.min_by_key(|(entry, _)| entry.publication)?;
        if let Some((_, places)) = self.runs.get_mut(at) {
            places.start += 1;
        }
        Some(entry)
    }
}

impl<'a> DoubleEndedIterator for Walk<'a> {
    fn next_back(&mut self) -> Option<&'a Entry> {
        let tails = self
            .runs
            .iter()
            .enumerate()
            .filter_map(|(at, (log, places))| {
                let tail = places
                    .end
                    .checked_sub(1)
                    .filter(|tail| *tail >= places.start)?;
                Some((log.entries.get(tail)?, at))
            });
        let (entry, at) = tails.max_by_key(|(entry, _)| entry.publication)?;
        if let Some((_, places)) = self.runs.get_mut(at) {
            places.end -= 1;
        }
        Some(entry)
    }
}
