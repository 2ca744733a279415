//! Deliveries that wait for the window, in the order of their numbers; some of them on disk alone.
//!
//! Of a delivery that was *spilled* only number, cost and expiry are here; its record is durable and holds the rest.
//! Nobody but its receiver may spill: what a share group may hand to another member stays in memory.

use crate::limits::LaneLimit;
use crate::model::EventDelivery;
use crate::outbox::Sure;
use std::collections::VecDeque;

/// The commit of a write that was lost: later than every commit.
pub(super) const LOST: u64 = u64::MAX;

/// A delivery that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// When it expires, in milliseconds since the epoch; [`u64::MAX`]: never.
    expires: u64,
    cost: u32,
    /// `None` if it is spilled.
    pub(super) body: Option<Box<Body>>,
}

/// What a spilled delivery has on disk only.
#[derive(Debug)]
pub(super) struct Body {
    /// The commit that stores it; `None` if none does.
    pub(super) commit: Option<u64>,
    pub(super) delivery: EventDelivery,
}

impl Entry {
    fn new(item: Sure) -> Entry {
        let event = &item.delivery.event;
        Entry {
            number: item.number,
            expires: event.expires_at_ms.unwrap_or(u64::MAX),
            cost: u32::try_from(event.cost()).unwrap_or(u32::MAX),
            body: Some(Box::new(Body {
                commit: item.commit,
                delivery: item.delivery,
            })),
        }
    }

    /// Whether its expiry has passed.
    pub(super) fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires <= unix_ms
    }

    fn may_spill(&self, saved: u64) -> bool {
        self.body.as_ref().is_some_and(|body| {
            body.delivery.handover.is_nobody() && body.commit.is_some_and(|commit| commit <= saved)
        })
    }
}

/// Entries that a sweep may look at for each delivery that needs room.
const SWEEP_SHARE: usize = 1_024;

/// A lane of deliveries.
#[derive(Debug)]
pub(super) struct Line {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries that are spilled.
    spilled: usize,
    /// Entries at the front known to be in memory.
    ahead: usize,
    /// Nothing here expires before; exact after a sweep, [`u64::MAX`] if nothing does.
    expires: u64,
    /// How many entries may be looked at: see [`Line::sweep`].
    sweepable: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            entries: VecDeque::new(),
            bytes: 0,
            spilled: 0,
            ahead: 0,
            expires: u64::MAX,
            sweepable: 0,
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Deliveries in memory.
    pub(super) fn resident(&self) -> usize {
        self.entries.len() - self.spilled
    }

    pub(super) fn is_over(&self, limit: LaneLimit) -> bool {
        limit.is_over(self.entries.len(), self.bytes)
    }

    pub(super) fn push(&mut self, item: Sure) {
        self.add(Entry::new(item));
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.cost as usize;
        self.expires = self.expires.min(entry.expires);
        self.entries.push_back(entry);
    }

    /// Appends a delivery that is on disk alone.
    pub(super) fn push_spilled(&mut self, number: u64, cost: u32, expires: Option<u64>) {
        self.spilled += 1;
        self.add(Entry {
            number,
            expires: expires.unwrap_or(u64::MAX),
            cost,
            body: None,
        });
    }

    /// Room is needed: takes out what has expired; answers the numbers. Costs nothing while nothing can have, and else a
    /// look at every entry: a lane of up to [`SWEEP_SHARE`] entries is swept whenever that is of use, a longer one less
    /// often, so that no more than that many are looked at for each delivery that needs room.
    pub(super) fn sweep(&mut self, unix_ms: u64) -> Vec<u64> {
        if self.expires > unix_ms {
            return Vec::new();
        }
        self.sweepable = self.sweepable.saturating_add(SWEEP_SHARE);
        if self.sweepable < self.entries.len() {
            return Vec::new();
        }
        self.sweepable = 0;
        self.ahead = 0;
        self.expires = u64::MAX;
        let Line {
            entries,
            bytes,
            spilled,
            expires,
            ..
        } = self;
        let mut gone = Vec::new();
        entries.retain(|entry| {
            let stays = !entry.is_expired(unix_ms);
            if stays {
                *expires = entry.expires.min(*expires);
            } else {
                *bytes -= entry.cost as usize;
                *spilled -= usize::from(entry.body.is_none());
                gone.push(entry.number);
            }
            stays
        });
        gone
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.cost as usize;
        self.spilled -= usize::from(entry.body.is_none());
        self.ahead = self.ahead.saturating_sub(1);
        Some(entry)
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// The number at the front; higher than all if nothing waits.
    pub(super) fn number(&self) -> u64 {
        self.entries.front().map_or(u64::MAX, |entry| entry.number)
    }

    /// The number of the entry at `place`.
    pub(super) fn number_at(&self, place: usize) -> Option<u64> {
        self.entries.get(place).map(|entry| entry.number)
    }

    pub(super) fn last_number(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.number)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.number)
    }

    /// The deliveries in memory.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (u64, &EventDelivery)> {
        let bodies = self.entries.iter();
        bodies.filter_map(|entry| Some((entry.number, &entry.body.as_ref()?.delivery)))
    }

    pub(super) fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Body> {
        let entries = self.entries.iter_mut();
        entries.filter_map(|entry| entry.body.as_deref_mut())
    }

    /// The numbers of what is spilled.
    pub(super) fn spilled_numbers(&self) -> impl Iterator<Item = u64> {
        let spilled = self.entries.iter().filter(|entry| entry.body.is_none());
        spilled.map(|entry| entry.number)
    }

    /// Takes out the deliveries in memory that are not to be kept.
    pub(super) fn retain(
        &mut self,
        keep: impl Fn(&EventDelivery) -> bool,
        dropped: &mut Vec<Sure>,
    ) {
        self.ahead = 0;
        for mut entry in std::mem::take(&mut self.entries) {
            let goes = |body: &mut Box<Body>| !keep(&body.delivery);
            match entry.body.take_if(goes) {
                None => self.entries.push_back(entry),
                Some(body) => {
                    self.bytes -= entry.cost as usize;
                    dropped.push(Sure {
                        number: entry.number,
                        commit: body.commit,
                        delivery: body.delivery,
                    });
                }
            }
        }
    }

    /// Puts back deliveries that were taken out, each in its place.
    pub(super) fn put_back(&mut self, items: Vec<Sure>) {
        self.ahead = 0;
        items.into_iter().for_each(|item| self.push(item));
        let entries = self.entries.make_contiguous();
        entries.sort_by_key(|entry| entry.number);
    }

    /// Takes out everything; answers the numbers.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        let gone = std::mem::take(self);
        gone.numbers().collect()
    }

    /// Takes out one entry, wherever it is; answers whether it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some(entry) = self.place_of(number).and_then(|at| self.entries.remove(at)) else {
            return false;
        };
        self.bytes -= entry.cost as usize;
        self.spilled -= usize::from(entry.body.is_none());
        self.ahead = 0;
        true
    }

    /// Leaves on disk alone what lies behind the first `resident` entries and is durable with the commit `saved`.
    /// What is behind an entry that is spilled already was looked at before, unless `all` are to be.
    pub(super) fn spill(&mut self, resident: usize, saved: u64, all: bool) -> u64 {
        let before = self.spilled;
        for entry in self.entries.iter_mut().skip(resident).rev() {
            if entry.body.is_none() && !all {
                break;
            }
            if entry.may_spill(saved) {
                entry.body = None;
                self.spilled += 1;
            }
        }
        self.ahead = self.ahead.min(resident);
        (self.spilled - before) as u64
    }

    /// Whether the front is running out of deliveries in memory, of which there may be `resident`.
    pub(super) fn wants_load(&self, resident: usize) -> bool {
        self.spilled > 0 && self.ahead <= resident / 2
    }

    /// The numbers to be read back so that the first `resident` entries are in memory.
    pub(super) fn next_load(&mut self, resident: usize) -> Vec<u64> {
        let first = self.entries.iter().take(resident.max(1));
        self.ahead = first
            .clone()
            .take_while(|entry| entry.body.is_some())
            .count();
        first
            .filter(|entry| entry.body.is_none())
            .map(|entry| entry.number)
            .collect()
    }

    /// What was read back of a spilled delivery; ignored if it is gone.
    pub(super) fn fill(&mut self, number: u64, delivery: EventDelivery) {
        let Some(entry) = self
            .place_of(number)
            .and_then(|at| self.entries.get_mut(at))
        else {
            return;
        };
        if entry.body.is_some() {
            return;
        }
        let commit = Some(0);
        let filled = Entry::new(Sure {
            number,
            commit,
            delivery,
        });
        self.bytes = self.bytes - entry.cost as usize + filled.cost as usize;
        self.expires = self.expires.min(filled.expires);
        self.spilled -= 1;
        *entry = filled;
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&number, |entry| entry.number)
            .ok()
    }
}
