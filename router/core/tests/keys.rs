//! The kept values as procedures: `put`, `delete`, `cas`, `list` and `watch`.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Call, CallFailure, CancelMode, Command, Delivery, EndReason, ErrorKind};
use router_core::session::Leave;
use serde_json::{Value, json};
use std::time::Duration;

/// What came for calls: the value of a result, or the kind of a failure and what it tells.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Result(u64, Value),
    Progress(u64, Value),
    Failed(u64, ErrorKind, Value),
}

fn said(w: &mut World, peer: &Peer) -> Vec<Said> {
    let of = |delivery| match delivery {
        Delivery::Result {
            request,
            payload,
            progress: true,
        } => Some(Said::Progress(request.0, payload.value().clone())),
        Delivery::Result {
            request, payload, ..
        } => Some(Said::Result(request.0, payload.value().clone())),
        Delivery::CallFailed {
            request,
            failure: CallFailure::Realm(refusal),
        } => {
            let about = refusal.about.map_or(Value::Null, |map| Value::Object(*map));
            Some(Said::Failed(request.0, refusal.kind, about))
        }
        _ => None,
    };
    w.read(peer).into_iter().filter_map(of).collect()
}

fn kv(request: u64, name: &str, list: Value) -> Command {
    call(request, &format!("fox/kv/{name}"), list)
}

fn watching(request: u64, list: Value) -> Command {
    call_with(request, "fox/kv/watch", list, true, None)
}

#[track_caller]
fn one(w: &mut World, peer: &Peer, command: Command) -> Said {
    w.send(peer, command);
    let mut said = said(w, peer);
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

/// The value of a call's only answer.
#[track_caller]
fn done(w: &mut World, peer: &Peer, command: Command) -> Value {
    match one(w, peer, command) {
        Said::Result(_, value) => value,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(w: &mut World, peer: &Peer, command: Command) -> (ErrorKind, Value) {
    match one(w, peer, command) {
        Said::Failed(_, kind, about) => (kind, about),
        other => panic!("{other:?}"),
    }
}

fn token(value: &Value) -> u64 {
    value["token"].as_u64().unwrap()
}

#[test]
fn a_put_is_a_retained_publish_that_answers_with_its_token() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    for peer in [&a, &b] {
        w.subscribed(peer, "k");
    }
    let first = done(&mut w, &a, kv(1, "put", json!(["k", {"n": 1}])));
    assert_eq!(first, json!({"key": "k", "token": token(&first)}));
    assert_eq!(w.lines(&b), ["event 1 k [{\"n\":1}]"]);
    let kept = w.key(&b, "k");
    assert_eq!(kept["value"], json!({"n": 1}));
    assert_eq!(kept["token"], first["token"]);
    let second = done(&mut w, &a, kv(2, "put", json!(["k", null])));
    assert!(token(&second) > token(&first));
    assert_eq!(w.lines(&b), ["event 1 k - clears"]);
    assert_eq!(w.key(&b, "k")["value"], Value::Null);
}

#[test]
fn whoever_writes_by_a_call_receives_the_event_too() {
    let mut w = World::memory();
    let a = w.plain();
    w.subscribed(&a, "k");
    let lines = w.ask(&a, kv(1, "put", json!(["k", 1])));
    assert!(lines.contains(&"event 1 k [1]".to_owned()), "{lines:?}");
}

#[test]
fn options_stand_in_a_dict_behind_the_arguments_or_in_keyword_arguments_which_win() {
    let mut w = World::memory();
    let a = w.plain();
    done(&mut w, &a, kv(1, "put", json!(["k", {"a": 1}])));
    let options = json!(["k", {"b": 2}, {"merge": true}]);
    done(&mut w, &a, kv(2, "put", options));
    assert_eq!(w.key(&a, "k")["value"], json!({"a": 1, "b": 2}));
    let both_ways = Command::Call(Box::new(Call {
        request: router_core::model::RequestId(3),
        procedure: topic("fox/kv/put"),
        payload: both(
            &json!(["k", {"c": 3}, {"merge": true, "nobody": "knows"}]),
            &json!({"merge": false}),
        ),
        progress: false,
        more: false,
        timeout: None,
        disclose_me: false,
    }));
    done(&mut w, &a, both_ways);
    assert_eq!(w.key(&a, "k")["value"], json!({"c": 3}));
}

#[test]
fn wrong_arguments_are_refused_and_change_nothing() {
    let mut w = World::memory();
    let a = w.plain();
    for (name, list, kind) in [
        ("put", json!([]), ErrorKind::InvalidArgument),
        ("put", json!([7, 1]), ErrorKind::InvalidArgument),
        ("put", json!(["k"]), ErrorKind::InvalidArgument),
        ("put", json!(["", 1]), ErrorKind::InvalidTopic),
        ("put", json!(["k", 1, 7]), ErrorKind::InvalidArgument),
        (
            "put",
            json!(["k", 1, {"watch": 1}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"watch_timeout": -1}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"will_on": "x"}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"merge": "x"}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"trace": "x"}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"ttl_ms": 0}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "put",
            json!(["k", 1, {"ttl_ms": 1.5}]),
            ErrorKind::InvalidArgument,
        ),
        ("put", json!(["wamp.x", 1]), ErrorKind::NotAuthorized),
        (
            "delete",
            json!(["k", {"token": "1"}]),
            ErrorKind::InvalidArgument,
        ),
        ("cas", json!(["k", null, 1]), ErrorKind::InvalidArgument),
        ("cas", json!(["k", 0]), ErrorKind::InvalidArgument),
        ("list", json!([]), ErrorKind::InvalidArgument),
        (
            "list",
            json!(["", {"limit": 0}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "list",
            json!(["", {"after": ""}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "list",
            json!(["", {"values": 1}]),
            ErrorKind::InvalidArgument,
        ),
        ("watch", json!([null]), ErrorKind::InvalidArgument),
        (
            "watch",
            json!(["k", {"token": true}]),
            ErrorKind::InvalidArgument,
        ),
        (
            "watch",
            json!(["k", {"wait_ms": "1"}]),
            ErrorKind::InvalidArgument,
        ),
        ("nothing", json!([]), ErrorKind::NoSuchProcedure),
    ] {
        let (found, _) = failed(&mut w, &a, kv(1, name, list.clone()));
        assert_eq!(found, kind, "{name} {list}");
    }
    assert_eq!((w.size("retained_values"), w.size("open_calls")), (0, 0));
    assert_eq!(w.size("timers"), 0);
}

#[test]
fn integral_floats_are_whole_numbers() {
    let mut w = World::memory();
    let a = w.plain();
    let first = done(&mut w, &a, kv(1, "cas", json!(["k", 0.0, 1])));
    #[allow(clippy::cast_precision_loss, reason = "tokens are below 2^53")]
    let float = token(&first) as f64;
    done(&mut w, &a, kv(2, "delete", json!(["k", {"token": float}])));
}

#[test]
fn a_put_whose_condition_fails_is_a_conflict_with_the_present_token() {
    let mut w = World::memory();
    let a = w.plain();
    let kept = done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let wrong = kv(2, "put", json!(["k", 2, {"when": null}]));
    let expected = json!({"key": "k", "token": kept["token"]});
    assert_eq!(failed(&mut w, &a, wrong), (ErrorKind::Conflict, expected));
    assert_eq!(w.key(&a, "k")["value"], 1);
}

#[test]
fn a_put_that_watches_is_answered_when_it_is_granted() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    done(
        &mut w,
        &a,
        kv(1, "put", json!(["k", "held", {"will": null}])),
    );
    let options = json!(["k", "next", {"when": null, "watch": true, "will": null}]);
    w.send(&b, kv(1, "put", options));
    assert_eq!(said(&mut w, &b), []);
    assert_eq!(w.size("open_calls"), 1);
    w.leave(&a, Leave::Lost);
    let granted = said(&mut w, &b);
    let kept = w.key(&b, "k");
    assert_eq!(kept["value"], "next");
    assert_eq!(kept["owner"], b.id().0);
    let expected = json!({"key": "k", "token": kept["token"]});
    assert_eq!(granted, [Said::Result(1, expected)]);
    assert_eq!(w.size("open_calls"), 0);
}

#[test]
fn a_put_waits_as_long_as_it_says_or_as_its_call_may_take() {
    let key = json!({"key": "k"});
    let timeout = |request| Said::Failed(request, ErrorKind::Timeout, key.clone());
    let mut w = World::memory();
    let a = w.plain();
    done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let options = json!(["k", 2, {"when": null, "watch": true, "watch_timeout": 500}]);
    w.send(&a, kv(2, "put", options));
    let list = json!(["k", 3, {"when": null, "watch": true}]);
    w.send(&a, call_with(3, "fox/kv/put", list, false, Some(ms(700))));
    w.pass(ms(499));
    assert_eq!(said(&mut w, &a), []);
    w.pass(ms(1));
    assert_eq!(said(&mut w, &a), [timeout(2)]);
    w.pass(ms(200));
    assert_eq!(said(&mut w, &a), [timeout(3)]);
    done(&mut w, &a, kv(4, "delete", json!(["k"])));
    assert_eq!(
        w.key(&a, "k")["value"],
        Value::Null,
        "nobody waits any more"
    );
    assert_eq!((w.size("open_calls"), w.size("timers")), (0, 0));
}

#[test]
fn what_waits_can_be_canceled_and_goes_with_its_session() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let put = json!(["k", 2, {"when": null, "watch": true}]);
    for mode in [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait] {
        w.send(&b, kv(5, "put", put.clone()));
        w.send(&b, kv(6, "watch", json!(["k"])));
        for request in [5, 6] {
            w.send(&b, cancel(request, mode));
            let canceled = Said::Failed(request, ErrorKind::Canceled, json!({"key": "k"}));
            assert_eq!(said(&mut w, &b), [canceled]);
        }
    }
    w.send(&b, kv(7, "put", put));
    w.send(&b, kv(8, "watch", json!(["k"])));
    assert_eq!(w.size("open_calls"), 2);
    w.leave(&b, Leave::Lost);
    assert_eq!(w.size("open_calls"), 0);
    done(&mut w, &a, kv(2, "delete", json!(["k"])));
    assert_eq!(w.key(&a, "k")["value"], Value::Null);
}

#[test]
fn what_waits_does_not_outlive_the_connection_of_a_durable_session() {
    let mut w = World::durable();
    let a = w.plain();
    let b = w.join(client("b").expiry(60));
    w.read(&b);
    w.send(&b, watching(1, json!(["k"])));
    w.leave(&b, Leave::Lost);
    assert_eq!(w.size("open_calls"), 0);
    done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let b = w.join(client("b").expiry(60));
    assert_eq!(w.lines(&b), ["resumed"]);
}

#[test]
fn too_many_that_wait_are_told_so() {
    let mut w = World::limited(RealmLimits {
        waiters_per_session: 2,
        calls_per_session: 5,
        ..RealmLimits::default()
    });
    let a = w.plain();
    done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let put = json!(["k", 2, {"when": null, "watch": true}]);
    let full = (ErrorKind::QueueFull, json!({"key": "k"}));
    for request in [2, 3] {
        w.send(&a, kv(request, "put", put.clone()));
    }
    assert_eq!(failed(&mut w, &a, kv(4, "put", put)), full);
    // Watches are counted for themselves.
    for request in [5, 6] {
        w.send(&a, kv(request, "watch", json!(["k"])));
    }
    assert_eq!(failed(&mut w, &a, kv(7, "watch", json!(["k"]))), full);
    // A publisher knows it as a quota.
    let publish = put_when_absent(8);
    assert_eq!(w.ask(&a, publish), ["refused 8 QuotaExceeded"]);
    // All of them are open calls.
    w.send(&a, kv(9, "watch", json!(["k", {"token": 0}])));
    assert!(matches!(said(&mut w, &a)[..], [Said::Result(9, _)]));
    w.send(&a, register(20, "p/a"));
    w.send(&a, call(10, "p/a", json!([])));
    assert_eq!(
        failed(&mut w, &a, call(11, "p/a", json!([]))).0,
        ErrorKind::QuotaExceeded
    );
}

fn put_when_absent(request: u64) -> Command {
    put(request, "k", json!([2]))
        .when(Value::Null)
        .watch()
        .into()
}

#[test]
fn a_request_id_of_an_open_call_is_not_used_twice() {
    let mut w = World::memory();
    let a = w.plain();
    w.send(&a, kv(1, "watch", json!(["k"])));
    assert_eq!(
        w.ask(&a, kv(1, "watch", json!(["k"]))),
        ["failed 1 InvalidArgument"]
    );
    assert_eq!(
        w.ask(&a, put(1, "k", json!([1])).into()),
        ["refused 1 InvalidArgument"]
    );
    let change = done(&mut w, &a, publish("k", json!([1])).retain().into());
    assert_eq!(change["value"], 1);
}

#[test]
fn a_delete_tells_what_it_found_and_minds_its_token() {
    let mut w = World::memory();
    let a = w.plain();
    let kept = done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let wrong = token(&kept) - 1;
    let conflict = (
        ErrorKind::Conflict,
        json!({"key": "k", "token": kept["token"]}),
    );
    let command = kv(2, "delete", json!(["k", {"token": wrong}]));
    assert_eq!(failed(&mut w, &a, command), conflict);
    let gone = done(
        &mut w,
        &a,
        kv(3, "delete", json!(["k", {"token": kept["token"]}])),
    );
    assert_eq!(gone["existed"], true);
    assert!(token(&gone) > token(&kept));
    let again = done(&mut w, &a, kv(4, "delete", json!(["k"])));
    assert_eq!(again["existed"], false);
    done(&mut w, &a, kv(5, "delete", json!(["k", {"token": 0}])));
}

#[test]
fn cas_stores_only_over_the_token_it_names() {
    let mut w = World::memory();
    let a = w.plain();
    let first = done(&mut w, &a, kv(1, "cas", json!(["k", 0, "one"])));
    let conflict = |token: &Value| (ErrorKind::Conflict, json!({"key": "k", "token": token}));
    let now = conflict(&first["token"]);
    assert_eq!(
        failed(&mut w, &a, kv(2, "cas", json!(["k", 0, "two"]))),
        now
    );
    let second = done(
        &mut w,
        &a,
        kv(3, "cas", json!(["k", first["token"], "two"])),
    );
    let now = conflict(&second["token"]);
    let stale = kv(4, "cas", json!(["k", first["token"], "three"]));
    assert_eq!(failed(&mut w, &a, stale), now);
    assert_eq!(w.key(&a, "k")["value"], "two");
    // Null deletes; the token of the deletion is the key's, and 0 stands for any absent key.
    let gone = done(
        &mut w,
        &a,
        kv(5, "cas", json!(["k", second["token"], null])),
    );
    assert_eq!(w.key(&a, "k")["token"], gone["token"]);
    let back = done(&mut w, &a, kv(6, "cas", json!(["k", gone["token"], 4])));
    done(
        &mut w,
        &a,
        kv(7, "delete", json!(["k", {"token": back["token"]}])),
    );
    done(&mut w, &a, kv(8, "cas", json!(["k", 0, 5])));
}

#[test]
fn values_live_as_long_as_they_say() {
    let mut w = World::memory();
    let a = w.plain();
    done(&mut w, &a, kv(1, "put", json!(["k", 1, {"ttl_ms": 500}])));
    done(
        &mut w,
        &a,
        kv(2, "cas", json!(["l", 0, 1, {"ttl_ms": 700}])),
    );
    w.pass(ms(499));
    assert_eq!(w.key(&a, "k")["value"], 1);
    w.pass(ms(1));
    assert_eq!(w.key(&a, "k")["value"], Value::Null);
    done(&mut w, &a, kv(3, "cas", json!(["k", 0, 2])));
    w.pass(ms(200));
    assert_eq!(w.key(&a, "l")["value"], Value::Null);
}

#[test]
fn writes_and_conflicts_are_told_once_they_are_durable() {
    let mut w = World::durable();
    let a = w.plain();
    w.auto_commit = false;
    w.send(&a, kv(1, "put", json!(["k", 1])));
    w.send(&a, kv(2, "cas", json!(["k", 0, 2])));
    w.send(&a, kv(3, "list", json!([""])));
    w.send(&a, kv(4, "watch", json!(["k", {"token": 0}])));
    assert_eq!(said(&mut w, &a), []);
    w.commit();
    let found = said(&mut w, &a);
    assert!(
        matches!(
            found[..],
            [
                Said::Result(1, _),
                Said::Failed(2, ErrorKind::Conflict, _),
                Said::Result(3, _),
                Said::Result(4, _)
            ]
        ),
        "{found:?}"
    );
}

#[test]
fn what_the_store_refuses_is_told_as_unavailable() {
    let mut w = World::durable();
    let a = w.plain();
    w.auto_commit = false;
    w.send(&a, kv(1, "put", json!(["k", 1])));
    w.send(&a, kv(2, "cas", json!(["k", 0, 2])));
    w.fail();
    let found = said(&mut w, &a);
    assert_eq!(found.len(), 2);
    for failed in found {
        assert!(
            matches!(failed, Said::Failed(_, ErrorKind::StorageUnavailable, _)),
            "{failed:?}"
        );
    }
    let (kind, about) = failed(&mut w, &a, kv(3, "put", json!(["k", 1])));
    assert_eq!(
        (kind, about),
        (ErrorKind::StorageUnavailable, json!({"key": "k"}))
    );
}

#[test]
fn rights_are_those_of_publishing_and_subscribing() {
    let mut w = World::memory();
    let a = w.plain();
    for (request, key) in [(1, "pub.k"), (2, "sub.k"), (3, "sub.secret")] {
        done(&mut w, &a, kv(request, "put", json!([key, 1])));
    }
    let rules = ["call #", "publish pub/#", "subscribe sub/#"];
    let joe = w.join(named(
        "joe",
        role("some", &rules, &["subscribe sub/secret"]),
    ));
    w.read(&joe);
    for (name, list) in [
        ("put", json!(["sub.k", 1])),
        ("delete", json!(["sub.k"])),
        ("cas", json!(["sub.k", 0, 1])),
        ("watch", json!(["pub.k", {"token": 0}])),
        ("watch", json!(["sub.secret", {"token": 0}])),
        ("list", json!([""])),
        ("list", json!(["pub."])),
    ] {
        let (kind, _) = failed(&mut w, &joe, kv(1, name, list.clone()));
        assert_eq!(kind, ErrorKind::NotAuthorized, "{name} {list}");
    }
    done(&mut w, &joe, kv(1, "put", json!(["pub.k", 2])));
    done(&mut w, &joe, kv(2, "watch", json!(["sub.k", {"token": 0}])));
    let listed = done(&mut w, &joe, kv(3, "list", json!(["sub."])));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "{listed}");
    let stranger = w.join(named(
        "eve",
        role("none", &["publish #", "subscribe #"], &[]),
    ));
    w.read(&stranger);
    let (kind, _) = failed(&mut w, &stranger, kv(1, "put", json!(["pub.k", 2])));
    assert_eq!(kind, ErrorKind::NotAuthorized);
}

#[test]
fn nobody_may_offer_the_procedures() {
    let mut w = World::memory();
    let a = w.plain();
    for text in ["fox/kv/put", "fox/kv/new"] {
        assert_eq!(w.ask(&a, register(1, text)), ["refused 1 NotAuthorized"]);
    }
    let prefix = reg(1, router_core::model::MatchKind::Prefix, "fox/kv/");
    assert_eq!(w.ask(&a, prefix.into()), ["refused 1 NotAuthorized"]);
    assert_eq!(w.ask(&a, register(1, "fox/kvx")), ["done 1 registered 1"]);
}

#[test]
fn a_list_goes_page_by_page() {
    let mut w = World::memory();
    let a = w.plain();
    for n in 0..7 {
        done(&mut w, &a, kv(1, "put", json!([format!("a.{n}"), n])));
    }
    done(&mut w, &a, kv(1, "put", json!(["a.3", null])));
    done(&mut w, &a, kv(1, "put", json!(["a.x", 1, {"will": null}])));
    done(&mut w, &a, kv(1, "put", json!(["b", 1])));
    let page = |w: &mut World, options: Value| {
        let page = done(w, &a, kv(2, "list", json!(["a.", options])));
        let rows = page["keys"].as_array().unwrap().clone();
        let key = |row: &Value| row["key"].as_str().unwrap().to_owned();
        let keys: Vec<String> = rows.iter().map(key).collect();
        (keys.join(" "), page["more"].as_bool().unwrap(), rows)
    };
    let (keys, more, rows) = page(&mut w, json!({"limit": 4}));
    assert_eq!((keys.as_str(), more), ("a.0 a.1 a.2 a.4", true));
    assert_eq!(
        (&rows[1]["value"], &rows[1]["owner"]),
        (&json!(1), &Value::Null)
    );
    let (keys, more, rows) = page(&mut w, json!({"limit": 3, "after": "a.4", "values": false}));
    assert_eq!((keys.as_str(), more), ("a.5 a.6 a.x", false));
    assert!(rows[0].get("value").is_none());
    assert_eq!(rows[2]["owner"], a.id().0);
    let (keys, more, _) = page(&mut w, json!({"after": "a.x"}));
    assert_eq!((keys.as_str(), more), ("", false));
}

#[test]
fn a_page_is_bounded_by_keys_and_by_bytes() {
    let mut w = World::memory();
    let a = w.plain();
    for n in 0..1_200 {
        w.send(
            &a,
            publish(&format!("k/{n:04}"), json!([n])).retain().into(),
        );
    }
    w.read(&a);
    for (options, count) in [
        (json!({}), 100),
        (json!({"limit": 5_000}), 1_000),
        (json!({"limit": 5_000, "after": "k.1000"}), 199),
    ] {
        let page = done(&mut w, &a, kv(1, "list", json!(["k.", options])));
        assert_eq!(page["keys"].as_array().unwrap().len(), count);
        assert_eq!(page["more"], count != 199);
    }
    let large = "x".repeat(400 << 10);
    for n in 0..5 {
        done(&mut w, &a, kv(1, "put", json!([format!("l.{n}"), large])));
    }
    let page = done(&mut w, &a, kv(1, "list", json!(["l."])));
    assert_eq!(page["keys"].as_array().unwrap().len(), 3);
    assert_eq!(page["more"], true);
    let page = done(&mut w, &a, kv(1, "list", json!(["l.", {"values": false}])));
    assert_eq!(page["keys"].as_array().unwrap().len(), 5);
}

#[test]
fn keys_that_may_not_be_read_cost_no_more_than_a_bounded_look() {
    let mut w = World::limited(RealmLimits {
        tombstones: 0,
        ..RealmLimits::default()
    });
    let a = w.plain();
    for n in 0..20_100 {
        w.send(
            &a,
            publish(&format!("k/secret/{n}"), json!([n]))
                .retain()
                .into(),
        );
    }
    done(&mut w, &a, kv(1, "put", json!(["k.open", 1])));
    done(&mut w, &a, kv(1, "put", json!(["k.zebra", 1])));
    let rules = ["call #", "subscribe k/#"];
    let joe = w.join(named(
        "joe",
        role("some", &rules, &["subscribe k/secret/#"]),
    ));
    w.read(&joe);
    let page = done(&mut w, &joe, kv(1, "list", json!(["k."])));
    assert_eq!(page["keys"].as_array().unwrap().len(), 1);
    assert_eq!(page["more"], true);
    let (kind, _) = failed(
        &mut w,
        &joe,
        kv(2, "list", json!(["k.", {"after": "k.open"}])),
    );
    assert_eq!(kind, ErrorKind::QuotaExceeded);
    let page = done(&mut w, &joe, kv(3, "list", json!(["k.z"])));
    assert_eq!(page["keys"][0]["key"], "k.zebra");
}

#[test]
fn a_watch_answers_with_what_is_newer_than_its_token_or_with_the_next_change() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let kept = done(&mut w, &a, kv(1, "put", json!(["k", 1])));
    let expected = json!({"key": "k", "value": 1, "token": kept["token"]});
    let old = token(&kept) - 1;
    assert_eq!(
        done(&mut w, &b, kv(1, "watch", json!(["k", {"token": old}]))),
        expected
    );
    w.send(&b, kv(2, "watch", json!(["k", {"token": kept["token"]}])));
    w.send(&b, kv(3, "watch", json!(["k"])));
    assert_eq!(said(&mut w, &b), []);
    done(&mut w, &a, kv(2, "put", json!(["other", 2])));
    let next = done(&mut w, &a, kv(3, "delete", json!(["k"])));
    let change = json!({"key": "k", "value": null, "token": next["token"]});
    let expected = [2, 3].map(|request| Said::Result(request, change.clone()));
    assert_eq!(said(&mut w, &b), expected);
    done(&mut w, &a, kv(4, "put", json!(["k", 4])));
    assert_eq!(said(&mut w, &b), [], "one change each");
}

#[test]
fn a_watch_waits_as_long_as_it_says() {
    let mut w = World::memory();
    let a = w.plain();
    let timeout = |request| Said::Failed(request, ErrorKind::Timeout, json!({"key": "k"}));
    let at_once = one(&mut w, &a, kv(1, "watch", json!(["k", {"wait_ms": 0}])));
    assert_eq!(at_once, timeout(1));
    w.send(&a, kv(2, "watch", json!(["k", {"wait_ms": 500}])));
    let list = json!(["k", {"wait_ms": 900}]);
    w.send(&a, call_with(3, "fox/kv/watch", list, false, Some(ms(600))));
    w.pass(ms(500));
    assert_eq!(said(&mut w, &a), [timeout(2)]);
    w.pass(ms(100));
    assert_eq!(said(&mut w, &a), [timeout(3)]);
    assert_eq!((w.size("open_calls"), w.size("timers")), (0, 0));
}

#[test]
fn a_progressive_watch_tells_every_change_until_it_is_canceled() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    done(&mut w, &a, kv(1, "put", json!(["k", 0])));
    w.send(&b, watching(1, json!(["k", {"token": 0, "wait_ms": 500}])));
    w.send(&b, watching(2, json!(["k"])));
    for n in 1..4 {
        // Each change gives it its time anew.
        w.pass(ms(400));
        w.send(&a, publish("k", json!([n])).retain().into());
    }
    let values = |said: &[Said], of: u64| -> Vec<Value> {
        let value = |said: &Said| match said {
            Said::Progress(request, value) if *request == of => Some(value["value"].clone()),
            _ => None,
        };
        said.iter().filter_map(value).collect()
    };
    let found = said(&mut w, &b);
    assert_eq!(values(&found, 1), [0, 1, 2, 3]);
    assert_eq!(values(&found, 2), [1, 2, 3]);
    assert_eq!(found.len(), 7);
    w.pass(ms(500));
    w.send(&b, cancel(2, CancelMode::Kill));
    let ends = [(1, ErrorKind::Timeout), (2, ErrorKind::Canceled)];
    let ends = ends.map(|(request, kind)| Said::Failed(request, kind, json!({"key": "k"})));
    assert_eq!(said(&mut w, &b), ends);
    w.send(&a, publish("k", json!([4])).retain().into());
    assert_eq!(said(&mut w, &b), []);
}

#[test]
fn a_will_is_a_change_and_what_is_not_for_the_watcher_is_none() {
    let mut w = World::memory();
    let (a, b, c) = (w.plain(), w.plain(), w.plain());
    done(
        &mut w,
        &a,
        kv(1, "put", json!(["k", "up", {"will": "down"}])),
    );
    w.send(&b, kv(1, "watch", json!(["k"])));
    w.leave(&a, Leave::Lost);
    assert!(matches!(&said(&mut w, &b)[..], [Said::Result(1, value)] if value["value"] == "down"));
    w.send(&b, watching(2, json!(["k"])));
    let others = router_core::model::Audience {
        sessions: Some(vec![b.id()]),
        ..Default::default()
    };
    w.send(
        &c,
        publish("k", json!(["secret"]))
            .retain()
            .exclude(others)
            .into(),
    );
    w.send(&c, publish("k", json!(["open"])).retain().into());
    assert!(
        matches!(&said(&mut w, &b)[..], [Said::Progress(2, value)] if value["value"] == "open")
    );
}

#[test]
fn a_watcher_that_reads_too_slowly_ends_as_one_that_subscribed_does() {
    let outbox = OutboxLimits {
        ordered: LaneLimit {
            frames: 10,
            bytes: 1 << 20,
        },
        ..OutboxLimits::default()
    };
    let mut w = World::limited(RealmLimits {
        outbox,
        ..RealmLimits::default()
    });
    let (a, b) = (w.plain(), w.plain());
    w.send(&b, watching(1, json!(["k"])));
    for n in 0..12 {
        w.send(&a, publish("k", json!([n])).retain().into());
    }
    let last = w.read(&b).pop();
    assert!(
        matches!(last, Some(Delivery::Ended(EndReason::TooSlow))),
        "{last:?}"
    );
    assert_eq!(w.size("open_calls"), 0);
}

#[test]
fn a_watch_tells_nothing_that_the_store_refused() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    w.auto_commit = false;
    w.send(&b, watching(1, json!(["k", {"token": 0}])));
    w.send(&a, put(1, "k", json!([1])).into());
    w.send(&a, put(2, "k", json!([2])).into());
    assert_eq!(said(&mut w, &b), []);
    w.fail();
    assert_eq!(said(&mut w, &b), []);
    w.probe();
    w.commit();
    assert_eq!(said(&mut w, &b), []);
    w.send(&a, put(3, "k", json!([3])).into());
    assert_eq!(said(&mut w, &b), []);
    w.commit();
    assert!(matches!(&said(&mut w, &b)[..], [Said::Progress(1, value)] if value["value"] == 3));
}

/// And goes on with what is on its way there, lest it tell of a time between two that it knows nothing of.
#[test]
fn a_watch_with_a_token_begins_with_what_is_on_disk() {
    for fails in [false, true] {
        let mut w = World::durable();
        let (a, b, c) = (w.plain(), w.plain(), w.plain());
        w.send(&a, put(1, "k", json!([1])).into());
        w.auto_commit = false;
        w.send(&c, watching(1, json!(["k"])));
        w.send(&a, put(2, "k", json!([2])).into());
        w.send(&a, put(3, "k", json!([3])).into());
        w.send(&b, watching(1, json!(["k", {"token": 0}])));
        if fails {
            w.fail();
            w.probe();
        }
        w.commit();
        let values = |said: Vec<Said>| -> Vec<Value> {
            let value = |said: Said| match said {
                Said::Progress(1, value) => value["value"].clone(),
                other => panic!("{other:?}"),
            };
            said.into_iter().map(value).collect()
        };
        let (expected_b, expected_c): (&[i32], &[i32]) = match fails {
            true => (&[1], &[]),
            false => (&[1, 2, 3], &[2, 3]),
        };
        assert_eq!(values(said(&mut w, &b)), expected_b);
        assert_eq!(values(said(&mut w, &c)), expected_c);
    }
}

#[test]
fn a_release_that_stands_is_told_once_it_is_stored() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    w.send(&a, put(1, "k", json!([1])).will(Value::Null).into());
    w.auto_commit = false;
    w.send(&b, watching(1, json!(["k"])));
    w.send(&a, put(2, "k", json!([])).into());
    w.fail();
    assert_eq!(said(&mut w, &b), []);
    w.probe();
    assert_eq!(said(&mut w, &b), []);
    w.commit();
    let found = said(&mut w, &b);
    assert!(
        matches!(&found[..], [Said::Progress(1, value)] if value["value"].is_null()),
        "{found:?}"
    );
}

#[test]
fn arguments_in_parts_are_not_taken() {
    let mut w = World::memory();
    let a = w.plain();
    let lines = w.ask(&a, part(1, "fox/kv/put", json!(["k", 1]), true));
    assert_eq!(lines, ["failed 1 FeatureNotSupported"]);
    w.pass(Duration::from_secs(1));
}

#[test]
fn a_list_names_the_same_owner_as_a_read() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    for (request, mode) in [(1, "mutex"), (2, "shared"), (3, "permit")] {
        let key = format!("k.{mode}");
        let wish = json!([key, {"mode": mode, "limit": 2}]);
        done(&mut w, &a, call(request, "fox/lock/acquire", wish));
    }
    done(&mut w, &b, kv(4, "put", json!(["k.armed", 1, {"will": 2}])));
    let listed = done(&mut w, &b, kv(5, "list", json!(["k."])));
    for row in listed["keys"].as_array().unwrap() {
        let key = row["key"].as_str().unwrap();
        let read = done(&mut w, &b, kv(6, "get", json!([key])));
        assert_eq!(row["owner"], read["owner"], "{key}");
    }
    let owners = |row: &Value| row["owner"].clone();
    let owners: Vec<Value> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(owners)
        .collect();
    // A key that several may hold is nobody's.
    let (first, second) = (json!(a.id().0), json!(b.id().0));
    assert_eq!(owners, [second, first, Value::Null, Value::Null]);
}
