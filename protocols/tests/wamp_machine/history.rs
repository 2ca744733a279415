//! Event history (section "Event History") and who is shown what of it.

use crate::world::{Peer, World, args_of};
use router_core::history::{HistoryRule, Retention};
use router_core::limits::RealmLimits;
use router_core::model::Pattern;
use serde_json::{Value, json};

/// The events of a subscription, or the error URI.
fn events(world: &mut World, peer: Peer, id: u64, kwargs: Value) -> Value {
    let name = "wamp.subscription.get_events";
    let answer = world.ask(peer, json!([48, 77, {}, name, [id], kwargs]));
    match answer[0].as_u64() {
        Some(50) => answer[3][0].clone(),
        _ => answer[4].clone(),
    }
}

/// What the events say.
fn said(world: &mut World, peer: Peer, id: u64, kwargs: Value) -> Vec<Value> {
    let found = events(world, peer, id, kwargs);
    let found = found.as_array().unwrap_or_else(|| panic!("{found}"));
    found.iter().map(|event| event["args"][0].clone()).collect()
}

fn remembering(pattern: &str, events_max: usize) -> World {
    let pattern = Pattern::from_slashes(pattern).unwrap();
    let keep = Retention {
        events: events_max,
        bytes: 64 << 20,
        age: None,
        durable: true,
    };
    let rule = HistoryRule { pattern, keep };
    World::with(RealmLimits::default(), vec![rule])
}

#[test]
fn a_remembered_event_is_told_as_it_was() {
    let mut world = World::new();
    let (publisher, late) = (world.join_as("joe"), world.json());
    world.pass(42);
    let options = json!({"trace": true, "disclose_me": true});
    let tail = [json!([1, "x"]), json!({"k": 2.0})];
    let first = world.publish(publisher, "log.a", options, &tail);
    let second = world.publish(publisher, "log.b", json!({"trace": true}), &[]);
    world.publish(publisher, "log.b", json!({}), &[json!(["not traced"])]);
    let id = world.subscribe(late, "log.#", json!({}));
    let details = json!({
        "topic": "log.a", "publisher": world.session(publisher), "publisher_authid": "joe",
        "publisher_authrole": "user",
    });
    let time = "2027-01-15T08:00:00.042Z";
    assert_eq!(
        events(&mut world, late, id, json!({})),
        json!([
            {"timestamp": time, "subscription": id, "publication": first, "details": details,
                "args": [1, "x"], "kwargs": {"k": 2.0}},
            {"timestamp": time, "subscription": id, "publication": second,
                "details": {"topic": "log.b"}},
        ])
    );
    // Those of one topic have no details.
    let id = world.subscribe(late, "log.b", json!({}));
    assert_eq!(
        events(&mut world, late, id, json!({}))[0]["details"],
        json!({})
    );
}

#[test]
fn the_first_event_after_what_is_forgotten_says_so() {
    let mut world = remembering("log/#", 2);
    let (publisher, late) = (world.json(), world.json());
    for i in 0..4 {
        world.publish(publisher, "log.a", json!({}), &[json!([i])]);
    }
    world.send(late, json!([32, 1, {"after": 1}, "log.a"]));
    let got = world.take(late);
    assert_eq!(args_of(&got[1..]), [json!([2]), json!([3])]);
    assert_eq!(
        [&got[1][3], &got[2][3]],
        [&json!({"x_gap": true}), &json!({})]
    );
}

#[test]
fn every_filter_of_the_specification_holds_and_all_at_once() {
    let mut world = World::new();
    let peer = world.json();
    let id = world.subscribe(peer, "log.", json!({"match": "prefix"}));
    let mut ids = Vec::new();
    for i in 0..6 {
        let topic = if i % 2 == 0 { "log.even" } else { "log.odd" };
        ids.push(world.publish(peer, topic, json!({"trace": true}), &[json!([i])]));
        world.pass(1_000);
    }
    let time = |secs: u64| format!("2027-01-15T08:00:0{secs}Z");
    for (kwargs, found) in [
        (json!({}), vec![0, 1, 2, 3, 4, 5]),
        (json!({"reverse": true}), vec![5, 4, 3, 2, 1, 0]),
        (json!({"reverse": false, "limit": 2}), vec![0, 1]),
        (json!({"reverse": true, "limit": 2}), vec![5, 4]),
        (json!({"from_time": time(2)}), vec![2, 3, 4, 5]),
        (json!({"after_time": time(2)}), vec![3, 4, 5]),
        (json!({"before_time": time(2)}), vec![0, 1]),
        (json!({"until_time": time(2)}), vec![0, 1, 2]),
        (
            json!({"from_time": "2027-01-15T09:00:02.5+01:00"}),
            vec![3, 4, 5],
        ),
        (json!({"topic": "log.odd"}), vec![1, 3, 5]),
        (json!({"topic": "elsewhere"}), vec![]),
        (json!({"from_publication": ids[2]}), vec![2, 3, 4, 5]),
        (json!({"after_publication": ids[2]}), vec![3, 4, 5]),
        (json!({"before_publication": ids[2]}), vec![0, 1]),
        (json!({"until_publication": ids[2]}), vec![0, 1, 2]),
        (json!({"after_publication": ids[5]}), vec![]),
        (
            json!({"from_publication": ids[4], "until_publication": ids[1]}),
            vec![],
        ),
        (
            json!({"after_publication": ids[0], "until_time": time(4), "topic": "log.even",
                "reverse": true, "limit": 1}),
            vec![4],
        ),
        (
            json!({"limit": null, "topic": null, "from_time": null}),
            vec![0, 1, 2, 3, 4, 5],
        ),
    ] {
        assert_eq!(
            said(&mut world, peer, id, kwargs.clone()),
            found,
            "{kwargs}"
        );
    }
    for wrong in [
        json!({"reverse": 1}),
        json!({"limit": 0}),
        json!({"limit": "2"}),
        json!({"from_time": 5}),
        json!({"after_time": "yesterday"}),
        json!({"before_time": "2027-01-15"}),
        json!({"until_time": []}),
        json!({"topic": "a..b"}),
        json!({"topic": 5}),
        json!({"from_publication": 0}),
        json!({"after_publication": "7"}),
        json!({"before_publication": -1}),
        json!({"until_publication": 1.5}),
    ] {
        let error = events(&mut world, peer, id, wrong.clone());
        assert_eq!(error, "wamp.error.invalid_argument", "{wrong}");
    }
}

#[test]
fn a_page_is_bounded_and_can_be_gone_on_from() {
    let mut world = remembering("log", 3_000);
    let peer = world.json();
    let id = world.subscribe(peer, "log", json!({}));
    for i in 0..2_500 {
        world.send(peer, json!([16, 1, {}, "log", [i]]));
    }
    let (mut after, mut sizes) = (0, Vec::new());
    loop {
        let kwargs = match after {
            0 => json!({"limit": 100_000}),
            _ => json!({"after_publication": after}),
        };
        let page = events(&mut world, peer, id, kwargs);
        let page = page.as_array().unwrap();
        sizes.push(page.len());
        let Some(last) = page.last() else { break };
        after = last["publication"].as_u64().unwrap();
    }
    assert_eq!(sizes, [1_000, 1_000, 500, 0]);
    // Large events end a page earlier.
    let large = "x".repeat(600 << 10);
    for _ in 0..3 {
        world.send(peer, json!([16, 1, {}, "log", [large]]));
    }
    let kwargs = json!({"after_publication": after});
    assert_eq!(
        events(&mut world, peer, id, kwargs)
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_rule_of_the_realm_remembers_without_being_asked() {
    let mut world = remembering("log/#", 3);
    let (publisher, peer) = (world.json(), world.json());
    for i in 0..5 {
        world.publish(publisher, "log.x", json!({}), &[json!([i])]);
        world.publish(publisher, "other", json!({}), &[json!([i])]);
    }
    world.publish(publisher, "other", json!({"trace": true}), &[json!([9])]);
    let (log, all) = (
        world.subscribe(peer, "log.x", json!({})),
        world.subscribe(peer, "", json!({"match": "prefix"})),
    );
    assert_eq!(said(&mut world, peer, log, json!({})), [2, 3, 4]);
    assert_eq!(said(&mut world, peer, all, json!({})), [2, 3, 4, 9]);
    // A late subscriber has it too.
    world.send(
        peer,
        json!([32, 5, {"after": 0, "snapshot": true}, "log.x"]),
    );
    let got = world.take(peer);
    assert_eq!(args_of(&got[1..4]), [json!([2]), json!([3]), json!([4])]);
}

#[test]
fn black_and_white_lists_hold_for_the_history_too() {
    let mut world = remembering("log", 10);
    let publisher = world.json();
    for (i, options) in [
        json!({"eligible_authid": ["joe"]}),
        json!({"eligible_authrole": ["user"]}),
        json!({"exclude_authid": ["joe"]}),
        json!({"exclude_authrole": ["user"]}),
        // Session ids mean nothing later, so these are not kept for anybody.
        json!({"eligible": [1]}),
        json!({"exclude": []}),
    ]
    .into_iter()
    .enumerate()
    {
        world.publish(publisher, "log", options, &[json!([i])]);
    }
    for (name, shown) in [
        ("joe", vec![0, 1]),
        ("ann", vec![1, 2]),
        ("guest", vec![2, 3]),
    ] {
        let peer = world.join_as(name);
        let id = world.subscribe(peer, "log", json!({}));
        assert_eq!(said(&mut world, peer, id, json!({})), shown, "{name}");
        world.send(peer, json!([32, 5, {"after": 0, "snapshot": true}, "log"]));
        let got = world.take(peer);
        let replayed: Vec<_> = args_of(&got[1..got.len() - 1]);
        let expected: Vec<_> = shown.iter().map(|i| json!([i])).collect();
        assert_eq!(replayed, expected, "{name}");
    }
}

#[test]
fn whoever_may_not_subscribe_may_not_read_the_history() {
    let mut world = World::new();
    let (owner, guest) = (world.json(), world.join_as("guest"));
    world.publish(owner, "secret.x", json!({"trace": true}), &[json!([1])]);
    world.publish(owner, "open.x", json!({"trace": true}), &[json!([2])]);
    let secret = world.subscribe(owner, "secret.x", json!({}));
    let all = world.subscribe(owner, "", json!({"match": "prefix"}));
    assert_eq!(
        events(&mut world, guest, secret, json!({})),
        "wamp.error.not_authorized"
    );
    assert_eq!(said(&mut world, guest, all, json!({})), [2]);
    assert_eq!(said(&mut world, owner, all, json!({})), [1, 2]);
}

#[test]
fn a_filter_of_a_subscription_counts_for_its_history() {
    let mut world = World::new();
    let peer = world.json();
    let id = world.subscribe(peer, "log", json!({"filter": 2}));
    for i in [1, 2, 3] {
        world.publish(peer, "log", json!({"trace": true}), &[json!([i])]);
    }
    assert_eq!(said(&mut world, peer, id, json!({})), [2]);
}
