//! A disk that fails at every call there is, one after the other.

use std::io::ErrorKind;
use std::path::Path;

use super::disk::{Disk, open_on};
use super::workload::{found_commit, numbered};
use crate::{Storage, StorageError};

/// Commits before the disk breaks, and at most after.
const BEFORE: u32 = 8;
const AFTER: u32 = 10;

/// Breaks the disk at call 0, 1, 2 and so on, once while a directory is opened and once while commits are made, until no
/// call is left; answers how many calls there were. `dir` must be empty.
///
/// # Errors
/// The first call after which something acknowledged is missing, something refused is there, a full disk is not recovered
/// from, or an error does not come out as one.
pub fn break_everywhere(dir: &Path, kind: ErrorKind) -> Result<u64, String> {
    let mut calls = 0;
    while break_in_commits(dir, kind, calls)
        .map_err(|why| format!("{kind}, call {calls}: {why}"))?
    {
        calls += 1;
    }
    let mut openings = 0;
    while break_in_opening(dir, kind, openings)
        .map_err(|why| format!("{kind}, call {openings} of opening: {why}"))?
    {
        openings += 1;
    }
    Ok(calls + openings)
}

fn text(error: StorageError) -> String {
    error.to_string()
}

fn fresh(dir: &Path) -> Result<std::path::PathBuf, String> {
    let dir = dir.join("data");
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(dir),
    }
}

/// Answers whether the call was reached.
fn break_in_commits(dir: &Path, kind: ErrorKind, call: u64) -> Result<bool, String> {
    let (dir, disk) = (fresh(dir)?, Disk::default());
    let storage = open_on(&dir, &disk).map_err(text)?;
    for number in 1..=BEFORE {
        storage.commit(&numbered(number)).map_err(text)?;
    }
    disk.break_after(call, kind);
    let mut acknowledged = BEFORE;
    let mut error = None;
    while error.is_none() && acknowledged < AFTER {
        match storage.commit(&numbered(acknowledged + 1)) {
            Ok(()) => acknowledged += 1,
            Err(refused) => error = Some(refused),
        }
    }
    let struck = disk.mend();
    let Some(error) = error else {
        // A disk that breaks in what follows a commit is noticed by the next one.
        return Ok(struck);
    };
    let is_full = error == StorageError::Full;
    if is_full {
        resume(&storage, acknowledged)?;
        acknowledged += 1;
    } else if storage.commit(&numbered(acknowledged + 1)).is_ok() {
        return Err(format!("went on after {error}"));
    }
    drop(storage);
    let found = found_commit(&open_on(&dir, &disk).map_err(text)?)?;
    let reached = acknowledged + u32::from(!is_full);
    if (acknowledged..=reached).contains(&found) {
        return Ok(struck);
    }
    Err(format!(
        "commit {found} found, {acknowledged} was acknowledged, then: {error}"
    ))
}

fn resume(storage: &impl Storage, acknowledged: u32) -> Result<(), String> {
    storage
        .commit(&numbered(acknowledged + 1))
        .map_err(|error| format!("there is room again, but: {error}"))?;
    match found_commit(storage)? {
        found if found == acknowledged + 1 => Ok(()),
        found => Err(format!("commit {found} after commit {}", acknowledged + 1)),
    }
}

fn break_in_opening(dir: &Path, kind: ErrorKind, call: u64) -> Result<bool, String> {
    let (dir, disk) = (fresh(dir)?, Disk::default());
    let storage = open_on(&dir, &disk).map_err(text)?;
    for number in 1..=BEFORE {
        storage.commit(&numbered(number)).map_err(text)?;
    }
    drop(storage);
    disk.break_after(call, kind);
    let opened = open_on(&dir, &disk);
    let struck = disk.mend();
    match opened {
        Ok(storage) => drop(storage),
        Err(StorageError::Full | StorageError::Io { .. }) if struck => {}
        Err(error) => return Err(text(error)),
    }
    match found_commit(&open_on(&dir, &disk).map_err(text)?)? {
        BEFORE => Ok(struck),
        found => Err(format!("commit {found} found")),
    }
}
