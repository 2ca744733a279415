//! The retained store as a lock service: conditions, waiters, wills.

use crate::world::{Peer, World, head};
use protocols::gate::Input;
use serde_json::{Value, json};

const NOT_ACCEPTED: &str = "wamp.error.invalid_payload";

fn nothing() -> Vec<Value> {
    Vec::new()
}

/// The lock of fox-wamp's README, literally.
fn lock(world: &mut World, peer: Peer, request: u64) {
    let options =
        json!({"acknowledge": true, "retain": true, "when": null, "will": null, "watch": true});
    let kwargs = json!({"pid": request});
    world.send(
        peer,
        json!([16, request, options, "myapp.resource", [], kwargs]),
    );
}

fn unlock(world: &mut World, peer: Peer, request: u64) {
    let options = json!({"acknowledge": true, "retain": true});
    world.send(
        peer,
        json!([16, request, options, "myapp.resource", [], null]),
    );
}

#[test]
fn the_mutex_of_the_readme_passes_on_first_come_first_served() {
    let mut world = World::new();
    let peers: Vec<Peer> = (0..6).map(|_| world.json()).collect();
    for (i, peer) in peers.iter().enumerate() {
        lock(&mut world, *peer, 100 + i as u64);
    }
    assert_eq!(world.one(peers[0])[0], 17, "the first one has it");
    let report = world.read(peers[0], "myapp.resource");
    assert_eq!(report["owner"], world.session(peers[0]));
    assert_eq!(report["waiters"], 5);
    assert_eq!(report["kwargs"], json!({"pid": 100}));
    for holder in 0..5 {
        for waiting in &peers[holder + 1..] {
            assert_eq!(world.take(*waiting), nothing(), "exactly one winner");
        }
        let before = world.read(peers[holder], "myapp.resource")["token"].as_u64();
        match holder {
            // Unlocking, dying and leaving pass it on alike.
            0 | 3 => {
                unlock(&mut world, peers[holder], 7);
                assert_eq!(head(&world.one(peers[holder]), 2), json!([17, 7]));
            }
            1 => world.lose(peers[holder]),
            2 => world.send(peers[holder], json!([6, {}, "wamp.close.close_realm"])),
            _ => world.send(peers[holder], json!([2, 1, {}])),
        }
        let granted = world.one(peers[holder + 1]);
        assert_eq!(head(&granted, 2), json!([17, 101 + holder]));
        let report = world.read(peers[holder + 1], "myapp.resource");
        assert_eq!(report["owner"], world.session(peers[holder + 1]));
        assert_eq!(
            report["kwargs"],
            json!({"pid": 101 + holder}),
            "nothing of the former owner"
        );
        assert!(report["token"].as_u64() > before, "tokens grow");
    }
}

#[test]
fn the_unlock_of_the_demo_releases_as_well() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.json());
    // fox-wamp's demo puts the data into the first argument and unlocks with null arguments and a
    // header among the keyword arguments.
    let lock =
        json!({"acknowledge": true, "retain": true, "when": null, "will": null, "watch": true});
    world.send(a, json!([16, 1, lock, "res", [{"pid": 1}], {"h": 1}]));
    world.send(b, json!([16, 2, lock, "res", [{"pid": 2}], {"h": 1}]));
    assert_eq!(world.one(a)[0], 17);
    assert_eq!(world.take(b), nothing());
    let unlock = json!({"acknowledge": true, "retain": true});
    world.send(a, json!([16, 3, unlock, "res", null, {"h": 1}]));
    assert_eq!(world.one(a)[0], 17);
    assert_eq!(head(&world.one(b), 2), json!([17, 2]));
    assert_eq!(world.read(b, "res")["value"], json!({"pid": 2}));
}

#[test]
fn a_rejected_condition_has_no_effect_at_all() {
    let mut world = World::new();
    let (owner, rival, watcher) = (world.json(), world.json(), world.json());
    world.subscribe(watcher, "key", json!({}));
    world.publish(owner, "key", json!({"retain": true}), &[json!([{"o": 1}])]);
    world.take(watcher);
    let options = json!({"acknowledge": true, "retain": true, "when": {"o": 2}, "trace": true});
    let error = world.ask(rival, json!([16, 9, options, "key", [{"o": 2}]]));
    assert_eq!(error, json!([8, 16, 9, {}, NOT_ACCEPTED, ["not accepted"]]));
    assert_eq!(world.take(watcher), nothing(), "no event");
    assert_eq!(world.read(owner, "key")["value"], json!({"o": 1}));
    // Without acknowledge not even the error.
    world.send(
        rival,
        json!([16, 10, {"retain": true, "when": null}, "key", [3]]),
    );
    assert_eq!(world.take(rival), nothing());
    assert_eq!(world.take(watcher), nothing());
    // Nor a place in the history.
    world.send(watcher, json!([32, 1, {"after": 0}, "key"]));
    assert_eq!(world.take(watcher).len(), 1);
}

#[test]
fn a_parked_write_is_seen_when_it_is_granted_and_not_before() {
    let mut world = World::new();
    let (owner, waiter, watcher) = (world.json(), world.json(), world.json());
    world.subscribe(watcher, "key", json!({}));
    world.publish(owner, "key", json!({"retain": true}), &[json!(["first"])]);
    world.take(watcher);
    let options = json!({"acknowledge": true, "retain": true, "when": null, "watch": true});
    world.send(waiter, json!([16, 4, options, "key", ["second"]]));
    assert_eq!(world.take(waiter), nothing());
    assert_eq!(world.take(watcher), nothing());
    world.publish(owner, "key", json!({"retain": true}), &[]);
    let (deleted, granted) = {
        let mut got = world.take(watcher);
        assert_eq!(got.len(), 2);
        (got.remove(0), got.remove(0))
    };
    assert_eq!(deleted.as_array().unwrap().len(), 4);
    assert_eq!(granted[4], json!(["second"]));
    assert!(
        granted[2].as_u64() > deleted[2].as_u64(),
        "it takes its place when it is granted"
    );
    assert_eq!(world.one(waiter), json!([17, 4, granted[2]]));
}

#[test]
fn conditions_compare_by_type_and_part() {
    for (stored, when, fits) in [
        (json!([1]), json!(1), true),
        (json!([1]), json!(1.0), true),
        (json!([1]), json!("1"), false),
        (json!([0]), json!(""), false),
        (json!([{"a": 1, "b": 2}]), json!({"a": 1}), true),
        (json!([{"a": 1}]), json!({}), true),
        (json!([{"b": 1}]), json!({"a": null}), true),
        (json!([{"a": 0}]), json!({"a": null}), false),
        (json!(["text"]), json!({"a": 1}), false),
        (json!([5]), json!({"a": 1}), false),
        (json!([1, 2, 3]), json!([1, 2]), true),
        (json!([{"a": 1}]), Value::Null, false),
    ] {
        let mut world = World::new();
        let peer = world.json();
        world.publish(
            peer,
            "key",
            json!({"retain": true}),
            std::slice::from_ref(&stored),
        );
        let options = json!({"acknowledge": true, "retain": true, "when": when});
        let answer = world.ask(peer, json!([16, 1, options, "key", ["new"]]));
        assert_eq!(answer[0], if fits { 17 } else { 8 }, "{stored} {when}");
    }
    let mut world = World::new();
    let peer = world.json();
    world.publish(
        peer,
        "key",
        json!({"retain": true, "when": null}),
        &[json!([1])],
    );
}

#[test]
fn a_watch_may_end_by_time() {
    let mut world = World::new();
    let (owner, waiter) = (world.json(), world.json());
    world.publish(owner, "key", json!({"retain": true}), &[json!([1])]);
    let options = json!({"acknowledge": true, "retain": true, "when": null, "watch": true, "watch_timeout": 500});
    world.send(waiter, json!([16, 4, options, "key", [2]]));
    world.pass(499);
    assert_eq!(world.take(waiter), nothing());
    world.pass(1);
    let error = world.one(waiter);
    assert_eq!(head(&error, 5), json!([8, 16, 4, {}, "wamp.error.timeout"]));
    world.publish(owner, "key", json!({"retain": true}), &[]);
    assert_eq!(world.take(waiter), nothing(), "it waits no longer");
    assert_eq!(world.read(owner, "key")["value"], Value::Null);
}

#[test]
fn a_watch_on_an_absent_key_waits_for_its_value() {
    let mut world = World::new();
    let (waiter, writer) = (world.json(), world.json());
    let options =
        json!({"acknowledge": true, "retain": true, "when": {"state": "ready"}, "watch": true});
    world.send(waiter, json!([16, 1, options, "key", [{"state": "taken"}]]));
    world.publish(
        writer,
        "key",
        json!({"retain": true}),
        &[json!([{"state": "starting"}])],
    );
    assert_eq!(world.take(waiter), nothing());
    world.publish(writer, "key", json!({"retain": true}), &[]);
    assert_eq!(
        world.take(waiter),
        nothing(),
        "a deletion forgets no waiter"
    );
    world.publish(
        writer,
        "key",
        json!({"retain": true}),
        &[json!([{"state": "ready"}])],
    );
    assert_eq!(world.one(waiter)[0], 17);
    assert_eq!(
        world.read(writer, "key")["value"],
        json!({"state": "taken"})
    );
}

#[test]
fn a_session_that_ends_waits_no_longer() {
    let mut world = World::new();
    let (owner, first, second) = (world.json(), world.json(), world.json());
    for (i, peer) in [owner, first, second].into_iter().enumerate() {
        lock(&mut world, peer, i as u64 + 1);
    }
    world.take(owner);
    world.lose(first);
    unlock(&mut world, owner, 9);
    assert_eq!(world.one(second)[0], 17);
}

#[test]
fn a_drained_router_releases_locks_too() {
    let mut world = World::new();
    let (owner, waiter) = (world.json(), world.json());
    lock(&mut world, owner, 1);
    lock(&mut world, waiter, 2);
    world.take(owner);
    world.input(owner, Input::Drain);
    assert_eq!(world.take(waiter), nothing());
    world.send(owner, json!([6, {}, "wamp.close.goodbye_and_out"]));
    assert_eq!(head(&world.one(waiter), 2), json!([17, 2]));
}
