//! Registrations seen from outside: the meta API, revocation, taking another's place.

use crate::world::{Peer, World, head};
use router_core::encoding::Encoding::Json;
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

/// Calls a procedure about registrations: its arguments, or the name of the error.
fn about(world: &mut World, peer: Peer, name: &str, args: Value, kwargs: Value) -> Value {
    let procedure = format!("wamp.registration.{name}");
    let answer = world.ask(peer, json!([48, 77, {}, procedure, args, kwargs]));
    match answer[0].as_u64() {
        Some(50) => answer.get(3).cloned().unwrap_or(Value::Null),
        _ => answer[4].clone(),
    }
}

fn ask(world: &mut World, peer: Peer, name: &str, args: Value) -> Value {
    about(world, peer, name, args, json!({}))
}

#[test]
fn registrations_can_be_listed_looked_up_and_matched() {
    let mut world = World::new();
    let (peer, other) = (world.json(), world.json());
    let none = json!([{"exact": [], "prefix": [], "wildcard": []}]);
    assert_eq!(ask(&mut world, peer, "list", json!([])), none);
    let exact = world.register(peer, "a.b", json!({}));
    let prefix = world.register(peer, "a.", json!({"match": "prefix", "invoke": "last"}));
    world.register(other, "a.", json!({"match": "prefix", "invoke": "last"}));
    let wildcard = world.register(other, "a..c", json!({"match": "wildcard"}));
    let all = json!([{"exact": [exact], "prefix": [prefix], "wildcard": [wildcard]}]);
    assert_eq!(ask(&mut world, peer, "list", json!([])), all);
    for (args, expected) in [
        (json!(["a.b"]), json!([exact])),
        (json!(["a.b", {"match": "exact"}]), json!([exact])),
        (json!(["a.", {"match": "prefix"}]), json!([prefix])),
        (json!(["a..c", {"match": "wildcard"}]), json!([wildcard])),
        (json!(["a.b", {"match": "prefix"}]), json!([null])),
        (json!(["x"]), json!([null])),
        (json!(["a..b"]), json!([null])),
    ] {
        assert_eq!(
            ask(&mut world, other, "lookup", args.clone()),
            expected,
            "{args}"
        );
    }
    for (called, expected) in [
        ("a.b", json!([exact])),
        ("a.x", json!([prefix])),
        ("a.x.c", json!([prefix])),
        ("b.x.c", json!([null])),
        ("wamp.session.count", json!([null])),
    ] {
        assert_eq!(
            ask(&mut world, other, "match", json!([called])),
            expected,
            "{called}"
        );
    }
    let (first, second) = (world.session(peer), world.session(other));
    let callees = ask(&mut world, peer, "list_callees", json!([prefix]));
    assert_eq!(callees, json!([[first, second]]));
    assert_eq!(
        ask(&mut world, peer, "count_callees", json!([prefix])),
        json!([2])
    );
    let details = json!([{
        "id": prefix, "created": "2027-01-15T08:00:00.000Z", "uri": "a.", "match": "prefix",
        "invoke": "last",
    }]);
    assert_eq!(ask(&mut world, peer, "get", json!([prefix])), details);
    let details = ask(&mut world, peer, "get", json!([wildcard]));
    assert_eq!(
        (&details[0]["uri"], &details[0]["match"]),
        (&json!("a..c"), &json!("wildcard"))
    );
}

#[test]
fn who_asks_for_what_there_is_not_is_told() {
    let mut world = World::new();
    let peer = world.json();
    let id = world.register(peer, "a", json!({}));
    let no_such = json!("wamp.error.no_such_registration");
    for name in ["get", "list_callees", "count_callees", "remove_callee"] {
        let unknown = ask(&mut world, peer, name, json!([id + 1, 5]));
        assert_eq!(unknown, no_such, "{name}");
        let wrong = ask(&mut world, peer, name, json!(["x"]));
        assert_eq!(wrong, "wamp.error.invalid_argument", "{name}");
    }
    let wrong = ask(&mut world, peer, "lookup", json!(["a", {"match": "bogus"}]));
    assert_eq!(wrong, "wamp.error.invalid_argument");
    let stranger = ask(&mut world, peer, "remove_callee", json!([id, 5]));
    assert_eq!(stranger, "wamp.error.no_such_session");
    assert_eq!(
        ask(&mut world, peer, "bogus", json!([])),
        "wamp.error.no_such_procedure"
    );
}

#[test]
fn who_listens_hears_of_registrations_after_their_callees_do() {
    let mut world = World::new();
    let (peer, other) = (world.join_as("joe"), world.json());
    for event in ["on_create", "on_register", "on_unregister", "on_delete"] {
        world.subscribe(peer, &format!("wamp.registration.{event}"), json!({}));
    }
    let (me, it) = (world.session(peer), world.session(other));
    world.send(peer, json!([64, 1, {"invoke": "random"}, "a.b"]));
    let got = world.take(peer);
    let id = got[0][2].clone();
    assert_eq!(got[0], json!([65, 1, id]), "the answer comes first");
    let created = json!({
        "id": id, "created": "2027-01-15T08:00:00.000Z", "uri": "a.b", "match": "exact",
        "invoke": "random",
    });
    let args = |got: &[Value]| -> Vec<Value> { got.iter().map(|e| e[4].clone()).collect() };
    assert_eq!(args(&got[1..]), [json!([me, created]), json!([me, id])]);
    world.register(other, "a.b", json!({"invoke": "random"}));
    assert_eq!(args(&world.take(peer)), [json!([it, id])]);
    world.send(peer, json!([66, 2, id]));
    let got = world.take(peer);
    assert_eq!(got[0], json!([67, 2]));
    assert_eq!(args(&got[1..]), [json!([me, id])]);
    world.lose(other);
    let got = world.take(peer);
    assert_eq!(
        args(&got),
        [json!([it, id]), json!([it, id])],
        "unregistered, deleted"
    );
    assert_ne!(got[0][1], got[1][1], "two topics");
}

#[test]
fn a_callee_can_be_removed_and_is_told() {
    let mut world = World::new();
    let (caller, a) = (world.json(), world.json());
    let b = world.join_saying(Json, r#"[1,"realm1",{"roles":{"callee":{}}}]"#);
    let id = world.register(a, "p", json!({"invoke": "first"}));
    world.register(b, "p", json!({"invoke": "first"}));
    world.send(caller, json!([48, 1, {}, "p"]));
    world.take(a);
    let (first, second) = (world.session(a), world.session(b));
    let kwargs = json!({"reason": "my.reason"});
    let done = about(
        &mut world,
        caller,
        "remove_callee",
        json!([id, first]),
        kwargs,
    );
    assert_eq!(done, Value::Null);
    let revoked = json!([67, 0, {"registration": id, "reason": "my.reason"}]);
    assert_eq!(world.one(a), revoked);
    world.send(a, json!([70, 1, {}, ["done"]]));
    assert_eq!(
        world.one(caller),
        json!([50, 1, {}, ["done"]]),
        "what runs may end"
    );
    let error = world.ask(a, json!([66, 1, id]));
    assert_eq!(error[4], "wamp.error.no_such_registration");
    let done = ask(&mut world, caller, "remove_callee", json!([id, second]));
    assert_eq!(done, Value::Null);
    assert_eq!(
        world.take(b),
        nothing(),
        "it did not announce that it understands"
    );
    let error = world.ask(caller, json!([48, 2, {}, "p"]));
    assert_eq!(
        head(&error, 5),
        json!([8, 48, 2, {}, "wamp.error.no_such_procedure"])
    );
}

#[test]
fn a_registration_can_be_taken_over() {
    let mut world = World::new();
    let (caller, old, new) = (world.json(), world.json(), world.json());
    let id = world.register(old, "p", json!({"concurrency": 1}));
    world.send(caller, json!([48, 1, {}, "p", ["runs"]]));
    world.send(caller, json!([48, 2, {}, "p", ["waits"]]));
    world.take(old);
    world.send(new, json!([64, 1, {"force_reregister": true}, "p"]));
    let got = world.take(new);
    let taken = got[0][2].clone();
    assert_eq!(got[0], json!([65, 1, taken]));
    assert_ne!(taken, id);
    assert_eq!(
        got[1],
        json!([68, 1, taken, {}, ["waits"]]),
        "after REGISTERED"
    );
    let revoked = world.one(old);
    assert_eq!(head(&revoked, 2), json!([67, 0]));
    assert_eq!(revoked[2]["registration"], id);
    world.send(old, json!([70, 1, {}, ["old"]]));
    world.send(new, json!([70, 1, {}, ["new"]]));
    let results = [json!([50, 1, {}, ["old"]]), json!([50, 2, {}, ["new"]])];
    assert_eq!(world.take(caller), results);
    // Who holds it may take it over from itself.
    world.send(new, json!([64, 2, {"force_reregister": true}, "p"]));
    let got = world.take(new);
    assert_eq!(
        (got[0][0].clone(), got[1][0].clone()),
        (json!(67), json!(65))
    );
}
