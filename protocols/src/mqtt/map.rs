//! MQTT's words for the realm's, and back: reason codes, message properties, names.
//!
//! One table per direction and packet; nothing here has state. Reason codes are those of 5.0; the
//! codec turns them into the return codes of 3.x.

mod call;

pub use call::{answer_attributes, arguments, envelope, user_property};

use super::codec::{EncodeError, encode_shared_properties, validate_topic_name};
use super::packet::{Properties, QoS, Will};
use super::reason::ReasonCode;
use crate::gate::JoinError;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::model::{
    Attributes, Body, ENVELOPE_CONTENT_TYPE, EndReason, ErrorKind, Event, Form, LastWill, Payload,
    Publish, Qos, Topic,
};
use router_core::runtime::is_realm_name;
use std::borrow::Cow;
use std::time::Duration;

/// The content type of a value that is JSON because its publisher sent a value, not bytes.
const JSON_CONTENT_TYPE: &str = "application/json";
/// [`JSON_CONTENT_TYPE`] and Payload Format Indicator 1 as they stand on the wire.
const JSON_PROPERTIES: &[u8] = b"\x01\x01\x03\x00\x10application/json";
/// [`ENVELOPE_CONTENT_TYPE`] and Payload Format Indicator 1 as they stand on the wire.
const ENVELOPE_PROPERTIES: &[u8] = b"\x01\x01\x03\x00\x15application/wamp+json";

/// Name of the User Property that tells of dropped deliveries.
const LOST_PROPERTY: &str = "reynard-lost";

/// QoS of the packet model as the realm's assurance.
#[must_use]
pub const fn assurance(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// The realm's assurance as QoS of the packet model.
#[must_use]
pub const fn qos(assurance: Qos) -> QoS {
    match assurance {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// Why the realm did not let the client in, for CONNACK (5.0 section 3.2.2.2, 3.1.1 table 3.1).
#[must_use]
pub const fn connect_reason(error: &JoinError) -> ReasonCode {
    match error {
        // The realm's name came with the user name; a stranger learns no more than that.
        JoinError::InvalidRealm | JoinError::NoSuchRealm | JoinError::BadCredentials => {
            ReasonCode::BadUserNameOrPassword
        }
        JoinError::CredentialsRequired | JoinError::NotAuthorized(_) => ReasonCode::NotAuthorized,
        JoinError::TooMany => ReasonCode::QuotaExceeded,
        // 0x8B is no code of CONNACK.
        JoinError::Unavailable | JoinError::ShuttingDown => ReasonCode::ServerUnavailable,
    }
}

/// Why an authentication exchange did not let the client in, for CONNACK. The code is the same as
/// for a proof that fails later, in DISCONNECT, which knows no 0x86.
#[must_use]
pub const fn proof_refused(error: &JoinError) -> ReasonCode {
    match error {
        JoinError::BadCredentials => ReasonCode::NotAuthorized,
        _ => connect_reason(error),
    }
}

/// Why a session did not prove its name again, for DISCONNECT (5.0 section 4.12.1).
#[must_use]
pub const fn proof_reason(error: &JoinError) -> ReasonCode {
    match error {
        JoinError::TooMany => ReasonCode::ServerBusy,
        JoinError::Unavailable => ReasonCode::UnspecifiedError,
        JoinError::ShuttingDown => ReasonCode::ServerShuttingDown,
        _ => ReasonCode::NotAuthorized,
    }
}

/// A refused PUBLISH, for PUBACK and PUBREC (5.0 section 3.4.2.1).
#[must_use]
pub const fn publish_reason(kind: ErrorKind) -> ReasonCode {
    match kind {
        ErrorKind::NotAuthorized | ErrorKind::LockHeld => ReasonCode::NotAuthorized,
        ErrorKind::InvalidTopic => ReasonCode::TopicNameInvalid,
        ErrorKind::QuotaExceeded | ErrorKind::PayloadTooLarge => ReasonCode::QuotaExceeded,
        ErrorKind::InvalidArgument => ReasonCode::PayloadFormatInvalid,
        ErrorKind::OptionNotAllowed
        | ErrorKind::ConditionFailed
        | ErrorKind::FeatureNotSupported => ReasonCode::ImplementationSpecificError,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// Whether a 3.x client gets a positive acknowledgement for a PUBLISH refused for this reason.
///
/// 3.x cannot say no. What will never be accepted is acknowledged and dropped, as `[MQTT-3.3.5-2]`
/// of 3.1.1 allows; what may be accepted later is left unacknowledged and the connection closed,
/// so that the client still has the message.
#[must_use]
pub const fn acknowledges_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotAuthorized | ErrorKind::InvalidTopic | ErrorKind::LockHeld
    )
}

/// A refused subscription, for SUBACK (5.0 section 3.9.3).
#[must_use]
pub const fn subscribe_reason(kind: ErrorKind) -> ReasonCode {
    match kind {
        ErrorKind::NotAuthorized => ReasonCode::NotAuthorized,
        ErrorKind::InvalidTopic | ErrorKind::InvalidArgument => ReasonCode::TopicFilterInvalid,
        ErrorKind::QuotaExceeded => ReasonCode::QuotaExceeded,
        ErrorKind::OptionNotAllowed | ErrorKind::FeatureNotSupported => {
            ReasonCode::ImplementationSpecificError
        }
        _ => ReasonCode::UnspecifiedError,
    }
}

/// A refused unsubscription, for UNSUBACK (5.0 section 3.11.3).
#[must_use]
pub const fn unsubscribe_reason(kind: ErrorKind) -> ReasonCode {
    match kind {
        ErrorKind::NoSuchSubscription => ReasonCode::NoSubscriptionExisted,
        ErrorKind::NotAuthorized => ReasonCode::NotAuthorized,
        ErrorKind::InvalidTopic => ReasonCode::TopicFilterInvalid,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// Why the realm ended the session, for DISCONNECT (5.0 section 3.14.2.1).
#[must_use]
pub const fn end_reason(reason: &EndReason) -> (ReasonCode, &'static str) {
    match reason {
        EndReason::TakenOver => (
            ReasonCode::SessionTakenOver,
            "another connection uses this Client Identifier",
        ),
        EndReason::Killed { .. } => (
            ReasonCode::AdministrativeAction,
            "the session was ended by an administrator",
        ),
        EndReason::TooSlow => (ReasonCode::QuotaExceeded, "the client reads too slowly"),
        EndReason::Violation(message) => (ReasonCode::ProtocolError, message),
        EndReason::StorageUnavailable => (
            ReasonCode::UnspecifiedError,
            "the durable store is not available",
        ),
        EndReason::Shutdown => (ReasonCode::ServerShuttingDown, "the server shuts down"),
        EndReason::RealmClosed => (ReasonCode::ServerShuttingDown, "the realm is closed"),
    }
}

/// The WebSocket close code that goes with a reason (RFC 6455 section 7.4.1).
#[must_use]
pub const fn close_code(reason: ReasonCode) -> u16 {
    match reason {
        // No fault of anybody's; the driver logs the others.
        ReasonCode::Success | ReasonCode::SessionTakenOver | ReasonCode::KeepAliveTimeout => 1000,
        ReasonCode::ServerShuttingDown => 1001,
        ReasonCode::MalformedPacket
        | ReasonCode::ProtocolError
        | ReasonCode::TopicAliasInvalid
        | ReasonCode::ReceiveMaximumExceeded => 1002,
        ReasonCode::PacketTooLarge => 1009,
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy | ReasonCode::QuotaExceeded => 1013,
        ReasonCode::UnspecifiedError | ReasonCode::ImplementationSpecificError => 1011,
        _ => 1008,
    }
}

/// A Topic Name as a topic of the realm: the same text `[MQTT-4.7.3-4]`, with at most
/// `max_levels` levels.
#[must_use]
pub fn topic(text: ByteString, max_levels: usize) -> Option<Topic> {
    validate_topic_name(&text, max_levels).ok()?;
    Topic::new(&*text).ok()
}

/// What stands beside the payload of a message from a client; copied, because a retained or
/// queued message must not keep the read buffer alive.
#[must_use]
pub fn attributes(set: &Properties) -> Option<Box<Attributes>> {
    let copy = |text: &Option<ByteString>| text.as_deref().map(ByteString::from);
    let attributes = Attributes {
        is_text: set.payload_format_indicator,
        content_type: copy(&set.content_type),
        response_topic: copy(&set.response_topic),
        correlation_data: set.correlation_data.as_deref().map(Bytes::copy_from_slice),
        user_properties: (set.user_properties.iter())
            .map(|(name, value)| (ByteString::from(&**name), ByteString::from(&**value)))
            .collect(),
    };
    (attributes != Attributes::default()).then(|| Box::new(attributes))
}

/// The payload of a message from a client.
#[must_use]
pub fn payload(data: Bytes, set: &Properties) -> Payload {
    let enveloped = set.content_type.as_deref() == Some(ENVELOPE_CONTENT_TYPE);
    Payload::bytes(data, enveloped)
}

/// Whether the payload is what its Payload Format Indicator says (5.0 section 3.3.2.3.2).
#[must_use]
pub fn is_in_format(data: &[u8], set: &Properties) -> bool {
    set.payload_format_indicator != Some(true) || std::str::from_utf8(data).is_ok()
}

/// The seconds of Message Expiry Interval.
#[must_use]
pub fn expiry(set: &Properties) -> Option<Duration> {
    set.message_expiry_interval
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// The Will Message of a CONNECT, copied out of the read buffer.
///
/// # Errors
/// The reason for the CONNACK: its topic or payload is not acceptable.
pub fn last_will(will: &Will, max_levels: usize) -> Result<LastWill, ReasonCode> {
    let none = Properties::default();
    let will = will.detach();
    let set = will.properties.as_deref().unwrap_or(&none);
    if !is_in_format(&will.payload, set) {
        return Err(ReasonCode::PayloadFormatInvalid);
    }
    let topic = topic(will.topic, max_levels).ok_or(ReasonCode::TopicNameInvalid)?;
    let publish = Publish {
        qos: assurance(will.qos),
        retain: will.retain,
        exclude_me: false,
        expiry: expiry(set),
        attributes: attributes(set),
        ..Publish::new(topic, payload(will.payload, set))
    };
    let delay = Duration::from_secs(set.will_delay_interval.unwrap_or(0).into());
    Ok(LastWill { publish, delay })
}

/// The payload of an event for a client, and its forwarded properties as they stand on the wire
/// of 5.0.
///
/// Bytes go out as they came `[MQTT-3.3.2-4]`. Arguments become JSON, and 5.0 is told so. A
/// deletion is an empty payload, whatever its publisher sent.
///
/// # Errors
/// A property cannot stand in a PUBLISH.
pub fn outgoing(event: &Event) -> Result<(Cow<'_, Bytes>, Cow<'static, [u8]>), EncodeError> {
    let given = event.attributes.as_deref();
    if let Body::Bytes { data, .. } = event.payload.body() {
        let shared = match given {
            None => Cow::Borrowed(&[][..]),
            Some(attributes) => properties(attributes)?,
        };
        return Ok((Cow::Borrowed(data), shared));
    }
    if event.clears {
        return Ok((Cow::Owned(Bytes::new()), Cow::Borrowed(&[])));
    }
    let (data, form) = event.payload.as_bytes();
    let (content_type, on_wire) = match form {
        Form::Json => (Some(JSON_CONTENT_TYPE), JSON_PROPERTIES),
        Form::Envelope => (Some(ENVELOPE_CONTENT_TYPE), ENVELOPE_PROPERTIES),
        Form::Text | Form::Bytes => (None, &[][..]),
    };
    let Some(given) = given else {
        return Ok((Cow::Owned(data), Cow::Borrowed(on_wire)));
    };
    let mut attributes = given.clone();
    if let Some(name) = content_type {
        attributes.is_text = Some(true);
        attributes.content_type = Some(ByteString::from_static(name));
    }
    Ok((Cow::Owned(data), properties(&attributes)?))
}

fn properties(attributes: &Attributes) -> Result<Cow<'static, [u8]>, EncodeError> {
    let set = Properties {
        payload_format_indicator: attributes.is_text,
        content_type: attributes.content_type.clone(),
        response_topic: attributes.response_topic.clone(),
        correlation_data: attributes.correlation_data.clone(),
        user_properties: attributes.user_properties.clone(),
        ..Properties::default()
    };
    let mut written = BytesMut::new();
    encode_shared_properties(&set, &mut written)?;
    Ok(Cow::Owned(written.into()))
}

/// The User Property that tells a client how many deliveries to it were dropped ahead of this one,
/// as it stands on the wire of 5.0.
///
/// # Errors
/// Never: it is short and valid.
pub fn lost_property(count: u32) -> Result<Cow<'static, [u8]>, EncodeError> {
    let set = Properties {
        user_properties: vec![(
            ByteString::from_static(LOST_PROPERTY),
            count.to_string().into(),
        )],
        ..Properties::default()
    };
    let mut written = BytesMut::new();
    encode_shared_properties(&set, &mut written)?;
    Ok(Cow::Owned(written.into()))
}

/// Seconds that remain of an event's Message Expiry Interval `[MQTT-3.3.2-6]`, begun ones counted
/// whole; 0 for a repetition of a message that expired after it was first sent.
#[must_use]
pub fn remaining_expiry(event: &Event, unix_ms: u64) -> Option<u32> {
    let left = event.expires_at_ms?.saturating_sub(unix_ms);
    Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX))
}

/// Splits a user name into the name itself and the realm it selects: `user@realm`, at the last
/// `@`, if what follows can name a realm at all.
#[must_use]
pub fn split_user_name(user: &str) -> (&str, Option<&str>) {
    match user.rsplit_once('@') {
        Some((name, realm)) if is_realm_name(realm) => (name, Some(realm)),
        _ => (user, None),
    }
}

#[cfg(test)]
mod tests;
