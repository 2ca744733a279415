//! Between WAMP's words and the core's: names of errors, topics and patterns, payloads, request
//! ids, and the details of an EVENT.

use super::message::{Dict, Payload as Tail};
pub use super::naming::naming;
use super::options::{Match, Options, PublishStandard, Reject, publish_options};
use super::passthru::{self, Passthru};
use super::uris::{self, Part, RESERVED_COMPONENT, UriError, error};
pub use crate::gate::{INTERNAL, QUOTA_EXCEEDED, error_uri};
use bytestring::ByteString;
use router_core::encoding::{Encoding, text_from_binary};
use router_core::model::{
    Args, Attributes, Body, EventDelivery, Form, InterruptReason, Level, MatchKind, Now, Pattern,
    PatternError, Payload, Publish, RequestId, Topic, TopicError,
};
use serde_json::{Value, json};

/// The session's queue of outgoing messages was full: reason of the ABORT.
pub const TOO_SLOW: &str = "reynard.error.too_slow";
/// A registration was taken from its callee by somebody with the right to do so.
pub const REVOKED: &str = "reynard.registration.revoked";
/// The `reason` of an INTERRUPT.
#[must_use]
pub const fn interrupt_uri(reason: InterruptReason) -> &'static str {
    match reason {
        InterruptReason::Canceled => error::CANCELED,
        InterruptReason::Timeout => error::TIMEOUT,
        InterruptReason::TooMuch => QUOTA_EXCEEDED,
    }
}

/// Clients may be lenient and use one request id for messages of several kinds at a time, so the
/// kind travels in the bits above 2^53.
const KIND_SHIFT: u32 = 56;

/// The core's name for a request: the type code of the message, and its id (at most 2^53).
#[must_use]
pub const fn request_id(code: u64, request: u64) -> RequestId {
    RequestId(code << KIND_SHIFT | request)
}

/// The inverse of [`request_id`].
#[must_use]
pub const fn request_of(id: RequestId) -> (u64, u64) {
    (id.0 >> KIND_SHIFT, id.0 & ((1 << KIND_SHIFT) - 1))
}

fn invalid_uri(reason: impl std::fmt::Display) -> Reject {
    Reject::error(error::INVALID_URI, reason.to_string())
}

impl From<UriError> for Reject {
    fn from(error: UriError) -> Reject {
        invalid_uri(error)
    }
}

impl From<TopicError> for Reject {
    fn from(error: TopicError) -> Reject {
        invalid_uri(error)
    }
}

impl From<PatternError> for Reject {
    fn from(error: PatternError) -> Reject {
        invalid_uri(error)
    }
}

/// The topic or procedure that a URI names.
///
/// # Errors
/// `wamp.error.invalid_uri`.
pub fn topic(uri: &str) -> Result<Topic, Reject> {
    Ok(Topic::new(&*uris::uri_to_core(uri)?)?)
}

/// The same where only the router itself may use the reserved component (section "Reserved
/// URIs").
///
/// # Errors
/// `wamp.error.invalid_uri`, also for a reserved URI.
pub fn open_topic(uri: &str) -> Result<Topic, Reject> {
    let topic = topic(uri)?;
    if topic.first_level() == RESERVED_COMPONENT {
        return Err(invalid_uri("URIs that start with 'wamp' are reserved"));
    }
    Ok(topic)
}

/// What is published to a URI with these options.
///
/// # Errors
/// As of [`open_topic`], [`publish_options`] and the payload; `wamp.error.invalid_argument` for
/// arguments to merge that the router cannot read.
pub fn publication(
    uri: &str,
    options: Options<'_>,
    payload: impl FnOnce() -> Result<Payload, Reject>,
) -> Result<Publish, Reject> {
    if options.is_empty() {
        let topic = open_topic(uri)?;
        return Ok(Publish::new(topic, payload()?));
    }
    let standard = PublishStandard::read(options)?;
    let topic = open_topic(uri)?;
    let (exclude_me, retain) = (standard.exclude_me, standard.retain);
    let (qos, options) = publish_options(options, standard)?;
    let payload = passthru::native(payload()?);
    if payload.seal().is_some() && options.as_ref().is_some_and(|options| options.merge) {
        let message = "merge needs a value that the router can read";
        return Err(Reject::error(error::INVALID_ARGUMENT, message));
    }
    Ok(Publish {
        qos,
        retain,
        exclude_me,
        options,
        ..Publish::new(topic, payload)
    })
}

/// The pattern of a SUBSCRIBE. Without `match`, `*` and a final `#` are wildcards.
///
/// # Errors
/// `wamp.error.invalid_uri`.
pub fn pattern(uri: &str, matching: Option<Match>) -> Result<(Pattern, MatchKind), Reject> {
    Ok(match matching {
        None if uris::has_wildcards(uri) => (levels(uris::fox_parts(uri)?)?, MatchKind::Levels),
        None | Some(Match::Exact) => (Pattern::Exact(topic(uri)?), MatchKind::Exact),
        Some(Match::Prefix) => {
            let prefix = Pattern::prefix(uris::prefix_to_core(uri)?)?;
            (prefix, MatchKind::Prefix)
        }
        Some(Match::Wildcard) => (levels(uris::wildcard_parts(uri)?)?, MatchKind::Wildcard),
    })
}

/// The pattern of a REGISTER. `*` and `#` are no wildcards there: they belong to SUBSCRIBE.
///
/// # Errors
/// `wamp.error.invalid_uri`, also for what names the reserved component.
pub fn open_pattern(uri: &str, matching: Match) -> Result<(Pattern, MatchKind), Reject> {
    let first = uri.split('.').next().unwrap_or_default();
    if first == RESERVED_COMPONENT {
        return Err(invalid_uri("URIs that start with 'wamp' are reserved"));
    }
    pattern(uri, Some(matching))
}

fn levels(parts: Vec<Part<'_>>) -> Result<Pattern, PatternError> {
    let level = |part| match part {
        Part::Level(text) => Level::Exact((&*text).into()),
        Part::One => Level::One,
        Part::Rest => Level::Rest,
    };
    Pattern::from_levels(parts.into_iter().map(level).collect())
}

/// What the core has, for a client: the very bytes if the encodings are the same.
#[must_use]
pub fn tail(encoding: Encoding, payload: &Payload) -> Tail {
    let Args { args, kwargs } = payload.as_args(encoding);
    Tail { args, kwargs }
}

/// One string as the positional arguments.
#[must_use]
pub fn message_tail(encoding: Encoding, message: &str) -> Tail {
    let args = encoding.array_of(&[&encoding.text_value(message)]);
    Tail {
        args: Some(args),
        kwargs: None,
    }
}

/// ... and keyword arguments for a program.
#[must_use]
pub fn error_tail(encoding: Encoding, message: &str, about: &Dict) -> Tail {
    let about =
        Payload::from_values(&[message.into()]).with_kwargs(Some(Value::Object(about.clone())));
    tail(encoding, &about)
}

/// The details of an EVENT; `None` where they are empty, as for any plain event of an exact
/// subscription.
#[must_use]
pub fn event_details(now: Now, delivery: &EventDelivery, receiver: Passthru) -> Option<Dict> {
    let event = &*delivery.event;
    let publisher = event.publisher.as_ref().filter(|p| p.disclosed);
    let is_bytes = matches!(event.payload.body(), Body::Bytes { .. });
    let words = passthru::words(&event.payload, receiver);
    let is_plain = delivery.exact
        && !delivery.replayed
        && publisher.is_none()
        && event.token.is_none()
        && delivery.lost == 0
        && !delivery.gap
        && !is_bytes
        && words.is_empty();
    if is_plain {
        return None;
    }
    let mut details = Dict::new();
    // Section "Pattern-based Subscriptions": the topic, since the subscription does not tell it.
    if !delivery.exact {
        let topic = uris::core_to_uri(event.topic.text());
        details.insert("topic".into(), topic.into());
    }
    if let Some(publisher) = publisher {
        details.insert("publisher".into(), publisher.session.0.into());
        details.insert("publisher_authid".into(), (*publisher.authid).into());
        details.insert("publisher_authrole".into(), (*publisher.role).into());
    }
    if delivery.replayed {
        details.insert("retained".into(), true.into());
    }
    if let Some(token) = event.token {
        details.insert("token".into(), token.into());
    }
    if delivery.lost > 0 {
        details.insert("x_lost".into(), delivery.lost.into());
    }
    if delivery.gap {
        details.insert("x_gap".into(), true.into());
    }
    details.extend(
        words
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into())),
    );
    if is_bytes {
        details.insert("x_mqtt".into(), bytes_origin(now, delivery));
    }
    Some(details)
}

/// What WAMP has no place for in an event that came as opaque bytes.
fn bytes_origin(now: Now, delivery: &EventDelivery) -> Value {
    let event = &*delivery.event;
    let form = match event.payload.form() {
        Some(Form::Text) => "text",
        Some(Form::Bytes) => "bytes",
        // An envelope is JSON; its content type tells it from a single value.
        Some(Form::Json | Form::Envelope) | None => "json",
    };
    let mut origin = Dict::new();
    origin.insert("qos".into(), json!(event.qos as u8));
    origin.insert("retain".into(), json!(event.retain));
    origin.insert("form".into(), json!(form));
    if let Some(attributes) = &event.attributes {
        add_properties(&mut origin, attributes);
    }
    if let Some(at) = event.expires_at_ms {
        let left_secs = at.saturating_sub(now.unix_ms).div_ceil(1000);
        origin.insert("expiry".into(), json!(left_secs));
    }
    Value::Object(origin)
}

fn add_properties(origin: &mut Dict, attributes: &Attributes) {
    if let Some(is_text) = attributes.is_text {
        origin.insert("pfi".into(), json!(u8::from(is_text)));
    }
    if let Some(content_type) = &attributes.content_type {
        origin.insert("content_type".into(), json!(&**content_type));
    }
    if let Some(topic) = &attributes.response_topic {
        origin.insert("response_topic".into(), json!(&**topic));
    }
    if let Some(data) = &attributes.correlation_data {
        origin.insert("correlation_data".into(), text_from_binary(data).into());
    }
    if !attributes.user_properties.is_empty() {
        let pair = |(name, value): &(ByteString, ByteString)| json!([&**name, &**value]);
        let pairs = attributes.user_properties.iter().map(pair).collect();
        origin.insert("user_properties".into(), Value::Array(pairs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wamp::message::MAX_ID;

    #[test]
    fn request_ids_of_different_kinds_never_meet() {
        for code in [16, 32, 34, 48, 64, 66] {
            for request in [1, 2, MAX_ID] {
                assert_eq!(request_of(request_id(code, request)), (code, request));
            }
        }
        assert_ne!(request_id(16, 1), request_id(32, 1));
    }

    fn refused(read: Result<impl std::fmt::Debug, Reject>) -> &'static str {
        match read.unwrap_err() {
            Reject::Error { error, .. } => error,
            Reject::Violation(_) => "violation",
        }
    }

    #[test]
    fn topics_are_loose_canonical_and_not_reserved() {
        assert_eq!(topic("com.myapp.x").unwrap().text(), "com/myapp/x");
        assert_eq!(topic("a%2Eb.c").unwrap().text(), "a.b/c");
        assert_eq!(
            topic("wamp.session.on_join").unwrap().text(),
            "wamp/session/on_join"
        );
        for bad in ["", "a..b", ".a", "a b", "a.#", "a.*", "a%25x", "\t"] {
            assert_eq!(refused(topic(bad)), error::INVALID_URI, "{bad:?}");
        }
        let deep = vec!["a"; 500].join(".");
        assert_eq!(refused(topic(&deep)), error::INVALID_URI);
        assert_eq!(refused(open_topic("wamp")), error::INVALID_URI);
        assert_eq!(refused(open_topic("wamp.x")), error::INVALID_URI);
        assert_eq!(open_topic("wampx.x").unwrap().text(), "wampx/x");
    }

    #[test]
    fn wildcards_count_only_where_match_is_absent() {
        let kind = |uri, matching| pattern(uri, matching).map(|(_, kind)| kind);
        assert_eq!(kind("a.b", None), Ok(MatchKind::Exact));
        assert_eq!(kind("a.*.b", None), Ok(MatchKind::Levels));
        assert_eq!(kind("a.#", None), Ok(MatchKind::Levels));
        assert_eq!(kind("a*.b", None), Ok(MatchKind::Exact));
        assert_eq!(kind("a..b", Some(Match::Wildcard)), Ok(MatchKind::Wildcard));
        assert_eq!(kind("", Some(Match::Prefix)), Ok(MatchKind::Prefix));
        assert_eq!(kind("a.", Some(Match::Prefix)), Ok(MatchKind::Prefix));
        for (uri, matching) in [
            ("a.#.b", None),
            ("a.x#", None),
            ("a..b", None),
            ("a.*", Some(Match::Exact)),
            ("a..b", Some(Match::Exact)),
            ("a..b", Some(Match::Prefix)),
            ("a.#", Some(Match::Wildcard)),
        ] {
            assert_eq!(refused(pattern(uri, matching)), error::INVALID_URI, "{uri}");
        }
        let many = vec!["*"; 40].join(".");
        assert_eq!(refused(pattern(&many, None)), error::INVALID_URI);
    }

    #[test]
    fn registrations_are_open_and_know_no_stars() {
        for (uri, matching) in [
            ("a.*", Match::Exact),
            ("a.#", Match::Exact),
            ("wamp.x", Match::Exact),
            ("wamp", Match::Prefix),
            ("wamp.", Match::Prefix),
            ("wamp..x", Match::Wildcard),
            ("a..b", Match::Exact),
            ("", Match::Exact),
        ] {
            assert_eq!(
                refused(open_pattern(uri, matching)),
                error::INVALID_URI,
                "{uri}"
            );
        }
        assert!(open_pattern("wampx", Match::Prefix).is_ok());
        assert!(open_pattern("", Match::Prefix).is_ok());
    }

    #[test]
    fn dropped_deliveries_are_told_with_the_next_event() {
        let now = Now {
            instant: std::time::Instant::now(),
            unix_ms: 1_800_000_000_000,
        };
        let delivery = |lost| EventDelivery {
            event: std::sync::Arc::new(router_core::model::Event {
                publication: router_core::model::PublicationId(1),
                topic: topic("a.b").unwrap(),
                payload: Payload::args(Encoding::Json, Args::default()),
                publisher: None,
                qos: router_core::model::Qos::AtMostOnce,
                retain: false,
                clears: false,
                token: None,
                expires_at_ms: None,
                attributes: None,
                admission: None,
                made: router_core::model::Made::default(),
            }),
            subscription: router_core::model::SubscriptionId(1),
            exact: true,
            qos: router_core::model::Qos::AtMostOnce,
            replayed: false,
            retain: false,
            identifiers: Default::default(),
            slot: None,
            repeated: false,
            lost,
            gap: false,
            handover: router_core::model::Handover::Nobody,
        };
        let receiver = Passthru::default();
        assert_eq!(event_details(now, &delivery(0), receiver), None);
        let told = event_details(now, &delivery(3), receiver).map(Value::Object);
        assert_eq!(told, Some(json!({"x_lost": 3})));
        let after_a_gap = EventDelivery {
            gap: true,
            ..delivery(0)
        };
        let told = event_details(now, &after_a_gap, receiver).map(Value::Object);
        assert_eq!(told, Some(json!({"x_gap": true})));
    }

    #[test]
    fn every_refusal_has_a_name_of_its_kind() {
        use router_core::model::ErrorKind;
        assert_eq!(
            error_uri(ErrorKind::ConditionFailed),
            "wamp.error.invalid_payload"
        );
        assert_eq!(
            error_uri(ErrorKind::StorageUnavailable),
            "wamp.error.unavailable"
        );
        for (kind, name) in [
            (ErrorKind::InvalidTopic, error::INVALID_URI),
            (ErrorKind::InvalidArgument, error::INVALID_ARGUMENT),
            (ErrorKind::OptionNotAllowed, error::OPTION_NOT_ALLOWED),
            (
                ErrorKind::DisclosureNotAllowed,
                error::OPTION_DISALLOWED_DISCLOSE_ME,
            ),
            (ErrorKind::NotAuthorized, error::NOT_AUTHORIZED),
            (ErrorKind::NoSuchSubscription, error::NO_SUCH_SUBSCRIPTION),
            (ErrorKind::NoSuchRegistration, error::NO_SUCH_REGISTRATION),
            (ErrorKind::NoSuchProcedure, error::NO_SUCH_PROCEDURE),
            (
                ErrorKind::ProcedureAlreadyExists,
                error::PROCEDURE_ALREADY_EXISTS,
            ),
            (ErrorKind::NoSuchSession, error::NO_SUCH_SESSION),
            (ErrorKind::Timeout, error::TIMEOUT),
            (ErrorKind::Canceled, error::CANCELED),
            (ErrorKind::PayloadTooLarge, error::PAYLOAD_SIZE_EXCEEDED),
            (ErrorKind::NoAvailableCallee, error::NO_AVAILABLE_CALLEE),
            (ErrorKind::FeatureNotSupported, error::FEATURE_NOT_SUPPORTED),
            (ErrorKind::LockHeld, "fox.error.lock_held"),
            (ErrorKind::LockLost, "fox.error.lock_lost"),
            (ErrorKind::QueueFull, "fox.error.queue_full"),
            (ErrorKind::Conflict, "fox.error.conflict"),
        ] {
            assert_eq!(error_uri(kind), name);
        }
        for uri in [QUOTA_EXCEEDED, TOO_SLOW, INTERNAL, REVOKED] {
            assert!(uris::is_concrete(uri));
        }
    }
}
