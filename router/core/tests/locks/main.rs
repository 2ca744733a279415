//! Locks: every rule of holding keys, waiting for them and losing them.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod asking;
mod ending;

mod lab;
mod modes;
mod raw;
mod rights;
mod showing;
mod storing;
mod telling;
mod waiting;
