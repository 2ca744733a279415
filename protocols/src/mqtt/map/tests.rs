use super::*;
use crate::mqtt::packet::{Direction, PacketType};
use router_core::encoding::Encoding;
use router_core::model::{Args, Made, PublicationId};

const KINDS: [ErrorKind; 19] = [
    ErrorKind::InvalidTopic,
    ErrorKind::InvalidArgument,
    ErrorKind::OptionNotAllowed,
    ErrorKind::DisclosureNotAllowed,
    ErrorKind::NotAuthorized,
    ErrorKind::NoSuchSubscription,
    ErrorKind::NoSuchRegistration,
    ErrorKind::NoSuchProcedure,
    ErrorKind::ProcedureAlreadyExists,
    ErrorKind::NoSuchSession,
    ErrorKind::ConditionFailed,
    ErrorKind::Timeout,
    ErrorKind::Canceled,
    ErrorKind::QuotaExceeded,
    ErrorKind::PayloadTooLarge,
    ErrorKind::StorageUnavailable,
    ErrorKind::NoAvailableCallee,
    ErrorKind::FeatureNotSupported,
    ErrorKind::Internal,
];

#[test]
fn every_code_may_stand_where_the_table_puts_it() {
    let fits = |code: ReasonCode, packet| {
        assert!(
            code.is_allowed_in(packet, Direction::ServerToClient),
            "{code} in {packet:?}"
        );
    };
    for kind in KINDS {
        fits(publish_reason(kind), PacketType::PubAck);
        fits(publish_reason(kind), PacketType::PubRec);
        fits(subscribe_reason(kind), PacketType::SubAck);
        fits(unsubscribe_reason(kind), PacketType::UnsubAck);
        assert!(publish_reason(kind).is_error() && subscribe_reason(kind).is_error());
    }
    for error in [
        JoinError::InvalidRealm,
        JoinError::NoSuchRealm,
        JoinError::CredentialsRequired,
        JoinError::BadCredentials,
        JoinError::NotAuthorized(String::new()),
        JoinError::TooMany,
        JoinError::Unavailable,
        JoinError::ShuttingDown,
    ] {
        let code = connect_reason(&error);
        fits(code, PacketType::ConnAck);
        assert!(
            code.connect_return_code().is_some(),
            "3.x is told too: {error}"
        );
        fits(proof_refused(&error), PacketType::ConnAck);
        fits(proof_reason(&error), PacketType::Disconnect);
        assert!(proof_refused(&error).is_error() && proof_reason(&error).is_error());
    }
    for reason in [
        EndReason::TakenOver,
        EndReason::Killed {
            reason: "x".into(),
            message: None,
        },
        EndReason::TooSlow,
        EndReason::Violation("x"),
        EndReason::StorageUnavailable,
        EndReason::Shutdown,
        EndReason::RealmClosed,
    ] {
        fits(end_reason(&reason).0, PacketType::Disconnect);
    }
}

#[test]
fn the_codes_that_clients_rely_on() {
    assert_eq!(publish_reason(ErrorKind::NotAuthorized).value(), 0x87);
    assert_eq!(publish_reason(ErrorKind::QuotaExceeded).value(), 0x97);
    assert_eq!(publish_reason(ErrorKind::StorageUnavailable).value(), 0x80);
    assert_eq!(subscribe_reason(ErrorKind::NotAuthorized).value(), 0x87);
    assert_eq!(
        unsubscribe_reason(ErrorKind::NoSuchSubscription).value(),
        0x11
    );
    assert_eq!(connect_reason(&JoinError::BadCredentials).value(), 0x86);
    assert_eq!(
        connect_reason(&JoinError::CredentialsRequired).value(),
        0x87
    );
    assert_eq!(connect_reason(&JoinError::Unavailable).value(), 0x88);
    assert_eq!(proof_refused(&JoinError::BadCredentials).value(), 0x87);
    assert_eq!(proof_refused(&JoinError::Unavailable).value(), 0x88);
    assert_eq!(proof_reason(&JoinError::BadCredentials).value(), 0x87);
    assert_eq!(end_reason(&EndReason::TakenOver).0.value(), 0x8E);
    assert_eq!(end_reason(&EndReason::TooSlow).0.value(), 0x97);
    assert_eq!(end_reason(&EndReason::Shutdown).0.value(), 0x8B);
    assert!(!acknowledges_refusal(ErrorKind::StorageUnavailable));
    assert!(acknowledges_refusal(ErrorKind::NotAuthorized));
}

#[test]
fn a_realm_is_split_off_only_if_it_can_be_one() {
    for (user, name, realm) in [
        ("joe", "joe", None),
        ("joe@shop", "joe", Some("shop")),
        ("joe@mail.com@shop.de", "joe@mail.com", Some("shop.de")),
        ("@shop", "", Some("shop")),
        ("joe@", "joe@", None),
        ("joe@a b", "joe@a b", None),
        ("joe@a..b", "joe@a..b", None),
        ("joe@a#", "joe@a#", None),
    ] {
        assert_eq!(split_user_name(user), (name, realm), "{user}");
    }
    let long = format!("joe@{}", "x".repeat(256));
    assert_eq!(split_user_name(&long), (long.as_str(), None));
}

fn event(payload: Payload, attributes: Option<Attributes>, clears: bool) -> Event {
    Event {
        publication: PublicationId(1),
        topic: Topic::new("a").expect("legal"),
        payload,
        publisher: None,
        qos: Qos::AtMostOnce,
        retain: false,
        clears,
        token: None,
        expires_at_ms: Some(10_500),
        attributes: attributes.map(Box::new),
        admission: None,
        made: Made::default(),
    }
}

fn args(text: &'static str) -> Payload {
    let args = Some(Bytes::from_static(text.as_bytes()));
    Payload::args(Encoding::Json, Args { args, kwargs: None })
}

fn wire(set: Properties) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_shared_properties(&set, &mut out).expect("legal");
    out.into()
}

fn typed(content_type: &'static str) -> Properties {
    Properties {
        payload_format_indicator: Some(true),
        content_type: Some(ByteString::from_static(content_type)),
        ..Properties::default()
    }
}

#[test]
fn arguments_say_what_they_became() {
    let sent = |payload| {
        let event = event(payload, None, false);
        let (data, shared) = outgoing(&event).expect("legal");
        (data.into_owned(), shared)
    };
    let (data, shared) = sent(args("[{\"a\":1}]"));
    assert_eq!(
        (&*data, &*shared),
        (&b"{\"a\":1}"[..], &wire(typed(JSON_CONTENT_TYPE))[..])
    );
    let (data, shared) = sent(args("[1,2]"));
    assert_eq!(&*data, b"{\"args\":[1,2],\"kwargs\":{}}");
    assert_eq!(&*shared, wire(typed(ENVELOPE_CONTENT_TYPE)));
    let (data, shared) = sent(args("[\"\\u0000AQI=\"]"));
    assert_eq!(
        (&*data, &*shared),
        (&[1, 2][..], &[][..]),
        "binary has no type"
    );
    let (data, shared) = sent(Payload::bytes(Bytes::from_static(b"{}"), false));
    assert_eq!(
        (&*data, &*shared),
        (&b"{}"[..], &[][..]),
        "bytes say nothing of themselves"
    );
}

#[test]
fn a_deletion_is_an_empty_payload() {
    let event = event(args("[]"), None, true);
    let (data, shared) = outgoing(&event).expect("legal");
    assert!(data.is_empty() && shared.is_empty());
}

#[test]
fn attributes_survive_and_the_form_wins_over_them() {
    let set = Properties {
        payload_format_indicator: Some(false),
        content_type: Some("text/x".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(b"\0")),
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        message_expiry_interval: Some(9),
        ..Properties::default()
    };
    let given = attributes(&set).expect("some");
    let bytes = Payload::bytes(Bytes::new(), false);
    let (_, shared) = outgoing(&event(bytes, Some(*given.clone()), false)).expect("legal");
    let forwarded = Properties {
        message_expiry_interval: None,
        ..set.clone()
    };
    assert_eq!(&*shared, wire(forwarded.clone()));
    let (_, shared) = outgoing(&event(args("[5]"), Some(*given), false)).expect("legal");
    let typed = typed(JSON_CONTENT_TYPE);
    assert_eq!(
        &*shared,
        wire(Properties {
            payload_format_indicator: typed.payload_format_indicator,
            content_type: typed.content_type,
            ..forwarded
        })
    );
    assert_eq!(
        attributes(&Properties {
            topic_alias_maximum: Some(1),
            ..Properties::default()
        }),
        None
    );
}

#[test]
fn the_expiry_that_remains_is_rounded_up() {
    let event = event(args("[]"), None, false);
    for (now, left) in [(500, 10), (501, 10), (10_499, 1), (10_500, 0), (20_000, 0)] {
        assert_eq!(remaining_expiry(&event, now), Some(left), "at {now}");
    }
}

#[test]
fn a_gap_is_told_as_a_user_property() {
    let told = lost_property(12).unwrap();
    assert_eq!(&*told, b"\x26\x00\x0Creynard-lost\x00\x0212");
    assert!(lost_property(u32::MAX).is_ok());
}
