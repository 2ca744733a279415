//! Which of many patterns match a topic: one index for everything that is matched.

mod ids;
mod index;
#[cfg(test)]
mod oracle;
mod prefixes;
#[cfg(test)]
mod tests;
mod trie;

pub use index::Index;

/// The ids found for one topic; most topics match few.
pub type Found = smallvec::SmallVec<[u32; 8]>;
