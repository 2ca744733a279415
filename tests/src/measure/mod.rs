//! Long measurements against the real binary, whose short forms are stories too.
//!
//! * [`restarts`]: nothing is lost, doubled or out of order while the router is killed and clients
//!   reconnect;
//! * [`retained`]: a large replay to a slow reader, and what it costs somebody else;
//! * [`idle`]: what a connection that says nothing costs;
//! * [`kills`]: what is acknowledged is there after the router is killed;
//! * [`broken`]: the same when the system calls of the router begin to fail;
//! * [`full`]: the same of a disk that fills up and is freed, and that the router goes on by itself;
//! * [`keys`]: what a key costs in each engine;
//! * [`malformed`]: that strangers who talk nonsense leave nothing behind;
//! * [`order`]: that WAMP's order is kept while all threads are busy;
//! * [`locks`]: what a lock and a durable write cost, beside Redis and etcd;
//! * [`histories`]: that conditional and waiting writes, wills and reads are linearizable;
//! * [`mutexes`]: that nobody holds a lock while another does;
//! * [`compare`]: `reynard bench` against this router and others, in turn;
//! * [`growth`]: what a message costs as the state of the router grows;
//! * [`report`]: the figures of both, as tables and plots in `docs/benchmarks.md`.
//!
//! `cargo run --release -p integration-tests --bin measure` runs them by name.

pub mod arena;
pub mod broken;
pub mod compare;
pub mod full;
pub mod growth;
pub mod histories;
pub mod idle;
pub mod keys;
pub mod kills;
pub mod locks;
pub mod malformed;
pub mod mutexes;
pub mod order;
pub mod process;
pub mod report;
pub mod restarts;
pub mod retained;
pub mod wire;
