//! What breaks the protocol ends the session of whoever did it, and nobody else's.

use crate::world::{HELLO, Peer, World, head};
use bytes::{Bytes, BytesMut};
use protocols::gate::Input;
use protocols::wamp::codec::name_of;
use protocols::wamp::machine::WampOptions;
use router_core::encoding::Encoding::{Cbor, Json, MsgPack};
use router_core::encoding::transcode::json_to_msgpack;
use router_core::session::Leave;
use serde_json::{Value, json};

/// One message of every kind, in order of their codes.
fn every_message() -> Vec<Value> {
    vec![
        json!([1, "realm1", {"roles": {"caller": {}}}]),
        json!([2, 1, {}]),
        json!([4, "ticket", {}]),
        json!([5, "x", {}]),
        json!([6, {}, "wamp.close.close_realm"]),
        json!([8, 68, 1, {}, "a.b"]),
        json!([16, 1, {}, "a"]),
        json!([17, 1, 1]),
        json!([32, 1, {}, "a"]),
        json!([33, 1, 1]),
        json!([34, 1, 1]),
        json!([35, 1]),
        json!([36, 1, 1, {}]),
        json!([48, 1, {}, "a"]),
        json!([49, 1, {}]),
        json!([50, 1, {}]),
        json!([64, 1, {}, "a"]),
        json!([65, 1, 1]),
        json!([66, 1, 1]),
        json!([67, 1]),
        json!([68, 1, 1, {}]),
        json!([69, 1, {}]),
        json!([70, 1, {}]),
    ]
}

/// The client was told `text`, closed with 1002, and is not listened to any more.
fn assert_violation(world: &mut World, peer: Peer, text: &str, had_session: bool) {
    let abort = world.one(peer);
    let expected = json!([3, {"message": text}, "wamp.error.protocol_violation"]);
    assert_eq!(abort, expected);
    assert_eq!(world.wires[peer].closed, Some((1002, "protocol violation")));
    let left: &[Leave] = if had_session { &[Leave::Lost] } else { &[] };
    assert_eq!(world.wires[peer].left, left, "{text}");
    world.send_text(peer, HELLO);
    world.send(peer, json!([16, 1, {"acknowledge": true}, "a"]));
    assert_eq!(world.take(peer), Vec::<Value>::new());
    assert_eq!(world.deadline(peer), None);
}

#[test]
fn nothing_but_hello_comes_first() {
    for message in every_message().into_iter().filter(|m| m[0] != 1) {
        for encoding in [Json, MsgPack, Cbor] {
            let mut world = World::new();
            let peer = world.connect(encoding);
            world.send(peer, message.clone());
            let text = format!("{} before HELLO", name_of(message[0].as_u64().unwrap()));
            assert_violation(&mut world, peer, &text, false);
        }
    }
}

#[test]
fn nothing_but_authenticate_answers_a_challenge() {
    for message in every_message().into_iter().filter(|m| m[0] != 5) {
        let mut world = World::new();
        let peer = world.connect(Json);
        let offer = json!({"roles": {"caller": {}}, "authmethods": ["ticket"], "authid": "joe"});
        assert_eq!(world.ask(peer, json!([1, "realm1", offer]))[0], 4);
        world.send(peer, message.clone());
        let text = match message[0].as_u64().unwrap() {
            1 => "a second HELLO".to_owned(),
            code => format!("{} before WELCOME", name_of(code)),
        };
        assert_violation(&mut world, peer, &text, false);
    }
}

#[test]
fn nothing_is_said_between_the_last_proof_and_welcome() {
    for message in every_message() {
        let mut world = World::new();
        world.is_door_stuck = true;
        let peer = world.connect(Json);
        world.send_text(peer, HELLO);
        world.send(peer, message.clone());
        let text = match message[0].as_u64().unwrap() {
            1 => "a second HELLO".to_owned(),
            code => format!("{} before WELCOME", name_of(code)),
        };
        assert_violation(&mut world, peer, &text, false);
    }
}

#[test]
fn in_a_session_a_client_sends_what_clients_send() {
    let wrong = [
        (1, "a second HELLO"),
        (2, "WELCOME is sent by routers only"),
        (4, "CHALLENGE is sent by routers only"),
        (5, "AUTHENTICATE after WELCOME"),
        (17, "PUBLISHED is sent by routers only"),
        (33, "SUBSCRIBED is sent by routers only"),
        (35, "UNSUBSCRIBED is sent by routers only"),
        (36, "EVENT is sent by routers only"),
        (50, "RESULT is sent by routers only"),
        (65, "REGISTERED is sent by routers only"),
        (67, "UNREGISTERED is sent by routers only"),
        (68, "INVOCATION is sent by routers only"),
        (69, "INTERRUPT is sent by routers only"),
        (8, "an answer names an invocation that was never made"),
        (70, "an answer names an invocation that was never made"),
    ];
    for message in every_message() {
        let code = message[0].as_u64().unwrap();
        let mut world = World::new();
        let peer = world.json();
        world.send(peer, message);
        match wrong.iter().find(|(wrong, _)| *wrong == code) {
            Some((_, text)) => assert_violation(&mut world, peer, text, true),
            None => assert_eq!(world.wires[peer].closed, None, "{}", name_of(code)),
        }
    }
}

/// The codec's table of malformed messages: each ends an open session with the same words, and a
/// connection without session as well.
#[test]
fn every_malformed_message_ends_the_session() {
    let table = include_str!("../vectors/wamp/invalid.txt");
    let mut lines = 0;
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (frame, text) = line.split_once(" => ").unwrap();
        let (frame, both) = frame
            .strip_prefix("json ")
            .map_or((frame, true), |f| (f, false));
        lines += 1;
        let mut world = World::new();
        let (peer, fresh) = (world.json(), world.connect(Json));
        world.send_text(peer, frame);
        world.send_text(fresh, frame);
        assert_violation(&mut world, peer, text, true);
        assert_violation(&mut world, fresh, text, false);
        if both {
            let peer = world.join(MsgPack);
            let packed = json_to_msgpack(frame.as_bytes()).unwrap();
            world.input(peer, Input::Binary(packed.into()));
            assert_violation(&mut world, peer, text, true);
        }
    }
    assert!(lines > 100, "the table is there");
}

#[test]
fn standard_options_of_a_wrong_type_are_violations() {
    let (boolean, text) = ("expected a boolean", "expected a string");
    let (ids, texts) = ("expected a list of ids", "expected a list of strings");
    for (code, key, value, expected) in [
        (16, "acknowledge", json!("yes"), boolean),
        (16, "acknowledge", json!(1), boolean),
        (16, "exclude_me", json!(0), boolean),
        (16, "disclose_me", json!("true"), boolean),
        (16, "retain", json!(1), boolean),
        (16, "exclude", json!("x"), ids),
        (16, "exclude", json!(["x"]), ids),
        (16, "exclude", json!([0]), ids),
        (16, "exclude", json!([1.5]), ids),
        (16, "exclude_authid", json!("joe"), texts),
        (16, "exclude_authrole", json!([1]), texts),
        (16, "eligible", json!({}), ids),
        (16, "eligible_authid", json!([null]), texts),
        (16, "eligible_authrole", json!(true), texts),
        (32, "match", json!(1), text),
        (
            32,
            "match",
            json!("bogus"),
            "expected \"exact\", \"prefix\" or \"wildcard\"",
        ),
        (32, "get_retained", json!(1), boolean),
        (64, "match", json!({}), text),
        (
            64,
            "match",
            json!("bogus"),
            "expected \"exact\", \"prefix\" or \"wildcard\"",
        ),
        (64, "invoke", json!(5), text),
        (
            64,
            "invoke",
            json!("bogus"),
            "expected \"single\", \"first\"",
        ),
        (48, "receive_progress", json!("yes"), boolean),
        (48, "timeout", json!("5"), "expected an integer"),
        (48, "timeout", json!(-5), "expected an integer"),
        (48, "timeout", json!(0.5), "expected an integer"),
        (48, "disclose_me", json!(1), boolean),
        (48, "progress", json!("yes"), boolean),
        (64, "disclose_caller", json!(1), boolean),
        (64, "forward_timeout", json!("yes"), boolean),
        (49, "mode", json!(1), text),
        (70, "progress", json!(1), boolean),
    ] {
        let mut world = World::new();
        let peer = world.json();
        let options = json!({ key: value });
        let message = match code {
            49 | 70 => json!([code, 1, options]),
            _ => json!([code, 1, options, "a.b"]),
        };
        world.send(peer, message);
        let abort = world.one(peer);
        assert_eq!(abort[2], "wamp.error.protocol_violation", "{key}");
        let said = abort[1]["message"].as_str().unwrap();
        let expected = format!("{} options: {key}: {expected}", name_of(code));
        assert!(
            said.starts_with(&expected),
            "{said:?} instead of {expected:?}"
        );
        assert_eq!(world.wires[peer].closed, Some((1002, "protocol violation")));
        assert_eq!(world.wires[peer].left, [Leave::Lost]);
    }
}

#[test]
fn an_error_from_a_client_concerns_an_invocation_and_names_a_uri() {
    for (message, text) in [
        (
            json!([8, 48, 1, {}, "a.b"]),
            "ERROR element 1 (REQUEST.Type|int): a client may only send 68, INVOCATION",
        ),
        (
            json!([8, 68, 1, {}, "a b"]),
            "ERROR element 4 (Error|uri): not a URI",
        ),
    ] {
        let mut world = World::new();
        let peer = world.json();
        world.send(peer, message);
        assert_violation(&mut world, peer, text, true);
    }
}

#[test]
fn frames_of_the_wrong_kind_are_violations() {
    let mut world = World::new();
    let (json, packed) = (world.json(), world.join(MsgPack));
    world.input(json, Input::Binary(Bytes::from_static(b"[16,1,{},\"a\"]")));
    world.input(packed, Input::Text(Bytes::from_static(b"[16,1,{},\"a\"]")));
    let text = "a binary message where the serializer needs text";
    assert_violation(&mut world, json, text, true);
    let text = "a text message where the serializer needs binary";
    let abort = world.one(packed);
    assert_eq!(abort[1]["message"], text);
    assert_eq!(
        world.wires[packed].closed,
        Some((1002, "protocol violation"))
    );

    let peer = world.json();
    let mut buffer = BytesMut::from(&b"x"[..]);
    world.input(peer, Input::Stream(&mut buffer));
    assert_violation(
        &mut world,
        peer,
        "a byte stream where messages are expected",
        true,
    );
    assert!(buffer.is_empty());
}

#[test]
fn a_message_over_the_limit_closes_the_session() {
    let options = WampOptions {
        message_bytes_max: 1_000,
        ..WampOptions::default()
    };
    let mut world = World::new();
    let peer = world.connect_with(Json, options);
    world.send_text(peer, HELLO);
    world.take(peer);
    let message = |filler: usize| format!(r#"[16,1,{{}},"a",["{}"]]"#, "x".repeat(filler));
    let overhead = message(0).len();
    world.send_text(peer, &message(1_000 - overhead));
    assert_eq!(world.wires[peer].closed, None);
    world.send_text(peer, &message(1_001 - overhead));
    let abort = world.one(peer);
    assert_eq!(abort[2], "wamp.error.payload_size_exceeded");
    assert_eq!(world.wires[peer].closed, Some((1009, "message too big")));
    assert_eq!(world.wires[peer].left, [Leave::Lost]);
}

#[test]
fn a_violation_ends_what_the_session_held_and_hurts_nobody_else() {
    let mut world = World::new();
    let (bad, good) = (world.json(), world.json());
    world.register(bad, "p", json!({}));
    world.subscribe(bad, "t", json!({}));
    world.send(good, json!([48, 1, {}, "p"]));
    assert_eq!(world.one(bad)[0], 68);
    world.send(bad, json!([2, 1, {}]));
    let canceled = world.one(good);
    assert_eq!(
        head(&canceled, 5),
        json!([8, 48, 1, {}, "wamp.error.canceled"])
    );
    assert_eq!(world.take(bad).len(), 1);
    world.publish(good, "t", json!({}), &[]);
    assert_eq!(world.take(bad), Vec::<Value>::new());
    assert_eq!(
        world.ask(good, json!([48, 2, {}, "p"]))[4],
        "wamp.error.no_such_procedure"
    );
}

#[test]
fn what_came_before_a_violation_still_counts() {
    let mut world = World::new();
    let (bad, good) = (world.json(), world.json());
    world.subscribe(good, "t", json!({}));
    world.send_batch(
        bad,
        &[r#"[16,1,{},"t",[1]]"#, "[2,1,{}]", r#"[16,1,{},"t",[2]]"#],
    );
    assert_eq!(world.one(good)[4], json!([1]));
}
