//! Every packet vector is accepted, or refused with the reason its clause asks for, however the
//! bytes are cut.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/vectors.rs"]
mod vectors;

use bytes::BytesMut;
use protocols::mqtt::codec::{Limits, encode};
use protocols::mqtt::packet::{Packet, ProtocolVersion};
use vectors::{Context, all, decode_all};

#[test]
fn the_corpus_is_complete() {
    let vectors = all();
    assert!(vectors.len() > 350, "{} vectors", vectors.len());
    for version in [
        ProtocolVersion::V3_1,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
    ] {
        for valid in [true, false] {
            let context = Context::FromClient(version);
            let some = vectors
                .iter()
                .any(|v| v.context == context && v.reason.is_none() == valid);
            assert!(some, "{version:?} valid={valid}");
        }
    }
}

#[test]
fn valid_vectors_are_accepted_whole() {
    for vector in all().iter().filter(|vector| vector.reason.is_none()) {
        let mut decoder = vector.context.decoder(Limits::default());
        let (packets, end) = decode_all(&mut decoder, &vector.bytes, usize::MAX);
        assert_eq!(end, Ok(0), "{}", vector.place);
        assert!(!packets.is_empty(), "{}", vector.place);
    }
}

#[test]
fn invalid_vectors_are_refused_with_the_right_reason() {
    for vector in all() {
        let Some(reason) = vector.reason else {
            continue;
        };
        let mut decoder = vector.context.decoder(Limits::default());
        let (packets, end) = decode_all(&mut decoder, &vector.bytes, usize::MAX);
        match end {
            Err(error) => assert_eq!(error.reason.value(), reason, "{error}: {}", vector.place),
            Ok(left) => panic!("accepted as {packets:?}, {left} left: {}", vector.place),
        }
    }
}

#[test]
fn the_verdict_does_not_depend_on_how_the_bytes_are_cut() {
    for vector in all() {
        let whole = decode_all(
            &mut vector.context.decoder(Limits::default()),
            &vector.bytes,
            usize::MAX,
        );
        for step in [1, 2, 3, 7] {
            let cut = decode_all(
                &mut vector.context.decoder(Limits::default()),
                &vector.bytes,
                step,
            );
            assert_eq!(cut, whole, "step {step}: {}", vector.place);
        }
    }
}

#[test]
fn truncated_valid_vectors_wait_for_more() {
    for vector in all().iter().filter(|vector| vector.reason.is_none()) {
        for length in 0..vector.bytes.len() {
            let mut decoder = vector.context.decoder(Limits::default());
            let (_, end) = decode_all(&mut decoder, &vector.bytes[..length], usize::MAX);
            assert!(end.is_ok(), "{length} bytes of {}", vector.place);
        }
    }
}

#[test]
fn valid_vectors_survive_encoding() {
    for vector in all().iter().filter(|vector| vector.reason.is_none()) {
        let mut decoder = vector.context.decoder(Limits::default());
        let (packets, _) = decode_all(&mut decoder, &vector.bytes, usize::MAX);
        let version = decoder.version().expect("valid vectors fix the version");
        let mut out = BytesMut::new();
        for packet in &packets {
            encode(packet, version, &mut out).expect(&vector.place);
        }
        let mut again = vector.context.decoder(Limits::default());
        let (copy, end) = decode_all(&mut again, &out, usize::MAX);
        assert_eq!((copy, end), (packets, Ok(0)), "{}", vector.place);
    }
}

#[test]
fn a_faulty_connect_can_be_answered_in_its_version() {
    for vector in all() {
        let fresh = vector.context == Context::Connect && vector.reason.is_some();
        if !fresh || !vector.place.contains("will") {
            continue;
        }
        let mut decoder = vector.context.decoder(Limits::default());
        let (packets, end) = decode_all(&mut decoder, &vector.bytes, usize::MAX);
        let error = end.expect_err(&vector.place);
        assert!(packets.is_empty());
        let level = vector.bytes[8];
        assert_eq!(
            error.reply_version.map(ProtocolVersion::level),
            Some(level),
            "{}",
            vector.place
        );
        assert_eq!(decoder.version(), None, "a refused CONNECT fixes nothing");
    }
}

#[test]
fn every_packet_type_is_covered() {
    let mut seen = [false; 16];
    for vector in all().iter().filter(|vector| vector.reason.is_none()) {
        let mut decoder = vector.context.decoder(Limits::default());
        for packet in decode_all(&mut decoder, &vector.bytes, usize::MAX).0 {
            seen[Packet::packet_type(&packet) as usize] = true;
        }
    }
    assert!(seen[1..].iter().all(|&seen| seen), "{seen:?}");
}
