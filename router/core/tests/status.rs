//! Status values: shown and announced like retained ones, and nothing else.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::model::{Payload, Topic};
use router_core::records;
use router_core::session::Leave;
use serde_json::json;

const NONE: [&str; 0] = [];

fn set(w: &mut World, values: &[(&str, &str)]) -> bool {
    let values: Vec<(Topic, Payload)> = values
        .iter()
        .map(|(name, text)| {
            let payload = Payload::bytes(text.to_string().into(), false);
            (topic(name), payload)
        })
        .collect();
    let listens = w.realm.set_status(w.now, values, &mut w.effects);
    w.let_out();
    listens
}

#[test]
fn status_values_are_shown_before_kept_ones_and_announced_when_they_change() {
    let mut w = World::durable();
    let (writer, reader) = (w.plain(), w.lanes("c"));
    w.ask(&writer, put(1, "$own/x", json!(["kept"])).into());
    let listens = set(
        &mut w,
        &[("$SYS/a/up", "1"), ("$SYS/b", "x"), ("$SYS/a", "0")],
    );
    assert!(!listens);
    assert_eq!(
        w.ask(&reader, sub(1, "$SYS/#").retained().showing_retain().into()),
        [
            "done 1 subscribed 1",
            "event 1 $SYS/a [0] replayed retain",
            "event 1 $SYS/a/up [1] replayed retain",
            "event 1 $SYS/b [\"x\"] replayed retain",
        ]
    );
    assert!(set(&mut w, &[("$SYS/a/up", "2"), ("$SYS/b", "x")]));
    assert_eq!(
        w.lines(&reader),
        ["event 1 $SYS/a/up [2] retain"],
        "what changed, no more"
    );
    // A prefix reaches both, status values first.
    let both = w.ask(&writer, sub_prefix(2, "$").retained().into());
    assert_eq!(both.len(), 1 + 4);
    assert!(both[4].contains("$own/x"), "{both:?}");
    assert_eq!(
        w.records(records::VALUES),
        1,
        "only what was kept is stored"
    );
    w.restart();
    let reader = w.lanes("c");
    let again = w.ask(&reader, sub(1, "$SYS/#").retained().into());
    assert_eq!(again, ["done 1 subscribed 1"]);
}

#[test]
fn wildcards_key_readers_and_writers_do_not_reach_status_values() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    set(&mut w, &[("$SYS/a", "1"), ("open/x", "no")]);
    for pattern in ["#", "+/a"] {
        assert_eq!(w.ask(&a, sub(1, pattern).retained().into()).len(), 1);
    }
    assert_eq!(w.ask(&a, sub(2, "open/x").retained().into()).len(), 1);
    set(&mut w, &[("$SYS/a", "2")]);
    assert_eq!(w.lines(&a), NONE);
    assert_eq!(w.key(&b, "$SYS/a")["value"], json!(null));
    assert_eq!(
        w.ask(&b, put(3, "$SYS/a", json!([1])).into()),
        ["refused 3 NotAuthorized"]
    );
}

#[test]
fn the_role_decides_who_sees_status_values() {
    let mut w = World::memory();
    set(&mut w, &[("$SYS/open", "1"), ("$SYS/secret", "1")]);
    let narrow = role("narrow", &["subscribe $SYS/#"], &["subscribe $SYS/secret"]);
    let peer = w.join(named("n", narrow));
    w.lines(&peer);
    let seen = w.ask(&peer, sub(1, "$SYS/#").retained().into());
    assert_eq!(seen.len(), 2, "{seen:?}");
    set(&mut w, &[("$SYS/open", "2"), ("$SYS/secret", "2")]);
    assert_eq!(w.lines(&peer), ["event 1 $SYS/open [2]"]);
}

#[test]
fn a_realm_with_only_status_values_is_idle() {
    let mut w = World::memory();
    set(&mut w, &[("$SYS/a", "1")]);
    assert!(w.realm.is_idle());
    let peer = w.lanes("c");
    w.ask(&peer, sub(1, "$SYS/#").retained().into());
    w.leave(&peer, Leave::Clean);
    assert!(w.realm.is_idle());
}

#[test]
fn the_realm_knows_whether_somebody_may_listen() {
    let mut w = World::durable();
    let peer = w.join(client("c").expiry(100));
    w.ask(&peer, sub(1, "#").retained().into());
    assert!(!w.realm.wants_status());
    w.ask(&peer, sub(2, "$SYS/+").into());
    assert!(w.realm.wants_status());
    assert!(set(&mut w, &[("$SYS/a", "1")]));
    w.restart();
    assert!(w.realm.wants_status(), "the subscription is still there");
    let peer = w.join(client("c").expiry(100));
    w.ask(&peer, unsub_pattern(3, "$SYS/+"));
    assert!(!set(&mut w, &[("$SYS/a", "2")]));
    assert!(!w.realm.wants_status());
    w.realm.forget_status(|topic| topic.text() == "$SYS/a");
    let reader = w.lanes("d");
    assert_eq!(w.ask(&reader, sub(1, "$SYS/#").retained().into()).len(), 1);
}

#[test]
fn the_census_counts_in_parts() {
    let mut w = World::memory();
    let writer = w.plain();
    w.ask(&writer, put(1, "k/1", json!([1])).into());
    w.ask(&writer, put(1, "k/2", json!([22])).into());
    w.ask(&writer, put(1, "k/1", json!([])).into());
    for n in 0..5 {
        let peer = w.join(client(&format!("c{n}")).expiry(100));
        w.ask(&peer, sub(1, "q").qos(1).into());
        let mut shared = sub(2, "s");
        shared.0.share = Some("g".into());
        w.ask(&peer, shared.into());
        w.leave(&peer, Leave::Lost);
    }
    w.send(&writer, publish("q", json!([1])).qos(1).into());
    let mut census = router_core::realm::Census::default();
    let (mut from, mut parts) = (Some(0), 0);
    while let Some(at) = from {
        from = w.realm.count(at, 2, &mut census);
        parts += 1;
    }
    assert!(parts >= 3);
    assert_eq!(
        (census.sessions, census.connected, census.connected_max),
        (6, 1, 2)
    );
    assert_eq!((census.values, census.value_bytes), (1, 4));
    assert_eq!((census.subscriptions, census.shares), (10, 5));
    assert_eq!(census.queued, 5);
    assert!(census.queued_bytes >= 5 * 3);
    w.pass(secs(101));
    assert_eq!(w.realm.counters().sessions_expired, 5);
}
