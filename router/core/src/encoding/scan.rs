//! Bounds of elements and members, found with any [`Reader`].

use super::token::{Reader, Step};
use super::{Elements, EncodingError, Fault};
use smallvec::{Array, SmallVec};
use std::ops::Range;

/// Where one member of a map stands, in bytes from the start of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// Passes over the whole value and checks that nothing follows.
pub(super) fn check<'a>(reader: &mut impl Reader<'a>) -> Result<(), EncodingError> {
    while reader.step()?.is_some() {}
    reader.finish()
}

/// See [`Encoding::split_array_at_most`](super::Encoding::split_array_at_most).
pub(super) fn split_array<'a>(
    reader: &mut impl Reader<'a>,
    max: usize,
) -> Result<Option<Elements>, EncodingError> {
    if reader.step()? != Some(Step::Array) {
        return Err(Fault::NotAnArray.at(reader.start()));
    }
    rest_of_array(reader, max)
}

/// The bounds of the elements still to come of the array, the outermost value, that the reader is in.
pub(super) fn rest_of_array<'a, A: Array<Item = Range<usize>>>(
    reader: &mut impl Reader<'a>,
    max: usize,
) -> Result<Option<SmallVec<A>>, EncodingError> {
    let mut elements = SmallVec::new();
    while let Some(element) = next_member(reader)? {
        if elements.len() == max {
            return Ok(None);
        }
        elements.push(element);
    }
    reader.finish()?;
    Ok(Some(elements))
}

/// See [`Encoding::split_map`](super::Encoding::split_map).
pub(super) fn split_map<'a>(reader: &mut impl Reader<'a>) -> Result<Vec<Entry>, EncodingError> {
    if reader.step()? != Some(Step::Map) {
        return Err(Fault::NotAMap.at(reader.start()));
    }
    let mut entries = Vec::new();
    while let Some(key) = next_member(reader)? {
        let Some(value) = next_member(reader)? else {
            return Err(Fault::Truncated.at(reader.end()));
        };
        entries.push(Entry { key, value });
    }
    reader.finish()?;
    Ok(entries)
}

/// Passes over one member of the outermost container; `None` where it ends.
fn next_member<'a>(reader: &mut impl Reader<'a>) -> Result<Option<Range<usize>>, EncodingError> {
    let step = reader.step()?;
    let start = reader.start();
    match step {
        None | Some(Step::Close) => return Ok(None),
        Some(Step::Scalar) => {}
        Some(Step::Array | Step::Map) => {
            while reader.depth() > 1 {
                reader.step()?;
            }
        }
    }
    Ok(Some(start..reader.end()))
}
