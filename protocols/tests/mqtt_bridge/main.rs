//! The bridge's machine: against our own server machine, against a server that the test plays,
//! and against one that means harm.
#![cfg(feature = "mqtt")]

mod flow;
mod fuzz;
mod laws;
mod peers;
mod world;
