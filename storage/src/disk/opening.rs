//! What happens while a database is opened: it is made if there was none, and everything in it is checked.

use std::fs;
use std::path::Path;

use super::directory::{DataDir, private_dir, sync_dir};
use super::envelope::{self, LEDGER_KEY, Ledger, MARK_KEY, place};
use super::guarded::{Database, Reader};
use crate::{Space, StorageError};

/// Creates the database under another name first, so that one under its own name is complete.
pub(super) fn create_database<D: Database>(
    dir: &DataDir,
    acknowledged: u64,
    options: &D::Options,
) -> Result<(), StorageError> {
    let (path, unfinished) = (dir.database(), dir.unfinished_database());
    if acknowledged > 0 {
        let what = format!("the database has gone, but commit {acknowledged} was acknowledged");
        return Err(StorageError::Damaged {
            what,
            where_: path.display().to_string(),
        });
    }
    let failed = |error: std::io::Error| StorageError::from_io("creating", &unfinished, &error);
    remove(&unfinished).map_err(failed)?;
    if D::IS_DIRECTORY {
        private_dir().create(&unfinished).map_err(failed)?;
    }
    D::open(&unfinished, options)?.close()?;
    let synced = match D::IS_DIRECTORY {
        true => sync_dir(&unfinished),
        false => Ok(()),
    };
    synced
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync_dir(dir.path()))
        .map_err(failed)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn not_behind(
    ledger: Ledger,
    acknowledged: u64,
    dir: &DataDir,
) -> Result<Ledger, StorageError> {
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

/// Checks every record and the ledger over them, and shows the reader what others wrote.
pub(super) fn verify<D: Database>(
    database: &D,
    path: &Path,
    reader: Reader<'_>,
) -> Result<Ledger, StorageError> {
    let mut found = Ledger::default();
    let mut ledger = None;
    database.scan(&[], &mut |key, stored| {
        if key == LEDGER_KEY {
            ledger = Some(Ledger::open(stored)?);
        } else if !is_written_by_us::<D>(key) {
            let what = "a record that no release has written".into();
            return Err(StorageError::Damaged {
                what,
                where_: place(key),
            });
        } else {
            found.add(envelope::open(key, stored)?.1);
            if let Some((space, rest)) = key.split_first()
                && !envelope::is_engine_key(key)
            {
                reader(Space(*space), rest, &database.value(key, stored)?);
            }
        }
        Ok(true)
    })?;
    let ledger = ledger.unwrap_or_default();
    if ledger.same_content(&found) {
        return Ok(ledger);
    }
    let what = format!(
        "after commit {} there were {} records, now {} are found or others than those",
        ledger.commits, ledger.records, found.records
    );
    Err(StorageError::Damaged {
        what,
        where_: path.display().to_string(),
    })
}

fn is_written_by_us<D: Database>(key: &[u8]) -> bool {
    !key.is_empty() && (!envelope::is_engine_key(key) || D::is_part(key) || key == MARK_KEY)
}
