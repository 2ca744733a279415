//! Kept values, conditions, waiting writes, wills, history and replay.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::RealmLimits;
use router_core::model::Delivery;
use router_core::session::Leave;
use serde_json::{Value, json};

const NONE: [&str; 0] = [];

fn value(w: &mut World, peer: &Peer, key: &str) -> Value {
    w.key(peer, key)["value"].clone()
}

fn token(w: &mut World, peer: &Peer, key: &str) -> u64 {
    w.key(peer, key)["token"].as_u64().unwrap()
}

#[test]
fn a_retained_publish_replaces_and_is_replayed() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    for list in [
        json!([{"a": {"x": 1}, "b": 1}]),
        json!([{"a": 5}]),
        json!([[9]]),
    ] {
        assert_eq!(
            w.ask(&a, put(1, "k", list.clone()).into()),
            ["done 1 published unmatched"]
        );
        assert_eq!(value(&mut w, &a, "k"), list[0], "plain replace");
    }
    assert_eq!(
        w.ask(&b, sub(1, "k").retained().into()),
        ["done 1 subscribed 1", "event 1 k [[9]] replayed retain"]
    );
    w.send(&a, publish("k", json!([1])).into());
    assert_eq!(
        value(&mut w, &a, "k"),
        json!([9]),
        "without retain the store is not touched"
    );
}

#[test]
fn keyword_arguments_are_kept_and_falsy_values_too() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    for (n, falsy) in [json!(0), json!(""), json!(false), json!([]), json!({})]
        .into_iter()
        .enumerate()
    {
        let key = format!("k/{n}");
        w.ask(&a, put(1, &key, json!([falsy])).into());
        assert_eq!(
            w.key(&a, &key)["args"],
            json!([falsy]),
            "{falsy} is a value"
        );
    }
    let publish = put(1, "kw", json!([1, 2])).payload(both(&json!([1, 2]), &json!({"h": 1})));
    w.ask(&a, publish.into());
    assert_eq!(
        w.ask(&b, sub(1, "kw").retained().into())[1],
        "event 1 kw [1,2] {\"h\":1} replayed retain"
    );
    let report = w.key(&b, "kw");
    assert_eq!(report["value"], json!([1, 2]));
    assert_eq!(report["kwargs"], json!({"h": 1}));
}

/// Of "Deleting by publish": what is sent to a key, held or not, and whether it is deleted.
#[test]
fn deleting_by_publish() {
    let kw = || json!({"h": 1});
    // (args, kwargs, with when, with will, held before, deletes)
    let cases = [
        (json!(null), json!(null), false, false, false, true),
        (json!([]), json!(null), false, false, false, true),
        (json!([]), json!({}), false, false, false, true),
        (json!([null]), json!(null), false, false, false, true),
        (json!([null]), json!({}), false, false, true, true),
        (json!([]), kw(), false, false, false, false),
        (json!([]), kw(), false, false, true, true),
        (json!([null]), kw(), false, false, true, true),
        (json!([]), kw(), true, false, true, false),
        (json!([]), kw(), false, true, true, false),
        (json!([]), json!(null), true, true, true, true),
        (json!([null, null]), json!(null), false, false, true, false),
        (json!([0]), json!(null), false, false, true, false),
    ];
    for (n, (list, kwargs, when, will, held, deletes)) in cases.into_iter().enumerate() {
        let mut w = World::memory();
        let (a, b) = (w.plain(), w.plain());
        w.subscribed(&b, "k");
        let first = put(1, "k", json!([{"v": 1}]));
        w.ask(
            &a,
            if held { first.will(json!(null)) } else { first }.into(),
        );
        w.lines(&b);
        let mut publish = put(2, "k", json!(null)).payload(both(&list, &kwargs));
        if when {
            publish = publish.when(json!({}));
        }
        if will {
            publish = publish.will(json!(null));
        }
        assert_eq!(w.ask(&a, publish.into()), ["done 2 published"], "case {n}");
        let lines = w.lines(&b);
        assert_eq!(lines.len(), 1, "case {n}");
        assert_eq!(
            lines[0].ends_with(" clears"),
            deletes,
            "case {n}: {lines:?}"
        );
        assert_eq!(w.size("retained_values"), usize::from(!deletes), "case {n}");
        let report = w.key(&b, "k");
        assert_eq!(report["args"].is_null(), deletes, "case {n}: {report}");
        let owned = report["owner"].is_u64();
        assert_eq!(owned, will && !deletes, "case {n}: {report}");
    }
}

#[test]
fn opaque_bytes_delete_only_when_there_are_none() {
    let mut w = World::memory();
    let a = w.plain();
    for (bytes, kept) in [(&b"null"[..], 1), (b"", 0), (b"\xff", 1), (b"[]", 1)] {
        w.send(&a, put(1, "k", json!([])).payload(raw(bytes)).into());
        assert_eq!(w.size("retained_values"), kept, "{bytes:?}");
    }
}

#[test]
fn a_rejected_write_has_no_effect_at_all() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "k");
    w.ask(&a, put(1, "k", json!([{"o": 1}])).into());
    let (seen, before) = (w.lines(&b).len(), w.key(&a, "k"));
    let disk = w.disk.clone();
    let write = || put(2, "k", json!([{"o": 2}])).when(json!({"o": 9})).trace();
    assert_eq!(w.ask(&a, write().into()), ["refused 2 ConditionFailed"]);
    let mut quiet = write();
    quiet.0.request = None;
    assert_eq!(w.ask(&a, quiet.into()), NONE);
    assert_eq!(w.lines(&b), NONE);
    assert_eq!((seen, w.key(&a, "k")), (1, before));
    assert_eq!(w.disk, disk);
    assert_eq!(w.realm.counters().conditions_failed, 2);
    assert_eq!(
        w.ask(&b, sub(3, "#").after(0).into()).len(),
        1,
        "nor a trace"
    );
}

#[test]
fn conditions_fit_by_type_and_subset() {
    let stored = json!({"a": 1, "s": "x", "n": null});
    let cases = [
        (json!(null), false),
        (json!({}), true),
        (json!({"a": 1.0}), true),
        (json!({"a": "1"}), false),
        (json!({"missing": null, "n": null}), true),
        (json!({"a": null}), false),
        (json!({"s": {"deep": 1}}), false),
        (json!("x"), false),
        (json!([1]), false),
    ];
    for (when, fits) in cases {
        let mut w = World::memory();
        let a = w.plain();
        w.ask(&a, put(1, "k", json!([stored])).into());
        let answer = w.ask(&a, put(2, "k", json!([1])).when(when.clone()).into());
        let expected = if fits {
            "done 2 published unmatched"
        } else {
            "refused 2 ConditionFailed"
        };
        assert_eq!(answer, [expected], "{when}");
    }
    let mut w = World::memory();
    let a = w.plain();
    assert_eq!(
        w.ask(&a, put(1, "k", json!([1])).when(json!({})).into()),
        ["refused 1 ConditionFailed"]
    );
    assert_eq!(
        w.ask(&a, put(2, "k", json!([1])).when(json!(null)).into())
            .len(),
        1
    );
}

fn lock(request: u64, name: &str) -> Pub {
    put(request, "lock", json!([{"by": name}]))
        .when(json!(null))
        .watch()
        .will(json!(null))
}

#[test]
fn waiting_writes_are_granted_one_per_release_first_come_first_served() {
    let mut w = World::memory();
    let (a, b, c, reader) = (w.plain(), w.plain(), w.plain(), w.plain());
    w.subscribed(&reader, "lock");
    assert_eq!(w.ask(&a, lock(1, "a").into()), ["done 1 published"]);
    assert_eq!(w.ask(&b, lock(1, "b").into()), NONE);
    assert_eq!(w.ask(&c, lock(1, "c").into()), NONE);
    assert_eq!(
        w.lines(&reader),
        ["event 1 lock [{\"by\":\"a\"}]"],
        "parked writes are invisible"
    );
    assert_eq!(w.key(&reader, "lock")["waiters"], json!(2));
    assert_eq!(w.key(&reader, "lock")["owner"], json!(a.id().0));
    assert_eq!(
        w.ask(&a, put(2, "lock", json!([])).into()),
        ["done 2 published"]
    );
    assert_eq!(w.lines(&b), ["done 1 published"]);
    assert_eq!(w.lines(&c), NONE);
    assert_eq!(
        w.lines(&reader),
        ["event 1 lock [] clears", "event 1 lock [{\"by\":\"b\"}]"]
    );
    w.leave(&b, Leave::Lost);
    assert_eq!(
        w.lines(&c),
        ["done 1 published"],
        "the will of the dead owner releases"
    );
    assert_eq!(w.key(&reader, "lock")["owner"], json!(c.id().0));
    let counters = w.realm.counters();
    assert_eq!(
        (
            counters.writes_parked,
            counters.writes_granted,
            counters.wills_applied
        ),
        (2, 2, 1)
    );
}

#[test]
fn a_write_that_fits_another_waiter_chains() {
    let mut w = World::memory();
    let (a, b, c) = (w.plain(), w.plain(), w.plain());
    // c waits for 2, b for 1 and writes 2: one write serves both, in order.
    w.ask(&c, put(1, "k", json!([3])).when(json!(2)).watch().into());
    w.ask(&b, put(1, "k", json!([2])).when(json!(1)).watch().into());
    w.ask(&a, put(1, "k", json!([1])).into());
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
    assert_eq!(w.lines(&c), ["done 1 published unmatched"]);
    assert_eq!(value(&mut w, &a, "k"), json!(3));
}

#[test]
fn waiters_survive_deletions_and_absent_keys() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(
        &b,
        put(1, "k", json!(["b"])).when(json!("go")).watch().into(),
    );
    w.ask(&a, put(1, "k", json!([1])).into());
    w.ask(&a, put(2, "k", json!([])).into());
    assert_eq!(w.lines(&b), NONE);
    w.ask(&a, put(3, "k", json!(["go"])).into());
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
}

#[test]
fn a_waiter_gives_up_at_its_timeout_and_only_then() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, lock(1, "a").into());
    let waits = || {
        put(1, "lock", json!([1]))
            .when(json!(null))
            .watch_for(ms(500))
    };
    w.ask(&b, waits().into());
    w.pass(ms(499));
    assert_eq!(w.lines(&b), NONE);
    w.pass(ms(1));
    assert_eq!(w.lines(&b), ["refused 1 Timeout"]);
    w.ask(&a, put(2, "lock", json!([])).into());
    assert_eq!(value(&mut w, &b, "lock"), json!(null));
    // Granted in time, the deadline goes with it.
    w.ask(&a, lock(3, "a").into());
    w.ask(&b, waits().into());
    w.ask(&a, put(4, "lock", json!([])).into());
    w.lines(&b);
    w.pass(secs(10));
    assert_eq!(w.lines(&b), NONE);
    assert_eq!(w.size("timers"), 0);
}

#[test]
fn waiting_writes_are_bounded_per_key_and_per_session() {
    let limits = RealmLimits {
        waiters_per_key: 2,
        waiters_per_session: 1,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let peers: Vec<Peer> = (0..4).map(|_| w.plain()).collect();
    w.ask(&peers[0], lock(1, "a").into());
    let wait = |w: &mut World, peer: &Peer, key: &str| {
        w.ask(
            peer,
            put(2, key, json!([1])).when(json!("x")).watch().into(),
        )
    };
    assert_eq!(wait(&mut w, &peers[1], "lock"), NONE);
    assert_eq!(
        wait(&mut w, &peers[1], "other"),
        ["refused 2 QuotaExceeded"]
    );
    assert_eq!(wait(&mut w, &peers[2], "lock"), NONE);
    assert_eq!(wait(&mut w, &peers[3], "lock"), ["refused 2 QuotaExceeded"]);
    w.leave(&peers[2], Leave::Clean);
    assert_eq!(wait(&mut w, &peers[3], "lock"), NONE);
}

#[test]
fn kept_values_are_bounded_but_existing_ones_can_change() {
    let limits = RealmLimits {
        retained_values: 2,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let a = w.plain();
    for key in ["a", "b"] {
        w.ask(&a, put(1, key, json!([1])).into());
    }
    assert_eq!(
        w.ask(&a, put(2, "c", json!([1])).into()),
        ["refused 2 QuotaExceeded"]
    );
    assert_eq!(
        w.ask(&a, put(3, "a", json!([2])).into()),
        ["done 3 published unmatched"]
    );
    assert_eq!(
        w.ask(&a, put(4, "c", json!([])).into()),
        ["done 4 published unmatched"]
    );
    w.ask(&a, put(5, "b", json!([])).into());
    assert_eq!(
        w.ask(&a, put(6, "c", json!([1])).into()),
        ["done 6 published unmatched"]
    );
}

#[test]
fn a_session_cannot_be_granted_what_its_own_end_releases() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, lock(1, "a").into());
    w.ask(&a, lock(2, "a again").into());
    w.ask(&b, lock(1, "b").into());
    w.leave(&a, Leave::Lost);
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
    assert_eq!(value(&mut w, &b, "lock"), json!({"by": "b"}));
    w.leave(&b, Leave::Lost);
    assert_eq!(w.size("retained_values"), 0);
    assert_eq!((w.size("timers"), w.size("sessions")), (0, 0));
}

#[test]
fn wills_apply_on_any_end_or_only_on_a_lost_connection() {
    for (how, if_lost, expected) in [
        (Leave::Clean, false, json!("gone")),
        (Leave::Lost, false, json!("gone")),
        (Leave::Clean, true, json!("here")),
        (Leave::Lost, true, json!("gone")),
    ] {
        let mut w = World::memory();
        let (a, b) = (w.plain(), w.plain());
        let publish = put(1, "k", json!(["here"])).will(json!("gone"));
        w.ask(&a, if if_lost { publish.if_lost() } else { publish }.into());
        w.leave(&a, how);
        let report = w.key(&b, "k");
        assert_eq!(report["value"], expected, "{how:?} {if_lost}");
        assert_eq!(report["owner"], json!(null), "disarmed in any case");
    }
}

#[test]
fn a_will_is_an_event_of_its_owner_and_null_deletes() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "k");
    w.ask(
        &a,
        put(1, "k", json!([{"st": "on", "pid": 7}]))
            .will(json!({"st": "off"}))
            .into(),
    );
    w.lines(&b);
    let (before, owner) = (token(&mut w, &b, "k"), a.id());
    w.leave(&a, Leave::Lost);
    let got = w.read(&b);
    assert_eq!(
        got.iter().map(line).collect::<Vec<_>>(),
        ["event 1 k [{\"st\":\"off\"}]"]
    );
    let Delivery::Event(event) = &got[0] else {
        panic!()
    };
    assert_eq!(event.event.publisher.as_ref().unwrap().session, owner);
    assert!(event.event.token.unwrap() > before);
    assert_eq!(
        value(&mut w, &b, "k"),
        json!({"st": "off"}),
        "replaced, not merged"
    );
    let c = w.plain();
    w.ask(&c, put(1, "k", json!([1])).will(json!(null)).into());
    w.lines(&b);
    w.leave(&c, Leave::Lost);
    assert_eq!(w.lines(&b), ["event 1 k - clears"]);
    assert_eq!(w.size("retained_values"), 0);
}

#[test]
fn a_later_write_without_will_disarms_whoever_writes() {
    for by_owner in [true, false] {
        let mut w = World::memory();
        let (a, b) = (w.plain(), w.plain());
        w.ask(&a, put(1, "k", json!([1])).will(json!("gone")).into());
        w.ask(
            if by_owner { &a } else { &b },
            put(2, "k", json!([2])).into(),
        );
        w.leave(&a, Leave::Lost);
        assert_eq!(value(&mut w, &b, "k"), json!(2));
    }
    // With a will it passes to the new writer.
    let mut w = World::memory();
    let (a, b, c) = (w.plain(), w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).will(json!("a gone")).into());
    w.ask(&b, put(2, "k", json!([2])).will(json!("b gone")).into());
    w.leave(&a, Leave::Lost);
    assert_eq!(value(&mut w, &c, "k"), json!(2));
    w.leave(&b, Leave::Lost);
    assert_eq!(value(&mut w, &c, "k"), json!("b gone"));
}

#[test]
fn wills_apply_in_the_order_they_were_armed_after_waiters_are_dropped() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "#");
    for key in ["z", "m", "a", "z"] {
        w.ask(&a, put(1, key, json!([1])).will(json!(key)).into());
    }
    w.lines(&b);
    w.leave(&a, Leave::Lost);
    assert_eq!(
        w.lines(&b),
        [
            "event 1 m [\"m\"]",
            "event 1 a [\"a\"]",
            "event 1 z [\"z\"]"
        ]
    );
}

#[test]
fn merging_patches_arguments_each_for_itself() {
    let mut w = World::durable();
    let a = w.plain();
    let put_both =
        |n, list: Value, kwargs: Value| put(n, "k", json!([])).payload(both(&list, &kwargs));
    let parts = |w: &mut World, a: &Peer| {
        let report = w.key(a, "k");
        (report["args"].clone(), report["kwargs"].clone())
    };
    w.ask(&a, put_both(1, json!([{"a": 1}]), json!({"k0": 0})).into());
    w.ask(
        &a,
        put_both(2, json!([{"b": 1}]), json!({"k": 1}))
            .merge()
            .into(),
    );
    assert_eq!(
        parts(&mut w, &a),
        (json!([{"a": 1, "b": 1}]), json!({"k0": 0, "k": 1}))
    );
    w.ask(
        &a,
        put_both(3, json!([]), json!({"k": 2, "k0": null}))
            .merge()
            .into(),
    );
    assert_eq!(
        parts(&mut w, &a),
        (json!([{"a": 1, "b": 1}]), json!({"k": 2}))
    );
    w.ask(&a, put_both(4, json!([1, 2]), Value::Null).merge().into());
    assert_eq!(parts(&mut w, &a), (json!([1, 2]), json!({"k": 2})));
}

#[test]
fn merging_is_a_merge_patch() {
    let mut w = World::memory();
    let a = w.plain();
    w.ask(
        &a,
        put(1, "k", json!([{"a": {"x": 1, "y": 2}, "b": 1}])).into(),
    );
    w.ask(
        &a,
        put(2, "k", json!([{"a": {"x": null, "z": 3}, "b": "s"}]))
            .merge()
            .into(),
    );
    assert_eq!(
        value(&mut w, &a, "k"),
        json!({"a": {"y": 2, "z": 3}, "b": "s"})
    );
    w.ask(&a, put(3, "k", json!([5])).merge().into());
    assert_eq!(value(&mut w, &a, "k"), json!(5));
    w.ask(&a, put(4, "k", json!([{"n": {"d": null}}])).merge().into());
    assert_eq!(value(&mut w, &a, "k"), json!({"n": {}}));
    w.ask(&a, put(5, "k", json!([])).merge().into());
    assert_eq!(w.size("retained_values"), 0, "a delete is a delete");
}

#[test]
fn tokens_grow_over_writes_and_deletions_and_are_in_events() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "k");
    assert_eq!(token(&mut w, &a, "k"), 0, "never written");
    let mut last = 0;
    for list in [json!([1]), json!([2]), json!([]), json!([]), json!([3])] {
        w.ask(&a, put(1, "k", list).into());
        let now = token(&mut w, &a, "k");
        assert!(now > last);
        let Delivery::Event(event) = &w.read(&b)[0] else {
            panic!()
        };
        assert_eq!(event.event.token, Some(now));
        last = now;
    }
    w.send(&a, publish("k", json!([1])).into());
    let Delivery::Event(event) = &w.read(&b)[0] else {
        panic!()
    };
    assert_eq!(event.event.token, None, "only of retained writes");
}

#[test]
fn the_key_reader_checks_its_argument_and_the_reader() {
    let mut w = World::memory();
    let a = w.plain();
    let report = w.key(&a, "no.such.key");
    let expected = json!({"key": "no.such.key", "value": null, "args": null, "kwargs": null,
        "token": 0, "owner": null, "waiters": 0});
    assert_eq!(report, expected);
    for bad in [
        json!([]),
        json!([5]),
        json!(null),
        json!([""]),
        json!(["a.#"]),
    ] {
        assert_eq!(
            w.ask(&a, call(1, "fox/kv/get", bad)),
            ["failed 1 InvalidArgument"]
        );
    }
    let b = w.join(named("b", role("r", &["call #", "subscribe open/#"], &[])));
    w.lines(&b);
    assert_eq!(
        w.ask(&b, call(1, "fox/kv/get", json!(["secret"]))),
        ["failed 1 NotAuthorized"]
    );
    assert_eq!(w.ask(&b, call(1, "fox/kv/get", json!(["open.x"]))).len(), 1);
    assert_eq!(
        w.ask(&a, register(2, "fox/kv/get")),
        ["refused 2 NotAuthorized"]
    );
}

#[test]
fn traced_history_is_replayed_by_number_and_pattern() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let mut positions = Vec::new();
    for n in 0..12 {
        w.pass(ms(1));
        let on = ["h/a", "h/b", "x"][n % 3];
        w.send(&a, publish(on, json!([n])).trace().ack(1).into());
        let Delivery::Done {
            answer: router_core::model::Answer::Published { publication, .. },
            ..
        } = w.read(&a)[0].clone()
        else {
            panic!()
        };
        positions.push(publication.0);
    }
    w.send(&a, publish("h/a", json!(["untraced"])).into());
    let bodies = |lines: Vec<String>| -> Vec<String> {
        lines[1..]
            .iter()
            .map(|l| l.splitn(4, ' ').nth(3).unwrap().to_owned())
            .collect()
    };
    let from = |w: &mut World, text: &str, after: u64| {
        let lines = w.ask(&b, sub(1, text).after(after).into());
        let id: u64 = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
        w.ask(&b, unsub(2, id));
        bodies(lines)
    };
    assert_eq!(
        from(&mut w, "h/+", positions[5]),
        ["[6]", "[7]", "[9]", "[10]"]
    );
    assert_eq!(from(&mut w, "x", 0), ["[2]", "[5]", "[8]", "[11]"]);
    assert_eq!(from(&mut w, "h/a", positions[9]), NONE);
    assert_eq!(from(&mut w, "#", positions[11] - 1), ["[11]"]);
    // Filters and restricted events.
    let only_me = router_core::model::Audience {
        sessions: Some(vec![a.id()]),
        ..Default::default()
    };
    w.send(
        &a,
        publish("x", json!(["private"]))
            .trace()
            .eligible(only_me)
            .into(),
    );
    let lines = w.ask(&b, sub(3, "x").after(0).filter(json!(8)).into());
    assert_eq!(bodies(lines), ["[8]"]);
    assert_eq!(
        from(&mut w, "x", positions[11]),
        NONE,
        "whoever may not see it live"
    );
}

#[test]
fn history_comes_before_retained_values_and_a_snapshot_ends() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k/1", json!(["kept"])).into());
    w.ask(&a, publish("k/2", json!(["traced"])).trace().into());
    let lines = w.ask(&b, sub(1, "k/#").after(1).retained().snapshot().into());
    assert_eq!(
        lines,
        [
            "done 1 subscribed 1",
            "event 1 k/2 [\"traced\"]",
            "event 1 k/1 [\"kept\"] replayed retain",
            "revoked 1"
        ]
    );
    w.ask(&a, put(2, "k/1", json!(["live"])).into());
    assert_eq!(w.lines(&b), NONE, "it is over");
    assert_eq!(w.ask(&b, unsub(2, 1)), ["refused 2 NoSuchSubscription"]);
    let lines = w.ask(&b, sub(3, "nothing").retained().snapshot().into());
    assert_eq!(lines, ["done 3 subscribed 2", "revoked 2"]);
    assert_eq!(w.size("subscriptions"), 0);
}

#[test]
fn a_snapshot_is_not_announced_to_who_does_not_understand_it() {
    let mut w = World::memory();
    let b = w.join(ordered().features(router_core::session::Features::default()));
    w.lines(&b);
    assert_eq!(
        w.ask(&b, sub(1, "k").retained().snapshot().into()),
        ["done 1 subscribed 1"]
    );
}

#[test]
fn a_replay_waits_for_the_store_to_reach_a_position() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k/old", json!([1])).into());
    let reached = token(&mut w, &a, "k/old");
    assert_eq!(
        w.ask(&b, sub(1, "k/#").retained().after(reached).into())
            .len(),
        2,
        "reached"
    );
    w.ask(&b, unsub(2, 1));
    let far = reached + (1 << 12);
    let lines = w.ask(&b, sub(3, "k/#").retained().after(far).into());
    assert_eq!(lines.len(), 1, "waits: {lines:?}");
    w.send(&a, publish("k/live", json!([2])).into());
    assert_eq!(w.lines(&b).len(), 1, "live events are not held up");
    w.pass(ms(5));
    w.send(&a, publish("k/live", json!([3])).into());
    assert_eq!(
        w.lines(&b).len(),
        1,
        "a publish that is not kept does not count"
    );
    w.ask(&a, put(2, "z", json!([1])).into());
    let lines = w.lines(&b);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with("k/old [1] replayed retain"), "{lines:?}");
    assert_eq!(w.size("timers"), 0);
}

#[test]
fn a_will_counts_as_reaching_a_position() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).will(json!(2)).into());
    let after = token(&mut w, &a, "k") + 1;
    w.ask(
        &b,
        sub(1, "other/#").retained().after(after).snapshot().into(),
    );
    w.leave(&a, Leave::Lost);
    assert_eq!(w.lines(&b), ["revoked 1"]);
}

#[test]
fn waiting_for_a_position_ends_after_thirty_seconds_or_with_the_subscription() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).into());
    let far = token(&mut w, &a, "k") + (1 << 40);
    w.ask(&b, sub(1, "k").retained().after(far).into());
    w.ask(&b, sub(2, "k").retained().after(far).snapshot().into());
    w.pass(ms(29_999));
    assert_eq!(w.lines(&b), NONE);
    w.pass(ms(1));
    assert_eq!(
        w.lines(&b),
        ["revoked 2"],
        "no replay; the snapshot is over"
    );
    w.send(&a, publish("k", json!([2])).into());
    assert_eq!(w.lines(&b), ["event 1 k [2]"], "live delivery goes on");
    w.ask(&b, sub(3, "k").retained().after(far).into());
    assert_eq!(w.size("timers"), 1);
    w.ask(&b, unsub(4, 1));
    assert_eq!(w.size("timers"), 0);
}

#[test]
fn a_waiting_snapshot_shows_what_it_waited_for() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).into());
    let next = token(&mut w, &a, "k") + 1;
    w.ask(&b, sub(1, "k").retained().after(next).snapshot().into());
    w.ask(&a, put(2, "k", json!([2])).into());
    assert_eq!(w.lines(&b), ["event 1 k [2] replayed retain", "revoked 1"]);
}

#[test]
fn retained_replay_honours_filters_no_local_and_newness() {
    let mut w = World::memory();
    let (a, c) = (w.plain(), w.lanes("c"));
    w.ask(&a, put(1, "k/a", json!([{"t": 1}])).into());
    w.ask(&a, put(1, "k/b", json!([{"t": 2}])).into());
    w.ask(&c, put(1, "k/c", json!([{"t": 1}])).into());
    let lines = w.ask(
        &c,
        sub(1, "k/#")
            .retained()
            .filter(json!({"t": 1}))
            .no_local()
            .into(),
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("k/a"));
    let again = || sub(2, "k/#").filter(json!({"t": 1})).retained();
    assert_eq!(w.ask(&c, again().if_new().into()).len(), 1, "not new");
    assert_eq!(
        w.ask(&c, again().into()).len(),
        3,
        "replayed on every request"
    );
}

#[test]
fn a_long_replay_is_paced_and_skips_what_went_out_live() {
    let limits = RealmLimits {
        outbox: router_core::limits::OutboxLimits {
            ordered: router_core::limits::LaneLimit {
                frames: 40,
                bytes: 1 << 20,
            },
            ..Default::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (a, b) = (w.plain(), w.plain());
    for n in 0..3_000 {
        w.ask(&a, put(1, &format!("k/{n:04}"), json!([n])).into());
    }
    w.send(&b, sub(1, "k/#").retained().into());
    // Written while the replay is on its way: live, and not once more.
    w.send(&a, put(2, "k/2999", json!(["new"])).into());
    let lines = w.lines(&b);
    assert_eq!(lines.len(), 1 + 3_000);
    let last: Vec<_> = lines.iter().filter(|l| l.contains("k/2999")).collect();
    assert_eq!(last, ["event 1 k/2999 [\"new\"]"]);
    assert_eq!(w.size("sessions"), 2);
}

#[test]
fn expired_values_are_absent_for_everybody_and_go() {
    let mut w = World::memory();
    let (a, b, c) = (w.plain(), w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).expires(10).into());
    w.ask(&a, put(1, "k/2", json!([1])).expires(10).into());
    w.ask(
        &b,
        put(1, "k", json!(["b"])).when(json!(null)).watch().into(),
    );
    w.pass(ms(9_999));
    assert_eq!(w.lines(&b), NONE);
    assert_eq!(value(&mut w, &a, "k"), json!(1));
    w.now = w.now.plus(ms(1));
    // Nobody is let past those who waited.
    assert_eq!(
        w.ask(&c, put(2, "k", json!(["c"])).when(json!(null)).into()),
        ["refused 2 ConditionFailed"]
    );
    assert_eq!(w.lines(&b), ["done 1 published unmatched"]);
    assert_eq!(value(&mut w, &a, "k"), json!("b"));
    w.pass(ms(0));
    assert_eq!(w.size("retained_values"), 1, "the other one went by itself");
    assert_eq!(w.size("timers"), 0);
}
