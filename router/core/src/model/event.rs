//! A published message, shared by everybody who receives it.

use super::{Admission, Payload, PublicationId, SessionId, Topic};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// How much a delivery may cost to arrive; ordered, so that the lower of two wins.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[repr(u8)]
pub enum Qos {
    /// Sent once, never repeated.
    #[default]
    AtMostOnce = 0,
    /// Repeated until the receiver settles it.
    AtLeastOnce = 1,
    /// Repeated until settled and recognised as a repetition.
    ExactlyOnce = 2,
}

/// Who published, as far as a receiver may be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// The session, which may have ended since.
    pub session: SessionId,
    /// The client whose session it is, for those who do not want their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ByteString>,
    /// Its authenticated name.
    pub authid: ByteString,
    /// Its role.
    pub role: ByteString,
    /// Whether receivers are told.
    pub disclosed: bool,
}

/// What travels beside a payload and is not interpreted on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The sender says the payload is UTF-8 text (`Some(true)`) or unspecified bytes.
    pub is_text: Option<bool>,
    /// MIME type of the payload.
    pub content_type: Option<ByteString>,
    /// Where an answer is expected.
    pub response_topic: Option<ByteString>,
    /// To be returned with the answer.
    pub correlation_data: Option<Bytes>,
    /// Name and value pairs in order, duplicates kept.
    pub user_properties: Vec<(ByteString, ByteString)>,
}

/// A message with the place it took in the realm's order.
#[derive(Debug)]
pub struct Event {
    /// Grows in the order in which the realm accepted events.
    pub publication: PublicationId,
    /// Where it was published.
    pub topic: Topic,
    /// What was said.
    pub payload: Payload,
    /// By whom; `None` for the realm itself.
    pub publisher: Option<Arc<Publisher>>,
    /// The assurance the publisher asked for; deliveries have at most this.
    pub qos: Qos,
    /// The publisher asked to keep it.
    pub retain: bool,
    /// It deletes the retained value: protocols whose delete is an empty payload send that.
    pub clears: bool,
    /// Fencing token of the retained write it stands for.
    pub token: Option<u64>,
    /// Wall-clock milliseconds after which nobody wants it any more.
    pub expires_at_ms: Option<u64>,
    /// Present when the sender gave any.
    pub attributes: Option<Box<Attributes>>,
    /// Who may receive it; `None`: everybody with the right to.
    pub admission: Option<Box<Admission>>,
    /// What is sent to everybody who gets the same.
    pub made: Made,
}

/// Bytes that a gate made of an event for one of many receivers, and need not make again for those alike.
#[derive(Debug, Default)]
pub struct Made(OnceLock<Box<(u64, Bytes)>>);

impl Made {
    /// The bytes, if they were made for receivers of this `kind`, a number of the gate's own.
    #[must_use]
    pub fn get(&self, kind: u64) -> Option<&Bytes> {
        let (known, bytes) = &**self.0.get()?;
        (*known == kind).then_some(bytes)
    }

    /// Keeps them for the others; the first kind is the only one that is kept.
    pub fn keep(&self, kind: u64, bytes: impl FnOnce() -> Bytes) {
        self.0.get_or_init(|| Box::new((kind, bytes())));
    }
}

impl Event {
    /// What [`Event::cost`] adds to payload and topic, in bytes.
    pub(crate) const OVERHEAD: usize = 64;

    /// Bytes this event counts for in a queue.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.payload.len() + self.topic.text().len() + Event::OVERHEAD
    }

    /// Whether its expiry has passed at `unix_ms`.
    #[must_use]
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= unix_ms)
    }
}
