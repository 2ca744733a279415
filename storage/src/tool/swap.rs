//! Puts a finished directory in the place of another one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bytes_of;
use crate::StorageError;
use crate::disk::{hold, sync_dir};

/// What was swapped.
pub(super) struct Swapped {
    /// Where the former directory is.
    pub backup: PathBuf,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// A name beside `dir` that is free; what an interrupted attempt left under it is removed.
pub(super) fn beside(dir: &Path, what: &str) -> Result<PathBuf, StorageError> {
    let path = with_suffix(dir, what)?;
    remove(&path)?;
    Ok(path)
}

fn with_suffix(dir: &Path, suffix: &str) -> Result<PathBuf, StorageError> {
    let full =
        fs::canonicalize(dir).map_err(|error| StorageError::from_io("looking for", dir, &error))?;
    let mut name = full
        .file_name()
        .map_or_else(Default::default, ToOwned::to_owned);
    name.push(format!(".{suffix}"));
    Ok(full.with_file_name(name))
}

pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::from_io("removing", path, &error))
        }
        _ => Ok(()),
    }
}

/// Swaps `dir` and `new`, in one step where the system can, and keeps the former `dir` as `dir.KEPT-N`.
pub(super) fn replace(dir: &Path, new: &Path, kept: &str) -> Result<Swapped, StorageError> {
    let full =
        fs::canonicalize(dir).map_err(|error| StorageError::from_io("looking for", dir, &error))?;
    // No router may have it meanwhile; whoever starts later finds the new one.
    let _locks = (hold(&full)?, hold(new)?);
    let (bytes_before, bytes_after) = (size(&full), size(new));
    let backup = free_name(&full, kept)?;
    swap(&full, new, &backup)
        .and_then(|()| full.parent().map_or(Ok(()), sync_dir))
        .map_err(|error| StorageError::from_io("replacing", &full, &error))?;
    Ok(Swapped {
        backup,
        bytes_before,
        bytes_after,
    })
}

fn free_name(dir: &Path, kept: &str) -> Result<PathBuf, StorageError> {
    let mut number = 1_u32;
    loop {
        let path = with_suffix(dir, &format!("{kept}-{number}"))?;
        if !path.exists() {
            return Ok(path);
        }
        number = number.saturating_add(1);
    }
}

#[cfg(target_os = "linux")]
fn swap(dir: &Path, new: &Path, backup: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE) {
        Ok(()) => fs::rename(new, backup),
        // The file system cannot.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => swap_in_two(dir, new, backup),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn swap(dir: &Path, new: &Path, backup: &Path) -> io::Result<()> {
    swap_in_two(dir, new, backup)
}

/// Between the two the directory is absent; both are whole beside it.
fn swap_in_two(dir: &Path, new: &Path, backup: &Path) -> io::Result<()> {
    fs::rename(dir, backup)?;
    fs::rename(new, dir)
}

/// Bytes on disk below `path`; what cannot be read does not count.
pub(super) fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return bytes_of(path);
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => bytes_of(&entry.path()),
        })
        .sum()
}
