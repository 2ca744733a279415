//! RawSocket frames: vectors, every cut, every length that a prefix can say, and a seeded fuzz loop.
//!
//! `FUZZ_SECONDS=600 cargo test -p protocols --test rawsocket -- --nocapture` runs longer.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocols::transport::rawsocket::{Frame, FrameError, Kind, decode, prefix};
use std::time::{Duration, Instant};

const MAX: usize = 1 << 24;

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = prefix(kind, payload.len()).unwrap().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn one(bytes: &[u8], max: usize) -> Result<Option<Frame>, FrameError> {
    decode(&mut BytesMut::from(bytes), max)
}

#[test]
fn prefixes_are_as_the_specification_draws_them() {
    for (kind, length, octets) in [
        (Kind::Message, 0, [0, 0, 0, 0]),
        (Kind::Message, 0x01_02_03, [0, 1, 2, 3]),
        (Kind::Ping, 5, [1, 0, 0, 5]),
        (Kind::Pong, MAX - 1, [2, 0xFF, 0xFF, 0xFF]),
        // The bit X says what 24 bits cannot.
        (Kind::Message, MAX, [0x08, 0, 0, 0]),
        (Kind::Pong, MAX, [0x0A, 0, 0, 0]),
    ] {
        assert_eq!(prefix(kind, length), Some(octets));
        // Nothing of the payload is there: no frame, and no complaint.
        let expected = match length {
            0 => Some(Frame {
                kind,
                payload: Bytes::new(),
            }),
            _ => None,
        };
        assert_eq!(one(&octets, MAX), Ok(expected));
    }
    assert_eq!(prefix(Kind::Message, MAX + 1), None);
}

#[test]
fn reserved_bits_and_types_are_refused_whatever_follows() {
    for first in 0..=255_u8 {
        let read = one(&[first, 0, 0, 0], MAX);
        match first {
            0..=2 | 8..=10 => assert!(read.is_ok(), "{first:#x}"),
            3..=7 | 11..=15 => {
                assert_eq!(read, Err(FrameError::ReservedType(first & 7)), "{first:#x}");
            }
            _ => assert_eq!(read, Err(FrameError::ReservedBits), "{first:#x}"),
        }
    }
    // X with a length is more than 16 Mi.
    for length in [[0, 0, 1], [0xFF, 0xFF, 0xFF]] {
        let [a, b, c] = length;
        assert_eq!(one(&[8, a, b, c], MAX), Err(FrameError::ReservedBits));
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_at_its_prefix() {
    let max = 512;
    assert_eq!(one(&[0, 0, 2, 0], max), Ok(None));
    for (octets, length) in [([0, 0, 2, 1], 513), ([8, 0, 0, 0], MAX)] {
        assert_eq!(one(&octets, max), Err(FrameError::TooLong { length, max }));
    }
}

#[test]
fn a_promised_length_allocates_nothing() {
    let mut buffer = BytesMut::from(&[8, 0, 0, 0, 1, 2, 3][..]);
    let before = buffer.capacity();
    assert_eq!(decode(&mut buffer, MAX), Ok(None));
    assert_eq!((buffer.len(), buffer.capacity()), (7, before));
}

#[test]
fn the_longest_frame_goes_there_and_back() {
    let payload = vec![7; MAX];
    let read = one(&frame(Kind::Message, &payload), MAX).unwrap().unwrap();
    assert!(read.payload == payload);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Message), Just(Kind::Ping), Just(Kind::Pong)]
}

/// Feeds the pieces one after the other and takes what is there after each.
fn read_all(pieces: &[&[u8]], max: usize) -> Result<Vec<Frame>, FrameError> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decode(&mut buffer, max)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_every_cut(
        frames in prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..40)), 1..6),
    ) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, payload)| frame(*kind, payload))
            .collect();
        let expected: Vec<Frame> = frames
            .into_iter()
            .map(|(kind, payload)| Frame { kind, payload: payload.into() })
            .collect();
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            prop_assert_eq!(read_all(&[a, b], MAX), Ok(expected.clone()));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(read_all(&single, MAX), Ok(expected));
    }
}

/// Whatever comes, in whatever pieces: no panic, the same frames as at once, and what is left
/// unread is less than one frame.
fn execute(bytes: &[u8], cuts: &[usize], max: usize) {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    pieces.push(rest);
    assert_eq!(read_all(&pieces, max), read_all(&[bytes], max));
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(frame)) = decode(&mut buffer, max) {
        assert!(frame.payload.len() <= max);
    }
    if decode(&mut buffer, max) == Ok(None) {
        assert!(buffer.len() < 4 + max);
    }
}

#[test]
fn any_bytes_in_any_pieces_give_the_same_frames() {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let deadline = seconds.map(|secs| Instant::now() + Duration::from_secs(secs));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let mut executions = 0;
    while deadline.map_or(executions < 20_000, |deadline| Instant::now() < deadline) {
        let mut bytes = Vec::new();
        for _ in 0..next(5) {
            // Mostly legal prefixes with a length near the truth.
            let length = next(40);
            let first = if next(8) == 0 { next(256) } else { next(3) };
            let said = if next(8) == 0 { next(1 << 24) } else { length };
            let [.., a, b, c] = said.to_be_bytes();
            bytes.extend([u8::try_from(first).unwrap(), a, b, c]);
            bytes.extend((0..length).map(|_| u8::try_from(next(256)).unwrap()));
        }
        let cuts: Vec<usize> = (0..next(6)).map(|_| next(30) as usize).collect();
        execute(&bytes, &cuts, [16, 64, MAX][next(3) as usize]);
        executions += 1;
    }
}
