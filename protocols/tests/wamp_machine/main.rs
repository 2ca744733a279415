//! The WAMP gate around a real realm: what a client sends and what it gets back, without sockets
//! and clocks. `docs/gates/wamp.md` says which test shows which feature.
#![cfg(feature = "wamp")]
#![expect(clippy::unwrap_used, reason = "here a failed unwrap is a failed test")]

mod batched;
mod cancel;
mod dealer;
mod fitting;
mod forwarding;
mod history;
mod keys;
mod lifecycle;
mod locks;
mod meta;
mod mutex;
mod passthru;
mod patterns;
mod pubsub;
mod random;
mod registrations;
mod retained;
mod rpc;
mod strict;
mod subscriptions;
mod testaments;
mod vectors;
mod violations;
mod world;
