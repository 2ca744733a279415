//! Numbers of CBOR: integers of 64 bits stay exact, whatever is greater becomes a float.

/// A number as the other serializations know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Unsigned(u64),
    /// Negative.
    Signed(i64),
    Float(f64),
}

/// Major type 1: the number -1 - `argument`.
pub(super) fn negative(argument: u64) -> Number {
    integer(-1 - i128::from(argument))
}

/// The nearest double where 64 bits do not suffice, as for JSON's long integers.
fn integer(value: i128) -> Number {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(value), _) => Number::Unsigned(value),
        (_, Ok(value)) => Number::Signed(value),
        _ => Number::Float(value as f64),
    }
}

/// A big-endian integer of any length (RFC 8949, section 3.4.3); `is_negative`: -1 - that.
pub(super) fn bignum(bytes: &[u8], is_negative: bool) -> Number {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    if let Some((head, rest)) = digits.split_first_chunk::<8>()
        && rest.len() >= 8
    {
        let magnitude = rounded(*head, rest);
        return Number::Float(if is_negative { -magnitude } else { magnitude });
    }
    // At most 15 bytes.
    let value = digits.iter().fold(0, |n, byte| n << 8 | i128::from(*byte));
    integer(if is_negative { -1 - value } else { value })
}

/// The nearest double: beyond the first 57 bits it matters only whether anything is there. At a
/// distance of one from a tie between doubles a negative bignum may take the other one.
fn rounded(head: [u8; 8], rest: &[u8]) -> f64 {
    let inexact = rest.iter().any(|byte| *byte != 0);
    let head = u64::from_be_bytes(head) | u64::from(inexact);
    // 2^1024 is infinite already.
    let bits = i32::try_from(rest.len().min(128) * 8).unwrap_or(i32::MAX);
    head as f64 * 2_f64.powi(bits)
}

/// A half-precision float (RFC 8949, appendix D).
pub(super) fn half(bits: u64) -> Number {
    let (exponent, mantissa) = ((bits >> 10 & 0x1f) as i32, (bits & 0x3ff) as f64);
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + mantissa) * 2_f64.powi(exponent - 25),
    };
    Number::Float(if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    })
}

/// A single-precision float. The argument of a head of four bytes has 32 bits.
pub(super) fn single(bits: u64) -> Number {
    Number::Float(f64::from(f32::from_bits(bits as u32)))
}

/// A double-precision float.
pub(super) fn double(bits: u64) -> Number {
    Number::Float(f64::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_64_bits_are_exact_and_greater_ones_the_nearest_double() {
        assert_eq!(negative(0), Number::Signed(-1));
        assert_eq!(negative(i64::MAX as u64), Number::Signed(i64::MIN));
        assert_eq!(
            negative(u64::MAX),
            Number::Float(-18_446_744_073_709_551_616.0)
        );
        assert_eq!(bignum(&[], false), Number::Unsigned(0));
        assert_eq!(bignum(&[], true), Number::Signed(-1));
        assert_eq!(bignum(&[0, 0, 5], false), Number::Unsigned(5));
        assert_eq!(bignum(&[0xff; 8], false), Number::Unsigned(u64::MAX));
        assert_eq!(
            bignum(&[0x7f, 255, 255, 255, 255, 255, 255, 255], true),
            Number::Signed(i64::MIN)
        );
        let power = [&[1][..], &[0; 8]].concat();
        assert_eq!(
            bignum(&power, false),
            Number::Float(18_446_744_073_709_551_616.0)
        );
    }

    #[test]
    fn long_bignums_round_as_decimal_numbers_do() {
        for digits in [16_usize, 17, 40, 120, 128, 129, 4000] {
            for last in [0_u8, 1, 0x80, 0xff] {
                let mut bytes = vec![0x80; digits];
                bytes[6] = 0;
                bytes[7..].fill(0);
                bytes[digits - 1] = last;
                let hex = bytes.iter().fold(vec![0], |n, byte| times_256(&n, *byte));
                let wanted: f64 = hex
                    .iter()
                    .map(|d| char::from(b'0' + d))
                    .collect::<String>()
                    .parse()
                    .unwrap();
                assert_eq!(
                    bignum(&bytes, false),
                    Number::Float(wanted),
                    "{digits} {last}"
                );
                assert_eq!(
                    bignum(&bytes, true),
                    Number::Float(-wanted),
                    "{digits} {last}"
                );
            }
        }
    }

    /// Decimal digits times 256 plus `add`, by hand.
    fn times_256(digits: &[u8], add: u8) -> Vec<u8> {
        let mut carry = u32::from(add);
        let mut out: Vec<u8> = digits
            .iter()
            .rev()
            .map(|digit| {
                let value = u32::from(*digit) * 256 + carry;
                carry = value / 10;
                (value % 10) as u8
            })
            .collect();
        while carry > 0 {
            out.push((carry % 10) as u8);
            carry /= 10;
        }
        out.reverse();
        out
    }
}
