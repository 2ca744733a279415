//! What everybody else is told.

use crate::common::*;
use crate::lab::*;
use router_core::model::Delivery;
use serde_json::json;

#[test]
fn every_grant_and_end_is_a_retained_event_of_the_key_with_its_token() {
    let mut l = Lab::new();
    let [a, b, reader] = l.peers();
    l.w.subscribed(&reader, "k");
    let token = l.hold(&a, json!({"data": {"leader": "a"}}));
    l.acquire(&b, 1, json!({}));
    l.release(&a, token);
    let mut told = Vec::new();
    for delivery in l.w.read(&reader) {
        let text = line(&delivery);
        let Delivery::Event(event) = delivery else {
            panic!("{delivery:?}");
        };
        assert_eq!(event.event.token, Some(event.event.publication.0));
        assert!(event.event.retain);
        told.push((text, event.event.token.unwrap()));
    }
    let texts: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "event 1 k [{\"leader\":\"a\"}]",
            "event 1 k - clears",
            "event 1 k [true]"
        ]
    );
    assert_eq!(told[0].1, token);
    assert!(told.is_sorted_by_key(|(_, token)| *token));
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.inspect(&b)["holders"][0]["token"], told[2].1);
    let late = l.peer();
    let replayed = l.ask(&late, sub(1, "k").retained());
    assert_eq!(replayed[1], "event 1 k [true] replayed retain");
}

#[test]
fn a_holder_that_listens_hears_of_its_own_election() {
    let mut l = Lab::new();
    let a = l.peer();
    l.w.subscribed(&a, "k");
    let lines = l.acquire(&a, 1, json!({"data": "a"}));
    assert_eq!(lines[0], "event 1 k [\"a\"]");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_shared_key_tells_how_many_hold_it() {
    let mut l = Lab::new();
    let [a, b, reader] = l.peers();
    l.w.subscribed(&reader, "k");
    l.hold(&a, json!({"mode": "shared", "data": "not shown"}));
    l.hold(&b, json!({"mode": "shared"}));
    l.leave(&a);
    l.leave(&b);
    assert_eq!(
        l.lines(&reader),
        [
            "event 1 k [{\"holders\":1,\"mode\":\"shared\"}]",
            "event 1 k [{\"holders\":2,\"mode\":\"shared\"}]",
            "event 1 k [{\"holders\":1,\"mode\":\"shared\"}]",
            "event 1 k - clears",
        ]
    );
}

#[test]
fn ends_of_holds_are_told_with_their_reason_and_losses_to_the_holder_alone() {
    let mut l = Lab::new();
    let [a, b, c, reader] = l.peers();
    for peer in [&a, &b, &c, &reader] {
        l.w.subscribed(peer, "fox/lock/on_lost");
    }
    l.w.subscribed(&reader, "fox/lock/on_released");
    let token = l.hold(&a, json!({}));
    l.release(&a, token);
    l.hold(&a, json!({"ttl_ms": 1}));
    l.pass(ms(1));
    l.hold(&b, json!({}));
    l.w.send(&c, call(1, "fox/lock/break", json!(["k"])));
    l.hold(&c, json!({}));
    l.leave(&c);
    let told = l.lines(&reader);
    let released = |reason: &str, who: &str, token: usize| {
        format!(
            "event 2 fox/lock/on_released [{{\"key\":\"k\",\"reason\":\"{reason}\",\"session\":@{who},\"token\":#{token}}}]"
        )
    };
    assert_eq!(
        told,
        [
            released("released", "a", 1),
            released("expired", "a", 2),
            released("broken", "b", 3),
            released("session", "c", 4),
        ]
    );
    let lost = |reason: &str, token: usize| {
        vec![format!(
            "event 1 fox/lock/on_lost [{{\"key\":\"k\",\"reason\":\"{reason}\",\"token\":#{token}}}]"
        )]
    };
    assert_eq!(l.lines(&a), lost("expired", 2));
    assert_eq!(l.lines(&b), lost("broken", 3));
}

#[test]
fn ends_of_holds_are_told_to_those_who_may_read_the_key() {
    let mut l = Lab::new();
    let a = l.peer();
    let may = role("may", &["subscribe #"], &[]);
    let may_not = role("may_not", &["subscribe #"], &["subscribe k"]);
    let b = l.join(named("b", may));
    let c = l.join(named("c", may_not));
    for peer in [&b, &c] {
        l.w.subscribed(peer, "fox/lock/on_released");
    }
    let token = l.hold(&a, json!({}));
    l.release(&a, token);
    assert_eq!((l.lines(&b).len(), l.lines(&c).len()), (1, 0));
}

#[test]
fn a_lost_hold_is_found_in_the_history_of_its_key() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.hold(&a, json!({}));
    l.leave(&a);
    let told = l.ask(&b, sub(1, "k").after(0));
    assert_eq!(told, ["done 1 subscribed 1", "event 1 k - clears"]);
}
