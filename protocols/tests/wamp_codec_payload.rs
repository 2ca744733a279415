//! Arguments pass byte for byte, are told apart when absent or empty, and are never added to.
#![cfg(feature = "wamp")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use bytes::{Bytes, BytesMut};
use protocols::wamp::codec::{self, Details, Limits, put_event, put_invocation, put_result};
use protocols::wamp::errors::Violation;
use protocols::wamp::message::{Message, Payload};
use router_core::encoding::Encoding::{self, Json, MsgPack};
use router_core::encoding::transcode::json_to_msgpack;
use serde_json::json;

fn decode(encoding: Encoding, frame: Bytes) -> Result<Message, Violation> {
    codec::decode(encoding, frame, &Limits::default())
}

/// Lists and dicts that a parse and a write would change.
const ODD_ARGS: [&str; 12] = [
    "[[1,2]]",
    "[null]",
    "[]",
    "[ ]",
    "[123456789012345678901234567890]",
    "[1.0]",
    "[1e0, 1E+2]",
    "[\"\\u0041\\/\\ud800\"]",
    "[-0, -0.0]",
    "[\t1 ,\n2 ]",
    "[{\"b\":1,\"a\":2,\"b\":3}]",
    "[1e400]",
];
const ODD_KWARGS: [&str; 5] = [
    "{\"b\":1,\"a\":2}",
    "{\"a\":1,\"a\":2}",
    "{ \"x\" : [[ ]] }",
    "{\"\\u0061\":1.0}",
    "{\"\":{}}",
];

#[test]
fn json_arguments_pass_byte_for_byte() {
    for args in ODD_ARGS {
        for kwargs in ODD_KWARGS {
            let frame = Bytes::from(format!("[16, 1, {{}}, \"a\" , {args} ,{kwargs} ]"));
            let Ok(Message::Publish(publish)) = decode(Json, frame.clone()) else {
                panic!("{args} {kwargs}");
            };
            let payload = publish.payload;
            assert_eq!(payload.args.as_deref(), Some(args.as_bytes()));
            assert_eq!(payload.kwargs.as_deref(), Some(kwargs.as_bytes()));
            assert_within(&frame, payload.args.as_ref());
            assert_within(&frame, payload.kwargs.as_ref());

            let mut out = BytesMut::new();
            put_event(Json, &mut out, 5, 7, Details::Empty, &payload);
            assert_eq!(out, format!("[36,5,7,{{}},{args},{kwargs}]"));
        }
    }
}

#[test]
fn msgpack_arguments_pass_byte_for_byte() {
    // [1, 1.0 as single, "" with a long header, [] with a long header], {"a": 1, "a": nil}
    let args = b"\x94\xd2\0\0\0\x01\xca\x3f\x80\0\0\xdb\0\0\0\0\xdd\0\0\0\0";
    let kwargs = b"\xdf\0\0\0\x02\xa1a\x01\xd9\x01a\xc0";
    let frame: Bytes = [&b"\x96\x10\x01\x80\xa1a"[..], args, kwargs]
        .concat()
        .into();
    let Ok(Message::Publish(publish)) = decode(MsgPack, frame.clone()) else {
        panic!("refused")
    };
    assert_eq!(publish.payload.args.as_deref(), Some(&args[..]));
    assert_eq!(publish.payload.kwargs.as_deref(), Some(&kwargs[..]));
    assert_within(&frame, publish.payload.args.as_ref());
    assert_within(&frame, Some(publish.topic.as_bytes()));

    let mut out = BytesMut::new();
    put_invocation(
        MsgPack,
        &mut out,
        1,
        2,
        Details::Encoded(b"\x80"),
        &publish.payload,
    );
    assert_eq!(out, [&b"\x96\x44\x01\x02\x80"[..], args, kwargs].concat());
}

/// That the part is a slice of the frame and no copy.
fn assert_within(frame: &Bytes, part: Option<&Bytes>) {
    let part = part.unwrap();
    let (frame, part) = (frame.as_ptr_range(), part.as_ptr_range());
    assert!(frame.start <= part.start && part.end <= frame.end);
}

#[test]
fn empty_arguments_are_told_from_absent_ones_but_not_sent() {
    let payload = |tail: &str| {
        let frame = format!("[16,1,{{}},\"a\"{tail}]");
        let message = decode(Json, frame.into()).unwrap();
        message.payload().cloned().unwrap()
    };
    let slice = |raw: &'static str| Some(Bytes::from_static(raw.as_bytes()));
    assert_eq!(payload(""), Payload::EMPTY);
    assert_eq!(payload(",null,null"), Payload::EMPTY);
    assert_eq!(
        payload(",[]"),
        Payload {
            args: slice("[]"),
            kwargs: None
        }
    );
    assert_eq!(
        payload(",[],{}"),
        Payload {
            args: slice("[]"),
            kwargs: slice("{}")
        }
    );
    assert_eq!(
        payload(",null,{}"),
        Payload {
            args: None,
            kwargs: slice("{}")
        }
    );

    for (tail, written) in [
        ("", "[50,1,{}]"),
        (",[]", "[50,1,{}]"),
        (",[ ],{ }", "[50,1,{}]"),
        (",null,{}", "[50,1,{}]"),
        (",[0],{}", "[50,1,{},[0]]"),
        (",null,{\"a\":1}", "[50,1,{},[],{\"a\":1}]"),
        (",[ ],{\"a\":1}", "[50,1,{},[ ],{\"a\":1}]"),
    ] {
        let mut out = BytesMut::new();
        put_result(Json, &mut out, 1, Details::Empty, &payload(tail));
        assert_eq!(out, written, "{tail}");
    }
}

#[test]
fn large_numbers_in_options_survive() {
    let frame = "[32,1,{\"after\":18446744073709551615,\"low\":-9223372036854775808},\"a\"]";
    for (encoding, bytes) in [
        (Json, frame.as_bytes().to_vec()),
        (MsgPack, json_to_msgpack(frame.as_bytes()).unwrap()),
    ] {
        let message = decode(encoding, bytes.clone().into()).unwrap();
        let Message::Subscribe(subscribe) = &message else {
            panic!("{message:?}")
        };
        assert_eq!(subscribe.options.get("after"), Some(&json!(u64::MAX)));
        assert_eq!(subscribe.options.get("low"), Some(&json!(i64::MIN)));
        assert_eq!(message.encode(encoding), bytes);
    }
}

#[test]
fn an_encrypted_payload_passes_through_either_encoding() {
    let frame = "[48,1,{\"enc_algo\":\"cryptobox\"},\"a\",\"\\u0000AQID\"]";
    let Ok(Message::Call(call)) = decode(Json, frame.into()) else {
        panic!("refused")
    };
    assert!(call.payload.is_opaque(Json));
    assert_eq!(
        call.payload.to_values(Json).unwrap().0,
        vec![json!("\0AQID")]
    );
    let packed = call.payload.transcode(Json, MsgPack).unwrap();
    assert!(packed.is_opaque(MsgPack));
    assert_eq!(packed.args.as_deref(), Some(&[0xc4, 3, 1, 2, 3][..]));

    let mut out = BytesMut::new();
    let details = call.options;
    put_invocation(MsgPack, &mut out, 1, 2, Details::Dict(&details), &packed);
    let again = decode(MsgPack, out.freeze()).unwrap();
    assert_eq!(again.payload(), Some(&packed));
    assert!(!Payload::EMPTY.is_opaque(Json));
}
