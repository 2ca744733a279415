//! Opens data directories.

use std::path::Path;

use crate::redb_engine;
use crate::relaxed::Journaled;
use crate::sled_engine;
use crate::{EngineKind, Storage, StorageError};

/// Records in a sled database.
pub type SledStorage = Journaled<sled_engine::Database>;
/// Records in a redb database.
pub type RedbStorage = Journaled<redb_engine::Database>;

/// Opens the data directory of an engine, creating it if absent, and checks everything in it.
///
/// # Errors
/// `NotADirectory`, `Locked`, `Newer`, `OtherEngine`, `Damaged`, and `Full` or `Io` when the system refuses.
pub fn open(dir: &Path, engine: EngineKind) -> Result<Box<dyn Storage>, StorageError> {
    Ok(match engine {
        EngineKind::Sled => Box::new(open_sled(dir)?),
        EngineKind::Redb => Box::new(open_redb(dir)?),
    })
}

/// Opens a data directory of sled.
///
/// # Errors
/// As [`open`].
pub fn open_sled(dir: &Path) -> Result<SledStorage, StorageError> {
    Journaled::open(sled_engine::open_sled(dir)?)
}

/// Opens a data directory of redb.
///
/// # Errors
/// As [`open`].
pub fn open_redb(dir: &Path) -> Result<RedbStorage, StorageError> {
    Journaled::open(redb_engine::open_redb(dir, redb_engine::CHECKING)?)
}
