//! The default engine: sled 0.34 with guard-rails.
//!
//! What sled lacks is added here: an fsync that is one (`durable`), a checksum per record and a ledger over all of
//! them (`envelope`), parts instead of blobs (`chunks`), the number of the last acknowledged commit outside of the log (`watermark`), a directory that
//! says what it is and who has it (`directory`), and panics that become errors (`database`).
//!
//! Invariants:
//! - At open every record is read and checked, the records add up to the ledger, and the ledger is not behind the
//!   watermark; otherwise the directory does not open.
//! - `Full` is undone: the database is opened again from what is on the disk, and should the failed batch be found
//!   there, it is taken back before anything else is written. Only a process that dies before that leaves it behind.
//! - Any other failed write ends writing and reading until a restart: after a failed fsync the system may hold in memory
//!   what the disk does not have.

mod chunks;
mod database;
mod directory;
mod durable;
mod envelope;
mod nudge;
mod watermark;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use parking_lot::RwLock;
use sled::IVec;

use crate::engine::{flat_key, refuse_engine_space};
use crate::{Batch, Space, Storage, StorageError};
use chunks::Parts;
use database::Database;
use directory::{DataDir, private_dir, sync_dir};
use envelope::{LEDGER_KEY, Ledger};
use nudge::Nudge;
use watermark::Watermark;

/// What must be free besides four times the batch before writing is tried again on a disk that was full: opening
/// writes a snapshot and fills up a segment.
const RESUME_BYTES: u64 = 4 << 20;

/// Records in a sled database.
pub struct SledStorage {
    // Dropped in this order: the directory stays locked until the database is closed.
    inner: RwLock<Inner>,
    nudge: Nudge,
    dir: DataDir,
}

struct Inner {
    /// `None` while it could not be opened again after a failure.
    database: Option<Database>,
    watermark: Watermark,
    /// As of the last acknowledged commit.
    ledger: Ledger,
    /// What takes the last failed commit back, until the database has been opened again.
    undo: Option<Undo>,
    /// The disk was full: look for room before trying again.
    starved: bool,
    /// Writing and reading have ended with this error.
    refused: Option<StorageError>,
}

/// Changes by flat key, in the stored form; `None` removes.
type Changes = BTreeMap<Vec<u8>, Option<IVec>>;

struct Undo {
    before: Changes,
    /// The ledger if the failed commit has reached the disk after all.
    reached: Ledger,
}

/// Opens the data directory, creating it if absent, and checks everything in it.
///
/// # Errors
/// `NotADirectory`, `Locked`, `Newer`, `Damaged`, and `Full` or `Io` when the system refuses.
pub fn open_sled(dir: &Path) -> Result<SledStorage, StorageError> {
    let dir = DataDir::open(dir)?;
    let nudge = Nudge::spawn().map_err(|error| StorageError::Io {
        what: format!("starting a thread: {error}"),
    })?;
    let mark_path = dir.watermark();
    let (watermark, acknowledged) = Watermark::open(&mark_path)
        .map_err(|error| StorageError::from_io("reading", &mark_path, &error))?;
    let acknowledged = acknowledged.unwrap_or(0);
    if !dir.database().exists() {
        create_database(&dir, acknowledged)?;
    }
    let database = Database::open(&dir.database())?;
    let ledger = match database
        .verify()
        .and_then(|ledger| not_behind(ledger, acknowledged, &dir))
    {
        Ok(ledger) => ledger,
        Err(error) => {
            database.give_up();
            return Err(error);
        }
    };
    tracing::info!(path = %dir.path().display(), records = ledger.records, commits = ledger.commits, "storage opened");
    let inner = Inner {
        database: Some(database),
        watermark,
        ledger,
        undo: None,
        starved: false,
        refused: None,
    };
    Ok(SledStorage {
        inner: RwLock::new(inner),
        nudge,
        dir,
    })
}

fn config(path: &Path) -> sled::Config {
    // No timer: every commit flushes. (`mode` is not set, because no code of sled 0.34 reads it.)
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(database::CACHE_BYTES)
        .flush_every_ms(None);
    config.segment_size(chunks::SEGMENT)
}

/// Creates the database under another name first, so that one under its own name is complete.
fn create_database(dir: &DataDir, acknowledged: u64) -> Result<(), StorageError> {
    let (path, unfinished) = (dir.database(), dir.unfinished_database());
    if acknowledged > 0 {
        let what = format!("the database has gone, but commit {acknowledged} was acknowledged");
        return Err(StorageError::Damaged {
            what,
            where_: path.display().to_string(),
        });
    }
    let failed = |error: std::io::Error| StorageError::from_io("creating", &unfinished, &error);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    private_dir().create(&unfinished).map_err(failed)?;
    Database::open(&unfinished)?.close()?;
    sync_dir(&unfinished)
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync_dir(dir.path()))
        .map_err(failed)
}

fn not_behind(ledger: Ledger, acknowledged: u64, dir: &DataDir) -> Result<Ledger, StorageError> {
    if ledger.commits >= acknowledged {
        return Ok(ledger);
    }
    let what = format!(
        "the log ends at commit {} but commit {acknowledged} was acknowledged (to accept the loss, delete the file {})",
        ledger.commits,
        dir.watermark().display()
    );
    Err(StorageError::Damaged {
        what,
        where_: dir.database().display().to_string(),
    })
}

impl Storage for SledStorage {
    fn engine(&self) -> &'static str {
        "sled"
    }

    fn is_volatile(&self) -> bool {
        false
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let inner = self.inner.read();
        if space == Space::ENGINE {
            return Ok(None);
        }
        let flat = flat_key(space, key);
        let Some(stored) = inner.readable()?.stored(&flat)? else {
            return Ok(None);
        };
        chunks::value(inner.readable()?, &flat, &stored).map(|value| Some(value.into_owned()))
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let inner = self.inner.read();
        if space == Space::ENGINE {
            return Ok(());
        }
        let database = inner.readable()?;
        database.scan(&flat_key(space, prefix), &mut |flat, stored| {
            let value = chunks::value(database, flat, stored)?;
            Ok(visit(flat.get(1..).unwrap_or_default(), &value))
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        refuse_engine_space(batch)?;
        let mut inner = self.inner.write();
        if let Some(error) = &inner.refused {
            return Err(error.clone());
        }
        if inner.starved {
            self.dir
                .probe(RESUME_BYTES.saturating_add((batch.bytes() as u64).saturating_mul(4)))?;
        }
        self.open_again(&mut inner)?;
        let (changes, undo) = plan(inner.readable()?, batch, inner.ledger)?;
        if changes.is_empty() {
            return Ok(());
        }
        let reached = undo.reached;
        match inner.write(&changes, reached, &self.nudge) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.recover(&mut inner, undo, error)),
        }
    }
}

impl SledStorage {
    /// Opens the database again if a failure closed it, and takes the failed commit back if it has reached the disk.
    fn open_again(&self, inner: &mut Inner) -> Result<(), StorageError> {
        if inner.database.is_some() {
            return Ok(());
        }
        let database = Database::open(&self.dir.database())?;
        let found = match database.verify() {
            Ok(found) => found,
            Err(error) => {
                database.give_up();
                return Err(error);
            }
        };
        let undo = inner.undo.take();
        inner.database = Some(database);
        if found.same_content(&inner.ledger) && found.commits >= inner.ledger.commits {
            inner.ledger = found;
            return Ok(());
        }
        match undo {
            Some(undo) if undo.reached == found => {
                let ledger = Ledger {
                    commits: found.commits.saturating_add(1),
                    ..inner.ledger
                };
                let Err(error) = inner.write(&undo.before, ledger, &self.nudge) else {
                    return Ok(());
                };
                inner.undo = Some(undo);
                match inner.close() {
                    Err(error) => Err(inner.refuse(error)),
                    Ok(()) if error == StorageError::Full => Err(error),
                    Ok(()) => Err(inner.refuse(error)),
                }
            }
            _ => {
                let what = format!(
                    "the log ends at commit {}, which is not the last one written",
                    found.commits
                );
                let error = StorageError::Damaged {
                    what,
                    where_: self.dir.database().display().to_string(),
                };
                Err(inner.refuse(error))
            }
        }
    }

    /// Deals with a failed write and gives the error to report.
    fn recover(&self, inner: &mut Inner, undo: Undo, error: StorageError) -> StorageError {
        if error != StorageError::Full {
            return inner.refuse(error);
        }
        tracing::warn!(
            "the disk of the data directory is full; writes are refused until there is room"
        );
        if let Err(error) = inner.close() {
            return inner.refuse(error);
        }
        inner.starved = true;
        inner.undo = Some(undo);
        // At once, for the sake of reads; while the disk is full this may fail, and the next commit tries again.
        if let Err(error) = self.open_again(inner) {
            tracing::warn!(%error, "the database stays closed until there is room");
        }
        StorageError::Full
    }
}

impl Inner {
    fn readable(&self) -> Result<&Database, StorageError> {
        match (&self.refused, &self.database) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(database)) => Ok(database),
            (None, None) => Err(StorageError::Full),
        }
    }

    fn write(
        &mut self,
        changes: &Changes,
        ledger: Ledger,
        nudge: &Nudge,
    ) -> Result<(), StorageError> {
        let Some(database) = &mut self.database else {
            return Err(StorageError::Full);
        };
        let mut batch = sled::Batch::default();
        for (key, stored) in changes {
            match stored {
                Some(stored) => batch.insert(key.as_slice(), stored.clone()),
                None => batch.remove(key.as_slice()),
            }
        }
        batch.insert(LEDGER_KEY, ledger.seal());
        database.write(batch, nudge)?;
        self.ledger = ledger;
        self.starved = false;
        if let Err(error) = self.watermark.write(ledger.commits) {
            // The commit is on the disk all the same; only the evidence against a later loss is weaker.
            tracing::warn!(%error, commit = ledger.commits, "the watermark could not be written");
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.database.take().map_or(Ok(()), Database::close)
    }

    fn refuse(&mut self, error: StorageError) -> StorageError {
        tracing::error!(%error, "storage is switched off until a restart");
        if let Err(error) = self.close() {
            tracing::error!(%error, "the database could not be closed either");
        }
        self.refused = Some(match &error {
            StorageError::Io { what } => StorageError::Io {
                what: format!("{what} (storage is switched off until a restart)"),
            },
            other => other.clone(),
        });
        error
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        if let Err(error) = self.inner.get_mut().close() {
            tracing::error!(%error, "everything acknowledged is on the disk, but the database could not be closed");
        }
    }
}

/// Works out what a batch really changes, what would take it back, and the ledger after it.
fn plan(
    database: &Database,
    batch: &Batch,
    ledger: Ledger,
) -> Result<(Changes, Undo), StorageError> {
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
        chunks::replace(database, key, value, &mut parts)?;
    }
    for (key, content) in parts {
        let old = database.stored(&key)?;
        let sealed = content.map(|content| envelope::seal(&key, &content));
        if old.as_deref() == sealed.as_ref().map(|(stored, _)| stored.as_slice()) {
            continue;
        }
        if let Some(old) = &old {
            reached.remove(envelope::open(&key, old)?.1);
        }
        let stored = sealed.map(|(stored, weight)| {
            reached.add(weight);
            IVec::from(stored)
        });
        before.insert(key.clone(), old);
        changes.insert(key, stored);
    }
    Ok((changes, Undo { before, reached }))
}

#[cfg(test)]
mod tests;
