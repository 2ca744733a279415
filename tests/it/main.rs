#![forbid(unsafe_code)]
//! The stories: what users of the router rely on, told by real clients against
//! the real binary. One module per story, one server per test, no shared state.

mod auth;
mod benchmarks;
mod bridge;
mod cli_bench;
mod cli_kv;
mod cli_lock;
mod conditional;
mod config_and_cli;
mod cross_protocol;
mod democli;
mod differential;
mod docs_clients;
mod durability;
mod endurance;
mod killers;
mod linear;
mod mqtt_clients;
mod mqtt_rpc;
mod mutex;
mod takeover;
mod transports;
mod wamp_clients;
mod wamp_matrix;

/// What every test returns: an error fails it with its whole chain of causes.
type Outcome = anyhow::Result<()>;
