//! How sessions open, are refused, and end.

use crate::world::{HELLO, World};
use protocols::gate::{Input, JoinError};
use protocols::wamp::machine::{
    SUBPROTOCOLS, Serialization, WampOptions, serialization_of, subprotocol_of,
};
use router_core::encoding::Encoding::{Cbor, Json, MsgPack};
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::EndReason;
use router_core::session::Leave;
use serde_json::{Value, json};
use std::time::Duration;

fn hello(realm: &str, more: Value) -> Value {
    let mut details = json!({"roles": {"subscriber": {}, "publisher": {}}});
    for (key, value) in more.as_object().unwrap() {
        details[key] = value.clone();
    }
    json!([1, realm, details])
}

fn abort_reason(message: &Value) -> &str {
    assert_eq!(message[0], 3, "{message}");
    assert!(message[1]["message"].is_string(), "{message}");
    message[2].as_str().unwrap()
}

#[test]
fn welcome_announces_what_works_and_nothing_else() {
    for encoding in [Json, MsgPack, Cbor] {
        let mut world = World::new();
        let peer = world.connect(encoding);
        world.send_text(peer, HELLO);
        let welcome = world.one(peer);
        assert_eq!(welcome[0], 2);
        assert_eq!(welcome[1], world.session(peer));
        let on = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!(true)))
                .collect()
        };
        let broker = on(&[
            "publisher_exclusion",
            "subscriber_blackwhite_listing",
            "publisher_identification",
            "pattern_based_subscription",
            "event_retention",
            "event_history",
            "session_meta_api",
            "subscription_meta_api",
            "subscription_revocation",
            "payload_passthru_mode",
        ]);
        let dealer = on(&[
            "progressive_call_results",
            "progressive_call_invocations",
            "call_canceling",
            "call_timeout",
            "call_reroute",
            "caller_identification",
            "pattern_based_registration",
            "shared_registration",
            "registration_meta_api",
            "registration_revocation",
            "payload_passthru_mode",
            "session_meta_api",
            "testament_meta_api",
        ]);
        let expected = json!({
            "roles": {"broker": {"features": broker}, "dealer": {"features": dealer}},
            "realm": "realm1",
            "authid": "anonymous-1",
            "authrole": "anonymous",
            "authmethod": "anonymous",
            "authprovider": "static",
            "agent": concat!("Reynard-", env!("CARGO_PKG_VERSION")),
        });
        assert_eq!(welcome[2], expected);
        assert_eq!(world.deadline(peer), None);
    }
}

#[test]
fn subprotocols_name_the_serializations() {
    for (name, encoding) in [
        ("wamp.2.json", Json),
        ("wamp.2.msgpack", MsgPack),
        ("wamp.2.cbor", Cbor),
    ] {
        for (name, batched) in [(name.to_owned(), false), (format!("{name}.batched"), true)] {
            let serialization = Serialization { encoding, batched };
            assert_eq!(serialization_of(&name), Some(serialization));
            assert_eq!(subprotocol_of(serialization), name);
        }
    }
    assert_eq!(SUBPROTOCOLS.len(), 6);
    for other in ["wamp.2.flatbuffers", "wamp.2.json.", "wamp.2.batched"] {
        assert_eq!(serialization_of(other), None);
    }
}

#[test]
fn a_ticket_opens_a_session() {
    let mut world = World::new();
    let peer = world.connect(Json);
    let offer = json!({"authmethods": ["wampcra", "ticket", "anonymous"], "authid": "joe"});
    assert_eq!(
        world.ask(peer, hello("realm1", offer)),
        json!([4, "ticket", {}])
    );
    let welcome = world.ask(peer, json!([5, "joe-secret", {}]));
    assert_eq!(welcome[2]["authid"], "joe");
    assert_eq!(welcome[2]["authrole"], "user");
    assert_eq!(welcome[2]["authmethod"], "ticket");
}

#[test]
fn an_anonymous_client_may_wish_for_a_name() {
    let mut world = World::new();
    let peer = world.connect(Json);
    let offer = json!({"authmethods": ["anonymous"], "authid": "joe"});
    let welcome = world.ask(peer, hello("realm1", offer));
    assert_eq!(welcome[2]["authid"], "joe");
    assert_eq!(welcome[2]["authmethod"], "anonymous");
}

#[test]
fn a_session_that_is_refused_is_told_why() {
    let ticket = json!({"authmethods": ["ticket"], "authid": "joe"});
    let cases = [
        (hello("a b", json!({})), "wamp.error.invalid_uri"),
        (hello("", json!({})), "wamp.error.invalid_uri"),
        (hello("nowhere", json!({})), "wamp.error.no_such_realm"),
        (
            hello("realm1", json!({"authmethods": ["wampcra"]})),
            "wamp.error.no_matching_auth_method",
        ),
        (
            hello("realm1", json!({"authmethods": ["ticket"]})),
            "wamp.error.no_matching_auth_method",
        ),
    ];
    for (message, reason) in cases {
        let mut world = World::new();
        let peer = world.connect(Json);
        assert_eq!(abort_reason(&world.ask(peer, message)), reason);
        assert_eq!(
            world.wires[peer].closed,
            Some((1000, "the session was refused"))
        );
        assert!(world.wires[peer].left.is_empty());
    }
    let mut world = World::new();
    let peer = world.connect(Json);
    world.send(peer, hello("realm1", ticket));
    world.take(peer);
    let abort = world.ask(peer, json!([5, "wrong", {}]));
    assert_eq!(abort_reason(&abort), "wamp.error.authentication_denied");
}

#[test]
fn every_refusal_of_the_router_has_a_reason() {
    let long = "x".repeat(100_000);
    for (refusal, reason) in [
        (JoinError::InvalidRealm, "wamp.error.invalid_uri"),
        (JoinError::NoSuchRealm, "wamp.error.no_such_realm"),
        (
            JoinError::CredentialsRequired,
            "wamp.error.no_matching_auth_method",
        ),
        (
            JoinError::BadCredentials,
            "wamp.error.authentication_denied",
        ),
        (
            JoinError::NotAuthorized(long),
            "wamp.error.authorization_denied",
        ),
        (JoinError::TooMany, "reynard.error.quota_exceeded"),
        (JoinError::Unavailable, "wamp.error.unavailable"),
        (JoinError::ShuttingDown, "wamp.close.system_shutdown"),
    ] {
        let mut world = World::new();
        world.refusal = Some(refusal);
        let peer = world.connect(MsgPack);
        let abort = world.ask(peer, hello("realm1", json!({})));
        assert_eq!(abort_reason(&abort), reason);
        assert!(abort[1]["message"].as_str().unwrap().len() <= 400);
    }
}

#[test]
fn the_clients_goodbye_is_echoed_once_and_another_hello_may_follow() {
    let mut world = World::new();
    let (peer, other) = (world.json(), world.json());
    world.subscribe(peer, "a", json!({}));
    let first = world.session(peer);
    let echo = world.ask(peer, json!([6, {}, "wamp.close.close_realm"]));
    assert_eq!(echo, json!([6, {}, "wamp.close.goodbye_and_out"]));
    assert_eq!(world.wires[peer].left, [Leave::Clean]);
    assert_eq!(world.wires[peer].closed, None);

    world.send_text(peer, HELLO);
    assert_eq!(world.one(peer)[0], 2);
    assert_ne!(world.session(peer), first);
    world.publish(other, "a", json!({}), &[]);
    assert_eq!(
        world.take(peer),
        Vec::<Value>::new(),
        "a subscription of the former session"
    );
    world.subscribe(peer, "a", json!({}));
    world.publish(other, "a", json!({}), &[]);
    assert_eq!(world.one(peer)[0], 36);
}

#[test]
fn sessions_may_follow_each_other_within_one_read() {
    let mut world = World::new();
    let peer = world.json();
    let goodbye = r#"[6,{},"wamp.close.close_realm"]"#;
    world.send_batch(
        peer,
        &[r#"[16,1,{"acknowledge":true},"a"]"#, goodbye, HELLO],
    );
    let kinds: Vec<Value> = world.take(peer).into_iter().map(|m| m[0].clone()).collect();
    assert_eq!(
        kinds,
        [6, 2],
        "what was answered after the client's GOODBYE is not said"
    );
    assert_eq!(
        world.ask(peer, json!([16, 1, {"acknowledge": true}, "a"]))[0],
        17
    );
}

#[test]
fn a_transport_without_a_further_session_is_closed() {
    let mut world = World::new();
    let peer = world.json();
    world.ask(peer, json!([6, {}, "wamp.close.close_realm"]));
    assert_eq!(world.deadline(peer), Some(Duration::from_secs(10)));
    world.pass(9_999);
    assert_eq!(world.wires[peer].closed, None);
    world.pass(1);
    assert_eq!(world.wires[peer].closed, Some((1000, "no further HELLO")));
    assert_eq!(world.wires[peer].left, [Leave::Clean]);
}

#[test]
fn whoever_does_not_log_in_in_time_is_closed() {
    let options = WampOptions {
        login_timeout: Duration::from_secs(3),
        ..WampOptions::default()
    };
    let mut world = World::new();
    world.is_door_stuck = true;
    let silent = world.connect_with(Json, options.clone());
    let unproven = world.connect_with(Json, options.clone());
    let waiting = world.connect_with(Json, options);
    world.pass(1_000);
    world.send(
        unproven,
        hello(
            "realm1",
            json!({"authmethods": ["ticket"], "authid": "joe"}),
        ),
    );
    world.send(waiting, hello("realm1", json!({})));
    world.take(unproven);
    world.pass(1_999);
    for peer in [silent, unproven, waiting] {
        assert_eq!(world.take(peer), Vec::<Value>::new());
        assert_eq!(world.deadline(peer), Some(Duration::from_millis(1)));
    }
    world.pass(1);
    for peer in [silent, unproven, waiting] {
        assert_eq!(abort_reason(&world.one(peer)), "wamp.error.timeout");
        assert_eq!(world.wires[peer].closed, Some((1008, "login timeout")));
        assert_eq!(world.deadline(peer), None);
    }
}

#[test]
fn a_session_admitted_too_late_leaves_at_once() {
    let mut world = World::new();
    world.is_door_stuck = true;
    let lost = world.connect(Json);
    let wrong = world.connect(Json);
    for peer in [lost, wrong] {
        world.send_text(peer, HELLO);
        assert_eq!(world.take(peer), Vec::<Value>::new());
    }
    world.lose(lost);
    world.send(wrong, json!([16, 1, {}, "a"]));
    let abort = world.one(wrong);
    assert_eq!(abort[1]["message"], "PUBLISH before WELCOME");
    for (peer, request) in std::mem::take(&mut world.stuck) {
        world.admit(peer, request);
    }
    world.pump();
    for peer in [lost, wrong] {
        assert_eq!(world.wires[peer].left, [Leave::Lost]);
        assert_eq!(world.take(peer), Vec::<Value>::new());
    }
    assert_eq!(world.realm.sizes()[0], ("sessions", 0));
}

#[test]
fn what_follows_hello_without_waiting_for_welcome_is_a_violation() {
    let mut world = World::new();
    let peer = world.connect(Json);
    world.send_batch(peer, &[HELLO, r#"[16,1,{},"a"]"#]);
    assert_eq!(world.one(peer)[1]["message"], "PUBLISH before WELCOME");
    assert!(world.wires[peer].left.is_empty(), "nobody ever joined");
}

#[test]
fn a_lost_transport_ends_the_session_without_a_word() {
    let mut world = World::new();
    let fresh = world.connect(Json);
    world.lose(fresh);
    assert!(world.wires[fresh].left.is_empty());
    let peer = world.json();
    world.lose(peer);
    assert_eq!(world.wires[peer].left, [Leave::Lost]);
    assert_eq!(world.wires[peer].closed, None);
    world.lose(peer);
    world.send_text(peer, HELLO);
    assert_eq!(world.wires[peer].left, [Leave::Lost], "told twice");
    assert_eq!(world.take(peer), Vec::<Value>::new());
}

#[test]
fn an_abort_of_the_client_is_not_answered() {
    let mut world = World::new();
    let (fresh, peer) = (world.connect(Json), world.json());
    for peer in [fresh, peer] {
        world.send(peer, json!([3, {}, "wamp.error.protocol_violation"]));
        assert_eq!(world.take(peer), Vec::<Value>::new());
        assert_eq!(
            world.wires[peer].closed,
            Some((1000, "the client aborted the session"))
        );
    }
    assert_eq!(world.wires[peer].left, [Leave::Lost]);
}

#[test]
fn a_drain_says_goodbye_and_waits_for_the_answer() {
    let mut world = World::new();
    let peer = world.json();
    let goodbye = json!([6, {"message": "the router shuts down"}, "wamp.close.system_shutdown"]);
    world.input(peer, Input::Drain);
    assert_eq!(world.one(peer), goodbye);
    world.input(peer, Input::Drain);
    // Nothing but GOODBYE matters any more, not even what breaks the protocol.
    world.send(peer, json!([16, 1, {"acknowledge": true}, "a"]));
    world.send(peer, json!([2, 1, {}]));
    world.send_text(peer, "[");
    assert_eq!(world.take(peer), Vec::<Value>::new());
    assert_eq!(world.wires[peer].closed, None);
    world.send(peer, json!([6, {}, "wamp.close.goodbye_and_out"]));
    assert_eq!(world.take(peer), Vec::<Value>::new(), "an echo of the echo");
    assert_eq!(world.wires[peer].closed, Some((1000, "goodbye")));
    assert_eq!(world.wires[peer].left, [Leave::Clean]);
}

#[test]
fn a_client_that_does_not_answer_goodbye_is_closed() {
    let options = WampOptions {
        goodbye_timeout: Duration::from_secs(2),
        ..WampOptions::default()
    };
    let mut world = World::new();
    let peer = world.connect_with(Json, options);
    world.send_text(peer, HELLO);
    world.input(peer, Input::Drain);
    world.pass(1_999);
    assert_eq!(world.wires[peer].closed, None);
    world.pass(1);
    assert_eq!(world.wires[peer].closed, Some((1001, "no GOODBYE in time")));
    assert_eq!(world.wires[peer].left, [Leave::Lost]);
}

#[test]
fn a_drain_before_and_after_a_session_closes_at_once() {
    let mut world = World::new();
    let fresh = world.connect(Json);
    world.input(fresh, Input::Drain);
    assert_eq!(
        abort_reason(&world.one(fresh)),
        "wamp.close.system_shutdown"
    );
    assert_eq!(world.wires[fresh].closed, Some((1001, "the session ended")));
    let done = world.json();
    world.ask(done, json!([6, {}, "wamp.close.close_realm"]));
    world.input(done, Input::Drain);
    assert_eq!(world.take(done), Vec::<Value>::new());
    assert_eq!(
        world.wires[done].closed,
        Some((1001, "the router shuts down"))
    );
}

#[test]
fn the_end_of_a_realm_is_a_goodbye() {
    for (end, reason) in [
        (EndReason::Shutdown, "wamp.close.system_shutdown"),
        (EndReason::RealmClosed, "wamp.close.close_realm"),
    ] {
        let mut world = World::new();
        let peer = world.json();
        world.close_realm(&end);
        let goodbye = world.one(peer);
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!(reason)));
        world.send(peer, json!([6, {}, "wamp.close.goodbye_and_out"]));
        assert_eq!(world.wires[peer].closed, Some((1000, "goodbye")));
    }
}

#[test]
fn a_store_that_fails_is_told_as_unavailable() {
    let mut world = World::new();
    let peer = world.json();
    world.close_realm(&EndReason::StorageUnavailable);
    assert_eq!(abort_reason(&world.one(peer)), "wamp.error.unavailable");
    assert_eq!(world.wires[peer].closed, Some((1001, "store unavailable")));
}

#[test]
fn a_client_that_reads_too_slowly_is_aborted() {
    let ordered = LaneLimit {
        frames: 8,
        bytes: 1 << 20,
    };
    let outbox = OutboxLimits {
        ordered,
        ..OutboxLimits::default()
    };
    let mut world = World::with_limits(RealmLimits {
        outbox,
        ..RealmLimits::default()
    });
    let (slow, other) = (world.json(), world.json());
    world.subscribe(slow, "a", json!({}));
    // All within one read of the publisher, so that the other's queue is not emptied meanwhile.
    world.send_batch(other, &[r#"[16,1,{},"a"]"#; 20]);
    let last = world.take(slow).pop().unwrap();
    assert_eq!(abort_reason(&last), "reynard.error.too_slow");
    assert_eq!(world.wires[slow].closed, Some((1008, "too slow")));
    assert_eq!(world.wires[other].closed, None);
}
