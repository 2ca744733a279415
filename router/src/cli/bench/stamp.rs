//! What every payload begins with: when it was to be sent, on which stream, and as which of it.
//!
//! A stamp is text, so that it travels through every protocol and serialization as it is: as MQTT
//! payload, as string argument of WAMP, in quotes where a string becomes JSON.

/// The marker, six digits of time, three of the stream and six of the sequence number.
pub(super) const STAMP_BYTES: usize = 16;
/// Streams that a stamp can tell apart.
pub(super) const STREAMS_MAX: usize = 1 << 18;

const MARKER: u8 = b'~';
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const TIME_DIGITS: usize = 6;
const STREAM_DIGITS: usize = 3;

/// byte -> what it is worth as a digit; 64: no digit
const WORTH: [u8; 256] = {
    let mut worth = [64; 256];
    let mut at = 0;
    while at < DIGITS.len() {
        worth[DIGITS[at] as usize] = at as u8;
        at += 1;
    }
    worth
};

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When the message was to be sent, in microseconds of the run; 36 bits.
    pub time: u64,
    /// Its stream; 18 bits.
    pub stream: u32,
    /// Its place in the stream; 36 bits.
    pub sequence: u64,
}

impl Stamp {
    /// The stamp as text.
    pub(super) fn write(self) -> [u8; STAMP_BYTES] {
        let mut text = [MARKER; STAMP_BYTES];
        let (_, digits) = text.split_at_mut(1);
        let (time, digits) = digits.split_at_mut(TIME_DIGITS);
        let (stream, sequence) = digits.split_at_mut(STREAM_DIGITS);
        put(time, self.time);
        put(stream, u64::from(self.stream));
        put(sequence, self.sequence);
        text
    }

    /// The stamp in a payload, whatever stands around it.
    pub(super) fn find(payload: &[u8]) -> Option<Stamp> {
        memchr::memchr_iter(MARKER, payload).find_map(|at| {
            // The length of a string may look like the marker; what follows then is none.
            let digits = payload.get(at + 1..at + STAMP_BYTES)?;
            let (time, digits) = digits.split_at(TIME_DIGITS);
            let (stream, sequence) = digits.split_at(STREAM_DIGITS);
            Some(Stamp {
                time: number(time)?,
                stream: u32::try_from(number(stream)?).ok()?,
                sequence: number(sequence)?,
            })
        })
    }
}

fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value & 63) as usize];
        value >>= 6;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let worth = WORTH[usize::from(*digit)];
        (worth < 64).then_some(value << 6 | u64::from(worth))
    })
}

/// What fills a payload of `size` bytes behind its stamp: text that needs no escapes.
pub(super) fn padding(size: usize) -> Vec<u8> {
    let length = size.saturating_sub(STAMP_BYTES);
    (b'a'..=b'z').cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_is_found_in_whatever_form_a_payload_takes() {
        let stamp = Stamp {
            time: 123_456_789,
            stream: 4711,
            sequence: (1 << 36) - 1,
        };
        let text = stamp.write();
        for (before, after) in [
            (&b""[..], &b""[..]),
            (b"", b"abcdef"),
            (b"[\"", b"abc\"]"),
            (b"\"", b"\""),
            // A string of 126 bytes, whose length is the marker, and one longer still.
            (b"\x91\xd9\x7e", b""),
            (b"\x91\xda\x01\x7e", b"~"),
        ] {
            let payload = [before, &text, after].concat();
            assert_eq!(Stamp::find(&payload), Some(stamp), "{before:?}");
        }
    }

    #[test]
    fn what_holds_no_stamp_is_none() {
        for payload in [
            &b""[..],
            b"~",
            b"~0123456789abc",
            b"~0123456789abcd!",
            b"hello",
        ] {
            assert_eq!(Stamp::find(payload), None);
        }
    }

    #[test]
    fn a_payload_has_the_size_that_was_asked_for() {
        assert_eq!(STAMP_BYTES + padding(256).len(), 256);
        assert_eq!(padding(STAMP_BYTES), b"");
    }

    proptest! {
        #[test]
        fn every_stamp_is_read_back(time in 0..1u64 << 36, stream in 0..1u32 << 18, sequence in 0..1u64 << 36) {
            let stamp = Stamp { time, stream, sequence };
            prop_assert_eq!(Stamp::find(&stamp.write()), Some(stamp));
        }
    }
}
