//! The procedures `fox.lock.*` as a client calls them: their arguments, answers and errors.

use crate::world::{Peer, World, head};
use router_core::encoding::Encoding::{Cbor, MsgPack};
use router_core::limits::RealmLimits;
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

/// Calls `fox.lock.NAME`, and takes the only dict of its result.
fn call(world: &mut World, peer: Peer, name: &str, args: Value) -> Value {
    let result = world.ask(peer, json!([48, 800, {}, format!("fox.lock.{name}"), args]));
    assert_eq!(head(&result, 3), json!([50, 800, {}]), "{result}");
    let values = result[3].as_array().unwrap();
    assert_eq!((values.len(), result.as_array().unwrap().len()), (1, 4));
    values[0].clone()
}

/// Calls it, and takes name and keyword arguments of its error, which says why in words.
fn fails(world: &mut World, peer: Peer, name: &str, args: Value) -> (String, Value) {
    let error = world.ask(peer, json!([48, 801, {}, format!("fox.lock.{name}"), args]));
    assert_eq!(head(&error, 4), json!([8, 48, 801, {}]), "{error}");
    assert!(error[5][0].is_string(), "{error}");
    (error[4].as_str().unwrap().to_owned(), error[6].clone())
}

#[test]
fn acquire_renew_and_release_answer_one_dict_in_every_serialization() {
    let mut world = World::new();
    let peers = [world.json(), world.join(MsgPack), world.join(Cbor)];
    let mut last = 0;
    for peer in peers {
        let options = json!({"mode": "exclusive", "ttl_ms": 60_000, "data": {"who": "me"}});
        let got = call(&mut world, peer, "acquire", json!(["app.lock", options]));
        let token = got["token"].as_u64().unwrap();
        assert!(token > last, "tokens grow");
        last = token;
        let expires = got["expires"].as_u64().unwrap();
        assert_eq!(
            got,
            json!({"key": "app.lock", "token": token, "mode": "exclusive", "expires": expires, "position": 0})
        );
        let renewed = call(
            &mut world,
            peer,
            "renew",
            json!([token, {"ttl_ms": 120_000}]),
        );
        let later = renewed["expires"].as_u64().unwrap();
        assert!(later > expires);
        assert_eq!(
            renewed,
            json!({"key": "app.lock", "token": token, "expires": later})
        );
        let shown = call(&mut world, peer, "inspect", json!(["app.lock"]));
        assert_eq!(shown["holders"][0]["session"], world.session(peer));
        assert_eq!(shown["value"], json!({"who": "me"}));
        assert_eq!(world.read(peer, "app.lock")["owner"], world.session(peer));
        let released = call(&mut world, peer, "release", json!(["app.lock", token]));
        assert_eq!(
            released,
            json!({"key": "app.lock", "token": token, "held": 0})
        );
    }
}

#[test]
fn options_may_be_keyword_arguments() {
    let mut world = World::new();
    let peer = world.json();
    let options = json!({"mode": "permit", "limit": 2});
    let message = json!([48, 1, {}, "fox.lock.acquire", ["k"], options]);
    let result = world.ask(peer, message);
    assert_eq!(result[3][0]["mode"], "permit", "{result}");
    assert_eq!(
        world.read(peer, "k")["value"],
        json!({"mode": "permit", "limit": 2, "taken": 1})
    );
}

#[test]
fn every_error_has_its_name_and_tells_the_key() {
    let limits = RealmLimits {
        waiters_per_key: 1,
        ..RealmLimits::default()
    };
    let mut world = World::with_limits(limits);
    let (holder, peer, waiting) = (world.json(), world.json(), world.json());
    call(&mut world, holder, "acquire", json!(["a.k"]));
    let key = json!({"key": "a.k"});
    let held = fails(&mut world, peer, "try_acquire", json!(["a.k"]));
    let holders = json!({"key": "a.k", "holders": 1});
    assert_eq!(held, ("fox.error.lock_held".to_owned(), holders));
    let lost = fails(&mut world, peer, "release", json!(["a.k", 5]));
    assert_eq!(lost, ("fox.error.lock_lost".to_owned(), key.clone()));
    let lost = fails(&mut world, peer, "renew", json!([5]));
    assert_eq!(lost, ("fox.error.lock_lost".to_owned(), json!(null)));
    world.send(waiting, json!([48, 9, {}, "fox.lock.acquire", ["a.k"]]));
    let full = fails(&mut world, peer, "acquire", json!(["a.k"]));
    assert_eq!(full, ("fox.error.queue_full".to_owned(), key.clone()));
    let wrong = fails(&mut world, peer, "acquire", json!(["a.k", {"mode": "x"}]));
    assert_eq!(
        wrong,
        ("wamp.error.invalid_argument".to_owned(), key.clone())
    );
    let wrong = fails(&mut world, peer, "acquire", json!(["a..k"]));
    let spelled = json!({"key": "a..k"});
    assert_eq!(wrong, ("wamp.error.invalid_uri".to_owned(), spelled));
    let denied = fails(&mut world, peer, "acquire", json!(["wamp.k"]));
    let spelled = json!({"key": "wamp.k"});
    assert_eq!(denied, ("wamp.error.not_authorized".to_owned(), spelled));
    world.send(waiting, json!([49, 9, {}]));
    let canceled = world.one(waiting);
    assert_eq!(canceled[4], "wamp.error.canceled");
    assert_eq!(canceled[6], key);
    world.send(
        peer,
        json!([48, 10, {}, "fox.lock.acquire", ["a.k", {"wait_ms": 50}]]),
    );
    assert_eq!(world.take(peer), nothing());
    world.pass(50);
    let late = world.one(peer);
    assert_eq!(head(&late, 5), json!([8, 48, 10, {}, "wamp.error.timeout"]));
    assert_eq!(late[6], key);
}

#[test]
fn a_caller_that_asks_for_progress_is_told_its_place() {
    let mut world = World::new();
    let peers: Vec<Peer> = (0..4).map(|_| world.json()).collect();
    let got = call(&mut world, peers[0], "acquire", json!(["k"]));
    for (place, peer) in peers.iter().enumerate().skip(1) {
        let options = json!({"receive_progress": true});
        let told = world.ask(*peer, json!([48, 5, options, "fox.lock.acquire", ["k"]]));
        let expected = json!([50, 5, {"progress": true}, [{"key": "k", "position": place}]]);
        assert_eq!(told, expected);
    }
    call(&mut world, peers[0], "release", json!([got["token"]]));
    let granted = world.one(peers[1]);
    assert_eq!(head(&granted, 3), json!([50, 5, {}]));
    assert_eq!(granted[3][0]["position"], 0);
    for (place, peer) in [(1, peers[2]), (2, peers[3])] {
        let expected = json!([50, 5, {"progress": true}, [{"key": "k", "position": place}]]);
        assert_eq!(world.take(peer), [expected]);
    }
}

#[test]
fn a_session_that_is_lost_passes_the_key_on() {
    let mut world = World::new();
    let (holder, next, watcher) = (world.json(), world.json(), world.json());
    call(
        &mut world,
        holder,
        "acquire",
        json!(["election", {"data": "first"}]),
    );
    world.send(
        next,
        json!([48, 1, {}, "fox.lock.acquire", ["election", {"data": "second"}]]),
    );
    world.subscribe(watcher, "election", json!({}));
    world.lose(holder);
    assert_eq!(world.one(next)[0], 50);
    let told = world.take(watcher);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1][4], json!(["second"]));
    let token = world.read(watcher, "election")["token"].clone();
    assert_eq!(
        told[1][3]["token"], token,
        "the fencing token comes with the event"
    );
}

#[test]
fn a_call_that_waits_may_be_canceled_or_time_out_like_any_other() {
    let mut world = World::new();
    let (holder, peer) = (world.json(), world.json());
    call(&mut world, holder, "acquire", json!(["k"]));
    world.send(
        peer,
        json!([48, 1, {"timeout": 100}, "fox.lock.acquire", ["k"]]),
    );
    world.pass(99);
    assert_eq!(world.take(peer), nothing());
    world.pass(1);
    assert_eq!(world.one(peer)[4], "wamp.error.timeout");
    for mode in ["skip", "kill", "killnowait"] {
        world.send(peer, json!([48, 2, {}, "fox.lock.acquire", ["k"]]));
        world.send(peer, json!([49, 2, {"mode": mode}]));
        assert_eq!(world.one(peer)[4], "wamp.error.canceled");
    }
}

#[test]
fn a_publish_onto_a_held_key_is_refused_with_its_own_name() {
    let mut world = World::new();
    let (holder, peer) = (world.json(), world.json());
    call(&mut world, holder, "acquire", json!(["k"]));
    let options = json!({"acknowledge": true, "retain": true});
    let error = world.ask(peer, json!([16, 3, options, "k", [1]]));
    assert_eq!(
        head(&error, 5),
        json!([8, 16, 3, {}, "fox.error.lock_held"])
    );
    let mutex = json!({"acknowledge": true, "retain": true, "when": null, "will": null});
    let error = world.ask(peer, json!([16, 4, mutex, "k", [1]]));
    assert_eq!(
        error[4], "wamp.error.invalid_payload",
        "as ever: not accepted"
    );
}

#[test]
fn locks_are_listed_and_broken() {
    let mut world = World::new();
    let (holder, peer) = (world.json(), world.json());
    let token = call(&mut world, holder, "acquire", json!(["a.b%2Ec"]))["token"].clone();
    call(&mut world, holder, "acquire", json!(["b"]));
    world.subscribe(holder, "fox.lock.on_lost", json!({}));
    let listed = call(&mut world, peer, "list", json!(["a."]));
    let lock =
        json!({"key": "a.b%2Ec", "mode": "mutex", "holders": 1, "waiters": 0, "token": token});
    assert_eq!(listed, json!({"locks": [lock], "more": false}));
    assert_eq!(
        call(&mut world, peer, "list", json!([""]))["locks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let broken = call(&mut world, peer, "break", json!(["a.b%2Ec"]));
    assert_eq!(broken, json!({"key": "a.b%2Ec", "broken": [token]}));
    let lost = world.one(holder);
    assert_eq!(
        lost[4],
        json!([{"key": "a.b%2Ec", "token": token, "reason": "broken"}])
    );
}
