//! Realms that ask for strict URIs (section "URIs") and sequential request ids (section
//! "Identifiers").

use crate::world::{HELLO, Peer, World, head};
use protocols::wamp::machine::{Strictness, WampOptions};
use router_core::encoding::Encoding::Json;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

fn join(world: &mut World, realm: &'static str, strictness: Strictness) -> Peer {
    let options = WampOptions {
        strict: Arc::new(HashMap::from([(realm.into(), strictness)])),
        ..WampOptions::default()
    };
    let peer = world.connect_with(Json, options);
    world.send_text(peer, HELLO);
    assert_eq!(world.one(peer)[0], 2);
    peer
}

const URIS: Strictness = Strictness {
    uris: true,
    request_ids: false,
};
const IDS: Strictness = Strictness {
    uris: false,
    request_ids: true,
};

#[test]
fn strict_uris_are_of_lower_case_letters_digits_and_underscores() {
    let mut world = World::new();
    let peer = join(&mut world, "realm1", URIS);
    let ack = json!({"acknowledge": true});
    for uri in ["com.my_app.x1", "a", "0._"] {
        assert_eq!(world.ask(peer, json!([16, 1, ack, uri]))[0], 17, "{uri}");
        assert_eq!(world.ask(peer, json!([32, 2, {}, uri]))[0], 33, "{uri}");
        assert_eq!(world.ask(peer, json!([64, 3, {}, uri]))[0], 65, "{uri}");
    }
    for (uri, options) in [
        ("a..b", json!({"match": "wildcard"})),
        ("", json!({"match": "prefix"})),
        ("a.b_", json!({"match": "prefix"})),
        ("a.*.#", json!({})),
    ] {
        assert_eq!(
            world.ask(peer, json!([32, 4, options, uri]))[0],
            33,
            "{uri}"
        );
    }
    for uri in ["Com.app", "a-b", "a/b", "ä", "a%2Eb", "a b", "a..b", "a.*b"] {
        for (code, options) in [
            (16, &ack),
            (32, &json!({})),
            (64, &json!({})),
            (48, &json!({})),
        ] {
            let error = world.ask(peer, json!([code, 5, options, uri]));
            let expected = json!([8, code, 5, {}, "wamp.error.invalid_uri"]);
            assert_eq!(head(&error, 5), expected, "{uri}");
        }
    }
    let error = world.ask(peer, json!([32, 6, {"match": "prefix"}, "A"]));
    assert_eq!(error[4], "wamp.error.invalid_uri");
    // Without acknowledgement nothing is said; a wrong option is still a violation.
    world.send(peer, json!([16, 7, {}, "A"]));
    assert_eq!(world.take(peer), Vec::<Value>::new());
    world.send(peer, json!([16, 8, {"acknowledge": 1}, "A"]));
    assert_eq!(world.one(peer)[2], "wamp.error.protocol_violation");
    // Another realm is as it was.
    let other = join(&mut world, "realm2", URIS);
    world.subscribe(other, "A-b", json!({}));
}

#[test]
fn strict_request_ids_count_over_all_kinds_of_requests() {
    let mut world = World::new();
    let peer = join(&mut world, "realm1", IDS);
    let ack = json!({"acknowledge": true});
    let subscription = world.ask(peer, json!([32, 1, {}, "a"]))[2].clone();
    let registration = world.ask(peer, json!([64, 2, {}, "p"]))[2].clone();
    assert_eq!(world.ask(peer, json!([16, 3, ack, "b"]))[0], 17);
    // A publish that is not answered counts, and so does a request that fails.
    world.send(peer, json!([16, 4, {}, "b"]));
    assert_eq!(world.ask(peer, json!([32, 5, {}, "a..b"]))[0], 8);
    assert_eq!(
        world.ask(peer, json!([48, 6, {}, "wamp.session.count"]))[0],
        50
    );
    assert_eq!(world.ask(peer, json!([34, 7, subscription]))[0], 35);
    assert_eq!(world.ask(peer, json!([66, 8, registration]))[0], 67);
    // CANCEL names a call, and a call may go on under its id.
    world.send(peer, json!([49, 6, {}]));
    assert_eq!(
        world.ask(peer, json!([48, 6, {}, "wamp.session.count"]))[0],
        50
    );
    assert_eq!(
        world.ask(peer, json!([48, 9, {}, "wamp.session.count"]))[0],
        50
    );
    world.send(peer, json!([16, 11, ack, "b"]));
    let abort = world.one(peer);
    let text = "PUBLISH element 1 (Request|id): expected 10, got 11";
    assert_eq!(
        abort,
        json!([3, {"message": text}, "wamp.error.protocol_violation"])
    );
    assert_eq!(world.wires[peer].closed, Some((1002, "protocol violation")));
}

#[test]
fn every_request_out_of_turn_ends_the_session() {
    for (message, name) in [
        (json!([16, 3, {}, "a"]), "PUBLISH"),
        (json!([32, 3, {}, "a"]), "SUBSCRIBE"),
        (json!([34, 3, 1]), "UNSUBSCRIBE"),
        (json!([48, 3, {}, "a"]), "CALL"),
        (json!([64, 3, {}, "a"]), "REGISTER"),
        (json!([66, 3, 1]), "UNREGISTER"),
        (json!([16, 1, {}, "a"]), "PUBLISH"),
    ] {
        let mut world = World::new();
        let peer = join(&mut world, "realm1", IDS);
        world.send(peer, json!([16, 1, {}, "a"]));
        let got = message[1].clone();
        world.send(peer, message);
        let text = format!("{name} element 1 (Request|id): expected 2, got {got}");
        assert_eq!(world.one(peer)[1]["message"], text);
    }
}

#[test]
fn the_count_begins_anew_with_each_session_of_a_connection() {
    let mut world = World::new();
    let peer = join(&mut world, "realm1", IDS);
    world.send(peer, json!([16, 1, {}, "a"]));
    assert_eq!(
        world.ask(peer, json!([6, {}, "wamp.close.close_realm"]))[0],
        6
    );
    world.send_text(peer, HELLO);
    assert_eq!(world.one(peer)[0], 2);
    assert_eq!(world.ask(peer, json!([32, 1, {}, "a"]))[0], 33);
}
