//! What bounds the queue of a client, connected or not, and how one that holds more is brought down.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits, WhenFull};
use router_core::model::{Delivery, EndReason};
use router_core::records;
use router_core::session::Leave;
use serde_json::json;
use std::time::Duration;

fn limits(when_full: WhenFull, most: usize) -> RealmLimits {
    RealmLimits {
        outbox: OutboxLimits {
            sure: LaneLimit {
                frames: most,
                bytes: 1 << 20,
            },
            when_full,
            resident: 10,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    }
}

/// A durable client subscribed to `t`.
fn lasting(w: &mut World, id: &str, window: u16) -> Peer {
    let peer = w.join(client(id).expiry(600).window(window));
    w.ask(&peer, sub(1, "t").qos(1).into());
    peer
}

fn message(n: u64) -> Pub {
    publish("t", json!([n])).qos(1)
}

fn waiting(w: &World, id: &str) -> usize {
    w.realm.outbox_of(id).unwrap().depth().1
}

fn counter(w: &World, name: &str) -> u64 {
    let list = w.realm.counters().list();
    list.iter().find(|(known, ..)| *known == name).unwrap().2
}

/// Reads and settles until nothing comes; answers numbers and how many were lost before each.
fn take_all(w: &mut World, peer: &Peer) -> Vec<(u64, u32)> {
    let mut got = Vec::new();
    loop {
        let deliveries = w.read(peer);
        if deliveries.is_empty() {
            return got;
        }
        for delivery in deliveries {
            if let Delivery::Event(event) = delivery {
                got.push((event.event.payload.value().as_u64().unwrap(), event.lost));
                w.send(peer, settle(event.slot.unwrap().get()));
            }
        }
    }
}

/// Commits one batch after the other; answers the most operations and bytes of one.
fn commit_all(w: &mut World) -> (usize, usize) {
    let mut most = (0, 0);
    while let Some((_, batch)) = w.pending.front() {
        most = (most.0.max(batch.len()), most.1.max(batch.bytes()));
        w.commit_one();
    }
    most
}

#[test]
fn a_connected_client_that_never_acknowledges_holds_the_bound_and_its_window() {
    let mut w = World::new(true, limits(WhenFull::DropOldest, 100));
    let p = w.plain();
    let c = lasting(&mut w, "c", 5);
    w.read(&c);
    for n in 1..=1_000 {
        w.send(&p, message(n).into());
        w.read(&c);
    }
    let outbox = w.realm.outbox_of("c").unwrap();
    assert_eq!(outbox.depth(), (0, 100, 5));
    assert_eq!(w.records(records::QUEUES), 106, "one of a gap");
    assert_eq!(counter(&w, "dropped_sure"), 895);
}

#[test]
fn a_client_is_stuck_only_after_some_time_without_a_sign() {
    let mut limits = limits(WhenFull::Disconnect, 100);
    limits.outbox.patience = Duration::from_secs(5);
    let mut w = World::new(true, limits);
    let p = w.plain();
    let c = lasting(&mut w, "c", 5);
    w.read(&c);
    for n in 1..=1_000 {
        w.send(&p, message(n).into());
        w.read(&c);
    }
    w.pass(Duration::from_millis(4_990));
    w.send(&p, message(1_001).into());
    assert_eq!(waiting(&w, "c"), 996, "a burst ends nobody");
    w.pass(Duration::from_millis(20));
    w.send(&p, message(1_002).into());
    w.send(&p, message(1_003).into());
    let told = w.read(&c);
    assert!(
        matches!(told.last(), Some(Delivery::Ended(EndReason::TooSlow))),
        "{told:?}"
    );
}

#[test]
fn a_client_that_acknowledges_may_fall_behind_until_it_stops() {
    let mut w = World::new(true, limits(WhenFull::DropOldest, 100));
    let p = w.plain();
    let c = lasting(&mut w, "c", 5);
    w.read(&c);
    let mut open = Vec::new();
    // One acknowledgement for every fifty messages.
    for n in 1..=1_000 {
        w.send(&p, message(n).into());
        for delivery in w.read(&c) {
            if let Delivery::Event(event) = delivery {
                open.push(event.slot.unwrap().get());
            }
        }
        if n % 50 == 0 {
            w.send(&c, settle(open.remove(0)));
        }
    }
    assert_eq!(counter(&w, "dropped_sure"), 0);
    assert_eq!(waiting(&w, "c"), 1_000 - 20 - open.len());
    // None for as many as the bound allows: the bound holds, and the slot left open is no room.
    for n in 1..=103 {
        w.send(&p, message(n).into());
        w.read(&c);
    }
    while w.commit_one() {
        w.pass(Duration::from_millis(20));
    }
    assert_eq!(waiting(&w, "c"), 100);
}

#[test]
fn what_the_window_lets_through_waits_for_the_writer_and_does_not_count() {
    let mut w = World::new(true, limits(WhenFull::DropOldest, 100));
    let p = w.plain();
    let c = lasting(&mut w, "c", 50);
    w.read(&c);
    // One turn of the realm, in which no writer runs.
    for n in 1..=150 {
        w.send(&p, message(n).into());
    }
    assert_eq!(waiting(&w, "c"), 150);
    let got = take_all(&mut w, &c);
    assert!((1..=150).map(|n| (n, 0)).eq(got));
}

#[test]
fn the_bound_holds_from_the_moment_a_client_goes_offline() {
    for when_full in [WhenFull::DropOldest, WhenFull::RefusePublisher] {
        let mut w = World::new(true, limits(when_full, 100));
        let p = w.plain();
        let c = lasting(&mut w, "c", 50);
        w.read(&c);
        for n in 1..=150 {
            w.send(&p, message(n).into());
        }
        w.leave(&c, Leave::Lost);
        let drops = when_full == WhenFull::DropOldest;
        let held = if drops { 100 } else { 150 };
        assert_eq!(
            waiting(&w, "c"),
            held,
            "what was accepted goes only where the policy is to drop"
        );
        assert_eq!(w.records(records::QUEUES), held + usize::from(drops));
        let c = w.join(client("c").expiry(600).window(50));
        let got = take_all(&mut w, &c);
        assert_eq!(got.len(), held);
        assert_eq!(got[0], if drops { (51, 50) } else { (1, 0) });
    }
}

#[test]
fn a_stuck_client_refuses_the_publisher_at_the_bound() {
    let mut w = World::new(true, limits(WhenFull::RefusePublisher, 100));
    let p = w.plain();
    let c = lasting(&mut w, "c", 1);
    w.read(&c);
    for n in 1..=101 {
        let lines = w.ask(&p, message(n).ack(n).into());
        assert!(lines[0].starts_with("done"), "{lines:?}");
        w.read(&c);
    }
    let lines = w.ask(&p, message(102).ack(102).into());
    assert_eq!(lines, ["refused 102 QuotaExceeded"]);
    w.send(&c, settle(1));
    w.read(&c);
    let lines = w.ask(&p, message(103).ack(103).into());
    assert!(lines[0].starts_with("done"), "{lines:?}");
}

#[test]
fn a_stuck_client_is_disconnected_at_the_bound() {
    let mut w = World::new(true, limits(WhenFull::Disconnect, 100));
    let p = w.plain();
    let c = lasting(&mut w, "c", 1);
    w.read(&c);
    for n in 1..=101 {
        w.send(&p, message(n).into());
        let ended = w.read(&c).iter().any(|it| matches!(it, Delivery::Ended(_)));
        assert!(!ended, "at {n}");
    }
    w.send(&p, message(102).into());
    let last = w.read(&c).pop();
    assert!(matches!(last, Some(Delivery::Ended(EndReason::TooSlow))));
    assert_eq!(w.records(records::QUEUES) + w.records(records::SESSIONS), 0);
}

#[test]
fn many_full_queues_that_go_offline_cost_the_next_publisher_nothing() {
    let mut w = World::new(true, limits(WhenFull::DropOldest, 100));
    let p = w.plain();
    let peers: Vec<Peer> = (0..20)
        .map(|n| lasting(&mut w, &format!("c{n}"), 1))
        .collect();
    for n in 1..=1_500 {
        w.send(&p, message(n).into());
    }
    w.auto_commit = false;
    for peer in &peers {
        w.read(peer);
        w.leave(peer, Leave::Lost);
    }
    commit_all(&mut w);
    w.send(&p, message(1_501).ack(1).into());
    let (ops, bytes) = commit_all(&mut w);
    assert!(ops <= 20 * 6 && bytes < 20 * 2_000, "{ops} {bytes}");
    assert_eq!(w.lines(&p), ["done 1 published"]);
    assert_eq!(waiting(&w, "c7"), 100);
}

#[test]
fn queues_beyond_a_lower_bound_are_brought_down_in_steps() {
    let mut w = World::new(true, limits(WhenFull::DropOldest, 10_000));
    let p = w.plain();
    for n in 0..4 {
        let peer = lasting(&mut w, &format!("c{n}"), 1);
        w.leave(&peer, Leave::Lost);
    }
    for n in 1..=2_000 {
        w.send(&p, message(n).into());
    }
    w.restart_with(limits(WhenFull::DropOldest, 100));
    assert_eq!(waiting(&w, "c0"), 2_000, "the start does not wait for it");
    let p = w.plain();
    w.auto_commit = false;
    w.send(&p, message(2_001).ack(1).into());
    let (ops, _) = commit_all(&mut w);
    assert!(ops < 2_500, "{ops} in one batch");
    assert_eq!(w.lines(&p), ["done 1 published"]);
    let mut steps = 0;
    while (0..4).any(|n| waiting(&w, &format!("c{n}")) > 100) {
        w.pass(ms(10));
        // The next step waits until the store has taken this one.
        let held: usize = (0..4).map(|n| waiting(&w, &format!("c{n}"))).sum();
        w.pass(ms(10));
        let now: usize = (0..4).map(|n| waiting(&w, &format!("c{n}"))).sum();
        assert_eq!(now, held);
        let (ops, bytes) = commit_all(&mut w);
        assert!(ops < 2_500 && bytes < 300_000, "{ops} {bytes}");
        steps += 1;
        assert!(steps < 20);
    }
    assert!(steps >= 5, "{steps}");
    assert_eq!(w.records(records::QUEUES), 4 * 101);
    w.auto_commit = true;
    let c = w.join(client("c3").expiry(600).window(50));
    let got = take_all(&mut w, &c);
    assert_eq!((got.len(), got[0]), (100, (1_902, 1_901)));
}

#[test]
fn a_lower_bound_takes_nothing_from_whom_it_was_promised() {
    let mut w = World::new(true, limits(WhenFull::RefusePublisher, 1_000));
    let p = w.plain();
    let c = lasting(&mut w, "c", 5);
    w.leave(&c, Leave::Lost);
    for n in 1..=500 {
        w.send(&p, message(n).into());
    }
    w.restart_with(limits(WhenFull::RefusePublisher, 100));
    let p = w.plain();
    w.pass(secs(1));
    let lines = w.ask(&p, message(501).ack(1).into());
    assert_eq!(lines, ["refused 1 QuotaExceeded"]);
    let c = w.join(client("c").expiry(600).window(5));
    assert_eq!(take_all(&mut w, &c).len(), 500);
}

#[test]
fn what_expired_goes_first_and_is_not_lost() {
    for resident in [0, 1_000] {
        let mut most = limits(WhenFull::DropOldest, 100);
        most.outbox.resident = resident;
        let mut w = World::new(true, most);
        let p = w.plain();
        let c = lasting(&mut w, "c", 200);
        w.leave(&c, Leave::Lost);
        // Every other one expires, behind older ones that do not.
        for n in 1..=100 {
            let publish = message(n);
            let publish = if n % 2 == 0 {
                publish.expires(5)
            } else {
                publish
            };
            w.send(&p, publish.into());
        }
        w.pass(secs(5));
        for n in 101..=170 {
            w.send(&p, message(n).into());
        }
        // 50 expired; 120 were alive, and 100 have room.
        assert_eq!(counter(&w, "dropped_sure"), 20);
        assert_eq!(w.records(records::QUEUES), 101);
        let c = w.join(client("c").expiry(600).window(200));
        let got = take_all(&mut w, &c);
        assert_eq!((got.len(), got[0]), (100, (41, 20)));
        let odd = (41..=99).step_by(2).chain(101..=170);
        assert!(odd.eq(got.iter().map(|(n, _)| *n)));
        assert_eq!(w.records(records::QUEUES), 0);
    }
}

#[test]
fn what_expired_takes_no_room_from_a_publisher_or_a_receiver() {
    for when_full in [WhenFull::RefusePublisher, WhenFull::Disconnect] {
        let mut w = World::new(true, limits(when_full, 100));
        let p = w.plain();
        let c = lasting(&mut w, "c", 5);
        w.leave(&c, Leave::Lost);
        for n in 1..=100 {
            w.send(&p, message(n).expires(n).into());
        }
        for n in 1..=40 {
            w.pass(secs(1));
            let lines = w.ask(&p, message(100 + n).ack(n).into());
            assert_eq!(lines, [format!("done {n} published")]);
        }
        assert_eq!(waiting(&w, "c"), 100);
        assert_eq!(w.records(records::QUEUES), 100);
        assert_eq!(
            counter(&w, "dropped_sure") + counter(&w, "ended_queue_full"),
            0
        );
    }
}
