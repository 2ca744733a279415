//! Looking at holds.

use crate::common::*;
use crate::lab::*;
use serde_json::{Value, json};

#[test]
fn a_free_key_is_shown_as_free() {
    let mut l = Lab::new();
    let a = l.peer();
    let free = json!({
        "key": "k", "mode": null, "holders": [], "waiters": [], "waiting": 0, "value": null, "token": 0,
    });
    assert_eq!(l.inspect(&a), free);
    l.ask(&a, put(1, "k", json!([5])));
    let shown = l.inspect(&a);
    assert_eq!((&shown["mode"], &shown["value"]), (&json!(null), &json!(5)));
    assert_eq!(shown["holders"], json!([]));
}

#[test]
fn holders_and_waiters_are_shown_with_all_that_is_known_of_them() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    let first = l.hold(
        &a,
        json!({"mode": "permit", "limit": 5, "permits": 2, "data": ["x"]}),
    );
    l.pass(ms(10));
    let second = l.hold(&b, json!({"mode": "permit", "limit": 5, "ttl_ms": 1_000}));
    l.pass(ms(10));
    l.acquire(&c, 1, json!({"mode": "shared"}));
    let write = put(2, "k", json!([1])).when(json!(null)).watch();
    l.ask(&c, write);
    let shown = l.inspect(&c);
    let token = shown["token"].as_u64().unwrap();
    assert_eq!(token, second, "the latest write of the key");
    let expected = json!({
        "key": "k",
        "mode": "permit",
        "holders": [
            {
                "session": a.id().0, "authid": "somebody", "token": first, "since": EPOCH_MS,
                "expires": null, "permits": 2, "count": 1, "data": ["x"],
            },
            {
                "session": b.id().0, "authid": "somebody", "token": second, "since": EPOCH_MS + 10,
                "expires": EPOCH_MS + 1_010, "permits": 1, "count": 1, "data": null,
            },
        ],
        "waiters": [
            {"session": c.id().0, "mode": "shared", "position": 1, "since": EPOCH_MS + 20},
            {"session": c.id().0, "mode": "write", "position": 2, "since": EPOCH_MS + 20},
        ],
        "waiting": 2,
        "value": {"mode": "permit", "limit": 5, "taken": 3},
        "token": second,
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_holder_that_said_nothing_is_shown_without_data() {
    let mut l = Lab::new();
    let a = l.peer();
    l.hold(&a, json!({}));
    let shown = l.inspect(&a);
    assert_eq!(
        (&shown["value"], &shown["holders"][0]["data"]),
        (&json!(true), &json!(null))
    );
}

#[test]
fn at_most_a_hundred_waiters_are_shown_and_all_are_counted() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.hold(&a, json!({}));
    for request in 0..150 {
        l.acquire(&b, request, json!({}));
    }
    let shown = l.inspect(&a);
    assert_eq!(shown["waiters"].as_array().unwrap().len(), 100);
    assert_eq!(shown["waiting"], 150);
    assert_eq!(l.w.key(&a, "k")["waiters"], 150);
}

#[test]
fn the_owner_of_a_key_is_its_only_holder() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({}));
    assert_eq!(l.w.key(&b, "k")["owner"], a.id().0);
    l.release(&a, token);
    assert_eq!(l.w.key(&b, "k")["owner"], json!(null));
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(
        l.w.key(&b, "k")["owner"],
        json!(null),
        "there may be several"
    );
}

fn keys(answer: &[String]) -> (Vec<String>, bool) {
    let text = answer[0].strip_prefix("result 1 ").unwrap();
    let value: Value = serde_json::from_str(&text.replace('#', "")).unwrap();
    let locks = value[0]["locks"].as_array().unwrap().iter();
    let keys = locks.map(|lock| lock["key"].as_str().unwrap().to_owned());
    (keys.collect(), value[0]["more"].as_bool().unwrap())
}

#[test]
fn locks_are_listed_by_prefix_in_pages() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    for key in ["x.1", "x.2", "x.3", "xy", "y.1"] {
        l.lock(&a, 1, "acquire", json!([key, {"mode": "shared"}]));
    }
    l.ask(&a, put(1, "x/raw", json!([1])).will(json!(null)));
    l.ask(&a, put(1, "x/plain", json!([1])));
    l.ask(&a, put(1, "x/wanted", json!([1])));
    l.lock(&b, 1, "acquire", json!(["x.wanted"]));
    l.lock(&b, 2, "acquire", json!(["x.2"]));
    let all = ["x.1", "x.2", "x.3", "x.raw", "x.wanted", "xy", "y.1"];
    let list = |l: &mut Lab, args: Value| keys(&l.lock(&a, 1, "list", args));
    let owned = |range: std::ops::Range<usize>| -> Vec<String> {
        all[range].iter().map(|key| (*key).to_owned()).collect()
    };
    assert_eq!(list(&mut l, json!([""])), (owned(0..7), false));
    assert_eq!(list(&mut l, json!(["x"])), (owned(0..6), false));
    assert_eq!(list(&mut l, json!(["x."])), (owned(0..5), false));
    assert_eq!(
        list(&mut l, json!(["x.", {"limit": 2}])),
        (owned(0..2), true)
    );
    assert_eq!(
        list(&mut l, json!(["x.", {"limit": 2, "after": "x.2"}])),
        (owned(2..4), true)
    );
    assert_eq!(
        list(&mut l, json!(["x.", {"limit": 1, "after": "x.raw"}])),
        (owned(4..5), false)
    );
    assert_eq!(
        list(&mut l, json!(["x.", {"after": "a"}])),
        (owned(0..5), false)
    );
    assert_eq!(list(&mut l, json!(["x.", {"after": "z"}])), (vec![], false));
    assert_eq!(
        l.lock(&a, 1, "list", json!(["x.2"])),
        [
            "result 1 [{\"locks\":[{\"holders\":1,\"key\":\"x.2\",\"mode\":\"shared\",\"token\":#2,\"waiters\":1}],\"more\":false}]"
        ]
    );
    let wanted = l.lock(&a, 1, "list", json!(["x.wanted"]));
    assert!(
        wanted[0].contains("\"holders\":0,\"key\":\"x.wanted\",\"mode\":null"),
        "{wanted:?}"
    );
    for wrong in [
        json!([]),
        json!([1]),
        json!(["x", {"limit": 0}]),
        json!(["x", {"after": 1}]),
        json!(["x", 1]),
    ] {
        assert_eq!(l.lock(&a, 1, "list", wrong), ["failed 1 InvalidArgument"]);
    }
}

#[test]
fn a_page_holds_at_most_a_thousand_locks() {
    let mut l = Lab::new();
    let a = l.peer();
    for n in 0..1_100 {
        l.w.send(&a, call(1, "fox/lock/acquire", json!([format!("k{n:04}")])));
    }
    l.w.read(&a);
    for (options, shown) in [(json!(null), 100), (json!({"limit": 5_000}), 1_000)] {
        let (keys, more) = keys(&l.lock(&a, 1, "list", json!(["k", options])));
        assert_eq!((keys.len(), more), (shown, true));
    }
}
