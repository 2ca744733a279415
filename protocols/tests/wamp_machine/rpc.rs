//! Calls: routing, results, errors, progress, canceling, concurrency.

use crate::world::{HELLO, Peer, World, head};
use router_core::encoding::Encoding::{Cbor, Json, MsgPack};
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

#[test]
fn a_call_reaches_its_callee_and_the_result_its_caller() {
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
        let (caller, callee) = (world.join(from), world.join(to));
        let id = world.register(callee, "com.add2", json!({}));
        for request in 1..=3 {
            world.send(
                caller,
                json!([48, 10 + request, {}, "com.add2", [2, 3], {"k": "v"}]),
            );
            // Invocation ids are sequential per callee, from 1.
            let invocation = json!([68, request, id, {}, [2, 3], {"k": "v"}]);
            assert_eq!(world.one(callee), invocation);
            world.send(callee, json!([70, request, {}, [5]]));
            assert_eq!(world.one(caller), json!([50, 10 + request, {}, [5]]));
        }
    }
}

#[test]
fn a_session_may_call_itself() {
    let mut world = World::new();
    let peer = world.json();
    let id = world.register(peer, "p", json!({}));
    assert_eq!(
        world.ask(peer, json!([48, 1, {}, "p"])),
        json!([68, 1, id, {}])
    );
    assert_eq!(world.ask(peer, json!([70, 1, {}])), json!([50, 1, {}]));
}

#[test]
fn a_callees_error_arrives_unchanged() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {}, "p"]));
    world.take(callee);
    let (args, kwargs) = (json!(["Not", null, [1]]), json!({"code": 5, "x": null}));
    world.send(
        callee,
        json!([8, 68, 1, {"ignored": 1}, "com.myapp.error1", args, kwargs]),
    );
    let expected = json!([8, 48, 1, {}, "com.myapp.error1", args, kwargs]);
    assert_eq!(world.one(caller), expected);
}

#[test]
fn an_unknown_procedure_is_an_error() {
    let mut world = World::new();
    let peer = world.json();
    let error = world.ask(peer, json!([48, 1, {}, "no.body"]));
    assert_eq!(
        head(&error, 5),
        json!([8, 48, 1, {}, "wamp.error.no_such_procedure"])
    );
    assert_eq!(
        world.ask(peer, json!([48, 2, {}, "wamp.no.such"]))[4],
        "wamp.error.no_such_procedure"
    );
}

#[test]
fn a_procedure_has_one_callee_unless_it_is_shared() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.json());
    let id = world.register(a, "p", json!({}));
    let exists = "wamp.error.procedure_already_exists";
    for (peer, options) in [
        (b, json!({})),
        (a, json!({})),
        (b, json!({"invoke": "roundrobin"})),
        (b, json!({"concurrency": 2})),
    ] {
        let error = world.ask(peer, json!([64, 1, options, "p"]));
        assert_eq!(head(&error, 5), json!([8, 64, 1, {}, exists]));
    }
    let error = world.ask(b, json!([66, 2, id]));
    assert_eq!(
        head(&error, 5),
        json!([8, 66, 2, {}, "wamp.error.no_such_registration"])
    );
    assert_eq!(world.ask(a, json!([66, 3, id])), json!([67, 3]));
    assert_eq!(
        world.ask(a, json!([66, 4, id]))[4],
        "wamp.error.no_such_registration"
    );
    world.register(b, "p", json!({"match": "exact", "invoke": "single"}));
}

/// Which callee answers the calls, in turn.
fn who_answers(policy: &str, calls: usize) -> Vec<usize> {
    let mut world = World::new();
    let caller = world.json();
    let callees: Vec<Peer> = (0..3).map(|_| world.json()).collect();
    for callee in &callees {
        world.register(*callee, "p", json!({"invoke": policy}));
    }
    let mut order = Vec::new();
    for call in 0..calls {
        world.send(caller, json!([48, call + 1, {}, "p"]));
        for (place, callee) in callees.iter().enumerate() {
            for invocation in world.take(*callee) {
                order.push(place);
                world.send(*callee, json!([70, invocation[1], {}]));
            }
        }
        world.one(caller);
    }
    order
}

#[test]
fn shared_callees_answer_by_their_policy() {
    assert_eq!(who_answers("roundrobin", 7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(who_answers("first", 4), [0, 0, 0, 0]);
    assert_eq!(who_answers("last", 4), [2, 2, 2, 2]);
    let mut random = who_answers("random", 60);
    random.sort_unstable();
    random.dedup();
    assert_eq!(random, [0, 1, 2]);
}

#[test]
fn concurrency_is_never_exceeded_and_every_call_answered() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({"concurrency": 2}));
    let calls: Vec<String> = (1..=50)
        .map(|i| format!(r#"[48,{i},{{}},"p",[{i}]]"#))
        .collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    world.send_batch(caller, &calls);
    let (mut open, mut asked, mut answered) = (Vec::new(), Vec::new(), 0);
    while answered < 50 {
        for invocation in world.take(callee) {
            asked.push(invocation[4][0].as_u64().unwrap());
            open.push(invocation[1].clone());
        }
        assert!(!open.is_empty() && open.len() <= 2, "{open:?}");
        let invocation = open.remove(0);
        world.send(callee, json!([70, invocation, {}, [asked[answered]]]));
        answered += 1;
    }
    let results: Vec<u64> = world
        .take(caller)
        .iter()
        .map(|result| result[1].as_u64().unwrap())
        .collect();
    assert_eq!(
        results,
        (1..=50).collect::<Vec<u64>>(),
        "first come first served"
    );
    assert_eq!(asked, results);
}

#[test]
fn callees_with_concurrency_share_and_the_first_free_one_is_taken() {
    let mut world = World::new();
    let (caller, a, b) = (world.json(), world.json(), world.json());
    world.register(a, "p", json!({"concurrency": 1}));
    world.register(b, "p", json!({"concurrency": 1}));
    for request in 1..=3 {
        world.send(caller, json!([48, request, {}, "p", [request]]));
    }
    assert_eq!(world.one(a)[4], json!([1]));
    assert_eq!(world.one(b)[4], json!([2]));
    world.send(b, json!([70, 1, {}]));
    assert_eq!(world.one(b)[4], json!([3]));
}

#[test]
fn concurrency_below_one_is_refused() {
    let mut world = World::new();
    let peer = world.json();
    for wrong in [json!(0), json!(-1), json!("2"), json!(1.5), json!([])] {
        let error = world.ask(peer, json!([64, 1, {"concurrency": wrong}, "p"]));
        assert_eq!(
            head(&error, 5),
            json!([8, 64, 1, {}, "wamp.error.invalid_argument"])
        );
    }
}

#[test]
fn reducers_cannot_be_registered() {
    let mut world = World::new();
    let peer = world.json();
    let error = world.ask(peer, json!([64, 1, {"reducer": true}, "p"]));
    let expected = json!([8, 64, 1, {}, "wamp.error.option_not_allowed"]);
    assert_eq!(head(&error, 5), expected);
}

#[test]
fn progressive_results_come_at_once_and_free_no_slot() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.join(MsgPack));
    let id = world.register(callee, "p", json!({"concurrency": 1}));
    world.send(caller, json!([48, 1, {"receive_progress": true}, "p"]));
    world.send(caller, json!([48, 2, {}, "p"]));
    assert_eq!(
        world.one(callee),
        json!([68, 1, id, {"receive_progress": true}])
    );
    for step in 0..3 {
        world.send(
            callee,
            json!([70, 1, {"progress": true}, [step], {"k": step}]),
        );
        let result = json!([50, 1, {"progress": true}, [step], {"k": step}]);
        assert_eq!(world.one(caller), result);
        assert_eq!(world.take(callee), nothing(), "the slot is still taken");
    }
    world.send(callee, json!([70, 1, {}, ["end"]]));
    assert_eq!(world.one(caller), json!([50, 1, {}, ["end"]]));
    assert_eq!(world.one(callee), json!([68, 2, id, {}]));
    // Not asked for, so the caller would not understand it.
    world.send(callee, json!([70, 2, {"progress": true}, [1]]));
    assert_eq!(world.take(caller), nothing());
    world.send(callee, json!([70, 2, {"progress": false}, [2]]));
    assert_eq!(world.one(caller), json!([50, 2, {}, [2]]));
}

#[test]
fn progress_reaches_a_msgpack_caller() {
    let mut world = World::new();
    let (caller, callee) = (world.join(MsgPack), world.json());
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {"receive_progress": true}, "p"]));
    world.send(callee, json!([70, 1, {"progress": true}, [1]]));
    assert_eq!(world.one(caller), json!([50, 1, {"progress": true}, [1]]));
}

#[test]
fn progress_is_offered_only_to_callees_that_announced_it() {
    let mut world = World::new();
    let caller = world.json();
    let plain = world.join_saying(Json, r#"[1,"realm1",{"roles":{"callee":{}}}]"#);
    // As autobahn-js announces itself: without call_canceling.
    let able = world.join_saying(
        Json,
        r#"[1,"realm1",{"roles":{"callee":{"features":{"progressive_call_results":true}}}}]"#,
    );
    let a = world.register(plain, "a", json!({}));
    let b = world.register(able, "b", json!({}));
    world.send(caller, json!([48, 1, {"receive_progress": true}, "a"]));
    assert_eq!(world.one(plain), json!([68, 1, a, {}]));
    world.send(caller, json!([48, 2, {"receive_progress": true}, "b"]));
    assert_eq!(
        world.one(able),
        json!([68, 1, b, {"receive_progress": true}])
    );
}

#[test]
fn a_caller_is_told_only_if_it_discloses_itself() {
    let mut world = World::new();
    let (caller, callee) = (world.join_as("joe"), world.json());
    let id = world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {"disclose_me": true}, "p"]));
    let session = world.session(caller);
    let details = json!({"caller": session, "caller_authid": "joe", "caller_authrole": "user"});
    assert_eq!(world.one(callee), json!([68, 1, id, details]));
}

#[test]
fn end_to_end_encryption_of_older_clients_is_refused() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({}));
    let (options, binary) = (
        json!({"enc_algo": "cryptobox", "acknowledge": true}),
        "\u{0}AQID",
    );
    let unsupported = "wamp.error.feature_not_supported";
    assert_eq!(
        world.ask(caller, json!([16, 1, options, "t", binary]))[4],
        unsupported
    );
    assert_eq!(
        world.ask(caller, json!([48, 1, options, "p", binary]))[4],
        unsupported
    );
    world.send(caller, json!([48, 2, {}, "p"]));
    world.take(callee);
    world.send(callee, json!([70, 1, {"enc_algo": "cryptobox"}, binary]));
    assert_eq!(
        head(&world.one(caller), 5),
        json!([8, 48, 2, {}, unsupported])
    );
    world.send(caller, json!([48, 3, {}, "p"]));
    world.take(callee);
    world.send(
        callee,
        json!([8, 68, 2, {"enc_algo": "cryptobox"}, "my.error", binary]),
    );
    assert_eq!(world.one(caller), json!([8, 48, 3, {}, "my.error"]));
    assert_eq!(HELLO.matches("payload_passthru").count(), 0);
}
