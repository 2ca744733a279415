//! The time of day as text, ISO 8601 in UTC with milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, such as `2026-11-22T02:21:47.478Z`.
pub fn now_iso() -> String {
    // A clock before 1970 is shown as 1970.
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    iso(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// A time in milliseconds since 1970.
fn iso(unix_ms: u64) -> String {
    let (secs, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01, Gregorian calendar.
///
/// Counts from 0000-03-01, since with the leap day at the end of a year all lengths are regular:
/// 400 years have 146,097 days, and five months from March on have 153.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(unix_ms), text);
        }
    }

    #[test]
    fn days_follow_one_another_for_a_thousand_years() {
        let mut previous = date_of(0);
        for days in 1..366_000 {
            let next = date_of(days);
            let (year, month, day) = previous;
            let follows = next == (year, month, day + 1)
                || next == (year, month + 1, 1) && day >= 28
                || next == (year + 1, 1, 1) && (month, day) == (12, 31);
            assert!(follows && next.2 <= 31, "{previous:?} {next:?}");
            previous = next;
        }
    }

    #[test]
    fn no_time_is_too_late() {
        assert!(iso(u64::MAX).ends_with('Z'));
    }
}
