//! Asking for a hold, and how the arguments are read.

use crate::common::*;
use crate::lab::*;
use router_core::limits::RealmLimits;
use serde_json::{Value, json};

#[test]
fn a_free_key_is_granted_at_once_and_a_held_one_when_it_is_released() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    assert_eq!(
        l.acquire(&a, 1, json!({})),
        [
            "result 1 [{\"expires\":null,\"key\":\"k\",\"mode\":\"mutex\",\"position\":0,\"token\":#1}]"
        ]
    );
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    let token = l.token(1);
    assert_eq!(
        l.release(&a, token),
        ["result 888 [{\"held\":0,\"key\":\"k\",\"token\":#1}]"]
    );
    assert_eq!(
        l.lines(&b),
        [
            "result 1 [{\"expires\":null,\"key\":\"k\",\"mode\":\"mutex\",\"position\":0,\"token\":#2}]"
        ]
    );
    assert!(l.token(2) > l.token(1), "tokens grow");
}

#[test]
fn whoever_only_tries_is_told_how_many_hold_the_key() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    l.hold(&a, json!({"mode": "shared"}));
    l.hold(&b, json!({"mode": "shared"}));
    let held = "failed 1 LockHeld {\"holders\":2,\"key\":\"k\"}";
    assert_eq!(l.try_acquire(&c, 1, json!({})), [held]);
    assert_eq!(l.acquire(&c, 1, json!({"wait_ms": 0})), [held]);
    assert_eq!(l.w.size("timers"), 0);
}

#[test]
fn the_only_holder_asks_once_more_like_anybody_else() {
    let mut l = Lab::new();
    let a = l.peer();
    l.hold(&a, json!({}));
    assert_eq!(
        l.try_acquire(&a, 1, json!({})),
        ["failed 1 LockHeld {\"holders\":1,\"key\":\"k\"}"]
    );
    assert_eq!(l.acquire(&a, 2, json!({})), NONE, "it waits for itself");
}

#[test]
fn a_reentrant_hold_is_counted_and_has_one_token() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({}));
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    for name in ["mutex", "exclusive"] {
        assert_eq!(l.hold(&a, json!({"reentrant": true, "mode": name})), token);
    }
    assert_eq!(l.inspect(&a)["holders"][0]["count"], 3);
    for left in [2, 1, 0] {
        assert_eq!(l.lines(&b), NONE);
        let answer = l.release(&a, token);
        assert!(
            answer[0].contains(&format!("\"held\":{left}")),
            "{answer:?}"
        );
    }
    assert_eq!(l.lines(&b).len(), 1, "the last release counts");
    assert_eq!(
        l.release(&a, token),
        ["failed 888 LockLost"],
        "and there is no further one"
    );
}

#[test]
fn reentrancy_does_not_turn_one_mode_into_another() {
    let mut l = Lab::new();
    let a = l.peer();
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(
        l.try_acquire(&a, 1, json!({"reentrant": true})),
        ["failed 1 LockHeld {\"holders\":1,\"key\":\"k\"}"]
    );
    let before = l.inspect(&a)["holders"][0]["token"].as_u64().unwrap();
    let shared = json!({"reentrant": true, "mode": "shared"});
    assert_eq!(l.hold(&a, shared), before);
    assert_ne!(l.hold(&a, json!({"mode": "shared"})), before);
}

#[test]
fn a_reentrant_hold_does_not_wait_behind_others() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(
        l.hold(&a, json!({"mode": "shared", "reentrant": true})),
        token
    );
}

#[test]
fn options_stand_behind_the_key_or_by_name_and_names_win() {
    let mut l = Lab::new();
    let a = l.peer();
    let ask = |l: &mut Lab, args: Value, kwargs: Value| {
        let command = router_core::model::Command::Call(Box::new(router_core::model::Call {
            request: router_core::model::RequestId(5),
            procedure: topic("fox/lock/acquire"),
            payload: both(&args, &kwargs),
            progress: false,
            more: false,
            timeout: None,
            disclose_me: false,
        }));
        l.ask(&a, command).concat()
    };
    let named = ask(&mut l, json!(["a"]), json!({"mode": "shared", "else": 1}));
    assert!(named.contains("\"mode\":\"shared\""), "{named}");
    let placed = ask(&mut l, json!(["b", {"mode": "shared"}]), json!(null));
    assert!(placed.contains("\"mode\":\"shared\""), "{placed}");
    let (list, dict) = (
        json!(["c", {"mode": "shared"}]),
        json!({"mode": "exclusive"}),
    );
    let won = ask(&mut l, list, dict);
    assert!(won.contains("\"mode\":\"exclusive\""), "{won}");
    let null = ask(&mut l, json!(["d", null]), json!({"ttl_ms": null}));
    assert!(null.contains("\"expires\":null"), "{null}");
}

#[test]
fn what_cannot_be_read_is_refused_with_the_key() {
    let mut l = Lab::new();
    let a = l.peer();
    for options in [
        json!([]),
        json!(1),
        json!({"mode": "other"}),
        json!({"mode": 1}),
        json!({"mode": "permit"}),
        json!({"mode": "permit", "limit": 0}),
        json!({"mode": "permit", "limit": 2, "permits": 3}),
        json!({"mode": "permit", "limit": 2, "permits": 0}),
        json!({"mode": "permit", "limit": 1.5}),
        json!({"wait_ms": -1}),
        json!({"wait_ms": "1"}),
        json!({"ttl_ms": 0}),
        json!({"ttl_ms": 9_007_199_254_740_993_u64}),
        json!({"reentrant": 1}),
    ] {
        assert_eq!(
            l.acquire(&a, 1, options.clone()),
            ["failed 1 InvalidArgument {\"key\":\"k\"}"],
            "{options}"
        );
    }
    for args in [json!([]), json!([1]), json!([null])] {
        let answer = l.lock(&a, 1, "acquire", args);
        assert_eq!(answer, ["failed 1 InvalidArgument"]);
    }
    assert_eq!(
        l.lock(&a, 1, "acquire", json!(["a#"])),
        ["failed 1 InvalidTopic {\"key\":\"a#\"}"]
    );
    assert!(l.w.realm.is_idle() || l.w.size("holds") == 0);
}

#[test]
fn one_session_holds_a_bounded_number_of_keys() {
    let mut l = Lab::limited(RealmLimits {
        holds_per_session: 2,
        ..RealmLimits::default()
    });
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"mode": "shared"}));
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(
        l.acquire(&a, 1, json!({"mode": "shared"})),
        ["failed 1 QuotaExceeded {\"key\":\"k\"}"]
    );
    l.hold(&b, json!({"mode": "shared"}));
    l.release(&a, token);
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(l.w.size("holds"), 3);
}

#[test]
fn a_realm_full_of_values_grants_no_further_key() {
    let mut l = Lab::limited(RealmLimits {
        retained_values: 1,
        ..RealmLimits::default()
    });
    let a = l.peer();
    l.ask(&a, put(1, "other", json!([1])));
    assert_eq!(
        l.acquire(&a, 1, json!({})),
        ["failed 1 QuotaExceeded {\"key\":\"k\"}"]
    );
    assert_eq!(l.w.size("holds"), 0);
}

#[test]
fn a_request_id_that_waits_cannot_be_used_again() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.hold(&a, json!({}));
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(l.acquire(&b, 1, json!({})), ["failed 1 InvalidArgument"]);
    assert_eq!(l.inspect(&a)["waiting"], 1);
}

#[test]
fn the_arguments_come_in_one_part() {
    let mut l = Lab::new();
    let a = l.peer();
    assert_eq!(
        l.ask(&a, part(1, "fox/lock/acquire", json!(["k"]), true)),
        ["failed 1 FeatureNotSupported"]
    );
}
