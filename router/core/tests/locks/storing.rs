//! What the store makes of holds: answers wait for it, grants are taken back, ends stand.

use crate::common::*;
use crate::lab::*;
use router_core::model::Delivery;
use router_core::session::Leave;
use serde_json::{Value, json};

const DOWN: &str = "StorageUnavailable";

fn slow() -> Lab {
    let mut l = Lab::durable();
    l.w.auto_commit = false;
    l
}

fn shared() -> Value {
    json!({"mode": "shared"})
}

/// Acquires what is free and makes it durable; answers the token.
fn kept(l: &mut Lab, peer: &Peer, options: Value) -> u64 {
    l.w.send(peer, call(777, "fox/lock/acquire", json!(["k", options])));
    l.w.commit();
    match l.w.read(peer).pop() {
        Some(Delivery::Result { payload, .. }) => payload.value()["token"].as_u64().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn recover(l: &mut Lab) {
    l.w.probe();
    l.w.commit();
    assert!(!l.w.realm.is_store_down());
}

#[test]
fn grants_and_releases_are_answered_when_they_are_on_disk() {
    let mut l = slow();
    let [a, b] = l.peers();
    assert_eq!(l.acquire(&a, 1, json!({})), NONE);
    assert_eq!(
        l.acquire(&a, 2, json!({"reentrant": true})),
        NONE,
        "nor the second time"
    );
    l.w.commit();
    assert_eq!(l.lines(&a).len(), 2);
    let token = l.token(1);
    let once = l.release(&a, token);
    assert!(
        once[0].contains("\"held\":1"),
        "nothing is written: {once:?}"
    );
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(l.release(&a, token), NONE);
    assert_eq!(l.lines(&b), NONE);
    l.w.commit();
    assert_eq!(l.lines(&a).len(), 1);
    assert_eq!(l.lines(&b).len(), 1, "the grant is of the same commit");
    assert_eq!(l.lock(&b, 5, "inspect", json!(["k"])).len(), 1);
}

/// A crash would take the reason back.
#[test]
fn who_is_refused_for_a_hold_learns_it_when_the_hold_is_on_disk() {
    let mut l = slow();
    let [a, b, c] = l.peers();
    l.acquire(&a, 1, json!({}));
    assert_eq!(l.lock(&b, 1, "try_acquire", json!(["k"])), NONE);
    assert_eq!(l.lock(&b, 2, "acquire", json!(["k", {"wait_ms": 5}])), NONE);
    l.ask(&c, put(1, "k", json!([1])));
    l.ask(&a, put(2, "k", json!([1])).when(Value::Null));
    l.w.pass(ms(5));
    assert_eq!(l.lines(&b), NONE);
    assert_eq!(l.lines(&c), NONE);
    l.w.commit();
    assert_eq!(l.lines(&a).len(), 2);
    let said = l.lines(&b);
    assert!(said[0].starts_with("failed 1 LockHeld"), "{said:?}");
    assert!(said[1].starts_with("failed 2 Timeout"), "{said:?}");
    assert_eq!(l.lines(&c), ["refused 1 LockHeld"]);
}

#[test]
fn a_grant_the_store_did_not_keep_is_refused_and_taken_back() {
    let mut l = slow();
    let [a, b, reader] = l.peers();
    for peer in [&a, &reader] {
        l.w.subscribed(peer, "fox/lock/on_lost");
        l.w.subscribed(peer, "fox/lock/on_released");
    }
    l.w.subscribed(&reader, "k");
    l.acquire(&a, 1, json!({"ttl_ms": 1_000}));
    l.acquire(&a, 2, json!({"reentrant": true}));
    l.acquire(&b, 1, json!({}));
    assert_eq!(l.lines(&reader), ["event 3 k [true]"]);
    l.w.fail();
    let told = l.lines(&a);
    assert_eq!(
        told,
        [
            "event 1 fox/lock/on_lost [{\"key\":\"k\",\"reason\":\"store\",\"token\":#1}]"
                .to_owned(),
            format!("failed 1 {DOWN} {{\"key\":\"k\"}}"),
            format!("failed 2 {DOWN} {{\"key\":\"k\"}}"),
        ]
    );
    assert_eq!(l.lines(&reader), ["event 3 k - clears"]);
    assert_eq!(l.lines(&b), NONE, "who waits goes on waiting");
    assert_eq!((l.w.size("holds"), l.w.size("timers")), (0, 0));
    let token = l.token(1);
    assert_eq!(l.release(&a, token), ["failed 888 LockLost"]);
    recover(&mut l);
    assert_eq!(l.lines(&b).len(), 1, "and is served when the store works");
    assert_eq!(l.w.realm.counters().lock_rollbacks, 1);
}

#[test]
fn while_the_store_is_down_nothing_is_granted_and_everything_is_released() {
    let mut l = slow();
    let [a, b, c] = l.peers();
    let token = kept(&mut l, &a, json!({}));
    l.ask(&c, put(1, "other", json!([1])));
    l.w.fail();
    assert_eq!(l.lines(&c), [format!("refused 1 {DOWN}")]);
    let refused = [format!("failed 1 {DOWN} {{\"key\":\"free\"}}")];
    assert_eq!(l.lock(&b, 1, "acquire", json!(["free"])), refused);
    assert_eq!(l.lock(&b, 1, "try_acquire", json!(["free"])), refused);
    assert_eq!(l.acquire(&b, 2, json!({})), NONE, "to wait is no write");
    assert_eq!(l.hold_again(&a), token, "nor to hold once more");
    l.release(&a, token);
    assert_eq!(l.release(&a, token), NONE, "its answer waits");
    assert_eq!(l.value(&c), json!(null), "but it stands");
    assert_eq!(l.lines(&b), NONE);
    recover(&mut l);
    assert_eq!(l.lines(&a).len(), 1);
    l.w.commit();
    assert_eq!(l.lines(&b).len(), 1);
    l.w.restart();
    let d = l.peer();
    assert_eq!(l.value(&d), json!(null));
}

#[test]
fn a_release_the_store_did_not_keep_stands_and_is_answered_later() {
    let mut l = slow();
    let [a, b] = l.peers();
    let token = kept(&mut l, &a, json!({}));
    l.acquire(&b, 1, json!({}));
    assert_eq!(l.release(&a, token), NONE);
    l.w.fail();
    assert_eq!(l.lines(&a), NONE);
    assert_eq!(
        l.lines(&b),
        [format!("failed 1 {DOWN} {{\"key\":\"k\"}}")],
        "its grant did not stand"
    );
    assert_eq!(l.inspect_value(&a), json!(null));
    recover(&mut l);
    assert_eq!(
        l.lines(&a),
        ["result 888 [{\"held\":0,\"key\":\"k\",\"token\":#1}]"]
    );
    // Should the process die before that, the stored will releases the key.
    let token = kept(&mut l, &a, json!({}));
    l.release(&a, token);
    l.w.fail();
    l.w.restart();
    let c = l.peer();
    assert_eq!(l.value(&c), json!(null));
}

#[test]
fn of_several_holders_those_go_on_whose_grant_is_durable() {
    let mut l = slow();
    let [a, b, c, reader] = l.peers();
    let first = kept(&mut l, &a, shared());
    let second = kept(&mut l, &b, shared());
    l.w.subscribed(&reader, "k");
    l.acquire(&c, 1, shared());
    assert_eq!(l.release(&a, first), NONE);
    l.lines(&reader);
    l.w.fail();
    assert_eq!(l.lines(&c), [format!("failed 1 {DOWN} {{\"key\":\"k\"}}")]);
    assert_eq!(
        l.lines(&reader),
        ["event 1 k [{\"holders\":1,\"mode\":\"shared\"}]"]
    );
    let holders = |l: &mut Lab| {
        let shown = l.inspect(&reader);
        let holders = shown["holders"].as_array().unwrap().iter();
        holders
            .map(|h| h["token"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(holders(&mut l), [second]);
    recover(&mut l);
    assert_eq!(l.lines(&a).len(), 1, "the release is answered");
    assert_eq!(l.release(&b, second), NONE);
    l.w.commit();
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.value(&reader), json!(null));
}

#[test]
fn a_key_whose_last_holders_were_taken_back_after_a_release_is_free() {
    let mut l = slow();
    let [a, b, reader] = l.peers();
    let first = kept(&mut l, &a, shared());
    l.acquire(&b, 1, shared());
    l.release(&a, first);
    l.w.fail();
    assert_eq!(l.value(&reader), json!(null));
    assert_eq!((l.w.size("retained_values"), l.w.size("holds")), (0, 0));
    recover(&mut l);
    kept(&mut l, &reader, json!({}));
    l.w.restart();
    let c = l.peer();
    assert_eq!(l.value(&c), json!(null));
}

#[test]
fn what_the_only_holder_wrote_is_taken_back_and_its_hold_stays() {
    let mut l = slow();
    let [a, reader] = l.peers();
    let token = kept(&mut l, &a, json!({"data": "first"}));
    l.w.subscribed(&reader, "k");
    l.ask(&a, put(1, "k", json!(["second"])));
    l.w.fail();
    assert_eq!(l.lines(&a), [format!("refused 1 {DOWN}")]);
    let told = l.lines(&reader);
    assert_eq!(told, ["event 1 k [\"second\"]", "event 1 k [\"first\"]"]);
    recover(&mut l);
    assert_eq!(l.inspect_value(&reader), json!("first"));
    assert_eq!(
        l.ask(&reader, put(1, "k", json!([1]))),
        ["refused 1 LockHeld"]
    );
    assert_eq!(l.release(&a, token), NONE);
    l.w.commit();
    assert_eq!(l.lines(&a).len(), 1);
}

#[test]
fn a_session_that_ended_with_a_lost_commit_holds_nothing() {
    let mut l = slow();
    let [a, b] = l.peers();
    kept(&mut l, &a, json!({}));
    l.acquire(&b, 1, json!({}));
    l.leave(&a);
    l.w.fail();
    assert_eq!(l.lines(&b), [format!("failed 1 {DOWN} {{\"key\":\"k\"}}")]);
    assert_eq!(l.w.size("holds"), 0);
    recover(&mut l);
    assert_eq!(l.value(&b), json!(null));
    kept(&mut l, &b, json!({}));
}

#[test]
fn a_restart_releases_everything_and_tokens_go_on_growing() {
    let mut l = Lab::durable();
    let [a, b, c] = l.peers();
    let token = l.hold(&a, json!({"data": "a"}));
    for (peer, key) in [(&b, "s"), (&c, "s")] {
        l.lock(peer, 1, "acquire", json!([key, shared()]));
    }
    assert_eq!(l.w.size("holds"), 3);
    l.w.restart();
    let d = l.peer();
    for key in ["k", "s"] {
        assert_eq!(l.w.key(&d, key)["value"], json!(null), "{key}");
    }
    assert_eq!((l.w.size("holds"), l.w.size("retained_values")), (0, 0));
    assert!(l.hold(&d, json!({})) > token);
}

#[test]
fn a_session_that_comes_back_after_a_restart_holds_nothing() {
    let mut l = Lab::durable();
    let a = l.join(client("a").expiry(1_000));
    l.hold(&a, json!({}));
    l.w.restart();
    let back = l.w.join(client("a").expiry(1_000));
    assert_eq!(l.w.lines(&back), ["resumed"]);
    assert_eq!(l.value(&back), json!(null));
}

#[test]
fn a_hold_that_ends_before_its_grant_is_stored_was_never_granted() {
    let lost = ["failed 1 LockLost {\"key\":\"k\"}"];
    let mut l = slow();
    let [a, b] = l.peers();
    l.acquire(&a, 1, json!({"ttl_ms": 5}));
    l.pass(ms(5));
    assert_eq!(l.lines(&a), NONE, "the end is not stored either");
    l.w.commit();
    assert_eq!(l.lines(&a), lost, "by its lease");
    l.acquire(&a, 1, json!({}));
    l.lock(&b, 9, "break", json!(["k"]));
    l.w.commit();
    assert_eq!(l.lines(&a), lost, "by order");
    assert_eq!(l.lines(&b).len(), 1);
}

/// An answer that waits for the disk does not go with its session, whose place another one takes.
#[test]
fn a_hold_that_ends_takes_back_no_answer_of_a_session_that_has_gone() {
    let mut l = slow();
    let gone = l.peer();
    l.lock(&gone, 1, "acquire", json!(["other"]));
    l.w.leave(&gone, Leave::Clean);
    let a = l.peer();
    l.acquire(&a, 1, json!({"ttl_ms": 5}));
    l.pass(ms(5));
    l.w.commit();
    assert_eq!(l.lines(&a), ["failed 1 LockLost {\"key\":\"k\"}"]);
}

impl Lab {
    fn hold_again(&mut self, peer: &Peer) -> u64 {
        self.hold(peer, json!({"reentrant": true}))
    }

    fn inspect_value(&mut self, peer: &Peer) -> Value {
        self.inspect(peer)["value"].clone()
    }
}
