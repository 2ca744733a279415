//! Calls of the Advanced Profile: patterns, arguments in parts, callees that are not available,
//! timeouts that callees watch over.

use crate::world::{Peer, World, head};
use router_core::encoding::Encoding::{Json, MsgPack};
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

/// An ERROR for a CALL, without its arguments.
fn error(request: u64, name: &str) -> Value {
    json!([8, 48, request, {}, format!("wamp.error.{name}")])
}

#[test]
fn the_vectors_of_pattern_based_registrations() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.join(MsgPack));
    let mut ids = Vec::new();
    for (uri, matching) in [
        ("a1.b2.c3.d4.e55", "exact"),
        ("a1.b2.c3", "prefix"),
        ("a1.b2.c3.d4", "prefix"),
        ("a1.b2..d4.e5", "wildcard"),
        ("a1.b2.c33..e5", "wildcard"),
        ("a1.b2..d4.e5..g7", "wildcard"),
        ("a1.b2..d4..f6.g7", "wildcard"),
    ] {
        ids.push(world.register(callee, uri, json!({"match": matching})));
    }
    for (request, (called, expected)) in (1..).zip([
        ("a1.b2.c3.d4.e55", 0),
        ("a1.b2.c3.d98.e74", 1),
        ("a1.b2.c3.d4.e325", 2),
        ("a1.b2.c55.d4.e5", 3),
        ("a1.b2.c33.d4.e5", 4),
        ("a1.b2.c88.d4.e5.f6.g7", 5),
    ]) {
        world.send(caller, json!([48, request, {}, called]));
        // The procedure is told where the registration does not name it.
        let details = match expected {
            0 => json!({}),
            _ => json!({"procedure": called}),
        };
        let invocation = json!([68, request, ids[expected], details]);
        assert_eq!(world.one(callee), invocation, "{called}");
        world.send(callee, json!([70, request, {}, [called]]));
        assert_eq!(world.one(caller), json!([50, request, {}, [called]]));
    }
    let none = world.ask(caller, json!([48, 7, {}, "a2.b2.c2.d2.e2"]));
    assert_eq!(head(&none, 5), error(7, "no_such_procedure"));
}

#[test]
fn the_same_uri_may_be_registered_once_for_each_way_to_match() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.json());
    let mut ids: Vec<u64> = ["exact", "prefix", "wildcard"]
        .iter()
        .map(|matching| world.register(a, "x.y", json!({"match": matching})))
        .collect();
    for matching in ["exact", "prefix", "wildcard"] {
        let error = world.ask(b, json!([64, 1, {"match": matching}, "x.y"]));
        assert_eq!(error[4], "wamp.error.procedure_already_exists");
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let shared = json!({"match": "prefix", "invoke": "roundrobin"});
    let first = world.register(a, "s", shared.clone());
    assert_eq!(world.register(b, "s", shared), first);
}

#[test]
fn a_pattern_that_is_no_uri_or_reserved_is_refused() {
    let mut world = World::new();
    let peer = world.json();
    for (uri, options) in [
        ("a.*", json!({})),
        ("a.#", json!({})),
        ("a..b", json!({})),
        ("a..b", json!({"match": "prefix"})),
        ("a.#", json!({"match": "wildcard"})),
        ("wamp.", json!({"match": "prefix"})),
        ("wamp..x", json!({"match": "wildcard"})),
    ] {
        let error = world.ask(peer, json!([64, 1, options, uri]));
        let expected = json!([8, 64, 1, {}, "wamp.error.invalid_uri"]);
        assert_eq!(head(&error, 5), expected, "{uri} {options}");
    }
    // What matches everything does not reach the router's own.
    world.register(peer, "", json!({"match": "prefix"}));
    let error = world.ask(peer, json!([48, 1, {}, "wamp.no.such"]));
    assert_eq!(head(&error, 5), self::error(1, "no_such_procedure"));
}

#[test]
fn what_a_role_may_not_register_does_not_reach_it_through_a_pattern() {
    let mut world = World::new();
    // Everything but `secret`.
    let (caller, guest) = (world.json(), world.join_as("guest"));
    let refused = world.ask(guest, json!([64, 1, {"match": "prefix"}, "secret."]));
    assert_eq!(refused[4], "wamp.error.not_authorized");
    world.register(guest, "", json!({"match": "prefix"}));
    world.send(caller, json!([48, 1, {}, "open.x"]));
    assert_eq!(world.one(guest)[0], 68);
    let error = world.ask(caller, json!([48, 2, {}, "secret.x"]));
    assert_eq!(head(&error, 5), self::error(2, "no_such_procedure"));
    // And whoever may not call a procedure may not call it through a pattern of another.
    let error = world.ask(guest, json!([48, 1, {}, "secret.x"]));
    assert_eq!(head(&error, 5), self::error(1, "not_authorized"));
}

#[test]
fn the_parts_of_a_call_are_one_invocation() {
    for (from, to) in [(Json, MsgPack), (MsgPack, Json)] {
        let mut world = World::new();
        let (caller, callee) = (world.join(from), world.join(to));
        let id = world.register(callee, "p.", json!({"match": "prefix"}));
        let options = json!({"progress": true, "receive_progress": true});
        world.send(caller, json!([48, 1, options, "p.x", [1]]));
        let details = json!({"procedure": "p.x", "progress": true, "receive_progress": true});
        assert_eq!(world.one(callee), json!([68, 1, id, details, [1]]));
        // Of the options of what follows only this one counts.
        world.send(
            caller,
            json!([48, 1, {"progress": true, "timeout": 1}, "q", [2]]),
        );
        assert_eq!(world.one(callee), json!([68, 1, id, details, [2]]));
        world.pass(1_000);
        world.send(callee, json!([70, 1, {"progress": true}, ["half"]]));
        assert_eq!(
            world.one(caller),
            json!([50, 1, {"progress": true}, ["half"]])
        );
        world.send(caller, json!([48, 1, {}, "p.x", [3]]));
        let details = json!({"procedure": "p.x", "receive_progress": true});
        assert_eq!(world.one(callee), json!([68, 1, id, details, [3]]));
        world.send(callee, json!([70, 1, {}, ["done"]]));
        assert_eq!(world.one(caller), json!([50, 1, {}, ["done"]]));
        world.send(caller, json!([48, 2, {}, "p.y"]));
        assert_eq!(world.one(callee)[1], 2);
    }
}

#[test]
fn a_callee_may_answer_before_the_last_part() {
    for answer in [json!([70, 1, {}]), json!([8, 68, 1, {}, "my.error"])] {
        let mut world = World::new();
        let (caller, callee) = (world.json(), world.json());
        world.register(callee, "p", json!({}));
        world.send(caller, json!([48, 1, {"progress": true}, "p"]));
        world.send(callee, answer);
        world.take(callee);
        assert_eq!(world.take(caller).len(), 1);
        for options in [json!({"progress": true}), json!({})] {
            world.send(caller, json!([48, 1, options, "p"]));
            assert_eq!(
                (world.take(caller), world.take(callee)),
                (nothing(), nothing())
            );
        }
        // After the last one the id stands for nothing any more.
        world.send(caller, json!([48, 1, {}, "p"]));
        assert_eq!(world.one(callee)[1], 2);
    }
}

#[test]
fn parts_need_a_caller_and_a_callee_that_announced_them() {
    let mut world = World::new();
    let caller = world.json();
    for features in [
        json!({}),
        json!({"progressive_call_invocations": true}),
        json!({"call_canceling": true}),
    ] {
        let hello = json!([1, "realm1", {"roles": {"callee": {"features": features}}}]);
        let callee = world.join_saying(Json, &hello.to_string());
        world.register(callee, "p", json!({"force_reregister": true}));
        let refused = world.ask(caller, json!([48, 1, {"progress": true}, "p"]));
        assert_eq!(head(&refused, 5), error(1, "feature_not_supported"));
        world.send(caller, json!([48, 1, {}, "p"]));
        assert_eq!(world.take(callee), nothing(), "the rest is discarded");
    }
    let own = json!([48, 2, {"progress": true}, "wamp.session.count"]);
    let refused = world.ask(caller, own);
    assert_eq!(head(&refused, 5), error(2, "feature_not_supported"));
    let mute = world.join_saying(Json, r#"[1,"realm1",{"roles":{"caller":{}}}]"#);
    let abort = world.ask(mute, json!([48, 1, {"progress": true}, "p"]));
    assert_eq!(abort[2], "wamp.error.protocol_violation");
    let said = abort[1]["message"].as_str().unwrap();
    assert!(
        said.contains("did not announce progressive_call_invocations"),
        "{said}"
    );
}

/// Registers `p` at each, and lets the first callee that is asked refuse.
fn refused_by_the_first(world: &mut World, callees: &[Peer], options: &Value) -> Vec<usize> {
    for callee in callees {
        world.register(*callee, "p", options.clone());
    }
    let mut asked = Vec::new();
    loop {
        let next = (0..callees.len()).find_map(|at| {
            let invocation = world.take(callees[at]).pop()?;
            Some((at, invocation[1].clone()))
        });
        let Some((at, invocation)) = next else {
            match asked.is_empty() {
                true => {
                    let caller = world.json();
                    world.send(caller, json!([48, 1, {}, "p", ["x"]]));
                    asked.push(usize::MAX);
                    continue;
                }
                false => return asked.split_off(1),
            }
        };
        asked.push(at);
        world.send(
            callees[at],
            json!([8, 68, invocation, {}, "wamp.error.unavailable"]),
        );
    }
}

#[test]
fn a_callee_that_is_not_available_is_passed_over_by_the_policy() {
    for (policy, expected) in [
        ("first", vec![0, 1, 2]),
        ("last", vec![2, 1, 0]),
        ("roundrobin", vec![0, 1, 2]),
    ] {
        let mut world = World::new();
        let callees: Vec<Peer> = (0..3).map(|_| world.json()).collect();
        let asked = refused_by_the_first(&mut world, &callees, &json!({"invoke": policy}));
        assert_eq!(asked, expected, "{policy}");
        let caller = world.wires.len() - 1;
        let told = world.one(caller);
        assert_eq!(head(&told, 5), error(1, "no_available_callee"), "{policy}");
    }
    let mut world = World::new();
    let callee = world.json();
    let asked = refused_by_the_first(&mut world, &[callee], &json!({}));
    assert_eq!(asked, [0]);
    let told = world.one(callee + 1);
    assert_eq!(head(&told, 5), error(1, "no_available_callee"), "single");
}

#[test]
fn a_rerouted_call_reaches_the_next_callee_whole() {
    let mut world = World::new();
    let (caller, a, b) = (world.json(), world.json(), world.join(MsgPack));
    let id = world.register(a, "p", json!({"invoke": "first"}));
    world.register(b, "p", json!({"invoke": "first"}));
    world.send(
        caller,
        json!([48, 1, {"progress": true}, "p", [1], {"k": 1}]),
    );
    world.send(caller, json!([48, 1, {"progress": true}, "p", [2]]));
    world.take(a);
    world.send(a, json!([8, 68, 1, {}, "wamp.error.unavailable"]));
    let more = json!({"progress": true});
    let got = [
        json!([68, 1, id, more, [1], {"k": 1}]),
        json!([68, 1, id, more, [2]]),
    ];
    assert_eq!(world.take(b), got);
    world.send(caller, json!([48, 1, {}, "p", [3]]));
    assert_eq!(world.one(b), json!([68, 1, id, {}, [3]]));
    assert_eq!(world.take(a), nothing());
    world.send(b, json!([70, 1, {}, ["ok"]]));
    assert_eq!(world.one(caller), json!([50, 1, {}, ["ok"]]));
}

#[test]
fn a_callee_that_wants_to_keep_the_time_is_told_it() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    let deaf = world.join_saying(Json, r#"[1,"realm1",{"roles":{"callee":{}}}]"#);
    let options = json!({"forward_timeout": true});
    let kept = world.register(callee, "kept", options.clone());
    let unkept = world.register(deaf, "unkept", options);
    world.register(callee, "plain", json!({}));
    for (request, name) in [(1, "kept"), (2, "unkept"), (3, "plain")] {
        world.send(caller, json!([48, request, {"timeout": 100}, name]));
    }
    assert_eq!(world.one(deaf), json!([68, 1, unkept, {}]));
    let got = world.take(callee);
    assert_eq!(got[0], json!([68, 1, kept, {"timeout": 100}]));
    assert_eq!(got[1][3], json!({}));
    world.pass(100);
    let told: Vec<Value> = world.take(caller).iter().map(|e| head(e, 5)).collect();
    assert_eq!(told, [error(2, "timeout"), error(3, "timeout")]);
    world.send(callee, json!([8, 68, 1, {}, "wamp.error.timeout"]));
    assert_eq!(
        world.one(caller),
        error(1, "timeout"),
        "the callee's own word"
    );
    world.send(caller, json!([48, 4, {}, "kept"]));
    assert_eq!(world.take(callee).pop(), Some(json!([68, 3, kept, {}])));
}

#[test]
fn a_callee_may_ask_to_be_told_who_calls() {
    let mut world = World::new();
    let (caller, callee) = (world.join_as("joe"), world.json());
    let id = world.register(callee, "p", json!({"disclose_caller": true}));
    world.send(caller, json!([48, 1, {}, "p"]));
    let session = world.session(caller);
    let details = json!({"caller": session, "caller_authid": "joe", "caller_authrole": "user"});
    assert_eq!(world.one(callee), json!([68, 1, id, details]));
}

/// Section "Caller Identification": where a dealer does not allow it, asking is refused.
#[test]
fn a_role_may_forbid_or_force_the_disclosure_of_callers() {
    let mut world = World::new();
    let (secretive, open) = (world.join_as("nobody"), world.join_as("herald"));
    let callee = world.json();
    let curious = world.register(callee, "curious", json!({"disclose_caller": true}));
    let plain = world.register(callee, "plain", json!({}));
    let refused = world.ask(secretive, json!([48, 1, {"disclose_me": true}, "plain"]));
    assert_eq!(head(&refused, 5), error(1, "option_disallowed.disclose_me"));
    // A callee that asks is not told, which refuses nothing to the caller.
    world.send(secretive, json!([48, 2, {}, "curious"]));
    assert_eq!(world.one(callee), json!([68, 1, curious, {}]));
    world.send(open, json!([48, 1, {"disclose_me": false}, "plain"]));
    let told = world.one(callee);
    assert_eq!(head(&told, 3), json!([68, 2, plain]));
    assert_eq!(told[3]["caller_authid"], "herald");
}
