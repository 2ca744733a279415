//! Opens data directories.

use std::path::Path;

use crate::disk::Reader;
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
    Ok(open_reading(dir, engine, &mut |_, _, _| {})?.0)
}

/// The same, and shows every record to `reader` while it is checked, by space and key. The flag says whether that was
/// all: otherwise commits of a process that ended early were taken in afterwards, and the records are to be read again.
///
/// # Errors
/// As [`open`].
pub fn open_reading(
    dir: &Path,
    engine: EngineKind,
    reader: Reader<'_>,
) -> Result<(Box<dyn Storage>, bool), StorageError> {
    Ok(match engine {
        EngineKind::Sled => {
            let (storage, took_in) = Journaled::open(sled_engine::open_sled(dir, reader)?)?;
            (Box::new(storage), !took_in)
        }
        EngineKind::Redb => {
            let engine = redb_engine::open_redb(dir, redb_engine::CHECKING, reader)?;
            let (storage, took_in) = Journaled::open(engine)?;
            (Box::new(storage), !took_in)
        }
    })
}

/// Opens a data directory of sled.
///
/// # Errors
/// As [`open`].
pub fn open_sled(dir: &Path) -> Result<SledStorage, StorageError> {
    Ok(Journaled::open(sled_engine::open_sled(dir, &mut |_, _, _| {})?)?.0)
}

/// Opens a data directory of redb.
///
/// # Errors
/// As [`open`].
pub fn open_redb(dir: &Path) -> Result<RedbStorage, StorageError> {
    let engine = redb_engine::open_redb(dir, redb_engine::CHECKING, &mut |_, _, _| {})?;
    Ok(Journaled::open(engine)?.0)
}
