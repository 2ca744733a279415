//! The arguments of a call, which its caller may send in parts.
//!
//! They are kept while the call waits for a callee, and after that for as long as another callee may
//! have to take over; bounded in number and bytes.

use crate::limits::RealmLimits;
use crate::model::Payload;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// In which ways any of the arguments are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seals {
    /// Sealed values.
    pub sealed: bool,
    /// A sealed binary in the place of the list.
    pub bare: bool,
}

/// What a caller sent so far.
#[derive(Clone, Debug)]
pub struct Parts {
    kept: SmallVec<[Arc<Payload>; 1]>,
    bytes: usize,
    is_whole: bool,
}

impl Parts {
    /// The first part, which in most calls is the only one. It is as large as a message may be.
    #[must_use]
    pub fn new(first: Arc<Payload>) -> Parts {
        Parts {
            bytes: first.len(),
            kept: smallvec![first],
            is_whole: true,
        }
    }

    /// Keeps one more; answers whether there was room.
    pub fn push(&mut self, part: Arc<Payload>, limits: &RealmLimits) -> bool {
        let bytes = self.bytes.saturating_add(part.len());
        let has_room =
            self.kept.len() < limits.parts_per_call && bytes <= limits.part_bytes_per_call;
        if self.is_whole && has_room {
            self.bytes = bytes;
            self.kept.push(part);
        }
        has_room
    }

    /// How they are sealed.
    #[must_use]
    pub fn seals(&self) -> Seals {
        let mut seals = Seals::default();
        for part in &self.kept {
            seals.sealed |= !part.is_opened_by(false, true);
            seals.bare |= !part.is_opened_by(true, false);
        }
        seals
    }

    /// Nobody else will need them.
    pub fn forget(&mut self) {
        self.kept.clear();
        (self.bytes, self.is_whole) = (0, false);
    }

    /// Whether another callee could still be given everything.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// In order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Payload>> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn parts_are_bounded_in_number_and_bytes() {
        let limits = RealmLimits {
            parts_per_call: 3,
            part_bytes_per_call: 10,
            ..RealmLimits::default()
        };
        let part = |len: usize| Arc::new(Payload::bytes(Bytes::from(vec![b'x'; len]), false));
        let mut few = Parts::new(part(1));
        assert!(few.push(part(1), &limits) && few.push(part(1), &limits));
        assert!(!few.push(part(1), &limits), "a fourth");
        let mut large = Parts::new(part(8));
        assert!(large.push(part(2), &limits));
        assert!(!large.push(part(1), &limits), "an eleventh byte");
        assert_eq!((large.iter().len(), large.is_whole()), (2, true));
        large.forget();
        assert_eq!((large.iter().len(), large.is_whole()), (0, false));
    }
}
