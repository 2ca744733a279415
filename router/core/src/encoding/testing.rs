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
        prop::sample::select(b"[]{}\",:\\u0-.eE \x80\x90\xa1\xc0\xc1\xc4\xc7\xd4\xdc\xdf".to_vec()),
    ];
    prop::collection::vec((any::<Index>(), any::<u8>(), byte), 1..4)
}
