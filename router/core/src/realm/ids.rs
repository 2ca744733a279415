//! Publication ids: milliseconds in the high bits, a counter in the low ones. They grow strictly,
//! whatever the wall clock does, and across restarts, because no id is given above a ceiling that is
//! not on disk yet (unless ids are used up faster than four million a second for minutes).

use crate::model::{MAX_ID, PublicationId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the counter within a millisecond.
const COUNTER_BITS: u32 = 12;
/// Milliseconds count from 2020-01-01T00:00:00Z, which leaves room for 69 years below 2^53.
const EPOCH_UNIX_MS: u64 = 1_577_836_800_000;
/// How far ahead of the clock a lease reaches, in milliseconds.
const LEASE_MS: u64 = 120_000;

/// Gives publication ids to all realms of one data directory.
#[derive(Debug)]
pub struct IdClock {
    last: AtomicU64,
    ceiling: AtomicU64,
}

impl IdClock {
    /// Continues after `ceiling`, the lease found in the store (0 for none).
    #[must_use]
    pub fn new(ceiling: u64) -> IdClock {
        IdClock {
            last: AtomicU64::new(ceiling),
            ceiling: AtomicU64::new(ceiling),
        }
    }

    /// No id from now on is one that a process before may have given at a time before `unix_ms`.
    pub fn start(&self, unix_ms: u64) {
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        let begin = position(unix_ms).min(ceiling);
        self.last.fetch_max(begin, Ordering::Relaxed);
    }

    /// The next id at `unix_ms`.
    pub fn next(&self, unix_ms: u64) -> PublicationId {
        let by_clock = position(unix_ms);
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            // Beyond the lease the clock may not pull ids forward; they still grow one by one.
            let wanted = if by_clock <= ceiling {
                by_clock.max(last + 1)
            } else {
                last + 1
            };
            let id = wanted.min(MAX_ID);
            match self
                .last
                .compare_exchange_weak(last, id, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return PublicationId(id),
                Err(other) => last = other,
            }
        }
    }

    /// About when an id was given, in wall-clock milliseconds; it may seem up to two minutes later
    /// than it was.
    #[must_use]
    pub fn unix_ms_of(id: PublicationId) -> u64 {
        (id.0 >> COUNTER_BITS) + EPOCH_UNIX_MS
    }

    /// The first id that may be given at `unix_ms`.
    #[must_use]
    pub fn first_at(unix_ms: u64) -> PublicationId {
        PublicationId(position(unix_ms))
    }

    /// The last id given.
    #[must_use]
    pub fn last(&self) -> PublicationId {
        PublicationId(self.last.load(Ordering::Relaxed))
    }

    /// The ceiling to store next, when the current one is less than half a lease away.
    #[must_use]
    pub fn lease_wanted(&self, unix_ms: u64) -> Option<u64> {
        let base = position(unix_ms).max(self.last.load(Ordering::Relaxed));
        let half = (LEASE_MS / 2) << COUNTER_BITS;
        (base + half > self.ceiling.load(Ordering::Relaxed))
            .then(|| (base + (LEASE_MS << COUNTER_BITS)).min(MAX_ID))
    }

    /// `ceiling` is on disk.
    pub fn lease_granted(&self, ceiling: u64) {
        self.ceiling.fetch_max(ceiling, Ordering::Relaxed);
    }
}

fn position(unix_ms: u64) -> u64 {
    unix_ms
        .saturating_sub(EPOCH_UNIX_MS)
        .min(MAX_ID >> COUNTER_BITS)
        << COUNTER_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn leased(at: u64) -> IdClock {
        let ids = IdClock::new(0);
        ids.lease_granted(ids.lease_wanted(at).unwrap());
        ids
    }

    #[test]
    fn ids_follow_the_clock_and_never_go_back() {
        let ids = leased(NOW);
        let a = ids.next(NOW);
        let b = ids.next(NOW);
        let earlier = ids.next(NOW - 50_000);
        let later = ids.next(NOW + 1000);
        assert!(a < b && b < earlier && earlier < later);
        assert!(later.0 >= position(NOW + 1000) && later.0 < MAX_ID);
    }

    #[test]
    fn a_restart_with_the_clock_set_back_goes_on_above_the_lease() {
        let ids = leased(NOW);
        let stored = ids.ceiling.load(Ordering::Relaxed);
        let last = ids.next(NOW + LEASE_MS / 2);
        let reborn = IdClock::new(stored);
        assert!(reborn.next(NOW - 86_400_000) > last);
    }

    #[test]
    fn a_clock_jump_beyond_the_lease_waits_for_the_next_lease() {
        let ids = leased(NOW);
        ids.next(NOW);
        let far = NOW + 100 * LEASE_MS;
        let capped = ids.next(far);
        assert!(capped.0 < ids.ceiling.load(Ordering::Relaxed));
        let lease = ids.lease_wanted(far).unwrap();
        ids.lease_granted(lease);
        assert!(ids.lease_wanted(far).is_none());
        assert!(ids.next(far).0 >= position(far));
    }
}
