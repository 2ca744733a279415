//! The second engine: redb 4, one file with checksums of its own, synced at every commit.

mod backend;
mod database;

use std::path::Path;

pub use database::Database;
pub(crate) use database::{CHECKING, TRUSTING};

use crate::StorageError;
use crate::disk::{Guarded, Reader};

/// Records in a redb database.
pub(crate) type RedbEngine = Guarded<Database>;

/// Opens the data directory, creating it if absent, and checks everything in it.
///
/// # Errors
/// As [`Guarded::open`].
pub(crate) fn open_redb(
    dir: &Path,
    options: database::Options,
    reader: Reader<'_>,
) -> Result<RedbEngine, StorageError> {
    Guarded::open(dir, options, reader)
}
