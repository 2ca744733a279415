//! Testaments: what a session leaves to be published at its end (section "Testaments").

use crate::world::{Peer, World, args_of};
use router_core::limits::RealmLimits;
use serde_json::{Value, json};

/// The answer without its payload, or the error URI.
fn call(world: &mut World, peer: Peer, procedure: &str, args: Value, kwargs: Value) -> Value {
    let name = format!("wamp.session.{procedure}");
    let answer = world.ask(peer, json!([48, 77, {}, name, args, kwargs]));
    match answer[0].as_u64() {
        Some(50) => {
            assert_eq!(answer, json!([50, 77, {}]), "no result");
            Value::Null
        }
        _ => answer[4].clone(),
    }
}

fn leave(world: &mut World, peer: Peer, text: &str, kwargs: Value) {
    let args = json!(["will", [text], {}]);
    let left = call(world, peer, "add_testament", args, kwargs);
    assert_eq!(left, Value::Null);
}

#[test]
fn testaments_are_published_in_order_whatever_the_end() {
    let ends: [fn(&mut World, Peer, Peer); 3] = [
        |world, _, peer| world.lose(peer),
        |world, _, peer| {
            let goodbye = world.ask(peer, json!([6, {}, "wamp.close.close_realm"]));
            assert_eq!(goodbye[0], 6);
        },
        |world, killer, peer| {
            let id = world.session(peer);
            world.send(killer, json!([48, 77, {}, "wamp.session.kill", [id]]));
        },
    ];
    for end in ends {
        let mut world = World::new();
        let (heir, peer) = (world.json(), world.json());
        world.subscribe(heir, "will", json!({}));
        leave(&mut world, peer, "1", json!({}));
        leave(&mut world, peer, "2", json!({"scope": "destroyed"}));
        leave(&mut world, peer, "0", json!({"scope": "detached"}));
        leave(
            &mut world,
            peer,
            "3",
            json!({"scope": null, "publish_options": null}),
        );
        assert_eq!(world.take(heir), Vec::<Value>::new());
        end(&mut world, heir, peer);
        let expected = ["0", "1", "2", "3"].map(|text| json!([text]));
        let mut got = world.take(heir);
        got.retain(|message| message[0] == 36);
        assert_eq!(args_of(&got), expected);
        // Once only.
        world.lose(peer);
        assert_eq!(world.take(heir), Vec::<Value>::new());
    }
}

#[test]
fn what_is_taken_back_is_not_published() {
    let mut world = World::new();
    let (heir, peer) = (world.json(), world.json());
    world.subscribe(heir, "will", json!({}));
    leave(&mut world, peer, "destroyed", json!({}));
    leave(&mut world, peer, "detached", json!({"scope": "detached"}));
    let flushed = call(&mut world, peer, "flush_testaments", json!([]), json!({}));
    assert_eq!(flushed, Value::Null);
    leave(&mut world, peer, "again", json!({}));
    world.lose(peer);
    let texts = args_of(&world.take(heir));
    assert_eq!(texts, [json!(["detached"]), json!(["again"])]);
    let other = world.json();
    leave(&mut world, other, "x", json!({"scope": "detached"}));
    let kwargs = json!({"scope": "detached"});
    call(&mut world, other, "flush_testaments", json!([]), kwargs);
    world.lose(other);
    assert_eq!(world.take(heir), Vec::<Value>::new());
}

#[test]
fn publish_options_hold_for_testaments() {
    let mut world = World::new();
    let (heir, other, peer) = (world.join_as("joe"), world.json(), world.join_as("ann"));
    for subscriber in [heir, other] {
        world.subscribe(subscriber, "will", json!({}));
    }
    let options = json!({"eligible_authid": ["joe"], "disclose_me": true, "retain": true,
        "trace": true, "acknowledge": true, "bogus": 1});
    let id = world.session(peer);
    let kwargs = json!({ "publish_options": options });
    let args = json!(["will", [1, 2.0], {"k": "v"}]);
    assert_eq!(
        call(&mut world, peer, "add_testament", args, kwargs),
        Value::Null
    );
    world.lose(peer);
    let event = world.one(heir);
    assert_eq!(event[3]["publisher"], id);
    assert_eq!(
        (&event[4], &event[5]),
        (&json!([1, 2.0]), &json!({"k": "v"}))
    );
    assert_eq!(world.take(other), Vec::<Value>::new());
    // It was kept, for the same ones.
    assert_eq!(world.read(heir, "will")["value"], json!([1, 2.0]));
    let denied = world.ask(other, json!([48, 5, {}, "fox.kv.get", ["will"]]));
    assert_eq!(denied[4], "wamp.error.not_authorized");
    world.send(heir, json!([32, 6, {"after": 0, "snapshot": true}, "will"]));
    assert_eq!(world.take(heir)[1][4], json!([1, 2.0]));
}

#[test]
fn what_cannot_be_published_cannot_be_left() {
    let mut world = World::new();
    let guest = world.join_as("guest");
    let options = |options: Value| json!({ "publish_options": options });
    let (argument, none) = ("wamp.error.invalid_argument", json!({}));
    for (args, kwargs, error) in [
        (json!([]), none.clone(), argument),
        (json!([5, [], {}]), none.clone(), argument),
        (json!(["a", "x", {}]), none.clone(), argument),
        (json!(["a", [], []]), none.clone(), argument),
        (
            json!(["a..b", [], {}]),
            none.clone(),
            "wamp.error.invalid_uri",
        ),
        (
            json!(["wamp.x", [], {}]),
            none.clone(),
            "wamp.error.invalid_uri",
        ),
        (
            json!(["secret.x", [], {}]),
            none,
            "wamp.error.not_authorized",
        ),
        (json!(["a", [], {}]), json!({"scope": "x"}), argument),
        (json!(["a", [], {}]), json!({"scope": 1}), argument),
        (json!(["a", [], {}]), options(json!([])), argument),
        (
            json!(["a", [], {}]),
            options(json!({"exclude": "x"})),
            argument,
        ),
        (
            json!(["a", [], {}]),
            options(json!({"retain": true, "when": null})),
            argument,
        ),
        (
            json!(["a", [], {}]),
            options(json!({"retain": true, "will": 1})),
            argument,
        ),
    ] {
        let said = call(&mut world, guest, "add_testament", args.clone(), kwargs);
        assert_eq!(said, error, "{args}");
    }
    let said = call(
        &mut world,
        guest,
        "flush_testaments",
        json!([]),
        json!({"scope": "all"}),
    );
    assert_eq!(said, argument);
    let secretive = world.join_as("nobody");
    let kwargs = options(json!({"disclose_me": true}));
    let said = call(&mut world, secretive, "add_testament", json!(["a"]), kwargs);
    assert_eq!(said, "wamp.error.option_disallowed.disclose_me");
}

#[test]
fn testaments_are_bounded_in_number_and_bytes() {
    let mut world = World::with_limits(RealmLimits {
        testaments_per_session: 2,
        testament_bytes_per_session: 1_000,
        ..RealmLimits::default()
    });
    let (heir, peer) = (world.json(), world.json());
    world.subscribe(heir, "will", json!({}));
    let quota = "reynard.error.quota_exceeded";
    let large = json!(["will", ["x".repeat(1_000)], {}]);
    assert_eq!(
        call(&mut world, peer, "add_testament", large, json!({})),
        quota
    );
    leave(&mut world, peer, "1", json!({}));
    leave(&mut world, peer, "2", json!({"scope": "detached"}));
    let third = json!(["will", ["3"], {}]);
    assert_eq!(
        call(&mut world, peer, "add_testament", third, json!({})),
        quota
    );
    world.lose(peer);
    assert_eq!(world.take(heir).len(), 2);
}
