//! Engines panic on some damaged files and where they find themselves inconsistent: every call into one that reads its
//! files is guarded, and a caught panic is reported as damage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::StorageError;

/// Carries out `call`; a panic in it is damage found by `engine`.
pub(crate) fn caught<T>(
    engine: &str,
    doing: &str,
    path: &Path,
    call: impl FnOnce() -> T,
) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        StorageError::Damaged {
            what: format!("{engine} gave up while {doing}: {text}"),
            where_: path.display().to_string(),
        }
    })
}

/// What an engine says about bytes it cannot make sense of.
pub(crate) fn failure(doing: &str, path: &Path, error: impl std::fmt::Display) -> StorageError {
    StorageError::Damaged {
        what: format!("{doing}: {error}"),
        where_: path.display().to_string(),
    }
}
