//! Time as an argument: nobody below the driver asks a clock.

use std::time::{Duration, Instant};

/// One reading of both clocks, taken once per batch by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time, for every deadline and interval.
    pub instant: Instant,
    /// Wall-clock milliseconds since the Unix epoch, for publication ids and expiry that must
    /// survive a restart. It may jump; nothing that is ordered depends on it alone.
    pub unix_ms: u64,
}

impl Now {
    /// This moment `by` later on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Now {
        Now {
            instant: self.instant.checked_add(by).unwrap_or(self.instant),
            unix_ms: self.unix_ms_after(by),
        }
    }

    /// The wall clock `by` later; as far as it reaches for durations that mean "for ever".
    #[must_use]
    pub fn unix_ms_after(self, by: Duration) -> u64 {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.unix_ms.saturating_add(by)
    }
}
