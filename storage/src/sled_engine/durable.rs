//! Our own fsync of sled's files.
//!
//! On Linux sled's `flush` writes with `sync_file_range`, which neither flushes the disk's cache nor the file's size
//! (`pagecache/iobuf.rs`), and never syncs blobs. What sled 0.34 writes while running is the log `db` and one file in
//! `blobs/` for every page above a quarter of a segment (128 KiB); `conf` and `snap.*` change only while it opens.
//!
//! Invariant: after `sync` returned `Ok`, everything that a `flush` before it had written is on the disk.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::disk::sync_dir;

/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// Reads the whole log before sled does. sled takes a place that it cannot read for the end of its log, and overwrites
/// what follows: an error of the disk that passes, or is repaired, would have destroyed what was behind it.
pub(super) fn read_through(dir: &Path) -> io::Result<()> {
    let mut log = match File::open(dir.join("db")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match log.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) struct FileSync {
    /// Kept open: an error of writing back reaches only descriptors that were open when it happened.
    log: File,
    blobs: PathBuf,
    /// Blobs already on disk, with the length they had; a blob never changes once it is complete.
    synced: HashMap<OsString, u64>,
}

impl FileSync {
    /// Makes everything durable that opening the database in `dir` has written.
    pub fn start(dir: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        let log = File::options()
            .read(true)
            .write(true)
            .open(dir.join("db"))?;
        let mut files = Self {
            log,
            blobs: dir.join("blobs"),
            synced: HashMap::new(),
        };
        files.sync()?;
        sync_dir(&files.blobs)?;
        sync_dir(dir)?;
        Ok(files)
    }

    /// Makes everything durable that sled has flushed.
    pub fn sync(&mut self) -> io::Result<()> {
        self.sync_blobs()?;
        // Data and size suffice to read it back; times are of no interest.
        self.log.sync_data()
    }

    fn sync_blobs(&mut self) -> io::Result<()> {
        let mut present = HashMap::with_capacity(self.synced.len());
        let mut changed = false;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let (name, bytes) = match entry.metadata() {
                Ok(metadata) => (entry.file_name(), metadata.len()),
                // sled removes blobs that nothing refers to any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if self.synced.get(&name) != Some(&bytes) {
                match File::open(entry.path()) {
                    Ok(blob) => blob.sync_all()?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                changed = true;
            }
            present.insert(name, bytes);
        }
        if changed {
            sync_dir(&self.blobs)?;
        }
        self.synced = present;
        Ok(())
    }
}
