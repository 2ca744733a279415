//! For the tests of this and of other crates: an engine that fails on command, and the suite for all engines.

pub mod conformance;
mod faulty;

pub use faulty::{Fault, FaultyStorage};
