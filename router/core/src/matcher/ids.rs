//! The ids under one pattern. Nearly all patterns have one, so that is all that is kept in the place itself; more are a
//! set of their own, so that taking one of very many away stays cheap.

use super::Found;
use slab::Slab;
use std::collections::BTreeSet;

/// The ids under one pattern: none, one, or a set in [`Sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids(u32);

/// Set in the numbers of sets; an id that has it is kept in a set, whatever their number.
const SET: u32 = 1 << 31;

impl Ids {
    /// No id.
    pub(super) const NONE: Ids = Ids(u32::MAX);

    pub(super) fn is_empty(self) -> bool {
        self == Ids::NONE
    }
}

/// The sets of an index.
#[derive(Debug, Default)]
pub(super) struct Sets(Slab<BTreeSet<u32>>);

impl Sets {
    /// Adds `id`.
    pub(super) fn add(&mut self, ids: &mut Ids, id: u32) {
        match *ids {
            Ids::NONE if id & SET == 0 => *ids = Ids(id),
            Ids::NONE => *ids = self.make(&[id]),
            Ids(set) if set & SET != 0 => {
                if let Some(members) = self.set_mut(set) {
                    members.insert(id);
                }
            }
            Ids(one) if one == id => {}
            Ids(one) => *ids = self.make(&[one, id]),
        }
    }

    /// Takes `id` away; answers whether it was there.
    pub(super) fn take(&mut self, ids: &mut Ids, id: u32) -> bool {
        match *ids {
            Ids::NONE => false,
            Ids(set) if set & SET != 0 => {
                let Some(members) = self.set_mut(set) else {
                    return false;
                };
                let was_there = members.remove(&id);
                if members.is_empty() {
                    self.0.remove((set & !SET) as usize);
                    *ids = Ids::NONE;
                }
                was_there
            }
            Ids(one) if one == id => {
                *ids = Ids::NONE;
                true
            }
            Ids(_) => false,
        }
    }

    /// Appends all of them.
    pub(super) fn collect(&self, ids: Ids, found: &mut Found) {
        match ids {
            Ids::NONE => {}
            Ids(set) if set & SET != 0 => {
                found.extend(
                    self.0
                        .get((set & !SET) as usize)
                        .into_iter()
                        .flatten()
                        .copied(),
                );
            }
            Ids(one) => found.push(one),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn make(&mut self, ids: &[u32]) -> Ids {
        let place = self.0.insert(ids.iter().copied().collect());
        // A machine cannot hold 2^31 sets.
        Ids(u32::try_from(place).unwrap_or(u32::MAX) | SET)
    }

    fn set_mut(&mut self, set: u32) -> Option<&mut BTreeSet<u32>> {
        self.0.get_mut((set & !SET) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_needs_no_set_and_an_emptied_set_is_given_back() {
        let mut sets = Sets::default();
        let mut ids = Ids::NONE;
        sets.add(&mut ids, 7);
        sets.add(&mut ids, 7);
        assert!(sets.is_empty());
        for id in [3, SET, u32::MAX] {
            sets.add(&mut ids, id);
        }
        let mut found = Found::new();
        sets.collect(ids, &mut found);
        assert_eq!(found.to_vec(), [3, 7, SET, u32::MAX]);
        assert!(!sets.take(&mut ids, 8));
        for id in [7, u32::MAX, 3, SET] {
            assert!(sets.take(&mut ids, id));
            assert!(!sets.take(&mut ids, id));
        }
        assert!(ids.is_empty() && sets.is_empty());
    }

    #[test]
    fn an_id_that_looks_like_a_set_is_an_id() {
        let mut sets = Sets::default();
        let mut ids = Ids::NONE;
        sets.add(&mut ids, u32::MAX);
        let mut found = Found::new();
        sets.collect(ids, &mut found);
        assert_eq!(found.to_vec(), [u32::MAX]);
    }
}
