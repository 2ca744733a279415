//! Who may do what.

use crate::common::*;
use crate::lab::*;
use router_core::model::MatchKind;
use serde_json::json;

#[test]
fn the_rule_of_the_procedure_and_that_of_the_key_both_count() {
    let mut l = Lab::new();
    let user = role(
        "user",
        &["call fox/lock/#", "publish own/#", "subscribe seen/#"],
        &["call fox/lock/break"],
    );
    let a = l.join(named("user", user));
    let denied = |key: &str| vec![format!("failed 1 NotAuthorized {{\"key\":\"{key}\"}}")];
    for name in ["acquire", "try_acquire"] {
        let answer = l.lock(&a, 1, name, json!(["seen.k"]));
        assert_eq!(answer, denied("seen.k"), "{name}");
        let answer = l.lock(&a, 1, name, json!(["own.k", {"reentrant": true}]));
        assert!(answer[0].starts_with("result 1"), "{name} {answer:?}");
    }
    assert_eq!(l.lock(&a, 1, "inspect", json!(["own.k"])), denied("own.k"));
    assert_eq!(l.lock(&a, 1, "inspect", json!(["seen.k"])).len(), 1);
    assert_eq!(
        l.lock(&a, 1, "break", json!(["own.k"])),
        ["failed 1 NotAuthorized"]
    );
    let none = l.lock(&a, 1, "list", json!([""]));
    assert_eq!(none, ["result 1 [{\"locks\":[],\"more\":false}]"]);
    let b = l.peer();
    l.lock(&b, 1, "acquire", json!(["seen.k"]));
    let one = l.lock(&a, 1, "list", json!([""]));
    assert!(one[0].contains("\"key\":\"seen.k\""), "{one:?}");
}

#[test]
fn the_routers_own_topics_are_no_keys() {
    let mut l = Lab::new();
    let a = l.peer();
    for key in [
        "wamp.x",
        "$SYS.x",
        "fox.lock.on_lost",
        "fox.lock.on_anything",
    ] {
        let answer = l.lock(&a, 1, "acquire", json!([key]));
        assert_eq!(
            answer,
            [format!("failed 1 NotAuthorized {{\"key\":\"{key}\"}}")]
        );
    }
    let answer = l.lock(&a, 1, "acquire", json!(["fox.lock.other"]));
    assert!(answer[0].starts_with("result"), "{answer:?}");
}

#[test]
fn nobody_offers_these_procedures_or_publishes_these_events() {
    let mut l = Lab::new();
    let a = l.peer();
    for name in ["fox/lock/acquire", "fox/lock/unheard_of"] {
        assert_eq!(l.ask(&a, register(1, name)), ["refused 1 NotAuthorized"]);
    }
    let below = reg(1, MatchKind::Prefix, "fox/lock/");
    assert_eq!(l.ask(&a, below), ["refused 1 NotAuthorized"]);
    // A wider pattern does not reach them.
    assert_eq!(
        l.ask(&a, reg(2, MatchKind::Prefix, "fox")),
        ["done 2 registered 1"]
    );
    assert_eq!(
        l.ask(&a, call(3, "fox/lock/unheard_of", json!([]))),
        ["failed 3 NoSuchProcedure"]
    );
    for name in ["fox/lock/on_lost", "fox/lock/on_released", "fox/lock/on_x"] {
        let answer = l.ask(&a, publish(name, json!([1])).ack(4));
        assert_eq!(answer, ["refused 4 NotAuthorized"], "{name}");
    }
}

#[test]
fn a_value_published_to_others_only_is_not_shown() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let audience = router_core::model::Audience {
        sessions: Some(vec![a.id()]),
        ..router_core::model::Audience::default()
    };
    l.ask(
        &a,
        put(1, "k", json!([1])).will(json!(null)).eligible(audience),
    );
    let denied = ["failed 1 NotAuthorized {\"key\":\"k\"}"];
    assert_eq!(l.lock(&b, 1, "inspect", json!(["k"])), denied);
    assert_eq!(
        l.lock(&b, 1, "list", json!([""])),
        ["result 1 [{\"locks\":[],\"more\":false}]"]
    );
    assert_eq!(l.inspect(&a)["value"], 1);
}
