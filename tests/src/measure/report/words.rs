//! Numbers as readers want them.

/// A whole number with commas.
#[must_use]
pub fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate at three digits, with commas.
#[must_use]
pub fn rate(number: f64) -> String {
    if number < 100.0 {
        return digits(number);
    }
    let step = 10f64.powf(number.log10().floor() - 2.0);
    whole((number / step).round() * step)
}

/// A small number at three digits.
#[must_use]
pub fn digits(number: f64) -> String {
    let places = match number.abs() {
        100.0.. => return whole(number),
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{number:.places$}")
}

/// Bytes in MiB, or in KiB if they are few.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    let kib = bytes / 1024.0;
    match kib {
        1024.0.. => format!("{} MiB", digits(kib / 1024.0)),
        _ => format!("{} KiB", digits(kib)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_no_more_digits_than_they_deserve() {
        assert_eq!(whole(1_234_567.0), "1,234,567");
        assert_eq!(whole(123.4), "123");
        assert_eq!(rate(1_234_567.0), "1,230,000");
        assert_eq!(rate(54_321.0), "54,300");
        assert_eq!(rate(321.4), "321");
        assert_eq!(rate(3.2149), "3.21");
        assert_eq!(digits(0.123_456), "0.123");
        assert_eq!(digits(5.386), "5.39");
        assert_eq!(digits(4_780.3), "4,780");
        assert_eq!(bytes(10_240.0), "10.0 KiB");
        assert_eq!(bytes(64_592_281.0), "61.6 MiB");
    }
}
