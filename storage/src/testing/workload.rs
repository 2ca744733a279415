//! Numbered commits whose presence can be checked.

use std::collections::BTreeMap;

use crate::{Batch, Space, Storage, StorageError};

/// What every record says.
pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

const RECORDS: Space = Space(1);

/// Commit `number`: a record of its own, one that every commit overwrites, and the removal of an older one. Every
/// tenth carries a value that some engines store in several parts.
#[must_use]
pub fn numbered(number: u32) -> Batch {
    let mut batch = Batch::new();
    let length = if number.is_multiple_of(10) {
        150_000
    } else {
        200
    };
    batch.put(RECORDS, number.to_be_bytes(), vec![number as u8; length]);
    batch.put(RECORDS, "last", number.to_be_bytes());
    if let Some(old) = number.checked_sub(15) {
        batch.delete(RECORDS, old.to_be_bytes());
    }
    batch
}

/// What must be there after commits 1 to `last`.
#[must_use]
pub fn content_after(last: u32) -> Content {
    let mut content = Content::new();
    for number in 1..=last {
        for op in numbered(number).ops() {
            match op.value() {
                Some(value) => content.insert(op.key().to_vec(), value.to_vec()),
                None => content.remove(op.key()),
            };
        }
    }
    content
}

/// What is there.
///
/// # Errors
/// Those of the engine.
pub fn content(storage: &impl Storage) -> Result<Content, StorageError> {
    let mut content = Content::new();
    storage.scan(RECORDS, b"", &mut |key, value| {
        content.insert(key.to_vec(), value.to_vec());
        true
    })?;
    Ok(content)
}

/// The number of the last commit, if all is as that commit left it.
///
/// # Errors
/// If it is not, or the engine fails.
pub fn found_commit(storage: &impl Storage) -> Result<u32, String> {
    let content = content(storage).map_err(|error| error.to_string())?;
    let last = content.get(&b"last"[..]).map_or(Some(0), |last| {
        last.as_slice().try_into().ok().map(u32::from_be_bytes)
    });
    match last {
        Some(last) if content == content_after(last) => Ok(last),
        _ => Err(format!("the content is not that of commit {last:?}")),
    }
}
