//! Bytes meant to divide codecs: changed packets and packet vectors, and properties that do not
//! belong where they stand.
//!
//! Half of the packets get a true Remaining Length afterwards, or few would pass the fixed
//! header.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use protocols::mqtt::packet::ProtocolVersion;

use crate::vectors::{self, Context};

/// Values at the edges of the fields of MQTT.
const EDGES: [u8; 16] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x0B, 0x10, 0x1F, 0x23, 0x26, 0x2A, 0x7F, 0x80, 0x81, 0xC0, 0xFF,
];

/// One change of the bytes of a packet.
#[derive(Debug, Clone)]
pub enum Change {
    /// Flips a bit.
    Flip(Index, u8),
    /// Sets a byte.
    Set(Index, u8),
    /// Makes a length or count lie by a little.
    Add(Index, u8),
    /// Cuts the packet.
    Cut(Index),
    /// Takes a byte out.
    Remove(Index),
    /// Puts a byte in.
    Insert(Index, u8),
    /// Repeats a stretch, such as a property or a filter.
    Repeat(Index, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Set(at, value) => bytes[at.index(length)] = *value,
            Self::Add(at, value) => {
                let at = at.index(length);
                bytes[at] = bytes[at].wrapping_add(*value);
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Remove(at) => drop(bytes.remove(at.index(length))),
            Self::Insert(at, value) => bytes.insert(at.index(length), *value),
            Self::Repeat(at, count) => {
                let at = at.index(length);
                let end = (at + count).min(length);
                let piece = bytes[at..end].to_vec();
                bytes.splice(end..end, piece);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let edge = || prop_oneof![select(&EDGES[..]), any::<u8>()];
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), edge()).prop_map(|(at, value)| Change::Set(at, value)),
        (at(), select(vec![1, 2, 0xFE, 0xFF])).prop_map(|(at, value)| Change::Add(at, value)),
        at().prop_map(Change::Cut),
        at().prop_map(Change::Remove),
        (at(), edge()).prop_map(|(at, value)| Change::Insert(at, value)),
        (at(), 1..9usize).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

/// What is sent instead of a legal packet.
#[derive(Debug, Clone)]
pub struct Attack {
    /// Other bytes to start from, if not those of the packet.
    base: Option<Vec<u8>>,
    /// What is changed, in order.
    changes: Vec<Change>,
    /// Whether the Remaining Length is made true again.
    is_length_true: bool,
}

impl Attack {
    /// The bytes that come of `packet`.
    pub fn bytes(&self, packet: &[u8]) -> Vec<u8> {
        let mut bytes = self.base.clone().unwrap_or_else(|| packet.to_vec());
        for change in &self.changes {
            change.apply(&mut bytes);
        }
        if self.is_length_true {
            correct_length(&mut bytes);
        }
        bytes
    }
}

/// Attacks in this version: on the packet, with a packet vector, in 5.0 also with properties.
pub fn attack(version: ProtocolVersion) -> BoxedStrategy<Attack> {
    let vectors = select(vectors(version));
    let strange = if version.is_v5() {
        prop_oneof![1 => vectors, 2 => property_block()].boxed()
    } else {
        vectors.boxed()
    };
    let base = prop_oneof![
        (Just(None), vec(change(), 1..4)),
        (strange.prop_map(Some), vec(change(), 0..3)),
    ];
    (base, any::<bool>())
        .prop_map(|((base, changes), is_length_true)| Attack {
            base,
            changes,
            is_length_true,
        })
        .boxed()
}

/// The packet vectors of connections of this version, and every CONNECT.
fn vectors(version: ProtocolVersion) -> Vec<Vec<u8>> {
    let fits = |context: &Context| match context {
        Context::Connect => true,
        Context::FromClient(of) | Context::FromServer(of) => *of == version,
    };
    vectors::all()
        .into_iter()
        .filter(|vector| fits(&vector.context))
        .map(|vector| vector.bytes)
        .collect()
}

/// Gives the packet a Remaining Length that covers all bytes.
fn correct_length(bytes: &mut Vec<u8>) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let digits = rest.iter().take(3).take_while(|byte| **byte >= 0x80);
    let body = rest.get(digits.count() + 1..).unwrap_or_default();
    let mut packet = vec![*first];
    packet.extend(variable_byte_integer(body.len()));
    packet.extend_from_slice(body);
    *bytes = packet;
}

fn variable_byte_integer(value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value;
    loop {
        let digit = (rest & 0x7F) as u8;
        rest >>= 7;
        bytes.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            return bytes;
        }
    }
}

/// First byte, what precedes and what follows the property block.
type Frame = (u8, &'static [u8], &'static [u8]);

/// A legal packet around every property block of 5.0.
const FRAMES: [Frame; 16] = [
    (0x10, b"\0\x04MQTT\x05\x02\0\x3C", b"\0\x01c"),
    (
        0x10,
        b"\0\x04MQTT\x05\x06\0\x3C\0\0\x01c",
        b"\0\x01w\0\x01m",
    ),
    (0x20, b"\0\0", b""),
    (0x30, b"\0\x01a", b"payload"),
    (0x3D, b"\0\x01a\0\x07", b"payload"),
    (0x30, b"\0\0", b"payload"),
    (0x40, b"\0\x01\0", b""),
    (0x50, b"\0\x01\0", b""),
    (0x62, b"\0\x01\0", b""),
    (0x70, b"\0\x01\0", b""),
    (0x82, b"\0\x01", b"\0\x01a\x01"),
    (0x90, b"\0\x01", b"\0"),
    (0xA2, b"\0\x01", b"\0\x01a"),
    (0xB0, b"\0\x01", b"\0"),
    (0xE0, b"\0", b""),
    (0xF0, b"\x18", b""),
];

/// A packet of 5.0 whose properties may be foreign, repeated, out of range or cut off.
fn property_block() -> impl Strategy<Value = Vec<u8>> {
    let block = vec(property(), 0..4).prop_map(|parts| parts.concat());
    let lie = prop_oneof![6 => Just(0isize), 1 => -2..3isize];
    (select(&FRAMES[..]), block, lie).prop_map(|((first, before, after), block, lie)| {
        let length = block.len().saturating_add_signed(lie);
        let mut body = before.to_vec();
        body.extend(variable_byte_integer(length));
        body.extend(block);
        body.extend_from_slice(after);
        let mut packet = vec![first];
        packet.extend(variable_byte_integer(body.len()));
        packet.extend(body);
        packet
    })
}

/// One property, more often with a legal value than not.
fn property() -> BoxedStrategy<Vec<u8>> {
    const BYTES: &[u8] = &[0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A];
    const TWO_BYTES: &[u8] = &[0x13, 0x21, 0x22, 0x23];
    const FOUR_BYTES: &[u8] = &[0x02, 0x11, 0x18, 0x27];
    const STRINGS: &[u8] = &[0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F];
    const BINARIES: &[u8] = &[0x09, 0x16];
    let with = |ids: &'static [u8], value: BoxedStrategy<Vec<u8>>| {
        (select(ids), value).prop_map(|(id, value)| [vec![id], value].concat())
    };
    let two_bytes = prop_oneof![select(vec![0, 1, u16::MAX]), any::<u16>()];
    let four_bytes = prop_oneof![select(vec![0, 1, u32::MAX]), any::<u32>()];
    let identifier = select(vec![
        &b"\0"[..],
        b"\x01",
        b"\x81\0",
        b"\xFF\xFF\xFF\x7F",
        b"\xFF\xFF\xFF\xFF\x01",
        b"\x80",
    ]);
    let pair = (string(), string()).prop_map(|(key, value)| [key, value].concat());
    prop_oneof![
        3 => with(BYTES, (0..3u8).prop_map(|value| vec![value]).boxed()),
        2 => with(TWO_BYTES, two_bytes.prop_map(|value| value.to_be_bytes().to_vec()).boxed()),
        2 => with(FOUR_BYTES, four_bytes.prop_map(|value| value.to_be_bytes().to_vec()).boxed()),
        3 => with(STRINGS, string().boxed()),
        1 => with(BINARIES, string().boxed()),
        1 => with(&[0x0B], identifier.prop_map(<[u8]>::to_vec).boxed()),
        2 => with(&[0x26], pair.boxed()),
        1 => any::<u8>().prop_map(|id| vec![id, 0]),
        1 => Just(vec![0xA6, 0x00, 0, 0, 0, 0]),
    ]
    .boxed()
}

/// A string or binary field with its length, which may lie.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let text = select(vec![
        &b""[..],
        b"a",
        b"topic/a",
        b"a/+",
        b"#",
        b"a\0b",
        b"\xED\xA0\x80",
        b"\xEF\xBB\xBFa",
        b"\xFF",
    ]);
    let lie = prop_oneof![9 => Just(0isize), 1 => -1..2isize];
    (text, lie).prop_map(|(text, lie)| {
        let length = u16::try_from(text.len().saturating_add_signed(lie)).unwrap_or(u16::MAX);
        [&length.to_be_bytes()[..], text].concat()
    })
}
