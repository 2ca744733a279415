//! Numbered commits whose presence can be checked, and copies of data directories.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part"
)]

pub mod small_disk;

/// Makes of each function a test with every engine.
#[macro_export]
macro_rules! with_each_engine {
    ($($test:ident),* $(,)?) => {
        mod sled { $( #[test] fn $test() { super::$test(storage::EngineKind::Sled); } )* }
        mod redb { $( #[test] fn $test() { super::$test(storage::EngineKind::Redb); } )* }
    };
}

use std::fs;
use std::path::Path;

use storage::{EngineKind, Storage};

pub use storage::testing::workload::{content, content_after, numbered};

/// The number of the last commit found, having checked that all is as that commit left it.
pub fn last_commit(storage: &impl Storage) -> u32 {
    storage::testing::workload::found_commit(storage).unwrap()
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
