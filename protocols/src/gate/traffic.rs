//! What all connections did together, as plain numbers; showing them is the binary's work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shortest time between two log lines about bad peers.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Shared counters of the driver.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections handed to a gate so far.
    pub connections: AtomicU64,
    /// Of these, open now.
    pub open: AtomicU64,
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes written.
    pub bytes_out: AtomicU64,
    /// Connections closed because the peer broke the rules of its protocol.
    pub closed_by_violation: AtomicU64,
    /// Times a publisher was paused because a receiver was filling up.
    pub stalls: AtomicU64,
    last_log: parking_lot::Mutex<Option<Instant>>,
    unlogged: AtomicU64,
}

impl Traffic {
    /// Counts a closed peer; answers how many lines were left out since the last one if a line
    /// should be logged now.
    pub fn violation(&self, now: Instant) -> Option<u64> {
        self.closed_by_violation.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_log.lock();
        if last.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }

    pub(super) fn add(counter: &AtomicU64, value: usize) {
        counter.fetch_add(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_peers_is_one_line_a_second() {
        let traffic = Traffic::default();
        let start = Instant::now();
        assert_eq!(traffic.violation(start), Some(0));
        for ms in [1, 500, 999] {
            assert_eq!(traffic.violation(start + Duration::from_millis(ms)), None);
        }
        assert_eq!(traffic.violation(start + Duration::from_secs(1)), Some(3));
        assert_eq!(traffic.closed_by_violation.load(Ordering::Relaxed), 5);
    }
}
