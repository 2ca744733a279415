//! The index. Exact patterns are one hash lookup; level patterns a trie walked iteratively, so that
//! no filter can exhaust a stack; string prefixes one ordered map. The cost of a match is bounded by
//! the nodes that agree with the topic so far, never by the number of patterns.

use super::Found;
use super::ids::{Ids, Sets};
use super::prefixes::Prefixes;
use super::trie::Trie;
use crate::model::{Pattern, Topic};
use bytestring::ByteString;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// Patterns -> the ids that were inserted with them.
#[derive(Debug)]
pub struct Index {
    exact: HashTable<Exact>,
    hasher: RandomState,
    trie: Trie,
    prefixes: Prefixes,
    sets: Sets,
    reserved: ByteString,
}

#[derive(Debug)]
struct Exact {
    topic: Topic,
    ids: Ids,
}

impl Index {
    /// An empty index; topics under the first level `reserved` (and `$…`) must be named.
    #[must_use]
    pub fn new(reserved: ByteString) -> Index {
        Index {
            exact: HashTable::new(),
            hasher: RandomState::default(),
            trie: Trie::new(),
            prefixes: Prefixes::default(),
            sets: Sets::default(),
            reserved,
        }
    }

    /// Adds `id` under `pattern`; once, however often it is added.
    pub fn insert(&mut self, pattern: &Pattern, id: u32) {
        let sets = &mut self.sets;
        match pattern {
            Pattern::Exact(topic) => {
                let hasher = &self.hasher;
                let hash_of = |known: &Exact| hasher.hash_one(&known.topic);
                let hash = hasher.hash_one(topic);
                let known = self
                    .exact
                    .entry(hash, |known| known.topic == *topic, hash_of);
                let new = || Exact {
                    topic: topic.clone(),
                    ids: Ids::NONE,
                };
                sets.add(&mut known.or_insert_with(new).into_mut().ids, id);
            }
            Pattern::Levels(levels) => self.trie.insert(levels, id, sets),
            Pattern::Prefix(prefix) => self.prefixes.insert(prefix, id, sets),
        }
    }

    /// Takes `id` away from `pattern`; answers whether it was there.
    pub fn remove(&mut self, pattern: &Pattern, id: u32) -> bool {
        match pattern {
            Pattern::Exact(topic) => self.remove_exact(topic, id),
            Pattern::Levels(levels) => self.trie.remove(levels, id, &mut self.sets),
            Pattern::Prefix(prefix) => self.prefixes.remove(prefix, id, &mut self.sets),
        }
    }

    fn remove_exact(&mut self, topic: &Topic, id: u32) -> bool {
        let hash = self.hasher.hash_one(topic);
        let known = self.exact.find_entry(hash, |known| known.topic == *topic);
        let Ok(mut known) = known else {
            return false;
        };
        let was_there = self.sets.take(&mut known.get_mut().ids, id);
        if known.get().ids.is_empty() {
            known.remove();
        }
        was_there
    }

    /// Appends every id whose pattern matches `topic`, each once: exact ones, then prefixes from
    /// short to long, then those with wildcards.
    pub fn find(&self, topic: &Topic, found: &mut Found) {
        let sets = &self.sets;
        sets.collect(self.exact(topic), found);
        if self.prefixes.is_empty() && self.trie.is_empty() {
            return;
        }
        let named_only = crate::model::must_be_named(topic.text(), &self.reserved);
        if !self.prefixes.is_empty() {
            self.prefixes
                .find(topic, named_only, &self.reserved, sets, found);
        }
        if !self.trie.is_empty() {
            self.trie.find(topic.text(), named_only, sets, found);
        }
    }

    /// Appends every id that was inserted with this very pattern.
    pub fn under(&self, pattern: &Pattern, found: &mut Found) {
        let ids = match pattern {
            Pattern::Exact(topic) => self.exact(topic),
            Pattern::Levels(levels) => self.trie.under(levels),
            Pattern::Prefix(prefix) => self.prefixes.under(prefix),
        };
        self.sets.collect(ids, found);
    }

    fn exact(&self, topic: &Topic) -> Ids {
        if self.exact.is_empty() {
            return Ids::NONE;
        }
        let hash = self.hasher.hash_one(topic);
        let known = self.exact.find(hash, |known| known.topic == *topic);
        known.map_or(Ids::NONE, |known| known.ids)
    }

    /// Whether anything matches `topic`.
    #[must_use]
    pub fn matches_any(&self, topic: &Topic) -> bool {
        let mut found = Found::new();
        self.find(topic, &mut found);
        !found.is_empty()
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        let is_empty = self.exact.is_empty() && self.prefixes.is_empty();
        is_empty && self.trie.used() == 0 && self.sets.is_empty()
    }
}
