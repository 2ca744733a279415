//! WAMP version 2, Basic and Advanced Profile.
//!
//! [`message`] is the model, [`codec`] its serializations, [`dict`] the typed reading of
//! options and details, [`errors`] what a peer can do wrong, [`uris`] the standard names and the
//! spelling of topics.
//!
//! [`machine`] is the gate: one connection as a state machine. [`auth`] opens its sessions,
//! [`options`] reads what requests ask for, [`map`] translates to and from the core, [`passthru`]
//! what only applications can read; [`batch`] is several messages in one frame.

pub mod auth;
pub mod batch;
pub mod codec;
pub mod dict;
pub mod errors;
pub mod machine;
pub mod map;
pub mod message;
mod naming;
pub mod options;
pub mod passthru;
pub mod uris;
