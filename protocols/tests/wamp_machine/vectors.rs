//! Single messages: every element and every standard option of what publishers and subscribers
//! send, with values that are right and values that are not (sections "Messages", "IDs", "URIs" and
//! the options of each feature).

use crate::world::{HELLO, Peer, World, head};
use router_core::encoding::Encoding::{Json, MsgPack};
use serde_json::{Value, json};

/// What comes of a message.
#[derive(Clone, Copy, Debug)]
enum Outcome<'a> {
    /// The answer of this type; 0: none.
    Answer(u64),
    /// ERROR, or ABORT of what opens a session, with this URI below `wamp.error.`.
    Error(&'a str),
    /// ABORT `wamp.error.protocol_violation`, in words that begin so.
    Violation(&'a str),
}

use Outcome::{Answer, Error, Violation};

/// Sends a message in a session of its own, in JSON and in MessagePack, and checks what comes.
fn assert_outcome(message: &Value, outcome: Outcome<'_>, opens: bool) {
    for encoding in [Json, MsgPack] {
        let mut world = World::new();
        let peer = world.connect(encoding);
        if !opens {
            world.send_text(peer, HELLO);
            assert_eq!(world.one(peer)[0], 2);
        }
        world.send(peer, message.clone());
        check(&mut world, peer, message, outcome, opens);
    }
}

fn check(world: &mut World, peer: Peer, message: &Value, outcome: Outcome<'_>, opens: bool) {
    let got = world.take(peer);
    let case = format!("{message}: {got:?}");
    match outcome {
        Answer(0) => assert!(got.is_empty(), "{case}"),
        Answer(code) => {
            assert_eq!(got[0][0], code, "{case}");
            if code > 8 {
                assert_eq!(got[0][1], message[1], "the request id: {case}");
            }
        }
        Error(uri) => {
            let uri = format!("wamp.error.{uri}");
            if opens {
                assert_eq!((&got[0][0], &got[0][2]), (&json!(3), &json!(uri)), "{case}");
            } else {
                let expected = json!([8, message[0], message[1], {}, uri]);
                assert_eq!(head(&got[0], 5), expected, "{case}");
                assert_eq!(world.wires[peer].closed, None, "{case}");
            }
        }
        Violation(text) => {
            assert_eq!(got.len(), 1, "{case}");
            assert_eq!(got[0][0], 3, "{case}");
            assert_eq!(got[0][2], "wamp.error.protocol_violation", "{case}");
            let said = got[0][1]["message"].as_str().unwrap();
            assert!(said.starts_with(text), "{said:?}, not {text:?}: {case}");
            let closed = world.wires[peer].closed;
            assert_eq!(closed, Some((1002, "protocol violation")), "{case}");
        }
    }
}

/// Ids that are none, as the element of a message that is named so.
fn wrong_ids() -> [Value; 9] {
    [
        json!(0),
        json!(-1),
        json!(9_007_199_254_740_993_u64),
        json!(1.5),
        json!("1"),
        json!(null),
        json!(true),
        json!([1]),
        json!({}),
    ]
}

fn not_dicts() -> [Value; 5] {
    [json!(null), json!([]), json!("x"), json!(1), json!(false)]
}

fn not_strings() -> [Value; 5] {
    [json!(null), json!([]), json!({}), json!(1), json!(true)]
}

const NO_TOPICS: [&str; 8] = ["", "a..b", ".a", "a.", "a b", "a#.b", "a.b\t", "a\u{0}b"];

/// Every option with values that are right and values that are not.
fn assert_options(
    message: &dyn Fn(Value) -> Value,
    name: &str,
    good: &[(&str, Vec<Value>)],
    bad: &[(&str, Vec<Value>)],
    answer: u64,
) {
    for (key, values) in good {
        for value in values {
            let message = message(json!({ *key: value }));
            assert_outcome(&message, Answer(answer), false);
        }
    }
    for (key, values) in bad {
        for value in values {
            let message = message(json!({ *key: value }));
            let text = format!("{name} options: {key}: ");
            assert_outcome(&message, Violation(&text), false);
        }
    }
}

fn not_booleans() -> Vec<Value> {
    vec![json!(1), json!(0), json!("true"), json!([]), json!({})]
}

fn booleans() -> Vec<Value> {
    vec![json!(true), json!(false)]
}

#[test]
fn publish() {
    let ack = || json!({"acknowledge": true});
    for id in [json!(1), json!(9_007_199_254_740_992_u64)] {
        assert_outcome(&json!([16, id, ack(), "a.b"]), Answer(17), false);
    }
    for id in wrong_ids() {
        let text = "PUBLISH element 1 (Request|id)";
        assert_outcome(&json!([16, id, ack(), "a.b"]), Violation(text), false);
    }
    for options in not_dicts() {
        let text = "PUBLISH element 2 (Options|dict)";
        assert_outcome(&json!([16, 1, options, "a.b"]), Violation(text), false);
    }
    for topic in not_strings() {
        let text = "PUBLISH element 3 (Topic|uri)";
        assert_outcome(&json!([16, 1, ack(), topic]), Violation(text), false);
    }
    for topic in NO_TOPICS.into_iter().chain(["wamp", "wamp.a", "a.*"]) {
        assert_outcome(&json!([16, 1, ack(), topic]), Error("invalid_uri"), false);
        assert_outcome(&json!([16, 1, {}, topic]), Answer(0), false);
    }
    for args in [json!([]), json!([1, "x", null, {"a": []}]), json!(null)] {
        assert_outcome(&json!([16, 1, ack(), "a", args]), Answer(17), false);
        for kwargs in [json!({}), json!({"k": 1}), json!(null)] {
            assert_outcome(&json!([16, 1, ack(), "a", args, kwargs]), Answer(17), false);
        }
    }
    for args in [json!({}), json!(1), json!(true)] {
        let text = "PUBLISH element 4 (Arguments|list)";
        assert_outcome(&json!([16, 1, ack(), "a", args]), Violation(text), false);
    }
    for kwargs in [json!([]), json!(1), json!("x")] {
        let text = "PUBLISH element 5 (ArgumentsKw|dict)";
        assert_outcome(
            &json!([16, 1, ack(), "a", [], kwargs]),
            Violation(text),
            false,
        );
    }
    for message in [json!([16]), json!([16, 1]), json!([16, 1, {}])] {
        assert_outcome(&message, Violation("PUBLISH"), false);
    }
    assert_outcome(
        &json!([16, 1, {}, "a", [], {}, 1]),
        Violation("PUBLISH"),
        false,
    );
}

#[test]
fn options_of_publish() {
    let ids = || {
        vec![
            json!([]),
            json!([1, 9_007_199_254_740_992_u64]),
            json!(null),
        ]
    };
    let names = || vec![json!([]), json!(["joe", ""]), json!(null)];
    let not_ids = || {
        vec![
            json!(1),
            json!("x"),
            json!(["x"]),
            json!([0]),
            json!([-1]),
            json!([null]),
        ]
    };
    let not_names = || vec![json!("joe"), json!(1), json!([1]), json!([null]), json!({})];
    let flags = ["exclude_me", "disclose_me", "retain"];
    let mut good = vec![("unknown", vec![json!(1), json!({})])];
    let mut bad = Vec::new();
    for flag in flags {
        good.push((flag, [booleans(), vec![json!(null)]].concat()));
        bad.push((flag, not_booleans()));
    }
    for list in ["exclude", "eligible"] {
        good.push((list, ids()));
        bad.push((list, not_ids()));
    }
    for list in [
        "exclude_authid",
        "exclude_authrole",
        "eligible_authid",
        "eligible_authrole",
    ] {
        good.push((list, names()));
        bad.push((list, not_names()));
    }
    let acknowledged = |mut options: Value| {
        options["acknowledge"] = json!(true);
        json!([16, 1, options, "a.b"])
    };
    assert_options(&acknowledged, "PUBLISH", &good, &bad, 17);
    let silent = |options: Value| json!([16, 1, options, "a.b"]);
    let good = [("acknowledge", vec![json!(false), json!(null)])];
    let bad = [("acknowledge", not_booleans())];
    assert_options(&silent, "PUBLISH", &good, &bad, 0);
}

#[test]
fn subscribe() {
    for id in [json!(1), json!(9_007_199_254_740_992_u64)] {
        assert_outcome(&json!([32, id, {}, "a.b"]), Answer(33), false);
    }
    for id in wrong_ids() {
        let text = "SUBSCRIBE element 1 (Request|id)";
        assert_outcome(&json!([32, id, {}, "a.b"]), Violation(text), false);
    }
    for options in not_dicts() {
        let text = "SUBSCRIBE element 2 (Options|dict)";
        assert_outcome(&json!([32, 1, options, "a.b"]), Violation(text), false);
    }
    for topic in not_strings() {
        let text = "SUBSCRIBE element 3 (Topic|uri)";
        assert_outcome(&json!([32, 1, {}, topic]), Violation(text), false);
    }
    for topic in NO_TOPICS {
        assert_outcome(&json!([32, 1, {}, topic]), Error("invalid_uri"), false);
    }
    for topic in [
        "a",
        "a.b",
        "a-b.C",
        "wamp.session.on_join",
        "a.*",
        "a.#",
        "é",
    ] {
        assert_outcome(&json!([32, 1, {}, topic]), Answer(33), false);
    }
    for message in [json!([32]), json!([32, 1, {}]), json!([32, 1, {}, "a", []])] {
        assert_outcome(&message, Violation("SUBSCRIBE"), false);
    }
}

#[test]
fn options_of_subscribe() {
    let message = |options: Value| json!([32, 1, options, "a.b"]);
    let policies = ["exact", "prefix", "wildcard"].map(|policy| json!(policy));
    let good = [
        ("match", [policies.to_vec(), vec![json!(null)]].concat()),
        ("get_retained", [booleans(), vec![json!(null)]].concat()),
        ("unknown", vec![json!(1)]),
        ("nkey", vec![json!("ignored"), json!(1)]),
    ];
    let bad = [
        (
            "match",
            vec![json!(1), json!("Exact"), json!(""), json!(["exact"])],
        ),
        ("get_retained", not_booleans()),
    ];
    assert_options(&message, "SUBSCRIBE", &good, &bad, 33);
    for (policy, topic, outcome) in [
        ("exact", "a..b", Error("invalid_uri")),
        ("exact", "a.*", Error("invalid_uri")),
        ("prefix", "", Answer(33)),
        ("prefix", "a", Answer(33)),
        ("prefix", "a.", Answer(33)),
        ("prefix", "a..b", Error("invalid_uri")),
        ("prefix", "a b", Error("invalid_uri")),
        ("wildcard", "a..b", Answer(33)),
        ("wildcard", ".", Answer(33)),
        ("wildcard", "a", Answer(33)),
        ("wildcard", "a.#", Error("invalid_uri")),
        ("wildcard", "a. .b", Error("invalid_uri")),
    ] {
        assert_outcome(&json!([32, 1, {"match": policy}, topic]), outcome, false);
    }
}

#[test]
fn unsubscribe() {
    for subscription in [json!(1), json!(9_007_199_254_740_992_u64)] {
        let message = json!([34, 1, subscription]);
        assert_outcome(&message, Error("no_such_subscription"), false);
    }
    for id in wrong_ids() {
        let text = "UNSUBSCRIBE element 1 (Request|id)";
        assert_outcome(&json!([34, id, 1]), Violation(text), false);
        let text = "UNSUBSCRIBE element 2 (SUBSCRIBED.Subscription|id)";
        assert_outcome(&json!([34, 1, id]), Violation(text), false);
    }
    for message in [json!([34]), json!([34, 1]), json!([34, 1, 1, {}])] {
        assert_outcome(&message, Violation("UNSUBSCRIBE"), false);
    }
}

#[test]
fn hello() {
    let roles = |roles: Value| json!([1, "realm1", { "roles": roles }]);
    for role in ["publisher", "subscriber", "caller", "callee"] {
        for features in [
            json!({}),
            json!({"features": {}}),
            json!({"features": {"x": 1}}),
        ] {
            assert_outcome(&roles(json!({ role: features })), Answer(2), true);
        }
        for wrong in [json!(null), json!([]), json!(true), json!({"features": []})] {
            let text = "HELLO element 2 (Details|dict): roles.";
            assert_outcome(&roles(json!({ role: wrong })), Violation(text), true);
        }
    }
    for wrong in [
        json!({}),
        json!(null),
        json!([]),
        json!({"broker": {}}),
        json!("x"),
    ] {
        let text = "HELLO element 2 (Details|dict): roles: ";
        assert_outcome(&roles(wrong), Violation(text), true);
    }
    let with = |key: &str, value: Value| {
        let mut details = json!({"roles": {"caller": {}}});
        details[key] = value;
        json!([1, "realm1", details])
    };
    for (key, good, bad) in [
        (
            "agent",
            vec![json!("x"), json!(null)],
            vec![json!(1), json!({})],
        ),
        (
            "authid",
            vec![json!("joe"), json!(null)],
            vec![json!(1), json!([])],
        ),
        (
            "authmethods",
            vec![json!([]), json!(["anonymous"]), json!(null)],
            vec![json!("ticket"), json!([1]), json!({})],
        ),
        (
            "authextra",
            vec![json!({}), json!(null)],
            vec![json!([]), json!("x")],
        ),
        ("unknown", vec![json!(1), json!([])], vec![]),
    ] {
        for value in good {
            assert_outcome(&with(key, value), Answer(2), true);
        }
        for value in bad {
            let text = "HELLO element 2 (Details|dict): ";
            assert_outcome(&with(key, value), Violation(text), true);
        }
    }
    let realm = |realm: Value| json!([1, realm, {"roles": {"caller": {}}}]);
    for wrong in not_strings() {
        assert_outcome(
            &realm(wrong),
            Violation("HELLO element 1 (Realm|uri)"),
            true,
        );
    }
    for wrong in ["", "a..b", "a b", "a#"] {
        assert_outcome(&realm(json!(wrong)), Error("invalid_uri"), true);
    }
    assert_outcome(&realm(json!("no.such.realm")), Error("no_such_realm"), true);
    for wrong in not_dicts() {
        let text = "HELLO element 2 (Details|dict)";
        assert_outcome(&json!([1, "realm1", wrong]), Violation(text), true);
    }
    for message in [
        json!([1]),
        json!([1, "realm1"]),
        json!([1, "realm1", {}, 1]),
    ] {
        assert_outcome(&message, Violation("HELLO"), true);
    }
}

#[test]
fn goodbye() {
    for reason in [
        "wamp.close.close_realm",
        "wamp.close.normal",
        "com.myapp.bye",
    ] {
        for details in [json!({}), json!({"message": "bye"}), json!({"unknown": 1})] {
            assert_outcome(&json!([6, details, reason]), Answer(6), false);
        }
    }
    for details in not_dicts() {
        let text = "GOODBYE element 1 (Details|dict)";
        assert_outcome(&json!([6, details, "a.b"]), Violation(text), false);
    }
    for reason in not_strings() {
        let text = "GOODBYE element 2 (Reason|uri)";
        assert_outcome(&json!([6, {}, reason]), Violation(text), false);
    }
    for message in [json!([6]), json!([6, {}]), json!([6, {}, "a.b", 1])] {
        assert_outcome(&message, Violation("GOODBYE"), false);
    }
}
