//! Documents for property tests: arbitrary values, spelled in every way a peer may spell them.

use proptest::prelude::*;
use proptest::sample::Index;

/// A value as a peer means it.
#[derive(Clone, Debug)]
pub(super) enum Doc {
    Null,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Single(f32),
    Text(String),
    Binary(Vec<u8>),
    Extension(i8, Vec<u8>),
    Array(Vec<Doc>),
    /// Keys may repeat.
    Map(Vec<(String, Doc)>),
}

/// Text with what serializers stumble over; never starting with U+0000.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        "[a-z\"\\\\/\u{1}\n\t\u{7f}\u{2028}é€😀]{0,8}",
        "[a-z\u{0}]{1,4}".prop_map(|rest| format!("x{rest}")),
        "[a-z]{32,40}",
        "[a-z]{256,260}",
    ]
}

fn scalar() -> impl Strategy<Value = Doc> {
    prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::Bool),
        any::<u64>().prop_map(Doc::Unsigned),
        (0..300_u64).prop_map(Doc::Unsigned),
        (i64::MIN..0).prop_map(Doc::Signed),
        (-300..0_i64).prop_map(Doc::Signed),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Doc::Float),
        (-100..100_i32).prop_map(|n| Doc::Float(f64::from(n))),
        text().prop_map(Doc::Text),
    ]
}

fn packed_scalar() -> impl Strategy<Value = Doc> {
    prop_oneof![
        6 => scalar(),
        1 => Just(Doc::Undefined),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY)].prop_map(Doc::Float),
        1 => any::<f32>().prop_map(Doc::Single),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Doc::Binary),
        1 => (1..100_i8, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, data)| Doc::Extension(kind, data)),
    ]
}

fn nested(leaf: impl Strategy<Value = Doc> + 'static) -> impl Strategy<Value = Doc> {
    leaf.prop_recursive(5, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Doc::Array),
            prop::collection::vec((text(), inner), 0..20).prop_map(Doc::Map),
        ]
    })
}

/// Anything that JSON can spell.
pub(super) fn json_doc() -> impl Strategy<Value = Doc> {
    nested(scalar())
}

/// Anything that MessagePack can spell.
pub(super) fn packed_doc() -> impl Strategy<Value = Doc> {
    nested(packed_scalar())
}

/// JSON of a document, with white space taken in turn from `spaces`.
pub(super) fn to_json(doc: &Doc, spaces: &[&str]) -> String {
    let mut out = String::new();
    let mut turn = spaces.iter().cycle();
    push_json(doc, &mut out, &mut || {
        turn.next().copied().unwrap_or_default().to_owned()
    });
    out
}

fn push_json(doc: &Doc, out: &mut String, space: &mut impl FnMut() -> String) {
    out.push_str(&space());
    match doc {
        Doc::Bool(value) => out.push_str(&value.to_string()),
        Doc::Unsigned(value) => out.push_str(&value.to_string()),
        Doc::Signed(value) => out.push_str(&value.to_string()),
        Doc::Float(value) => out.push_str(&serde_json::to_string(value).unwrap()),
        Doc::Text(text) => out.push_str(&serde_json::to_string(text).unwrap()),
        Doc::Array(elements) => {
            out.push('[');
            for (i, element) in elements.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                push_json(element, out, space);
            }
            out.push_str(&space());
            out.push(']');
        }
        Doc::Map(members) => {
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                push_json(&Doc::Text(key.clone()), out, space);
                out.push_str(&space());
                out.push(':');
                push_json(value, out, space);
            }
            out.push('}');
        }
        _ => out.push_str("null"),
    }
    out.push_str(&space());
}

/// MessagePack of a document, written by the `rmp` library.
pub(super) fn to_packed(doc: &Doc) -> Vec<u8> {
    let mut out = Vec::new();
    push_packed(doc, &mut out);
    out
}

fn push_packed(doc: &Doc, out: &mut Vec<u8>) {
    use rmp::encode as write;
    let size = |len: usize| u32::try_from(len).unwrap();
    match doc {
        Doc::Null => write::write_nil(out).unwrap(),
        Doc::Undefined => out.extend([0xd4, 0, 0]),
        Doc::Bool(value) => write::write_bool(out, *value).unwrap(),
        Doc::Unsigned(value) => drop(write::write_uint(out, *value).unwrap()),
        Doc::Signed(value) => drop(write::write_sint(out, *value).unwrap()),
        Doc::Float(value) => write::write_f64(out, *value).unwrap(),
        Doc::Single(value) => write::write_f32(out, *value).unwrap(),
        Doc::Text(text) => write::write_str(out, text).unwrap(),
        Doc::Binary(bytes) => write::write_bin(out, bytes).unwrap(),
        Doc::Extension(kind, data) => {
            write::write_ext_meta(out, size(data.len()), *kind).unwrap();
            out.extend(data);
        }
        Doc::Array(elements) => {
            write::write_array_len(out, size(elements.len())).unwrap();
            elements
                .iter()
                .for_each(|element| push_packed(element, out));
        }
        Doc::Map(members) => {
            write::write_map_len(out, size(members.len())).unwrap();
            for (key, value) in members {
                write::write_str(out, key).unwrap();
                push_packed(value, out);
            }
        }
    }
}

/// CBOR of a document by hand, in the manner that `quirks` say, taken in turn: low two bits, how
/// much wider heads are than they need to be; bit 2, without lengths; bit 3, behind a tag that
/// means nothing; bit 4, floats and integers as narrow floats and bignums where these are exact.
/// No quirks are the plain form.
pub(super) fn to_cbor(doc: &Doc, quirks: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut turn = quirks.iter().copied().cycle();
    push_cbor(doc, &mut out, &mut || turn.next().unwrap_or_default());
    out
}

/// How peers may write; see [`to_cbor`].
pub(super) fn quirks() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..32_u8, 0..8)
}

fn push_cbor(doc: &Doc, out: &mut Vec<u8>, quirk: &mut impl FnMut() -> u8) {
    let how = quirk();
    if how & 8 != 0 {
        push_head(out, 6, 1000, how);
    }
    let (endless, odd) = (how & 4 != 0, how & 16 != 0);
    match doc {
        Doc::Null => out.push(0xf6),
        Doc::Undefined => out.push(0xf7),
        Doc::Bool(value) => out.push(0xf4 + u8::from(*value)),
        Doc::Unsigned(value) if odd => push_bignum(out, 0xc2, *value),
        Doc::Unsigned(value) => push_head(out, 0, *value, how),
        Doc::Signed(value) if odd => push_bignum(out, 0xc3, !*value as u64),
        Doc::Signed(value) => push_head(out, 1, !*value as u64, how),
        Doc::Float(value) if odd && f64::from(*value as f32) == *value => {
            push_single(out, *value as f32);
        }
        Doc::Float(value) => {
            out.push(0xfb);
            out.extend(value.to_be_bytes());
        }
        Doc::Single(value) => push_single(out, *value),
        Doc::Text(text) => {
            let middle = text.floor_char_boundary(text.len() / 2);
            let (head, tail) = text.split_at(middle);
            push_string(out, 3, [head.as_bytes(), tail.as_bytes()], how);
        }
        Doc::Binary(bytes) => {
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            push_string(out, 2, [head, tail], how);
        }
        Doc::Extension(kind, data) => {
            push_head(out, 6, u64::from(kind.unsigned_abs()) + 99, how);
            push_string(out, 2, [data, &[]], how);
        }
        Doc::Array(elements) => {
            push_opening(out, 4, elements.len(), how);
            elements
                .iter()
                .for_each(|element| push_cbor(element, out, quirk));
            out.extend(endless.then_some(0xff));
        }
        Doc::Map(members) => {
            push_opening(out, 5, members.len(), how);
            for (key, value) in members {
                push_cbor(&Doc::Text(key.clone()), out, quirk);
                push_cbor(value, out, quirk);
            }
            out.extend(endless.then_some(0xff));
        }
    }
}

fn push_single(out: &mut Vec<u8>, value: f32) {
    out.push(0xfa);
    out.extend(value.to_be_bytes());
}

fn push_bignum(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.extend([tag, 0x49, 0]);
    out.extend(value.to_be_bytes());
}

fn push_string(out: &mut Vec<u8>, major: u8, parts: [&[u8]; 2], how: u8) {
    if how & 4 == 0 {
        push_head(out, major, parts.concat().len() as u64, how);
        out.extend(parts.concat());
        return;
    }
    out.push(major << 5 | 31);
    for part in parts {
        push_head(out, major, part.len() as u64, how);
        out.extend(part);
    }
    out.push(0xff);
}

fn push_opening(out: &mut Vec<u8>, major: u8, len: usize, how: u8) {
    match how & 4 {
        0 => push_head(out, major, len as u64, how),
        _ => out.push(major << 5 | 31),
    }
}

/// The low two bits of `how`: so many steps wider than needed.
fn push_head(out: &mut Vec<u8>, major: u8, argument: u64, how: u8) {
    let needed = match argument {
        ..24 => 0,
        24..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 3,
        _ => 4,
    };
    match (needed + (how & 3)).min(4) {
        0 => out.push(major << 5 | argument as u8),
        width => {
            out.push(major << 5 | (23 + width));
            out.extend(&argument.to_be_bytes()[8 - (1 << (width - 1))..]);
        }
    }
}

/// A few bytes replaced, inserted or cut.
pub(super) fn mutate(bytes: &[u8], edits: &[(Index, u8, u8)]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (index, kind, byte) in edits {
        if out.is_empty() {
            break;
        }
        let at = index.index(out.len());
        match kind % 4 {
            0 => out[at] = *byte,
            1 => out.insert(at, *byte),
            2 => drop(out.remove(at)),
            _ => out.truncate(at),
        }
    }
    out
}

/// Edits for [`mutate`], with a liking for bytes that mean something.
pub(super) fn edits() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"[]{}\",:\\u0-.eE \x80\x90\xa1\xc0\xc1\xc4\xc7\xd4\xdc\xdf\x5f\x7f\x9f\xbf\xc2\xf6\xf7\xf9\xff".to_vec()),
    ];
    prop::collection::vec((any::<Index>(), any::<u8>(), byte), 1..4)
}
