//! Laws of the message codec: what is written is read, ready-made heads equal whole messages, and
//! no frame makes the decoder panic.
#![cfg(feature = "wamp")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use proptest::prelude::*;
use proptest::sample::Index;
use protocols::wamp::codec::{
    self, Details, Limits, put_confirmation, put_error, put_event, put_invocation, put_reply,
    put_result,
};
use protocols::wamp::errors::Violation;
use protocols::wamp::message::*;
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use serde_json::Value;

const ALL: [Encoding; 3] = [Json, MsgPack, Cbor];

fn decode(encoding: Encoding, frame: Bytes) -> Result<Message, Violation> {
    codec::decode(encoding, frame, &Limits::default())
}

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![1..200_u64, 1..=MAX_ID, Just(MAX_ID)]
}

fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof![
        "[a-z.]{0,12}",
        "[a-z\"\\\\é😀\u{0}\n/]{1,8}",
        "[a-z.]{30,300}"
    ]
    .prop_map(ByteString::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Value::from),
        "[a-zé\"]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zé]{0,5}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn dict() -> impl Strategy<Value = Dict> {
    prop::collection::btree_map("[a-z_]{3,8}", value(), 0..4)
        .prop_map(|members| members.into_iter().collect())
}

/// Arguments before they are serialized.
type Arguments = (Vec<Value>, Dict);

fn arguments() -> impl Strategy<Value = Arguments> {
    prop_oneof![
        Just((vec![], Dict::new())),
        (prop::collection::vec(value(), 1..4), Just(Dict::new())),
        (prop::collection::vec(value(), 1..4), dict()),
    ]
}

/// Every message that has no arguments.
fn plain_message() -> BoxedStrategy<Message> {
    prop_oneof![
        (text(), dict()).prop_map(|(realm, details)| Hello { realm, details }.into()),
        (id(), dict()).prop_map(|(session, details)| Welcome { session, details }.into()),
        (text(), dict()).prop_map(|(method, extra)| Challenge { method, extra }.into()),
        (text(), dict()).prop_map(|(signature, extra)| Authenticate { signature, extra }.into()),
        (dict(), text()).prop_map(|(details, reason)| Goodbye { details, reason }.into()),
        (id(), id()).prop_map(|(request, publication)| Published {
            request,
            publication
        }
        .into()),
        (id(), dict(), text()).prop_map(|(request, options, topic)| Subscribe {
            request,
            options,
            topic
        }
        .into()),
        (id(), id()).prop_map(|(request, subscription)| Subscribed {
            request,
            subscription
        }
        .into()),
        (id(), id()).prop_map(|(request, subscription)| Unsubscribe {
            request,
            subscription
        }
        .into()),
        id().prop_map(|request| Unsubscribed {
            request,
            revocation: None
        }
        .into()),
        dict().prop_map(|gone| Unsubscribed {
            request: 0,
            revocation: Some(gone)
        }
        .into()),
        (id(), dict()).prop_map(|(request, options)| Cancel { request, options }.into()),
        (id(), dict(), text()).prop_map(|(request, options, procedure)| {
            Register {
                request,
                options,
                procedure,
            }
            .into()
        }),
        (id(), id()).prop_map(|(request, registration)| Registered {
            request,
            registration
        }
        .into()),
        (id(), id()).prop_map(|(request, registration)| Unregister {
            request,
            registration
        }
        .into()),
        id().prop_map(|request| Unregistered {
            request,
            revocation: None
        }
        .into()),
        dict().prop_map(|gone| Unregistered {
            request: 0,
            revocation: Some(gone)
        }
        .into()),
        (id(), dict()).prop_map(|(request, options)| Interrupt { request, options }.into()),
    ]
    .boxed()
}

/// Every message that has arguments, with these.
fn loaded_messages(
    ids: (u64, u64),
    dict: &Dict,
    uri: &ByteString,
    payload: &Payload,
) -> [Message; 8] {
    let (request, other) = ids;
    let (options, details) = (dict.clone(), dict.clone());
    let (topic, procedure, error) = (uri.clone(), uri.clone(), uri.clone());
    let (subscription, publication, registration) = (request, other, other);
    let payload = || payload.clone();
    [
        Abort {
            details: details.clone(),
            reason: uri.clone(),
            payload: payload(),
        }
        .into(),
        ErrorMessage {
            request_type: 68,
            request,
            details: details.clone(),
            error,
            payload: payload(),
        }
        .into(),
        Publish {
            request,
            options: options.clone(),
            topic,
            payload: payload(),
        }
        .into(),
        Event {
            subscription,
            publication,
            details: details.clone(),
            payload: payload(),
        }
        .into(),
        Call {
            request,
            options: options.clone(),
            procedure,
            payload: payload(),
        }
        .into(),
        ResultMessage {
            request,
            details: details.clone(),
            payload: payload(),
        }
        .into(),
        Invocation {
            request,
            registration,
            details,
            payload: payload(),
        }
        .into(),
        Yield {
            request,
            options,
            payload: payload(),
        }
        .into(),
    ]
}

proptest! {
    #[test]
    fn plain_messages_are_read_as_written(message in plain_message()) {
        for encoding in ALL {
            prop_assert_eq!(decode(encoding, message.encode(encoding)), Ok(message.clone()));
        }
    }

    #[test]
    fn messages_with_arguments_are_read_as_written(
        ids in (id(), id()), dict in dict(), uri in text(), (args, kwargs) in arguments()
    ) {
        for encoding in ALL {
            let payload = Payload::from_values(encoding, &args, &kwargs);
            prop_assert_eq!(payload.to_values(encoding).unwrap(), (args.clone(), kwargs.clone()));
            for message in loaded_messages(ids, &dict, &uri, &payload) {
                prop_assert_eq!(message.payload(), Some(&payload));
                prop_assert_eq!(decode(encoding, message.encode(encoding)), Ok(message.clone()));
            }
        }
    }

    #[test]
    fn ready_made_heads_equal_whole_messages(
        (a, b) in (id(), id()), dict in dict(), uri in text(), (args, kwargs) in arguments()
    ) {
        for encoding in ALL {
            let payload = &Payload::from_values(encoding, &args, &kwargs);
            let mut raw = Vec::new();
            router_core::encoding::value::write_map(encoding, &dict, &mut raw);
            let empty = Dict::new();
            for (details, dict) in [
                (Details::Dict(&dict), &dict),
                (Details::Encoded(&raw), &dict),
                (Details::Empty, &empty),
            ] {
                let [_, error, _, event, _, result, invocation, _] =
                    loaded_messages((a, b), dict, &uri, payload);
                let mut out = BytesMut::new();
                put_event(encoding, &mut out, a, b, details, payload);
                prop_assert_eq!(&out.split()[..], &event.encode(encoding)[..]);
                put_result(encoding, &mut out, a, details, payload);
                prop_assert_eq!(&out.split()[..], &result.encode(encoding)[..]);
                put_invocation(encoding, &mut out, a, b, details, payload);
                prop_assert_eq!(&out.split()[..], &invocation.encode(encoding)[..]);
                put_error(encoding, &mut out, (68, a), details, &uri, payload);
                prop_assert_eq!(&out.split()[..], &error.encode(encoding)[..]);
            }
            let mut out = BytesMut::from(&b"before"[..]);
            put_reply(encoding, &mut out, 33, a, b);
            let reply = Message::from(Subscribed { request: a, subscription: b });
            prop_assert_eq!(&out[6..], &reply.encode(encoding)[..]);
            out.clear();
            put_confirmation(encoding, &mut out, 67, a);
            let reply = Message::from(Unregistered { request: a, revocation: None });
            prop_assert_eq!(&out[..], &reply.encode(encoding)[..]);
        }
    }

    #[test]
    fn payload_changes_its_encoding_and_comes_back((args, kwargs) in arguments()) {
        let json = Payload::from_values(Json, &args, &kwargs);
        for other in [MsgPack, Cbor] {
            let packed = json.transcode(Json, other).unwrap();
            prop_assert_eq!(packed.to_values(other).unwrap(), (args.clone(), kwargs.clone()));
            prop_assert_eq!(&packed.transcode(other, Json).unwrap(), &json);
        }
        prop_assert_eq!(json.transcode(Json, Json), Ok(json));
    }

    #[test]
    fn arbitrary_bytes_make_nothing_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for encoding in ALL {
            let _ = decode(encoding, Bytes::copy_from_slice(&bytes));
        }
    }

    #[test]
    fn mutated_frames_are_refused_or_make_sense(
        ids in (id(), id()), dict in dict(), uri in text(), (args, kwargs) in arguments(),
        which in any::<Index>(), edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for encoding in ALL {
            let payload = Payload::from_values(encoding, &args, &kwargs);
            let messages = loaded_messages(ids, &dict, &uri, &payload);
            let mut frame = which.get(&messages).encode(encoding).to_vec();
            for (at, byte) in &edits {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            if let Ok(message) = decode(encoding, frame.into()) {
                let written = message.encode(encoding);
                let again = decode(encoding, written.clone());
                prop_assert_eq!(again.map(|m| m.encode(encoding)), Ok(written));
            }
        }
    }
}
