//! A disk so small that it fills up: a tmpfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted at the end whatever happens.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of that size over the directory `at`.
    ///
    /// # Errors
    /// In the system's words if mounting is not permitted, which takes root.
    pub fn mount(at: &Path, mebibytes: u32) -> Result<Self, String> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(at)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("mount is not permitted here: {}", why.trim()));
        }
        Ok(Self { at: at.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all room but `spare` bytes.
    ///
    /// # Errors
    /// If the filler cannot be made.
    pub fn fill(&self, spare: u64) -> io::Result<()> {
        let mut file = fs::File::create(self.filler())?;
        // Ends with an error when there is no more room.
        match io::copy(&mut io::repeat(1), &mut file) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            outcome => drop(outcome?),
        }
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(spare))
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If there is no filler.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn unmount(&self) -> io::Result<bool> {
        let done = Command::new("umount").arg("-l").arg(&self.at).status()?;
        Ok(done.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !self.unmount().is_ok_and(|done| done) {
            tracing::error!(path = %self.at.display(), "the tmpfs stays mounted");
        }
    }
}
