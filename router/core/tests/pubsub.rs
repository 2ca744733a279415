//! Subscribing and publishing: who gets what, how often, and in which order.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Audience, Command, Delivery, MatchKind, PublicationId};
use router_core::session::Leave;
use serde_json::json;

const NONE: [&str; 0] = [];

#[test]
fn one_subscription_stands_for_a_pattern_and_is_shared() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let id = w.subscribed(&a, "t/x");
    assert_eq!(w.subscribed(&b, "t/x"), id, "shared by sessions");
    assert_eq!(w.subscribed(&a, "t/x"), id, "asked twice, held once");
    assert_eq!(w.size("subscriptions"), 1);
    assert_ne!(w.subscribed(&a, "t/y"), id);
    w.send(&b, publish("t/x", json!([1])).echoed().into());
    assert_eq!(w.lines(&a), [format!("event {id} t/x [1]")]);
    assert_eq!(w.lines(&b), [format!("event {id} t/x [1]")]);
    assert_eq!(
        w.ask(&a, unsub(1, id)),
        ["done 1 unsubscribed"],
        "one is enough"
    );
    assert_eq!(w.ask(&a, unsub(2, id)), ["refused 2 NoSuchSubscription"]);
    assert_eq!(
        w.ask(&a, publish("t/x", json!([2])).ack(3).into()),
        ["done 3 published"]
    );
    assert_eq!(w.lines(&b), [format!("event {id} t/x [2]")]);
}

#[test]
fn whoever_listens_by_now_gets_what_is_said_where_it_was_said_before() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.send(&p, publish("t/x", json!([0])).into());
    let exact = w.subscribed(&a, "t/x");
    w.send(&p, publish("t/x", json!([1])).into());
    assert_eq!(w.lines(&a), [format!("event {exact} t/x [1]")]);
    let wide = w.subscribed(&a, "t/+");
    w.send(&p, publish("t/x", json!([2])).into());
    assert_eq!(w.lines(&a).len(), 2, "both subscriptions");
    w.ask(&a, unsub(1, exact));
    w.send(&p, publish("t/x", json!([3])).into());
    assert_eq!(w.lines(&a), [format!("event {wide} t/x [3]")]);
    w.ask(&a, unsub(2, wide));
    w.send(&p, publish("t/x", json!([4])).into());
    assert_eq!(w.lines(&a), NONE);
    let again = w.subscribed(&a, "t/x");
    w.send(&p, publish("t/y", json!([5])).into());
    assert_eq!(w.lines(&a), NONE, "another topic goes another way");
    w.send(&p, publish("t/x", json!([6])).into());
    assert_eq!(w.lines(&a), [format!("event {again} t/x [6]")]);
}

#[test]
fn a_subscription_of_another_session_cannot_be_ended() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let id = w.subscribed(&a, "t");
    assert_eq!(w.ask(&b, unsub(1, id)), ["refused 1 NoSuchSubscription"]);
    w.send(&b, publish("t", json!([])).into());
    assert_eq!(w.lines(&a).len(), 1);
}

#[test]
fn notations_and_filters_make_different_subscriptions() {
    let mut w = World::memory();
    let a = w.plain();
    let first = w.subscribed(&a, "t");
    let other = [
        sub(1, "t").kind(MatchKind::Wildcard),
        sub(2, "t").filter(json!({"a": 1})),
        sub_prefix(3, "t"),
    ];
    let mut seen = vec![format!("{first}")];
    for sub in other {
        let lines = w.ask(&a, sub.into());
        let id = lines[0].rsplit(' ').next().unwrap().to_owned();
        assert!(!seen.contains(&id), "{lines:?}");
        seen.push(id);
    }
    w.send(&a, publish("t", json!([{"a": 1}])).echoed().into());
    assert_eq!(
        w.lines(&a).len(),
        4,
        "one event for each matching subscription"
    );
}

#[test]
fn every_matching_subscription_gets_the_same_publication() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    let ids: Vec<u64> = ["a/b", "a/+", "a/#", "#"]
        .iter()
        .map(|text| w.subscribed(&a, text))
        .collect();
    w.send(&p, publish("a/b", json!([1])).into());
    let mut got = Vec::new();
    let mut publications = Vec::<PublicationId>::new();
    for delivery in w.read(&a) {
        let Delivery::Event(event) = delivery else {
            panic!()
        };
        got.push(event.subscription.0);
        assert_eq!(event.exact, event.subscription.0 == ids[0]);
        publications.push(event.event.publication);
    }
    got.sort_unstable();
    assert_eq!(got, ids);
    publications.dedup();
    assert_eq!(publications.len(), 1);
}

#[test]
fn a_client_in_lanes_gets_one_copy_at_the_best_assurance_with_all_numbers() {
    let mut w = World::memory();
    let (c, p) = (w.lanes("c"), w.plain());
    for (n, (text, qos)) in [("a/b", 0), ("a/+", 1), ("#", 0)].into_iter().enumerate() {
        let number = u32::try_from(n).unwrap() + 10;
        w.send(&c, sub(1, text).qos(qos).identifier(number).into());
    }
    w.lines(&c);
    w.send(&p, publish("a/b", json!([1])).qos(2).into());
    let lines = w.lines(&c);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].ends_with("a/b [1] q1 @1 ids[10, 11, 12]"),
        "{lines:?}"
    );
    // The publisher's assurance is the upper bound.
    w.send(&p, publish("a/b", json!([2])).into());
    assert!(w.lines(&c)[0].ends_with("a/b [2] ids[10, 11, 12]"));
}

#[test]
fn one_copy_is_per_session_and_per_event() {
    let mut w = World::memory();
    let (c, d, p) = (w.lanes("c"), w.lanes("d"), w.plain());
    for peer in [&c, &d] {
        w.send(peer, sub(1, "a").into());
        w.send(peer, sub(2, "#").into());
        w.lines(peer);
    }
    w.send(&p, publish("a", json!([1])).into());
    w.send(&p, publish("a", json!([2])).into());
    for peer in [&c, &d] {
        let bodies: Vec<_> = w
            .lines(peer)
            .iter()
            .map(|l| l[l.len() - 3..].to_owned())
            .collect();
        assert_eq!(bodies, ["[1]", "[2]"]);
    }
}

#[test]
fn the_publisher_is_left_out_unless_it_asks() {
    let mut w = World::memory();
    let a = w.plain();
    let id = w.subscribed(&a, "t");
    assert_eq!(
        w.ask(&a, publish("t", json!([1])).ack(1).into()),
        ["done 1 published unmatched"]
    );
    assert_eq!(
        w.ask(&a, publish("t", json!([2])).ack(2).echoed().into()),
        [format!("event {id} t [2]"), "done 2 published".to_owned()]
    );
}

#[test]
fn eligible_and_exclude_lists_decide_by_session_name_and_role() {
    let mut w = World::memory();
    let p = w.plain();
    let ann = w.join(named("ann", role("user", &["subscribe #"], &[])));
    let bob = w.join(named("bob", role("user", &["subscribe #"], &[])));
    let root = w.join(named("ann", role("admin", &["subscribe #"], &[])));
    let everybody = [&ann, &bob, &root];
    for peer in everybody {
        w.send(peer, sub(1, "t").into());
        w.lines(peer);
    }
    let sessions = |list: &[&Peer]| Audience {
        sessions: Some(list.iter().map(|p| p.id()).collect()),
        ..Audience::default()
    };
    let authid = |name: &str| Audience {
        authids: Some(vec![name.into()]),
        ..Audience::default()
    };
    let both = Audience {
        authids: Some(vec!["ann".into()]),
        roles: Some(vec!["user".into()]),
        ..Audience::default()
    };
    let base = || publish("t", json!([]));
    let cases = [
        (base().eligible(sessions(&[&bob])), [0, 1, 0]),
        (base().eligible(sessions(&[])), [0, 0, 0]),
        (base().exclude(sessions(&[])), [1, 1, 1]),
        (base().eligible(authid("ann")), [1, 0, 1]),
        (base().eligible(both.clone()), [1, 0, 0]),
        (base().exclude(both), [0, 0, 0]),
        (base().exclude(authid("bob")), [1, 0, 1]),
        (
            base().eligible(authid("ann")).exclude(sessions(&[&root])),
            [1, 0, 0],
        ),
    ];
    for (n, (publish, expected)) in cases.into_iter().enumerate() {
        w.send(&p, publish.into());
        let got = everybody.map(|peer| w.lines(peer).len());
        assert_eq!(got, expected, "case {n}");
    }
}

#[test]
fn no_local_is_about_the_client_whatever_its_session() {
    let mut w = World::memory();
    let c = w.join(client("c").expiry(100));
    let d = w.lanes("d");
    w.send(&c, sub(1, "t").qos(1).no_local().into());
    w.send(&d, sub(1, "t").no_local().into());
    w.lines(&c);
    w.lines(&d);
    w.send(&c, publish("t", json!([1])).echoed().into());
    assert_eq!(w.lines(&c), Vec::<String>::new());
    assert_eq!(w.lines(&d).len(), 1);
    c.outbox.release(c.connection.generation);
    let again = w.join(client("c").expiry(100));
    assert_eq!(w.lines(&again), ["resumed"]);
    w.send(&again, publish("t", json!([2])).echoed().into());
    assert_eq!(w.lines(&again), Vec::<String>::new());
    w.send(&d, publish("t", json!([3])).echoed().into());
    assert_eq!(w.lines(&again).len(), 1);
}

#[test]
fn the_retain_flag_is_shown_live_only_where_asked() {
    let mut w = World::memory();
    let (plain, exact, p) = (w.plain(), w.plain(), w.plain());
    w.send(&plain, sub(1, "t").into());
    w.send(&exact, sub(1, "t").showing_retain().into());
    w.lines(&plain);
    w.lines(&exact);
    w.send(&p, publish("t", json!([1])).retain().into());
    w.send(&p, publish("t", json!([2])).into());
    let flags = |lines: Vec<String>| {
        lines
            .iter()
            .map(|l| l.ends_with("retain"))
            .collect::<Vec<_>>()
    };
    assert_eq!(flags(w.lines(&plain)), [false, false]);
    assert_eq!(flags(w.lines(&exact)), [true, false]);
    // A replayed value always shows it.
    let lines = w.ask(&plain, sub(2, "+").retained().into());
    assert!(lines[1].ends_with("[1] replayed retain"), "{lines:?}");
}

#[test]
fn filters_look_at_the_body_value_and_never_break() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.send(&a, sub(1, "t").filter(json!({"type": "post"})).into());
    let id = w.lines(&a)[0].rsplit(' ').next().unwrap().to_owned();
    let bodies = [
        (json!([{"type": "post", "x": 1}]), json!(null), true),
        (json!([{"type": "mail"}]), json!(null), false),
        (json!(["post"]), json!(null), false),
        (json!([]), json!({"type": "post"}), false),
        (json!(null), json!(null), false),
        (json!([[{"type": "post"}]]), json!(null), true),
        (json!([{"type": "post"}, 2]), json!(null), true),
        (json!([2, {"type": "post"}]), json!(null), false),
        (json!([7]), json!(null), false),
    ];
    for (list, kwargs, wanted) in bodies {
        let publish = publish("t", json!([])).payload(both(&list, &kwargs)).ack(2);
        let answers = w.ask(&p, publish.into());
        let matched = if wanted {
            "done 2 published"
        } else {
            "done 2 published unmatched"
        };
        assert_eq!(answers, [matched], "{list}");
        assert_eq!(w.lines(&a).len(), usize::from(wanted), "{list} to {id}");
    }
    for bytes in [&b"\xff\xfe"[..], b"", b"{\"type\":\"post\"}", b"{"] {
        w.send(&p, publish("t", json!([])).payload(raw(bytes)).into());
        assert_eq!(w.lines(&a).len(), usize::from(bytes.len() > 5), "{bytes:?}");
    }
}

#[test]
fn a_filter_of_kwargs_alone_looks_at_them() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.send(&a, sub(1, "t").filter(json!({"kwargs": {"k": 1}})).into());
    w.send(
        &a,
        sub(2, "t")
            .filter(json!({"kwargs": {"k": 1}, "b": 1}))
            .into(),
    );
    let lines = w.lines(&a);
    let (first, second) = (&lines[0][18..], &lines[1][18..]);
    let send = |w: &mut World, list, kwargs| {
        w.send(
            &p,
            publish("t", json!([])).payload(both(&list, &kwargs)).into(),
        );
        w.lines(&a)
            .iter()
            .map(|l| l.split(' ').nth(1).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(send(&mut w, json!([]), json!({"k": 1, "x": 2})), [first]);
    assert_eq!(
        send(
            &mut w,
            json!([{"kwargs": {"k": 1}, "b": 1}]),
            json!({"k": 2})
        ),
        [second]
    );
}

#[test]
fn events_of_a_publisher_arrive_in_order_over_all_topics() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.subscribed(&a, "a/#");
    w.subscribed(&a, "b");
    let mut sent = Vec::new();
    for n in 0..200 {
        let on = ["a", "b", "a/x"][n % 3];
        w.send(&p, publish(on, json!([n])).into());
        sent.push(format!("{on} [{n}]"));
    }
    let got: Vec<String> = w
        .lines(&a)
        .iter()
        .map(|l| l.splitn(3, ' ').nth(2).unwrap().to_owned())
        .collect();
    assert_eq!(got, sent);
}

#[test]
fn an_answer_to_a_subscription_precedes_its_events_and_the_last_follows_them() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.send(&a, sub(1, "t").into());
    w.send(&p, publish("t", json!([1])).into());
    w.send(&a, unsub(2, 1));
    w.send(&p, publish("t", json!([2])).into());
    assert_eq!(
        w.lines(&a),
        [
            "done 1 subscribed 1",
            "event 1 t [1]",
            "done 2 unsubscribed"
        ]
    );
}

#[test]
fn a_subscription_can_be_ended_by_its_pattern() {
    let mut w = World::memory();
    let (c, p) = (w.lanes("c"), w.plain());
    w.send(&c, sub(1, "a/#").into());
    w.send(&c, sub(2, "b").into());
    w.lines(&c);
    assert_eq!(w.ask(&c, unsub_pattern(3, "a/#")), ["done 3 unsubscribed"]);
    assert_eq!(
        w.ask(&c, unsub_pattern(4, "a/#")),
        ["refused 4 NoSuchSubscription"]
    );
    w.send(&p, publish("a/x", json!([1])).into());
    w.send(&p, publish("b", json!([2])).into());
    assert_eq!(w.lines(&c), ["event 2 b [2]"]);
}

#[test]
fn wildcards_never_reach_what_must_be_named() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    for text in ["#", "+/x", "$s/#"] {
        w.subscribed(&a, text);
    }
    w.send(&p, publish("$s/x", json!([1])).into());
    assert_eq!(w.lines(&a), ["event 3 $s/x [1]"]);
    for on in ["wamp/x", "$SYS/x", "wamp"] {
        assert_eq!(
            w.ask(&p, publish(on, json!([1])).ack(1).into()),
            ["refused 1 NotAuthorized"]
        );
    }
    assert_eq!(w.lines(&a), Vec::<String>::new());
}

#[test]
fn the_publisher_is_disclosed_only_on_request() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.subscribed(&a, "t");
    w.send(&p, publish("t", json!([])).into());
    w.send(&p, publish("t", json!([])).disclose().into());
    let told: Vec<_> = w
        .read(&a)
        .into_iter()
        .map(|delivery| {
            let Delivery::Event(event) = delivery else {
                panic!()
            };
            let publisher = event.event.publisher.clone().unwrap();
            assert_eq!(publisher.session, p.id());
            publisher.disclosed
        })
        .collect();
    assert_eq!(told, [false, true]);
}

#[test]
fn an_expired_event_is_not_handed_out() {
    let mut w = World::memory();
    let (c, p) = (w.lanes("c"), w.plain());
    w.send(&c, sub(1, "#").qos(1).into());
    w.lines(&c);
    w.send(&p, publish("t", json!([1])).expires(5).into());
    w.send(&p, publish("t", json!([2])).qos(1).expires(5).into());
    w.send(&p, publish("t", json!([3])).qos(1).expires(50).into());
    w.pass(secs(6));
    assert_eq!(w.lines(&c), ["event 1 t [3] q1 @2"]);
}

#[test]
fn quotas_refuse_and_are_counted() {
    let limits = RealmLimits {
        subscriptions_per_session: 2,
        receipts_per_session: 1,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let a = w.plain();
    w.subscribed(&a, "a");
    w.subscribed(&a, "b");
    assert_eq!(w.ask(&a, sub(1, "c").into()), ["refused 1 QuotaExceeded"]);
    assert_eq!(
        w.ask(&a, sub(2, "b").into()),
        ["done 2 subscribed 2"],
        "not one more"
    );
    assert_eq!(w.realm.counters().quota_refused, 1);
    let twice = |n: u16| {
        publish("x", json!([]))
            .ack(u64::from(n))
            .qos(2)
            .receipt(n)
            .into()
    };
    assert_eq!(w.ask(&a, twice(3)), ["done 3 published unmatched"]);
    assert_eq!(w.ask(&a, twice(4)), ["refused 4 QuotaExceeded"]);
    assert_eq!(w.ask(&a, release_receipt(5, 3)), ["done 5 released true"]);
    assert_eq!(w.ask(&a, release_receipt(6, 3)), ["done 6 released false"]);
    assert_eq!(w.ask(&a, twice(4)), ["done 4 published unmatched"]);
}

#[test]
fn a_repeated_exactly_once_publish_is_answered_and_not_repeated() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.subscribed(&a, "t");
    for request in 1..=2 {
        let publish = publish("t", json!([1])).ack(request).qos(2).receipt(7);
        assert_eq!(
            w.ask(&p, publish.into()),
            [format!("done {request} published")]
        );
    }
    assert_eq!(w.lines(&a).len(), 1);
    w.ask(&p, release_receipt(3, 7));
    w.send(&p, publish("t", json!([2])).ack(4).qos(2).receipt(7).into());
    assert_eq!(
        w.lines(&a).len(),
        1,
        "after its release the id is a new message"
    );
}

#[test]
fn conditional_options_without_retain_are_refused_or_dropped() {
    let mut w = World::memory();
    let (a, p) = (w.plain(), w.plain());
    w.subscribed(&a, "t");
    let bad = || {
        [
            publish("t", json!([1])).when(json!(null)),
            publish("t", json!([1])).watch(),
            publish("t", json!([1])).will(json!(null)),
        ]
    };
    for publish in bad() {
        assert_eq!(
            w.ask(&p, publish.ack(1).into()),
            ["refused 1 InvalidArgument"]
        );
    }
    for publish in bad() {
        assert_eq!(w.ask(&p, publish.into()), Vec::<String>::new());
    }
    assert_eq!(w.realm.counters().publish_invalid, 6);
    assert_eq!(w.lines(&a), Vec::<String>::new());
}

fn small_outbox() -> RealmLimits {
    let lane = LaneLimit {
        frames: 4,
        bytes: 1 << 20,
    };
    RealmLimits {
        outbox: OutboxLimits {
            ordered: lane,
            best: lane,
            sure: lane,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    }
}

#[test]
fn a_session_in_order_that_does_not_read_ends() {
    let mut w = World::limited(small_outbox());
    let (slow, other, p) = (w.plain(), w.plain(), w.plain());
    w.subscribed(&slow, "t");
    w.subscribed(&other, "t");
    w.send(&slow, put(1, "k", json!([1])).will(json!(["gone"])).into());
    w.lines(&slow);
    for n in 0..6 {
        w.send(&p, publish("t", json!([n])).into());
        w.lines(&other);
    }
    let lines = w.lines(&slow);
    assert_eq!(lines.last().unwrap(), "ended TooSlow");
    assert_eq!(w.realm.counters().ended_too_slow, 1);
    assert_eq!(w.size("sessions"), 2);
    assert_eq!(
        w.key(&other, "k")["value"],
        json!(["gone"]),
        "its wills apply"
    );
}

#[test]
fn best_effort_lanes_lose_their_oldest_and_say_so() {
    let mut w = World::limited(small_outbox());
    let (c, p) = (w.lanes("c"), w.plain());
    w.send(&c, sub(1, "t").into());
    w.lines(&c);
    for n in 0..7 {
        w.send(&p, publish("t", json!([n])).into());
    }
    assert_eq!(
        w.lines(&c),
        [
            "event 1 t [3]",
            "event 1 t [4]",
            "event 1 t [5]",
            "event 1 t [6]"
        ]
    );
    assert_eq!(w.realm.counters().dropped_best, 3);
    assert_eq!(w.size("sessions"), 2);
}

#[test]
fn a_session_that_ended_is_not_heard_any_more() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let id = w.subscribed(&b, "t");
    w.leave(&a, Leave::Clean);
    w.send(&a, publish("t", json!([1])).into());
    assert_eq!(w.lines(&b), Vec::<String>::new());
    w.leave(&b, Leave::Lost);
    assert_eq!(
        w.size("subscriptions"),
        0,
        "subscription {id} goes with its last member"
    );
    assert_eq!(w.size("sessions"), 0);
    assert!(w.realm.is_idle());
    w.send(&b, Command::DisarmLastWill);
}
