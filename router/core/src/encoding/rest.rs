//! Arrays read from the middle: the same elements and the same strictness as from the front.

use super::testing::{Doc, edits, json_doc, mutate, packed_doc, to_json, to_packed};
use super::{Encoding, MAX_DEPTH};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Range;

/// What `rest` holds if `front` stands before it, by the reader of whole arrays.
fn by_the_whole(
    encoding: Encoding,
    front: &[u8],
    rest: &[u8],
    known: usize,
) -> Option<Vec<Range<usize>>> {
    let whole = [front, rest].concat();
    let elements = encoding.split_array(&whole).ok()?;
    let shift = |range: &Range<usize>| range.start - front.len()..range.end - front.len();
    Some(elements.get(known..)?.iter().map(shift).collect())
}

fn by_the_rest(encoding: Encoding, rest: &[u8], remaining: usize) -> Option<Vec<Range<usize>>> {
    let elements = encoding.split_rest(rest, remaining).ok()??;
    Some(elements.into_vec())
}

proptest! {
    #[test]
    fn json_is_read_from_the_middle_as_from_the_front(
        docs in vec(json_doc(), 2..6),
        at in any::<prop::sample::Index>(),
        edits in edits(),
    ) {
        let known = 1 + at.index(docs.len() - 1);
        let whole = to_json(&Doc::Array(docs.clone()), &[""]).into_bytes();
        let elements = Encoding::Json.split_array(&whole).unwrap();
        let (front, rest) = whole.split_at(elements[known - 1].end);
        let most = docs.len() - known;
        prop_assert_eq!(
            by_the_rest(Encoding::Json, rest, most),
            by_the_whole(Encoding::Json, front, rest, known)
        );
        prop_assert_eq!(by_the_rest(Encoding::Json, rest, most - 1), None);
        let wrong = mutate(rest, &edits);
        // Behind a number the change might be one of the number.
        let is_closed = matches!(docs[known - 1], Doc::Text(_) | Doc::Array(_) | Doc::Map(_));
        if is_closed {
            prop_assert_eq!(
                by_the_rest(Encoding::Json, &wrong, usize::MAX),
                by_the_whole(Encoding::Json, front, &wrong, known)
            );
        }
    }

    #[test]
    fn msgpack_is_read_from_the_middle_as_from_the_front(
        docs in vec(packed_doc(), 2..6),
        at in any::<prop::sample::Index>(),
        edits in edits(),
    ) {
        let known = 1 + at.index(docs.len() - 1);
        let whole = to_packed(&Doc::Array(docs.clone()));
        let elements = Encoding::MsgPack.split_array(&whole).unwrap();
        let (front, rest) = whole.split_at(elements[known - 1].end);
        let wrong = mutate(rest, &edits);
        for rest in [rest, &wrong] {
            prop_assert_eq!(
                by_the_rest(Encoding::MsgPack, rest, docs.len() - known),
                by_the_whole(Encoding::MsgPack, front, rest, known)
            );
        }
    }
}

#[test]
fn the_array_around_counts_for_the_depth() {
    for (depth, is_read) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
        let text = format!(",{}{}]", "[".repeat(depth), "]".repeat(depth));
        let read = Encoding::Json.split_rest(text.as_bytes(), 1);
        assert_eq!(read.is_ok(), is_read);
        let mut packed = vec![0x91; depth - 1];
        packed.push(0x90);
        assert_eq!(Encoding::MsgPack.split_rest(&packed, 1).is_ok(), is_read);
    }
}

#[test]
fn cbor_is_not_read_from_the_middle() {
    assert_eq!(Encoding::Cbor.split_rest(&[0x01], 1), Ok(None));
}
