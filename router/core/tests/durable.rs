//! With a disk: what is answered when, what a refusing store undoes, and what a restart brings back.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::model::{Command, Delivery};
use router_core::records;
use router_core::session::Leave;
use serde_json::{Value, json};
use std::time::Duration;

const NONE: [&str; 0] = [];

/// A world whose commits are confirmed by hand.
fn by_hand() -> World {
    let mut w = World::durable();
    w.auto_commit = false;
    w
}

fn lasting(w: &mut World, id: &str) -> Peer {
    let peer = w.join(client(id).expiry(600));
    w.commit();
    w.lines(&peer);
    peer
}

#[test]
fn answers_that_promise_durability_wait_for_their_commit_and_no_others_do() {
    let mut w = by_hand();
    let (a, b) = (w.plain(), w.plain());
    assert_eq!(w.ask(&b, sub(1, "#").into()), ["done 1 subscribed 1"]);
    assert_eq!(w.ask(&a, put(1, "k", json!([1])).into()), NONE);
    assert_eq!(w.lines(&b), ["event 1 k [1]"], "events are not held up");
    assert_eq!(
        w.ask(&a, publish("t", json!([])).ack(2).into()),
        ["done 2 published"]
    );
    assert_eq!(
        w.ask(&b, call(3, "fox/kv/get", json!(["k"]))),
        ["event 1 t []"],
        "a read of it waits"
    );
    assert_eq!(w.ask(&b, call(4, "fox/kv/get", json!(["other"]))).len(), 1);
    assert_eq!(
        w.ask(&a, put(5, "other", json!([2])).when(json!(9)).into()),
        ["refused 5 ConditionFailed"]
    );
    w.send(&a, put(6, "j", json!([1])).into());
    assert!(w.commit_one());
    assert_eq!(w.lines(&a), ["done 1 published"]);
    assert_eq!(w.lines(&b).len(), 2, "the event of j, and the result");
    assert!(w.commit_one());
    assert_eq!(w.lines(&a), ["done 6 published"]);
    assert!(!w.commit_one());
}

/// Otherwise a crash could take back the reason for a refusal that somebody has acted on.
#[test]
fn a_condition_is_refused_when_what_it_failed_on_is_durable() {
    let mut w = by_hand();
    let (a, b) = (w.plain(), w.plain());
    let lock = |n| put(n, "k", json!([n])).when(json!(null));
    w.ask(&a, lock(1).into());
    assert_eq!(w.ask(&b, lock(2).into()), NONE);
    w.commit();
    assert_eq!(w.lines(&a), ["done 1 published unmatched"]);
    assert_eq!(w.lines(&b), ["refused 2 ConditionFailed"]);
    assert_eq!(
        w.ask(&b, lock(3).into()),
        ["refused 3 ConditionFailed"],
        "nothing to wait for"
    );
    // A deletion is as good a reason as a value.
    w.ask(&a, put(4, "k", json!([])).into());
    assert_eq!(
        w.ask(&b, put(5, "k", json!([5])).when(json!(1)).into()),
        NONE
    );
    w.fail();
    assert_eq!(w.lines(&a), ["refused 4 StorageUnavailable"]);
    assert_eq!(
        w.lines(&b),
        ["refused 5 StorageUnavailable"],
        "the value is there again"
    );
}

#[test]
fn what_is_queued_for_a_lasting_session_is_durable_before_it_is_acknowledged() {
    let mut w = by_hand();
    let (c, p) = (lasting(&mut w, "c"), w.plain());
    assert_eq!(
        w.ask(&c, sub(1, "t").qos(1).into()),
        NONE,
        "the subscription is stored first"
    );
    w.commit();
    assert_eq!(w.lines(&c), ["done 1 subscribed 1 q1"]);
    assert_eq!(
        w.ask(&p, publish("t", json!([1])).qos(1).ack(1).into()),
        NONE
    );
    w.commit();
    assert_eq!(w.lines(&p), ["done 1 published"]);
    assert_eq!(
        w.ask(&p, publish("t", json!([2])).ack(2).into()),
        ["done 2 published"],
        "not kept"
    );
    assert_eq!(w.records(records::QUEUES), 1);
    w.lines(&c);
    w.send(&c, settle(1));
    w.commit();
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn a_welcome_waits_until_the_session_is_stored() {
    let mut w = by_hand();
    let c = w.join(client("c").expiry(60));
    assert_eq!(w.lines(&c), NONE);
    w.commit();
    assert_eq!(w.lines(&c), ["joined"]);
    let d = w.join(client("d").expiry(60));
    w.fail();
    assert_eq!(w.lines(&d), ["ended StorageUnavailable"]);
}

#[test]
fn a_failed_commit_takes_back_and_says_so() {
    let mut w = by_hand();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!(["old"])).into());
    w.commit();
    w.lines(&a);
    w.ask(&b, sub(1, "#").into());
    for n in 2..=4 {
        w.send(&a, put(n, "k", json!([n])).into());
    }
    w.send(&a, put(5, "new", json!([1])).into());
    w.send(&b, call(6, "fox/kv/get", json!(["k"])));
    assert_eq!(w.lines(&b).len(), 4);
    w.fail();
    assert_eq!(
        w.lines(&a),
        ["2", "3", "4", "5"].map(|n| format!("refused {n} StorageUnavailable"))
    );
    let lines = w.lines(&b);
    assert_eq!(
        lines,
        [
            "event 1 k [\"old\"]",
            "event 1 new - clears",
            "failed 6 StorageUnavailable"
        ],
        "subscribers learn what holds, and nobody reads what was taken back"
    );
    assert_eq!(w.key(&b, "k")["value"], json!("old"));
    assert_eq!(w.key(&b, "new")["value"], json!(null));
    // Refused at once until the store is found working again.
    assert!(w.realm.is_store_down());
    assert_eq!(
        w.ask(&a, put(7, "k", json!([7])).into()),
        ["refused 7 StorageUnavailable"]
    );
    w.probe();
    w.commit();
    assert!(!w.realm.is_store_down());
    assert_eq!(w.ask(&a, put(8, "k", json!([8])).into()), NONE);
    w.commit();
    assert_eq!(w.lines(&a), ["done 8 published"]);
    w.restart();
    let a = w.plain();
    assert_eq!(w.key(&a, "k")["value"], json!(8));
}

#[test]
fn a_failed_commit_returns_a_lock_to_its_former_owner_or_releases_it() {
    for former_is_gone in [false, true] {
        let mut w = by_hand();
        let (a, b, reader) = (w.plain(), w.plain(), w.plain());
        w.ask(&a, put(1, "k", json!(["a"])).will(json!("a gone")).into());
        w.commit();
        // b takes it over without condition; not durable.
        w.ask(&b, put(1, "k", json!(["b"])).will(json!("b gone")).into());
        if former_is_gone {
            w.leave(&a, Leave::Lost);
        }
        w.fail();
        let report = w.key(&reader, "k");
        if former_is_gone {
            assert_eq!(
                (&report["value"], &report["owner"]),
                (&json!("a gone"), &Value::Null)
            );
        } else {
            assert_eq!(
                (&report["value"], &report["owner"]),
                (&json!("a"), &json!(a.id().0))
            );
            w.leave(&b, Leave::Lost);
            assert_eq!(w.key(&reader, "k")["value"], json!("a"), "b owns nothing");
            w.leave(&a, Leave::Lost);
            assert_eq!(w.key(&reader, "k")["value"], json!("a gone"));
        }
    }
}

fn locked() -> (World, Peer, Peer) {
    let mut w = by_hand();
    let (a, b) = (w.plain(), w.plain());
    w.ask(
        &a,
        put(1, "lock", json!(["a"]))
            .when(json!(null))
            .will(json!(null))
            .into(),
    );
    w.commit();
    w.lines(&a);
    w.ask(
        &b,
        put(1, "lock", json!(["b"]))
            .when(json!(null))
            .watch()
            .will(json!(null))
            .into(),
    );
    (w, a, b)
}

#[test]
fn releases_stand_and_recovery_serves_those_who_wait() {
    let (mut w, a, b) = locked();
    w.send(&a, put(9, "other", json!([1])).into());
    w.fail();
    w.lines(&a);
    // The owner releases while the store is down.
    assert_eq!(
        w.ask(&a, put(2, "lock", json!([])).into()),
        NONE,
        "stands, but is not durable yet"
    );
    assert_eq!(w.key(&a, "lock")["value"], json!(null));
    assert_eq!(w.lines(&b), NONE, "nobody can be granted anything");
    w.probe();
    w.fail();
    assert_eq!(w.lines(&a), NONE);
    w.probe();
    w.commit_one();
    assert_eq!(w.lines(&a), ["done 2 published unmatched"]);
    w.commit();
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
    w.restart();
    let c = w.plain();
    assert_eq!(
        w.key(&c, "lock")["value"],
        json!(null),
        "b died with the process"
    );
}

#[test]
fn a_release_in_a_failed_commit_stands_and_is_answered_once_durable() {
    let (mut w, a, b) = locked();
    w.send(&a, put(2, "lock", json!([])).into());
    assert_eq!(
        w.ask(&a, call(5, "fox/kv/get", json!(["lock"]))),
        NONE,
        "not durable yet"
    );
    w.fail();
    assert_eq!(w.lines(&a), ["failed 5 StorageUnavailable"]);
    assert_eq!(
        w.lines(&b),
        ["refused 1 StorageUnavailable"],
        "the grant was not kept"
    );
    assert_eq!(w.key(&a, "lock")["value"], json!(null));
    // Any commit that succeeds ends the outage, and what was lost follows.
    let c = w.join(client("c").expiry(5));
    w.commit();
    assert_eq!(w.lines(&c), ["joined"]);
    assert_eq!(w.lines(&a), ["done 2 published unmatched"]);
    w.restart();
    let d = w.plain();
    assert_eq!(w.key(&d, "lock")["value"], json!(null));
    assert_eq!(
        w.realm.counters().wills_applied,
        0,
        "the stored release came with the recovery"
    );
}

#[test]
fn a_will_while_the_store_is_down_stands_and_is_stored_later() {
    let (mut w, a, b) = locked();
    w.send(&b, put(9, "other", json!([1])).into());
    w.fail();
    w.lines(&b);
    w.leave(&a, Leave::Lost);
    assert_eq!(w.lines(&b), NONE);
    w.probe();
    w.commit();
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
}

#[test]
fn a_refused_exactly_once_publish_may_be_sent_again_under_its_id() {
    let mut w = by_hand();
    let (c, reader) = (lasting(&mut w, "c"), w.plain());
    w.send(&c, put(1, "k", json!([1])).qos(2).receipt(7).into());
    w.fail();
    assert_eq!(w.lines(&c), ["refused 1 StorageUnavailable"]);
    w.probe();
    w.commit();
    w.send(&c, put(2, "k", json!([2])).qos(2).receipt(7).into());
    w.commit();
    assert_eq!(w.lines(&c), ["done 2 published unmatched"]);
    assert_eq!(
        w.key(&reader, "k")["value"],
        json!(2),
        "a new message, not a repetition"
    );
}

#[test]
fn a_refused_subscription_is_none() {
    let mut w = by_hand();
    let (c, p) = (lasting(&mut w, "c"), w.plain());
    w.send(&c, sub(1, "t").into());
    w.fail();
    assert_eq!(w.lines(&c), ["refused 1 StorageUnavailable"]);
    w.send(&p, publish("t", json!([1])).into());
    assert_eq!(w.lines(&c), NONE);
    assert_eq!(w.size("subscriptions"), 0);
}

#[test]
fn what_a_session_did_while_the_store_was_down_is_stored_when_it_works_again() {
    let mut w = by_hand();
    let (c, p) = (lasting(&mut w, "c"), w.plain());
    w.send(&c, sub(1, "a").qos(1).into());
    w.send(&c, sub(2, "b").qos(1).into());
    for n in 1..=4 {
        w.send(&p, publish("a", json!([n])).qos(2).ack(n).into());
    }
    w.send(&c, publish("x", json!([])).qos(2).receipt(3).ack(3).into());
    w.commit();
    w.lines(&c);
    w.lines(&p);
    let before = w.disk.clone();
    w.send(&c, settle(1));
    w.send(&c, advance(2));
    w.send(&c, unsub(4, 2));
    w.send(&c, release_receipt(5, 3));
    w.send(&p, publish("a", json!([5])).qos(1).ack(9).into());
    w.fail();
    assert_eq!(w.disk, before);
    assert_eq!(
        w.lines(&p),
        ["refused 9 StorageUnavailable"],
        "it went out and stands, but that is not kept"
    );
    assert_eq!(
        w.lines(&c),
        ["event 1 a [5] q1 @5"],
        "its own answers wait for the store"
    );
    w.probe();
    w.commit();
    assert_eq!(w.lines(&p), NONE, "answered once");
    let lines = w.lines(&c);
    assert_eq!(
        lines,
        ["release 2", "done 4 unsubscribed", "done 5 released true"]
    );
    assert_eq!(w.records(records::SUBSCRIPTIONS), 1);
    assert_eq!(w.records(records::RECEIPTS), 0);
    w.restart();
    w.auto_commit = true;
    let c = w.join(client("c").expiry(600));
    assert_eq!(
        w.lines(&c),
        [
            "resumed",
            "release 2",
            "event 1 a [3] q1 @3 again",
            "event 1 a [4] q1 @4 again",
            "event 1 a [5] q1 @5 again"
        ]
    );
}

#[test]
fn the_publish_that_finds_the_disk_full_is_answered_as_soon_as_that_is_known() {
    let mut w = by_hand();
    let (c, p) = (lasting(&mut w, "c"), w.plain());
    let q = w.join(client("q"));
    w.send(&c, sub(1, "t").qos(2).into());
    w.commit();
    w.lines(&c);
    w.lines(&q);
    w.leave(&c, Leave::Lost);
    w.send(&p, publish("t", json!([1])).qos(1).ack(1).into());
    w.send(&q, publish("t", json!([2])).qos(2).receipt(7).ack(2).into());
    assert_eq!(w.lines(&p), NONE, "not before it is on disk");
    w.fail();
    assert_eq!(w.lines(&p), ["refused 1 StorageUnavailable"]);
    assert_eq!(w.lines(&q), ["refused 2 StorageUnavailable"]);
    w.probe();
    w.commit();
    // Its id is free: this is another message.
    w.send(&q, publish("t", json!([3])).qos(2).receipt(7).ack(3).into());
    w.commit();
    assert_eq!(w.lines(&q), ["done 3 published"]);
    w.restart();
    w.auto_commit = true;
    let c = w.join(client("c").expiry(600));
    let got = w.lines(&c);
    assert_eq!(got.len(), 4, "what had gone out stands: {got:?}");
}

#[test]
fn an_exactly_once_publish_of_a_lasting_session_is_not_doubled_by_a_full_disk() {
    let mut w = by_hand();
    let (c, q) = (lasting(&mut w, "c"), lasting(&mut w, "q"));
    w.send(&c, sub(1, "t").qos(2).into());
    w.commit();
    w.lines(&c);
    w.lines(&q);
    let message = |ack| publish("t", json!([1])).qos(2).receipt(7).ack(ack);
    w.send(&q, message(1).into());
    w.fail();
    // It may not be refused, or the id would be free for another message.
    assert_eq!(w.lines(&q), ["ended StorageUnavailable"]);
    w.leave(&q, Leave::Lost);
    let early = w.join(client("q").expiry(600));
    w.send(&early, message(2).into());
    assert_eq!(
        w.lines(&early),
        NONE,
        "nothing is promised before the disk works"
    );
    w.leave(&early, Leave::Lost);
    w.probe();
    w.commit();
    let q = w.join(client("q").expiry(600));
    w.send(&q, message(3).into());
    w.commit();
    assert_eq!(w.lines(&q), ["resumed", "done 3 published"]);
    w.restart();
    w.auto_commit = true;
    let c = w.join(client("c").expiry(600));
    let got = w.lines(&c);
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(w.records(records::RECEIPTS), 1);
}

#[test]
fn what_cannot_be_queued_durably_is_refused_before_anybody_receives_it() {
    let mut w = by_hand();
    let (c, p) = (lasting(&mut w, "c"), w.plain());
    w.send(&c, sub(1, "q").qos(2).into());
    w.send(&p, sub(1, "q").into());
    w.send(&p, put(2, "k", json!([1])).into());
    w.fail();
    w.send(&c, sub(3, "q").qos(2).into());
    w.lines(&c);
    w.lines(&p);
    w.probe();
    w.commit();
    w.send(&c, sub(4, "q").qos(2).into());
    w.commit();
    w.send(&p, put(5, "k", json!([1])).into());
    w.fail();
    w.lines(&c);
    w.lines(&p);
    w.send(&p, publish("q", json!([1])).qos(2).echoed().ack(6).into());
    assert_eq!(w.lines(&p), ["refused 6 StorageUnavailable"]);
    assert_eq!(w.lines(&c), NONE);
    // What needs no disk goes on.
    w.send(&p, publish("q", json!([2])).echoed().ack(7).into());
    let lines = w.lines(&p);
    assert!(
        lines.iter().any(|line| line.starts_with("event")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("done 7")),
        "{lines:?}"
    );
}

#[test]
fn a_restart_keeps_values_tokens_and_tombstones() {
    let mut w = World::durable();
    let a = w.plain();
    let kw = put(1, "kept", json!([])).payload(both(&json!([1, 2]), &json!({"h": 1})));
    w.ask(&a, kw.into());
    w.ask(&a, put(2, "gone", json!([1])).into());
    w.ask(&a, put(3, "gone", json!([])).into());
    w.ask(
        &a,
        put(4, "bytes", json!([])).payload(raw(b"\xff\x00")).into(),
    );
    let (kept, gone) = (w.key(&a, "kept"), w.key(&a, "gone"));
    assert!(gone["token"].as_u64().unwrap() > 0);
    w.restart();
    let a = w.plain();
    assert_eq!(w.key(&a, "kept"), kept);
    assert_eq!(w.key(&a, "gone"), gone);
    let lines = w.ask(&a, sub(1, "#").retained().into());
    assert_eq!(lines.len(), 3);
    w.ask(&a, put(5, "gone", json!([2])).into());
    assert!(w.key(&a, "gone")["token"].as_u64() > gone["token"].as_u64());
}

#[test]
fn tokens_grow_even_if_the_clock_was_set_back() {
    let mut w = World::durable();
    let a = w.plain();
    w.ask(&a, put(1, "k", json!([1])).into());
    let before = w.key(&a, "k")["token"].as_u64();
    w.now.unix_ms -= 86_400_000;
    w.restart();
    let a = w.plain();
    w.ask(&a, put(1, "k", json!([2])).into());
    assert!(w.key(&a, "k")["token"].as_u64() > before);
}

#[test]
fn the_wills_of_the_dead_are_applied_before_anybody_joins() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    for (n, key) in ["z", "a", "m"].into_iter().enumerate() {
        w.ask(&a, put(n as u64, key, json!([1])).will(json!([key])).into());
    }
    w.ask(
        &b,
        put(1, "lost", json!([1]))
            .will(json!(null))
            .if_lost()
            .into(),
    );
    w.ask(
        &b,
        put(1, "lock", json!([1]))
            .when(json!(null))
            .watch()
            .will(json!(null))
            .into(),
    );
    w.restart();
    let c = w.plain();
    assert_eq!(w.realm.counters().wills_applied, 5);
    let tokens: Vec<_> = ["z", "a", "m"]
        .map(|key| {
            let report = w.key(&c, key);
            assert_eq!(
                (&report["value"], &report["owner"]),
                (&json!([key]), &Value::Null)
            );
            report["token"].as_u64().unwrap()
        })
        .to_vec();
    assert!(tokens.is_sorted(), "in the order they were armed");
    for key in ["lost", "lock"] {
        assert_eq!(w.key(&c, key)["value"], json!(null));
    }
    w.restart();
    assert_eq!(w.realm.counters().wills_applied, 0, "once");
}

#[test]
fn a_restart_keeps_lasting_sessions_with_all_they_hold() {
    let mut w = World::durable();
    let p = w.plain();
    let c = w.join(client("c").expiry(600));
    w.ask(&c, sub(1, "a/#").qos(2).identifier(7).into());
    w.ask(&c, sub(2, "b").qos(1).filter(json!({"x": 1})).into());
    w.ask(&c, publish("x", json!([])).qos(2).receipt(3).ack(3).into());
    for n in 1..=3 {
        w.send(&p, publish("a/x", json!([n])).qos(2).into());
    }
    w.lines(&c);
    w.send(&c, advance(1));
    w.send(&c, settle(2));
    w.leave(&c, Leave::Lost);
    w.send(&p, publish("b", json!([{"x": 1}])).qos(1).into());
    w.send(&p, publish("b", json!([{"x": 2}])).qos(1).into());
    w.restart_after(secs(300));
    let p = w.plain();
    w.send(&p, publish("b", json!([{"x": 1}, "new"])).qos(1).into());
    let again = w.join(client("c").expiry(600));
    assert_eq!(again.id(), c.id());
    let lines = w.lines(&again);
    let expected = [
        "resumed",
        "release 1",
        "event 1 a/x [3] q2 @3 ids[7] again",
        "event 2 b [{\"x\":1}] q1 @4",
    ];
    assert_eq!(lines[..4], expected);
    assert!(
        lines[4].ends_with("b [{\"x\":1},\"new\"] q1 @5"),
        "{lines:?}"
    );
    // The unreleased id is still known.
    let repeated = publish("a/x", json!(["again"]))
        .qos(2)
        .receipt(3)
        .ack(4)
        .echoed();
    assert_eq!(w.ask(&again, repeated.into()), ["done 4 published"]);
    // What it lasts was counted while the router was down.
    w.leave(&again, Leave::Lost);
    w.restart_after(secs(600));
    w.pass(Duration::ZERO);
    assert_eq!(w.size("sessions"), 0);
    let spaces = [
        records::SESSIONS,
        records::QUEUES,
        records::RECEIPTS,
        records::SUBSCRIPTIONS,
    ];
    for space in spaces {
        assert_eq!(w.records(space), 0, "{space:?}");
    }
}

#[test]
fn a_restart_publishes_last_wills_of_connections_that_died() {
    let mut w = World::durable();
    let keeper = w.join(client("keeper").expiry(600));
    w.ask(&keeper, sub(1, "will/#").qos(1).into());
    w.leave(&keeper, Leave::Lost);
    w.join(client("now").will(0, publish("will/now", json!(["now"])).qos(1).retain()));
    w.join(
        client("delayed")
            .expiry(600)
            .will(20, publish("will/delayed", json!(["later"])).qos(1)),
    );
    let clean = w.join(client("clean").will(0, publish("will/clean", json!(["no"])).qos(1)));
    w.leave(&clean, Leave::Clean);
    w.restart();
    let reader = w.plain();
    assert_eq!(w.key(&reader, "will.now")["value"], json!("now"));
    w.pass(secs(20));
    let keeper = w.join(client("keeper").expiry(600));
    let got = w.lines(&keeper);
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(got[1].contains("will/now [\"now\"] q1"));
    assert!(got[2].contains("will/delayed [\"later\"] q1"));
    assert_eq!(w.records(records::LAST_WILLS), 0);
}

#[test]
fn a_kept_last_will_that_came_while_the_store_was_down_survives_a_kill() {
    for is_stored in [false, true] {
        let mut w = by_hand();
        let will = publish("will/now", json!(["now"])).qos(1).retain();
        let c = w.join(client("c").expiry(600).will(0, will));
        w.commit();
        let p = w.plain();
        w.send(&p, put(1, "k", json!([1])).into());
        w.fail();
        w.leave(&c, Leave::Lost);
        // The store works again: what the end of the connection wrote is kept, and then what it owes.
        w.commit_one();
        if is_stored {
            w.probe();
            w.commit();
            assert_eq!(w.records(records::LAST_WILLS), 0);
        }
        w.restart();
        w.commit();
        let reader = w.plain();
        w.auto_commit = true;
        assert_eq!(w.key(&reader, "will.now")["value"], json!("now"));
        assert_eq!(w.records(records::LAST_WILLS), 0);
    }
}

#[test]
fn what_a_failed_commit_lost_comes_to_the_disk_with_the_next_one() {
    let mut w = by_hand();
    let keeper = lasting(&mut w, "keeper");
    w.send(&keeper, sub(1, "will").qos(1).into());
    w.leave(&keeper, Leave::Lost);
    let will = |n: u64| publish("will", json!([n])).qos(1);
    w.join(client("c").clean().will(0, will(1)));
    w.commit();
    // Ends the session before it, whose last will is published; that fails.
    let second = w.join(client("c").clean().will(0, will(2)));
    w.fail();
    w.leave(&second, Leave::Lost);
    // This commit forgets that there was a last will to publish.
    w.commit_one();
    w.restart();
    w.commit();
    w.auto_commit = true;
    let keeper = w.join(client("keeper").expiry(600));
    let got = w.lines(&keeper);
    for n in 1..=2 {
        let of_it = |line: &&String| line.contains(&format!("will [{n}] q1"));
        assert_eq!(got.iter().filter(of_it).count(), 1, "{got:?}");
    }
    assert_eq!(w.records(records::LAST_WILLS), 0);
}

#[test]
fn a_session_that_stops_being_lasting_leaves_nothing_on_disk() {
    let mut w = World::durable();
    let p = w.plain();
    let c = w.join(client("c").expiry(600));
    w.ask(&c, sub(1, "t").qos(1).into());
    w.send(&p, publish("t", json!([1])).qos(1).into());
    w.leave(&c, Leave::Lost);
    let c = w.join(client("c"));
    assert_eq!(w.lines(&c)[0], "resumed");
    assert!(
        w.disk.keys().all(|(space, _)| *space == records::META.0),
        "{:?}",
        w.disk.keys()
    );
    w.restart();
    assert_eq!(w.size("sessions"), 0);
    // And the other way round.
    let c = w.join(client("c"));
    w.ask(&c, sub(1, "t").qos(1).into());
    let p = w.plain();
    w.send(&p, publish("t", json!([1])).qos(1).into());
    w.send(&c, Command::SetExpiry(secs(60)));
    w.restart();
    let c = w.join(client("c").expiry(60));
    let got = w.lines(&c);
    assert_eq!(got.len(), 2, "{got:?}");
}

#[test]
fn a_forgotten_tombstone_is_forgotten_on_disk() {
    let limits = router_core::limits::RealmLimits {
        tombstones: 3,
        ..Default::default()
    };
    let mut w = World::new(true, limits);
    let a = w.plain();
    for n in 0..10 {
        w.ask(&a, put(1, &format!("k/{n}"), json!([1])).into());
        w.ask(&a, put(2, &format!("k/{n}"), json!([])).into());
    }
    assert_eq!(w.records(records::VALUES), 3);
}

#[test]
fn a_client_that_floods_durable_writes_and_does_not_read_ends() {
    let lane = router_core::limits::LaneLimit {
        frames: 8,
        bytes: 1 << 20,
    };
    let limits = router_core::limits::RealmLimits {
        outbox: router_core::limits::OutboxLimits {
            ordered: lane,
            ..Default::default()
        },
        ..Default::default()
    };
    let mut w = World::new(true, limits);
    let a = w.plain();
    for n in 0..20 {
        w.send(&a, put(n, "k", json!([n])).into());
    }
    assert_eq!(w.size("sessions"), 0);
    assert!(matches!(w.read(&a).last(), Some(Delivery::Ended(_))));
}

#[test]
fn a_client_id_belongs_to_whoever_proved_a_name() {
    let mut w = World::durable();
    let join = || client("c").expiry(600);
    let joe = w.join(join().proven("joe"));
    w.ask(&joe, sub(1, "secret").qos(1).into());
    for other in [join(), join().proven("ann"), join().proven("ann").clean()] {
        assert!(w.try_join(other).is_err());
    }
    assert_eq!(w.lines(&joe), NONE, "it is not even disturbed");
    let p = w.plain();
    w.leave(&joe, Leave::Lost);
    w.ask(&p, publish("secret", json!([1])).qos(1).ack(1).into());
    w.restart();
    assert!(w.try_join(join()).is_err(), "also after a restart");
    let joe = w.join(join().proven("joe"));
    assert_eq!(w.lines(&joe).len(), 2, "resumed, with its message");
}

#[test]
fn what_nobody_proved_is_not_inherited_by_somebody_who_did() {
    let mut w = World::durable();
    let anyone = w.join(client("c").expiry(600));
    w.ask(&anyone, sub(1, "t").qos(1).into());
    w.leave(&anyone, Leave::Lost);
    let joe = w.join(client("c").expiry(600).proven("joe"));
    assert_eq!(w.lines(&joe), ["joined"]);
    assert_eq!(w.size("subscriptions"), 0);
}

#[test]
fn a_role_that_lost_a_right_loses_what_was_queued_under_it() {
    let mut w = World::durable();
    let join = || client("c").expiry(600).proven("joe");
    let joe = w.join(join());
    w.ask(&joe, sub(1, "#").qos(1).into());
    w.leave(&joe, Leave::Lost);
    let p = w.plain();
    for (n, on) in [(1, "secret"), (2, "open")] {
        w.ask(&p, publish(on, json!([n])).qos(1).ack(n).into());
    }
    let narrow = role("narrow", &["subscribe #"], &["subscribe secret"]);
    let joe = w.join(join().role(narrow));
    let lines = w.lines(&joe);
    assert!(lines.len() == 2 && lines[1].contains("open"), "{lines:?}");
    assert_eq!(w.records(records::QUEUES), 1);
}
