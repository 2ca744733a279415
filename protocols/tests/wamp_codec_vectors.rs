//! Single messages, written down from the specification: see the files in `vectors/wamp`.
#![cfg(feature = "wamp")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use bytes::Bytes;
use protocols::wamp::codec::{Limits, decode, encode, name_of};
use protocols::wamp::errors::Violation;
use protocols::wamp::message::Message;
use router_core::encoding::Encoding::{Json, MsgPack};
use router_core::encoding::transcode::{json_to_msgpack, msgpack_to_json};
use std::collections::BTreeSet;

const VALID: &str = include_str!("vectors/wamp/valid.txt");
const INVALID: &str = include_str!("vectors/wamp/invalid.txt");
const MSGPACK: &str = include_str!("vectors/wamp/msgpack.txt");

fn lines(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn decode_json(frame: &str) -> Result<Message, Violation> {
    decode(
        Json,
        Bytes::copy_from_slice(frame.as_bytes()),
        &Limits::default(),
    )
}

fn decode_msgpack(frame: Vec<u8>) -> Result<Message, Violation> {
    decode(MsgPack, frame.into(), &Limits::default())
}

fn as_json(packed: &[u8]) -> String {
    String::from_utf8(msgpack_to_json(packed).unwrap()).unwrap()
}

#[test]
fn valid_messages_are_read_and_written_in_both_encodings() {
    let mut names = BTreeSet::new();
    for line in lines(VALID) {
        let (name, frames) = line.split_once(' ').unwrap();
        let (frame, written) = frames.split_once(" => ").unwrap_or((frames, frames));
        names.insert(name);

        let message = decode_json(frame).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(message.name(), name, "{line}");
        assert_eq!(encode(Json, &message), written.as_bytes(), "{line}");

        let packed = decode_msgpack(json_to_msgpack(frame.as_bytes()).unwrap());
        let packed = packed.unwrap_or_else(|e| panic!("{line}: {e}"));
        let again = encode(MsgPack, &packed);
        assert_eq!(as_json(&again), written, "{line}");
        assert_eq!(
            again[..],
            json_to_msgpack(written.as_bytes()).unwrap()[..],
            "{line}"
        );
    }
    let all: BTreeSet<&str> = (0..=255)
        .map(name_of)
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(names, all, "a message without a vector");
}

#[test]
fn invalid_messages_are_refused_with_the_reason() {
    for line in lines(INVALID) {
        let (frame, reason) = line.split_once(" => ").unwrap();
        let (frame, both) = frame
            .strip_prefix("json ")
            .map_or((frame, true), |f| (f, false));
        assert_eq!(
            decode_json(frame).unwrap_err().to_string(),
            reason,
            "{line}"
        );
        if both {
            let packed = json_to_msgpack(frame.as_bytes()).unwrap();
            assert_eq!(
                decode_msgpack(packed).unwrap_err().to_string(),
                reason,
                "{line}"
            );
        }
    }
}

#[test]
fn every_message_has_invalid_vectors() {
    let reasons: Vec<&str> = lines(INVALID)
        .filter_map(|line| line.split(" => ").nth(1))
        .collect();
    for name in (0..=255).map(name_of).filter(|name| !name.is_empty()) {
        let count = reasons
            .iter()
            .filter(|r| r.split(' ').next() == Some(name))
            .count();
        assert!(count >= 2, "{name}: {count}");
    }
}

#[test]
fn msgpack_has_words_of_its_own() {
    for line in lines(MSGPACK) {
        let (hex, wanted) = line.split_once(" => ").unwrap();
        let bytes = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let message = decode_msgpack(bytes.collect());
        match wanted.strip_prefix("! ") {
            Some(reason) => assert_eq!(message.unwrap_err().to_string(), reason, "{line}"),
            None => {
                let (name, frame) = wanted.split_once(' ').unwrap();
                let message = message.unwrap_or_else(|e| panic!("{line}: {e}"));
                assert_eq!(message.name(), name, "{line}");
                assert_eq!(as_json(&encode(MsgPack, &message)), frame, "{line}");
            }
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_anywhere() {
    for frame in [
        &b"[1,\"\xff\",{}]"[..],
        b"[16,1,{},\"a\",[\"\xed\xa0\x80\"]]",
        b"[1,\"r\",{}]\xff",
    ] {
        let refused = decode(Json, Bytes::copy_from_slice(frame), &Limits::default());
        let text = refused.unwrap_err().to_string();
        assert!(
            text.starts_with("undecodable frame: invalid UTF-8"),
            "{text}"
        );
    }
}

#[test]
fn large_options_are_refused_before_they_are_parsed() {
    let limits = Limits { dict_bytes: 20 };
    let frame = |options: &str| Bytes::from(format!("[16,1,{options},\"a\"]"));
    assert!(decode(Json, frame("{\"k\":\"0123456789ab\"}"), &limits).is_ok());
    let refused = decode(Json, frame("{\"k\":\"0123456789abc\"}"), &limits).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "PUBLISH element 2 (Options|dict): larger than 20 bytes"
    );
    // Arguments are not parsed, so the limit is none of theirs.
    let frame = format!("[16,1,{{}},\"a\",[\"{}\"]]", "x".repeat(1000));
    assert!(decode(Json, frame.into(), &limits).is_ok());
}

#[test]
fn nesting_is_capped() {
    let frame = |depth: usize| {
        Bytes::from(format!(
            "[16,1,{{}},\"a\",{}{}]",
            "[".repeat(depth),
            "]".repeat(depth)
        ))
    };
    assert!(decode(Json, frame(127), &Limits::default()).is_ok());
    let refused = decode(Json, frame(128), &Limits::default())
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "undecodable frame: nested too deep at byte 140");
}
