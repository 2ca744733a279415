//! A seeded, mutating fuzz loop over the WAMP decoders. It starts from the vectors, breaks them,
//! and checks that what is still accepted keeps the laws of the codec and of the URI spelling.
//!
//! `FUZZ_SECONDS=600 cargo test -p protocols --test fuzz_wamp -- --nocapture` runs longer;
//! `FUZZ_SEED` (default 1) makes another run.
#![cfg(feature = "wamp")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use bytes::Bytes;
use protocols::wamp::codec::{Limits, decode, encode};
use protocols::wamp::message::Message;
use protocols::wamp::uris::{core_to_uri, fox_parts, is_concrete, prefix_to_core, uri_to_core};
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::encoding::transcode::transcode;
use std::time::{Duration, Instant};

const DEFAULT_EXECUTIONS: u64 = 20_000;
const MAX_FRAME: usize = 4096;

/// Xorshift: small, seeded, good enough to choose mutations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Bytes that mean something in either serialization.
const JSON_TOKENS: [&str; 24] = [
    "[",
    "]",
    "{",
    "}",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "1.0",
    "1e400",
    "\\u0000",
    "\\ud800",
    "\"\\u0000AQID\"",
    "{}",
    "[]",
    "9007199254740993",
    "%2E",
    "%25",
    "*",
    "#",
    "\u{a0}",
];
const PACKED_TOKENS: [&[u8]; 20] = [
    &[0xc0],
    &[0xc1],
    &[0xd4, 0, 0],
    &[0xc7, 1, 0, 0],
    &[0x90],
    &[0x80],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xdf, 0, 0, 0, 1],
    &[0xdc, 0, 1],
    &[0xc4, 1, 0xff],
    &[0xa1, 0xff],
    &[0xd9, 1],
    &[0xcb, 0x7f, 0xf0],
    &[0xcb, 0x40, 0, 0, 0, 0, 0, 0, 0],
    &[0xcf, 0xff],
    &[0xff],
    &[0xdb, 0, 0, 0, 0],
    &[0xc3],
    &[0x81, 0x90],
    &[0xd5, 5, 1, 2],
];

const CBOR_TOKENS: [&[u8]; 24] = [
    &[0xf6],
    &[0xf7],
    &[0xe0],
    &[0xf8, 0xff],
    &[0xf8, 0x14],
    &[0xff],
    &[0x80],
    &[0xa0],
    &[0x9f],
    &[0xbf],
    &[0x9f, 0xff],
    &[0xbf, 0xff],
    &[0x7f, 0x61, b'a', 0xff],
    &[0x5f, 0x41, 0xff, 0xff],
    &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xc2, 0x41, 5],
    &[0xc3, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0xd9, 0xd9, 0xf7],
    &[0xf9, 0x7c, 0],
    &[0xf9, 0x47, 0],
    &[0xfb, 0x40, 0, 0, 0, 0, 0, 0, 0],
    &[0x3b, 0xff],
    &[0x61, 0xff],
    &[0x1c],
];

fn mutate(random: &mut Random, encoding: Encoding, corpus: &[Bytes]) -> Vec<u8> {
    let mut frame = corpus[random.below(corpus.len())].to_vec();
    // Mostly one edit, so that many frames stay acceptable.
    for _ in 0..=random.below(8).saturating_sub(4) {
        let at = random.below(frame.len() + 1);
        match random.below(10) {
            0 if at < frame.len() => frame[at] ^= 1 << random.below(8),
            1 if at < frame.len() => frame[at] = random.next().to_be_bytes()[0],
            2 if at < frame.len() => drop(frame.remove(at)),
            3 => frame.truncate(at),
            4 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                frame.truncate(at);
                frame.extend_from_slice(&other[from..]);
            }
            5 => {
                let end = at + random.below(frame.len() - at + 1);
                let piece = frame[at..end].to_vec();
                drop(frame.splice(at..at, piece));
            }
            _ => {
                let token = match encoding {
                    Json => random.pick(&JSON_TOKENS).as_bytes(),
                    MsgPack => random.pick(&PACKED_TOKENS),
                    Cbor => random.pick(&CBOR_TOKENS),
                };
                drop(frame.splice(at..at, token.iter().copied()));
            }
        }
        frame.truncate(MAX_FRAME);
    }
    frame
}

/// What must hold whatever the frame; tells whether it was accepted.
fn execute(encoding: Encoding, frame: Vec<u8>) -> bool {
    let frame = Bytes::from(frame);
    let Ok(message) = decode(encoding, frame.clone(), &Limits::default()) else {
        return false;
    };
    assert_eq!(encoding.check(&frame), Ok(()));

    let written = encode(encoding, &message);
    let again = decode(encoding, written.clone(), &Limits::default());
    let again = again.unwrap_or_else(|e| panic!("{e}: {written:?} from {frame:?}"));
    assert_eq!(again.code(), message.code());
    assert_eq!(encode(encoding, &again), written, "{frame:?}");

    let others = [Json, MsgPack, Cbor].into_iter().filter(|o| *o != encoding);
    for (payload, other) in others.filter_map(|other| Some((message.payload()?, other))) {
        if let Ok(converted) = payload.transcode(encoding, other) {
            for part in [&converted.args, &converted.kwargs].into_iter().flatten() {
                assert_eq!(other.check(part), Ok(()), "{frame:?}");
            }
            // The first way there may lose what only one side can say (an infinite number is null
            // in JSON); from then on nothing changes any more.
            let back = converted.transcode(other, encoding).unwrap();
            let there = back.transcode(encoding, other).unwrap();
            assert_eq!(there.transcode(other, encoding), Ok(back), "{frame:?}");
        }
    }
    if let Message::Publish(publish) = &message {
        check_spelling(&publish.topic);
    }
    if let Message::Subscribe(subscribe) = &message {
        check_spelling(&subscribe.topic);
        let _ = (
            fox_parts(&subscribe.topic),
            prefix_to_core(&subscribe.topic),
        );
    }
    true
}

fn check_spelling(uri: &str) {
    if let Ok(core) = uri_to_core(uri) {
        assert!(is_concrete(uri));
        assert_eq!(core_to_uri(&core), uri);
    }
    // Any topic text without `#` has a spelling, this one taken as a text too.
    let text = uri.replace('#', "");
    let spelled = core_to_uri(&text);
    assert!(is_concrete(&spelled));
    assert_eq!(uri_to_core(&spelled).unwrap(), text);
}

fn corpora() -> [(Encoding, Vec<Bytes>); 3] {
    let files = [
        include_str!("vectors/wamp/valid.txt"),
        include_str!("vectors/wamp/invalid.txt"),
    ];
    let mut json = Vec::new();
    for line in files
        .iter()
        .flat_map(|file| file.lines())
        .filter(|line| !line.starts_with('#'))
    {
        let start = line.find(['[', '{']).unwrap_or(line.len());
        let frame = line[start..].split(" => ").next().unwrap_or_default();
        json.push(Bytes::copy_from_slice(frame.as_bytes()));
    }
    [Json, MsgPack, Cbor].map(|encoding| {
        let frames = json
            .iter()
            .filter_map(|frame| transcode(frame, Json, encoding).ok());
        let frames: Vec<Bytes> = frames.collect();
        assert!(frames.len() > 100);
        (encoding, frames)
    })
}

#[test]
fn broken_frames_break_no_law() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let until = number("FUZZ_SECONDS").map(|secs| Instant::now() + Duration::from_secs(secs));
    let corpora = corpora();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1));
    let (mut executions, mut accepted) = (0, 0_u64);
    loop {
        let done = match until {
            Some(until) => executions % 1023 == 0 && Instant::now() >= until,
            None => executions >= DEFAULT_EXECUTIONS,
        };
        if done {
            break;
        }
        for (encoding, corpus) in &corpora {
            let frame = mutate(&mut random, *encoding, corpus);
            accepted += u64::from(execute(*encoding, frame));
        }
        executions += corpora.len() as u64;
    }
    println!("{executions} executions, {accepted} accepted, seed {seed}");
    // A loop that only meets refusals would test nothing.
    assert!(
        executions == 0 || accepted * 100 > executions,
        "{accepted} of {executions}"
    );
}
