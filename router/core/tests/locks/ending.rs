//! How holds end.

use crate::common::*;
use crate::lab::*;
use serde_json::json;

#[test]
fn a_hold_is_released_by_its_token_or_by_key_and_token() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({}));
    assert_eq!(l.release(&b, token), ["failed 888 LockLost"], "not its own");
    let wrong = l.lock(&a, 1, "release", json!(["other", token]));
    assert_eq!(wrong, ["failed 1 LockLost {\"key\":\"other\"}"]);
    let wrong = l.lock(&a, 1, "release", json!(["k", token + 1]));
    assert_eq!(wrong, ["failed 1 LockLost {\"key\":\"k\"}"]);
    for args in [json!([]), json!(["k"]), json!([-1]), json!(["k", "1"])] {
        let answer = l.lock(&a, 1, "release", args.clone());
        assert_eq!(answer, ["failed 1 InvalidArgument"], "{args}");
    }
    let answer = l.lock(&a, 1, "release", json!(["k", token]));
    assert_eq!(
        answer,
        ["result 1 [{\"held\":0,\"key\":\"k\",\"token\":#1}]"]
    );
    assert_eq!(l.release(&a, token), ["failed 888 LockLost"]);
    assert!(l.w.key(&a, "k")["value"].is_null());
}

#[test]
fn each_of_several_holds_of_a_session_has_its_own_token() {
    let mut l = Lab::new();
    let a = l.peer();
    let (first, second) = (
        l.hold(&a, json!({"mode": "shared"})),
        l.hold(&a, json!({"mode": "shared"})),
    );
    l.release(&a, first);
    assert_eq!(l.value(&a), json!({"mode": "shared", "holders": 1}));
    l.release(&a, second);
    assert_eq!(l.value(&a), json!(null));
}

#[test]
fn a_lease_ends_unless_it_is_renewed() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"ttl_ms": 1_000}));
    let expires = |l: &mut Lab| l.inspect(&a)["holders"][0]["expires"].as_u64().unwrap();
    assert_eq!(expires(&mut l), EPOCH_MS + 1_000);
    l.acquire(&b, 1, json!({}));
    l.pass(ms(999));
    let renewed = l.lock(&a, 1, "renew", json!([token]));
    let until = EPOCH_MS + 1_999;
    assert_eq!(
        renewed,
        [format!(
            "result 1 [{{\"expires\":{until},\"key\":\"k\",\"token\":#1}}]"
        )]
    );
    l.pass(ms(999));
    let renewed = l.lock(&a, 1, "renew", json!(["k", token, {"ttl_ms": 5}]));
    assert!(renewed[0].contains(&format!("\"expires\":{}", EPOCH_MS + 2_003)));
    l.pass(ms(4));
    assert_eq!(l.lines(&b), NONE);
    l.pass(ms(1));
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(
        l.lock(&a, 1, "renew", json!([token])),
        ["failed 1 LockLost"]
    );
    assert_eq!(l.release(&a, token), ["failed 888 LockLost"]);
    let counters = l.w.realm.counters();
    assert_eq!((counters.lock_expiries, counters.lock_grants), (1, 2));
    assert_eq!(l.w.size("timers"), 0);
}

#[test]
fn only_whoever_holds_a_key_renews_its_lease() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"ttl_ms": 1_000}));
    assert_eq!(
        l.lock(&b, 1, "renew", json!([token])),
        ["failed 1 LockLost"]
    );
    let wrong = l.lock(&a, 1, "renew", json!([token, {"ttl_ms": "1"}]));
    assert_eq!(wrong, ["failed 1 InvalidArgument"]);
}

#[test]
fn a_hold_without_a_lease_can_be_given_one_and_does_not_end_before() {
    let mut l = Lab::new();
    let a = l.peer();
    let token = l.hold(&a, json!({}));
    let renewed = l.lock(&a, 1, "renew", json!([token]));
    assert!(renewed[0].contains("\"expires\":null"), "{renewed:?}");
    l.pass(secs(1_000_000));
    assert_eq!(l.w.size("holds"), 1);
    l.lock(&a, 1, "renew", json!([token, {"ttl_ms": 1}]));
    l.pass(ms(1));
    assert_eq!(l.w.size("holds"), 0);
}

#[test]
fn to_hold_a_key_once_more_renews_the_lease_if_it_asks_for_one() {
    let mut l = Lab::new();
    let a = l.peer();
    let token = l.hold(&a, json!({"ttl_ms": 1_000}));
    l.pass(ms(500));
    assert_eq!(l.hold(&a, json!({"reentrant": true})), token);
    assert_eq!(
        l.hold(&a, json!({"reentrant": true, "ttl_ms": 1_000})),
        token
    );
    l.pass(ms(999));
    assert_eq!(l.w.size("holds"), 1);
    l.pass(ms(1));
    assert_eq!(l.w.size("holds"), 0, "with all its counts");
}

#[test]
fn a_released_hold_leaves_no_timer() {
    let mut l = Lab::new();
    let a = l.peer();
    let token = l.hold(&a, json!({"ttl_ms": 1_000}));
    l.release(&a, token);
    assert_eq!(l.w.size("timers"), 0);
}

#[test]
fn the_end_of_a_session_releases_its_holds_in_the_order_of_their_grants() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    for key in ["c", "a", "d", "b"] {
        l.lock(&a, 1, "acquire", json!([key]));
    }
    l.w.subscribed(&b, "+");
    l.leave(&a);
    let cleared = ["c", "a", "d", "b"].map(|key| format!("event 1 {key} - clears"));
    assert_eq!(l.lines(&b), cleared);
    assert_eq!(l.w.size("holds"), 0);
}

#[test]
fn a_session_that_holds_a_key_among_others_leaves_the_others_in() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    for peer in [&a, &b] {
        l.hold(peer, json!({"mode": "permit", "limit": 3, "permits": 1}));
    }
    l.acquire(&c, 1, json!({"mode": "permit", "limit": 3, "permits": 2}));
    l.leave(&a);
    assert_eq!(l.lines(&c).len(), 1);
    assert_eq!(
        l.value(&c),
        json!({"mode": "permit", "limit": 3, "taken": 3})
    );
}

#[test]
fn a_broken_hold_is_lost_by_everybody_who_had_it_and_the_next_come_in() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let first = l.hold(&a, json!({"mode": "shared"}));
    let second = l.hold(&b, json!({"mode": "shared", "ttl_ms": 1_000}));
    l.acquire(&c, 1, json!({}));
    let broken = l.lock(&d, 1, "break", json!(["k"]));
    assert_eq!(broken.len(), 1);
    assert!(
        broken[0].starts_with("result 1 [{\"broken\":["),
        "{broken:?}"
    );
    assert_eq!(l.lines(&c).len(), 1);
    assert_eq!(l.inspect(&d)["holders"].as_array().unwrap().len(), 1);
    for (peer, token) in [(&a, first), (&b, second)] {
        assert_eq!(l.release(peer, token), ["failed 888 LockLost"]);
    }
    assert_eq!(l.w.realm.counters().lock_breaks, 2);
    assert_eq!(l.w.size("timers"), 0);
}

#[test]
fn to_break_what_nobody_holds_does_nothing() {
    let mut l = Lab::new();
    let a = l.peer();
    l.ask(&a, put(1, "k", json!([1])));
    let answer = l.lock(&a, 1, "break", json!(["k"]));
    assert_eq!(answer, ["result 1 [{\"broken\":[],\"key\":\"k\"}]"]);
    assert_eq!(l.value(&a), 1);
    assert_eq!(l.w.realm.counters().lock_breaks, 0);
}
