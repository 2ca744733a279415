//! The WAMP gate around a real realm: what a client sends and what it gets back, without sockets
//! and clocks. `docs/gates/wamp.md` says which test shows which feature.
#![cfg(feature = "wamp")]
#![expect(clippy::unwrap_used, reason = "here a failed unwrap is a failed test")]

mod cancel;
mod fitting;
mod forwarding;
mod lifecycle;
mod meta;
mod mutex;
mod patterns;
mod pubsub;
mod random;
mod retained;
mod rpc;
mod violations;
mod world;
