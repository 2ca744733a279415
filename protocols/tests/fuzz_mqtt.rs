//! Mutational fuzzing of the MQTT codec on the stable toolchain.
//!
//! Runs a fixed number of inputs by default, and for `FUZZ_SECONDS` seconds when that variable
//! is set; `FUZZ_SEED` changes the course. Inputs are the packet vectors, mutated with knowledge
//! of the format, so that most of them get past the fixed header. Each must be judged without a
//! panic and alike however it is cut; what was accepted must encode to no more bytes than
//! arrived, decode to itself, and encode to the same bytes again.

#![cfg(feature = "mqtt")]

#[path = "mqtt_codec_common/vectors.rs"]
mod vectors;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::packet::{Packet, ProtocolVersion};
use vectors::{Context, Vector, all, decode_all};

const DEFAULT_EXECUTIONS: u64 = 20_000;

/// Small limits, so that mutated packets reach them.
const LIMITS: Limits = Limits {
    max_packet_bytes: 2_048,
    max_user_properties: 4,
    max_user_property_bytes: 64,
    max_filters: 4,
};

/// Values at the edges of the fields of MQTT.
const EDGES: [u8; 16] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x0B, 0x10, 0x1F, 0x23, 0x26, 0x2A, 0x7F, 0x80, 0x81, 0xC0, 0xFF,
];

/// xorshift64*: repeatable, and good enough to choose mutations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number below `bound`, 0 if there is none.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() as usize) % bound.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

#[test]
fn mutated_vectors() {
    let seed = number("FUZZ_SEED").unwrap_or(0x5EED_0F5A);
    let deadline = number("FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let corpus = all();
    let mut random = Random(seed.max(1));
    let mut executions = 0u64;
    let mut accepted = 0u64;
    loop {
        let done = match deadline {
            Some(deadline) => executions.is_multiple_of(256) && Instant::now() >= deadline,
            None => executions >= DEFAULT_EXECUTIONS,
        };
        if done {
            break;
        }
        let vector = base(&corpus, &mut random);
        let bytes = mutate(vector, &corpus, &mut random);
        let cut = 1 + random.below(bytes.len());
        let run = || check(vector.context, &bytes, cut);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(packets) => accepted += u64::from(packets > 0),
            Err(panic) => {
                println!(
                    "seed {seed}, execution {executions}, cut {cut}: {}",
                    vector.place
                );
                println!("input {}", hex(&bytes));
                resume_unwind(panic);
            }
        }
        executions += 1;
    }
    println!("{executions} executions, {accepted} with an accepted packet");
    assert!(
        accepted * 5 > executions,
        "mutations are too wild to get past the header"
    );
}

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks all laws on one input; the number of packets accepted.
fn check(context: Context, bytes: &[u8], cut: usize) -> usize {
    let mut decoder = context.decoder(LIMITS);
    let verdict = decode_all(&mut decoder, bytes, usize::MAX);
    assert_eq!(
        decode_all(&mut context.decoder(LIMITS), bytes, cut),
        verdict,
        "cut differently"
    );
    let (packets, _) = verdict;
    let Some(version) = decoder.version() else {
        assert!(packets.is_empty(), "a packet before CONNECT");
        return 0;
    };
    let mut written = BytesMut::new();
    for packet in &packets {
        encode(packet, version, &mut written).expect("what was accepted can be written");
    }
    assert!(
        written.len() <= bytes.len(),
        "{} bytes grew to {}",
        bytes.len(),
        written.len()
    );
    check_stable(context, version, &packets, &written);
    packets.len()
}

fn check_stable(context: Context, version: ProtocolVersion, packets: &[Packet], written: &[u8]) {
    let mut decoder: Decoder = context.decoder(LIMITS);
    let (again, end) = decode_all(&mut decoder, written, usize::MAX);
    assert_eq!((&again[..], end), (packets, Ok(0)), "decodes to itself");
    let mut rewritten = BytesMut::new();
    for packet in &again {
        encode(packet, version, &mut rewritten).expect("legal");
    }
    assert_eq!(&rewritten[..], written, "encodes to the same bytes");
}

/// A vector to start from, three times out of four a valid one.
fn base<'a>(corpus: &'a [Vector], random: &mut Random) -> &'a Vector {
    let any = random.below(4) == 0;
    loop {
        let vector = random.pick(corpus);
        if any || vector.reason.is_none() {
            return vector;
        }
    }
}

fn mutate(vector: &Vector, corpus: &[Vector], random: &mut Random) -> Vec<u8> {
    let mut bytes = vector.bytes.clone();
    for _ in 0..random.below(4) {
        mutate_once(&mut bytes, corpus, random);
    }
    // Two of three inputs get a true Remaining Length, or few would pass the header.
    if random.below(3) > 0 {
        correct_length(&mut bytes);
    }
    if random.below(4) == 0 {
        bytes.extend_from_slice(&random.pick(corpus).bytes);
    }
    bytes
}

fn mutate_once(bytes: &mut Vec<u8>, corpus: &[Vector], random: &mut Random) {
    let at = random.below(bytes.len());
    if bytes.is_empty() {
        bytes.push(*random.pick(&EDGES));
        return;
    }
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = *random.pick(&EDGES),
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes[at] = bytes[at].wrapping_sub(1),
        4 => bytes.truncate(at),
        5 => {
            bytes.remove(at);
        }
        6 => bytes.insert(at, *random.pick(&EDGES)),
        7 => {
            // Repeat a stretch, such as a property or a filter.
            let end = (at + 1 + random.below(8)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(end..end, piece);
        }
        _ => {
            // The tail of another packet.
            let other = &random.pick(corpus).bytes;
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Gives the first packet a Remaining Length that covers all bytes.
fn correct_length(bytes: &mut Vec<u8>) {
    let digits = bytes
        .iter()
        .skip(1)
        .take(4)
        .take_while(|&&byte| byte >= 0x80)
        .count()
        + 1;
    let header = (1 + digits).min(bytes.len());
    let mut rest = bytes.len() - header;
    let mut length = Vec::new();
    loop {
        let digit = (rest & 0x7F) as u8;
        rest >>= 7;
        length.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    if header > 0 {
        bytes.splice(1..header, length);
    }
}
