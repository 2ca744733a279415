//! What a WAMP client of a benchmark says and hears.

use super::*;
use bytes::Buf as _;
use protocols::wamp::message::{Abort, Challenge, Event, Published, Subscribed, Welcome};
use std::io::Cursor;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

fn manner(serializer: Serializer, qos: u8, is_mixed: bool) -> Manner {
    Manner {
        serializer,
        realm: "realm1".to_owned(),
        credentials: Credentials::Anonymous,
        qos,
        is_mixed,
        size: 64,
        quiet_topic: "q".to_owned(),
    }
}

fn peer() -> WampPeer {
    WampPeer::new(manner(Serializer::Json, 0, false))
}

fn stamp() -> Stamp {
    Stamp {
        time: 1,
        stream: 2,
        sequence: 3,
    }
}

/// What the router reads.
fn said(encoding: Encoding, out: &mut BytesMut) -> Vec<Message> {
    let mut messages = Vec::new();
    while !out.is_empty() {
        let mut cursor = Cursor::new(&out[..]);
        let header = FrameHeader::parse(&mut cursor).expect("legal");
        let (_, length) = header.expect("whole");
        let start = cursor.position() as usize;
        out.advance(start);
        let bytes = out.split_to(length as usize).freeze();
        messages.push(Message::decode(encoding, bytes, &Limits::default()).expect("a message"));
    }
    messages
}

/// A router's frame.
fn framed(encoding: Encoding, message: Message, inbound: &mut BytesMut) {
    let bytes = message.encode(encoding);
    let header = FrameHeader {
        opcode: opcode(encoding),
        ..FrameHeader::default()
    };
    let mut frame = Vec::new();
    header
        .format(bytes.len() as u64, &mut frame)
        .expect("written");
    inbound.extend_from_slice(&frame);
    inbound.extend_from_slice(&bytes);
}

/// What the client tells of a message of the router, and what it answers.
fn heard(peer: &mut WampPeer, message: Message) -> Result<(Vec<String>, Vec<Message>), String> {
    let encoding = peer.encoding();
    let (mut inbound, mut out, mut told) = (BytesMut::new(), BytesMut::new(), Vec::new());
    framed(encoding, message, &mut inbound);
    peer.handle(&mut inbound, &mut out, &mut |heard| {
        told.push(match heard {
            Heard::Message(payload) => format!("{:?}", Stamp::find(payload)),
            Heard::Answer { request, .. } => format!("answer {request}"),
            other => format!("{other:?}"),
        });
        Ok(())
    })?;
    Ok((told, said(encoding, &mut out)))
}

#[test]
fn a_client_says_who_it_is_and_proves_it() {
    let credentials = Credentials::Ticket {
        authid: "joe".to_owned(),
        ticket: "secret".to_owned(),
    };
    let mut peer = WampPeer::new(Manner {
        credentials,
        ..manner(Serializer::Json, 0, false)
    });
    let mut out = BytesMut::new();
    peer.hello(&mut out);
    let [Message::Hello(hello)] = &said(Encoding::Json, &mut out)[..] else {
        panic!("one HELLO");
    };
    assert_eq!(hello.details["authid"], "joe");
    assert_eq!(hello.details["authmethods"], json!(["ticket"]));
    let challenge = |method: &str| {
        Message::from(Challenge {
            method: method.into(),
            extra: Dict::new(),
        })
    };
    let (_, said) = heard(&mut peer, challenge("ticket")).expect("fine");
    let [Message::Authenticate(proof)] = &said[..] else {
        panic!("one AUTHENTICATE");
    };
    assert_eq!(proof.signature, "secret");
    let words = heard(&mut peer, challenge("wampcra")).expect_err("another method");
    assert_eq!(words, "wants the method \"wampcra\"");
}

#[test]
fn publishes_ask_for_what_their_qos_promises() {
    for serializer in [Serializer::Json, Serializer::Msgpack, Serializer::Cbor] {
        for (qos, is_mixed, is_retained, options) in [
            (0, false, false, json!({})),
            (1, false, false, json!({"acknowledge": true})),
            (2, true, false, json!({"acknowledge": true, "x_qos": 2})),
            (1, false, true, json!({"acknowledge": true, "retain": true})),
        ] {
            let mut peer = WampPeer::new(manner(serializer, qos, is_mixed));
            peer.aim(&[Filter::new("a/b")], is_retained, b"xy");
            let mut out = BytesMut::new();
            peer.publish(0, stamp(), b"xy", &mut out).expect("fits");
            let encoding = serializer.encoding();
            let [Message::Publish(publish)] = &said(encoding, &mut out)[..] else {
                panic!("one PUBLISH");
            };
            assert_eq!(Value::from(publish.options.clone()), options);
            assert_eq!((&*publish.topic, publish.request), ("a.b", 1));
            let (args, _) = publish.payload.to_values(encoding).expect("readable");
            let text = args[0].as_str().expect("text");
            assert_eq!(text.len(), 18);
            assert_eq!(Stamp::find(text.as_bytes()), Some(stamp()));
        }
    }
}

#[test]
fn a_kept_message_is_deleted_by_one_without_arguments() {
    let mut peer = WampPeer::new(manner(Serializer::Json, 1, false));
    peer.aim(&[Filter::new("a")], true, b"");
    let mut out = BytesMut::new();
    peer.erase(0, &mut out).expect("fits");
    let [Message::Publish(publish)] = &said(Encoding::Json, &mut out)[..] else {
        panic!("one PUBLISH");
    };
    assert_eq!(publish.options["retain"], true);
    assert_eq!(publish.payload, Payload::EMPTY);
}

#[test]
fn events_acknowledgements_and_answers_are_told() {
    for encoding in [Encoding::Json, Encoding::MsgPack] {
        let serializer = match encoding {
            Encoding::Json => Serializer::Json,
            _ => Serializer::Msgpack,
        };
        let mut peer = WampPeer::new(manner(serializer, 0, false));
        let text = String::from_utf8(stamp().write().to_vec()).expect("text");
        let event = Event {
            subscription: 1,
            publication: 2,
            details: Dict::new(),
            payload: Payload::from_values(encoding, &[text.into()], &Dict::new()),
        };
        let (told, _) = heard(&mut peer, event.into()).expect("fine");
        assert_eq!(told, [format!("{:?}", Some(stamp()))]);
        let published = Published {
            request: 1,
            publication: 2,
        };
        let (told, _) = heard(&mut peer, published.into()).expect("fine");
        assert_eq!(told, ["Acknowledged"]);
        let welcome = Welcome {
            session: 1,
            details: Dict::new(),
        };
        assert_eq!(
            heard(&mut peer, welcome.into()).expect("fine").0,
            ["Welcome"]
        );
    }
}

#[test]
fn a_callee_answers_with_what_it_gets() {
    let payload = Payload::from_values(Encoding::Json, &["x".into()], &Dict::new());
    let invocation = Invocation {
        request: 7,
        registration: 1,
        details: Dict::new(),
        payload: payload.clone(),
    };
    let (told, said) = heard(&mut peer(), invocation.into()).expect("fine");
    let answer = Yield {
        request: 7,
        options: Dict::new(),
        payload,
    };
    assert_eq!((told.len(), said), (0, vec![answer.into()]));
}

#[test]
fn filters_are_subscribed_by_the_policy_that_they_need() {
    let filters = ["a/b", "a/+/c", "a/#"].map(Filter::new);
    let mut out = BytesMut::new();
    peer().subscribe(&filters, true, &mut out);
    let found = said(Encoding::Json, &mut out).into_iter().map(|message| {
        let Message::Subscribe(subscribe) = message else {
            panic!("{message:?}");
        };
        assert_eq!(subscribe.options["get_retained"], true);
        let policy = subscribe.options.get("match").and_then(Value::as_str);
        (subscribe.topic.to_string(), policy.map(str::to_owned))
    });
    let expected = [
        ("a.b", None),
        ("a..c", Some("wildcard")),
        ("a.", Some("prefix")),
    ];
    let expected = expected.map(|(uri, policy)| (uri.to_owned(), policy.map(str::to_owned)));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn the_sign_of_life_is_told_apart_from_a_confirmation() {
    let mut peer = peer();
    let subscribed = |request| {
        Message::from(Subscribed {
            request,
            subscription: 1,
        })
    };
    let mut out = BytesMut::new();
    peer.subscribe(&[Filter::new("a")], false, &mut out);
    peer.ask(&mut out);
    assert_eq!(
        heard(&mut peer, subscribed(1)).expect("fine").0,
        ["Confirmed(1)"]
    );
    assert_eq!(heard(&mut peer, subscribed(2)).expect("fine").0, ["Quiet"]);
}

#[test]
fn a_goodbye_is_an_end_only_if_it_was_asked_for() {
    let goodbye = || {
        Message::from(Goodbye {
            details: Dict::new(),
            reason: "wamp.close.system_shutdown".into(),
        })
    };
    let mut peer = peer();
    let words = heard(&mut peer, goodbye()).expect_err("not asked for");
    assert_eq!(words, "ended the session: wamp.close.system_shutdown");
    assert!(peer.leave(&mut BytesMut::new()));
    assert_eq!(heard(&mut peer, goodbye()).expect("fine").0, ["Left"]);
}

#[test]
fn refusals_are_told_in_words() {
    let mut details = Dict::new();
    details.insert("message".to_owned(), "nobody lives here".into());
    let abort = Abort {
        details,
        reason: "wamp.error.no_such_realm".into(),
        payload: Payload::EMPTY,
    };
    let error = ErrorMessage {
        request_type: 48,
        request: 1,
        details: Dict::new(),
        error: "wamp.error.not_authorized".into(),
        payload: Payload::from_values(Encoding::Json, &["no".into()], &Dict::new()),
    };
    for (message, words) in [
        (
            Message::from(abort),
            "refused the session: wamp.error.no_such_realm: nobody lives here",
        ),
        (
            Message::from(error),
            "refused the call: wamp.error.not_authorized: \"no\"",
        ),
    ] {
        assert_eq!(heard(&mut peer(), message).expect_err(words), words);
    }
}

#[test]
fn a_ping_of_the_websocket_is_answered_and_a_close_told() {
    let (mut out, mut inbound) = (BytesMut::new(), BytesMut::from(&b"\x89\x01p"[..]));
    peer()
        .handle(&mut inbound, &mut out, &mut |_| Ok(()))
        .expect("fine");
    assert_eq!(&out[..], b"\x8a\x81\0\0\0\0p");
    let mut close = BytesMut::from(&b"\x88\x05\x03\xf0bad"[..]);
    let closed = peer().handle(&mut close, &mut out, &mut |_| Ok(()));
    assert_eq!(closed, Err("closed the connection: 1008 bad".to_owned()));
}
