//! Headers that a session knows from before are taken as if they were read anew, whatever else the
//! frame holds.
#![cfg(feature = "wamp")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use protocols::gate::{Gate, Input, JoinedAs};
use protocols::wamp::machine::{WampMachine, WampOptions};
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::encoding::value;
use router_core::model::{Delivery, Now, SessionId};
use serde_json::{Value, json};
use std::time::Instant;

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: 0,
    }
}

fn show(machine: &mut WampMachine, encoding: Encoding, frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let input = match encoding {
        Json => Input::Text(frame),
        MsgPack | Cbor => Input::Binary(frame),
    };
    machine.handle_input(now(), input);
}

/// A session that has said nothing yet, of a client that knows sealed payloads.
fn session(encoding: Encoding) -> WampMachine {
    let mut machine = WampMachine::new(now(), encoding, WampOptions::default());
    let features = json!({"features": {"payload_passthru_mode": true,
        "payload_encryption_cryptobox": true, "progressive_call_results": true}});
    let hello = json!([1, "realm1", {"roles":
        {"publisher": features, "caller": features, "callee": features}}]);
    show(&mut machine, encoding, &value::to_bytes(encoding, &hello));
    machine.handle_joined(
        now(),
        Ok(JoinedAs {
            session: SessionId(1),
            realm: "realm1".into(),
            authid: "a".into(),
            role: "r".into(),
            method: "anonymous".into(),
            provider: "p".into(),
        }),
    );
    machine.handle_delivery(now(), Delivery::Joined { present: false });
    told(&mut machine);
    machine
}

/// What it wants done and says.
fn told(machine: &mut WampMachine) -> String {
    let mut told = String::new();
    while let Some(action) = machine.poll_action() {
        told += &format!("{action:?}\n");
    }
    while let Some(output) = machine.poll_output() {
        told += &format!("{output:?}\n");
    }
    told
}

fn options() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!({})),
        2 => Just(json!({"acknowledge": true})),
        1 => prop::sample::select(vec![
            json!({"acknowledge": true, "exclude_me": false}),
            json!({"retain": true, "x_qos": 1}),
            json!({"exclude_me": 1}),
            json!({"when": null, "retain": true}),
            json!({"ppt_scheme": "x_a"}),
            json!({"ppt_scheme": "?"}),
            json!({"enc_algo": "cryptobox"}),
            json!({"receive_progress": true}),
            json!({"progress": true}),
            json!({"timeout": 5, "disclose_me": true}),
        ]),
    ]
}

fn uri() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!("a.b")),
        2 => Just(json!("a.b.c")),
        1 => prop::sample::select(vec![
            json!("a.\"é"), json!("a..b"), json!("wamp.x"), json!(5), json!("a%2Eb"), json!("\0QQ=="),
        ]),
    ]
}

fn tail() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![json!([1, "é\n", null])]),
        Just(vec![json!([]), json!({"a": [{}]})]),
        Just(vec![json!(null)]),
        Just(vec![json!({})]),
        Just(vec![json!("\0QQ==")]),
        Just(vec![json!([]), json!([])]),
        Just(vec![json!([]), json!({}), json!(1)]),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let request = prop_oneof![
        Just(json!(1)),
        Just(json!(300)),
        Just(json!(1_u64 << 53)),
        Just(json!(0)),
        Just(json!(1.5)),
    ];
    let code = prop::sample::select(vec![16, 16, 16, 48, 48, 70, 70, 32, 8]);
    (code, request, options(), uri(), tail()).prop_map(|(code, request, options, uri, tail)| {
        let mut message = vec![json!(code), request, options];
        if code != 70 {
            message.push(uri);
        }
        message.extend(tail);
        Value::Array(message)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn what_is_known_is_taken_as_what_is_read_anew(
        encoding in prop::sample::select(vec![Json, MsgPack, Cbor]),
        lessons in vec(message(), 0..14),
        last in message(),
        repeats in any::<prop::sample::Index>(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop_oneof![4 => Just(0_usize), 1 => 1..4_usize],
    ) {
        let mut taught = session(encoding);
        let mut kept = Vec::new();
        for lesson in &lessons {
            let frame = value::to_bytes(encoding, lesson);
            let mut fresh = session(encoding);
            show(&mut fresh, encoding, &frame);
            let wanted = told(&mut fresh);
            // What ends a session teaches nothing.
            if !wanted.contains("Leave") {
                show(&mut taught, encoding, &frame);
                prop_assert_eq!(told(&mut taught), wanted);
                kept.push(frame);
            }
        }
        let mut frame = match kept.is_empty() {
            true => value::to_bytes(encoding, &last).to_vec(),
            false => repeats.get(&kept).to_vec(),
        };
        for (at, value) in flips {
            *at.get_mut(&mut frame) = value;
        }
        frame.truncate(frame.len().saturating_sub(cut));
        let mut fresh = session(encoding);
        show(&mut fresh, encoding, &frame);
        show(&mut taught, encoding, &frame);
        prop_assert_eq!(told(&mut taught), told(&mut fresh));
    }
}

/// The bytes of a header decide, so spelled otherwise it is another one.
#[test]
fn a_known_header_with_other_arguments_is_checked_to_its_end() {
    let mut machine = session(Json);
    let first = r#"[16,1,{"acknowledge":true},"a.b",["x"]]"#;
    show(&mut machine, Json, first.as_bytes());
    assert!(told(&mut machine).contains("Publish"));
    for good in [
        r#"[16,2,{"acknowledge":true},"a.b"]"#,
        r#"[16,2,{"acknowledge":true},"a.b" , [1] , {"k":2} ] "#,
        r#"[16,2,{"acknowledge":true},"a.b",null]"#,
    ] {
        show(&mut machine, Json, good.as_bytes());
        let told = told(&mut machine);
        assert!(
            told.contains("Publish") && !told.contains("Leave"),
            "{good}: {told}"
        );
    }
    for bad in [
        r#"[16,2,{"acknowledge":true},"a.b""#,
        r#"[16,2,{"acknowledge":true},"a.b",[1]"#,
        r#"[16,2,{"acknowledge":true},"a.b",[01]]"#,
        r#"[16,2,{"acknowledge":true},"a.b",[1]]x"#,
        r#"[16,2,{"acknowledge":true},"a.b",[1],{},{}]"#,
        r#"[16,2,{"acknowledge":true},"a.b",[1],[]]"#,
        r#"[16,2,{"acknowledge":true},"a.b",{}]"#,
        r#"[16,2,{"acknowledge":true},"a.b"x]"#,
        r#"[16,0,{"acknowledge":true},"a.b",[1]]"#,
        r#"[16,02,{"acknowledge":true},"a.b",[1]]"#,
        r#"[16,9007199254740993,{"acknowledge":true},"a.b",[1]]"#,
        "[16,2,{\"acknowledge\":true},\"a.b\",[\"\u{1}\"]]",
    ] {
        let mut machine = session(Json);
        show(&mut machine, Json, first.as_bytes());
        told(&mut machine);
        show(&mut machine, Json, bad.as_bytes());
        let told = told(&mut machine);
        assert!(
            told.contains("protocol_violation") && !told.contains("Publish"),
            "{bad}: {told}"
        );
    }
}

#[test]
fn arguments_may_be_nested_as_deep_behind_a_known_header() {
    for (depth, is_taken) in [(127, true), (128, false)] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut machine = session(Json);
        for arguments in ["[]", &*nested] {
            let frame = format!(r#"[16,1,{{}},"a",{arguments}]"#);
            show(&mut machine, Json, frame.as_bytes());
        }
        assert_eq!(told(&mut machine).contains("Leave"), !is_taken, "{depth}");
    }
}
