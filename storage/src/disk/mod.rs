//! What the engines on disk share: the data directory, the form of records, the evidence of what was acknowledged, and
//! the order of events when something fails.

mod directory;
mod envelope;
mod guarded;
mod opening;
mod panics;
mod plan;
mod watermark;

pub use directory::engine_of;
pub(crate) use directory::{hold, opening_error, private_file, sync_dir};
pub(crate) use envelope::{LEDGER_KEY, Ledger, MARK_KEY, open, place, seal};
pub use guarded::{Database, Guarded, Reader, Visit};
pub(crate) use panics::{caught, failure};
#[cfg(test)]
pub(crate) use plan::plan;
pub use plan::{Changes, Parts};
