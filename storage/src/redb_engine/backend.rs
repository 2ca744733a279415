//! The file that redb writes, with two things added: a sync that fails is told apart from a write that fails, and a file
//! that has grown is synced before anything is written that says so. redb does not do that: after a power cut its header
//! could speak of a longer file than there is, and it would not open.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::disk::private_file;

/// Makes of an open file what redb reads and writes; tests put something in between.
pub type Wrap = dyn Fn(Box<dyn StorageBackend>) -> Box<dyn StorageBackend> + Send + Sync;

/// What redb is given. It has no lock of its own: the directory is locked.
#[derive(Debug)]
pub(super) struct Backend(Box<dyn StorageBackend>);

impl Backend {
    pub fn open(path: &Path, wrap: Option<&Wrap>) -> io::Result<Self> {
        let file = private_file()
            .read(true)
            .write(true)
            .create(true)
            .open(path)?;
        let file = Box::new(on(file)?);
        Ok(Self(match wrap {
            Some(wrap) => wrap(file),
            None => file,
        }))
    }
}

fn on(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let grows = self.0.len()? < len;
        self.0.set_len(len)?;
        if grows { self.sync_data() } else { Ok(()) }
    }

    /// Whatever the reason, also a lack of room, after a sync that failed nobody knows what the disk has.
    fn sync_data(&self) -> Result<(), io::Error> {
        self.0
            .sync_data()
            .map_err(|error| io::Error::other(format!("syncing: {error}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}
