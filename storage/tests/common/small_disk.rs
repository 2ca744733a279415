//! A disk so small that it fills up: a tmpfs, mounted for one test.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// sled locks for the whole process: a database whose flush waits for ever stops the others before it can be woken.
/// The router has one database; here the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A mounted tmpfs, unmounted at the end whatever happens.
pub struct SmallDisk {
    // Unmounted before the directory is removed.
    disk: storage::testing::SmallDisk,
    _at: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        match storage::testing::SmallDisk::mount(at.path(), mebibytes) {
            Ok(disk) => Some(Self { disk, _at: at }),
            Err(why) => {
                eprintln!("{why}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Takes all room but `spare` bytes.
    pub fn fill(&self, spare: u64) {
        self.disk.fill(spare).unwrap();
    }

    pub fn free(&self) {
        self.disk.free().unwrap();
    }
}

/// sled can sleep for ever when it cannot write; a test that hangs says less than one that fails.
pub fn in_time(test: impl FnOnce() + Send + 'static) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, finished) = channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    if finished.recv_timeout(Duration::from_secs(180))
        == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    {
        panic!("still not finished: a commit hangs");
    }
    thread.join().unwrap();
}
