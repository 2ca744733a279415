//! The data directory: whose it is, who has it open, and in which format it is.
//!
//! | entry | what |
//! |---|---|
//! | `lock` | empty; locked by the process that has the directory open |
//! | `FORMAT` | plain text: engine name and format number |
//! | `sled/` or `records.redb` | the database |
//! | `sled.creating/`, `records.redb.creating` | a database whose creation was interrupted; removed at the next start |
//! | `watermark` | the last acknowledged commit |
//! | `journal` | commits that have not been synced yet, where a realm asks for less than `always` |
//! | `journal.cut.N` | what could not be read at the end of a journal |
//! | `probe` | written and removed to learn whether there is room |
//!
//! Everything is private to the user from the first instant: directories 0700, files 0600. sled creates its own files
//! with the process's umask, inside a private directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::is_full;
use crate::{EngineKind, StorageError};

/// The format this release writes, and the highest it reads.
pub(crate) const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";

/// A locked data directory in a format we know.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    engine: EngineKind,
    /// Held for its lock, which ends with the process at the latest.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if absent, locks it, and checks or writes `FORMAT`.
    pub fn open(path: &Path, engine: EngineKind) -> Result<Self, StorageError> {
        create_dir(path)?;
        let lock = lock(path)?;
        let dir = Self {
            path: path.to_owned(),
            engine,
            _lock: lock,
        };
        dir.check_format()?;
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        self.path.join(self.engine.database_name())
    }

    pub fn unfinished_database(&self) -> PathBuf {
        self.path
            .join(format!("{}.creating", self.engine.database_name()))
    }

    pub fn watermark(&self) -> PathBuf {
        self.path.join("watermark")
    }

    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Learns by trying whether `bytes` can be written.
    pub fn probe(&self, bytes: u64) -> Result<(), StorageError> {
        let path = self.path.join("probe");
        let written = (|| {
            let mut file = private_file()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            io::copy(&mut io::Read::take(io::repeat(0x5a), bytes), &mut file)?;
            file.sync_all()
        })();
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        written
            .and(removed)
            .map_err(|error| StorageError::from_io("testing for room with", &path, &error))
    }

    fn check_format(&self) -> Result<(), StorageError> {
        let path = self.path.join(FORMAT_FILE);
        match fs::read(&path) {
            Ok(text) => check_format(&text, &path, self.engine),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if EngineKind::ALL
                    .iter()
                    .any(|engine| self.path.join(engine.database_name()).exists())
                {
                    let what =
                        "there is a database but the file FORMAT that says what it is has gone"
                            .into();
                    return Err(StorageError::Damaged {
                        what,
                        where_: self.path.display().to_string(),
                    });
                }
                self.write_format(&path)
            }
            Err(error) => Err(StorageError::from_io("reading", &path, &error)),
        }
    }

    fn write_format(&self, path: &Path) -> Result<(), StorageError> {
        let unfinished = self.path.join("FORMAT.new");
        let write = || {
            let mut file = private_file()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&unfinished)?;
            file.write_all(format_text(self.engine.name(), FORMAT).as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            sync_dir(&self.path)
        };
        write().map_err(|error| StorageError::from_io("writing", path, &error))
    }
}

fn format_text(engine: &str, format: u32) -> String {
    format!("reynard data directory\nengine = {engine}\nformat = {format}\n")
}

/// The engine that wrote the data directory `path`; `None` if it is absent or none was written there yet. Takes no lock
/// and changes nothing.
///
/// # Errors
/// `Damaged` if the directory does not say, `Newer` for a later format, `Io`.
pub fn engine_of(path: &Path) -> Result<Option<EngineKind>, StorageError> {
    let file = path.join(FORMAT_FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(StorageError::NotADirectory {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(StorageError::from_io("reading", &file, &error)),
    };
    let written = String::from_utf8_lossy(&text);
    let engine = value_in(&written, "engine").and_then(|name| name.parse().ok());
    // Whatever is wrong with the file is said as for the engine it should have been.
    check_format(&text, &file, engine.unwrap_or_default())?;
    Ok(engine)
}

fn value_in<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn check_format(text: &[u8], path: &Path, wanted: EngineKind) -> Result<(), StorageError> {
    let text = String::from_utf8_lossy(text);
    let value = |name: &str| value_in(&text, name);
    let damaged = |what: String| {
        Err(StorageError::Damaged {
            what,
            where_: path.display().to_string(),
        })
    };
    let (Some(engine), Some(Ok(found))) = (value("engine"), value("format").map(str::parse::<u32>))
    else {
        return damaged("the file does not say engine and format".into());
    };
    if found > FORMAT {
        return Err(StorageError::Newer {
            found,
            supported: FORMAT,
        });
    }
    let Ok(known) = engine.parse::<EngineKind>() else {
        return damaged(format!("the engine `{engine}` is not known"));
    };
    // Older formats are read here once there are any; a number below the first one was never written.
    if found == FORMAT && text == format_text(known.name(), FORMAT) && known != wanted {
        return Err(StorageError::OtherEngine {
            path: path.parent().unwrap_or(path).to_owned(),
            found: known,
            wanted,
        });
    }
    if found != FORMAT || text != format_text(wanted.name(), FORMAT) {
        return damaged("the file is not as it was written".into());
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), StorageError> {
    if path.exists() && !path.is_dir() {
        return Err(StorageError::NotADirectory {
            path: path.to_owned(),
        });
    }
    let created = !path.exists();
    private_dir()
        .recursive(true)
        .create(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                StorageError::NotADirectory {
                    path: path.to_owned(),
                }
            }
            _ => StorageError::from_io("creating the data directory", path, &error),
        })?;
    match path.parent() {
        // The new entry in the parent must survive a power cut as well.
        Some(parent) if created && !parent.as_os_str().is_empty() => {
            sync_dir(parent).map_err(|error| StorageError::from_io("syncing", parent, &error))
        }
        _ => Ok(()),
    }
}

/// Keeps others from opening the data directory for as long as the file lives.
pub(crate) fn hold(dir: &Path) -> Result<File, StorageError> {
    lock(dir)
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join("lock");
    let failed = |error: &io::Error| StorageError::from_io("locking", &path, error);
    let file = private_file()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Options for files that only the user may read.
pub(crate) fn private_file() -> OpenOptions {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes directories that only the user may enter.
pub(crate) fn private_dir() -> fs::DirBuilder {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and its entries need no sync of their own.
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

/// Translates an error met while opening files of the database: a file that ends early is damage, not an I/O failure.
pub(crate) fn opening_error(doing: &str, path: &Path, error: &io::Error) -> StorageError {
    match error.kind() {
        _ if is_full(error) => StorageError::Full,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            StorageError::Damaged {
                what: format!("{doing}: {error}"),
                where_: path.display().to_string(),
            }
        }
        _ => StorageError::from_io(doing, path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_created_private_and_locked() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/data");
        let open = DataDir::open(&path, EngineKind::Sled).unwrap();
        assert_eq!(
            DataDir::open(&path, EngineKind::Sled).unwrap_err(),
            StorageError::Locked { path: path.clone() }
        );
        drop(open);
        DataDir::open(&path, EngineKind::Sled).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o700);
            assert_eq!(mode(&path.join("lock")), 0o600);
            assert_eq!(mode(&path.join("FORMAT")), 0o600);
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "x").unwrap();
        assert_eq!(
            DataDir::open(&path, EngineKind::Sled).unwrap_err(),
            StorageError::NotADirectory { path: path.clone() }
        );
        let below = path.join("data");
        assert_eq!(
            DataDir::open(&below, EngineKind::Sled).unwrap_err(),
            StorageError::NotADirectory { path: below }
        );
    }

    #[test]
    fn foreign_newer_and_broken_formats_are_told_apart() {
        let path = Path::new("FORMAT");
        assert_eq!(
            check_format(format_text("sled", 1).as_bytes(), path, EngineKind::Sled),
            Ok(())
        );
        let newer = StorageError::Newer {
            found: 2,
            supported: 1,
        };
        assert_eq!(
            check_format(format_text("sled", 2).as_bytes(), path, EngineKind::Sled),
            Err(newer.clone())
        );
        assert_eq!(
            check_format(format_text("other", 2).as_bytes(), path, EngineKind::Sled),
            Err(newer),
            "newer may know more engines"
        );
        let foreign = check_format(format_text("redb", 1).as_bytes(), path, EngineKind::Sled)
            .unwrap_err()
            .to_string();
        assert!(foreign.contains("`redb`"), "{foreign}");
        assert!(
            foreign.contains("reynard storage migrate") && foreign.contains("--to sled"),
            "{foreign}"
        );
        for broken in [
            "",
            "engine = sled\n",
            "engine = sled\nformat = one\n",
            "engine = sled\nformat = 1\nx",
        ] {
            let error = check_format(broken.as_bytes(), path, EngineKind::Sled).unwrap_err();
            assert!(
                matches!(error, StorageError::Damaged { .. }),
                "{broken:?}: {error}"
            );
        }
    }

    #[test]
    fn a_database_without_its_format_file_is_not_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("sled")).unwrap();
        let error = DataDir::open(parent.path(), EngineKind::Sled).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
}
