//! Long measurements against the real binary, whose short forms are stories too.
//!
//! * [`restarts`]: nothing is lost, doubled or out of order while the router is killed and clients
//!   reconnect;
//! * [`retained`]: a large replay to a slow reader, and what it costs somebody else;
//! * [`idle`]: what a connection that says nothing costs;
//! * [`malformed`]: that strangers who talk nonsense leave nothing behind;
//! * [`order`]: that WAMP's order is kept while all threads are busy;
//! * [`histories`]: that conditional and waiting writes, wills and reads are linearizable;
//! * [`mutexes`]: that nobody holds a lock while another does.
//!
//! `cargo run --release -p integration-tests --bin measure` runs them by name.

pub mod arena;
pub mod histories;
pub mod idle;
pub mod malformed;
pub mod mutexes;
pub mod order;
pub mod process;
pub mod restarts;
pub mod retained;
pub mod wire;
