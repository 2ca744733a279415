#![forbid(unsafe_code)]
//! The harness of the integration tests: it runs the real `reynard` binary and
//! real foreign clients, and leaves every judgement to the stories in `it/`.
//!
//! * [`server`] starts, kills, stops and restarts the router;
//! * [`agent`] drives a foreign client (`clients/js`, `clients/python`) by JSON lines;
//! * [`command`] runs any other program to its end, with a deadline;
//! * [`mqtt`], [`wamp`], [`websocket`], [`rawsocket`] and [`http`] are small clients of our own,
//!   written from the standards and sharing no code with the router, so that they
//!   can also say what no decent client says;
//! * [`peers`] finds the programs that the router is compared with;
//! * [`probe`] asks whether a router still serves strangers;
//! * [`linear`] checks recorded histories of a key for linearizability;
//! * [`costs`] counts what messages cost, for `bin/costs.rs`;
//! * [`measure`] holds the long runs, which `bin/measure.rs` starts.
//!
//! Nothing here sleeps to wait for something: every wait ends with the event it
//! waits for, or fails after [`PATIENCE`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub mod agent;
pub mod command;
pub mod costs;
pub mod http;
pub mod linear;
pub mod measure;
pub mod mqtt;
pub mod peers;
pub mod probe;
pub mod rawsocket;
pub mod server;
pub mod wamp;
pub mod websocket;

pub use agent::Agent;
pub use server::{Options, Server};

/// How long a test waits for one event before it fails. Generous: it is only
/// ever spent by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Cargo's target directory, where `tests/setup` keeps the foreign clients as well.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Where `tests/setup` installed the foreign clients.
///
/// # Errors
/// Fails with a hint if that has not happened.
pub fn clients_dir() -> Result<PathBuf> {
    let dir = target_dir().join("clients");
    ensure!(
        dir.join(".stamp").exists(),
        "the foreign clients are not installed in {}: run tests/setup first",
        dir.display()
    );
    dir.canonicalize()
        .with_context(|| format!("{} cannot be resolved", dir.display()))
}
