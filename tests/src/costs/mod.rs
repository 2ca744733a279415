//! What a message costs in instructions and allocations: counted by callgrind, so the figures are
//! the same on a busy machine, and a message that costs more than before is found in any test run.
//!
//! Router and clients are one process of one thread ([`load`], [`peer`]), which talk over sockets
//! of the loopback. [`callgrind`] runs a load twice, with few messages and with many: what it
//! counts more is theirs, without start and set-up. The clients' own part is in it, and stays.
//! [`limits`] compares with `tests/costs.txt`.
//!
//! `cargo run --release -p integration-tests --bin costs` prints what it can do.

pub mod callgrind;
pub mod limits;
pub mod load;
pub mod peer;
