//! Patterns with wildcards, level by level.
//!
//! Nodes lie in one arena and know their parent; the child of a node at a level is found in one table for the whole
//! trie, whose entries are no more than the child's number. So a node costs some 50 bytes whatever its children, and a
//! step of a match is one look into that table; where there is but one child, which is common in the depth of a trie,
//! not even that. A level of the topic is hashed once, however many nodes ask for it.

use super::Found;
use super::ids::{Ids, Sets};
use crate::model::Level;
use compact_str::CompactString;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::BuildHasher as _;

type NodeId = u32;
const ROOT: NodeId = 0;
/// Stands for no node.
const NOWHERE: NodeId = NodeId::MAX;

/// A trie over levels in one arena; freed nodes are reused.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// (parent, level) -> child
    children: HashTable<NodeId>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Node {
    /// The level that leads here from the parent; nothing for a wildcard.
    level: CompactString,
    parent: NodeId,
    /// The child for any one level.
    one: NodeId,
    /// How many children are found by their level.
    named: u32,
    /// The only one of them that there ever were, which is found without the table; [`NOWHERE`] if there were more.
    only: NodeId,
    /// Patterns that end here.
    here: Ids,
    /// Patterns that go on with the rest of the topic from here.
    rest: Ids,
}

impl Node {
    fn new(parent: NodeId, level: &str) -> Node {
        Node {
            level: CompactString::from(level),
            parent,
            one: NOWHERE,
            named: 0,
            only: NOWHERE,
            here: Ids::NONE,
            rest: Ids::NONE,
        }
    }

    fn is_unused(&self) -> bool {
        self.named == 0 && self.one == NOWHERE && self.here.is_empty() && self.rest.is_empty()
    }
}

impl Trie {
    pub(super) fn new() -> Trie {
        Trie {
            nodes: vec![Node::new(NOWHERE, "")],
            free: Vec::new(),
            children: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.node(ROOT).is_unused()
    }

    /// How many nodes are used besides the root.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.nodes.len() - self.free.len() - 1
    }

    /// Adds `id` under the pattern.
    pub(super) fn insert(&mut self, levels: &[Level], id: u32, sets: &mut Sets) {
        let mut at = ROOT;
        for level in levels {
            at = match level {
                Level::Rest => return sets.add(&mut self.node_mut(at).rest, id),
                Level::One => self.one_or_new(at),
                Level::Exact(text) => self.child_or_new(at, text),
            };
        }
        sets.add(&mut self.node_mut(at).here, id);
    }

    /// Takes `id` away; answers whether it was there.
    pub(super) fn remove(&mut self, levels: &[Level], id: u32, sets: &mut Sets) -> bool {
        let Some((at, goes_on)) = self.end_of(levels) else {
            return false;
        };
        let node = self.node_mut(at);
        let ids = if goes_on {
            &mut node.rest
        } else {
            &mut node.here
        };
        let was_there = sets.take(ids, id);
        self.prune(at);
        was_there
    }

    /// The ids under the pattern.
    pub(super) fn under(&self, levels: &[Level]) -> Ids {
        match self.end_of(levels) {
            Some((at, true)) => self.node(at).rest,
            Some((at, false)) => self.node(at).here,
            None => Ids::NONE,
        }
    }

    /// Appends the ids of every pattern that matches the topic; those that do not name its first level only if it need
    /// not be named.
    pub(super) fn find(&self, topic: &str, named_only: bool, sets: &Sets, found: &mut Found) {
        let mut levels = Levels::of(topic, &self.hasher);
        // Each entry: a node that agrees with the topic so far, and the number of levels that led there.
        let mut open: SmallVec<[(NodeId, usize); 32]> = SmallVec::new();
        open.push((ROOT, 0));
        while let Some((at, depth)) = open.pop() {
            let node = self.node(at);
            let by_wildcard = !(named_only && at == ROOT);
            if by_wildcard {
                sets.collect(node.rest, found);
            }
            let Some((level, hash)) = levels.at(depth) else {
                sets.collect(node.here, found);
                continue;
            };
            if node.named > 0
                && let Some(child) = self.child(at, level, hash)
            {
                open.push((child, depth + 1));
            }
            if by_wildcard && node.one != NOWHERE {
                open.push((node.one, depth + 1));
            }
        }
    }

    /// The node where the pattern ends, and whether it goes on with the rest of the topic.
    fn end_of(&self, levels: &[Level]) -> Option<(NodeId, bool)> {
        let mut at = ROOT;
        for level in levels {
            at = match level {
                Level::Rest => return Some((at, true)),
                Level::One => Some(self.node(at).one).filter(|one| *one != NOWHERE)?,
                Level::Exact(text) => self.child(at, text, self.hasher.hash_one(&**text))?,
            };
        }
        Some((at, false))
    }

    /// Frees the node if it leads nowhere any more, and what led to nothing else.
    fn prune(&mut self, mut at: NodeId) {
        while at != ROOT && self.node(at).is_unused() {
            let parent = self.node(at).parent;
            if self.node(parent).one == at {
                self.node_mut(parent).one = NOWHERE;
            } else {
                let hash = self.hash_of(at);
                if let Ok(known) = self.children.find_entry(hash, |child| *child == at) {
                    known.remove();
                }
                let parent = self.node_mut(parent);
                parent.named -= 1;
                parent.only = NOWHERE;
            }
            *self.node_mut(at) = Node::new(NOWHERE, "");
            self.free.push(at);
            at = parent;
        }
    }

    fn one_or_new(&mut self, at: NodeId) -> NodeId {
        let one = self.node(at).one;
        if one != NOWHERE {
            return one;
        }
        let one = self.allocate(Node::new(at, ""));
        self.node_mut(at).one = one;
        one
    }

    fn child_or_new(&mut self, at: NodeId, level: &str) -> NodeId {
        let hash = self.hasher.hash_one(level);
        if let Some(known) = self.child(at, level, hash) {
            return known;
        }
        let child = self.allocate(Node::new(at, level));
        let parent = self.node_mut(at);
        parent.only = if parent.named == 0 { child } else { NOWHERE };
        parent.named += 1;
        let Trie {
            nodes,
            children,
            hasher,
            ..
        } = self;
        let hash_of = |id: &NodeId| {
            let node = &nodes[*id as usize];
            step_hash(node.parent, hasher.hash_one(&*node.level))
        };
        children.insert_unique(step_hash(at, hash), child, hash_of);
        child
    }

    /// The child of `parent` at the level, whose hash is given.
    fn child(&self, parent: NodeId, level: &str, hash: u64) -> Option<NodeId> {
        let only = self.node(parent).only;
        if only != NOWHERE {
            return (self.node(only).level == level).then_some(only);
        }
        let is_it = |id: &NodeId| {
            let node = self.node(*id);
            node.parent == parent && node.level == level
        };
        self.children.find(step_hash(parent, hash), is_it).copied()
    }

    fn hash_of(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        step_hash(node.parent, self.hasher.hash_one(&*node.level))
    }

    fn allocate(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.free.pop() {
            *self.node_mut(id) = node;
            return id;
        }
        // A machine cannot hold 2^32 nodes.
        let id = NodeId::try_from(self.nodes.len()).unwrap_or(NOWHERE);
        self.nodes.push(node);
        id
    }

    /// Node ids come only from this arena, so they are always in range.
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

/// Where a child is to be looked for. The hash of a level is seeded and nobody knows it, so folding in the parent's
/// number by a multiplication leaves it as hard to collide.
fn step_hash(parent: NodeId, level: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let wide = u128::from(level ^ u64::from(parent).wrapping_mul(ODD)) * u128::from(ODD);
    wide as u64 ^ (wide >> 64) as u64
}

/// The levels of a topic with their hashes, each cut off and hashed when it is first asked for.
struct Levels<'a> {
    rest: Option<&'a str>,
    known: SmallVec<[(&'a str, u64); 16]>,
    hasher: &'a RandomState,
}

impl<'a> Levels<'a> {
    fn of(topic: &'a str, hasher: &'a RandomState) -> Levels<'a> {
        Levels {
            rest: Some(topic),
            known: SmallVec::new(),
            hasher,
        }
    }

    /// The level at this depth; `None` behind the last. No depth is left out.
    fn at(&mut self, depth: usize) -> Option<(&'a str, u64)> {
        if depth == self.known.len() {
            let rest = self.rest?;
            let (level, rest) = match memchr::memchr(b'/', rest.as_bytes()) {
                Some(end) => (rest.get(..end)?, rest.get(end + 1..)),
                None => (rest, None),
            };
            self.rest = rest;
            self.known.push((level, self.hasher.hash_one(level)));
        }
        self.known.get(depth).copied()
    }
}
