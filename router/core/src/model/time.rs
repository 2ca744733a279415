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

const DAY_MS: u64 = 86_400_000;
/// The first moment of the year 10000, which four digits cannot write.
const END_MS: u64 = 253_402_300_800_000;

/// Wall-clock milliseconds as ISO 8601 writes them, in UTC: `2026-11-28T11:03:07.042Z`. Moments
/// after the year 9999 are shown as its last one.
#[must_use]
pub fn iso8601(unix_ms: u64) -> String {
    let unix_ms = unix_ms.min(END_MS - 1);
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    // Years begin in March here, so that the leap day is the last one (H. Hinnant's algorithm).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (secs, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Reads a moment as RFC 3339 writes it, with any offset: nanoseconds since the Unix epoch,
/// negative before it. `None` if it is none.
#[must_use]
pub fn read_rfc3339(text: &str) -> Option<i128> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let is = |at: usize, letters: &str| text.get(at..=at).is_some_and(|c| letters.contains(c));
    let separated = is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // A leap second is the first moment of the next minute.
    let in_range = day >= 1 && day <= days_in(year, month)? && hour < 24 && minute < 60;
    if !separated || !in_range || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |fraction| {
        fraction.bytes().take_while(u8::is_ascii_digit).count()
    });
    let nanos = match digits {
        0 => 0,
        _ => {
            // Digits beyond nanoseconds change no comparison with milliseconds that matters.
            let kept = rest.get(1..=digits.min(9))?;
            format!("{kept:0<9}").parse::<i128>().ok()?
        }
    };
    let offset = rest.get(if digits > 0 { digits + 1 } else { 0 }..)?;
    let offset_minutes = match offset {
        "Z" | "z" => 0,
        _ => {
            let at = text.len().checked_sub(6).filter(|_| offset.len() == 6)?;
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            let is_offset = is(at, "+-") && is(at + 3, ":") && hours < 24 && minutes < 60;
            let sign = if is(at, "-") { -1 } else { 1 };
            is_offset.then_some(sign * (hours * 60 + minutes))?
        }
    };
    let days = days_from_epoch(year, month, day);
    let secs = ((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second;
    Some(i128::from(secs) * 1_000_000_000 + nanos)
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc_with_milliseconds() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_078_099_200_000, "2004-03-01T00:00:00.000Z"),
            (1_800_000_000_042, "2027-01-15T08:00:00.042Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
            (END_MS - 1, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601(unix_ms), text);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        // Steps that meet every month, leap days and ends of centuries.
        for unix_ms in (0..END_MS).step_by(19 * 86_400_000 + 1) {
            let read = read_rfc3339(&iso8601(unix_ms));
            assert_eq!(read, Some(i128::from(unix_ms) * 1_000_000), "{unix_ms}");
        }
    }

    #[test]
    fn moments_are_read_with_any_offset_and_fraction() {
        let at = |ms: i128| Some(ms * 1_000_000);
        for (text, moment) in [
            ("2027-01-15T08:00:00Z", at(1_800_000_000_000)),
            ("2027-01-15t08:00:00z", at(1_800_000_000_000)),
            ("2027-01-15 09:30:00+01:30", at(1_800_000_000_000)),
            ("2027-01-14T22:00:00.5-10:00", at(1_800_000_000_500)),
            (
                "2027-01-15T08:00:00.0000005Z",
                Some(1_800_000_000_000_000_500),
            ),
            ("1969-12-31T23:59:59Z", at(-1_000)),
            ("2016-12-31T23:59:60Z", at(1_483_228_800_000)),
            ("0000-01-01T00:00:00Z", at(-62_167_219_200_000)),
        ] {
            assert_eq!(read_rfc3339(text), moment, "{text}");
        }
        for text in [
            "",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-1-15T08:00:00Z",
            "2027-02-29T08:00:00Z",
            "2027-13-01T08:00:00Z",
            "2027-01-00T08:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:60:00Z",
            "2027-01-15T08:00:61Z",
            "2027-01-15T08:00:00.Z",
            "2027-01-15T08:00:00+1:00",
            "2027-01-15T08:00:00+24:00",
            "2027-01-15T08:00:00Zé",
            "+027-01-15T08:00:00Z",
            "2027-01-15T08:00:00ZZ",
            "é027-01-15T08:00:00Z",
        ] {
            assert_eq!(read_rfc3339(text), None, "{text}");
        }
    }
}
