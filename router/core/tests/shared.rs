//! Shared subscriptions (MQTT 5.0 section 4.8.2): one member of a group gets each event, and what it
//! cannot get any more goes to another.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::broker::{ShareStrategy, Sharing};
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits, WhenFull};
use router_core::model::{Audience, Command, Delivery, Qos};
use router_core::records;
use router_core::session::Leave;
use serde_json::json;
use std::collections::HashMap;

const NONE: [&str; 0] = [];
const NOTHING: [u64; 0] = [];

/// Clients of one group, each with a subscription to `t/#` at `qos`.
fn group(w: &mut World, names: &[&str], qos: u8) -> Vec<Peer> {
    names
        .iter()
        .map(|name| {
            let peer = w.lanes(name);
            member(w, &peer, qos);
            peer
        })
        .collect()
}

/// The same, outliving their connections.
fn lasting(w: &mut World, names: &[&str], qos: u8) -> Vec<Peer> {
    names
        .iter()
        .map(|name| {
            let peer = w.join(client(name).expiry(600));
            w.lines(&peer);
            member(w, &peer, qos);
            peer
        })
        .collect()
}

/// Joins the group; what comes of it is still to be read.
fn newcomer(w: &mut World, name: &str, qos: u8) -> Peer {
    let peer = w.join(client(name).expiry(600));
    w.send(&peer, sub(1, "t/#").share("g").qos(qos).into());
    peer
}

fn member(w: &mut World, peer: &Peer, qos: u8) {
    let lines = w.ask(peer, sub(1, "t/#").share("g").qos(qos).into());
    assert!(lines[0].starts_with("done 1 subscribed"), "{lines:?}");
}

/// Publishes the numbers `range` to `t/x`.
fn publish_all(w: &mut World, from: &Peer, range: std::ops::Range<u64>, qos: u8) {
    for n in range {
        w.send(from, publish("t/x", json!([n])).qos(qos).into());
    }
}

/// The numbers in the events among `deliveries`.
fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries
        .iter()
        .filter_map(|delivery| match delivery {
            Delivery::Event(event) => {
                let text = body(&event.event.payload);
                text.trim_matches(['[', ']']).parse().ok()
            }
            _ => None,
        })
        .collect()
}

fn got(w: &mut World, peer: &Peer) -> Vec<u64> {
    numbers(&w.read(peer))
}

/// Reads and settles everything, again and again.
fn drained(w: &mut World, peer: &Peer) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let deliveries = w.read(peer);
        if deliveries.is_empty() {
            return all;
        }
        all.extend(numbers(&deliveries));
        for delivery in deliveries {
            if let Delivery::Event(event) = delivery
                && let Some(slot) = event.slot
            {
                w.send(peer, Command::Settle { slot });
            }
        }
    }
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

fn back(w: &mut World, name: &str) -> Peer {
    w.join(client(name).expiry(600))
}

#[test]
fn one_member_of_each_group_gets_an_event_and_ordinary_subscribers_their_own() {
    let mut w = World::memory();
    let members = group(&mut w, &["a", "b", "c"], 0);
    let (other, plain, p) = (w.lanes("d"), w.plain(), w.plain());
    w.ask(&other, sub(1, "t/#").share("h").into());
    w.subscribed(&plain, "t/#");
    publish_all(&mut w, &p, 0..6, 0);
    let each: Vec<_> = members.iter().map(|peer| got(&mut w, peer)).collect();
    assert_eq!(each, [[0, 3], [1, 4], [2, 5]], "in turn");
    assert_eq!(got(&mut w, &other), [0, 1, 2, 3, 4, 5]);
    assert_eq!(got(&mut w, &plain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_group_is_part_of_what_a_subscription_is() {
    let mut w = World::memory();
    let (c, p) = (w.lanes("c"), w.plain());
    let mut ids = Vec::new();
    for subscribe in [
        sub(1, "t"),
        sub(1, "t").share("g"),
        sub(1, "t").share("h"),
        sub(1, "+").share("g"),
    ] {
        let lines = w.ask(&c, subscribe.into());
        ids.push(lines[0].clone());
    }
    ids.dedup();
    assert_eq!((ids.len(), w.size("subscriptions")), (4, 4));
    // One copy for the ordinary subscription, and one for each shared one.
    w.send(&p, publish("t", json!([1])).into());
    assert_eq!(got(&mut w, &c), [1, 1, 1, 1]);
    assert_eq!(
        w.ask(&c, unsub_share(2, "x", "t")),
        ["refused 2 NoSuchSubscription"]
    );
    assert_eq!(
        w.ask(&c, unsub_share(3, "g", "#")),
        ["refused 3 NoSuchSubscription"]
    );
    assert_eq!(w.ask(&c, unsub_share(4, "g", "t")), ["done 4 unsubscribed"]);
    assert_eq!(
        w.ask(&c, unsub_share(5, "g", "t")),
        ["refused 5 NoSuchSubscription"]
    );
    assert_eq!(w.ask(&c, unsub_pattern(6, "t")), ["done 6 unsubscribed"]);
    assert_eq!(
        w.ask(&c, unsub_pattern(7, "t")),
        ["refused 7 NoSuchSubscription"]
    );
    w.send(&p, publish("t", json!([2])).into());
    assert_eq!(got(&mut w, &c), [2, 2], "h and the wildcard");
}

#[test]
fn each_member_has_its_own_assurance_numbers_and_retain_flag() {
    // [MQTT-4.8.2-3]
    let mut w = World::memory();
    let (a, b, p) = (w.lanes("a"), w.lanes("b"), w.plain());
    w.ask(&a, sub(1, "t").share("g").qos(1).identifier(7).into());
    w.ask(
        &b,
        sub(1, "t")
            .share("g")
            .qos(2)
            .identifier(8)
            .showing_retain()
            .into(),
    );
    for n in 0..2 {
        w.send(&p, publish("t", json!([n])).qos(2).retain().into());
    }
    assert_eq!(w.lines(&a), ["event 1 t [0] q1 @1 ids[7]"]);
    assert_eq!(w.lines(&b), ["event 1 t [1] q2 @1 ids[8] retain"]);
}

#[test]
fn nothing_is_replayed_to_a_shared_subscription() {
    let mut w = World::memory();
    let (a, p) = (w.lanes("a"), w.plain());
    w.ask(&p, put(1, "t", json!([1])).trace().into());
    let shared = || sub(1, "t").share("g").qos(1);
    for subscribe in [shared().retained(), shared().retained().if_new()] {
        let lines = w.ask(&a, subscribe.into());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("done 1 subscribed"));
        w.ask(&a, unsub_share(2, "g", "t"));
    }
    for subscribe in [shared().snapshot(), shared().after(1)] {
        assert_eq!(w.ask(&a, subscribe.into()), ["refused 1 InvalidArgument"]);
    }
}

#[test]
fn a_group_counts_as_a_subscriber_while_it_has_members() {
    let mut w = World::memory();
    let p = w.plain();
    let ask = |w: &mut World| w.ask(&p, publish("t/x", json!([1])).ack(1).into());
    assert_eq!(ask(&mut w), ["done 1 published unmatched"]);
    let members = lasting(&mut w, &["a", "b"], 0);
    assert_eq!(ask(&mut w), ["done 1 published"]);
    w.leave(&members[0], Leave::Lost);
    w.leave(&members[1], Leave::Lost);
    assert_eq!(
        ask(&mut w),
        ["done 1 published"],
        "nobody gets it, but they are there"
    );
    w.pass(secs(601));
    assert_eq!(ask(&mut w), ["done 1 published unmatched"]);
}

#[test]
fn whoever_may_not_have_an_event_is_no_candidate() {
    let mut w = World::memory();
    let p = w.plain();
    let ann = w.join(client("ann").role(role(
        "r",
        &["subscribe t/#", "publish #"],
        &["subscribe t/secret"],
    )));
    let bob = w.join(client("bob").proven("bob"));
    for peer in [&ann, &bob] {
        w.lines(peer);
        member(&mut w, peer, 1);
    }
    let bob_only = Audience {
        authids: Some(vec!["bob".into()]),
        ..Audience::default()
    };
    for n in 0..3 {
        w.send(&p, publish("t/secret", json!([n])).into());
        w.send(
            &p,
            publish("t/x", json!([10 + n]))
                .eligible(bob_only.clone())
                .into(),
        );
    }
    assert_eq!(got(&mut w, &ann), NOTHING);
    assert_eq!(got(&mut w, &bob), [0, 10, 1, 11, 2, 12]);
    for n in 0..3 {
        w.send(
            &p,
            publish("t/x", json!([n])).exclude(bob_only.clone()).into(),
        );
        // The publisher itself unless it asks.
        w.send(&ann, publish("t/x", json!([20 + n])).into());
    }
    assert_eq!(got(&mut w, &ann), [0, 1, 2]);
    assert_eq!(got(&mut w, &bob), [20, 21, 22]);
    w.ask(&bob, unsub_share(2, "g", "t/#"));
    let refused = w.realm.counters().delivery_refused;
    assert_eq!(
        w.ask(&p, publish("t/secret", json!([1])).ack(1).into()),
        ["done 1 published unmatched"]
    );
    assert_eq!(w.realm.counters().delivery_refused, refused + 1);
}

#[test]
fn a_filter_holds_for_the_whole_group() {
    let mut w = World::memory();
    let (a, b, p) = (w.lanes("a"), w.lanes("b"), w.plain());
    for peer in [&a, &b] {
        let filter = json!({"k": 1});
        w.ask(peer, sub(1, "t").share("g").filter(filter).into());
    }
    for n in 0..4 {
        w.send(&p, publish("t", json!([{"k": n % 2}])).into());
    }
    assert_eq!(w.lines(&a), ["event 1 t [{\"k\":1}]"]);
    assert_eq!(w.lines(&b), ["event 1 t [{\"k\":1}]"]);
}

#[test]
fn strategies_are_chosen_by_group() {
    let sharing = Sharing {
        default: ShareStrategy::RoundRobin,
        by_group: HashMap::from([
            ("sticks".into(), ShareStrategy::Sticky),
            ("least".into(), ShareStrategy::LeastLoaded),
            ("chance".into(), ShareStrategy::Random),
        ]),
    };
    let mut w = World::sharing(false, RealmLimits::default(), 3, sharing);
    let p = w.plain();
    let pair = [w.lanes("a"), w.lanes("b")];
    let mut run = |name: &str| {
        for peer in &pair {
            w.ask(peer, sub(1, "t/#").share(name).qos(1).into());
        }
        publish_all(&mut w, &p, 0..10, 1);
        let counts = [0, 1].map(|at| drained(&mut w, &pair[at]).len());
        for peer in &pair {
            w.ask(peer, unsub_share(2, name, "t/#"));
        }
        counts
    };
    assert_eq!(run("any"), [5, 5]);
    assert_eq!(run("least"), [5, 5], "each is as loaded as the other");
    assert!(run("sticks").contains(&10));
    assert_eq!(run("chance").iter().sum::<usize>(), 10);
}

#[test]
fn a_full_window_is_passed_over_while_others_have_room() {
    let mut w = World::memory();
    let p = w.plain();
    let (a, b) = (w.join(client("a").window(2)), w.join(client("b").window(5)));
    for peer in [&a, &b] {
        w.lines(peer);
        member(&mut w, peer, 1);
    }
    publish_all(&mut w, &p, 0..7, 1);
    assert_eq!(got(&mut w, &a), [0, 2]);
    assert_eq!(got(&mut w, &b), [1, 3, 4, 5, 6]);
    w.send(&a, settle(1));
    publish_all(&mut w, &p, 7..8, 1);
    assert_eq!(
        got(&mut w, &a),
        [7],
        "whoever acknowledges takes part again"
    );
    publish_all(&mut w, &p, 8..10, 1);
    assert_eq!(
        (got(&mut w, &a), got(&mut w, &b)),
        (vec![], vec![]),
        "they wait"
    );
    publish_all(&mut w, &p, 10..12, 0);
    assert_eq!(
        (got(&mut w, &a).len(), got(&mut w, &b).len()),
        (1, 1),
        "no window for QoS 0"
    );
    let waiting = drained_window(&mut w, &a, 2) + drained_window(&mut w, &b, 5);
    assert_eq!(waiting, 2);
}

/// Settles slots `1..=most` and counts what comes then.
fn drained_window(w: &mut World, peer: &Peer, most: u16) -> usize {
    for n in 1..=most + 2 {
        w.send(peer, settle(n));
    }
    drained(w, peer).len()
}

#[test]
fn a_member_without_connection_is_the_last_resort() {
    let mut w = World::memory();
    let p = w.plain();
    let mut members = lasting(&mut w, &["a", "b"], 1);
    w.leave(&members[0], Leave::Lost);
    publish_all(&mut w, &p, 0..30, 1);
    assert_eq!(
        members[0].outbox.depth().1,
        0,
        "although the window of b is full"
    );
    w.leave(&members[1], Leave::Lost);
    publish_all(&mut w, &p, 30..34, 1);
    publish_all(&mut w, &p, 50..60, 0);
    members[1] = back(&mut w, "b");
    let all = drained(&mut w, &members[1]);
    assert_eq!(all.len(), 34, "its own and what waited for a: {all:?}");
    members[0] = back(&mut w, "a");
    assert_eq!(drained(&mut w, &members[0]), NOTHING);
}

#[test]
fn a_member_whose_queue_is_full_is_passed_over() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            sure: LaneLimit {
                frames: 3,
                bytes: 1 << 20,
            },
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let p = w.plain();
    let members = [("a", 1), ("b", 6)].map(|(id, window)| w.join(client(id).window(window)));
    for peer in &members {
        w.lines(peer);
        member(&mut w, peer, 1);
    }
    // Three for each, and what their windows let through.
    publish_all(&mut w, &p, 0..13, 1);
    assert_eq!(w.realm.counters().dropped_sure, 0);
    assert_eq!(members.each_ref().map(|peer| peer.outbox.depth().1), [4, 9]);
    let mut seen = drained(&mut w, &members[0]);
    seen.extend(drained(&mut w, &members[1]));
    assert_eq!(sorted(seen), (0..13).collect::<Vec<_>>());
}

#[test]
fn what_waits_goes_to_another_member_when_its_own_unsubscribes() {
    let mut w = World::durable();
    let p = w.plain();
    let a = w.join(client("a").window(1).expiry(600));
    w.lines(&a);
    member(&mut w, &a, 1);
    publish_all(&mut w, &p, 0..4, 1);
    assert_eq!(got(&mut w, &a), [0]);
    let b = lasting(&mut w, &["b"], 1).remove(0);
    assert_eq!(got(&mut w, &b), NOTHING, "a is connected and keeps its own");
    assert_eq!(
        w.ask(&a, unsub_share(2, "g", "t/#")),
        ["done 2 unsubscribed"]
    );
    let lines = w.lines(&b);
    assert_eq!(
        lines,
        [1, 2, 3].map(|n| format!("event 1 t/x [{n}] q1 @{n}")),
        "in order, and not as a repetition"
    );
    assert_eq!(w.records(records::QUEUES), 4);
    w.send(&a, settle(1));
    assert_eq!(got(&mut w, &a), NOTHING);
    for n in 1..=3 {
        w.send(&b, settle(n));
    }
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn the_last_member_of_a_group_keeps_what_waits() {
    let mut w = World::memory();
    let p = w.plain();
    let a = w.join(client("a").window(1));
    w.lines(&a);
    member(&mut w, &a, 1);
    publish_all(&mut w, &p, 0..3, 1);
    w.ask(&a, unsub_share(2, "g", "t/#"));
    let mut all = Vec::new();
    for n in 1..=3 {
        w.send(&a, settle(n));
        all.extend(got(&mut w, &a));
    }
    // 0 came with the answer.
    assert_eq!(all, [1, 2]);
}

#[test]
fn a_session_that_ends_leaves_what_it_did_not_acknowledge_to_others() {
    let mut w = World::durable();
    let p = w.plain();
    let a = w.join(client("a").window(2).expiry(600));
    w.lines(&a);
    member(&mut w, &a, 1);
    publish_all(&mut w, &p, 0..4, 1);
    assert_eq!(got(&mut w, &a), [0, 1]);
    let b = lasting(&mut w, &["b"], 1).remove(0);
    w.leave(&a, Leave::Lost);
    assert_eq!(got(&mut w, &b), [2, 3], "what was not sent yet");
    w.pass(secs(601));
    assert_eq!(
        w.lines(&b),
        [(0, 3), (1, 4)].map(|(n, slot)| format!("event 1 t/x [{n}] q1 @{slot}"))
    );
    assert_eq!(w.records(records::QUEUES), 4);
}

#[test]
fn what_was_sent_at_exactly_once_ends_with_its_session() {
    // [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    let mut w = World::durable();
    let p = w.plain();
    let a = w.join(client("a").window(1).expiry(600));
    w.lines(&a);
    member(&mut w, &a, 2);
    publish_all(&mut w, &p, 0..2, 2);
    assert_eq!(got(&mut w, &a), [0]);
    let b = lasting(&mut w, &["b"], 2).remove(0);
    w.leave(&a, Leave::Lost);
    assert_eq!(got(&mut w, &b), [1]);
    let a = back(&mut w, "a");
    assert_eq!(w.lines(&a), ["resumed", "event 1 t/x [0] q2 @1 again"]);
    w.send(&a, advance(1));
    w.leave(&a, Leave::Lost);
    let a = back(&mut w, "a");
    assert_eq!(w.lines(&a), ["resumed", "release 1"]);
    publish_all(&mut w, &p, 2..4, 2);
    assert_eq!((got(&mut w, &a), got(&mut w, &b)), (vec![2], vec![3]));
    w.leave(&a, Leave::Lost);
    w.pass(secs(601));
    assert_eq!(w.lines(&b), NONE);
    assert_eq!(w.records(records::QUEUES), 2, "those of b");
}

#[test]
fn an_error_acknowledgement_discards() {
    // [MQTT-4.8.2-6]: a refused message is settled like any other.
    let mut w = World::memory();
    let p = w.plain();
    let members = group(&mut w, &["a", "b"], 1);
    publish_all(&mut w, &p, 0..1, 1);
    assert_eq!(got(&mut w, &members[0]), [0]);
    w.send(&members[0], settle(1));
    w.leave(&members[0], Leave::Lost);
    assert_eq!(w.lines(&members[1]), NONE);
}

#[test]
fn what_its_publisher_addressed_is_not_handed_over() {
    let mut w = World::memory();
    let p = w.plain();
    let a = lasting(&mut w, &["a"], 1).remove(0);
    w.leave(&a, Leave::Lost);
    let everybody = Audience {
        roles: Some(vec!["anonymous".into()]),
        ..Audience::default()
    };
    w.send(
        &p,
        publish("t/x", json!([1])).qos(1).eligible(everybody).into(),
    );
    publish_all(&mut w, &p, 2..3, 1);
    let b = newcomer(&mut w, "b", 1);
    assert_eq!(got(&mut w, &b), [2]);
    let a = back(&mut w, "a");
    assert_eq!(got(&mut w, &a), [1]);
}

#[test]
fn a_publisher_that_wanted_no_copy_gets_none_by_a_detour() {
    let mut w = World::memory();
    let a = w.join(client("a").window(1));
    w.lines(&a);
    let b = group(&mut w, &["b"], 1).remove(0);
    member(&mut w, &a, 1);
    w.send(&b, publish("t/x", json!([1])).qos(1).into());
    w.send(&b, publish("t/x", json!([2])).qos(1).into());
    w.send(&b, publish("t/x", json!([3])).qos(1).echoed().into());
    w.ask(&b, unsub_share(2, "g", "t/#"));
    member(&mut w, &b, 1);
    w.leave(&a, Leave::Lost);
    assert_eq!(got(&mut w, &b), [3]);
}

#[test]
fn hand_over_asks_the_rights_of_the_receiver() {
    let mut w = World::memory();
    let p = w.plain();
    let a = w.join(client("a").window(1));
    w.lines(&a);
    member(&mut w, &a, 1);
    for (n, on) in ["t/a", "t/b", "t/c"].into_iter().enumerate() {
        w.send(&p, publish(on, json!([n])).qos(1).into());
    }
    let limited = w.join(client("b").role(role("r", &["subscribe t/#"], &["subscribe t/b"])));
    w.lines(&limited);
    member(&mut w, &limited, 1);
    w.leave(&a, Leave::Lost);
    assert_eq!(got(&mut w, &limited), [0, 2]);
    assert_eq!(w.realm.counters().dropped_sure, 1);
}

#[test]
fn what_a_new_role_may_not_read_goes_to_others() {
    let mut w = World::memory();
    let p = w.plain();
    let a = lasting(&mut w, &["a"], 1).remove(0);
    w.leave(&a, Leave::Lost);
    w.send(&p, publish("t/a", json!([0])).qos(1).into());
    w.send(&p, publish("t/b", json!([1])).qos(1).into());
    let b = newcomer(&mut w, "b", 1);
    assert_eq!(got(&mut w, &b), [0, 1]);
    for n in 1..=2 {
        w.send(&b, settle(n));
    }
    w.leave(&b, Leave::Lost);
    for (n, on) in [(2, "t/a"), (3, "t/b"), (4, "t/b"), (5, "t/a")] {
        w.send(&p, publish(on, json!([n])).qos(1).into());
    }
    let limited = role("r", &["subscribe t/#"], &["subscribe t/b"]);
    let a = w.join(client("a").expiry(600).role(limited));
    assert_eq!(sorted(drained(&mut w, &a)), [2, 5]);
    let b = back(&mut w, "b");
    assert_eq!(sorted(drained(&mut w, &b)), [3, 4]);
}

#[test]
fn membership_and_hand_over_survive_a_restart() {
    let mut w = World::durable();
    let p = w.plain();
    let other = lasting(&mut w, &["other"], 0).remove(0);
    w.ask(&other, sub(2, "other").qos(1).into());
    w.ask(&other, unsub_share(3, "g", "t/#"));
    let members = lasting(&mut w, &["a", "b"], 1);
    publish_all(&mut w, &p, 0..1, 1);
    assert_eq!(got(&mut w, &members[0]), [0]);
    for peer in &members {
        w.leave(peer, Leave::Lost);
    }
    publish_all(&mut w, &p, 1..7, 1);
    w.restart();
    assert_eq!(w.size("subscriptions"), 2);
    let p = w.plain();
    let b = back(&mut w, "b");
    let mut all = drained(&mut w, &b);
    assert!(!all.contains(&0), "it was sent to a");
    publish_all(&mut w, &p, 7..9, 1);
    all.extend(drained(&mut w, &b));
    let a = back(&mut w, "a");
    let kept = w.lines(&a);
    assert!(kept[1].ends_with("t/x [0] q1 @1 again"), "{kept:?}");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(
        sorted(all),
        (1..9).collect::<Vec<_>>(),
        "also what waited for a"
    );
    w.ask(&a, unsub_share(2, "g", "t/#"));
    w.restart();
    let p = w.plain();
    let b = back(&mut w, "b");
    publish_all(&mut w, &p, 9..11, 1);
    assert_eq!(drained(&mut w, &b), [9, 10]);
}

#[test]
fn new_subscriptions_do_not_get_the_ids_that_stored_deliveries_name() {
    let mut w = World::durable();
    let p = w.plain();
    let a = lasting(&mut w, &["a"], 1).remove(0);
    w.ask(&a, sub(2, "u/#").share("h").qos(1).into());
    w.leave(&a, Leave::Lost);
    w.send(&p, publish("u/x", json!([1])).qos(1).into());
    let a = back(&mut w, "a");
    w.ask(&a, unsub_share(3, "h", "u/#"));
    w.leave(&a, Leave::Lost);
    w.restart();
    let (b, a) = (w.lanes("b"), back(&mut w, "a"));
    let lines = w.ask(&b, sub(1, "u/#").share("i").qos(1).into());
    assert_eq!(lines, ["done 1 subscribed 3 q1"]);
    assert_eq!(got(&mut w, &a), [1]);
}

#[test]
fn the_quota_counts_shared_subscriptions() {
    let mut w = World::limited(RealmLimits {
        subscriptions_per_session: 2,
        ..RealmLimits::default()
    });
    let a = w.lanes("a");
    w.ask(&a, sub(1, "t").share("g").into());
    w.ask(&a, sub(2, "t").share("h").into());
    for refused in [sub(3, "t"), sub(3, "t").share("i")] {
        assert_eq!(w.ask(&a, refused.into()), ["refused 3 QuotaExceeded"]);
    }
    assert_eq!(
        w.ask(&a, sub(4, "t").share("g").qos(1).into()),
        ["done 4 subscribed 1 q1"]
    );
}

#[test]
fn a_membership_whose_commit_fails_is_taken_back_with_what_it_got() {
    let mut w = World::durable();
    let p = w.plain();
    let a = lasting(&mut w, &["a"], 1).remove(0);
    let b = w.join(client("b").expiry(600).window(1));
    w.lines(&b);
    w.auto_commit = false;
    w.send(&b, sub(1, "t/#").share("g").qos(1).into());
    publish_all(&mut w, &p, 0..2, 1);
    w.leave(&a, Leave::Lost);
    publish_all(&mut w, &p, 2..6, 1);
    assert_eq!(w.lines(&b), ["event 1 t/x [1] q1 @1"]);
    w.fail();
    assert_eq!(w.lines(&b), ["refused 1 StorageUnavailable"]);
    let a = w.join(client("a").expiry(600));
    w.probe();
    w.commit();
    assert_eq!(got(&mut w, &a), [0, 2, 3, 4, 5]);
    w.auto_commit = true;
    w.probe();
    publish_all(&mut w, &p, 6..7, 1);
    assert_eq!(got(&mut w, &a), [6]);
}

#[test]
fn wamp_style_members_take_part() {
    let mut w = World::memory();
    let (a, b, p) = (w.plain(), w.plain(), w.plain());
    for peer in [&a, &b] {
        w.ask(peer, sub(1, "t/#").share("g").into());
    }
    publish_all(&mut w, &p, 0..4, 1);
    assert_eq!((got(&mut w, &a), got(&mut w, &b)), (vec![0, 2], vec![1, 3]));
    w.leave(&a, Leave::Lost);
    publish_all(&mut w, &p, 4..6, 1);
    assert_eq!(got(&mut w, &b), [4, 5]);
}

#[test]
fn a_shutdown_moves_nothing() {
    let mut w = World::durable();
    let p = w.plain();
    let members = lasting(&mut w, &["a", "b", "c"], 1);
    publish_all(&mut w, &p, 0..60, 1);
    let reason = router_core::model::EndReason::Shutdown;
    w.realm.close(w.now, &reason, &mut w.effects);
    for peer in &members {
        w.leave(peer, Leave::Lost);
    }
    let waiting = members.iter().map(|m| m.outbox.depth().1);
    assert_eq!(waiting.collect::<Vec<_>>(), [20, 20, 20]);
}

#[test]
fn the_assurance_of_a_delivery_is_that_of_the_member_who_gets_it_in_the_end() {
    let mut w = World::memory();
    let p = w.plain();
    let a = lasting(&mut w, &["a"], 2).remove(0);
    w.leave(&a, Leave::Lost);
    publish_all(&mut w, &p, 0..1, 2);
    let b = w.lanes("b");
    let mut events = Vec::new();
    w.send(&b, sub(1, "t/#").share("g").qos(1).identifier(4).into());
    for delivery in w.read(&b) {
        if let Delivery::Event(event) = delivery {
            events.push((event.qos, event.identifiers.to_vec()));
        }
    }
    assert_eq!(events, [(Qos::AtLeastOnce, vec![4])]);
}

#[test]
fn what_finds_nobody_keeps_its_place() {
    let mut w = World::memory();
    let p = w.plain();
    let a = w.join(client("a").window(1));
    w.lines(&a);
    member(&mut w, &a, 1);
    w.ask(&a, sub(2, "u").qos(1).into());
    for (n, on) in ["t/a", "t/b", "u", "t/a"].into_iter().enumerate() {
        w.send(&p, publish(on, json!([n])).qos(1).into());
    }
    assert_eq!(got(&mut w, &a), [0]);
    let b = w.join(client("b").role(role("r", &["subscribe t/#"], &["subscribe t/b"])));
    w.lines(&b);
    member(&mut w, &b, 1);
    w.ask(&a, unsub_share(3, "g", "t/#"));
    assert_eq!(got(&mut w, &b), [3]);
    let mut rest = Vec::new();
    for n in 1..=3 {
        w.send(&a, settle(n));
        rest.extend(got(&mut w, &a));
    }
    assert_eq!(rest, [1, 2]);
}

#[test]
fn what_waited_for_absent_members_is_collected_in_steps() {
    let mut w = World::memory();
    let p = w.plain();
    for peer in lasting(&mut w, &["a", "b"], 1) {
        w.leave(&peer, Leave::Lost);
    }
    publish_all(&mut w, &p, 0..600, 1);
    let c = w.join(client("c").window(1_000));
    w.send(&c, sub(1, "t/#").share("g").qos(1).into());
    let mut all = got(&mut w, &c);
    let first = all.len();
    assert!((1..300).contains(&first), "{first}");
    for n in 1..=600 {
        w.send(&c, settle(n));
        all.extend(got(&mut w, &c));
    }
    let of = |odd| all.iter().copied().filter(move |n| n % 2 == odd);
    assert!(of(0).is_sorted() && of(1).is_sorted(), "each in its order");
    assert_eq!(sorted(all), (0..600).collect::<Vec<_>>());
}

#[test]
fn several_newcomers_share_what_waited() {
    let mut w = World::memory();
    let p = w.plain();
    for peer in lasting(&mut w, &["a"], 1) {
        w.leave(&peer, Leave::Lost);
    }
    publish_all(&mut w, &p, 0..9, 1);
    let peers = ["b", "c"].map(|name| w.join(client(name).window(2)));
    for peer in &peers {
        w.send(peer, sub(1, "t/#").share("g").qos(1).into());
    }
    assert_eq!(got(&mut w, &peers[0]), [0, 1]);
    assert_eq!(got(&mut w, &peers[1]), [2, 3]);
    w.send(&peers[1], settle(1));
    w.send(&peers[0], settle(1));
    assert_eq!(got(&mut w, &peers[1]), [4]);
    assert_eq!(got(&mut w, &peers[0]), [5]);
}

#[test]
fn a_newcomer_that_settles_nothing_collects_with_every_event() {
    let mut w = World::memory();
    let p = w.plain();
    for peer in lasting(&mut w, &["a"], 1) {
        w.leave(&peer, Leave::Lost);
    }
    publish_all(&mut w, &p, 0..600, 1);
    let b = w.plain();
    w.send(&b, sub(1, "t/#").share("g").into());
    let mut all = got(&mut w, &b);
    for n in 600..604 {
        publish_all(&mut w, &p, n..n + 1, 1);
        all.extend(got(&mut w, &b));
    }
    assert_eq!(sorted(all), (0..604).collect::<Vec<_>>());
}

#[test]
fn whoever_acknowledges_gets_turns_again_though_others_have_room() {
    for strategy in [ShareStrategy::RoundRobin, ShareStrategy::LeastLoaded] {
        let sharing = Sharing {
            default: strategy,
            ..Sharing::default()
        };
        let mut w = World::sharing(false, RealmLimits::default(), 4, sharing);
        let p = w.plain();
        let (a, b) = (
            w.join(client("a").window(1)),
            w.join(client("b").window(90)),
        );
        for peer in [&a, &b] {
            w.lines(peer);
            member(&mut w, peer, 1);
        }
        let mut of_a = 0;
        for n in 0..20 {
            publish_all(&mut w, &p, n..n + 1, 1);
            of_a += drained(&mut w, &a).len();
        }
        assert!(of_a >= 10, "{of_a} {strategy:?}");
    }
}

#[test]
fn a_publish_is_refused_only_if_no_member_has_room() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            sure: LaneLimit {
                frames: 2,
                bytes: 1 << 20,
            },
            when_full: WhenFull::RefusePublisher,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let p = w.plain();
    let members = ["a", "b"].map(|id| w.join(client(id).window(1)));
    for peer in &members {
        w.lines(peer);
        member(&mut w, peer, 1);
    }
    let ask = |w: &mut World, n: u64| {
        let publish = publish("t/x", json!([n])).qos(1).ack(n);
        w.ask(&p, publish.into()).remove(0)
    };
    for n in 1..=6 {
        assert_eq!(ask(&mut w, n), format!("done {n} published"));
    }
    assert_eq!(ask(&mut w, 7), "refused 7 QuotaExceeded");
    assert_eq!(drained(&mut w, &members[0]).len(), 3);
    assert_eq!(ask(&mut w, 8), "done 8 published");
    assert_eq!(drained(&mut w, &members[1]).len(), 3);
    assert_eq!(drained(&mut w, &members[0]), [8]);
}
