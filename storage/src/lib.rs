//! Keys, bytes and durability; nothing of realms, sessions or protocols.
//!
//! [`Storage`] is the contract, [`MemoryStorage`], [`SledStorage`] and [`RedbStorage`] keep it, [`GroupCommit`] turns many small batches
//! into few commits and tells their owners, in order, what became of them. The feature `testing` adds an engine that
//! fails on command and the suite that every engine must pass.
//!
//! Units: sizes in bytes, durations in [`std::time::Duration`].
#![forbid(unsafe_code)]

mod batch;
mod disk;
mod durability;
mod engine;
mod error;
mod group;
mod kind;
mod memory;
mod open;
mod redb_engine;
mod relaxed;
mod sled_engine;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tool;

pub use batch::{Batch, Op, Space};
pub use disk::{Reader, engine_of};
pub use durability::Durability;
pub use engine::Storage;
pub use error::StorageError;
pub use group::{
    CommitListener, Found, GroupCommit, GroupLimits, GroupStats, Outcome, Read, Ticket,
};
pub use kind::{EngineKind, UnknownEngine};
pub use memory::MemoryStorage;
pub use open::{RedbStorage, SledStorage, open, open_reading, open_redb, open_sled};
