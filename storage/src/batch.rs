//! What is written: records in spaces, collected into batches.
//!
//! A record is a key and a value, both plain bytes, in one of 255 usable spaces. A batch is an ordered list of puts and
//! deletes that an engine applies as a whole or not at all; later operations on a key win over earlier ones.

/// A table: the first byte of every key on disk. Space 255 belongs to the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u8);

impl Space {
    /// The space engines keep their own bookkeeping in; a batch that names it is refused.
    pub const ENGINE: Space = Space(u8::MAX);
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes the record, replacing a former value.
    Put {
        /// The table.
        space: Space,
        /// The key inside the table; may be empty.
        key: Vec<u8>,
        /// The new value; may be empty.
        value: Vec<u8>,
    },
    /// Removes the record; removing an absent one is no error.
    Delete {
        /// The table.
        space: Space,
        /// The key inside the table.
        key: Vec<u8>,
    },
}

/// What one operation costs in a queue besides its bytes: the allocations and the enum around them.
const OP_OVERHEAD: usize = 64;

impl Op {
    /// The table the operation touches.
    #[must_use]
    pub fn space(&self) -> Space {
        match self {
            Op::Put { space, .. } | Op::Delete { space, .. } => *space,
        }
    }

    /// The key the operation touches.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }

    /// The value written, `None` for a delete.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Op::Put { value, .. } => Some(value),
            Op::Delete { .. } => None,
        }
    }

    fn weight(&self) -> usize {
        OP_OVERHEAD + self.key().len() + self.value().map_or(0, <[u8]>::len)
    }
}

/// An ordered list of changes that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a write of `value` under `key`.
    pub fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.push(Op::Put {
            space,
            key: key.into(),
            value: value.into(),
        });
    }

    /// Adds a removal of `key`.
    pub fn delete(&mut self, space: Space, key: impl Into<Vec<u8>>) {
        self.push(Op::Delete {
            space,
            key: key.into(),
        });
    }

    /// Adds one operation.
    pub fn push(&mut self, op: Op) {
        self.bytes = self.bytes.saturating_add(op.weight());
        self.ops.push(op);
    }

    /// Moves the operations of `other` behind those already here.
    pub fn append(&mut self, other: Batch) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        if self.ops.is_empty() {
            self.ops = other.ops;
        } else {
            self.ops.extend(other.ops);
        }
    }

    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Its weight in a queue, in bytes: keys, values and a fixed overhead per operation.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The operations in the order they were added.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

impl FromIterator<Op> for Batch {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        let mut batch = Batch::new();
        ops.into_iter().for_each(|op| batch.push(op));
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn append_keeps_order_and_adds_weight() {
        let mut first = Batch::new();
        first.put(Space(1), "a", "1");
        let mut second = Batch::new();
        second.delete(Space(1), "a");
        let expected = first.bytes() + second.bytes();
        first.append(second);
        assert_eq!(first.len(), 2);
        assert_eq!(first.bytes(), expected);
        assert_eq!(
            first.ops()[1],
            Op::Delete {
                space: Space(1),
                key: b"a".to_vec()
            }
        );
    }

    #[test]
    fn weight_counts_keys_values_and_each_operation() {
        let mut batch = Batch::new();
        assert_eq!(batch.bytes(), 0);
        batch.put(Space(1), "key", vec![0; 100]);
        assert_eq!(batch.bytes(), OP_OVERHEAD + 103);
        batch.delete(Space(1), "");
        assert_eq!(
            batch.bytes(),
            2 * OP_OVERHEAD + 103,
            "an empty delete is not free: queues are bounded by weight"
        );
    }
}
