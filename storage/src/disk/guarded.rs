//! A database with guard-rails: whatever fails, an acknowledged commit is there or its absence is noticed, and what was
//! refused is not there.
//!
//! Invariants:
//! - At open every record is read and checked, the records add up to the ledger, and the ledger is not behind the
//!   watermark; otherwise the directory does not open.
//! - `Full` is undone: the database is opened again from what is on the disk, and should the failed batch be found
//!   there, it is taken back before anything else is written. Only a process that dies before that leaves it behind.
//! - Any other failed write ends writing and reading until a restart: after a failed fsync the system may hold in memory
//!   what the disk does not have.

use std::borrow::Cow;
use std::path::Path;

use parking_lot::RwLock;

use super::directory::DataDir;
use super::envelope::{self, Ledger, MARK_KEY, place};
use super::opening::{create_database, not_behind, verify};
use super::plan::{Changes, Parts, Undo, plan};
use super::watermark::Watermark;
use crate::engine::{flat_key, refuse_engine_space};
use crate::{Batch, EngineKind, Space, Storage, StorageError};

/// What must be free besides four times the batch before writing is tried again on a disk that was full: opening
/// writes too, and engines take space in larger units.
const RESUME_BYTES: u64 = 4 << 20;

/// Is shown records by flat key in their stored form, and answers whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StorageError>;
/// The same with the database they come from.
pub(crate) type Look<'a, D> = &'a mut dyn FnMut(&D, &[u8], &[u8]) -> bool;

/// Is shown records as they were written while they are checked for the first time.
pub type Reader<'a> = &'a mut dyn FnMut(Space, &[u8], &[u8]);

/// What an engine does by itself: sealed records by flat key. None of its calls may panic.
pub trait Database: Sized + Send + Sync + 'static {
    /// Which engine it is.
    const KIND: EngineKind;
    /// Whether the database is a directory, not a file.
    const IS_DIRECTORY: bool;
    /// A record in the stored form.
    type Stored: AsRef<[u8]> + From<Vec<u8>> + Clone + Send + Sync;
    /// What else opening takes.
    type Options: Clone + Send + Sync;

    /// Opens or creates the database in `path` and makes durable what that wrote.
    fn open(path: &Path, options: &Self::Options) -> Result<Self, StorageError>;

    /// Closes it; everything acknowledged is on the disk before.
    fn close(self) -> Result<(), StorageError>;

    /// Closes a database that is of no use; failing at that too is only worth a line in the log.
    fn give_up(self);

    /// The stored form of a record, its checksum not looked at.
    fn stored(&self, flat_key: &[u8]) -> Result<Option<Self::Stored>, StorageError>;

    /// Visits the records whose flat key starts with `prefix` in their stored form.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;

    /// Applies the changes and the sealed ledger, all or nothing, and returns when they are on the disk. After an error
    /// the database is of no use until it is opened again.
    ///
    /// # Errors
    /// `Full` only if it could not write; a sync that fails for lack of room is `Io`, because the system may have
    /// dropped what it had accepted.
    fn write(
        &mut self,
        changes: &Changes<Self::Stored>,
        ledger: Vec<u8>,
    ) -> Result<(), StorageError>;

    /// Adds to `parts` what writing `value` (or removing it) over what is stored now takes.
    fn divide(
        &self,
        flat_key: Vec<u8>,
        value: Option<&[u8]>,
        parts: &mut Parts,
    ) -> Result<(), StorageError> {
        parts.insert(flat_key, value.map(<[u8]>::to_vec));
        Ok(())
    }

    /// The value whose record is `stored`.
    fn value<'a>(&self, flat_key: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>, StorageError> {
        Ok(Cow::Borrowed(envelope::open(flat_key, stored)?.0))
    }

    /// True for the keys in [`Space::ENGINE`] that the engine makes of values.
    fn is_part(_flat_key: &[u8]) -> bool {
        false
    }
}

/// Records in a database of some engine.
pub struct Guarded<D: Database> {
    // Dropped in this order: the directory stays locked until the database is closed.
    pub(crate) inner: RwLock<Inner<D>>,
    options: D::Options,
    dir: DataDir,
}

pub(crate) struct Inner<D: Database> {
    /// `None` while it could not be opened again after a failure.
    database: Option<D>,
    watermark: Watermark,
    /// As of the last acknowledged commit.
    pub ledger: Ledger,
    /// What takes the last failed commit back, until the database has been opened again.
    pub undo: Option<Undo<D::Stored>>,
    /// The disk was full: look for room before trying again.
    pub starved: bool,
    /// Writing and reading have ended with this error.
    refused: Option<StorageError>,
}

impl<D: Database> Guarded<D> {
    /// Opens the data directory, creating it if absent, and checks everything in it. The reader is shown what is
    /// checked; it is all there is if this returns `Ok`.
    ///
    /// # Errors
    /// `NotADirectory`, `Locked`, `Newer`, `OtherEngine`, `Damaged`, and `Full` or `Io` when the system refuses.
    pub(crate) fn open(
        dir: &Path,
        options: D::Options,
        reader: Reader<'_>,
    ) -> Result<Self, StorageError> {
        let dir = DataDir::open(dir, D::KIND)?;
        let mark_path = dir.watermark();
        let (watermark, acknowledged) = Watermark::open(&mark_path)
            .map_err(|error| StorageError::from_io("reading", &mark_path, &error))?;
        let acknowledged = acknowledged.unwrap_or(0);
        if !dir.database().exists() {
            create_database::<D>(&dir, acknowledged, &options)?;
        }
        let database = D::open(&dir.database(), &options)?;
        let ledger = match verify(&database, &dir.database(), reader)
            .and_then(|ledger| not_behind(ledger, acknowledged, &dir))
        {
            Ok(ledger) => ledger,
            Err(error) => {
                database.give_up();
                return Err(error);
            }
        };
        tracing::info!(path = %dir.path().display(), engine = D::KIND.name(), records = ledger.records, commits = ledger.commits, "storage opened");
        let inner = Inner {
            database: Some(database),
            watermark,
            ledger,
            undo: None,
            starved: false,
            refused: None,
        };
        Ok(Self {
            inner: RwLock::new(inner),
            options,
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// The mark that the last marked commit left; `None` before the first.
    pub(crate) fn mark(&self) -> Result<Option<u64>, StorageError> {
        let inner = self.inner.read();
        let Some(stored) = inner.readable()?.stored(MARK_KEY)? else {
            return Ok(None);
        };
        let (value, _) = envelope::open(MARK_KEY, stored.as_ref())?;
        let bytes = value.try_into().map_err(|_| StorageError::Damaged {
            what: format!("a mark has {} bytes instead of 8", value.len()),
            where_: place(MARK_KEY),
        })?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// Opens a directory that exists and checks nothing in it: for tools, which must not write.
    ///
    /// # Errors
    /// As for [`Guarded::open`].
    pub(crate) fn open_unchecked(dir: &Path, options: D::Options) -> Result<Self, StorageError> {
        let dir = DataDir::open(dir, D::KIND)?;
        let mark_path = dir.watermark();
        let (watermark, acknowledged) = Watermark::open(&mark_path)
            .map_err(|error| StorageError::from_io("reading", &mark_path, &error))?;
        let acknowledged = acknowledged.unwrap_or(0);
        if !dir.database().exists() {
            return Err(StorageError::Damaged {
                what: format!("the database has gone; commit {acknowledged} was acknowledged"),
                where_: dir.database().display().to_string(),
            });
        }
        let inner = Inner {
            database: Some(D::open(&dir.database(), &options)?),
            watermark,
            ledger: Ledger {
                commits: acknowledged,
                ..Ledger::default()
            },
            undo: None,
            starved: false,
            refused: None,
        };
        Ok(Self {
            inner: RwLock::new(inner),
            options,
            dir,
        })
    }

    /// The last acknowledged commit; as the watermark says if the directory was opened unchecked.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.inner.read().ledger.commits
    }

    /// Visits everything in its stored form until the visitor returns false.
    pub(crate) fn scan_stored(&self, visit: Look<'_, D>) -> Result<(), StorageError> {
        let inner = self.inner.read();
        let database = inner.readable()?;
        database.scan(&[], &mut |flat, stored| Ok(visit(database, flat, stored)))
    }

    /// [`Storage::commit`] that writes `mark` too.
    pub(crate) fn commit_marked(
        &self,
        batch: &Batch,
        mark: Option<u64>,
    ) -> Result<(), StorageError> {
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
        let (changes, undo) = plan(inner.readable()?, batch, mark, inner.ledger)?;
        if changes.is_empty() {
            return Ok(());
        }
        let reached = undo.reached;
        match inner.write(&changes, reached) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.recover(&mut inner, undo, error)),
        }
    }

    /// Opens the database again if a failure closed it, and takes the failed commit back if it has reached the disk.
    fn open_again(&self, inner: &mut Inner<D>) -> Result<(), StorageError> {
        if inner.database.is_some() {
            return Ok(());
        }
        let path = self.dir.database();
        let database = D::open(&path, &self.options)?;
        let found = match verify(&database, &path, &mut |_, _, _| {}) {
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
                let Err(error) = inner.write(&undo.before, ledger) else {
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
                    where_: path.display().to_string(),
                };
                Err(inner.refuse(error))
            }
        }
    }

    /// Deals with a failed write and gives the error to report.
    fn recover(
        &self,
        inner: &mut Inner<D>,
        undo: Undo<D::Stored>,
        error: StorageError,
    ) -> StorageError {
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

impl<D: Database> Storage for Guarded<D> {
    fn engine(&self) -> &'static str {
        D::KIND.name()
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
        let database = inner.readable()?;
        let Some(stored) = database.stored(&flat)? else {
            return Ok(None);
        };
        let value = database.value(&flat, stored.as_ref())?;
        Ok(Some(value.into_owned()))
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
            let value = database.value(flat, stored)?;
            Ok(visit(flat.get(1..).unwrap_or_default(), &value))
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        self.commit_marked(batch, None)
    }
}

impl<D: Database> Inner<D> {
    pub fn readable(&self) -> Result<&D, StorageError> {
        match (&self.refused, &self.database) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(database)) => Ok(database),
            (None, None) => Err(StorageError::Full),
        }
    }

    pub fn write(
        &mut self,
        changes: &Changes<D::Stored>,
        ledger: Ledger,
    ) -> Result<(), StorageError> {
        let Some(database) = &mut self.database else {
            return Err(StorageError::Full);
        };
        database.write(changes, ledger.seal())?;
        self.ledger = ledger;
        self.starved = false;
        if let Err(error) = self.watermark.write(ledger.commits) {
            // The commit is on the disk all the same; only the evidence against a later loss is weaker.
            tracing::warn!(%error, commit = ledger.commits, "the watermark could not be written");
        }
        Ok(())
    }

    pub fn close(&mut self) -> Result<(), StorageError> {
        self.database.take().map_or(Ok(()), D::close)
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

impl<D: Database> Drop for Guarded<D> {
    fn drop(&mut self) {
        if let Err(error) = self.inner.get_mut().close() {
            tracing::error!(%error, "everything acknowledged is on the disk, but the database could not be closed");
        }
    }
}
