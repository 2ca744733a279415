//! Numbered commits whose presence can be checked, and copies of data directories.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod small_disk;

/// Makes of each function a test with every engine.
#[macro_export]
macro_rules! with_each_engine {
    ($($test:ident),* $(,)?) => {
        mod sled { $( #[test] fn $test() { super::$test(storage::EngineKind::Sled); } )* }
        mod redb { $( #[test] fn $test() { super::$test(storage::EngineKind::Redb); } )* }
    };
}

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use storage::{Batch, EngineKind, Space, Storage, StorageError};

/// What every record of a directory says.
pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

const RECORDS: Space = Space(1);

/// Commit `number`: a record of its own, one that every commit overwrites, and the removal of an older one. Every
/// tenth carries a value that is stored in several parts.
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

pub fn content(storage: &impl Storage) -> Result<Content, StorageError> {
    let mut content = Content::new();
    storage.scan(RECORDS, b"", &mut |key, value| {
        content.insert(key.to_vec(), value.to_vec());
        true
    })?;
    Ok(content)
}

/// The number of the last commit found, having checked that all is as that commit left it.
pub fn last_commit(storage: &impl Storage) -> u32 {
    let content = content(storage).unwrap();
    let last = content.get(&b"last"[..]).map_or(0, |last| {
        u32::from_be_bytes(last.as_slice().try_into().unwrap())
    });
    assert!(
        content == content_after(last),
        "the content is not that of commit {last}"
    );
    last
}

/// The file that holds the records, relative to the data directory.
pub fn database_file(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Sled => "sled/db",
        EngineKind::Redb => "records.redb",
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
