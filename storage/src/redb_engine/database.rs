//! A redb database on our terms: one table of sealed records, errors and panics that become ours.
//!
//! redb never writes over what the last commit left before the next one is synced, so that a torn commit is not there
//! at the next start. It trusts a file that was closed properly, and may panic on one that was changed since: so every
//! open checks all of its pages, and every call is guarded.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Durability, ReadableDatabase as _, TableDefinition};

use super::backend::{Backend, Wrap};
use crate::disk::{self, Changes, LEDGER_KEY, Visit, caught, failure, opening_error};
use crate::{EngineKind, StorageError};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// redb's page cache, in bytes: memory is the truth for reads, so that the cache serves only commits.
const CACHE_BYTES: usize = 16 << 20;

/// How to open.
#[derive(Clone)]
pub struct Options {
    /// What is put between redb and the file, in tests.
    pub wrap: Option<Arc<Wrap>>,
    /// Whether the checksums of all pages are checked.
    pub check: bool,
}

/// Everything is checked.
pub(crate) const CHECKING: Options = Options {
    wrap: None,
    check: true,
};

/// For tools that want to read what can be read: pages are taken as they are.
pub(crate) const TRUSTING: Options = Options {
    wrap: None,
    check: false,
};

/// A database and the place of its file.
pub struct Database {
    db: redb::Database,
    path: PathBuf,
    /// A write has failed: redb closes with an error then, which says nothing new.
    failed: bool,
}

impl disk::Database for Database {
    const KIND: EngineKind = EngineKind::Redb;
    const IS_DIRECTORY: bool = false;
    type Stored = Vec<u8>;
    type Options = Options;

    fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        let backend = Backend::open(path, options.wrap.as_deref())
            .map_err(|error| opening_error("opening", path, &error))?;
        let db = guarded("opening", path, || {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(options.check)
                .create_with_backend(backend)
        })?;
        let mut database = Self {
            db,
            path: path.to_owned(),
            failed: false,
        };
        match database.create_table() {
            Ok(()) => Ok(database),
            Err(error) => {
                database.give_up();
                Err(error)
            }
        }
    }

    fn close(self) -> Result<(), StorageError> {
        let Self { db, path, failed } = self;
        match guarded("closing", &path, || db.close()) {
            Err(error) if failed => {
                tracing::debug!(%error, "closed after a failure");
                Ok(())
            }
            closed => closed,
        }
    }

    fn give_up(self) {
        let path = self.path.clone();
        if let Err(error) = self.close() {
            tracing::debug!(path = %path.display(), %error, "a database that is of no use could not be closed");
        }
    }

    fn stored(&self, flat_key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        guarded("reading", &self.path, || -> Result<_, redb::Error> {
            let records = self.db.begin_read()?.open_table(RECORDS)?;
            let found = records.get(flat_key)?;
            Ok(found.map(|stored| stored.value().to_vec()))
        })
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let mut records = guarded("reading", &self.path, || -> Result<_, redb::Error> {
            let records = self.db.begin_read()?.open_table(RECORDS)?;
            Ok(records.range(prefix..)?)
        })?;
        while let Some((key, stored)) =
            guarded("reading", &self.path, || records.next().transpose())?
        {
            if !key.value().starts_with(prefix) || !visit(key.value(), stored.value())? {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: &Changes<Vec<u8>>, ledger: Vec<u8>) -> Result<(), StorageError> {
        let written = guarded("writing", &self.path, || -> Result<(), redb::Error> {
            let transaction = self.begin()?;
            {
                let mut records = transaction.open_table(RECORDS)?;
                for (key, stored) in changes {
                    match stored {
                        Some(stored) => records.insert(key.as_slice(), stored.as_slice())?,
                        None => records.remove(key.as_slice())?,
                    };
                }
                records.insert(LEDGER_KEY, ledger.as_slice())?;
            }
            Ok(transaction.commit()?)
        });
        self.failed |= written.is_err();
        written
    }
}

impl Database {
    fn begin(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.db.begin_write()?;
        // The default, said because everything rests on it: on the disk when `commit` returns.
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    /// Reading a table that nobody has made is an error.
    fn create_table(&mut self) -> Result<(), StorageError> {
        let exists = guarded("reading", &self.path, || -> Result<bool, redb::Error> {
            match self.db.begin_read()?.open_table(RECORDS) {
                Ok(_) => Ok(true),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })?;
        if exists {
            return Ok(());
        }
        guarded(
            "creating a table",
            &self.path,
            || -> Result<(), redb::Error> {
                let transaction = self.begin()?;
                transaction.open_table(RECORDS)?;
                Ok(transaction.commit()?)
            },
        )
    }
}

fn guarded<T, E: Into<redb::Error>>(
    doing: &str,
    path: &Path,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, StorageError> {
    caught("redb", doing, path, call)?.map_err(|error| translate(doing, path, error.into()))
}

fn translate(doing: &str, path: &Path, error: redb::Error) -> StorageError {
    match error {
        redb::Error::Io(error) => opening_error(doing, path, &error),
        redb::Error::Corrupted(what) => failure(doing, path, what),
        redb::Error::PreviousIo
        | redb::Error::DatabaseClosed
        | redb::Error::DatabaseAlreadyOpen
        | redb::Error::ValueTooLarge(_)
        | redb::Error::Backend(_) => {
            StorageError::from_io(doing, path, &io::Error::other(error.to_string()))
        }
        other => failure(doing, path, other),
    }
}
