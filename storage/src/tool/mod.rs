//! Work on a data directory that no router has open: check, repair, and rewriting it for another engine or for room.

mod survey;
mod swap;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::disk::{Database, Guarded, engine_of, private_file};
use crate::{Batch, EngineKind, Op, Space, Storage, StorageError, open, redb_engine, sled_engine};
use survey::Digest;
pub use survey::{Lost, Survey};

/// Says whether a record's value is one that the router can read.
pub type Decode<'a> = &'a dyn Fn(Space, &[u8], &[u8]) -> Result<(), String>;

/// Is told how many records are done, and of how many if that is known.
pub type Progress<'a> = &'a dyn Fn(u64, Option<u64>);

/// Records are copied in commits of this weight.
const COPY_BYTES: usize = 1 << 20;

/// What became of a data directory that was rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The engine it has now.
    pub engine: EngineKind,
    /// Records it has now.
    pub records: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk now.
    pub bytes_after: u64,
    /// Where the former directory is, if it was kept.
    pub backup: Option<PathBuf>,
    /// The file with what was cut out, if anything was.
    pub cut: Option<PathBuf>,
}

/// Reads every record and checks it; changes no record.
///
/// # Errors
/// If the directory is absent, in use, newer, or the system refuses. Damage is no error here.
pub fn check(
    dir: &Path,
    decode: Decode<'_>,
    progress: Progress<'_>,
) -> Result<Survey, StorageError> {
    survey_of(dir, decode, progress, &mut |_, _, _| Ok(()))
}

/// Makes a directory of the records that are whole and puts it in the place of `dir`, which is kept under another name.
/// The damaged ones are written to a file in the new directory.
///
/// # Errors
/// As for [`check`], and `Damaged` if the database cannot be read at all.
pub fn repair(
    dir: &Path,
    decode: Decode<'_>,
    progress: Progress<'_>,
) -> Result<(Survey, Rewritten), StorageError> {
    let engine = known_engine(dir)?;
    let target = swap::beside(dir, "repaired")?;
    let mut copy = Copy::new(open(&target, engine)?);
    let survey = survey_of(dir, decode, progress, &mut |space, key, value| {
        copy.put(space, key, value)
    })?;
    if survey.is_unreadable() && survey.total() == 0 {
        drop(copy);
        swap::remove(&target)?;
        let what = survey
            .lost
            .first()
            .map_or(String::new(), |lost| lost.why.clone());
        return Err(StorageError::Damaged {
            what: format!("nothing can be read: {what}"),
            where_: dir.display().to_string(),
        });
    }
    copy.finish()?;
    let cut = write_cut(&target, &survey.lost)?;
    let done = swap::replace(dir, &target, "damaged")?;
    let rewritten = Rewritten {
        engine,
        records: survey.total(),
        bytes_before: done.bytes_before,
        bytes_after: done.bytes_after,
        backup: Some(done.backup),
        cut: cut.map(|name| dir.join(name)),
    };
    Ok((survey, rewritten))
}

/// Copies every record into a fresh directory of engine `to`, compares both, and puts the new one in the place of `dir`.
/// The former directory is kept under another name if `keep`.
///
/// # Errors
/// As for [`open`], and `Damaged` if the copy differs; `dir` is then as it was.
pub fn rewrite(
    dir: &Path,
    to: EngineKind,
    keep: bool,
    progress: Progress<'_>,
) -> Result<Rewritten, StorageError> {
    let engine = known_engine(dir)?;
    // Opened as the router does: whole, and with the journal taken in.
    let source = open(dir, engine)?;
    let target = swap::beside(dir, "new")?;
    let mut copy = Copy::new(open(&target, to)?);
    let written = copy_all(&*source, &mut copy, progress)?;
    copy.finish()?;
    let found = Digest::of(&*open(&target, to)?)?;
    if found != written {
        swap::remove(&target)?;
        return Err(StorageError::Damaged {
            what: format!(
                "the copy has {} records where {} were written, or others",
                found.records, written.records
            ),
            where_: target.display().to_string(),
        });
    }
    drop(source);
    let done = swap::replace(dir, &target, "backup")?;
    let backup = match keep {
        true => Some(done.backup),
        false => {
            swap::remove(&done.backup)?;
            None
        }
    };
    Ok(Rewritten {
        engine: to,
        records: written.records,
        bytes_before: done.bytes_before,
        bytes_after: done.bytes_after,
        backup,
        cut: None,
    })
}

fn known_engine(dir: &Path) -> Result<EngineKind, StorageError> {
    engine_of(dir)?.ok_or_else(|| StorageError::Io {
        what: format!("{} is no data directory", dir.display()),
    })
}

fn survey_of(
    dir: &Path,
    decode: Decode<'_>,
    progress: Progress<'_>,
    whole: survey::Whole<'_>,
) -> Result<Survey, StorageError> {
    match known_engine(dir)? {
        EngineKind::Sled => {
            let engine = Guarded::<sled_engine::Database>::open_unchecked(dir, ());
            survey_opened(dir, engine, decode, progress, whole)
        }
        EngineKind::Redb => {
            let engine =
                Guarded::<redb_engine::Database>::open_unchecked(dir, redb_engine::TRUSTING);
            survey_opened(dir, engine, decode, progress, whole)
        }
    }
}

fn survey_opened<D: Database>(
    dir: &Path,
    engine: Result<Guarded<D>, StorageError>,
    decode: Decode<'_>,
    progress: Progress<'_>,
    whole: survey::Whole<'_>,
) -> Result<Survey, StorageError> {
    let mut survey = Survey::new(D::KIND);
    match engine {
        Ok(engine) => survey.read(&engine, decode, progress, whole)?,
        Err(StorageError::Damaged { what, where_ }) => {
            survey.unreadable(format!("{what}, in {where_}"));
        }
        Err(error) => return Err(error),
    }
    survey.bytes = swap::size(dir);
    Ok(survey)
}

/// Writes records into a fresh directory.
struct Copy {
    target: Box<dyn Storage>,
    batch: Batch,
}

impl Copy {
    fn new(target: Box<dyn Storage>) -> Self {
        Self {
            target,
            batch: Batch::new(),
        }
    }

    /// A record; `None` takes back an earlier one.
    fn put(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) -> Result<(), StorageError> {
        let key = key.to_vec();
        self.batch.push(match value {
            Some(value) => Op::Put {
                space,
                key,
                value: value.to_vec(),
            },
            None => Op::Delete { space, key },
        });
        if self.batch.bytes() < COPY_BYTES {
            return Ok(());
        }
        self.target.commit(&std::mem::take(&mut self.batch))
    }

    fn finish(self) -> Result<(), StorageError> {
        self.target.commit(&self.batch)
    }
}

fn copy_all(
    source: &dyn Storage,
    copy: &mut Copy,
    progress: Progress<'_>,
) -> Result<Digest, StorageError> {
    let mut digest = Digest::default();
    for space in 0..Space::ENGINE.0 {
        let space = Space(space);
        let mut failed = None;
        source.scan(space, &[], &mut |key, value| {
            digest.add(space, key, value);
            progress(digest.records, None);
            failed = copy.put(space, key, Some(value)).err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(digest)
}

/// One line of JSON for each record: space, key and stored bytes in hexadecimal, and what is wrong.
fn write_cut(target: &Path, lost: &[Lost]) -> Result<Option<PathBuf>, StorageError> {
    if lost.is_empty() {
        return Ok(None);
    }
    let name = PathBuf::from("damaged.jsonl");
    let path = target.join(&name);
    let write = || {
        let mut file: File = private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        for lost in lost {
            writeln!(file, "{}", lost.line())?;
        }
        file.sync_all()
    };
    write().map_err(|error| StorageError::from_io("writing", &path, &error))?;
    Ok(Some(name))
}

fn bytes_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| {
        #[cfg(unix)]
        let bytes = std::os::unix::fs::MetadataExt::blocks(&found) * 512;
        #[cfg(not(unix))]
        let bytes = found.len();
        bytes
    })
}
