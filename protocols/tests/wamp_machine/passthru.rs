//! Payload passthru: the standard's form, Autobahn's older one, and the bytes of MQTT.

use crate::world::{Peer, World, head};
use protocols::gate::Input;
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::model::{Body, Qos};
use serde_json::{Value, json};

const UNSUPPORTED: &str = "wamp.error.feature_not_supported";

/// A session whose roles announce these features.
fn announcing(world: &mut World, encoding: Encoding, features: Value) -> Peer {
    let roles = ["publisher", "subscriber", "caller", "callee"];
    let role = |name: &str| {
        let mut features = features.clone();
        if name == "callee" {
            features["progressive_call_results"] = json!(true);
        }
        (name.to_owned(), json!({ "features": features }))
    };
    let roles: Value = roles.map(role).into_iter().collect();
    let hello = json!([1, "realm1", {"roles": roles}]);
    world.join_saying(encoding, &hello.to_string())
}

fn knowing(world: &mut World, encoding: Encoding) -> Peer {
    announcing(world, encoding, json!({"payload_passthru_mode": true}))
}

fn older(world: &mut World, encoding: Encoding) -> Peer {
    announcing(world, encoding, json!({"payload_transparency": true}))
}

/// The words of the standard's form.
fn sealed() -> Value {
    json!({"ppt_scheme": "wamp", "ppt_serializer": "cbor", "ppt_cipher": "xsalsa20poly1305",
        "ppt_keyid": "key 1"})
}

fn with(mut words: Value, key: &str, value: Value) -> Value {
    words[key] = value;
    words
}

const SECRET: &str = "\u{0}AQID";

#[test]
fn a_sealed_publication_passes_with_its_words_and_to_nobody_else() {
    for (from, to) in [(Json, Json), (Json, Cbor), (MsgPack, Json), (Cbor, MsgPack)] {
        let mut world = World::new();
        let (a, b) = (knowing(&mut world, from), knowing(&mut world, to));
        let others = [world.json(), older(&mut world, Json)];
        for peer in [b, others[0], others[1]] {
            world.subscribe(peer, "t", json!({}));
        }
        world.device_subscribes("t");
        let unknown = with(sealed(), "ppt_other", json!("x"));
        world.publish(a, "t", unknown, &[json!([SECRET])]);
        let event = world.one(b);
        assert_eq!((&event[3], &event[4]), (&sealed(), &json!([SECRET])));
        assert!(world.take(others[0]).is_empty() && world.take(others[1]).is_empty());
        assert!(world.device_takes().is_empty());
        assert_eq!(world.realm.counters().delivery_sealed, 3);
    }
}

#[test]
fn sealed_arguments_arrive_as_the_very_bytes() {
    let mut world = World::new();
    let (a, b) = (knowing(&mut world, Cbor), knowing(&mut world, Cbor));
    world.subscribe(b, "t", json!({}));
    let tail = b"\x81\xd8\x40\x43\x01\x02\x03";
    let mut frame = b"\x85\x10\x01\xa1\x6appt_scheme\x63x_a\x61t".to_vec();
    frame.extend_from_slice(tail);
    world.input(a, Input::Binary(frame.into()));
    assert!(world.take_frames(b)[0].ends_with(tail));
}

#[test]
fn who_did_not_announce_it_may_not_send_it() {
    let mut world = World::new();
    let (a, b) = (world.json(), knowing(&mut world, Json));
    world.subscribe(b, "t", json!({}));
    world.register(b, "p", json!({}));
    let publish = with(sealed(), "acknowledge", json!(true));
    let answer = world.ask(a, json!([16, 1, publish, "t", [SECRET]]));
    assert_eq!(head(&answer, 5), json!([8, 16, 1, {}, UNSUPPORTED]));
    let answer = world.ask(a, json!([48, 2, sealed(), "p", [SECRET]]));
    assert_eq!(head(&answer, 5), json!([8, 48, 2, {}, UNSUPPORTED]));
    world.send(a, json!([16, 3, sealed(), "t", [SECRET]]));
    assert!(world.take(a).is_empty() && world.take(b).is_empty());
}

#[test]
fn a_scheme_is_one_of_the_standards_or_private() {
    let mut world = World::new();
    let a = knowing(&mut world, Json);
    for good in ["wamp", "mqtt", "x_mine"] {
        world.publish(a, "t", json!({"ppt_scheme": good}), &[json!([SECRET])]);
    }
    for bad in ["", "x_", "WAMP", "other"] {
        let options = json!({"ppt_scheme": bad, "acknowledge": true});
        let answer = world.ask(a, json!([16, 1, options, "t", [SECRET]]));
        assert_eq!(answer[4], "wamp.error.invalid_argument", "{bad}");
    }
    // Without a scheme the other words are options that nobody knows.
    let plain = json!({"ppt_cipher": "x", "exclude_me": false});
    world.subscribe(a, "t", json!({}));
    world.send(a, json!([16, 2, plain, "t", [1]]));
    assert_eq!(world.one(a)[3], json!({}));
    for key in ["ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid"] {
        let mut world = World::new();
        let a = knowing(&mut world, Json);
        world.send(a, json!([16, 1, {key: 1}, "t", [SECRET]]));
        assert_eq!(world.one(a)[2], "wamp.error.protocol_violation", "{key}");
    }
}

#[test]
fn a_sealed_call_and_its_answers_pass_with_their_words() {
    for (from, to) in [(Json, Json), (MsgPack, Cbor)] {
        let mut world = World::new();
        let (caller, callee) = (knowing(&mut world, from), knowing(&mut world, to));
        let id = world.register(callee, "p", json!({}));
        let call = with(sealed(), "receive_progress", json!(true));
        world.send(caller, json!([48, 1, call.clone(), "p", [SECRET]]));
        assert_eq!(world.one(callee), json!([68, 1, id, call, [SECRET]]));
        let progress = with(sealed(), "progress", json!(true));
        world.send(callee, json!([70, 1, progress, [SECRET]]));
        assert_eq!(world.one(caller), json!([50, 1, progress, [SECRET]]));
        world.send(callee, json!([70, 1, sealed(), [SECRET]]));
        assert_eq!(world.one(caller), json!([50, 1, sealed(), [SECRET]]));
        world.send(caller, json!([48, 2, {}, "p"]));
        world.take(callee);
        world.send(callee, json!([8, 68, 2, sealed(), "my.error", [SECRET]]));
        let error = json!([8, 48, 2, sealed(), "my.error", [SECRET]]);
        assert_eq!(world.one(caller), error);
    }
}

#[test]
fn a_callee_or_caller_that_lacks_it_ends_the_call() {
    let mut world = World::new();
    let (a, b) = (knowing(&mut world, Json), world.json());
    world.register(b, "plain", json!({}));
    world.register(a, "sealed", json!({}));
    let answer = world.ask(a, json!([48, 1, sealed(), "plain", [SECRET]]));
    assert_eq!(head(&answer, 5), json!([8, 48, 1, {}, UNSUPPORTED]));
    assert!(world.take(b).is_empty(), "it never heard of the call");
    // The slot is free again: an ordinary call passes.
    world.send(a, json!([48, 2, {}, "plain", [1]]));
    assert_eq!(world.one(b)[4], json!([1]));
    // A sealed result of an ordinary call.
    world.send(b, json!([48, 1, {"receive_progress": true}, "sealed"]));
    let invocation = world.one(a)[1].clone();
    let progress = with(sealed(), "progress", json!(true));
    world.send(a, json!([70, invocation, progress, [SECRET]]));
    assert!(world.take(b).is_empty());
    world.send(a, json!([70, invocation, sealed(), [SECRET]]));
    assert_eq!(head(&world.one(b), 5), json!([8, 48, 1, {}, UNSUPPORTED]));
    // An error keeps its name.
    world.send(b, json!([48, 3, {}, "sealed"]));
    let invocation = world.one(a)[1].clone();
    world.send(
        a,
        json!([8, 68, invocation, sealed(), "my.error", [SECRET]]),
    );
    assert_eq!(world.one(b), json!([8, 48, 3, {}, "my.error"]));
    // A callee that answers so without having announced it.
    world.send(a, json!([48, 4, {}, "plain"]));
    let invocation = world.take(b).pop().unwrap()[1].clone();
    world.send(b, json!([70, invocation, sealed(), [SECRET]]));
    assert_eq!(head(&world.one(a), 5), json!([8, 48, 4, {}, UNSUPPORTED]));
}

#[test]
fn kept_and_traced_publications_stay_sealed() {
    let mut world = World::new();
    let (a, plain) = (knowing(&mut world, Json), world.json());
    let options = with(with(sealed(), "retain", json!(true)), "trace", json!(true));
    world.publish(a, "t", options, &[json!([SECRET])]);
    for how in [json!({"get_retained": true}), json!({"after": 0})] {
        let mut late = [knowing(&mut world, MsgPack), plain].map(|peer| {
            world.send(peer, json!([32, 5, how, "t"]));
            let said = world.take(peer);
            world.send(peer, json!([34, 6, said[0][2]]));
            world.take(peer);
            said
        });
        let event = late[0].pop().unwrap();
        for (key, value) in sealed().as_object().unwrap() {
            assert_eq!(&event[3][key], value);
        }
        assert_eq!(event[4], json!([SECRET]));
        assert_eq!(late[1].len(), 1, "SUBSCRIBED only: {:?}", late[1]);
    }
    let merge = json!({"ppt_scheme": "wamp", "retain": true, "merge": true, "acknowledge": true});
    let answer = world.ask(a, json!([16, 9, merge, "t", [SECRET]]));
    assert_eq!(answer[4], "wamp.error.invalid_argument");
}

#[test]
fn a_group_gives_a_sealed_publication_to_a_member_that_opens_it() {
    let mut world = World::new();
    let (a, opens, plain) = (
        knowing(&mut world, Json),
        knowing(&mut world, Json),
        world.json(),
    );
    for peer in [plain, opens] {
        world.subscribe(peer, "t", json!({"x_share": "g"}));
    }
    for _ in 0..4 {
        world.publish(a, "t", sealed(), &[json!([SECRET])]);
    }
    assert_eq!(world.take(opens).len(), 4);
    assert!(world.take(plain).is_empty());
}

#[test]
fn the_older_form_passes_between_those_that_announced_it() {
    let words = json!({"enc_algo": "cryptobox", "enc_key": "key", "enc_serializer": "json"});
    for (from, to) in [(Json, Json), (Json, MsgPack), (MsgPack, Cbor)] {
        let mut world = World::new();
        let (a, b) = (older(&mut world, from), older(&mut world, to));
        let other = knowing(&mut world, Json);
        for peer in [b, other] {
            world.subscribe(peer, "t", json!({}));
        }
        world.device_subscribes("t");
        world.publish(a, "t", words.clone(), &[json!(SECRET)]);
        let event = world.one(b);
        assert_eq!((&event[3], &event[4]), (&words, &json!(SECRET)));
        assert!(world.take(other).is_empty() && world.device_takes().is_empty());
        let id = world.register(b, "p", json!({}));
        world.send(a, json!([48, 1, words, "p", SECRET]));
        assert_eq!(world.one(b), json!([68, 1, id, words, SECRET]));
        world.send(b, json!([70, 1, words, SECRET]));
        assert_eq!(world.one(a), json!([50, 1, words, SECRET]));
        // Kept like any other value: nothing in the place of a list is no deletion.
        let kept = with(words.clone(), "retain", json!(true));
        world.publish(a, "kept", kept, &[json!(SECRET)]);
        world.send(b, json!([32, 7, {"get_retained": true}, "kept"]));
        let replayed = world.take(b).pop().unwrap();
        assert_eq!(
            (&replayed[3]["enc_key"], &replayed[4]),
            (&json!("key"), &json!(SECRET))
        );
        world.send(a, json!([48, 2, {}, "p"]));
        world.take(b);
        world.send(b, json!([8, 68, 2, words, "my.error", SECRET]));
        assert_eq!(world.one(a), json!([8, 48, 2, words, "my.error", SECRET]));
    }
}

#[test]
fn the_bytes_of_mqtt_go_natively_to_devices_and_translated_to_others() {
    let mut world = World::new();
    let (a, b, plain) = (
        knowing(&mut world, Cbor),
        knowing(&mut world, Json),
        world.json(),
    );
    for peer in [b, plain] {
        world.subscribe(peer, "t", json!({}));
    }
    world.device_subscribes("t");
    let native = json!({"ppt_scheme": "mqtt", "ppt_serializer": "native"});
    // The three bytes `{ }` are a JSON text.
    world.publish(a, "t", native.clone(), &[json!(["\u{0}eyB9"])]);
    let event = world.one(b);
    assert_eq!(event[4], json!(["\u{0}eyB9"]));
    assert_eq!(
        (&event[3]["ppt_scheme"], &event[3]["ppt_serializer"]),
        (&json!("mqtt"), &json!("native"))
    );
    assert_eq!(world.one(plain)[4], json!([{}]));
    let got = world.device_takes().remove(0);
    assert_eq!(got.event.payload.as_bytes().0, "{ }");
    assert!(matches!(got.event.payload.body(), Body::Bytes { .. }));
    // With more words, or more than one binary, it is a payload like any other sealed one.
    for (words, args) in [
        (
            with(native.clone(), "ppt_cipher", json!("x")),
            json!([SECRET]),
        ),
        (json!({"ppt_scheme": "mqtt"}), json!([SECRET])),
        (native.clone(), json!([SECRET, 1])),
        (native, json!(["text"])),
    ] {
        world.publish(a, "t", words, std::slice::from_ref(&args));
        assert_eq!(world.one(b)[4], args);
        assert!(world.take(plain).is_empty() && world.device_takes().is_empty());
    }
}

#[test]
fn a_subscriber_may_want_the_bytes_of_devices_as_they_are() {
    for encoding in [Json, MsgPack, Cbor] {
        let mut world = World::new();
        let features = json!({"payload_passthru_mode": true, "x_ppt_mqtt": true});
        let wants = announcing(&mut world, encoding, features);
        let knows = knowing(&mut world, encoding);
        for peer in [wants, knows] {
            world.subscribe(peer, "dev.a", json!({}));
        }
        world.device_publishes("dev/a", b"[1, 2]", (Qos::AtLeastOnce, false), None, None);
        let event = world.one(wants);
        let origin = json!({"qos": 1, "retain": false, "form": "json"});
        let details = json!({"ppt_scheme": "mqtt", "ppt_serializer": "native", "x_mqtt": origin});
        assert_eq!(
            (&event[3], &event[4]),
            (&details, &json!(["\u{0}WzEsIDJd"]))
        );
        // Whoever announced the mode alone keeps what it always got.
        let event = world.one(knows);
        assert_eq!(
            (&event[3], &event[4]),
            (&json!({ "x_mqtt": origin }), &json!([[1, 2]]))
        );
    }
}

#[test]
fn the_parts_of_a_sealed_call_reach_the_next_callee_with_their_words() {
    let mut world = World::new();
    let parts = json!({"payload_passthru_mode": true, "progressive_call_invocations": true,
        "call_canceling": true});
    let [caller, a, b] = [Json, Json, Cbor].map(|of| announcing(&mut world, of, parts.clone()));
    let id = world.register(a, "p", json!({"invoke": "first"}));
    world.register(b, "p", json!({"invoke": "first"}));
    let more = with(sealed(), "progress", json!(true));
    world.send(caller, json!([48, 1, more, "p", [SECRET]]));
    let invocation = json!([68, 1, id, more, [SECRET]]);
    assert_eq!(world.one(a), invocation);
    world.send(a, json!([8, 68, 1, {}, "wamp.error.unavailable"]));
    assert_eq!(world.one(b), invocation);
    world.send(caller, json!([48, 1, sealed(), "p", [SECRET]]));
    assert_eq!(world.one(b), json!([68, 1, id, sealed(), [SECRET]]));
}

#[test]
fn the_history_tells_the_words_and_tells_nobody_else() {
    let mut world = World::new();
    let (a, other) = (knowing(&mut world, MsgPack), world.json());
    let publication = world.publish(
        a,
        "t",
        with(sealed(), "trace", json!(true)),
        &[json!([SECRET])],
    );
    let id = world.subscribe(a, "t", json!({}));
    world.subscribe(other, "t", json!({}));
    world.take(a);
    let call = json!([48, 77, {}, "wamp.subscription.get_events", [id]]);
    let answer = world.ask(a, call.clone());
    let event = &answer[3][0][0];
    assert_eq!(event["publication"], publication);
    assert_eq!(
        (&event["details"], &event["args"]),
        (&sealed(), &json!([SECRET]))
    );
    assert_eq!(world.ask(other, call)[3], json!([[]]));
}

#[test]
fn a_testament_may_be_sealed() {
    let mut world = World::new();
    let (heir, other) = (knowing(&mut world, Cbor), world.json());
    let peer = world.json();
    world.subscribe(heir, "will", json!({}));
    world.subscribe(other, "will", json!({}));
    let add = |options: Value| {
        let name = "wamp.session.add_testament";
        json!([48, 1, {}, name, ["will", [SECRET], {}], {"publish_options": options}])
    };
    let bad = world.ask(peer, add(json!({"ppt_scheme": "other"})));
    assert_eq!(bad[4], "wamp.error.invalid_argument");
    assert_eq!(world.ask(peer, add(sealed())), json!([50, 1, {}]));
    world.lose(peer);
    let event = world.one(heir);
    assert_eq!((&event[3], &event[4]), (&sealed(), &json!([SECRET])));
    assert!(world.take(other).is_empty());
}
