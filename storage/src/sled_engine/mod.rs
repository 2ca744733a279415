//! The default engine: sled 0.34.
//!
//! What sled lacks is added here and in `disk`: an fsync that is one (`durable`), parts instead of blobs (`chunks`), and
//! panics and sleeps that end (`database`, `nudge`).

mod chunks;
mod database;
mod durable;
mod nudge;

use std::path::Path;

pub use database::Database;

use crate::StorageError;
use crate::disk::{Guarded, Reader};

/// Records in a sled database.
pub(crate) type SledEngine = Guarded<Database>;

/// Opens the data directory, creating it if absent, and checks everything in it.
///
/// # Errors
/// As [`Guarded::open`].
pub(crate) fn open_sled(dir: &Path, reader: Reader<'_>) -> Result<SledEngine, StorageError> {
    Guarded::open(dir, (), reader)
}

fn config(path: &Path) -> sled::Config {
    // No timer: every commit flushes. (`mode` is not set, because no code of sled 0.34 reads it.)
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(database::CACHE_BYTES)
        .flush_every_ms(None);
    config.segment_size(chunks::SEGMENT)
}

#[cfg(test)]
mod tests;
