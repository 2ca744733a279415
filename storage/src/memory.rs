//! The engine that keeps nothing: an ordered map behind a lock.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::engine::{flat_key, refuse_engine_space};
use crate::{Batch, Space, Storage, StorageError};

/// Records in memory only; for `--memory` and for tests.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    records: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryStorage {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.records.read().get(&flat_key(space, key)).cloned())
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let first = flat_key(space, prefix);
        let records = self.records.read();
        for (key, value) in records.range(first.clone()..) {
            if !key.starts_with(&first) || !visit(&key[1..], value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        refuse_engine_space(batch)?;
        let mut records = self.records.write();
        for op in batch.ops() {
            let key = flat_key(op.space(), op.key());
            match op.value() {
                Some(value) => records.insert(key, value.to_vec()),
                None => records.remove(&key),
            };
        }
        Ok(())
    }
}
