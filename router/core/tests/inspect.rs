//! Looking into sessions and their queues.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{CallFailure, Delivery};
use router_core::records;
use router_core::session::Leave;
use serde_json::{Value, json};

/// Calls `reynard/session/{name}`; answers the result, or the error's kind.
fn ask(w: &mut World, peer: &Peer, name: &str, list: Value) -> Result<Value, String> {
    w.send(peer, call(77, &format!("reynard/session/{name}"), list));
    for delivery in w.read(peer) {
        match delivery {
            Delivery::Result { payload, .. } => return Ok(payload.value().clone()),
            Delivery::CallFailed {
                failure: CallFailure::Realm(refusal),
                ..
            } => return Err(format!("{:?}", refusal.kind)),
            _ => {}
        }
    }
    panic!("{name} was not answered");
}

/// Clients `c0`... without connection, each with `n + 1` messages of growing size.
fn queues(w: &mut World, clients: usize) {
    let writer = w.plain();
    for n in 0..clients {
        let peer = w.join(client(&format!("c{n}")).expiry(1_000));
        w.ask(&peer, sub(1, &format!("q/{n}")).qos(1).into());
        w.leave(&peer, Leave::Lost);
        for size in 0..=n {
            let text = "x".repeat(10 * size);
            let publish = publish(&format!("q/{n}"), json!([text])).qos(1);
            w.send(&writer, publish.into());
        }
    }
    w.leave(&writer, Leave::Clean);
}

fn clients_of(page: &Value) -> Vec<String> {
    let list = page["sessions"].as_array().unwrap();
    list.iter()
        .map(|s| s["client"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn sessions_are_listed_in_order_and_in_pages() {
    let mut w = World::memory();
    queues(&mut w, 7);
    let peer = w.plain();
    let all = ask(&mut w, &peer, "list", json!([])).unwrap();
    assert_eq!(
        clients_of(&all),
        ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "-"]
    );
    assert_eq!((&all["total"], &all["next"]), (&json!(8), &json!(null)));
    let offline = ask(&mut w, &peer, "list", json!([{"offline": true}])).unwrap();
    assert_eq!(clients_of(&offline).len(), 7);
    let online = ask(&mut w, &peer, "list", json!([{"offline": false}])).unwrap();
    assert_eq!(clients_of(&online), ["-"]);
    let from = ask(&mut w, &peer, "list", json!([{"after": "c4"}])).unwrap();
    assert_eq!(clients_of(&from), ["c5", "c6", "-"]);
    // One at a time, all of them once.
    let other = w.plain();
    let (mut seen, mut after) = (Vec::new(), json!(null));
    loop {
        let options = json!([{"limit": 1, "after": after}]);
        let page = ask(&mut w, &peer, "list", options).unwrap();
        seen.extend(clients_of(&page));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "-", "-"]);
    w.leave(&other, Leave::Clean);
    // The largest queues first, three at a time.
    let mut order = Vec::new();
    let mut after = json!(null);
    loop {
        let options = json!([{"order": "bytes", "limit": 3, "after": after, "offline": true}]);
        let page = ask(&mut w, &peer, "list", options).unwrap();
        let clients = clients_of(&page);
        assert!(clients.len() <= 3);
        order.extend(clients);
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(order, ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]);
    let entry = &offline["sessions"][6];
    assert_eq!(
        (&entry["client"], &entry["queued"], &entry["subscriptions"]),
        (&json!("c6"), &json!(7), &json!(1))
    );
    assert_eq!(entry["connected"], json!(false));
    assert!(entry["queued_bytes"].as_u64().unwrap() > 210);
    for bad in [
        json!([1]),
        json!([{"limit": 0}]),
        json!([{"limit": 1001}]),
        json!([{"order": "x"}]),
        json!([{"after": [1]}]),
        json!([{"offline": 1}]),
        json!([{"unknown": 1}]),
    ] {
        let answer = ask(&mut w, &peer, "list", bad.clone());
        assert_eq!(answer, Err("InvalidArgument".to_owned()), "{bad}");
    }
}

#[test]
fn a_page_looks_at_no_more_than_it_may_and_the_next_goes_on() {
    let mut w = World::memory();
    for n in 0..10_500 {
        w.lanes(&format!("c{n:05}"));
    }
    let peer = w.join(client("z").expiry(10));
    w.leave(&peer, Leave::Lost);
    let peer = w.plain();
    let options = json!([{"offline": true}]);
    let first = ask(&mut w, &peer, "list", options).unwrap();
    assert_eq!((clients_of(&first).len(), &first["total"]), (0, &json!(1)));
    let options = json!([{"offline": true, "after": first["next"]}]);
    let second = ask(&mut w, &peer, "list", options).unwrap();
    assert_eq!(clients_of(&second), ["z"]);
    assert_eq!(second["next"], json!(null));
}

#[test]
fn keyword_arguments_are_options_too() {
    let mut w = World::memory();
    queues(&mut w, 3);
    let peer = w.plain();
    let mut command = call(77, "reynard/session/list", json!(null));
    if let router_core::model::Command::Call(call) = &mut command {
        call.payload = both(&json!(null), &json!({"limit": 1, "offline": true}));
    }
    w.send(&peer, command);
    let answers = w.read(&peer);
    let Some(Delivery::Result { payload, .. }) = answers.first() else {
        panic!("{answers:?}");
    };
    assert_eq!(clients_of(payload.value()), ["c0"]);
}

#[test]
fn a_session_is_shown_with_its_queue_its_filters_and_its_will() {
    let lane = LaneLimit {
        frames: 3,
        bytes: 1 << 20,
    };
    let limits = RealmLimits {
        outbox: OutboxLimits {
            sure: lane,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let writer = w.plain();
    let join = client("c").expiry(1_000).window(1);
    let peer = w.join(join.will(60, publish("gone", json!([1])).qos(1)));
    w.ask(&peer, sub(1, "q/#").qos(1).into());
    let mut shared = sub(2, "s/+").qos(2);
    shared.0.share = Some("g".into());
    w.ask(&peer, shared.into());
    w.send(&writer, publish("q/sent", json!(["sent"])).qos(1).into());
    w.read(&peer);
    w.leave(&peer, Leave::Lost);
    for n in 0..5 {
        w.send(
            &writer,
            publish(&format!("q/{n}"), json!([n])).qos(1).into(),
        );
        w.pass(secs(1));
    }
    let report = ask(&mut w, &writer, "get", json!(["c"])).unwrap();
    let by_id = ask(&mut w, &writer, "get", json!([report["session"]])).unwrap();
    assert_eq!(report, by_id);
    let figures = ["queued", "in_flight", "dropped", "expiry_secs", "connected"];
    let figures: Vec<Value> = figures.iter().map(|name| report[name].clone()).collect();
    assert_eq!(json!(figures), json!([3, 1, 2, 1_000, false]));
    assert_eq!(report["disconnected_ms"], json!(EPOCH_MS));
    assert_eq!(report["oldest_age_ms"], json!(3_000));
    let first = json!({"topic": "q/2", "qos": 1, "bytes": 3, "age_ms": 3_000});
    assert_eq!(report["waiting"][0], first);
    assert_eq!(report["waiting"].as_array().unwrap().len(), 3);
    let will = json!({"topic": "gone", "qos": 1, "retain": false, "delay_secs": 60});
    assert_eq!(report["will"], will);
    let filters = json!([
        {"filter": "q/#", "match": "levels", "qos": 1, "share": null, "replaying": false},
        {"filter": "s/+", "match": "levels", "qos": 2, "share": "g", "replaying": false},
    ]);
    assert_eq!(report["filters"], filters);
    for bad in [json!([]), json!([1.5]), json!([{}])] {
        let answer = ask(&mut w, &writer, "get", bad);
        assert_eq!(answer, Err("InvalidArgument".to_owned()));
    }
    for unknown in [json!(["nobody"]), json!([1])] {
        let answer = ask(&mut w, &writer, "get", unknown);
        assert_eq!(answer, Err("NoSuchSession".to_owned()));
    }
}

#[test]
fn ending_a_session_takes_all_it_holds_connected_or_not() {
    for connected in [false, true] {
        let mut w = World::durable();
        let (writer, reader) = (w.plain(), w.plain());
        w.subscribed(&reader, "gone");
        let join = client("c").expiry(1_000);
        let peer = w.join(join.will(60, publish("gone", json!([1]))));
        w.ask(&peer, sub(1, "q").qos(1).into());
        if !connected {
            w.leave(&peer, Leave::Lost);
        }
        w.send(&writer, publish("q", json!([1])).qos(1).into());
        assert!(ask(&mut w, &writer, "end", json!(["c"])).is_ok());
        if connected {
            let last = w.lines(&peer).pop().unwrap();
            assert!(last.starts_with("ended killed"), "{last}");
        }
        assert_eq!(w.lines(&reader).len(), 1, "its will is published");
        for space in [
            records::SESSIONS,
            records::SUBSCRIPTIONS,
            records::QUEUES,
            records::LAST_WILLS,
        ] {
            assert_eq!(w.records(space), 0);
        }
        assert_eq!(w.size("sessions"), 2);
        let again = ask(&mut w, &writer, "end", json!(["c"]));
        assert_eq!(again, Err("NoSuchSession".to_owned()));
        let own = ask(&mut w, &writer, "end", json!([writer.id().0]));
        assert_eq!(own, Err("NoSuchSession".to_owned()));
    }
}

#[test]
fn the_end_is_told_when_it_is_durable() {
    let mut w = World::durable();
    queues(&mut w, 1);
    let peer = w.plain();
    w.auto_commit = false;
    w.send(&peer, call(77, "reynard/session/end", json!(["c0"])));
    assert_eq!(w.lines(&peer).len(), 0);
    w.commit();
    assert_eq!(w.lines(&peer).len(), 1);
}

#[test]
fn purging_drops_what_waits_and_leaves_what_was_sent() {
    let mut w = World::durable();
    let writer = w.plain();
    let join = || client("c").expiry(1_000).window(1);
    let peer = w.join(join());
    w.ask(&peer, sub(1, "q").qos(1).into());
    for n in 0..5 {
        w.send(&writer, publish("q", json!([n])).qos(1).into());
    }
    assert_eq!(w.lines(&peer), ["event 1 q [0] q1 @1"]);
    let purged = ask(&mut w, &writer, "purge", json!(["c"])).unwrap();
    assert_eq!(purged["messages"], json!(4));
    assert!(purged["bytes"].as_u64().unwrap() >= 4 * 3);
    assert_eq!(w.records(records::QUEUES), 1);
    w.leave(&peer, Leave::Lost);
    let peer = w.join(join());
    assert_eq!(w.lines(&peer), ["resumed", "event 1 q [0] q1 @1 again"]);
    w.send(&peer, settle(1));
    w.send(&writer, publish("q", json!(["new"])).qos(1).into());
    let lines = w.lines(&peer);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("event 1 q [\"new\"]"));
}

#[test]
fn inspection_needs_the_right_to_call_and_belongs_to_the_realm() {
    let mut w = World::memory();
    let narrow = role(
        "narrow",
        &["call reynard/session/list", "register #", "call other"],
        &[],
    );
    let peer = w.join(named("n", narrow));
    w.lines(&peer);
    assert!(ask(&mut w, &peer, "list", json!([])).is_ok());
    for name in ["get", "end", "purge"] {
        let answer = ask(&mut w, &peer, name, json!(["c"]));
        assert_eq!(answer, Err("NotAuthorized".to_owned()), "{name}");
    }
    for name in ["list", "anything", "a/b"] {
        let command = register(1, &format!("reynard/session/{name}"));
        assert_eq!(w.ask(&peer, command), ["refused 1 NotAuthorized"], "{name}");
    }
    let command = register(2, "reynard/sessions");
    assert_eq!(w.ask(&peer, command), ["done 2 registered 1"]);
    let peer = w.plain();
    let answer = ask(&mut w, &peer, "anything", json!([]));
    assert_eq!(answer, Err("NoSuchProcedure".to_owned()));
}
