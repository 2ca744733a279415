//! The stored forms of a realm. The storage envelope carries checksum and format version; these are
//! MessagePack maps, so that a later release can add fields.

use crate::encoding::Encoding;
use crate::model::{
    Admission, Args, Attributes, Body, Event, EventDelivery, Handover, Level, Made, MatchKind,
    Pattern, Payload, PublicationId, Publisher, Qos, Seal, SessionId, SubscriptionId, Topic,
    WillScope,
};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use storage::Space;

mod check;
mod history;

pub use check::check;
pub use history::{MARK, StoredMark, StoredTrace, mark_key, publication, trace_key, trace_of};

/// Process-wide facts: the publication id lease.
pub const META: Space = Space(0);
/// realm, topic -> [`StoredEntry`].
pub const VALUES: Space = Space(1);
/// realm, client -> [`StoredSession`].
pub const SESSIONS: Space = Space(2);
/// realm, client, number -> [`StoredDelivery`].
pub const QUEUES: Space = Space(3);
/// realm, client, id -> nothing: incoming exactly-once ids not yet released.
pub const RECEIPTS: Space = Space(4);
/// realm, client -> [`StoredWill`].
pub const LAST_WILLS: Space = Space(5);

/// realm, client, (notation, levels, filter, share if any) -> [`StoredSubscription`].
pub const SUBSCRIPTIONS: Space = Space(6);

/// realm, publication -> [`StoredTrace`]; realm, [`MARK`], log -> [`StoredMark`].
pub const HISTORY: Space = Space(7);

/// An event as stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredEvent {
    publication: u64,
    topic: Topic,
    body: StoredBody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publisher: Option<Arc<Publisher>>,
    qos: Qos,
    retain: bool,
    clears: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<Box<Attributes>>,
    /// Absent in records of former releases: everybody may receive those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admission: Option<Box<Admission>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredBody {
    Bytes(Bytes, bool),
    Json(Option<Bytes>, Option<Bytes>),
    MsgPack(Option<Bytes>, Option<Bytes>),
    Cbor(Option<Bytes>, Option<Bytes>),
}

impl From<&Event> for StoredEvent {
    fn from(event: &Event) -> StoredEvent {
        StoredEvent {
            publication: event.publication.0,
            topic: event.topic.clone(),
            body: (&event.payload).into(),
            publisher: event.publisher.clone(),
            qos: event.qos,
            retain: event.retain,
            clears: event.clears,
            token: event.token,
            expires_at_ms: event.expires_at_ms,
            attributes: event.attributes.clone(),
            admission: event.admission.clone(),
            seal: event.payload.seal().cloned(),
        }
    }
}

impl From<StoredEvent> for Event {
    fn from(stored: StoredEvent) -> Event {
        let payload = Payload::from(stored.body);
        Event {
            publication: PublicationId(stored.publication),
            topic: stored.topic,
            payload: match stored.seal {
                Some(seal) => payload.sealed(seal),
                None => payload,
            },
            publisher: stored.publisher,
            qos: stored.qos,
            retain: stored.retain,
            clears: stored.clears,
            token: stored.token,
            expires_at_ms: stored.expires_at_ms,
            attributes: stored.attributes,
            admission: stored.admission,
            made: Made::default(),
        }
    }
}

impl From<&Payload> for StoredBody {
    fn from(payload: &Payload) -> StoredBody {
        match payload.body().clone() {
            Body::Bytes { data, enveloped } => StoredBody::Bytes(data, enveloped),
            Body::Args {
                encoding: Encoding::Json,
                args,
            } => StoredBody::Json(args.args, args.kwargs),
            Body::Args {
                encoding: Encoding::MsgPack,
                args,
            } => StoredBody::MsgPack(args.args, args.kwargs),
            Body::Args {
                encoding: Encoding::Cbor,
                args,
            } => StoredBody::Cbor(args.args, args.kwargs),
        }
    }
}

impl From<StoredBody> for Payload {
    fn from(body: StoredBody) -> Payload {
        match body {
            StoredBody::Bytes(data, enveloped) => Payload::bytes(data, enveloped),
            StoredBody::Json(args, kwargs) => Payload::args(Encoding::Json, Args { args, kwargs }),
            StoredBody::MsgPack(args, kwargs) => {
                Payload::args(Encoding::MsgPack, Args { args, kwargs })
            }
            StoredBody::Cbor(args, kwargs) => Payload::args(Encoding::Cbor, Args { args, kwargs }),
        }
    }
}

/// A key: its value and will, or the token of its deletion.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives only between a record and its encoding"
)]
pub enum StoredEntry {
    /// A value.
    Kept {
        /// The event that wrote it.
        event: StoredEvent,
        /// Owner, value as JSON text, scope.
        will: Option<(SessionId, String, WillScope)>,
    },
    /// Deleted by the write with this token.
    Deleted {
        /// The token.
        token: u64,
    },
}

/// A durable session without its queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredSession {
    /// Its id.
    pub session: SessionId,
    /// Who it is.
    pub authid: ByteString,
    /// Its role by name.
    pub role: ByteString,
    /// How it proved its name.
    pub method: ByteString,
    /// Life after the connection, in seconds; `u64::MAX`: for ever.
    pub expiry_secs: u64,
    /// When the connection was lost; `None` while connected.
    pub detached_at_ms: Option<u64>,
    /// Deliveries up to this number may have been handed out.
    #[serde(default = "everything")]
    pub handed_out: u64,
}

/// A subscription of a durable session.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredSubscription {
    /// The notation.
    pub kind: u8,
    /// The levels; see [`StoredSubscription::pattern`].
    pub levels: Vec<StoredLevel>,
    /// The condition as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// At most this assurance.
    pub qos: Qos,
    /// Not its own.
    pub no_local: bool,
    /// The publisher's retain flag as it was.
    pub retain_as_published: bool,
    /// Its own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<u32>,
    /// The group it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ByteString>,
    /// Its id, by which queued deliveries name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SubscriptionId>,
    /// When the subscription was made, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<u64>,
    /// How far kept values have been shown to it; `None`: all that are due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaying: Option<StoredReplay>,
}

/// A replay of kept values under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredReplay {
    /// The last key visited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Topic>,
    /// Later writes reached the subscriber live.
    pub until: PublicationId,
    /// The history comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<StoredCatchup>,
}

/// The part of a replay that shows what the realm remembers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StoredCatchup {
    /// Shown up to this publication.
    pub after: u64,
    /// Kept values follow.
    pub values: bool,
}

/// A level of a stored pattern.
#[derive(Debug, Serialize, Deserialize)]
pub enum StoredLevel {
    /// This level.
    Exact(ByteString),
    /// One level.
    One,
    /// The rest.
    Rest,
    /// The pattern is a string prefix of this text.
    Prefix(ByteString),
}

impl StoredSubscription {
    /// The stored form of a pattern.
    #[must_use]
    pub fn levels_of(pattern: &Pattern) -> Vec<StoredLevel> {
        match pattern {
            Pattern::Exact(topic) => topic
                .levels()
                .map(|level| StoredLevel::Exact(level.into()))
                .collect(),
            Pattern::Prefix(prefix) => vec![StoredLevel::Prefix(prefix.as_str().into())],
            Pattern::Levels(levels) => levels
                .iter()
                .map(|level| match level {
                    Level::Exact(text) => StoredLevel::Exact(text.as_str().into()),
                    Level::One => StoredLevel::One,
                    Level::Rest => StoredLevel::Rest,
                })
                .collect(),
        }
    }

    /// The pattern, if it is one.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        pattern_of(&self.levels)
    }

    /// The notation as a number.
    #[must_use]
    pub fn kind_number(kind: MatchKind) -> u8 {
        match kind {
            MatchKind::Exact => 0,
            MatchKind::Prefix => 1,
            MatchKind::Wildcard => 2,
            MatchKind::Levels => 3,
        }
    }

    /// The notation of a number; unknown ones are level patterns.
    #[must_use]
    pub fn kind(&self) -> MatchKind {
        match self.kind {
            0 => MatchKind::Exact,
            1 => MatchKind::Prefix,
            2 => MatchKind::Wildcard,
            _ => MatchKind::Levels,
        }
    }
}

/// The pattern of stored levels, if they are one.
fn pattern_of(levels: &[StoredLevel]) -> Option<Pattern> {
    if let [StoredLevel::Prefix(prefix)] = levels {
        return Pattern::prefix(prefix).ok();
    }
    let levels = levels
        .iter()
        .map(|level| match level {
            StoredLevel::Exact(text) => Some(Level::Exact((&**text).into())),
            StoredLevel::One => Some(Level::One),
            StoredLevel::Rest => Some(Level::Rest),
            StoredLevel::Prefix(_) => None,
        })
        .collect::<Option<Vec<Level>>>()?;
    Pattern::from_levels(levels).ok()
}

/// A queued delivery of a durable session.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives only between a record and its encoding"
)]
pub enum StoredDelivery {
    /// Not settled.
    Waiting {
        /// What.
        event: StoredEvent,
        /// By which subscription.
        subscription: SubscriptionId,
        /// At which assurance.
        qos: Qos,
        /// A replayed retained value.
        replayed: bool,
        /// The retain flag to show.
        retain: bool,
        /// The subscriber's own numbers.
        identifiers: Vec<u32>,
        /// Who else of its share group may receive it.
        #[serde(default, skip_serializing_if = "Handover::is_nobody")]
        handover: Handover,
    },
    /// The receiver has it; only the release is open.
    Released,
    /// Deliveries up to this one were dropped because the queue was full; the next one tells of it.
    Lost {
        /// How many.
        lost: u32,
    },
}

impl StoredDelivery {
    /// The delivery, unless it is none.
    #[must_use]
    pub fn delivery(self) -> Option<EventDelivery> {
        let StoredDelivery::Waiting {
            event: stored,
            subscription,
            qos,
            replayed,
            retain,
            identifiers,
            handover,
        } = self
        else {
            return None;
        };
        Some(EventDelivery {
            event: event(stored),
            subscription,
            exact: true,
            qos,
            replayed,
            retain,
            identifiers: identifiers.into(),
            slot: None,
            repeated: false,
            lost: 0,
            gap: false,
            handover,
        })
    }
}

/// What a restart needs of a queued delivery that stays on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Its cost in bytes: about what its event will count.
    pub cost: u32,
    /// When it expires, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// A queued delivery read without its body.
#[derive(Deserialize)]
enum Glance {
    Waiting {
        event: GlanceEvent,
        replayed: bool,
        #[serde(default)]
        handover: Handover,
    },
    Released,
    Lost {
        #[serde(rename = "lost")]
        _lost: u32,
    },
}

#[derive(Deserialize)]
struct GlanceEvent {
    #[serde(default)]
    expires_at_ms: Option<u64>,
}

impl StoredHead {
    /// What is needed of a [`StoredDelivery`] record, or `None` if it has to be read as a whole: because it may not
    /// stay on disk alone, is no delivery, or is damaged.
    #[must_use]
    pub fn of(record: &[u8]) -> Option<StoredHead> {
        match decode(record).ok()? {
            Glance::Waiting {
                event,
                replayed: false,
                handover: Handover::Nobody,
            } => Some(StoredHead {
                cost: u32::try_from(record.len()).unwrap_or(u32::MAX),
                expires_at_ms: event.expires_at_ms,
            }),
            Glance::Waiting { .. } | Glance::Released | Glance::Lost { .. } => None,
        }
    }
}

/// Records of former releases do not say what was handed out: anything may have been.
fn everything() -> u64 {
    u64::MAX
}

/// A last will.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredWill {
    /// The message; its publication id is given when it is published.
    pub event: StoredEvent,
    /// Seconds to wait for the session to be resumed.
    pub delay_secs: u64,
    /// Seconds until the message expires after publication.
    pub expiry_secs: Option<u64>,
}

/// Serialises a record.
///
/// # Errors
/// When a value cannot be expressed, which no record here contains.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(record)
}

/// Reads a record back.
///
/// # Errors
/// When the bytes are not such a record.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

/// The key of `parts` in a space; U+0000 cannot occur in a realm name or a client id, and a topic
/// comes last.
#[must_use]
pub fn key(realm: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(realm.len() + 1 + rest.len());
    key.extend_from_slice(realm.as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

/// The key of a numbered record of a client.
#[must_use]
pub fn client_key(realm: &str, client: &str, number: u64) -> Vec<u8> {
    client_part_key(realm, client, &number.to_be_bytes())
}

/// The key of a named record of a client.
#[must_use]
pub fn client_part_key(realm: &str, client: &str, part: &[u8]) -> Vec<u8> {
    let mut key = key(realm, client.as_bytes());
    key.push(0);
    key.extend_from_slice(part);
    key
}

/// Splits a key made by [`key`] into realm and rest.
#[must_use]
pub fn split_key(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(0, key)?;
    Some((
        std::str::from_utf8(key.get(..end)?).ok()?,
        key.get(end + 1..)?,
    ))
}

/// Splits a key made by [`client_part_key`] into realm, client and part.
#[must_use]
pub fn split_client_key(key: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (realm, rest) = split_key(key)?;
    let end = memchr::memchr(0, rest)?;
    let client = std::str::from_utf8(rest.get(..end)?).ok()?;
    Some((realm, client, rest.get(end + 1..)?))
}

/// Reads the number of a key made by [`client_key`].
#[must_use]
pub fn number(part: &[u8]) -> Option<u64> {
    part.try_into().ok().map(u64::from_be_bytes)
}

/// Reads a stored event.
#[must_use]
pub fn event(stored: StoredEvent) -> Arc<Event> {
    Arc::new(stored.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_every_encoding_come_back_and_older_records_still_open() {
        for encoding in [Encoding::Json, Encoding::MsgPack, Encoding::Cbor] {
            let args = Args {
                args: Some(encoding.array_of(&[encoding.null()])),
                kwargs: None,
            };
            let stored = encode(&StoredBody::from(&Payload::args(encoding, args.clone()))).unwrap();
            let read = Payload::from(decode::<StoredBody>(&stored).unwrap());
            assert_eq!(read.body(), &Body::Args { encoding, args });
        }
        // As written before there was a third encoding: variants by name.
        let old = b"\x81\xa7MsgPack\x92\xc4\x01\x90\xc0";
        let read = Payload::from(decode::<StoredBody>(old).unwrap());
        let args = Args {
            args: Some(Bytes::from_static(&[0x90])),
            kwargs: None,
        };
        let encoding = Encoding::MsgPack;
        assert_eq!(read.body(), &Body::Args { encoding, args });
    }

    #[test]
    fn a_sealed_event_comes_back_sealed_and_one_without_seal_as_it_was() {
        let seal = Seal {
            notes: vec![("scheme".into(), "x".into())],
            bare: true,
        };
        let args = Args {
            args: Some(Encoding::Cbor.binary_value(&[1, 2, 3])),
            kwargs: None,
        };
        for seal in [Some(seal), None] {
            let payload = Payload::args(Encoding::Cbor, args.clone());
            let event = Event {
                publication: PublicationId(1),
                topic: Topic::new("a").unwrap(),
                payload: match seal.clone() {
                    Some(seal) => payload.sealed(seal),
                    None => payload,
                },
                publisher: None,
                qos: Qos::AtMostOnce,
                retain: true,
                clears: false,
                token: None,
                expires_at_ms: None,
                attributes: None,
                admission: None,
                made: Made::default(),
            };
            let stored = encode(&StoredEvent::from(&event)).unwrap();
            let names_it = stored.windows(4).any(|part| part == b"seal");
            assert_eq!(names_it, seal.is_some(), "older readers see nothing new");
            let read = Event::from(decode::<StoredEvent>(&stored).unwrap());
            assert_eq!(read.payload.seal(), seal.as_ref());
            assert_eq!(read.payload.body(), event.payload.body());
            assert_eq!(read.payload.detached().seal(), seal.as_ref());
        }
    }
}
