//! Calls that end otherwise than by their result: canceled, timed out, a party gone.

use crate::world::{Peer, World, head};
use router_core::encoding::Encoding::Json;
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

#[test]
fn cancel_modes_do_what_they_say() {
    for (options, callee_told, caller_told) in [
        (json!({"mode": "skip"}), None, true),
        (json!({"mode": "kill"}), Some("kill"), false),
        (json!({"mode": "killnowait"}), Some("killnowait"), true),
        (json!({}), Some("killnowait"), true),
    ] {
        let mut world = World::new();
        let (caller, callee) = (world.json(), world.json());
        world.register(callee, "p", json!({}));
        world.send(caller, json!([48, 1, {}, "p"]));
        world.take(callee);
        world.send(caller, json!([49, 1, options]));
        let told: Vec<Value> = callee_told
            .map(|mode| json!([69, 1, {"mode": mode, "reason": "wamp.error.canceled"}]))
            .into_iter()
            .collect();
        assert_eq!(world.take(callee), told, "{options}");
        if caller_told {
            assert_eq!(
                head(&world.one(caller), 5),
                json!([8, 48, 1, {}, "wamp.error.canceled"])
            );
        }
        assert_eq!(world.take(caller), nothing());
        // The late answer is passed on or dropped; it is no violation either way.
        world.send(callee, json!([8, 68, 1, {}, "my.stopped"]));
        let late = world.take(caller);
        match caller_told {
            true => assert_eq!(late, nothing()),
            false => assert_eq!(late, [json!([8, 48, 1, {}, "my.stopped"])]),
        }
        assert_eq!(world.wires[callee].closed, None);
    }
}

#[test]
fn a_cancel_without_its_feature_or_its_call() {
    let mut world = World::new();
    let caller = world.json();
    let callee = world.join_saying(Json, r#"[1,"realm1",{"roles":{"callee":{}}}]"#);
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {}, "p"]));
    world.take(callee);
    world.send(caller, json!([49, 1, {"mode": "kill"}]));
    assert_eq!(world.one(caller)[4], "wamp.error.canceled", "like skip");
    assert_eq!(world.take(callee), nothing());
    // One for a call that is over, or never was, is ignored.
    world.send(caller, json!([49, 1, {}]));
    world.send(caller, json!([49, 77, {}]));
    assert_eq!(world.take(caller), nothing());
    let error = world.ask(caller, json!([49, 5, {"mode": "bogus"}]));
    assert_eq!(
        head(&error, 5),
        json!([8, 49, 5, {}, "wamp.error.invalid_argument"])
    );
}

#[test]
fn a_timeout_ends_the_call_and_interrupts_the_callee() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {"timeout": 1000}, "p"]));
    world.send(caller, json!([48, 2, {"timeout": 0}, "p"]));
    assert_eq!(world.take(callee).len(), 2);
    world.pass(999);
    assert_eq!(world.take(caller), nothing());
    world.pass(1);
    assert_eq!(
        head(&world.one(caller), 5),
        json!([8, 48, 1, {}, "wamp.error.timeout"])
    );
    let interrupt = json!([69, 1, {"mode": "killnowait", "reason": "wamp.error.timeout"}]);
    assert_eq!(world.one(callee), interrupt);
    world.send(callee, json!([70, 1, {}]));
    world.pass(1_000_000);
    assert_eq!(world.take(caller), nothing(), "0 is no timeout");
}

#[test]
fn a_callee_that_goes_answers_its_callers() {
    let endings: [fn(&mut World, Peer); 3] = [
        |world, peer| world.lose(peer),
        |world, peer| world.send(peer, json!([6, {}, "wamp.close.close_realm"])),
        |world, peer| world.send(peer, json!([2, 1, {}])),
    ];
    for end in endings {
        let mut world = World::new();
        let (caller, callee) = (world.json(), world.json());
        world.register(callee, "p", json!({"concurrency": 1}));
        world.send(caller, json!([48, 1, {}, "p"]));
        world.send(caller, json!([48, 2, {}, "p"]));
        end(&mut world, callee);
        let mut got = world.take(caller);
        got.sort_by_key(|error| error[2].as_u64());
        assert_eq!(
            head(&got[0], 5),
            json!([8, 48, 1, {}, "wamp.error.canceled"])
        );
        assert_eq!(
            head(&got[1], 5),
            json!([8, 48, 2, {}, "wamp.error.no_such_procedure"])
        );
    }
}

#[test]
fn a_caller_that_goes_interrupts_its_callee() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {}, "p"]));
    world.take(callee);
    world.lose(caller);
    let interrupt = json!([69, 1, {"mode": "killnowait", "reason": "wamp.error.canceled"}]);
    assert_eq!(world.one(callee), interrupt);
    world.send(callee, json!([70, 1, {}]));
    assert_eq!(
        world.wires[callee].closed, None,
        "a late answer is no violation"
    );
}

#[test]
fn a_request_id_in_use_is_refused_for_the_second_call() {
    let mut world = World::new();
    let (caller, callee) = (world.json(), world.json());
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {}, "p"]));
    let error = world.ask(caller, json!([48, 1, {}, "p"]));
    assert_eq!(
        head(&error, 5),
        json!([8, 48, 1, {}, "wamp.error.invalid_argument"])
    );
    world.send(callee, json!([70, 1, {}]));
    assert_eq!(world.one(caller), json!([50, 1, {}]));
}
