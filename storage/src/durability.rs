//! When an acknowledgement may leave.

use std::time::{Duration, Instant};

/// What an acknowledged write has gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk.
    #[default]
    Always,
    /// It has reached the operating system, and is on the disk at most this much later.
    Interval(Duration),
    /// It has reached the operating system; nothing is forced to the disk for its sake.
    None,
}

/// When what was only handed to the operating system must be on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SyncTimer {
    due: Option<Instant>,
    /// Of the shortest promise that is open.
    interval: Duration,
}

impl SyncTimer {
    /// A batch of that durability was committed without a sync.
    pub fn relaxed(&mut self, now: Instant, durability: Durability) {
        let Durability::Interval(interval) = durability else {
            return;
        };
        let Some(due) = now.checked_add(interval) else {
            return;
        };
        if self.due.is_none_or(|earlier| due < earlier) {
            self.due = Some(due);
            self.interval = interval;
        }
    }

    /// Everything committed before is on the disk.
    pub fn synced(&mut self) {
        self.due = None;
    }

    /// The sync failed: again after another interval.
    pub fn failed(&mut self, now: Instant) {
        self.due = now.checked_add(self.interval.max(RETRY));
    }

    /// When to sync; `None` if nobody waits for it.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// The shortest pause between two attempts.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_earliest_promise_counts_and_a_sync_keeps_all() {
        let now = Instant::now();
        let mut timer = SyncTimer::default();
        timer.relaxed(now, Durability::None);
        assert_eq!(timer.due(), None, "nobody was promised anything");
        timer.relaxed(now, Durability::Interval(200 * MS));
        timer.relaxed(now + 10 * MS, Durability::Interval(1000 * MS));
        assert_eq!(timer.due(), Some(now + 200 * MS));
        timer.relaxed(now + 20 * MS, Durability::Interval(50 * MS));
        assert_eq!(timer.due(), Some(now + 70 * MS));
        timer.relaxed(now + 60 * MS, Durability::Interval(50 * MS));
        assert_eq!(
            timer.due(),
            Some(now + 70 * MS),
            "not put off by what comes later"
        );
        timer.synced();
        assert_eq!(timer.due(), None);
    }

    #[test]
    fn a_failed_sync_is_tried_again_but_not_at_once() {
        let now = Instant::now();
        let mut timer = SyncTimer::default();
        timer.relaxed(now, Durability::Interval(MS));
        timer.failed(now + MS);
        assert_eq!(timer.due(), Some(now + MS + RETRY));
    }
}
