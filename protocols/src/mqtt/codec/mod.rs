//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0 (5.0 sections 1.5, 2 and 3).
//!
//! Sans-IO: [`Decoder`] takes a growing read buffer and answers with a packet, "not enough bytes"
//! or an error that ends the connection; [`encode`] appends to a write buffer. Strings and
//! payloads are slices of the read buffer.
//!
//! Invariants:
//! - no input makes the decoder panic, recurse, or allocate by a declared length: memory grows
//!   only with bytes that arrived, and [`Limits`] caps what one packet may expand to;
//! - what the decoder accepted, [`encode`] can write, and it decodes to the same packet;
//! - a failed [`encode`] leaves the write buffer as it was.

mod body;
mod connect;
mod decode;
mod encode;
mod error;
mod fast;
mod plain;
mod property;
mod property_write;
mod publish;
mod reader;
mod topic;
mod writer;

pub use decode::{Decoder, Limits, PRE_LOGIN_MAX_BYTES};
pub use encode::{PeerLimits, encode, encode_within, encoded_len};
pub use error::{DecodeError, EncodeError, Fault};
pub use fast::{encode_puback, encode_pubcomp, encode_publish_head, encode_pubrec, encode_pubrel};
pub use plain::{ACK_BYTES, PlainPublish};
pub use publish::{PublishHead, encode_shared_properties};
pub use topic::{FilterParts, TopicError, validate_filter, validate_topic_name};

/// Largest value of a Variable Byte Integer (5.0 section 1.5.5), thus of Remaining Length.
pub const MAX_VARIABLE_BYTE_INTEGER: usize = 268_435_455;
