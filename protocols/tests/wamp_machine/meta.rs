//! Session meta events and procedures (section "Session Meta API").

use crate::world::{Peer, World};
use router_core::encoding::Encoding::MsgPack;
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
