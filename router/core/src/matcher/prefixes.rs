//! String prefixes in one ordered map, in which each step of a match jumps to the next shorter candidate.

use super::Found;
use super::ids::{Ids, Sets};
use crate::model::{Pattern, Topic};
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::ops::Bound;

/// String prefixes -> the ids under them.
#[derive(Debug, Default)]
pub(super) struct Prefixes(BTreeMap<CompactString, Ids>);

impl Prefixes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `id` under the prefix.
    pub(super) fn insert(&mut self, prefix: &CompactString, id: u32, sets: &mut Sets) {
        let ids = self.0.entry(prefix.clone()).or_insert(Ids::NONE);
        sets.add(ids, id);
    }

    /// Takes `id` away; answers whether it was there.
    pub(super) fn remove(&mut self, prefix: &str, id: u32, sets: &mut Sets) -> bool {
        let Some(ids) = self.0.get_mut(prefix) else {
            return false;
        };
        let was_there = sets.take(ids, id);
        if ids.is_empty() {
            self.0.remove(prefix);
        }
        was_there
    }

    /// The ids under the prefix.
    pub(super) fn under(&self, prefix: &str) -> Ids {
        self.0.get(prefix).copied().unwrap_or(Ids::NONE)
    }

    /// Appends the ids of every prefix of the topic, from short to long; those that do not name its first level only if
    /// it need not be named.
    pub(super) fn find(
        &self,
        topic: &Topic,
        named_only: bool,
        reserved: &str,
        sets: &Sets,
        found: &mut Found,
    ) {
        let from = found.len();
        self.find_from_long_to_short(topic, |prefix, ids| {
            let is_named = || Pattern::Prefix(prefix.clone()).matches(topic, reserved);
            if !named_only || is_named() {
                sets.collect(ids, found);
            }
        });
        if let Some(prefixes) = found.get_mut(from..) {
            prefixes.reverse();
        }
    }

    /// The greatest key that does not exceed the topic is the longest candidate; if it is no prefix,
    /// every prefix of the topic is at most as long as what the two have in common.
    fn find_from_long_to_short(&self, topic: &Topic, mut each: impl FnMut(&CompactString, Ids)) {
        let text = topic.text();
        let mut upper: Bound<&str> = Bound::Included(text);
        while let Some((prefix, ids)) = self
            .0
            .range::<str, _>((Bound::Unbounded, upper))
            .next_back()
        {
            if text.starts_with(&**prefix) {
                each(prefix, *ids);
                upper = Bound::Excluded(text.get(..prefix.len()).unwrap_or_default());
            } else {
                upper = Bound::Included(common_prefix(text, prefix));
            }
        }
    }
}

fn common_prefix<'a>(text: &'a str, other: &str) -> &'a str {
    let same = text
        .bytes()
        .zip(other.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let mut end = same;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
