//! The kept values as procedures, as a WAMP client spells them.

use crate::world::{Peer, World};
use router_core::encoding::Encoding;
use serde_json::{Value, json};

fn call(world: &mut World, peer: Peer, request: u64, name: &str, args: Value, kwargs: Value) {
    let procedure = format!("fox.kv.{name}");
    world.send(peer, json!([48, request, {}, procedure, args, kwargs]));
}

/// The value of the result.
#[track_caller]
fn done(world: &mut World, peer: Peer, name: &str, args: Value, kwargs: Value) -> Value {
    call(world, peer, 1, name, args, kwargs);
    let result = world.one(peer);
    assert_eq!(
        (&result[0], &result[1]),
        (&json!(50), &json!(1)),
        "{result}"
    );
    result[3][0].clone()
}

/// URI and keyword arguments of the error.
#[track_caller]
fn failed(world: &mut World, peer: Peer, name: &str, args: Value, kwargs: Value) -> (Value, Value) {
    call(world, peer, 1, name, args, kwargs);
    let error = world.one(peer);
    assert_eq!((&error[0], &error[1]), (&json!(8), &json!(48)), "{error}");
    assert!(error[5][0].is_string(), "words for a person: {error}");
    (error[4].clone(), error[6].clone())
}

#[test]
fn keys_are_written_compared_and_listed_under_their_uris() {
    let mut world = World::new();
    for peer in [world.json(), world.join(Encoding::MsgPack)] {
        let none = Value::Null;
        let kept = done(&mut world, peer, "put", json!(["a%2Eb.c", 1]), none.clone());
        assert_eq!(kept["key"], "a%2Eb.c");
        let expected = json!({"key": "a%2Eb.c", "token": kept["token"]});
        let conflict = (json!("fox.error.conflict"), expected);
        let args = json!(["a%2Eb.c", 7, 2]);
        assert_eq!(
            failed(&mut world, peer, "cas", args, none.clone()),
            conflict
        );
        let when = json!({"when": null});
        assert_eq!(
            failed(&mut world, peer, "put", json!(["a%2Eb.c", 2]), when),
            conflict
        );
        let args = json!(["a%2E"]);
        let page = done(&mut world, peer, "list", args, json!({"values": false}));
        let row = json!({"key": "a%2Eb.c", "token": kept["token"], "owner": null});
        assert_eq!(page, json!({"keys": [row], "more": false}));
        let token = json!({"token": kept["token"]});
        let gone = done(&mut world, peer, "delete", json!(["a%2Eb.c"]), token);
        assert_eq!(gone["existed"], true);
    }
}

#[test]
fn what_is_wrong_with_a_call_has_the_names_of_the_standard() {
    let mut world = World::new();
    let peer = world.json();
    for (name, args, uri) in [
        ("put", json!(["a b", 1]), "wamp.error.invalid_uri"),
        ("list", json!(["a b"]), "wamp.error.invalid_uri"),
        ("put", json!(["a"]), "wamp.error.invalid_argument"),
        ("put", json!(["wamp.x", 1]), "wamp.error.not_authorized"),
        ("watch", json!(["a", {"wait_ms": 0}]), "wamp.error.timeout"),
        ("none", json!(["a"]), "wamp.error.no_such_procedure"),
    ] {
        let (found, _) = failed(&mut world, peer, name, args, Value::Null);
        assert_eq!(found, uri, "{name}");
    }
}

#[test]
fn a_watch_tells_each_change_until_cancel() {
    let mut world = World::new();
    let (peer, writer) = (world.json(), world.json());
    let options = json!({"receive_progress": true});
    world.send(peer, json!([48, 9, options, "fox.kv.watch", ["a.b"]]));
    for value in ["one", "two"] {
        let kept = done(
            &mut world,
            writer,
            "put",
            json!(["a.b", value]),
            Value::Null,
        );
        let change = json!({"key": "a.b", "value": value, "token": kept["token"]});
        assert_eq!(
            world.one(peer),
            json!([50, 9, {"progress": true}, [change]])
        );
    }
    world.send(peer, json!([49, 9, {}]));
    let error = world.one(peer);
    assert_eq!(error[4], "wamp.error.canceled");
    assert_eq!(error[6], json!({"key": "a.b"}));
}
