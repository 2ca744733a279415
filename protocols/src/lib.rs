#![forbid(unsafe_code)]
//! The gates: one folder and one feature per protocol, over the driver and transports they share.
//!
//! * [`gate`]: the seam, [`gate::Gate`], and the driver, the only place that does I/O.
//! * [`transport`]: bytes or messages, no meaning.
//! * `wamp`, `mqtt`: each with `message`/`packet`, `codec`, `machine` and `map`.
//!
//! Gates never import each other; what two of them share is in `gate` or `transport`. The realm
//! core below knows none of them.

pub mod gate;
#[cfg(feature = "mqtt")]
pub mod mqtt;
pub mod transport;
#[cfg(feature = "wamp")]
pub mod wamp;
