//! The same keys written by publishes.

use crate::common::*;
use crate::lab::*;
use router_core::session::Leave;
use serde_json::json;

fn raw_hold() -> Pub {
    put(1, "k", json!([{"by": "raw"}]))
        .when(json!(null))
        .will(json!(null))
}

#[test]
fn a_key_that_has_a_value_is_not_free() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.ask(&a, put(1, "k", json!([1])));
    assert_eq!(
        l.try_acquire(&b, 1, json!({})),
        ["failed 1 LockHeld {\"holders\":0,\"key\":\"k\"}"]
    );
    assert_eq!(l.acquire(&b, 2, json!({"mode": "shared"})), NONE);
    l.ask(&a, put(1, "k", json!([])));
    assert_eq!(l.lines(&b).len(), 1);
}

#[test]
fn a_key_whose_value_expires_becomes_free() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.ask(&a, put(1, "k", json!([1])).expires(5));
    l.acquire(&b, 1, json!({}));
    l.pass(secs(5));
    assert_eq!(l.lines(&b).len(), 1);
}

#[test]
fn what_a_write_holds_is_shown_and_released_like_any_hold() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.ask(&a, raw_hold());
    let shown = l.inspect(&b);
    assert_eq!(shown["mode"], "mutex");
    assert_eq!(shown["holders"][0]["session"], a.id().0);
    assert_eq!(shown["holders"][0]["token"], shown["token"]);
    assert_eq!(shown["holders"][0]["data"], json!({"by": "raw"}));
    let token = shown["token"].as_u64().unwrap();
    assert_eq!(
        l.try_acquire(&b, 1, json!({})),
        ["failed 1 LockHeld {\"holders\":1,\"key\":\"k\"}"]
    );
    l.acquire(&b, 1, json!({}));
    assert_eq!(l.release(&b, token), ["failed 888 LockLost"]);
    let lease = l.lock(&a, 1, "renew", json!([token, {"ttl_ms": 5}]));
    assert_eq!(lease, ["failed 1 InvalidArgument {\"key\":\"k\"}"]);
    let answer = l.release(&a, token);
    assert!(answer[0].contains("\"held\":0"), "{answer:?}");
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.release(&a, token), ["failed 888 LockLost"]);
}

#[test]
fn what_a_write_holds_can_be_released_by_key_and_token_and_broken() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.ask(&a, raw_hold());
    let token = l.inspect(&a)["token"].as_u64().unwrap();
    assert_eq!(
        l.lock(&a, 1, "release", json!(["k", token + 1])),
        ["failed 1 LockLost {\"key\":\"k\"}"]
    );
    assert_eq!(l.lock(&a, 1, "release", json!(["k", token])).len(), 1);
    l.ask(&a, raw_hold());
    l.w.subscribed(&a, "fox/lock/on_lost");
    let token = l.inspect(&b)["token"].clone();
    l.w.send(&b, call(1, "fox/lock/break", json!(["k"])));
    assert_eq!(l.value(&b), json!(null));
    let lost = l.w.lines(&a);
    let expected = format!(
        "event 1 fox/lock/on_lost [{{\"key\":\"k\",\"reason\":\"broken\",\"token\":{token}}}]"
    );
    assert_eq!(lost, [expected]);
    l.leave(&a);
}

#[test]
fn the_end_of_a_raw_holder_lets_the_next_request_in() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.ask(&a, raw_hold());
    l.acquire(&b, 1, json!({}));
    l.leave(&a);
    assert_eq!(l.lines(&b).len(), 1);
}

#[test]
fn nobody_else_writes_a_held_key() {
    for mode in ["exclusive", "shared"] {
        let mut l = Lab::new();
        let [a, b] = l.peers();
        l.hold(&a, json!({"mode": mode}));
        let before = l.w.key(&a, "k");
        for write in [
            put(2, "k", json!([1])),
            put(2, "k", json!([])),
            put(2, "k", json!([{}])).merge(),
            put(2, "k", json!([1])).will(json!(null)),
            put(2, "k", json!([1])).expires(1),
        ] {
            assert_eq!(l.ask(&b, write), ["refused 2 LockHeld"]);
        }
        assert_eq!(
            l.ask(&b, put(2, "k", json!([1])).when(json!(null))),
            ["refused 2 ConditionFailed"],
            "the condition comes first"
        );
        let mut quiet = put(2, "k", json!([1]));
        quiet.0.request = None;
        assert_eq!(l.ask(&b, quiet), NONE);
        assert_eq!(l.w.key(&a, "k"), before);
        // What is not kept is not the key's business.
        let said = publish("k", json!([1])).ack(3);
        assert_eq!(l.ask(&b, said), ["done 3 published unmatched"]);
    }
}

#[test]
fn of_several_holders_none_writes_the_key() {
    let mut l = Lab::new();
    let a = l.peer();
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(l.ask(&a, put(1, "k", json!([1]))), ["refused 1 LockHeld"]);
}

#[test]
fn the_only_holder_replaces_what_the_key_says_and_keeps_hold_and_token() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"data": {"n": 1}}));
    l.w.subscribed(&b, "k");
    assert_eq!(
        l.ask(&a, put(1, "k", json!([{"n": 2}]))),
        ["done 1 published"]
    );
    assert_eq!(l.lines(&b), ["event 1 k [{\"n\":2}]"]);
    let shown = l.inspect(&b);
    assert_eq!(shown["value"], json!({"n": 2}));
    assert_eq!(shown["holders"][0]["data"], json!({"n": 2}));
    assert_eq!(shown["holders"][0]["token"], token);
    assert!(shown["token"].as_u64().unwrap() > token);
    assert_eq!(l.w.key(&b, "k")["owner"], a.id().0);
    l.acquire(&b, 1, json!({}));
    let answer = l.release(&a, token);
    assert!(answer[0].contains("\"held\":0"));
    assert_eq!(l.lines(&b).len(), 3, "cleared, granted to itself, answered");
}

#[test]
fn the_only_holder_releases_by_a_plain_delete() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"ttl_ms": 1_000}));
    l.hold(&a, json!({"reentrant": true}));
    l.acquire(&b, 1, json!({}));
    l.w.subscribed(&a, "fox/lock/on_released");
    let answers = l.ask(&a, put(1, "k", json!([])));
    assert_eq!(
        answers,
        [
            "event 1 fox/lock/on_released [{\"key\":\"k\",\"reason\":\"released\",\"session\":@a,\"token\":#1}]",
            "done 1 published unmatched",
        ]
    );
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.release(&a, token), ["failed 888 LockLost"]);
    assert_eq!((l.w.size("timers"), l.w.size("holds")), (0, 1));
}

#[test]
fn a_held_key_takes_no_condition_will_merge_or_expiry_of_its_holder() {
    let mut l = Lab::new();
    let a = l.peer();
    l.hold(&a, json!({}));
    for write in [
        put(1, "k", json!([1])).when(json!(true)),
        put(1, "k", json!([1])).when(json!(null)).watch(),
        put(1, "k", json!([1])).will(json!(null)),
        put(1, "k", json!([{}])).merge(),
        put(1, "k", json!([1])).expires(1),
        put(1, "k", json!([])).when(json!(true)),
    ] {
        assert_eq!(l.ask(&a, write), ["refused 1 InvalidArgument"]);
    }
    assert_eq!(l.value(&a), json!(true));
}

#[test]
fn last_wills_and_testaments_onto_a_held_key_are_dropped_and_counted() {
    let mut l = Lab::new();
    let a = l.peer();
    let b = l.join(client("b").will(0, publish("k", json!(["will"])).retain()));
    let own = l.join(client("c").will(0, publish("own", json!(["will"])).retain()));
    l.hold(&a, json!({}));
    l.lock(&own, 1, "acquire", json!(["own"]));
    l.leave(&b);
    assert_eq!(l.value(&a), json!(true));
    l.leave(&own);
    assert_eq!(
        l.w.key(&a, "own")["value"],
        json!(null),
        "not even its holder's"
    );
    assert_eq!(l.w.realm.counters().wills_on_held, 2);
    // Said and not kept, it is no write of the key.
    let d = l.join(client("d").will(0, publish("k", json!(["said"]))));
    l.w.subscribed(&a, "k");
    l.w.leave(&d, Leave::Lost);
    assert_eq!(l.lines(&a), ["event 1 k [\"said\"]"]);
}
