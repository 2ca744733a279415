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

/// A wall-clock time in UTC as ISO 8601 writes it, to the millisecond.
#[must_use]
pub fn iso8601(unix_ms: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    // Counted from 1 March of the year 0, so that the leap day is the last of a year; an era of
    // 400 years has 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let ms = ms % 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iso_8601_in_utc() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(unix_ms), text);
        }
    }
}
