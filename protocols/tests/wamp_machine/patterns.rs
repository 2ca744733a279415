//! Which events a subscription gets: patterns, filters, history, and who may see what.

use crate::world::{World, args_of, head};
use serde_json::{Value, json};

const INVALID_URI: &str = "wamp.error.invalid_uri";

fn nothing() -> Vec<Value> {
    Vec::new()
}

#[test]
fn every_matching_subscription_gets_its_copy_with_the_topic() {
    let mut world = World::new();
    let (publisher, subscriber) = (world.json(), world.json());
    let exact = world.subscribe(subscriber, "com.myapp.x", json!({"match": "exact"}));
    let prefix = world.subscribe(subscriber, "com.my", json!({"match": "prefix"}));
    let wildcard = world.subscribe(subscriber, "com..x", json!({"match": "wildcard"}));
    let levels = world.subscribe(subscriber, "com.*.x", json!({}));
    let rest = world.subscribe(subscriber, "com.#", json!({}));
    let publication = world.publish(publisher, "com.myapp.x", json!({}), &[]);
    let mut events = world.take(subscriber);
    events.sort_by_key(|event| event[1].as_u64());
    let expected: Vec<Value> = [exact, prefix, wildcard, levels, rest]
        .into_iter()
        .map(|id| match id == exact {
            true => json!([36, id, publication, {}]),
            false => json!([36, id, publication, {"topic": "com.myapp.x"}]),
        })
        .collect();
    assert_eq!(events, expected);
}

#[test]
fn patterns_match_by_their_own_rules() {
    let cases = [
        ("com.app", "prefix", "com.application.x", true),
        ("com.app", "prefix", "com.ap", false),
        ("", "prefix", "anything.at.all", true),
        ("com.", "prefix", "com.x", true),
        ("com.", "prefix", "com", false),
        ("a..c", "wildcard", "a.b.c", true),
        ("a..c", "wildcard", "a.b.b.c", false),
        ("..", "wildcard", "a.b.c", true),
        ("a.#", "", "a", true),
        ("a.#", "", "a.b.c", true),
        ("a.#", "", "ab", false),
        ("a.*", "", "a.b", true),
        ("a.*", "", "a", false),
        ("a.*", "", "a.b.c", false),
        ("a*", "", "a*", true),
        ("a*", "", "ab", false),
        ("#", "", "a.b", true),
        ("#", "", "$SYS.x", false),
    ];
    for (pattern, matching, topic, fits) in cases {
        let mut world = World::new();
        let (publisher, subscriber) = (world.json(), world.json());
        let options = match matching {
            "" => json!({}),
            _ => json!({"match": matching}),
        };
        world.subscribe(subscriber, pattern, options);
        world.send(publisher, json!([16, 1, {}, topic]));
        assert_eq!(
            world.take(subscriber).len(),
            usize::from(fits),
            "{pattern} {topic}"
        );
    }
}

#[test]
fn a_pattern_that_makes_no_sense_is_refused() {
    let mut world = World::new();
    let peer = world.json();
    for (topic, options) in [
        ("a.#.b", json!({})),
        ("a.b#", json!({})),
        ("a..#", json!({})),
        ("a..b", json!({"match": "exact"})),
        ("a.*", json!({"match": "exact"})),
        ("a.#", json!({"match": "prefix"})),
        ("a.#", json!({"match": "wildcard"})),
    ] {
        let error = world.ask(peer, json!([32, 1, options, topic]));
        assert_eq!(error[4], INVALID_URI, "{topic}");
    }
}

#[test]
fn meta_topics_must_be_named() {
    let mut world = World::new();
    let peer = world.json();
    world.subscribe(peer, "#", json!({}));
    world.subscribe(peer, "", json!({"match": "prefix"}));
    world.json();
    assert_eq!(world.take(peer), nothing());
}

#[test]
fn a_filter_looks_at_the_body_value_or_at_keyword_arguments() {
    for (filter, args, kwargs, fits) in [
        (
            json!({"type": "post"}),
            json!([{"type": "post", "id": 1}]),
            json!({}),
            true,
        ),
        (
            json!({"type": "post"}),
            json!([{"type": "get"}]),
            json!({}),
            false,
        ),
        (json!({"type": "post"}), json!(["post"]), json!({}), false),
        (
            json!({"type": "post"}),
            json!([{"type": "post"}, 2]),
            json!({}),
            true,
        ),
        (
            json!({"type": "post"}),
            json!([]),
            json!({"type": "post"}),
            false,
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"a": {"b": 1.0, "c": 2}}]),
            json!({}),
            true,
        ),
        (json!({"a": 1}), json!([{"a": "1"}]), json!({}), false),
        (json!({"a": null}), json!([{}]), json!({}), true),
        (
            json!({"kwargs": {"a": 1}}),
            json!([]),
            json!({"a": 1, "b": 2}),
            true,
        ),
        (
            json!({"kwargs": {"a": 1}}),
            json!([{"kwargs": {"a": 1}}]),
            json!({}),
            false,
        ),
        (json!("on"), json!(["on"]), json!({}), true),
        (json!(5), json!(["5"]), json!({}), false),
        (json!([1, 2]), json!([1, 2]), json!({}), true),
    ] {
        let mut world = World::new();
        let (publisher, subscriber) = (world.json(), world.json());
        world.subscribe(subscriber, "a", json!({"filter": filter}));
        world.publish(publisher, "a", json!({}), &[args.clone(), kwargs.clone()]);
        let got = world.take(subscriber).len();
        assert_eq!(got, usize::from(fits), "{filter} {args} {kwargs}");
    }
}

#[test]
fn traced_events_can_be_had_later() {
    let mut world = World::new();
    let (publisher, late) = (world.join_as("joe"), world.json());
    let mut ids = Vec::new();
    for i in 0..12 {
        let tail = [json!([i]), json!({"k": i})];
        ids.push(world.publish(publisher, "log.a", json!({"trace": true}), &tail));
    }
    world.publish(publisher, "log.a", json!({}), &[json!(["untraced"])]);
    assert!(ids.is_sorted(), "publications grow");
    // As a number, as a decimal string, and across the boundary from one digit to two.
    for after in [json!(ids[8]), json!(ids[8].to_string())] {
        world.send(late, json!([32, 1, {"after": after}, "log.#"]));
        let got = world.take(late);
        assert_eq!(got[0][0], 33, "SUBSCRIBED comes first");
        assert_eq!(args_of(&got[1..]), [json!([9]), json!([10]), json!([11])]);
        assert_eq!(got[1][2], ids[9], "under its own publication id");
        assert_eq!(got[1][3], json!({"topic": "log.a"}));
        assert_eq!(got[1][5], json!({"k": 9}), "with its keyword arguments");
        world.ask(late, json!([34, 2, got[0][2]]));
    }
    world.send(
        late,
        json!([32, 3, {"after": 0, "snapshot": true}, "log.a"]),
    );
    let got = world.take(late);
    assert_eq!(got.len(), 1 + 12 + 1);
    assert_eq!(head(&got[13], 2), json!([35, 0]));
}

#[test]
fn restricted_events_are_not_kept_in_the_history() {
    let mut world = World::new();
    let (publisher, late) = (world.json(), world.json());
    world.publish(publisher, "a", json!({"trace": true, "eligible": []}), &[]);
    world.send(late, json!([32, 1, {"after": 0}, "a"]));
    assert_eq!(world.take(late).len(), 1);
}

#[test]
fn a_role_without_the_right_is_told() {
    let mut world = World::new();
    let (guest, other) = (world.join_as("guest"), world.json());
    let not_authorized = "wamp.error.not_authorized";
    assert_eq!(
        world.ask(guest, json!([32, 1, {}, "secret.x"]))[4],
        not_authorized
    );
    assert_eq!(
        world.ask(guest, json!([64, 1, {}, "secret.x"]))[4],
        not_authorized
    );
    assert_eq!(
        world.ask(guest, json!([48, 1, {}, "secret.x"]))[4],
        not_authorized
    );
    assert_eq!(
        world.ask(guest, json!([16, 1, {"acknowledge": true}, "secret.x"]))[4],
        not_authorized
    );
    world.send(guest, json!([16, 1, {}, "secret.x"]));
    // What a wider pattern would reveal is withheld, live and replayed.
    world.publish(other, "secret.kept", json!({"retain": true}), &[json!([1])]);
    world.send(guest, json!([32, 2, {"get_retained": true}, "#"]));
    assert_eq!(world.take(guest).len(), 1);
    world.publish(other, "secret.x", json!({}), &[]);
    world.publish(other, "open.x", json!({}), &[]);
    assert_eq!(world.one(guest)[3]["topic"], "open.x");
    let error = world.ask(other, json!([16, 1, {"acknowledge": true}, "$SYS.x"]));
    assert_eq!(error[4], not_authorized);
}
