//! MQTT 3.1, 3.1.1 and 5.0.
//!
//! One packet model ([`packet`]) serves all three versions; the version is data, never a type.
//! What a version lacks is absent from the value (no properties, reason Success), and the
//! [`codec`] decides from the version what may stand on the wire.

pub mod bridge;
pub mod codec;
mod detach;
mod inflight;
pub mod machine;
pub mod map;
pub mod packet;
mod properties;
pub mod reason;
