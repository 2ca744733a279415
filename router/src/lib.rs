#![forbid(unsafe_code)]
//! The server: configuration, listeners, health and metrics around the realm core.
//!
//! * [`Router`] is the part without sockets: realms, store and gates. Embed it in a program of your
//!   own, hand it upgraded connections, or join it from within with a [`session::Session`].
//! * [`Server`] is a router with listeners, as the `reynard` program runs it.
//! * [`config`] and [`cli`] are what a user types.
//!
//! This is the only crate that knows all gates (`gates.rs`) and all storage engines.

mod access;
mod bridge;
pub mod cli;
pub mod config;
mod gates;
mod http;
mod listen;
mod local;
mod longpoll;
mod metrics;
mod router;
mod server;
pub mod session;
pub mod storage_tool;
mod sys;

pub use router::{Router, StartError};
pub use server::Server;
pub use session::Session;
