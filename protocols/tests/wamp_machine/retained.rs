//! Retained values as a store with conditions, waiters and wills: the mutex.

use crate::world::World;
use serde_json::{Value, json};

fn nothing() -> Vec<Value> {
    Vec::new()
}

#[test]
fn a_value_is_replaced_with_its_keyword_arguments() {
    let mut world = World::new();
    let peer = world.json();
    let tail = [json!([{"a": {"x": 1}}]), json!({"k": 1})];
    world.publish(peer, "key", json!({"retain": true}), &tail);
    world.publish(peer, "key", json!({"retain": true}), &[json!([{"a": 5}])]);
    let report = world.read(peer, "key");
    assert_eq!(report["value"], json!({"a": 5}));
    assert_eq!(report["kwargs"], Value::Null);
    assert_eq!(report["args"], json!([{"a": 5}]));
}

#[test]
fn falsy_values_are_kept_and_only_nothing_deletes() {
    let mut world = World::new();
    let peer = world.json();
    for kept in [
        json!([0]),
        json!([false]),
        json!([""]),
        json!([[]]),
        json!([{}]),
        json!([null, 1]),
    ] {
        world.publish(
            peer,
            "key",
            json!({"retain": true}),
            std::slice::from_ref(&kept),
        );
        assert_eq!(world.read(peer, "key")["args"], kept);
    }
    let by_keywords = [json!([]), json!({"k": 1})];
    world.publish(peer, "key", json!({"retain": true}), &by_keywords);
    assert_eq!(
        world.read(peer, "key")["kwargs"],
        json!({"k": 1}),
        "not held, so it is a value"
    );
    for deleting in [
        vec![],
        vec![json!([])],
        vec![json!([null])],
        vec![json!([]), json!({})],
        vec![Value::Null],
        vec![Value::Null, Value::Null],
        vec![json!([null]), json!({})],
    ] {
        world.publish(peer, "key", json!({"retain": true}), &[json!([1])]);
        let token = world.publish(peer, "key", json!({"retain": true}), &deleting);
        let report = world.read(peer, "key");
        assert_eq!(report["args"], Value::Null, "{deleting:?}");
        assert_eq!(
            report["token"], token,
            "the token of the last write is remembered"
        );
    }
}

#[test]
fn merge_patches_the_kept_value() {
    let mut world = World::new();
    let (peer, watcher) = (world.json(), world.json());
    world.publish(
        peer,
        "key",
        json!({"retain": true}),
        &[json!([{"a": {"x": 1, "y": 2}, "b": [1, 2]}])],
    );
    world.subscribe(watcher, "key", json!({}));
    let patch = json!([{"a": {"x": null, "z": 3}, "b": [9]}]);
    world.publish(
        peer,
        "key",
        json!({"retain": true, "merge": true}),
        &[patch],
    );
    let merged = json!({"a": {"y": 2, "z": 3}, "b": [9]});
    assert_eq!(world.read(peer, "key")["value"], merged);
    assert_eq!(world.one(watcher)[4], json!([merged]));
}

#[test]
fn tokens_grow_and_are_told_with_every_write() {
    let mut world = World::new();
    let (peer, watcher) = (world.json(), world.json());
    world.subscribe(watcher, "key", json!({}));
    let mut last = 0;
    assert_eq!(world.read(peer, "key")["token"], 0);
    for tail in [vec![json!([1])], vec![], vec![json!([2])], vec![json!([2])]] {
        world.publish(peer, "key", json!({"retain": true}), &tail);
        let event = world.one(watcher);
        let token = event[3]["token"].as_u64().unwrap();
        assert_eq!(event[3], json!({"token": token}));
        assert!(token > last);
        assert_eq!(world.read(peer, "key")["token"], token);
        last = token;
    }
}

#[test]
fn retained_values_come_first_and_live_events_after_them() {
    for option in ["get_retained", "retained", "retainedState"] {
        let mut world = World::new();
        let (publisher, late) = (world.join_as("joe"), world.json());
        let tail = [json!([{"v": 1}]), json!({"k": 1})];
        let id = world.publish(
            publisher,
            "room.a",
            json!({"retain": true, "disclose_me": true}),
            &tail,
        );
        world.publish(publisher, "room.b", json!({"retain": true}), &[json!([2])]);
        world.publish(publisher, "other", json!({"retain": true}), &[json!([3])]);
        world.publish(publisher, "room.c", json!({}), &[json!([4])]);
        world.send(late, json!([32, 1, {option: true}, "room.*"]));
        let got = world.take(late);
        assert_eq!(got.len(), 3, "{got:?}");
        assert_eq!(got[0][0], 33, "SUBSCRIBED comes first");
        assert_eq!(got[1][2], id, "under its own publication id");
        let details = json!({
            "topic": "room.a", "retained": true, "token": id, "publisher_authid": "joe",
            "publisher": world.session(publisher), "publisher_authrole": "user",
        });
        assert_eq!(got[1][3], details);
        assert_eq!((&got[1][4], &got[1][5]), (&tail[0], &tail[1]));
        assert_eq!(got[2][3]["topic"], "room.b");
        world.publish(
            publisher,
            "room.a",
            json!({"retain": true}),
            &[json!(["live"])],
        );
        let live = world.one(late);
        assert_eq!(live[3].get("retained"), None);
        assert_eq!(live[4], json!(["live"]));
        world.publish(publisher, "room.a", json!({}), &[json!(["passing"])]);
        assert_eq!(
            world.one(late)[4],
            json!(["passing"]),
            "every publish, not only kept ones"
        );
    }
}

#[test]
fn a_replay_honours_the_filter() {
    let mut world = World::new();
    let peer = world.json();
    world.publish(
        peer,
        "d.a",
        json!({"retain": true}),
        &[json!([{"on": true}])],
    );
    world.publish(
        peer,
        "d.b",
        json!({"retain": true}),
        &[json!([{"on": false}])],
    );
    world.send(
        peer,
        json!([32, 1, {"retained": true, "filter": {"on": true}}, "d.#"]),
    );
    let got = world.take(peer);
    assert_eq!(got.len(), 2);
    assert_eq!(got[1][3]["topic"], "d.a");
}

#[test]
fn a_snapshot_replays_history_then_values_and_ends() {
    let mut world = World::new();
    let (peer, other) = (world.json(), world.json());
    world.publish(peer, "s.a", json!({"trace": true}), &[json!(["traced"])]);
    world.publish(peer, "s.a", json!({"retain": true}), &[json!(["kept"])]);
    let options = json!({"snapshot": true, "retained": true, "after": 0});
    world.send(other, json!([32, 1, options, "s.#"]));
    let got = world.take(other);
    assert_eq!(got.len(), 4, "{got:?}");
    assert_eq!(got[1][4], json!(["traced"]));
    assert_eq!(got[2][4], json!(["kept"]));
    assert_eq!(
        got[3],
        json!([35, 0, {"subscription": got[0][2], "reason": "snapshot_complete"}])
    );
    world.publish(peer, "s.a", json!({}), &[]);
    assert_eq!(world.take(other), nothing());
}

#[test]
fn after_with_retained_waits_until_the_store_has_come_so_far() {
    let mut world = World::new();
    let (peer, late) = (world.json(), world.json());
    let first = world.publish(peer, "key", json!({"retain": true}), &[json!([1])]);
    world.send(
        late,
        json!([32, 1, {"retained": true, "after": first + 1}, "key"]),
    );
    assert_eq!(world.take(late).len(), 1, "only SUBSCRIBED");
    world.publish(peer, "other", json!({"retain": true}), &[json!([2])]);
    let got = world.one(late);
    assert_eq!((&got[3]["retained"], &got[4]), (&json!(true), &json!([1])));
}

#[test]
fn a_will_is_written_when_its_session_ends_whatever_the_end() {
    let goodbye = json!([6, {}, "wamp.close.close_realm"]);
    for clean in [true, false] {
        let mut world = World::new();
        let (owner, watcher) = (world.json(), world.json());
        world.subscribe(watcher, "dev.#", json!({}));
        let armed = json!({"retain": true, "will": {"st": "off"}});
        world.publish(owner, "dev.a", armed, &[json!([{"st": "on", "pid": 7}])]);
        world.take(watcher);
        match clean {
            true => world.send(owner, goodbye.clone()),
            false => world.lose(owner),
        }
        let event = world.one(watcher);
        assert_eq!(
            event[4],
            json!([{"st": "off"}]),
            "it replaces, it does not merge"
        );
        let report = world.read(watcher, "dev.a");
        assert_eq!(
            (&report["value"], &report["owner"]),
            (&json!({"st": "off"}), &Value::Null)
        );
    }
}

#[test]
fn a_will_for_lost_connections_spares_a_goodbye() {
    for (lost, value) in [(true, json!("gone")), (false, json!("here"))] {
        let mut world = World::new();
        let (owner, other) = (world.json(), world.json());
        let armed = json!({"retain": true, "will": "gone", "will_on": "lost"});
        world.publish(owner, "key", armed, &[json!(["here"])]);
        match lost {
            true => world.lose(owner),
            false => world.send(owner, json!([6, {}, "wamp.close.close_realm"])),
        }
        let report = world.read(other, "key");
        assert_eq!((&report["value"], &report["owner"]), (&value, &Value::Null));
    }
}

#[test]
fn a_write_without_will_disarms_it() {
    let mut world = World::new();
    let (owner, other) = (world.json(), world.json());
    world.publish(
        owner,
        "key",
        json!({"retain": true, "will": "gone"}),
        &[json!(["a"])],
    );
    world.publish(owner, "key", json!({"retain": true}), &[json!(["b"])]);
    world.lose(owner);
    assert_eq!(world.read(other, "key")["value"], "b");
}

#[test]
fn wills_apply_in_the_order_they_were_armed() {
    let mut world = World::new();
    let (owner, watcher) = (world.json(), world.json());
    for key in ["k.z", "k.a", "k.m"] {
        world.publish(
            owner,
            key,
            json!({"retain": true, "will": "gone"}),
            &[json!(["a"])],
        );
    }
    world.subscribe(watcher, "k.#", json!({}));
    world.lose(owner);
    let topics: Vec<Value> = world
        .take(watcher)
        .iter()
        .map(|e| e[3]["topic"].clone())
        .collect();
    assert_eq!(topics, ["k.z", "k.a", "k.m"]);
}

#[test]
fn a_key_that_is_no_topic_cannot_be_read() {
    let mut world = World::new();
    let peer = world.json();
    for args in [json!([]), json!([5]), json!(["a..b"]), json!(["a.#"])] {
        let error = world.ask(peer, json!([48, 1, {}, "fox.kv.get", args]));
        assert_eq!(error[4], "wamp.error.invalid_argument");
    }
    let report = world.read(peer, "no.such.key");
    let expected = json!({"key": "no.such.key", "value": null, "args": null, "kwargs": null,
        "token": 0, "owner": null, "waiters": 0});
    assert_eq!(report, expected);
    assert_eq!(
        world.ask(peer, json!([64, 1, {}, "fox.kv.get"]))[0],
        8,
        "it is the router's own"
    );
}

/// Section "Event Retention": what a subscriber would not have received it is not shown later.
#[test]
fn retained_values_are_shown_to_those_they_were_meant_for() {
    let mut world = World::new();
    let publisher = world.json();
    let kept = |mut options: Value| {
        options["retain"] = json!(true);
        options
    };
    let for_joe = kept(json!({"eligible_authid": ["joe"]}));
    let first = world.publish(publisher, "room.a", for_joe, &[json!([1])]);
    let not_joe = kept(json!({"exclude_authid": ["joe"]}));
    let second = world.publish(publisher, "room.b", not_joe, &[json!([2])]);
    let third = world.publish(publisher, "room.c", kept(json!({})), &[json!([3])]);
    for (name, expected) in [("joe", [first, third]), ("ann", [second, third])] {
        let peer = world.join_as(name);
        for (topic, options) in [
            ("room.", json!({"match": "prefix", "get_retained": true})),
            ("room.", json!({"match": "wildcard", "get_retained": true})),
        ] {
            world.send(peer, json!([32, 1, options, topic]));
            let got = world.take(peer);
            let ids: Vec<_> = got.iter().skip(1).map(|event| event[2].clone()).collect();
            assert_eq!(ids, expected, "{name}, one for each topic under its own id");
            let topics: Vec<_> = got.iter().skip(1).map(|event| &event[3]["topic"]).collect();
            assert_eq!(topics.len(), 2);
            assert!(got.iter().skip(1).all(|event| event[3]["retained"] == true));
        }
    }
    let ann = world.join_as("ann");
    let denied = world.ask(ann, json!([48, 5, {}, "fox.kv.get", ["room.a"]]));
    assert_eq!(denied[4], "wamp.error.not_authorized");
}
