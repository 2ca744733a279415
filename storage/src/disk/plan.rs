//! What a batch really changes, and what would take it back.

use std::collections::BTreeMap;

use super::envelope::{self, Ledger};
use super::guarded::Database;
use crate::engine::flat_key;
use crate::{Batch, StorageError};

/// Changes by flat key, in the stored form; `None` removes.
pub type Changes<V> = BTreeMap<Vec<u8>, Option<V>>;

/// Records to write, by flat key and not yet sealed; `None` removes.
pub type Parts = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What takes a commit back.
pub(crate) struct Undo<V> {
    pub before: Changes<V>,
    /// The ledger if the failed commit has reached the disk after all.
    pub reached: Ledger,
}

/// What a commit writes, and what takes it back.
pub(crate) type Planned<V> = (Changes<V>, Undo<V>);

/// Works out what a batch changes, what would take it back, and the ledger after it. `mark` is written with it.
pub(crate) fn plan<D: Database>(
    database: &D,
    batch: &Batch,
    mark: Option<u64>,
    ledger: Ledger,
) -> Result<Planned<D::Stored>, StorageError> {
    let last: BTreeMap<Vec<u8>, Option<&[u8]>> = batch
        .ops()
        .iter()
        .map(|op| (flat_key(op.space(), op.key()), op.value()))
        .collect();
    let (mut changes, mut before) = (Changes::new(), Changes::new());
    let mut reached = Ledger {
        commits: ledger.commits.saturating_add(1),
        ..ledger
    };
    let mut parts = Parts::new();
    for (key, value) in last {
        database.divide(key, value, &mut parts)?;
    }
    if let Some(mark) = mark {
        parts.insert(
            envelope::MARK_KEY.to_vec(),
            Some(mark.to_le_bytes().to_vec()),
        );
    }
    for (key, content) in parts {
        let old = database.stored(&key)?;
        let sealed = content.map(|content| envelope::seal(&key, &content));
        if old.as_ref().map(AsRef::as_ref) == sealed.as_ref().map(|(stored, _)| stored.as_slice()) {
            continue;
        }
        if let Some(old) = &old {
            reached.remove(envelope::open(&key, old.as_ref())?.1);
        }
        let stored = sealed.map(|(stored, weight)| {
            reached.add(weight);
            D::Stored::from(stored)
        });
        before.insert(key.clone(), old);
        changes.insert(key, stored);
    }
    Ok((changes, Undo { before, reached }))
}
