//! A disk so small that it fills up: a tmpfs, mounted for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// sled locks for the whole process: a database whose flush waits for ever stops the others before it can be woken.
/// The router has one database; here the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A mounted tmpfs, unmounted at the end whatever happens.
pub struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at.path())
            .output()
            .ok()?;
        if !output.status.success() {
            eprintln!(
                "mount is not permitted here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Some(Self { at })
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    fn filler(&self) -> PathBuf {
        self.at.path().join("filler")
    }

    /// Takes all room but `spare` bytes.
    pub fn fill(&self, spare: u64) {
        let mut file = fs::File::create(self.filler()).unwrap();
        // Ends with an error when there is no more room.
        let _full = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(spare)).unwrap();
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount")
            .arg("-l")
            .arg(self.at.path())
            .status();
        assert!(
            std::thread::panicking() || done.is_ok_and(|status| status.success()),
            "the tmpfs stays mounted"
        );
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
