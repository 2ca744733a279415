//! Publish and subscribe: options, patterns, filters, history.

use crate::world::{HELLO, World, args_of, head};
use router_core::encoding::Encoding::{Cbor, Json, MsgPack};
use serde_json::{Value, json};

const INVALID_URI: &str = "wamp.error.invalid_uri";
const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";

fn nothing() -> Vec<Value> {
    Vec::new()
}

#[test]
fn an_event_of_an_exact_subscription_has_empty_details() {
    for (from, to) in [
        (Json, Json),
        (MsgPack, MsgPack),
        (Cbor, Cbor),
        (Json, MsgPack),
        (MsgPack, Json),
        (Json, Cbor),
        (Cbor, MsgPack),
        (MsgPack, Cbor),
    ] {
        let mut world = World::new();
        let (publisher, subscriber) = (world.join(from), world.join(to));
        let id = world.subscribe(subscriber, "com.myapp.topic1", json!({}));
        let tail = [json!(["Hello", 23]), json!({"color": "orange"})];
        let publication = world.publish(publisher, "com.myapp.topic1", json!({}), &tail);
        let event = json!([36, id, publication, {}, ["Hello", 23], {"color": "orange"}]);
        assert_eq!(world.one(subscriber), event);
    }
}

#[test]
fn without_acknowledge_nothing_is_answered_not_even_an_error() {
    let mut world = World::new();
    let peer = world.json();
    for message in [
        json!([16, 1, {}, "a"]),
        json!([16, 2, {"acknowledge": false}, "a"]),
        json!([16, 3, {}, "a..b"]),
        json!([16, 4, {}, "wamp.x"]),
        json!([16, 5, {"x_qos": 9}, "a"]),
        json!([16, 6, {"when": null}, "a"]),
    ] {
        world.send(peer, message);
        assert_eq!(world.take(peer), nothing());
    }
    assert_eq!(world.wires[peer].closed, None);
}

#[test]
fn a_topic_that_is_no_uri_is_refused() {
    let mut world = World::new();
    let peer = world.json();
    for topic in [
        "", "a..b", ".a", "a.", "a b", "a#", "a.#", "a.*", "#", "a%25b%2E", "a\u{a0}b",
    ] {
        let error = world.ask(peer, json!([16, 7, {"acknowledge": true}, topic]));
        assert_eq!(head(&error, 4), json!([8, 16, 7, {}]), "{topic:?}");
        assert_eq!(error[4], INVALID_URI, "{topic:?}");
        assert!(error[5][0].is_string());
        if !topic.contains(['*', '#']) {
            let error = world.ask(peer, json!([32, 8, {}, topic]));
            assert_eq!(
                (&error[1], &error[2], &error[4]),
                (&json!(32), &json!(8), &json!(INVALID_URI))
            );
        }
        let error = world.ask(peer, json!([64, 9, {}, topic]));
        assert_eq!(
            (&error[1], &error[2], &error[4]),
            (&json!(64), &json!(9), &json!(INVALID_URI))
        );
        let error = world.ask(peer, json!([48, 10, {}, topic]));
        assert_eq!(
            (&error[1], &error[2], &error[4]),
            (&json!(48), &json!(10), &json!(INVALID_URI))
        );
    }
    assert_eq!(world.wires[peer].closed, None);
}

#[test]
fn the_reserved_component_is_for_the_router() {
    let mut world = World::new();
    let (peer, other) = (world.json(), world.json());
    world.subscribe(other, "wamp.session.on_join", json!({}));
    let topic = "wamp.session.on_join";
    let error = world.ask(peer, json!([16, 1, {"acknowledge": true}, topic, [1]]));
    assert_eq!(error[4], INVALID_URI);
    world.send(peer, json!([16, 2, {}, topic, [1]]));
    assert_eq!(
        world.ask(peer, json!([64, 3, {}, "wamp.session.count"]))[4],
        INVALID_URI
    );
    assert_eq!(
        world.ask(peer, json!([64, 4, {}, "wamp.my"]))[4],
        INVALID_URI
    );
    assert_eq!(world.take(other), nothing());
}

#[test]
fn subscribing_twice_gives_one_subscription() {
    let mut world = World::new();
    let (peer, other) = (world.json(), world.json());
    let id = world.subscribe(peer, "a", json!({}));
    assert_eq!(world.subscribe(peer, "a", json!({})), id);
    assert_eq!(world.subscribe(other, "a", json!({})), id);
    world.publish(other, "a", json!({}), &[]);
    assert_eq!(world.take(peer).len(), 1);
    assert_eq!(world.ask(peer, json!([34, 5, id])), json!([35, 5]));
    world.publish(other, "a", json!({}), &[]);
    assert_eq!(world.take(peer), nothing());
    let error = world.ask(peer, json!([34, 6, id]));
    assert_eq!(
        head(&error, 5),
        json!([8, 34, 6, {}, "wamp.error.no_such_subscription"])
    );
}

#[test]
fn the_publisher_gets_its_own_event_only_if_it_says_so() {
    let mut world = World::new();
    let peer = world.json();
    world.subscribe(peer, "a", json!({}));
    world.send(peer, json!([16, 1, {}, "a", [1]]));
    world.send(peer, json!([16, 2, {"exclude_me": true}, "a", [2]]));
    world.send(peer, json!([16, 3, {"exclude_me": false}, "a", [3]]));
    assert_eq!(args_of(&world.take(peer)), [json!([3])]);
}

#[test]
fn receivers_can_be_listed_by_session_name_and_role() {
    let mut world = World::new();
    let publisher = world.json();
    let (joe, guest, anonymous) = (world.join_as("joe"), world.join_as("guest"), world.json());
    for peer in [joe, guest, anonymous] {
        world.subscribe(peer, "a", json!({}));
    }
    let (joe_id, guest_id) = (world.session(joe), world.session(guest));
    for (options, receivers) in [
        (json!({}), vec![joe, guest, anonymous]),
        (json!({"exclude": [joe_id]}), vec![guest, anonymous]),
        (
            json!({"exclude_authid": ["guest", "nobody"]}),
            vec![joe, anonymous],
        ),
        (
            json!({"exclude_authrole": ["anonymous", "user"]}),
            vec![guest],
        ),
        (json!({"eligible": [joe_id, guest_id]}), vec![joe, guest]),
        (json!({"eligible_authid": ["joe"]}), vec![joe]),
        (json!({"eligible_authrole": ["guest"]}), vec![guest]),
        (json!({"eligible": []}), vec![]),
        (
            json!({"eligible": [joe_id, guest_id], "eligible_authrole": ["user"]}),
            vec![joe],
        ),
        (
            json!({"eligible": [joe_id, guest_id], "exclude_authid": ["joe"]}),
            vec![guest],
        ),
        (
            json!({"exclude": null, "eligible": null}),
            vec![joe, guest, anonymous],
        ),
    ] {
        world.publish(publisher, "a", options.clone(), &[]);
        for peer in [joe, guest, anonymous] {
            let expected = usize::from(receivers.contains(&peer));
            assert_eq!(world.take(peer).len(), expected, "{options}");
        }
    }
}

#[test]
fn a_publisher_is_told_only_if_it_discloses_itself() {
    let mut world = World::new();
    let (publisher, subscriber) = (world.join_as("joe"), world.json());
    world.subscribe(subscriber, "a", json!({}));
    world.publish(publisher, "a", json!({"disclose_me": true}), &[]);
    let expected = json!({
        "publisher": world.session(publisher),
        "publisher_authid": "joe",
        "publisher_authrole": "user",
    });
    assert_eq!(world.one(subscriber)[3], expected);
    world.publish(publisher, "a", json!({"disclose_me": false}), &[]);
    assert_eq!(world.one(subscriber)[3], json!({}));
}

/// Section "Publisher Identification": where a broker does not allow it, asking is refused.
#[test]
fn a_role_may_forbid_or_force_the_disclosure_of_publishers() {
    let mut world = World::new();
    let (secretive, open) = (world.join_as("nobody"), world.join_as("herald"));
    let subscriber = world.json();
    world.subscribe(subscriber, "a", json!({}));
    let asks = json!({"acknowledge": true, "disclose_me": true});
    let refused = world.ask(secretive, json!([16, 5, asks, "a"]));
    assert_eq!(
        head(&refused, 5),
        json!([8, 16, 5, {}, "wamp.error.option_disallowed.disclose_me"])
    );
    // Without acknowledgement it is dropped, not shown under no name.
    world.send(secretive, json!([16, 6, {"disclose_me": true}, "a"]));
    assert_eq!(world.take(secretive), Vec::<Value>::new());
    assert_eq!(world.take(subscriber), Vec::<Value>::new());
    world.publish(secretive, "a", json!({"disclose_me": false}), &[]);
    assert_eq!(world.one(subscriber)[3], json!({}));
    for options in [json!({}), json!({"disclose_me": false})] {
        world.publish(open, "a", options, &[]);
        let details = &world.one(subscriber)[3];
        assert_eq!(details["publisher"], world.session(open));
        assert_eq!(details["publisher_authid"], "herald");
    }
}

#[test]
fn unknown_options_are_ignored_and_reach_no_internal_flag() {
    let mut world = World::new();
    let (publisher, subscriber) = (world.json(), world.json());
    let odd = json!({"bogus": {"x": 1}, "_private": 1, "retained": "no boolean here either"});
    world.publish(publisher, "a", odd, &[]);
    world.subscribe(
        subscriber,
        "a",
        json!({"keepTraceFlag": 5, "nkey": 1, "xyz": []}),
    );
    let internal = json!({"retained": true, "delta": true, "keepTraceFlag": true, "topic": "x"});
    world.publish(publisher, "a", internal, &[]);
    assert_eq!(world.one(subscriber)[3], json!({}));
}

#[test]
fn undefined_in_options_counts_as_absent() {
    let mut world = World::new();
    let peer = world.join(MsgPack);
    // What wampy sends: [32, 1, {match: undefined, get_retained: undefined}, "a"].
    let mut frame = b"\x94\x20\x01\x82\xa5match\xd4\0\0\xacget_retained\xd4\0\0\xa1a".to_vec();
    world.input(peer, protocols::gate::Input::Binary(frame.clone().into()));
    assert_eq!(world.one(peer)[0], 33);
    // [16, 1, {acknowledge: true, when: undefined}, "a"]: no condition.
    frame = b"\x94\x10\x01\x82\xabacknowledge\xc3\xa4when\xd4\0\0\xa1a".to_vec();
    world.input(peer, protocols::gate::Input::Binary(frame.into()));
    assert_eq!(world.one(peer)[0], 17);
}

#[test]
fn request_ids_may_have_gaps_repeat_and_meet_between_kinds() {
    let mut world = World::new();
    let peer = world.json();
    assert_eq!(
        world.ask(peer, json!([32, 9_007_199_254_740_992_u64, {}, "a"]))[1],
        9_007_199_254_740_992_u64
    );
    assert_eq!(
        head(&world.ask(peer, json!([32, 5, {}, "b"])), 2),
        json!([33, 5])
    );
    assert_eq!(
        head(
            &world.ask(peer, json!([16, 5, {"acknowledge": true}, "b"])),
            2
        ),
        json!([17, 5])
    );
    assert_eq!(
        head(
            &world.ask(peer, json!([16, 5, {"acknowledge": true}, "b"])),
            2
        ),
        json!([17, 5])
    );
    world.send_batch(
        peer,
        &[r#"[34,5,999]"#, r#"[66,5,999]"#, r#"[48,5,{},"nobody"]"#],
    );
    let kinds: Vec<Value> = world
        .take(peer)
        .into_iter()
        .map(|error| error[1].clone())
        .collect();
    assert_eq!(
        kinds,
        [34, 66, 48],
        "each ERROR names its own kind of request"
    );
}

#[test]
fn our_options_of_a_wrong_type_fail_the_request_alone() {
    let mut world = World::new();
    let peer = world.json();
    for options in [
        json!({"snapshot": "yes"}),
        json!({"snapshot": 1}),
        json!({"retained": "yes"}),
        json!({"retainedState": 1}),
        json!({"after": ""}),
        json!({"after": "abc"}),
        json!({"after": true}),
        json!({"after": [1]}),
        json!({"after": -1}),
    ] {
        let error = world.ask(peer, json!([32, 1, options, "a"]));
        assert_eq!(error[4], INVALID_ARGUMENT, "{options}");
    }
    let error = world.ask(peer, json!([32, 1, {"snapshot": "yes"}, "a"]));
    assert_eq!(error[5], json!(["snapshot must be a boolean"]));
    for options in [
        json!({"watch": 1}),
        json!({"watch_timeout": "5"}),
        json!({"watch_timeout": -5}),
        json!({"will_on": "never"}),
        json!({"merge": "x"}),
        json!({"trace": 1}),
        json!({"x_qos": 3}),
        json!({"when": null}),
        json!({"will": 1}),
        json!({"watch": true}),
    ] {
        let mut options = options.clone();
        options["acknowledge"] = json!(true);
        let error = world.ask(peer, json!([16, 1, options, "a"]));
        assert_eq!(head(&error, 3), json!([8, 16, 1]));
        assert_eq!(error[4], INVALID_ARGUMENT, "{options}");
    }
    assert_eq!(world.wires[peer].closed, None);
}

#[test]
fn events_keep_the_order_in_which_they_were_published() {
    let mut world = World::new();
    let (publisher, subscriber) = (world.json(), world.join(MsgPack));
    world.subscribe(subscriber, "t.#", json!({}));
    let messages: Vec<String> = (0..50)
        .map(|i| format!(r#"[16,{},{{}},"t.{}",[{i}]]"#, i + 1, i % 3))
        .collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    world.send_batch(publisher, &messages);
    let expected: Vec<Value> = (0..50).map(|i| json!([i])).collect();
    assert_eq!(args_of(&world.take(subscriber)), expected);
}

#[test]
fn the_end_of_a_snapshot_is_told_to_those_who_understand_it() {
    let mut world = World::new();
    let silent = world.join_saying(Json, r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#);
    let told = world.join_saying(Json, HELLO);
    for (peer, is_told) in [(silent, false), (told, true)] {
        world.send(
            peer,
            json!([32, 1, {"snapshot": true, "retained": true}, "a"]),
        );
        let got = world.take(peer);
        let id = &got[0][2];
        match is_told {
            true => assert_eq!(
                got[1],
                json!([35, 0, {"subscription": id, "reason": "snapshot_complete"}])
            ),
            false => assert_eq!(got.len(), 1),
        }
        world.publish_quietly(told, "a", json!({"exclude_me": false}));
        let kinds: Vec<Value> = world.take(told).into_iter().map(|m| m[0].clone()).collect();
        assert_eq!(kinds, [17], "the subscription has ended");
        assert_eq!(world.take(peer), nothing());
    }
}

#[test]
fn a_group_shares_its_events() {
    let mut world = World::new();
    let (publisher, a, b) = (world.json(), world.json(), world.join(MsgPack));
    for peer in [a, b] {
        world.subscribe(peer, "com.jobs.*", json!({"x_share": "workers"}));
    }
    let outsider = world.json();
    world.subscribe(outsider, "com.jobs.*", json!({}));
    for n in 0..4 {
        world.publish(publisher, "com.jobs.new", json!({}), &[json!([n])]);
    }
    let of = |events: Vec<Value>| args_of(&events);
    assert_eq!(of(world.take(a)), [json!([0]), json!([2])]);
    assert_eq!(of(world.take(b)), [json!([1]), json!([3])]);
    assert_eq!(world.take(outsider).len(), 4);
    // Clients of another protocol meet them in the group, under the pattern in the same notation.
    world.device_shares("com/jobs/+", Some("workers"));
    for n in 4..10 {
        world.publish(publisher, "com.jobs.new", json!({}), &[json!([n])]);
    }
    assert_eq!((world.take(a).len(), world.take(b).len()), (2, 2));
    assert_eq!(world.device_takes().len(), 2);
    for wrong in [json!(""), json!(1), json!("a/b")] {
        let error = world.ask(a, json!([32, 1, {"x_share": wrong}, "a"]));
        assert_eq!(error[4], INVALID_ARGUMENT);
    }
    // Nothing is replayed to a group.
    for replay in ["snapshot", "after"] {
        let value = if replay == "after" {
            json!(0)
        } else {
            json!(true)
        };
        let error = world.ask(a, json!([32, 2, {"x_share": "g", replay: value}, "a"]));
        assert_eq!(error[4], INVALID_ARGUMENT, "{replay}");
    }
}
