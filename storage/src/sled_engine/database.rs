//! A sled database on our terms: its panics and errors become ours, and a write is on the disk when it returns.
//!
//! sled panics on some damaged files and where it finds itself inconsistent, so that every call that reads its files
//! is guarded.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use sled::IVec;

use super::chunks;
use super::durable::{FileSync, read_through};
use super::nudge::Nudge;
use crate::disk::{self, Changes, LEDGER_KEY, Parts, Visit, caught, failure, opening_error};
use crate::{EngineKind, StorageError};

/// sled's page cache, in bytes: memory is the truth for reads, so that the cache serves only commits.
pub(super) const CACHE_BYTES: u64 = 16 << 20;
/// How often and how long to wait for sled's threads to let go of a database that has just been closed.
const CLOSING_STEP: Duration = Duration::from_millis(5);
const CLOSING_STEPS: u32 = 1000;
/// How long closing may take; a healthy database has nothing left to write.
const CLOSING_TIME: Duration = Duration::from_secs(10);

pub struct Database {
    db: sled::Db,
    files: FileSync,
    nudge: Nudge,
    path: PathBuf,
}

impl disk::Database for Database {
    const KIND: EngineKind = EngineKind::Sled;
    const IS_DIRECTORY: bool = true;
    type Stored = IVec;
    type Options = ();

    fn open(path: &Path, (): &()) -> Result<Self, StorageError> {
        let nudge = Nudge::spawn().map_err(|error| StorageError::Io {
            what: format!("starting a thread: {error}"),
        })?;
        remove_unfinished_snapshots(path)
            .map_err(|error| opening_error("removing a snapshot in", path, &error))?;
        read_through(path).map_err(|error| opening_error("reading", path, &error))?;
        let db = open_sled(path)?;
        let files = FileSync::start(path)
            .map_err(|error| opening_error("syncing the files in", path, &error));
        match files {
            Ok(files) => Ok(Self {
                db,
                files,
                nudge,
                path: path.to_owned(),
            }),
            Err(error) => {
                give_up(db, path);
                Err(error)
            }
        }
    }

    /// sled's last flush may fail, but everything acknowledged has been synced before.
    fn close(self) -> Result<(), StorageError> {
        close(self.db, &self.path)
    }

    fn give_up(self) {
        give_up(self.db, &self.path);
    }

    fn stored(&self, flat_key: &[u8]) -> Result<Option<IVec>, StorageError> {
        guarded("reading", &self.path, || self.db.get(flat_key))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let mut records = self.db.scan_prefix(prefix);
        while let Some((key, stored)) =
            guarded("reading", &self.path, || records.next().transpose())?
        {
            if !visit(&key, &stored)? {
                break;
            }
        }
        Ok(())
    }

    /// In one sled batch.
    fn write(&mut self, changes: &Changes<IVec>, ledger: Vec<u8>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for (key, stored) in changes {
            match stored {
                Some(stored) => batch.insert(key.as_slice(), stored.clone()),
                None => batch.remove(key.as_slice()),
            }
        }
        batch.insert(LEDGER_KEY, ledger);
        let db = &self.db;
        guarded("writing", &self.path, || db.apply_batch(batch))?;
        guarded("flushing", &self.path, || self.nudge.flush(db))?;
        self.files.sync().map_err(|error| StorageError::Io {
            what: format!("syncing the files in {}: {error}", self.path.display()),
        })
    }

    fn divide(
        &self,
        flat_key: Vec<u8>,
        value: Option<&[u8]>,
        parts: &mut Parts,
    ) -> Result<(), StorageError> {
        chunks::replace(self, flat_key, value, parts)
    }

    fn value<'a>(&self, flat_key: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>, StorageError> {
        chunks::value(self, flat_key, stored)
    }

    fn is_part(flat_key: &[u8]) -> bool {
        chunks::is_part(flat_key)
    }
}

fn give_up(db: sled::Db, path: &Path) {
    if let Err(error) = close(db, path) {
        tracing::error!(%error, "a database that is of no use could not be closed");
    }
}

/// sled flushes when it is dropped, and waits for ever if a blob could not be written before: the place reserved in the
/// buffer for its pointer is never given back (`Log::reserve_inner`). So it is dropped by a thread that may be left.
fn close(db: sled::Db, path: &Path) -> Result<(), StorageError> {
    let failed = |what: &str| {
        Err(StorageError::Io {
            what: format!("closing {}: {what}", path.display()),
        })
    };
    let (done, closed) = channel();
    let spawned = std::thread::Builder::new()
        .name("sled-close".into())
        .spawn(move || {
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(db)));
            // Nobody waits any more if this took too long.
            let _late = done.send(dropped.is_ok());
        });
    match spawned.map(|_detached| closed.recv_timeout(CLOSING_TIME)) {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => failed("sled panicked"),
        Ok(Err(_)) => failed("sled does not let go of its files"),
        Err(error) => failed(&format!("starting a thread: {error}")),
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, StorageError> {
    let mut steps = 0;
    loop {
        match guarded_sled("opening", path, || super::config(path).open())? {
            Ok(db) => return Ok(db),
            // Our own lock is held, so the one in the way is a thread of ours that has not finished closing.
            Err(sled::Error::Io(error)) if is_locked(&error) && steps < CLOSING_STEPS => {
                steps += 1;
                std::thread::sleep(CLOSING_STEP);
            }
            Err(error) => return Err(translate("opening", path, error)),
        }
    }
}

/// sled 0.34 wraps a lock it did not get into an error of kind `Other` with this text (`config.rs`).
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

/// A crash while sled writes a snapshot leaves `snap.*.generating`, which sled then takes for the newest snapshot and
/// refuses as corrupt. The older snapshot and the log are still complete, so the torn one can go.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removed a snapshot whose writing had been interrupted");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn guarded<T>(
    doing: &str,
    path: &Path,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StorageError> {
    guarded_sled(doing, path, call)?.map_err(|error| translate(doing, path, error))
}

fn guarded_sled<T>(
    doing: &str,
    path: &Path,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<sled::Result<T>, StorageError> {
    caught("sled", doing, path, call)
}

fn translate(doing: &str, path: &Path, error: sled::Error) -> StorageError {
    match error {
        sled::Error::Io(error) => opening_error(doing, path, &error),
        other => failure(doing, path, other),
    }
}
