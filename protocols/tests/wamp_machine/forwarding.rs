//! Arguments pass byte for byte, are converted between serializations, and come from and go to
//! opaque bytes.

use crate::world::World;
use bytes::Bytes;
use bytestring::ByteString;
use protocols::gate::Input;
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::encoding::transcode::json_to_msgpack;
use router_core::model::{Attributes, Qos};
use serde_json::{Value, json};
use std::time::Duration;

/// Arguments whose spelling must survive, whatever it is.
const TAILS: [&str; 14] = [
    r#"[[1,2]]"#,
    r#"[null]"#,
    r#"[[]]"#,
    r#"[{}]"#,
    r#"[9007199254740993]"#,
    r#"[18446744073709551615,-9223372036854775808]"#,
    r#"[123456789012345678901234567890]"#,
    r#"[1.0,1e3,-0.0,1.50]"#,
    r#"["\u0041\/\ud83d\ude00","\u0000AQID"]"#,
    r#"[{"z":1,"a":2,"m":{"b":0,"a":1}}]"#,
    r#"[{"a":1,"a":2}]"#,
    r#"[],{"z":null,"a":[null]}"#,
    r#"[ 1 , 2 ],{ "k" : "v" }"#,
    r#"[false,"",0]"#,
];

fn event_tail(text: &str) -> &str {
    let start = text.find("{},").unwrap() + 3;
    &text[start..text.len() - 1]
}

#[test]
fn json_arguments_arrive_as_the_very_bytes() {
    for tail in TAILS {
        let mut world = World::new();
        let (a, b) = (world.json(), world.json());
        world.subscribe(b, "t", json!({}));
        world.register(b, "p", json!({}));
        world.send_text(a, &format!(r#"[16,1,{{}},"t",{tail}]"#));
        let event = world.take_texts(b).remove(0);
        assert_eq!(event_tail(&event), tail);
        world.send_text(a, &format!(r#"[48,1,{{}},"p",{tail}]"#));
        let invocation = world.take_texts(b).remove(0);
        assert_eq!(event_tail(&invocation), tail);
        world.send_text(b, &format!(r#"[70,1,{{}},{tail}]"#));
        let result = world.take_texts(a).remove(0);
        assert_eq!(result, format!("[50,1,{{}},{tail}]"));
        world.send_text(a, r#"[48,2,{},"p"]"#);
        world.take(b);
        world.send_text(b, &format!(r#"[8,68,2,{{}},"my.error",{tail}]"#));
        let error = world.take_texts(a).remove(0);
        assert_eq!(error, format!(r#"[8,48,2,{{}},"my.error",{tail}]"#));
        // And kept values, replayed.
        world.send_text(a, &format!(r#"[16,3,{{"retain":true}},"kept",{tail}]"#));
        world.send_text(b, r#"[32,4,{"get_retained":true},"kept"]"#);
        let replayed = world.take_texts(b).pop().unwrap();
        match tail {
            // These delete: there is nothing to replay.
            "[null]" => assert!(replayed.starts_with("[33,"), "{replayed}"),
            _ => assert!(replayed.ends_with(&format!("}},{tail}]")), "{replayed}"),
        }
    }
}

#[test]
fn msgpack_arguments_arrive_as_the_very_bytes() {
    // Values in a longer form than needed, binary, an extension, a key that is no text.
    let tails: [&[u8]; 7] = [
        b"\x91\xcd\0\x01",
        b"\x91\xc4\x03\x01\x02\x03",
        b"\x91\xd5\x05\x01\x02",
        b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x91\xca\x3f\x80\0\0",
        b"\x91\x82\xa1z\x01\xa1a\x02",
        b"\x91\xd4\0\0",
    ];
    for tail in tails {
        let mut world = World::new();
        let (a, b) = (world.join(MsgPack), world.join(MsgPack));
        world.subscribe(b, "t", json!({}));
        let mut frame = b"\x95\x10\x01\x80\xa1t".to_vec();
        frame.extend_from_slice(tail);
        world.input(a, Input::Binary(frame.into()));
        let event = world.take_frames(b).remove(0);
        assert!(event.ends_with(tail), "{event:x?}");
    }
}

#[test]
fn cbor_arguments_arrive_as_the_very_bytes() {
    // A wide head, tags, a half float, no lengths, chunks, a bignum, a key that is no text, and
    // simple values.
    let tails: [&[u8]; 9] = [
        b"\x81\x19\0\x01",
        b"\x81\xd8\x40\x43\x01\x02\x03",
        b"\x81\xf9\x3c\x00",
        b"\x9f\x01\x9f\xff\xff",
        b"\x81\x7f\x61a\x60\xff",
        b"\x81\xc2\x49\x01\0\0\0\0\0\0\0\0",
        b"\x81\xbf\x05\x01\xff",
        b"\x83\xf7\xe0\xf8\xff",
        b"\xd9\xd9\xf7\x81\x01",
    ];
    for tail in tails {
        let mut world = World::new();
        let (a, b) = (world.join(Cbor), world.join(Cbor));
        world.subscribe(b, "t", json!({}));
        let mut frame = b"\x85\x10\x01\xa0\x61t".to_vec();
        frame.extend_from_slice(tail);
        world.input(a, Input::Binary(frame.into()));
        let event = world.take_frames(b).remove(0);
        assert!(event.ends_with(tail), "{event:x?}");
    }
}

#[test]
fn cbor_may_be_spelled_in_any_way() {
    let mut world = World::new();
    let (a, b) = (world.join(Cbor), world.json());
    world.subscribe(b, "t", json!({}));
    // Self-described, no lengths, the code as a double, the id as a half float, `undefined` for an
    // option, the topic in chunks, null for args.
    let frame: &[u8] = b"\xd9\xd9\xf7\x9f\xfb\x40\x30\0\0\0\0\0\0\xf9\x47\0\xbf\x6backnowledge\xf7\x66retain\xf4\xff\x7f\x60\x61t\xff\xf6\xa1\x61k\x20\xff";
    world.input(a, Input::Binary(Bytes::from_static(frame)));
    let event = world.one(b);
    assert_eq!((&event[4], &event[5]), (&json!([]), &json!({"k": -1})));
    assert!(world.take(a).is_empty());
    let frame = b"\x84\x18\x20\xfb\x3f\xf0\0\0\0\0\0\0\xa1\x65match\x65exact\x61u";
    world.input(a, Input::Binary(Bytes::from_static(frame)));
    assert_eq!(world.one(a)[0], 33);
}

#[test]
fn empty_tails_are_omitted_and_null_counts_as_absent() {
    for (tail, seen) in [
        ("", ""),
        (",[]", ""),
        (",[],{}", ""),
        (",null", ""),
        (",null,null", ""),
        (",[1],{}", ",[1]"),
        (",[1],null", ",[1]"),
        (r#",null,{"a":1}"#, r#",[],{"a":1}"#),
        (",[null]", ",[null]"),
        (",[[]]", ",[[]]"),
    ] {
        for to in [Json, MsgPack, Cbor] {
            let mut world = World::new();
            let (a, b) = (world.json(), world.join(to));
            let id = world.subscribe(b, "t", json!({}));
            world.send_text(a, &format!(r#"[16,1,{{}},"t"{tail}]"#));
            let event = world.take_texts(b).remove(0);
            assert!(event.starts_with(&format!("[36,{id},")));
            assert!(event.ends_with(&format!("{{}}{seen}]")), "{event}");
        }
    }
}

#[test]
fn arguments_are_converted_between_the_serializations() {
    let values =
        json!([1, -5, 1.5, "text", null, true, [1, [2]], {"k": {"z": 1, "a": 2}}, u64::MAX]);
    for (from, to) in [
        (Json, MsgPack),
        (MsgPack, Json),
        (Json, Cbor),
        (Cbor, Json),
        (MsgPack, Cbor),
        (Cbor, MsgPack),
    ] {
        let mut world = World::new();
        let (a, b) = (world.join(from), world.join(to));
        world.subscribe(b, "t", json!({}));
        world.publish(a, "t", json!({}), &[values.clone(), json!({"k": [null]})]);
        let event = world.one(b);
        assert_eq!((&event[4], &event[5]), (&values, &json!({"k": [null]})));
    }
    let mut world = World::new();
    let (a, b) = (world.json(), world.join(MsgPack));
    world.subscribe(b, "t", json!({}));
    world.subscribe(a, "u", json!({}));
    // The convention for binary: in JSON a string of U+0000 and base64.
    world.send_text(a, r#"[16,1,{},"t",["\u0000AQID"]]"#);
    assert!(world.take_frames(b)[0].ends_with(b"\x91\xc4\x03\x01\x02\x03"));
    world.input(
        b,
        Input::Binary(Bytes::from_static(
            b"\x95\x10\x01\x80\xa1u\x91\xc4\x03\x01\x02\x03",
        )),
    );
    assert!(world.take_texts(a)[0].ends_with(r#",["\u0000AQID"]]"#));
}

fn from_device(to: Encoding, data: &[u8], attributes: Option<Attributes>) -> Value {
    let mut world = World::new();
    let peer = world.join(to);
    world.subscribe(peer, "dev.a", json!({}));
    let expiry = Some(Duration::from_millis(1_500));
    world.device_publishes("dev/a", data, (Qos::AtLeastOnce, false), attributes, expiry);
    world.one(peer)
}

#[test]
fn bytes_read_as_json_text_or_binary_and_say_so() {
    for to in [Json, MsgPack, Cbor] {
        for (data, form, tail) in [
            (&b"{\"t\":21.5}"[..], "json", Some(json!([{"t": 21.5}]))),
            (b"[1,2]", "json", Some(json!([[1, 2]]))),
            (b"5", "json", Some(json!([5]))),
            (b"hello", "text", Some(json!(["hello"]))),
            (b"\xff\xfe", "bytes", Some(json!(["\u{0}//4="]))),
            (b"", "text", None),
        ] {
            let event = from_device(to, data, None);
            let origin = json!({"qos": 1, "retain": false, "form": form, "expiry": 2});
            assert_eq!(event[3], json!({ "x_mqtt": origin }), "{data:?}");
            assert_eq!(event.get(4), tail.as_ref(), "{data:?}");
        }
    }
}

#[test]
fn properties_beside_bytes_are_told() {
    let pair = |name, value| {
        (
            ByteString::from_static(name),
            ByteString::from_static(value),
        )
    };
    let attributes = Attributes {
        is_text: Some(true),
        content_type: Some("application/json".into()),
        response_topic: Some("answers/1".into()),
        correlation_data: Some(Bytes::from_static(&[1, 2, 3])),
        user_properties: vec![pair("a", "1"), pair("a", "2"), pair("b", "")],
    };
    for to in [Json, MsgPack, Cbor] {
        let event = from_device(to, b"1", Some(attributes.clone()));
        let expected = json!({
            "qos": 1, "retain": false, "form": "json", "expiry": 2, "pfi": 1,
            "content_type": "application/json", "response_topic": "answers/1",
            "correlation_data": "\u{0}AQID",
            "user_properties": [["a", "1"], ["a", "2"], ["b", ""]],
        });
        assert_eq!(event[3]["x_mqtt"], expected);
    }
}

#[test]
fn devices_get_bytes_at_the_assurance_asked_for() {
    let mut world = World::new();
    let peer = world.join(MsgPack);
    world.device_subscribes("dev/#");
    for (options, tail, qos, data) in [
        (
            json!({}),
            vec![json!([{"t": 21.5}])],
            Qos::AtMostOnce,
            &br#"{"t":21.5}"#[..],
        ),
        (
            json!({"x_qos": 1}),
            vec![json!([[1, 2]])],
            Qos::AtLeastOnce,
            b"[1,2]",
        ),
        (
            json!({"x_qos": 2}),
            vec![json!(["text"])],
            Qos::ExactlyOnce,
            b"\"text\"",
        ),
        (
            json!({"trace": true}),
            vec![json!(["\u{0}AQID"])],
            Qos::AtLeastOnce,
            &[1, 2, 3],
        ),
        (
            json!({"trace": true, "x_qos": 0}),
            vec![json!([1, 2])],
            Qos::AtMostOnce,
            br#"{"args":[1,2],"kwargs":{}}"#,
        ),
        (
            json!({}),
            vec![json!([1]), json!({"k": 2})],
            Qos::AtMostOnce,
            br#"{"args":[1],"kwargs":{"k":2}}"#,
        ),
        (
            json!({}),
            vec![],
            Qos::AtMostOnce,
            br#"{"args":[],"kwargs":{}}"#,
        ),
    ] {
        world.publish(peer, "dev.a%20b", options.clone(), &tail);
        let mut got = world.device_takes();
        assert_eq!(got.len(), 1, "{options}");
        let delivery = got.remove(0);
        assert_eq!(delivery.qos, qos, "{options}");
        assert_eq!(delivery.event.topic.text(), "dev/a b");
        assert_eq!(delivery.event.payload.as_bytes().0, data, "{options}");
    }
    for (tail, clears) in [(vec![json!([1])], false), (vec![], true)] {
        world.publish(peer, "dev.kept", json!({"retain": true}), &tail);
        let delivery = world.device_takes().remove(0);
        assert_eq!(
            (delivery.event.retain, delivery.event.clears),
            (true, clears)
        );
    }
}

#[test]
fn a_value_kept_by_a_device_is_replayed_with_its_origin() {
    let mut world = World::new();
    let peer = world.json();
    world.device_publishes("dev/a b/c.d", b"on", (Qos::ExactlyOnce, true), None, None);
    world.send(peer, json!([32, 1, {"get_retained": true}, "dev.#"]));
    let event = world.take(peer).pop().unwrap();
    let origin = json!({"qos": 2, "retain": true, "form": "text"});
    let expected = json!({
        "topic": "dev.a%20b.c%2Ed", "retained": true, "token": event[2], "x_mqtt": origin,
    });
    assert_eq!(event[3], expected);
    assert_eq!(event[4], json!(["on"]));
    world.subscribe(peer, "dev.a%20b.c%2Ed", json!({}));
}

#[test]
fn frames_in_one_encoding_come_out_whole_in_the_other() {
    let mut world = World::new();
    let (a, b) = (world.join(MsgPack), world.json());
    world.subscribe(b, "t", json!({}));
    let frame =
        json_to_msgpack(br#"[16,1,{},"t",[{"deep":[[[{"k":[1,2,{"x":null}]}]]]}]]"#).unwrap();
    world.input(a, Input::Binary(frame.into()));
    let event = world.take_texts(b).remove(0);
    assert!(
        event.ends_with(r#"[{"deep":[[[{"k":[1,2,{"x":null}]}]]]}]]"#),
        "{event}"
    );
}
