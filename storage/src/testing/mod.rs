//! For the tests of this and of other crates: an engine that fails on command, and the suite for all engines.

mod callsites;
pub mod conformance;
mod disk;
mod faulty;
mod flips;
mod power;
mod small_disk;
pub mod traced;
pub mod workload;

pub use callsites::break_everywhere;
pub use disk::{Disk, Told, open_on};
pub use faulty::{Fault, FaultyStorage};
pub use flips::{Flips, flip_everywhere};
pub use power::{Cuts, cut_everywhere};
pub use small_disk::SmallDisk;
