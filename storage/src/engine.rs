//! The contract every engine keeps; `testing::conformance` checks it.
//!
//! Invariants:
//! - A batch is applied as a whole or not at all, also across a crash.
//! - When `commit` of a non-volatile engine returns `Ok`, the batch survives the process and the power: it has been
//!   fsynced. When it returns `Full`, nothing of the batch is visible, neither now nor after a restart. After any
//!   other error of `commit` the batch is not visible through this handle, but if the disk itself failed it may turn
//!   out, after a restart, to have been written: such an engine refuses further commits.
//! - Reads see every commit that returned `Ok` before they began.
//! - Keys are ordered as unsigned bytes, a prefix before its extensions.

use crate::{Batch, Space, StorageError};

/// Keys, bytes and durability: what the router needs from an engine.
pub trait Storage: Send + Sync + 'static {
    /// The engine's name in logs and metrics: `"memory"`, `"sled"`, `"redb"`.
    fn engine(&self) -> &'static str;

    /// True if commit is immediate and nothing is kept across a restart.
    fn is_volatile(&self) -> bool;

    /// The value under `key`, or `None`.
    ///
    /// # Errors
    /// `Damaged` if the record's checksum does not fit, `Io` or `Full` if the engine cannot be read now.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the records of `space` whose key starts with `prefix`, in key order, until the visitor returns false.
    ///
    /// The visitor gets the key (without the space) and the value, and must not call back into the engine.
    ///
    /// # Errors
    /// As for `get`; records before the faulty one have been visited.
    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError>;

    /// Applies the batch, all or nothing; on `Ok` it is durable (fsynced) for non-volatile engines.
    ///
    /// # Errors
    /// `Full`, `Io` or `Damaged`; see the module's invariants for what is then visible. `Io` also for a batch that
    /// names [`Space::ENGINE`].
    fn commit(&self, batch: &Batch) -> Result<(), StorageError>;

    /// Applies the batch, all or nothing; on `Ok` it has reached the operating system, so that it survives the process.
    /// It survives the power once a later `commit` or `sync` has returned `Ok`. An engine may sync at once.
    ///
    /// # Errors
    /// As for `commit`.
    fn commit_relaxed(&self, batch: &Batch) -> Result<(), StorageError> {
        self.commit(batch)
    }

    /// Makes durable what relaxed commits left.
    ///
    /// # Errors
    /// As for `commit`; what was to be made durable stays visible.
    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Refuses batches that would overwrite an engine's own records.
pub(crate) fn refuse_engine_space(batch: &Batch) -> Result<(), StorageError> {
    if batch.ops().iter().any(|op| op.space() == Space::ENGINE) {
        return Err(StorageError::Io {
            what: "a batch named space 255, which belongs to the engine".into(),
        });
    }
    Ok(())
}

/// The key as engines with one flat key space store it.
pub(crate) fn flat_key(space: Space, key: &[u8]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(1 + key.len());
    flat.push(space.0);
    flat.extend_from_slice(key);
    flat
}

impl<S: Storage + ?Sized> Storage for Box<S> {
    fn engine(&self) -> &'static str {
        (**self).engine()
    }

    fn is_volatile(&self) -> bool {
        (**self).is_volatile()
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        (**self).get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        (**self).scan(space, prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        (**self).commit(batch)
    }

    fn commit_relaxed(&self, batch: &Batch) -> Result<(), StorageError> {
        (**self).commit_relaxed(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        (**self).sync()
    }
}
