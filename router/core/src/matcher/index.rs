//! The index. Exact patterns are one hash lookup; level patterns a trie walked iteratively, so that
//! no filter can exhaust a stack; string prefixes one ordered map in which each step jumps to the
//! next shorter candidate. The cost of a match is bounded by the nodes that agree with the topic so
//! far, never by the number of patterns.

use crate::model::{Level, Pattern, Topic};
use bytestring::ByteString;
use foldhash::quality::RandomState;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// The ids found for one topic; most topics match few.
pub type Found = SmallVec<[u32; 8]>;

type Ids = SmallVec<[u32; 1]>;

/// Patterns -> the ids that were inserted with them.
#[derive(Debug)]
pub struct Index {
    exact: HashMap<Topic, Ids, RandomState>,
    trie: Trie,
    prefixes: BTreeMap<ByteString, Ids>,
    reserved: ByteString,
}

impl Index {
    /// An empty index; topics under the first level `reserved` (and `$…`) must be named.
    #[must_use]
    pub fn new(reserved: ByteString) -> Index {
        Index {
            exact: HashMap::default(),
            trie: Trie::new(),
            prefixes: BTreeMap::new(),
            reserved,
        }
    }

    /// Adds `id` under `pattern`.
    pub fn insert(&mut self, pattern: &Pattern, id: u32) {
        match pattern {
            Pattern::Exact(topic) => {
                self.exact.entry(topic.clone()).or_default().push(id);
            }
            Pattern::Levels(levels) => self.trie.insert(levels, id),
            Pattern::Prefix(prefix) => self.prefixes.entry(prefix.clone()).or_default().push(id),
        }
    }

    /// Takes `id` away from `pattern`; answers whether it was there.
    pub fn remove(&mut self, pattern: &Pattern, id: u32) -> bool {
        match pattern {
            Pattern::Exact(topic) => {
                let Some(ids) = self.exact.get_mut(topic) else {
                    return false;
                };
                let found = take(ids, id);
                if ids.is_empty() {
                    self.exact.remove(topic);
                }
                found
            }
            Pattern::Levels(levels) => self.trie.remove(levels, id),
            Pattern::Prefix(prefix) => {
                let Some(ids) = self.prefixes.get_mut(prefix) else {
                    return false;
                };
                let found = take(ids, id);
                if ids.is_empty() {
                    self.prefixes.remove(prefix);
                }
                found
            }
        }
    }

    /// Appends every id whose pattern matches `topic`, each once: exact ones, then prefixes from
    /// short to long, then those with wildcards.
    pub fn find(&self, topic: &Topic, found: &mut Found) {
        if let Some(ids) = self.exact.get(topic) {
            found.extend_from_slice(ids);
        }
        let named_only = crate::model::must_be_named(topic.text(), &self.reserved);
        if !self.prefixes.is_empty() {
            let from = found.len();
            self.find_prefixes(topic, named_only, found);
            if let Some(prefixes) = found.get_mut(from..) {
                prefixes.reverse();
            }
        }
        if !self.trie.is_empty() {
            self.trie.find(topic.text(), named_only, found);
        }
    }

    /// Whether anything matches `topic`.
    #[must_use]
    pub fn matches_any(&self, topic: &Topic) -> bool {
        let mut found = Found::new();
        self.find(topic, &mut found);
        !found.is_empty()
    }

    /// The greatest key that does not exceed the topic is the longest candidate; if it is no prefix,
    /// every prefix of the topic is at most as long as what the two have in common. So they are
    /// found from long to short.
    fn find_prefixes(&self, topic: &Topic, named_only: bool, found: &mut Found) {
        let text = topic.text();
        let mut upper: Bound<&str> = Bound::Included(text);
        while let Some((prefix, ids)) = self
            .prefixes
            .range::<str, _>((Bound::Unbounded, upper))
            .next_back()
        {
            if text.starts_with(&**prefix) {
                let pattern = Pattern::Prefix(prefix.clone());
                if !named_only || pattern.matches(topic, &self.reserved) {
                    found.extend_from_slice(ids);
                }
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

fn take(ids: &mut Ids, id: u32) -> bool {
    match ids.iter().position(|&known| known == id) {
        Some(place) => {
            ids.swap_remove(place);
            true
        }
        None => false,
    }
}

type NodeId = u32;
const ROOT: NodeId = 0;

/// A trie over levels in one arena; freed nodes are reused.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Node {
    /// level -> child
    children: HashMap<ByteString, NodeId, RandomState>,
    one: Option<NodeId>,
    /// Patterns that end here.
    here: Ids,
    /// Patterns that go on with the rest of the topic from here.
    rest: Ids,
}

impl Node {
    fn is_unused(&self) -> bool {
        self.children.is_empty()
            && self.one.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

impl Trie {
    fn new() -> Trie {
        Trie {
            nodes: vec![Node::default()],
            free: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.node(ROOT).is_unused()
    }

    /// Node ids come only from this arena, so they are always in range.
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn allocate(&mut self) -> NodeId {
        if let Some(id) = self.free.pop() {
            return id;
        }
        let id = NodeId::try_from(self.nodes.len()).unwrap_or(NodeId::MAX);
        self.nodes.push(Node::default());
        id
    }

    fn insert(&mut self, levels: &[Level], id: u32) {
        let mut at = ROOT;
        for level in levels {
            at = match level {
                Level::Rest => {
                    self.node_mut(at).rest.push(id);
                    return;
                }
                Level::One => match self.node(at).one {
                    Some(next) => next,
                    None => {
                        let next = self.allocate();
                        self.node_mut(at).one = Some(next);
                        next
                    }
                },
                Level::Exact(text) => match self.node(at).children.get(text) {
                    Some(&next) => next,
                    None => {
                        let next = self.allocate();
                        self.node_mut(at).children.insert(text.clone(), next);
                        next
                    }
                },
            };
        }
        self.node_mut(at).here.push(id);
    }

    fn remove(&mut self, levels: &[Level], id: u32) -> bool {
        let mut path: SmallVec<[(NodeId, &Level); 16]> = SmallVec::new();
        let mut at = ROOT;
        let mut ends_in_rest = false;
        for level in levels {
            let next = match level {
                Level::Rest => {
                    ends_in_rest = true;
                    break;
                }
                Level::One => self.node(at).one,
                Level::Exact(text) => self.node(at).children.get(text).copied(),
            };
            let Some(next) = next else { return false };
            path.push((at, level));
            at = next;
        }
        let node = self.node_mut(at);
        let found = take(
            if ends_in_rest {
                &mut node.rest
            } else {
                &mut node.here
            },
            id,
        );
        while self.node(at).is_unused()
            && let Some((parent, level)) = path.pop()
        {
            match level {
                Level::One => self.node_mut(parent).one = None,
                Level::Exact(text) => {
                    self.node_mut(parent).children.remove(text);
                }
                Level::Rest => {}
            }
            *self.node_mut(at) = Node::default();
            self.free.push(at);
            at = parent;
        }
        found
    }

    fn find(&self, topic: &str, named_only: bool, found: &mut Found) {
        // Each entry: a node that agrees with the topic so far, and where its next level starts.
        let mut open: SmallVec<[(NodeId, Option<usize>); 32]> = SmallVec::new();
        open.push((ROOT, Some(0)));
        while let Some((at, start)) = open.pop() {
            let node = self.node(at);
            let by_wildcard = !(named_only && at == ROOT);
            if by_wildcard {
                found.extend_from_slice(&node.rest);
            }
            let Some(start) = start else {
                found.extend_from_slice(&node.here);
                continue;
            };
            let tail = topic.get(start..).unwrap_or_default();
            let (level, next) = match memchr::memchr(b'/', tail.as_bytes()) {
                Some(end) => (tail.get(..end).unwrap_or_default(), Some(start + end + 1)),
                None => (tail, None),
            };
            if let Some(&child) = node.children.get(level) {
                open.push((child, next));
            }
            if let Some(one) = node.one
                && by_wildcard
            {
                open.push((one, next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use super::*;
    use proptest::prelude::*;

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just(String::new()),
            Just("ab".to_owned()),
            Just("é".to_owned()),
            Just("+".to_owned()),
            Just("$s".to_owned()),
            Just("sys".to_owned()),
        ]
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![
            4 => level().prop_map(|l| Level::Exact(l.into())),
            2 => Just(Level::One),
        ];
        let levels = (prop::collection::vec(part, 1..5), any::<bool>()).prop_filter_map(
            "legal",
            |(mut levels, rest)| {
                if rest {
                    levels.push(Level::Rest);
                }
                Pattern::from_levels(levels).ok()
            },
        );
        let prefix = (prop::collection::vec(level(), 0..3), any::<bool>()).prop_filter_map(
            "legal",
            |(levels, open)| {
                let text = levels.join("/") + if open { "/" } else { "" };
                Pattern::prefix(text).ok()
            },
        );
        prop_oneof![3 => levels, 1 => prefix]
    }

    fn topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec(level(), 1..6)
            .prop_filter_map("legal", |levels| Topic::new(levels.join("/")).ok())
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_scan_finds(
            patterns in prop::collection::vec(pattern(), 0..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let mut index = Index::new("sys".into());
            let mut all: Vec<(u32, Pattern)> =
                (0..).zip(patterns).collect();
            for (id, pattern) in &all {
                index.insert(pattern, *id);
            }
            for pick in removed {
                if !all.is_empty() {
                    let (id, pattern) = all.swap_remove(pick.index(all.len()));
                    prop_assert!(index.remove(&pattern, id));
                    prop_assert!(!index.remove(&pattern, id));
                }
            }
            for topic in topics {
                let mut found = Found::new();
                index.find(&topic, &mut found);
                found.sort_unstable();
                prop_assert_eq!(found.to_vec(), oracle::scan(&all, &topic), "topic {:?}", topic);
            }
        }

        #[test]
        fn finds_exact_ones_first_then_prefixes_by_length_then_wildcards(
            patterns in prop::collection::hash_set(pattern(), 0..40),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let mut index = Index::new("sys".into());
            let patterns = Vec::from_iter(patterns);
            for (id, pattern) in (0u32..).zip(&patterns) {
                index.insert(pattern, id);
            }
            for topic in topics {
                let mut found = Found::new();
                index.find(&topic, &mut found);
                let ranks = Vec::from_iter(found.iter().map(|id| match &patterns[*id as usize] {
                    Pattern::Exact(_) => (0, 0),
                    Pattern::Prefix(prefix) => (1, prefix.len()),
                    Pattern::Levels(_) => (2, 0),
                }));
                prop_assert!(ranks.is_sorted(), "topic {:?}: {:?}", topic, ranks);
            }
        }

        #[test]
        fn an_emptied_trie_keeps_no_nodes(patterns in prop::collection::vec(pattern(), 0..30)) {
            let mut index = Index::new("sys".into());
            for (id, pattern) in (0u32..).zip(&patterns) {
                index.insert(pattern, id);
            }
            for (id, pattern) in (0u32..).zip(&patterns) {
                prop_assert!(index.remove(pattern, id));
            }
            prop_assert!(index.exact.is_empty() && index.prefixes.is_empty());
            prop_assert_eq!(index.trie.nodes.len(), index.trie.free.len() + 1);
        }

        #[test]
        fn a_covering_pattern_matches_whatever_the_covered_one_matches(
            a in pattern(), b in pattern(), topics in prop::collection::vec(topic(), 1..30),
        ) {
            if a.covers(&b, "sys") {
                for topic in topics {
                    prop_assert!(!b.matches(&topic, "sys") || a.matches(&topic, "sys"),
                        "{:?} covers {:?} but not at {:?}", a, b, topic);
                }
            }
        }
    }
}
