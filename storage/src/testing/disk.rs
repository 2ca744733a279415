//! Disks that fail, for the engine that lets one be put beneath it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::redb_engine::{CHECKING, open_redb};
use crate::relaxed::Journaled;
use crate::{RedbStorage, StorageError};

/// Opens a data directory of redb whose database is on `disk` instead of in its file.
///
/// # Errors
/// As [`open_redb`](crate::open_redb).
pub fn open_on(dir: &Path, disk: &Disk) -> Result<RedbStorage, StorageError> {
    let disk = disk.clone();
    let mut options = CHECKING;
    options.wrap = Some(Arc::new(move |_file| Box::new(disk.clone())));
    Ok(Journaled::open(open_redb(dir, options, &mut |_, _, _| {})?)?.0)
}

/// What a disk was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// To write these bytes there.
    Write(u64, Vec<u8>),
    /// To be that long.
    Length(u64),
    /// To keep everything.
    Sync,
    /// Not the disk: this commit was acknowledged.
    Acknowledged(u32),
}

/// A disk in memory: it notes what it is told and fails on command. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    notes: Option<Vec<Told>>,
    /// Calls left before the one that fails.
    countdown: Option<u64>,
    fault: Option<io::ErrorKind>,
    struck: bool,
}

impl Disk {
    /// A disk that holds these bytes.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.0.lock().bytes = bytes;
        disk
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// From now on notes what it is told.
    pub fn take_notes(&self) {
        self.0.lock().notes = Some(Vec::new());
    }

    /// What it was told.
    #[must_use]
    pub fn notes(&self) -> Vec<Told> {
        self.0.lock().notes.clone().unwrap_or_default()
    }

    /// Notes that a commit was acknowledged.
    pub fn acknowledged(&self, number: u32) {
        self.note(Told::Acknowledged(number));
    }

    fn note(&self, told: Told) {
        if let Some(notes) = &mut self.0.lock().notes {
            notes.push(told);
        }
    }

    /// The call after `calls` others fails, and all after it until [`Disk::mend`].
    pub fn break_after(&self, calls: u64, kind: io::ErrorKind) {
        let mut state = self.0.lock();
        state.countdown = Some(calls);
        state.fault = Some(kind);
        state.struck = false;
    }

    /// No call fails any more; answers whether one has.
    pub fn mend(&self) -> bool {
        let mut state = self.0.lock();
        state.countdown = None;
        state.struck
    }

    /// A full disk can still be read, and need not grow to be synced.
    fn strike(&self, takes_room: bool) -> io::Result<()> {
        let mut state = self.0.lock();
        let Some(fault) = state.fault else {
            return Ok(());
        };
        if fault == io::ErrorKind::StorageFull && !takes_room {
            return Ok(());
        }
        match &mut state.countdown {
            None => Ok(()),
            Some(0) => {
                state.struck = true;
                Err(fault.into())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

fn place(offset: u64, length: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(length)?)
}

/// Writes into a file's image, which grows as a file does.
pub(super) fn write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let Some(range) = place(offset, data.len()) else {
        return;
    };
    if bytes.len() < range.end {
        bytes.resize(range.end, 0);
    }
    if let Some(there) = bytes.get_mut(range) {
        there.copy_from_slice(data);
    }
}

/// Sets the length of a file's image.
pub(super) fn set_length(bytes: &mut Vec<u8>, length: u64) {
    bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.strike(false)?;
        let state = self.0.lock();
        let range = place(offset, out.len());
        match range.and_then(|range| state.bytes.get(range)) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.strike(true)?;
        self.note(Told::Length(length));
        set_length(&mut self.0.lock().bytes, length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.strike(false)?;
        self.note(Told::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.strike(true)?;
        self.note(Told::Write(offset, data.to_vec()));
        write(&mut self.0.lock().bytes, offset, data);
        Ok(())
    }
}
