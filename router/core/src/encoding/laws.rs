//! Laws that hold across the readers, writers and conversions, checked on arbitrary documents and
//! against `serde_json`, `rmp` and `ciborium` as independent opinions.

use super::testing::{
    Doc, edits, json_doc, mutate, packed_doc, quirks, text, to_cbor, to_json, to_packed,
};
use super::transcode::{json_to_msgpack, msgpack_to_json, rewrite};
use super::{Encoding, Fault, MAX_DEPTH, json, value};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const SPACES: [&[&str]; 3] = [&[""], &[" ", "", "\n\t"], &["", "\r\n ", ""]];

const ALL: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

fn parse(encoding: Encoding, input: &[u8]) -> Value {
    value::parse(encoding, input).unwrap()
}

/// What a document must read as.
fn meaning(doc: &Doc) -> Value {
    use base64::Engine;
    let binary = |bytes: &[u8]| {
        json!(format!(
            "\0{}",
            base64::engine::general_purpose::STANDARD.encode(bytes)
        ))
    };
    match doc {
        Doc::Null | Doc::Undefined => Value::Null,
        Doc::Bool(value) => json!(value),
        Doc::Unsigned(value) => json!(value),
        Doc::Signed(value) => json!(value),
        Doc::Float(value) => json!(value),
        Doc::Single(value) => json!(f64::from(*value)),
        Doc::Text(text) => json!(text),
        Doc::Binary(bytes) | Doc::Extension(_, bytes) => binary(bytes),
        Doc::Array(elements) => elements.iter().map(meaning).collect(),
        Doc::Map(members) => Value::Object(
            members
                .iter()
                .map(|(k, v)| (k.clone(), meaning(v)))
                .collect(),
        ),
    }
}

/// Every key of every map in the order of the bytes, read by `rmp`-independent splitting.
fn keys(encoding: Encoding, input: &[u8]) -> Vec<String> {
    let entries = encoding.split_map(input).unwrap();
    let key = |range: std::ops::Range<usize>| parse(encoding, &input[range]).to_string();
    entries.into_iter().map(|entry| key(entry.key)).collect()
}

proptest! {
    #[test]
    fn json_reads_as_meant(doc in json_doc(), spaces in prop::sample::select(&SPACES[..])) {
        let text = to_json(&doc, spaces);
        prop_assert_eq!(Encoding::Json.check(text.as_bytes()), Ok(()));
        prop_assert_eq!(parse(Encoding::Json, text.as_bytes()), meaning(&doc));
    }

    #[test]
    fn msgpack_reads_as_meant(doc in packed_doc()) {
        let packed = to_packed(&doc);
        prop_assert_eq!(Encoding::MsgPack.check(&packed), Ok(()));
        prop_assert_eq!(parse(Encoding::MsgPack, &packed), meaning(&doc));
    }

    #[test]
    fn json_to_msgpack_is_what_rmp_writes(doc in json_doc(), spaces in prop::sample::select(&SPACES[..])) {
        let text = to_json(&doc, spaces);
        prop_assert_eq!(json_to_msgpack(text.as_bytes()).unwrap(), to_packed(&doc));
    }

    #[test]
    fn json_survives_the_way_through_msgpack(doc in json_doc(), spaces in prop::sample::select(&SPACES[..])) {
        let packed = json_to_msgpack(to_json(&doc, spaces).as_bytes()).unwrap();
        let back = msgpack_to_json(&packed).unwrap();
        prop_assert!(serde_json::from_slice::<&RawValue>(&back).is_ok());
        prop_assert_eq!(json_to_msgpack(&back).unwrap(), packed);
    }

    #[test]
    fn msgpack_to_json_keeps_meaning_and_order(doc in packed_doc()) {
        let packed = to_packed(&doc);
        let text = msgpack_to_json(&packed).unwrap();
        prop_assert!(serde_json::from_slice::<&RawValue>(&text).is_ok());
        prop_assert_eq!(parse(Encoding::Json, &text), meaning(&doc));
        if let Doc::Map(members) = &doc {
            let wanted: Vec<String> = members.iter().map(|(k, _)| json!(k).to_string()).collect();
            prop_assert_eq!(keys(Encoding::Json, &text), wanted.clone());
            prop_assert_eq!(keys(Encoding::MsgPack, &packed), wanted);
        }
    }

    #[test]
    fn cbor_reads_as_meant_however_it_is_written(doc in packed_doc(), quirks in quirks()) {
        let bytes = to_cbor(&doc, &quirks);
        prop_assert_eq!(Encoding::Cbor.check(&bytes), Ok(()));
        prop_assert_eq!(parse(Encoding::Cbor, &bytes), meaning(&doc));
    }

    #[test]
    fn every_way_between_serializations_ends_in_the_same_bytes(
        doc in packed_doc(),
        quirks in quirks(),
        ways in prop::collection::vec(prop::sample::select(&ALL[..]), 1..5),
    ) {
        // Binary keys aside, which `Doc` has not, only JSON lacks anything: NaN and infinities.
        let (mut at, mut bytes) = (Encoding::Cbor, to_cbor(&doc, &quirks));
        for to in &ways {
            bytes = rewrite(&bytes, at, *to).unwrap();
            at = *to;
            prop_assert_eq!(at.check(&bytes), Ok(()));
            prop_assert_eq!(parse(at, &bytes), meaning(&doc));
        }
        if !ways.contains(&Encoding::Json) {
            let direct = rewrite(&to_packed(&doc), Encoding::MsgPack, at).unwrap();
            prop_assert_eq!(&bytes, &direct);
        }
        // Plain spellings come back bit by bit.
        for other in ALL {
            let there = rewrite(&bytes, at, other).unwrap();
            let back = rewrite(&there, other, at).unwrap();
            prop_assert!(back == bytes || other == Encoding::Json);
            prop_assert_eq!(rewrite(&back, at, other).unwrap(), there);
        }
    }

    #[test]
    fn what_json_says_is_the_same_cbor_and_messagepack(
        doc in json_doc(),
        quirks in quirks(),
    ) {
        let text = to_json(&doc, SPACES[1]);
        let packed = rewrite(text.as_bytes(), Encoding::Json, Encoding::Cbor).unwrap();
        prop_assert_eq!(&packed, &to_cbor(&doc, &[]));
        let other = to_cbor(&doc, &quirks);
        prop_assert_eq!(rewrite(&other, Encoding::Cbor, Encoding::MsgPack).unwrap(), to_packed(&doc));
        prop_assert_eq!(rewrite(&other, Encoding::Cbor, Encoding::Cbor).unwrap(), packed);
    }

    #[test]
    fn ciborium_reads_what_is_written_and_the_other_way_round(doc in json_doc()) {
        let value = meaning(&doc);
        let ours = value::to_bytes(Encoding::Cbor, &value);
        prop_assert_eq!(&ciborium::from_reader::<Value, _>(&ours[..]).unwrap(), &value);
        let mut theirs = Vec::new();
        ciborium::into_writer(&value, &mut theirs).unwrap();
        prop_assert_eq!(parse(Encoding::Cbor, &theirs), value);
    }

    #[test]
    fn cbor_is_judged_as_ciborium_does(
        doc in packed_doc(),
        quirks in quirks(),
        edits in edits(),
    ) {
        agrees_with_ciborium(&mutate(&to_cbor(&doc, &quirks), &edits))?;
    }

    #[test]
    fn any_bytes_are_judged_as_ciborium_does(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        agrees_with_ciborium(&bytes)?;
    }

    #[test]
    fn elements_are_cut_where_they_stand(
        docs in prop::collection::vec(json_doc(), 0..6),
        quirks in quirks(),
    ) {
        let array = Doc::Array(docs.clone());
        for (encoding, bytes) in [
            (Encoding::Json, to_json(&array, SPACES[1]).into_bytes()),
            (Encoding::MsgPack, to_packed(&array)),
            (Encoding::Cbor, to_cbor(&array, &quirks)),
        ] {
            let ranges = encoding.split_array(&bytes).unwrap();
            let parts: Vec<&[u8]> = ranges.iter().map(|r| &bytes[r.clone()]).collect();
            prop_assert_eq!(parts.len(), docs.len());
            for (part, doc) in parts.iter().zip(&docs) {
                prop_assert!(!part[0].is_ascii_whitespace() || encoding != Encoding::Json);
                prop_assert_eq!(parse(encoding, part), meaning(doc));
            }
            let again = encoding.array_of(&parts);
            prop_assert_eq!(parse(encoding, &again), meaning(&array));
            if encoding == Encoding::MsgPack {
                prop_assert_eq!(&again[..], &bytes[..]);
            }
            let at_most = encoding.split_array_at_most(&bytes, docs.len());
            prop_assert_eq!(at_most.unwrap(), Some(ranges));
            if let Some(fewer) = docs.len().checked_sub(1) {
                prop_assert_eq!(encoding.split_array_at_most(&bytes, fewer).unwrap(), None);
            }
        }
    }

    #[test]
    fn members_are_cut_where_they_stand(
        doc in json_doc(),
        key in "[a-z\"é]{0,4}",
        quirks in quirks(),
    ) {
        for (encoding, bytes) in [
            (Encoding::Json, to_json(&doc, SPACES[0]).into_bytes()),
            (Encoding::MsgPack, to_packed(&doc)),
            (Encoding::Cbor, to_cbor(&doc, &quirks)),
        ] {
            let map = encoding.map_of(&[(&key, &bytes), ("again", &bytes), (&key, &bytes)]);
            let entries = encoding.split_map(&map).unwrap();
            prop_assert_eq!(entries.len(), 3);
            for (entry, key) in entries.iter().zip([&key[..], "again", &key[..]]) {
                prop_assert_eq!(parse(encoding, &map[entry.key.clone()]), json!(key));
                prop_assert_eq!(&map[entry.value.clone()], &bytes[..]);
            }
        }
    }

    #[test]
    fn values_are_written_as_they_are(doc in json_doc()) {
        let value = meaning(&doc);
        for encoding in ALL {
            prop_assert_eq!(&parse(encoding, &value::to_bytes(encoding, &value)), &value);
        }
        let text = value::to_bytes(Encoding::Json, &value);
        prop_assert!(serde_json::from_slice::<&RawValue>(&text).is_ok());
        let packed = value::to_bytes(Encoding::MsgPack, &value);
        prop_assert_eq!(rmp_serde::from_slice::<Value>(&packed).unwrap(), value);
    }

    #[test]
    fn binary_in_values_becomes_binary(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        let packed = to_packed(&Doc::Array(vec![Doc::Binary(bytes)]));
        let value = parse(Encoding::MsgPack, &packed);
        prop_assert_eq!(&value::to_bytes(Encoding::MsgPack, &value)[..], &packed[..]);
        let text = msgpack_to_json(&packed).unwrap();
        prop_assert_eq!(parse(Encoding::Json, &text), value);
        prop_assert_eq!(json_to_msgpack(&text).unwrap(), packed);
    }

    #[test]
    fn single_values_come_back(text in text(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in ALL {
            let value = encoding.text_value(&text);
            prop_assert_eq!(parse(encoding, &value), json!(text));
            prop_assert_eq!(encoding.as_text(&value).unwrap(), &text[..]);
            prop_assert_eq!(encoding.as_binary(&value), None);
            let value = encoding.binary_value(&bytes);
            prop_assert_eq!(encoding.check(&value), Ok(()));
            prop_assert_eq!(encoding.as_binary(&value).unwrap(), &bytes[..]);
            prop_assert_eq!(encoding.as_binary(encoding.null()), None);
            prop_assert_eq!(encoding.as_text(encoding.null()), None);
        }
        let packed = Encoding::MsgPack.binary_value(&bytes);
        prop_assert_eq!(msgpack_to_json(&packed).unwrap(), &Encoding::Json.binary_value(&bytes)[..]);
        prop_assert_eq!(&packed[..], &to_packed(&Doc::Binary(bytes))[..]);
    }

    #[test]
    fn json_grammar_is_that_of_serde_json(doc in json_doc(), edits in edits()) {
        let bytes = mutate(to_json(&doc, SPACES[1]).as_bytes(), &edits);
        agrees_with_serde_json(&bytes)?;
    }

    #[test]
    fn any_text_is_judged_as_serde_json_does(
        text in "[\\[\\]{}\",:0-9eE.+\\-ntrufalse\\\\ ]{0,12}"
    ) {
        agrees_with_serde_json(text.as_bytes())?;
    }

    #[test]
    fn msgpack_is_judged_as_rmp_does(doc in packed_doc(), edits in edits()) {
        agrees_with_rmp(&mutate(&to_packed(&doc), &edits))?;
    }

    #[test]
    fn any_bytes_are_judged_as_rmp_does(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        agrees_with_rmp(&bytes)?;
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        no_panic(&bytes);
    }

    #[test]
    fn mutated_documents_make_nothing_panic(doc in packed_doc(), edits in edits()) {
        no_panic(&mutate(&to_packed(&doc), &edits));
        no_panic(&mutate(&to_cbor(&doc, &[0, 4, 9, 22]), &edits));
        no_panic(&mutate(to_json(&doc, SPACES[2]).as_bytes(), &edits));
    }
}

/// All functions take the same bytes for well-formed, and what is well-formed converts.
fn no_panic(bytes: &[u8]) {
    for encoding in ALL {
        let checked = encoding.check(bytes);
        let parsed = value::parse(encoding, bytes);
        assert!(parsed.is_err() || checked.is_ok());
        let _ = (encoding.kind(bytes), encoding.is_empty_container(bytes));
        let _ = (super::msgpack::unsigned(bytes), super::msgpack::text(bytes));
        let _ = (super::cbor::unsigned(bytes), super::cbor::text(bytes));
        let _ = (
            json::unsigned(bytes),
            json::text(bytes),
            json::is_json(bytes),
        );
        let _ = (encoding.as_text(bytes), encoding.as_binary(bytes));
        let _ = value::parse_map(encoding, bytes);
        for ranges in encoding
            .split_array(bytes)
            .into_iter()
            .chain(encoding.split_map(bytes).map(|entries| {
                entries
                    .into_iter()
                    .flat_map(|entry| [entry.key, entry.value])
                    .collect()
            }))
        {
            assert_eq!(checked, Ok(()));
            ranges
                .into_iter()
                .for_each(|r| assert!(encoding.check(&bytes[r]).is_ok()));
        }
    }
    for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
        let made = rewrite(bytes, from, to);
        if let Err(error) = &made {
            // A list or a dict as a key is the only thing that is well-formed and does not convert.
            assert!(error.fault == Fault::Key || from.check(bytes).is_err());
        }
        assert!(made.is_err() || from.check(bytes).is_ok());
        assert!(made.is_err() || to.check(&made.unwrap()).is_ok());
    }
}

fn agrees_with_ciborium(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = Encoding::Cbor.check(bytes);
    let mut rest = bytes;
    let theirs = ciborium::from_reader::<IgnoredAny, _>(&mut rest);
    // They know no simple values but those of JSON.
    let no_opinion = theirs
        .as_ref()
        .is_err_and(|error| error.to_string().contains("simple"));
    match ours {
        Err(error) if error.fault == Fault::TooDeep => {}
        // They take the second spelling of a simple value, which section 3.3 forbids.
        Err(error) if bytes.get(error.at) == Some(&0xf8) => {}
        _ if no_opinion => {}
        Err(error) if error.fault == Fault::Trailing => {
            prop_assert!(theirs.is_ok(), "{:?}", theirs);
            prop_assert_eq!(bytes.len() - rest.len(), error.at);
        }
        ours => prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs),
    }
    Ok(())
}

fn agrees_with_serde_json(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = Encoding::Json.check(bytes);
    let theirs = serde_json::from_slice::<&RawValue>(bytes);
    prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
    Ok(())
}

fn agrees_with_rmp(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = Encoding::MsgPack.check(bytes);
    let mut rest = bytes;
    let theirs = rmp_serde::from_read::<_, IgnoredAny>(&mut rest);
    match ours {
        // They take any bytes for text, and have no opinion on what follows.
        Err(error) if matches!(error.fault, Fault::Utf8 | Fault::TooDeep) => {}
        Err(error) if error.fault == Fault::Trailing => {
            prop_assert!(theirs.is_ok());
            prop_assert_eq!(bytes.len() - rest.len(), error.at);
        }
        ours => prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs),
    }
    Ok(())
}

#[test]
fn nesting_is_capped_alike() {
    let json = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let packed = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
    let maps = |depth: usize| "{\"\":".repeat(depth) + "0" + &"}".repeat(depth);
    for depth in [MAX_DEPTH, MAX_DEPTH + 1] {
        let fits = depth == MAX_DEPTH;
        for text in [json(depth), maps(depth)] {
            assert_eq!(Encoding::Json.check(text.as_bytes()).is_ok(), fits);
            assert_eq!(value::parse(Encoding::Json, text.as_bytes()).is_ok(), fits);
            let packed = json_to_msgpack(text.as_bytes());
            assert_eq!(packed.is_ok(), fits);
            if let Ok(packed) = packed {
                assert_eq!(msgpack_to_json(&packed).unwrap(), text.as_bytes());
            }
        }
        assert_eq!(Encoding::MsgPack.check(&packed(depth)).is_ok(), fits);
        assert_eq!(msgpack_to_json(&packed(depth)).is_ok(), fits);
    }
    // Unbalanced and far beyond: refused at the cap, before the end is looked for.
    let endless = "[".repeat(1_000_000);
    assert_eq!(
        Encoding::Json.check(endless.as_bytes()),
        Err(Fault::TooDeep.at(MAX_DEPTH))
    );
    let endless = vec![0x91; 1_000_000];
    assert_eq!(
        Encoding::MsgPack.check(&endless),
        Err(Fault::TooDeep.at(MAX_DEPTH))
    );
    assert!(json::is_json(json(json::MAX_PAYLOAD_DEPTH).as_bytes()));
    assert!(!json::is_json(json(json::MAX_PAYLOAD_DEPTH + 1).as_bytes()));
}

#[test]
fn a_foreign_payload_of_any_accepted_depth_fits_into_a_frame() {
    let depth = json::MAX_PAYLOAD_DEPTH;
    let payload = "[".repeat(depth) + &"]".repeat(depth);
    assert!(json::is_json(payload.as_bytes()));
    // As the only argument inside an envelope inside the arguments of a frame.
    let args = Encoding::Json.array_of(&[payload.as_bytes()]);
    let envelope = Encoding::Json.map_of(&[("args", &args)]);
    let frame = Encoding::Json.array_of(&[&Encoding::Json.array_of(&[&envelope])]);
    assert_eq!(Encoding::Json.check(&frame), Ok(()));
    assert_eq!(
        msgpack_to_json(&json_to_msgpack(&frame).unwrap()).unwrap(),
        frame
    );
}

#[test]
fn integers_and_lengths_take_their_shortest_form() {
    let edges = [
        0,
        0x7f,
        0x80,
        0xff,
        0x100,
        0xffff,
        0x1_0000,
        0xffff_ffff,
        0x1_0000_0000,
    ];
    let minus = [
        -1,
        -32,
        -33,
        -128,
        -129,
        -0x8000,
        -0x8001,
        -0x8000_0000,
        -0x8000_0001,
        i64::MIN,
    ];
    let mut docs: Vec<Doc> = edges.map(Doc::Unsigned).into();
    docs.extend(minus.map(Doc::Signed));
    for len in [0, 15, 16, 31, 32, 0xff, 0x100, 0xffff, 0x1_0000] {
        docs.push(Doc::Text("x".repeat(len)));
        docs.push(Doc::Array(vec![Doc::Null; len]));
        docs.push(Doc::Map(vec![("k".to_owned(), Doc::Null); len]));
    }
    for doc in docs {
        let text = to_json(&doc, SPACES[0]);
        let start = text.get(..30).unwrap_or(&text);
        assert!(
            json_to_msgpack(text.as_bytes()).unwrap() == to_packed(&doc),
            "{start}"
        );
        assert!(
            msgpack_to_json(&to_packed(&doc)).unwrap() == text.as_bytes(),
            "{start}"
        );
    }
    for len in [0, 0xff, 0x100, 0xffff, 0x1_0000] {
        let packed = Encoding::MsgPack.binary_value(&vec![7; len]);
        assert!(packed == to_packed(&Doc::Binary(vec![7; len])), "{len}");
    }
}
