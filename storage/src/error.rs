//! What can go wrong, told so that an operator knows what happened, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::EngineKind;

/// Why a storage operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No room; the engine stays usable and resumes by itself when there is room again.
    #[error(
        "the disk that holds the data directory is full or its quota is used up; nothing of this write was kept: \
         free some space"
    )]
    Full,
    /// The operating system refused; unlike `Full`, this may last until a restart.
    #[error(
        "the operating system refused access to the stored data: {what}; look at the disk and at the system log"
    )]
    Io {
        /// The operation, the file and the system's own words.
        what: String,
    },
    /// The stored bytes are not those that were written.
    #[error(
        "the stored data is damaged: {what}, in {where_}; restore the data directory from a backup, \
         or move it away to start with an empty one"
    )]
    Damaged {
        /// What is wrong.
        what: String,
        /// The file, or the space and key.
        where_: String,
    },
    /// Another process has the data directory open.
    #[error(
        "the data directory {} is in use by another process; stop that one first, or choose another data directory",
        path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory was written by a later release.
    #[error(
        "the data directory has format {found}, but this release reads only up to format {supported}; \
         start the newer release that wrote it"
    )]
    Newer {
        /// The format number found.
        found: u32,
        /// The highest format number this release knows.
        supported: u32,
    },
    /// The data directory was written by another engine.
    #[error(
        "the data directory {} was written by the engine `{found}`, not by `{wanted}`; configure \
         `storage_engine = \"{found}\"`, or convert it: reynard storage migrate {} --to {wanted}",
        path.display(), path.display()
    )]
    OtherEngine {
        /// The data directory.
        path: PathBuf,
        /// The engine that wrote it.
        found: EngineKind,
        /// The engine that was to open it.
        wanted: EngineKind,
    },
    /// The path given as data directory is something else.
    #[error("{} is not a directory; name a directory (it is created when absent) as data directory", path.display())]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// An earlier commit of the same owner and epoch failed, so this one was not attempted.
    #[error(
        "not written, because an earlier write that this one builds on could not be stored; try again"
    )]
    Superseded,
    /// The writer has been shut down.
    #[error("not written, because the storage has been shut down; try again after the restart")]
    Stopped,
}

impl StorageError {
    /// Translates a system error met while doing `doing` to `path`.
    #[must_use]
    pub fn from_io(doing: &str, path: &Path, error: &io::Error) -> Self {
        if is_full(error) {
            Self::Full
        } else {
            Self::Io {
                what: format!("{doing} {}: {error}", path.display()),
            }
        }
    }

    /// A short stable word for counters and structured logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Io { .. } => "io",
            Self::Damaged { .. } => "damaged",
            Self::Locked { .. } => "locked",
            Self::Newer { .. } => "newer",
            Self::OtherEngine { .. } => "other_engine",
            Self::NotADirectory { .. } => "not_a_directory",
            Self::Superseded => "superseded",
            Self::Stopped => "stopped",
        }
    }
}

/// True for the system errors that go away when somebody frees space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lack_of_room_counts_as_full() {
        let path = Path::new("data/db");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            StorageError::from_io("writing", path, &full),
            StorageError::Full
        );
        let StorageError::Io { what } = StorageError::from_io("writing", path, &denied) else {
            panic!("not Io")
        };
        assert!(what.starts_with("writing data/db: "), "{what}");
    }

    #[test]
    fn messages_name_the_place_and_the_remedy() {
        let damaged = StorageError::Damaged {
            what: "checksum mismatch".into(),
            where_: "space 3, key 6162".into(),
        };
        let text = damaged.to_string();
        assert!(
            text.contains("space 3, key 6162") && text.contains("backup"),
            "{text}"
        );
        let locked = StorageError::Locked {
            path: "./reynard-data".into(),
        }
        .to_string();
        assert!(
            locked.contains("./reynard-data") && locked.contains("another process"),
            "{locked}"
        );
    }
}
