//! Subscription meta events and procedures (section "Subscriptions Meta API").

use crate::world::{Peer, World, head};
use router_core::encoding::Encoding::{Json, MsgPack};
use serde_json::{Value, json};

/// The only positional result of a procedure, or its error URI.
fn call(world: &mut World, peer: Peer, procedure: &str, args: Value) -> Value {
    let name = format!("wamp.subscription.{procedure}");
    let answer = world.ask(peer, json!([48, 77, {}, name, args]));
    match answer[0].as_u64() {
        Some(50) => answer.get(3).map_or(Value::Null, |args| {
            assert_eq!(args.as_array().unwrap().len(), 1, "{answer}");
            args[0].clone()
        }),
        _ => answer[4].clone(),
    }
}

const NO_SUCH: &str = "wamp.error.no_such_subscription";

/// Listens to all four events; answers what name each subscription has.
fn listen(world: &mut World) -> (Peer, Vec<(u64, &'static str)>) {
    let listener = world.json();
    let topics = ["on_create", "on_subscribe", "on_unsubscribe", "on_delete"];
    let ids = topics.map(|name| {
        let topic = format!("wamp.subscription.{name}");
        (world.subscribe(listener, &topic, json!({})), name)
    });
    (listener, ids.to_vec())
}

/// What the listener was told: names of events and their arguments.
fn told(world: &mut World, (listener, names): &(Peer, Vec<(u64, &'static str)>)) -> Vec<Value> {
    let events = world.take(*listener);
    let name = |event: &Value| {
        let id = event[1].as_u64().unwrap();
        names.iter().find(|(known, _)| *known == id).unwrap().1
    };
    let tell = |event: &Value| json!([name(event), event[4]]);
    events.iter().map(tell).collect()
}

#[test]
fn the_life_of_a_subscription_is_told_in_order() {
    let mut world = World::new();
    let listener = listen(&mut world);
    let (a, b) = (world.json(), world.join(MsgPack));
    assert_eq!(
        told(&mut world, &listener),
        Vec::<Value>::new(),
        "none of wamp topics"
    );
    let id = world.subscribe(a, "com.myapp.x", json!({}));
    let details = json!({
        "id": id, "created": "2027-01-15T08:00:00.000Z", "uri": "com.myapp.x", "match": "exact",
    });
    let (first, second) = (world.session(a), world.session(b));
    assert_eq!(
        told(&mut world, &listener),
        [
            json!(["on_create", [first, details]]),
            json!(["on_subscribe", [first, id]])
        ]
    );
    // Once more is nothing new.
    world.subscribe(a, "com.myapp.x", json!({}));
    assert_eq!(told(&mut world, &listener), Vec::<Value>::new());
    world.subscribe(b, "com.myapp.x", json!({}));
    assert_eq!(
        told(&mut world, &listener),
        [json!(["on_subscribe", [second, id]])]
    );
    world.ask(a, json!([34, 5, id]));
    assert_eq!(
        told(&mut world, &listener),
        [json!(["on_unsubscribe", [first, id]])]
    );
    // The end of a session ends its subscriptions.
    world.lose(b);
    assert_eq!(
        told(&mut world, &listener),
        [
            json!(["on_unsubscribe", [second, id]]),
            json!(["on_delete", [second, id]])
        ]
    );
}

#[test]
fn a_subscriber_that_listens_to_itself_is_answered_first() {
    let mut world = World::new();
    let peer = world.json();
    world.subscribe(peer, "wamp.subscription.on_subscribe", json!({}));
    world.send(peer, json!([32, 1, {}, "a"]));
    let got = world.take(peer);
    let codes: Vec<_> = got.iter().map(|message| message[0].clone()).collect();
    assert_eq!(codes, [33, 36]);
}

#[test]
fn nothing_is_told_of_subscriptions_to_wamp_topics_or_of_snapshots() {
    let mut world = World::new();
    let listener = listen(&mut world);
    let peer = world.json();
    for (topic, options) in [
        ("wamp.session.on_join", json!({})),
        ("wamp.session.#", json!({})),
        ("wamp.", json!({"match": "prefix"})),
        ("wamp..on_join", json!({"match": "wildcard"})),
    ] {
        let id = world.subscribe(peer, topic, options);
        world.ask(peer, json!([34, 5, id]));
    }
    world.send(peer, json!([32, 6, {"snapshot": true}, "a"]));
    world.lose(peer);
    assert_eq!(told(&mut world, &listener), Vec::<Value>::new());
}

#[test]
fn subscriptions_are_listed_by_policy_and_looked_up_by_uri() {
    let mut world = World::new();
    let peer = world.json();
    let none = json!({"exact": [], "prefix": [], "wildcard": []});
    assert_eq!(call(&mut world, peer, "list", json!([])), none);
    let exact = world.subscribe(peer, "a.b", json!({}));
    let prefix = world.subscribe(peer, "a.", json!({"match": "prefix"}));
    let wildcard = world.subscribe(peer, "a..c", json!({"match": "wildcard"}));
    let literal = world.subscribe(peer, "a.b", json!({"match": "wildcard"}));
    let filtered = world.subscribe(peer, "a.b", json!({"filter": {"x": 1}}));
    let lists =
        json!({"exact": [exact, filtered], "prefix": [prefix], "wildcard": [wildcard, literal]});
    assert_eq!(call(&mut world, peer, "list", json!([])), lists);
    for (args, found) in [
        (json!(["a.b"]), json!(exact)),
        (json!(["a.b", {"match": "exact"}]), json!(exact)),
        (json!(["a.", {"match": "prefix"}]), json!(prefix)),
        (json!(["a..c", {"match": "wildcard"}]), json!(wildcard)),
        (json!(["a.b", {"match": "wildcard"}]), json!(literal)),
        (json!(["a.b", {"match": "prefix"}]), Value::Null),
        (json!(["b"]), Value::Null),
        (json!(["a..b"]), json!("wamp.error.invalid_uri")),
        (
            json!(["a.b", {"match": 1}]),
            json!("wamp.error.invalid_argument"),
        ),
        (
            json!(["a.b", {"match": "x"}]),
            json!("wamp.error.invalid_argument"),
        ),
        (json!([5]), json!("wamp.error.invalid_argument")),
        (json!([]), json!("wamp.error.invalid_argument")),
    ] {
        assert_eq!(
            call(&mut world, peer, "lookup", args.clone()),
            found,
            "{args}"
        );
    }
    let details = call(&mut world, peer, "get", json!([filtered]));
    assert_eq!(details["filter"], json!({"x": 1}));
    for (uri, found) in [
        ("a.b", json!([exact, prefix, literal, filtered])),
        ("a.x.c", json!([prefix, wildcard])),
        ("b", Value::Null),
    ] {
        assert_eq!(
            call(&mut world, peer, "match", json!([uri])),
            found,
            "{uri}"
        );
    }
    assert_eq!(
        call(&mut world, peer, "match", json!(["a..b"])),
        "wamp.error.invalid_uri"
    );
}

#[test]
fn a_subscription_and_its_subscribers_can_be_looked_at() {
    let mut world = World::new();
    let (a, b) = (world.json(), world.join(MsgPack));
    let id = world.subscribe(a, "a..c", json!({"match": "wildcard"}));
    world.pass(1_500);
    world.subscribe(b, "a..c", json!({"match": "wildcard"}));
    let details = json!({
        "id": id, "created": "2027-01-15T08:00:00.000Z", "uri": "a..c", "match": "wildcard",
    });
    assert_eq!(call(&mut world, b, "get", json!([id])), details);
    let mut sessions = [world.session(a), world.session(b)];
    sessions.sort_unstable();
    assert_eq!(
        call(&mut world, a, "list_subscribers", json!([id])),
        json!(sessions)
    );
    assert_eq!(call(&mut world, a, "count_subscribers", json!([id])), 2);
    for procedure in ["get", "list_subscribers", "count_subscribers", "get_events"] {
        assert_eq!(call(&mut world, a, procedure, json!([id + 1])), NO_SUCH);
        for args in [json!([]), json!(["x"]), json!([null])] {
            let error = call(&mut world, a, procedure, args);
            assert_eq!(error, "wamp.error.invalid_argument");
        }
    }
}

#[test]
fn subscriptions_of_devices_are_shown_in_the_spelling_of_wamp() {
    let mut world = World::new();
    let listener = listen(&mut world);
    let peer = world.json();
    for (filter, uri, notation) in [
        ("app/x.y/z", "app.x%2Ey.z", "exact"),
        ("app/+/z", "app..z", "wildcard"),
        ("/+", "%00.", "wildcard"),
        ("#", "", "prefix"),
        ("app/+/#", "app.*.#", "levels"),
    ] {
        world.device_subscribes(filter);
        let created = told(&mut world, &listener).remove(0);
        assert_eq!(created[0], "on_create", "{filter}");
        let details = &created[1][1];
        assert_eq!(
            (&details["uri"], &details["match"]),
            (&json!(uri), &json!(notation))
        );
        let found = call(
            &mut world,
            peer,
            "lookup",
            json!([uri, {"match": notation}]),
        );
        assert_eq!(found, details["id"], "{filter}");
        assert_eq!(call(&mut world, peer, "get", json!([found])), *details);
    }
    let lists = call(&mut world, peer, "list", json!([]));
    assert_eq!(lists["levels"].as_array().unwrap().len(), 1);
    // A group is another subscription than the plain one.
    world.device_shares("app/x", Some("g"));
    let created = told(&mut world, &listener).remove(0);
    assert_eq!(created[1][1]["x_share"], "g");
    assert_eq!(
        call(&mut world, peer, "lookup", json!(["app.x"])),
        Value::Null
    );
}

/// Section "Subscription Revocation".
#[test]
fn a_subscriber_can_be_removed_and_is_told() {
    let mut world = World::new();
    let listener = listen(&mut world);
    let (judge, member) = (world.json(), world.json());
    let silent = world.join_saying(Json, r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#);
    let id = world.subscribe(member, "a", json!({}));
    world.subscribe(silent, "a", json!({}));
    told(&mut world, &listener);
    let (first, second) = (world.session(member), world.session(silent));
    let args = json!([id, first, "moderation"]);
    assert_eq!(
        call(&mut world, judge, "remove_subscriber", args.clone()),
        Value::Null
    );
    let revoked = json!([35, 0, {"subscription": id, "reason": "moderation"}]);
    assert_eq!(world.one(member), revoked);
    assert_eq!(
        told(&mut world, &listener),
        [json!(["on_unsubscribe", [first, id]])]
    );
    world.publish(judge, "a", json!({}), &[]);
    assert_eq!(world.take(member), Vec::<Value>::new());
    assert_eq!(world.one(silent)[0], 36);
    // Who does not understand it is not told, but removed all the same.
    let done = call(&mut world, judge, "remove_subscriber", json!([id, second]));
    assert_eq!(done, Value::Null);
    assert_eq!(world.take(silent), Vec::<Value>::new());
    assert_eq!(
        told(&mut world, &listener),
        [
            json!(["on_unsubscribe", [second, id]]),
            json!(["on_delete", [second, id]])
        ]
    );
    assert_eq!(call(&mut world, judge, "remove_subscriber", args), NO_SUCH);
    let other = world.subscribe(judge, "b", json!({}));
    for (args, error) in [
        (json!([other, first]), "wamp.error.no_such_session"),
        (json!([other, 1]), "wamp.error.no_such_session"),
        (json!([other]), "wamp.error.invalid_argument"),
        (json!([other, first, 5]), "wamp.error.invalid_argument"),
    ] {
        assert_eq!(call(&mut world, judge, "remove_subscriber", args), error);
    }
    // The session itself goes on.
    let again = world.ask(member, json!([34, 9, id]));
    assert_eq!(head(&again, 3), json!([8, 34, 9]));
}
