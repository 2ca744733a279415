//! Session meta events and procedures (section "Session Meta API").

use crate::world::{Peer, World};
use router_core::encoding::Encoding::MsgPack;
use router_core::limits::RealmLimits;
use serde_json::{Value, json};

fn call(world: &mut World, peer: Peer, procedure: &str, args: Value, kwargs: Value) -> Value {
    world.ask(peer, json!([48, 77, {}, procedure, args, kwargs]))
}

#[test]
fn sessions_can_be_counted_and_listed() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.join_as("joe"));
    let mut ids = [world.session(a), world.session(b)];
    ids.sort_unstable();
    let count = call(&mut world, a, "wamp.session.count", json!([]), json!({}));
    assert_eq!(count, json!([50, 77, {}, [2]]));
    let list = call(&mut world, a, "wamp.session.list", json!([]), json!({}));
    assert_eq!(
        list,
        json!([50, 77, {}, [ids]]),
        "one argument: a list of integers"
    );
    let count = call(
        &mut world,
        a,
        "wamp.session.count",
        json!([["user"]]),
        json!({}),
    );
    assert_eq!(count[3], json!([1]));
    let list = call(
        &mut world,
        a,
        "wamp.session.list",
        json!([["user"]]),
        json!({}),
    );
    assert_eq!(list[3], json!([[world.session(b)]]));
    let error = call(&mut world, a, "wamp.session.list", json!([5]), json!({}));
    assert_eq!(error[4], "wamp.error.invalid_argument");
}

#[test]
fn a_session_can_be_looked_at() {
    let mut world = World::new();
    let (a, b) = (world.join(MsgPack), world.join_as("joe"));
    let id = world.session(b);
    let details = call(&mut world, a, "wamp.session.get", json!([id]), json!({}));
    let expected = json!({
        "session": id, "authid": "joe", "authrole": "user", "authmethod": "ticket",
        "authprovider": "static", "transport": {"type": "websocket"},
    });
    assert_eq!(details, json!([50, 77, {}, [expected]]));
    let error = call(&mut world, a, "wamp.session.get", json!([1]), json!({}));
    assert_eq!(error[4], "wamp.error.no_such_session");
    for args in [json!([]), json!(["x"]), json!([id.to_string()])] {
        let error = call(&mut world, a, "wamp.session.get", args, json!({}));
        assert_eq!(error[4], "wamp.error.invalid_argument");
    }
}

#[test]
fn comings_and_goings_are_announced() {
    let mut world = World::new();
    let watcher = world.json();
    let join = world.subscribe(watcher, "wamp.session.on_join", json!({}));
    let leave = world.subscribe(watcher, "wamp.session.on_leave", json!({}));
    let pattern = world.subscribe(watcher, "wamp.session.#", json!({}));
    let peer = world.join_as("joe");
    let id = world.session(peer);
    let mut got = world.take(watcher);
    got.sort_by_key(|event| event[1].as_u64());
    assert_eq!(got.len(), 2);
    assert_eq!((&got[0][1], &got[0][3]), (&json!(join), &json!({})));
    let details = &got[0][4][0];
    assert_eq!(
        (&details["session"], &details["authid"]),
        (&json!(id), &json!("joe"))
    );
    assert_eq!(details["authrole"], "user");
    assert!(details["transport"].is_object());
    assert_eq!(
        (&got[1][1], &got[1][3]["topic"]),
        (&json!(pattern), &json!("wamp.session.on_join"))
    );
    world.lose(peer);
    let got = world.take(watcher);
    assert_eq!(got.len(), 2);
    let exact = got.iter().find(|event| event[1] == leave).unwrap();
    assert_eq!(exact[4], json!([id, "joe", "user"]));
}

#[test]
fn a_killed_session_is_told_and_closed() {
    let mut world = World::new();
    let (killer, victim) = (world.json(), world.json());
    let id = world.session(victim);
    let kwargs = json!({"reason": "com.myapp.enough", "message": "go \u{0}AQID"});
    let done = call(&mut world, killer, "wamp.session.kill", json!([id]), kwargs);
    assert_eq!(done, json!([50, 77, {}]));
    let goodbye = world.one(victim);
    assert_eq!(
        goodbye,
        json!([6, {"message": "go \u{fffd}AQID"}, "com.myapp.enough"])
    );
    // The session is over already; what it still sends has no effect.
    world.send(victim, json!([16, 1, {"acknowledge": true}, "a"]));
    assert_eq!(world.take(victim), Vec::<Value>::new());
    world.send(victim, json!([6, {}, "wamp.close.goodbye_and_out"]));
    assert_eq!(world.wires[victim].closed, Some((1000, "goodbye")));
    let again = call(
        &mut world,
        killer,
        "wamp.session.kill",
        json!([id]),
        json!({}),
    );
    assert_eq!(again[4], "wamp.error.no_such_session");
}

#[test]
fn a_kill_has_a_default_reason_and_spares_the_killer() {
    let mut world = World::new();
    let (killer, joe, guest, third) = (
        world.json(),
        world.join_as("joe"),
        world.join_as("guest"),
        world.json(),
    );
    let own = world.session(killer);
    let error = call(
        &mut world,
        killer,
        "wamp.session.kill",
        json!([own]),
        json!({}),
    );
    assert_eq!(error[4], "wamp.error.no_such_session");
    let bad = json!({"reason": "not a uri"});
    let error = call(&mut world, killer, "wamp.session.kill_all", json!([]), bad);
    assert_eq!(error[4], "wamp.error.invalid_uri");
    let id = world.session(joe);
    let killed = call(
        &mut world,
        killer,
        "wamp.session.kill_by_authid",
        json!(["joe"]),
        json!({}),
    );
    assert_eq!(killed[3], json!([[id]]));
    assert_eq!(world.one(joe), json!([6, {}, "wamp.close.killed"]));
    let killed = call(
        &mut world,
        killer,
        "wamp.session.kill_by_authrole",
        json!(["guest"]),
        json!({}),
    );
    assert_eq!(killed[3], json!([1]));
    assert_eq!(world.one(guest)[0], 6);
    let killed = call(
        &mut world,
        killer,
        "wamp.session.kill_all",
        json!([]),
        json!({}),
    );
    assert_eq!(killed[3], json!([1]));
    assert_eq!(world.one(third)[0], 6);
    world.publish(killer, "a", json!({}), &[]);
}

/// A kill says why, and so does `on_leave` of whatever the router ended.
#[test]
fn the_end_that_the_router_makes_is_told_with_its_reason() {
    let mut limits = RealmLimits::default();
    limits.outbox.ordered.frames = 20;
    let mut world = World::with_limits(limits);
    let watcher = world.json();
    world.subscribe(watcher, "wamp.session.on_leave", json!({}));
    let (slow, killed, lost) = (world.json(), world.json(), world.json());
    let ids = [slow, killed, lost].map(|peer| world.session(peer));
    world.subscribe(slow, "flood", json!({}));
    world.stop_reading(slow);
    for _ in 0..25 {
        world.send(watcher, json!([16, 2, {}, "flood"]));
    }
    let kwargs = json!({"reason": "com.myapp.enough"});
    world.send(
        watcher,
        json!([48, 1, {}, "wamp.session.kill", [ids[1]], kwargs]),
    );
    world.lose(lost);
    let told = world.take(watcher);
    let left: Vec<_> = told.iter().filter(|event| event[0] == 36).collect();
    let reasons: Vec<_> = left
        .iter()
        .map(|event| (&event[4][0], event.get(5)))
        .collect();
    let reason = |uri: &str| json!({ "reason": uri });
    assert_eq!(
        reasons,
        [
            (&json!(ids[0]), Some(&reason("reynard.error.too_slow"))),
            (&json!(ids[1]), Some(&reason("com.myapp.enough"))),
            (&json!(ids[2]), None),
        ]
    );
}

#[test]
fn rights_to_call_decide_who_may_use_the_meta_api() {
    let mut world = World::new();
    let (guest, other) = (world.join_as("watcher"), world.json());
    let id = world.session(other);
    for (name, args) in [
        ("wamp.session.kill", json!([id])),
        ("wamp.session.kill_all", json!([])),
        ("wamp.session.modify_details", json!([id, {}])),
        ("wamp.subscription.remove_subscriber", json!([1, id])),
    ] {
        let refused = call(&mut world, guest, name, args, json!({}));
        assert_eq!(refused[4], "wamp.error.not_authorized", "{name}");
    }
    let count = call(
        &mut world,
        guest,
        "wamp.session.count",
        json!([]),
        json!({}),
    );
    assert_eq!(count[3], json!([2]));
    let refused = world.ask(guest, json!([32, 5, {}, "wamp.subscription.on_create"]));
    assert_eq!(refused[4], "wamp.error.not_authorized");
    assert_eq!(world.wires[other].closed, None);
}

#[test]
fn details_of_a_session_can_be_added_but_not_the_routers_own_changed() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.join_as("joe"));
    let id = world.session(b);
    let mut modify = |args: Value| {
        let name = "wamp.session.modify_details";
        let done = call(&mut world, a, name, args, json!({}));
        let shown = call(&mut world, a, "wamp.session.get", json!([id]), json!({}));
        (done.get(4).cloned(), shown[3][0].clone())
    };
    let (error, shown) = modify(json!([id, {"seat": 5, "colour": "red"}]));
    assert_eq!(error, None);
    assert_eq!(
        (&shown["seat"], &shown["colour"]),
        (&json!(5), &json!("red"))
    );
    assert_eq!(shown["authid"], "joe");
    let (_, shown) = modify(json!([id, {"seat": {"row": 1}, "colour": null}]));
    assert_eq!(
        (&shown["seat"], shown.get("colour")),
        (&json!({"row": 1}), None)
    );
    let invalid = Some(json!("wamp.error.invalid_argument"));
    for key in [
        "session",
        "authid",
        "authrole",
        "authmethod",
        "authprovider",
        "transport",
    ] {
        let (error, shown) = modify(json!([id, {key: "x", "other": 1}]));
        assert_eq!(error, invalid, "{key}");
        assert_eq!((&shown[key] == "x", shown.get("other")), (false, None));
    }
    assert_eq!(modify(json!([id])).0, invalid);
    assert_eq!(modify(json!([id, [1]])).0, invalid);
    assert_eq!(
        modify(json!([1, {}])).0,
        Some(json!("wamp.error.no_such_session"))
    );
    let (error, shown) = modify(json!([id, {"large": "x".repeat(5_000)}]));
    assert_eq!(error, Some(json!("reynard.error.quota_exceeded")));
    assert_eq!(shown.get("large"), None);
}
