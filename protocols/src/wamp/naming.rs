//! What a realm's own topics and procedures are called, and how their arguments are spelled: WAMP
//! made them known, so the core asks here.

use super::map::{self, REVOKED, TOO_SLOW};
use super::message::Dict;
use super::options::{Match, Options, Reject};
use super::passthru::{self, Passthru};
use super::uris::{self, Part, RESERVED_COMPONENT, close, error};
use bytestring::ByteString;
use router_core::model::{
    self, EndReason, ErrorKind, EventDelivery, Level, MatchKind, Now, Pattern, Payload, Refusal,
};
use router_core::realm::Naming;

/// The levels above the procedures that write and watch keys, in core text.
const KEYS: &str = "fox/kv";

/// The procedure that reads a key, as fox-wamp names it, in core text.
const VALUE_GET: &str = "fox/kv/get";

/// The levels above the procedures and topics of locks, in core text.
const LOCKS: &str = "fox/lock";

/// The levels above the procedures that look into sessions, in core text.
const INSPECTION: &str = "reynard/session";

/// The names of a realm's own topics and procedures.
#[must_use]
pub fn naming() -> Naming {
    Naming {
        reserved: ByteString::from_static(RESERVED_COMPONENT),
        inspection: ByteString::from_static(INSPECTION),
        keys: ByteString::from_static(KEYS),
        value_get: ByteString::from_static(VALUE_GET),
        locks: ByteString::from_static(LOCKS),
        read_key: |uri| map::topic(uri).ok(),
        read_pattern,
        show_pattern,
        read_publish,
        show_details,
        killed: ByteString::from_static(close::KILLED),
        revoked: ByteString::from_static(REVOKED),
        unavailable: ByteString::from_static(error::UNAVAILABLE),
        end_reason,
    }
}

/// A request in the arguments of a call: what would end a session breaks only the call there.
fn refusal(reject: Reject) -> Refusal {
    match reject {
        Reject::Violation(text) => Refusal::new(ErrorKind::InvalidArgument, text),
        Reject::Error { error, message } => {
            let kind = match error {
                error::INVALID_URI => ErrorKind::InvalidTopic,
                error::FEATURE_NOT_SUPPORTED => ErrorKind::FeatureNotSupported,
                error::OPTION_NOT_ALLOWED => ErrorKind::OptionNotAllowed,
                _ => ErrorKind::InvalidArgument,
            };
            Refusal::new(kind, message)
        }
    }
}

fn read_pattern(uri: &str, notation: Option<&str>) -> Result<(Pattern, MatchKind), Refusal> {
    let matching = match notation {
        None | Some("levels") => None,
        Some("exact") => Some(Match::Exact),
        Some("prefix") => Some(Match::Prefix),
        Some("wildcard") => Some(Match::Wildcard),
        Some(_) => {
            let message = "match must be \"exact\", \"prefix\" or \"wildcard\"";
            return Err(Refusal::new(ErrorKind::InvalidArgument, message));
        }
    };
    map::pattern(uri, matching).map_err(refusal)
}

/// Spells a pattern so that a SUBSCRIBE with that `match` (none for levels) would ask for it.
fn show_pattern(pattern: &Pattern, kind: MatchKind) -> String {
    match (pattern, kind) {
        (Pattern::Exact(topic), _) => uris::core_to_uri(topic.text()).into_owned(),
        (Pattern::Prefix(prefix), _) => uris::core_to_prefix(prefix),
        (Pattern::Levels(levels), MatchKind::Wildcard) => {
            let component = |level: &Level| match level {
                Level::Exact(text) => uris::level_to_component(text).into_owned(),
                Level::One | Level::Rest => String::new(),
            };
            levels.iter().map(component).collect::<Vec<_>>().join(".")
        }
        // Everything: the empty prefix.
        (Pattern::Levels(_), MatchKind::Prefix) => String::new(),
        (Pattern::Levels(levels), _) => {
            let parts: Vec<Part<'_>> = levels.iter().map(part).collect();
            uris::parts_to_uri(&parts)
        }
    }
}

fn part(level: &Level) -> Part<'_> {
    match level {
        Level::Exact(text) => Part::Level((&**text).into()),
        Level::One => Part::One,
        Level::Rest => Part::Rest,
    }
}

fn read_publish(uri: &str, payload: Payload, options: &Dict) -> Result<model::Publish, Refusal> {
    let read = || {
        let options = Options::new("PUBLISH", options);
        map::publication(uri, options, || passthru::described(payload, options))
    };
    read().map_err(refusal)
}

fn show_details(now: Now, delivery: &EventDelivery) -> Dict {
    // The answer has the arguments, never the bytes of MQTT as they are.
    map::event_details(now, delivery, Passthru::default()).unwrap_or_default()
}

/// What GOODBYE or ABORT say to a session that the router ends.
fn end_reason(reason: &EndReason) -> ByteString {
    match reason {
        EndReason::Killed { reason, .. } => reason.clone(),
        EndReason::TakenOver => ByteString::from_static(close::KILLED),
        EndReason::TooSlow => ByteString::from_static(TOO_SLOW),
        EndReason::Violation(_) => ByteString::from_static(error::PROTOCOL_VIOLATION),
        EndReason::StorageUnavailable => ByteString::from_static(error::UNAVAILABLE),
        EndReason::Shutdown => ByteString::from_static(close::SYSTEM_SHUTDOWN),
        EndReason::RealmClosed => ByteString::from_static(close::CLOSE_REALM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shown_as_it_can_be_asked_for() {
        for (uri, matching) in [
            ("a.b", Some("exact")),
            ("a%2Eb.c/d", Some("exact")),
            ("", Some("prefix")),
            ("a", Some("prefix")),
            ("a.", Some("prefix")),
            ("a%2Eb.c%20", Some("prefix")),
            ("a%2Eb.c/d", Some("prefix")),
            ("a.%00.", Some("prefix")),
            ("a..b", Some("wildcard")),
            (".", Some("wildcard")),
            ("a.b", Some("wildcard")),
            (".x%2Ey", Some("wildcard")),
            ("%2A..%00", Some("wildcard")),
            ("a.*.%2A", None),
            ("a.#", None),
            ("a.*.b.#", None),
            ("#", None),
        ] {
            let (pattern, kind) = read_pattern(uri, matching).unwrap();
            assert_eq!(show_pattern(&pattern, kind), uri, "{matching:?}");
        }
        let unknown = read_pattern("a", Some("regex")).unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::InvalidArgument);
        let broken = read_pattern("a..b", None).unwrap_err();
        assert_eq!(broken.kind, ErrorKind::InvalidTopic);
    }
}
