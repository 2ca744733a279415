//! Sessions: coming and going, the realm's own procedures and events, rights.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::RealmLimits;
use router_core::model::{EndReason, ErrorKind};
use router_core::session::Leave;
use serde_json::{Value, json};

const NONE: [&str; 0] = [];

#[test]
fn a_client_goes_on_with_its_session_unless_it_starts_clean() {
    let mut w = World::memory();
    let p = w.plain();
    let c = w.join(client("c").expiry(60));
    w.lines(&c);
    w.ask(&c, sub(1, "t").qos(1).into());
    w.leave(&c, Leave::Lost);
    w.send(&p, publish("t", json!([1])).qos(1).into());
    w.send(&p, publish("t", json!([2])).into());
    let again = w.join(client("c").expiry(60));
    assert_eq!(again.id(), c.id());
    assert_eq!(
        w.lines(&again),
        ["resumed", "event 1 t [1] q1 @1"],
        "at most once is not kept"
    );
    let clean = w.join(client("c").expiry(60).clean());
    assert_ne!(clean.id(), c.id());
    assert_eq!(w.lines(&again), ["ended TakenOver"]);
    again.outbox.release(again.connection.generation);
    assert_eq!(w.lines(&clean), ["joined"]);
    w.send(&p, publish("t", json!([3])).qos(1).into());
    assert_eq!(w.lines(&clean), NONE, "subscriptions are gone");
}

#[test]
fn a_session_lasts_as_long_as_it_asked_and_no_longer() {
    let mut w = World::memory();
    for (lasts, waits, present) in [(10, 9, true), (10, 10, false), (0, 0, false)] {
        let c = w.join(client("c").expiry(lasts).clean());
        w.leave(&c, Leave::Lost);
        w.pass(secs(waits));
        let again = w.join(client("c").expiry(lasts));
        assert_eq!(
            w.lines(&again),
            [if present { "resumed" } else { "joined" }]
        );
        w.leave(&again, Leave::Clean);
    }
    w.pass(secs(100));
    assert_eq!((w.size("sessions"), w.size("timers")), (0, 0));
    let limits = RealmLimits {
        expiry_max: secs(5),
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let c = w.join(client("c").expiry(1_000));
    w.leave(&c, Leave::Lost);
    w.pass(secs(5));
    assert_eq!(w.size("sessions"), 0, "at most as long as the realm allows");
}

#[test]
fn the_successor_gets_nothing_until_the_former_connection_has_let_go() {
    let mut w = World::memory();
    let p = w.plain();
    let first = w.join(client("c").expiry(60));
    w.ask(&first, sub(1, "t").qos(1).into());
    let second = w.join(client("c").expiry(60));
    let third = w.join(client("c").expiry(60));
    w.send(&p, publish("t", json!([1])).qos(1).into());
    // The one in between never was let in, so its leaving says nothing.
    assert_eq!(w.lines(&second), ["ended TakenOver"]);
    second.outbox.release(second.connection.generation);
    assert_eq!(w.lines(&third), NONE);
    assert_eq!(w.lines(&first), ["ended TakenOver"]);
    w.send(
        &first,
        publish("t", json!(["ghost"])).echoed().qos(1).into(),
    );
    first.outbox.release(first.connection.generation);
    assert_eq!(w.lines(&third), ["resumed", "event 1 t [1] q1 @1"]);
    // Letting go before the realm hears of it is letting go as well.
    third.outbox.release(third.connection.generation);
    let fourth = w.join(client("c").expiry(60));
    assert_eq!(w.lines(&fourth)[0], "resumed");
}

#[test]
fn last_wills_are_published_on_loss_and_forgotten_on_a_clean_end() {
    let will = || publish("will", json!(["gone"]));
    // (delay, expiry, how it ends, seconds until the will)
    let cases = [
        (0, 0, Leave::Lost, Some(0)),
        (0, 60, Leave::Lost, Some(0)),
        (5, 60, Leave::Lost, Some(5)),
        (5, 3, Leave::Lost, Some(3)),
        (5, 0, Leave::Lost, Some(0)),
        (0, 0, Leave::Clean, None),
        (5, 60, Leave::Clean, None),
    ];
    for (n, (delay, expiry, how, after)) in cases.into_iter().enumerate() {
        let mut w = World::memory();
        let reader = w.plain();
        w.subscribed(&reader, "will");
        let c = w.join(client("c").expiry(expiry).will(delay, will()));
        w.leave(&c, how);
        let mut heard = None;
        for second in 0..70 {
            if !w.lines(&reader).is_empty() {
                assert!(heard.is_none(), "case {n}: once");
                heard = Some(second);
            }
            w.pass(secs(1));
        }
        assert_eq!(heard, after, "case {n}");
    }
}

#[test]
fn a_resumed_session_has_no_delayed_will_and_a_taken_over_one_an_immediate() {
    let mut w = World::memory();
    let reader = w.plain();
    w.subscribed(&reader, "will");
    let join = |delay| {
        client("c")
            .expiry(60)
            .will(delay, publish("will", json!([delay])))
    };
    let c = w.join(join(5));
    w.leave(&c, Leave::Lost);
    w.pass(secs(4));
    let c = w.join(join(5));
    w.pass(secs(60));
    assert_eq!(w.lines(&reader), NONE, "resumed in time");
    // A takeover of a connection: delayed wills are cancelled, immediate ones are due.
    let c2 = w.join(join(0));
    assert_eq!(w.lines(&reader), NONE);
    let c3 = w.join(client("c").expiry(60));
    assert_eq!(w.lines(&reader), ["event 1 will [0]"]);
    let clean = w.join(join(5));
    drop((c, c2, c3, clean));
    w.join(client("c").clean());
    assert_eq!(
        w.lines(&reader),
        ["event 1 will [5]"],
        "the session ended, so it is due"
    );
}

#[test]
fn a_last_will_can_be_kept_disarmed_and_refused() {
    let mut w = World::memory();
    let reader = w.plain();
    let c = w.join(client("c").will(0, publish("status", json!(["off"])).retain()));
    w.leave(&c, Leave::Lost);
    assert_eq!(w.key(&reader, "status")["value"], json!("off"));
    let c = w.join(client("c").will(0, publish("status", json!(["again"])).retain()));
    w.send(&c, router_core::model::Command::DisarmLastWill);
    w.leave(&c, Leave::Lost);
    assert_eq!(w.key(&reader, "status")["value"], json!("off"));
    let refused = w.try_join(client("c").will(0, publish("wamp/x", json!([]))));
    assert_eq!(
        refused.err().map(|r| r.kind),
        Some(ErrorKind::NotAuthorized)
    );
    let refused = w.try_join(
        client("d")
            .role(role("r", &["publish ok"], &[]))
            .will(0, publish("no", json!([])).retain()),
    );
    assert_eq!(
        refused.err().map(|r| r.kind),
        Some(ErrorKind::NotAuthorized),
        "what the role may not publish"
    );
    assert_eq!(w.key(&reader, "no")["value"], json!(null));
}

#[test]
fn a_kept_last_will_serves_those_who_wait() {
    let mut w = World::memory();
    let a = w.plain();
    let c = w.join(client("c").will(0, publish("k", json!(["free"])).retain()));
    w.ask(
        &a,
        put(1, "k", json!(["a"])).when(json!("free")).watch().into(),
    );
    w.leave(&c, Leave::Lost);
    assert_eq!(w.lines(&a), ["done 1 published unmatched"]);
}

#[test]
fn the_session_procedures() {
    let mut w = World::memory();
    let a = w.plain();
    let b = w.join(named("bob", role("user", &["subscribe #"], &[])));
    let result = |w: &mut World, name: &str, list: Value| {
        let line = w
            .ask(&a, call(1, &format!("wamp/session/{name}"), list))
            .pop()
            .unwrap();
        line.strip_prefix("result 1 ")
            .map_or(json!(line), |text| serde_json::from_str(text).unwrap())
    };
    let mut ids = [a.id().0, b.id().0];
    ids.sort_unstable();
    assert_eq!(result(&mut w, "count", json!([])), json!([2]));
    assert_eq!(result(&mut w, "count", json!([["user"]])), json!([1]));
    assert_eq!(
        result(&mut w, "list", json!(null)),
        json!([ids]),
        "one list"
    );
    assert_eq!(
        result(&mut w, "list", json!([["user"]])),
        json!([[b.id().0]])
    );
    assert_eq!(result(&mut w, "list", json!([[]])), json!([[]]));
    assert_eq!(
        result(&mut w, "list", json!(["user"])),
        json!("failed 1 InvalidArgument")
    );
    let details = result(&mut w, "get", json!([b.id().0]));
    assert_eq!(details[0]["authid"], json!("bob"));
    assert_eq!(details[0]["authrole"], json!("user"));
    assert_eq!(details[0]["session"], json!(b.id().0));
    assert_eq!(
        result(&mut w, "get", json!([1])),
        json!("failed 1 NoSuchSession")
    );
    assert_eq!(
        result(&mut w, "get", json!(["x"])),
        json!("failed 1 InvalidArgument")
    );
    assert_eq!(
        result(&mut w, "nonsense", json!([])),
        json!("failed 1 NoSuchProcedure")
    );
    // A session without connection is not here.
    let c = w.join(client("c").expiry(60));
    assert_eq!(result(&mut w, "count", json!([])), json!([3]));
    w.leave(&c, Leave::Lost);
    assert_eq!(result(&mut w, "count", json!([])), json!([2]));
    assert_eq!(
        result(&mut w, "get", json!([c.id().0])),
        json!("failed 1 NoSuchSession")
    );
}

#[test]
fn killing_sessions() {
    let mut w = World::memory();
    let a = w.plain();
    let kill = |name: &str, list: Value, kwargs: Value| {
        router_core::model::Command::Call(Box::new(router_core::model::Call {
            request: router_core::model::RequestId(1),
            procedure: topic(&format!("wamp/session/{name}")),
            payload: both(&list, &kwargs),
            progress: false,
            more: false,
            timeout: None,
            disclose_me: false,
        }))
    };
    let user = || named("bob", role("user", &["subscribe #"], &[]));
    let b = w.join(user());
    assert_eq!(
        w.ask(&a, kill("kill", json!([b.id().0]), json!(null))),
        ["result 1 -"]
    );
    assert_eq!(w.lines(&b), ["joined", "ended killed wamp.close.killed"]);
    assert_eq!(
        w.ask(&a, kill("kill", json!([b.id().0]), json!(null))),
        ["failed 1 NoSuchSession"]
    );
    assert_eq!(
        w.ask(&a, kill("kill", json!([a.id().0]), json!(null))),
        ["failed 1 NoSuchSession"]
    );
    let (b, c) = (w.join(user()), w.join(user()));
    let why = json!({"reason": "com.my.reason", "message": "go"});
    let mut ids = [b.id().0, c.id().0];
    ids.sort_unstable();
    let expected = format!("result 1 {}", json!([ids]));
    assert_eq!(
        w.ask(&a, kill("kill_by_authid", json!(["bob"]), why)),
        [expected]
    );
    for peer in [b, c] {
        assert_eq!(w.lines(&peer)[1], "ended killed com.my.reason go");
    }
    let b = w.join(user());
    for bad in ["not a uri", "", "a..b"] {
        let lines = w.ask(&a, kill("kill", json!([b.id().0]), json!({"reason": bad})));
        assert_eq!(lines, ["failed 1 InvalidTopic"], "{bad:?}");
    }
    assert_eq!(
        w.ask(&a, kill("kill_by_authrole", json!(["user"]), json!(null))),
        ["result 1 [1]"]
    );
    w.join(user());
    w.join(user());
    assert_eq!(
        w.ask(&a, kill("kill_all", json!([]), json!(null))),
        ["result 1 [2]"]
    );
    assert_eq!(w.size("sessions"), 1, "the caller stays");
}

#[test]
fn the_kill_of_a_lock_holder_releases_before_anything_else_happens() {
    let mut w = World::memory();
    let (a, b, c) = (w.plain(), w.plain(), w.plain());
    w.ask(
        &a,
        put(1, "k", json!([1]))
            .when(json!(null))
            .will(json!(null))
            .into(),
    );
    w.ask(&b, put(1, "k", json!([2])).when(json!(null)).watch().into());
    w.ask(&c, call(1, "wamp/session/kill", json!([a.id().0])));
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
}

#[test]
fn joining_and_leaving_are_announced_to_who_names_them() {
    let mut w = World::memory();
    let (a, deaf) = (w.plain(), w.plain());
    w.subscribed(&a, "wamp/session/#");
    w.subscribed(&deaf, "#");
    let b = w.join(named("bob", role("user", &[], &[])));
    w.lines(&b);
    let lines = w.lines(&a);
    assert!(
        lines[0].starts_with("event 1 wamp/session/on_join [{\"authid\":\"bob\""),
        "{lines:?}"
    );
    let id = b.id();
    w.leave(&b, Leave::Clean);
    let expected = format!("event 1 wamp/session/on_leave [{id},\"bob\",\"user\"]");
    assert_eq!(w.lines(&a), [expected]);
    assert_eq!(w.lines(&deaf), NONE);
}

#[test]
fn rights_hold_for_live_and_replayed_deliveries() {
    let mut w = World::memory();
    let p = w.plain();
    let rights = || {
        role(
            "user",
            &["subscribe #", "publish open/#"],
            &["subscribe secret/#"],
        )
    };
    let a = w.join(named("ann", rights()));
    w.lines(&a);
    for on in ["open/x", "secret/x"] {
        w.ask(&p, put(1, on, json!([on])).trace().into());
    }
    let lines = w.ask(&a, sub(1, "#").retained().after(0).into());
    assert_eq!(
        lines,
        [
            "done 1 subscribed 1",
            "event 1 open/x [\"open/x\"]",
            "event 1 open/x [\"open/x\"] replayed retain"
        ]
    );
    for on in ["open/x", "secret/x"] {
        w.ask(&p, publish(on, json!([1])).into());
    }
    assert_eq!(w.lines(&a), ["event 1 open/x [1]"]);
    assert_eq!(w.realm.counters().delivery_refused, 1);
    assert_eq!(
        w.ask(&a, sub(2, "secret/+").into()),
        ["refused 2 NotAuthorized"]
    );
    assert_eq!(
        w.ask(&a, sub(3, "secret/x").into()),
        ["refused 3 NotAuthorized"]
    );
    assert_eq!(
        w.ask(&a, publish("open/y", json!([])).ack(4).into()).len(),
        1
    );
    assert_eq!(
        w.ask(&a, publish("closed", json!([])).ack(5).into()),
        ["refused 5 NotAuthorized"]
    );
    assert_eq!(w.ask(&a, publish("closed", json!([])).into()), NONE);
    assert_eq!(w.realm.counters().publish_refused, 2);
}

#[test]
fn a_resumed_session_has_the_rights_of_its_new_connection() {
    let mut w = World::memory();
    let p = w.plain();
    let c = w.join(client("c").expiry(60));
    w.ask(&c, sub(1, "t").qos(1).into());
    w.leave(&c, Leave::Lost);
    let c = w.join(client("c").expiry(60).role(role("r", &[], &[])));
    w.lines(&c);
    w.send(&p, publish("t", json!([1])).qos(1).into());
    assert_eq!(w.lines(&c), NONE);
}

#[test]
fn a_resumed_session_may_publish_what_its_new_connection_may() {
    let mut w = World::memory();
    let a = w.plain();
    let c = w.join(client("c").expiry(60));
    w.subscribed(&a, "t");
    w.send(&c, publish("t", json!([1])).into());
    assert_eq!(w.lines(&a).len(), 1);
    w.leave(&c, Leave::Lost);
    let c = w.join(client("c").expiry(60).role(role("r", &[], &[])));
    w.send(&c, publish("t", json!([2])).into());
    assert_eq!(w.lines(&a), NONE);
}

#[test]
fn the_number_of_sessions_is_bounded() {
    let limits = RealmLimits {
        detached_sessions: 2,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let c = w.join(client("c").expiry(60));
    w.join(client("d"));
    let full = w.try_join(client("e")).err().map(|refusal| refusal.kind);
    assert_eq!(full, Some(ErrorKind::QuotaExceeded));
    c.outbox.release(1);
    assert!(
        w.try_join(client("c").expiry(60)).is_ok(),
        "a known client comes back"
    );
}

#[test]
fn a_closing_realm_tells_everybody_and_keeps_lasting_sessions() {
    let mut w = World::memory();
    let (a, c) = (w.plain(), w.join(client("c").expiry(60)));
    w.realm.close(w.now, &EndReason::Shutdown, &mut w.effects);
    w.let_out();
    assert_eq!(w.lines(&a), ["ended Shutdown"]);
    assert_eq!(w.lines(&c), ["joined", "ended Shutdown"]);
    w.leave(&a, Leave::Lost);
    w.leave(&c, Leave::Lost);
    assert_eq!(w.size("sessions"), 1);
}
