//! What can go wrong between bytes and packets, and how to say so to the peer (5.0 section 4.13).

use crate::mqtt::packet::ProtocolVersion;
use crate::mqtt::reason::ReasonCode;

/// Whose doing a [`DecodeError`] is: tells an operator whether a client or a setting needs care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer broke the standard.
    Peer,
    /// The bytes may be legal MQTT, but exceed a limit or version this side supports.
    Limit,
}

/// Why the bytes of a peer cannot be accepted. The connection must be closed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {reason}")]
pub struct DecodeError {
    /// Code for the CONNACK (before CONNECT was accepted) or DISCONNECT (after) of 5.0.
    pub reason: ReasonCode,
    /// Whose doing it is.
    pub fault: Fault,
    /// The rule that was broken, for logs.
    pub message: &'static str,
    /// Version in which the peer can be answered: known after CONNECT, and for a faulty CONNECT
    /// as soon as its protocol level was read. `None`: close without a word.
    pub reply_version: Option<ProtocolVersion>,
}

impl DecodeError {
    const fn new(reason: ReasonCode, fault: Fault, message: &'static str) -> Self {
        Self {
            reason,
            fault,
            message,
            reply_version: None,
        }
    }

    /// Bytes that do not parse (0x81).
    pub(super) const fn malformed(message: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, Fault::Peer, message)
    }

    /// Bytes that parse into something forbidden (0x82).
    pub(super) const fn protocol(message: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, Fault::Peer, message)
    }

    /// A forbidden value with a reason code of its own.
    pub(super) const fn peer(reason: ReasonCode, message: &'static str) -> Self {
        Self::new(reason, Fault::Peer, message)
    }

    /// Something this side does not take.
    pub(super) const fn limit(reason: ReasonCode, message: &'static str) -> Self {
        Self::new(reason, Fault::Limit, message)
    }
}

/// Why a packet cannot be written. Nothing has been appended to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes (5.0 sections 1.5.4 and 1.5.6).
    #[error("a string or binary field is longer than 65535 bytes")]
    FieldTooLong,
    /// The packet is larger than the standard or the peer's Maximum Packet Size allows
    /// `[MQTT-3.1.2-24]`.
    #[error("a packet of {size} bytes exceeds the maximum of {maximum}")]
    PacketTooLarge {
        /// Bytes of the whole packet, at its smallest if parts of it may be left out.
        size: usize,
        /// Bytes allowed.
        maximum: usize,
    },
    /// This version has no such packet.
    #[error("{0} does not exist in this version")]
    NotInVersion(&'static str),
    /// The reason has no 3.x CONNACK return code: close without a CONNACK.
    #[error("this reason has no 3.x return code")]
    NoReturnCode,
    /// The packet contradicts itself or the standard; a defect of the caller.
    #[error("{0}")]
    Inconsistent(&'static str),
}
