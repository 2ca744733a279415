#![forbid(unsafe_code)]
//! The realm core: who may, who receives, who answers and what is kept.
//!
//! A [`Realm`](realm::Realm) is one synchronous state machine. A gate hands it
//! [`Command`](model::Command)s in the name of a session; the realm answers by
//! appending [`Delivery`](model::Delivery)s to the outboxes of the sessions
//! concerned and by asking for durable writes. Time and randomness are
//! arguments, so that the same commands give the same deliveries.
//!
//! Deliberately absent: protocols, packets, sockets, tasks and clocks. The only
//! module that meets threads is [`runtime`], which runs realms by name.
//!
//! Direction inside the crate: `model`, `timers` <- `matcher` <- `broker`, `dealer`,
//! `kv`, `history` <- `realm` <- `runtime`.

pub mod auth;
pub mod broker;
pub mod dealer;
pub mod encoding;
pub mod history;
pub mod kv;
pub mod limits;
pub mod matcher;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod realm;
pub mod records;
pub mod runtime;
pub mod session;
pub mod timers;
