//! Queues of durable clients: policies for full ones, gaps, and what is on disk alone.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits, WhenFull};
use router_core::model::{Command, Delivery};
use router_core::records::{self, StoredHead};
use router_core::session::Leave;
use serde_json::{Value, json};
use storage::StorageError;

fn world(when_full: WhenFull, most: usize, resident: usize) -> World {
    let lane = |frames| LaneLimit {
        frames,
        bytes: 1 << 20,
    };
    World::new(
        true,
        RealmLimits {
            outbox: OutboxLimits {
                best: lane(3),
                sure: lane(most),
                when_full,
                resident,
                ..OutboxLimits::default()
            },
            ..RealmLimits::default()
        },
    )
}

/// A durable client that is away, subscribed to `t/#`, with `count` messages.
fn away(w: &mut World, publisher: &Peer, count: u64) {
    let peer = w.join(client("c").expiry(600).window(5));
    w.ask(&peer, sub(1, "t/#").qos(1).into());
    w.leave(&peer, Leave::Lost);
    for n in 1..=count {
        w.send(publisher, message(n).into());
    }
}

fn message(n: u64) -> Pub {
    publish("t/x", json!([n])).qos(1)
}

fn back(w: &mut World) -> Peer {
    w.join(client("c").expiry(600).window(5))
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
                if let Some(slot) = event.slot {
                    w.send(peer, settle(slot.get()));
                }
            }
        }
    }
}

fn counter(w: &World, name: &str) -> u64 {
    let list = w.realm.counters().list();
    list.iter().find(|(known, ..)| *known == name).unwrap().2
}

#[test]
fn most_of_a_long_queue_is_on_disk_alone_and_comes_back_in_order() {
    let mut w = world(WhenFull::DropOldest, 10_000, 10);
    let p = w.plain();
    away(&mut w, &p, 2_000);
    let outbox = w.realm.outbox_of("c").unwrap();
    assert_eq!((outbox.resident(), outbox.depth().1), (10, 2_000));
    assert_eq!(counter(&w, "queue_reads"), 0);
    let peer = back(&mut w);
    let mut most = 0;
    let mut got = Vec::new();
    while got.len() < 2_000 {
        for delivery in w.read(&peer) {
            if let Delivery::Event(event) = delivery {
                assert!(!event.repeated);
                got.push(event.event.payload.value().as_u64().unwrap());
                w.send(&peer, settle(event.slot.unwrap().get()));
            }
        }
        most = most.max(outbox.resident());
    }
    assert_eq!(got, (1..=2_000).collect::<Vec<u64>>());
    assert!(most <= 10, "{most} in memory");
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn what_comes_live_stays_behind_what_is_read_back() {
    let mut w = world(WhenFull::DropOldest, 100, 2);
    let p = w.plain();
    away(&mut w, &p, 8);
    let peer = back(&mut w);
    for n in 9..=12 {
        w.send(&p, message(n).into());
    }
    let got: Vec<u64> = take_all(&mut w, &peer).iter().map(|(n, _)| *n).collect();
    assert_eq!(got, (1..=12).collect::<Vec<u64>>());
}

#[test]
fn a_restart_reads_only_the_first_bodies() {
    let mut w = world(WhenFull::DropOldest, 1_000, 10);
    let p = w.plain();
    away(&mut w, &p, 500);
    let found = restored(&w.disk, 10);
    assert_eq!((found.queues.len(), found.spilled.len()), (10, 490));
    w.restart();
    let outbox = w.realm.outbox_of("c").unwrap();
    assert_eq!((outbox.resident(), outbox.depth().1), (10, 500));
    let peer = back(&mut w);
    let got = take_all(&mut w, &peer);
    assert!((1..=500).zip(&got).all(|(n, got)| *got == (n, 0)));
    assert_eq!(got.len(), 500);
}

#[test]
fn a_damaged_or_missing_record_is_counted_and_passed_over() {
    let mut w = world(WhenFull::DropOldest, 100, 1);
    let p = w.plain();
    away(&mut w, &p, 6);
    let key = |n| (records::QUEUES.0, records::client_key(REALM, "c", n));
    w.disk.remove(&key(3));
    w.disk.insert(key(4), b"rubbish".to_vec());
    let what = "checksum".to_owned();
    let where_ = "here".to_owned();
    let damaged = StorageError::Damaged { what, where_ };
    w.read_faults.push_back(Some(damaged));
    let peer = back(&mut w);
    let got: Vec<u64> = take_all(&mut w, &peer).iter().map(|(n, _)| *n).collect();
    assert_eq!(got, [1, 5, 6]);
    assert_eq!(counter(&w, "queue_damaged"), 3);
    let left: Vec<_> = w
        .disk
        .keys()
        .filter(|(s, _)| *s == records::QUEUES.0)
        .collect();
    assert_eq!(
        left,
        [&key(2)],
        "what the engine calls damaged is not touched"
    );
}

#[test]
fn a_failed_read_is_tried_again_and_loses_nothing() {
    let mut w = world(WhenFull::DropOldest, 100, 2);
    let p = w.plain();
    away(&mut w, &p, 9);
    let peer = back(&mut w);
    for _ in 0..3 {
        let what = "away".to_owned();
        w.read_faults.push_back(Some(StorageError::Io { what }));
    }
    let mut got = Vec::new();
    for _ in 0..5 {
        got.extend(take_all(&mut w, &peer).iter().map(|(n, _)| *n));
        w.pass(secs(1));
    }
    assert_eq!(got, (1..=9).collect::<Vec<u64>>());
    // The first fault of a read ends it; the other may have struck a key behind.
    assert!(counter(&w, "queue_reads_failed") >= 2);
}

#[test]
fn a_role_that_lost_a_right_is_not_given_what_is_on_disk_under_it() {
    let mut w = world(WhenFull::DropOldest, 100, 1);
    let join = || client("c").expiry(600).proven("joe");
    let joe = w.join(join());
    w.ask(&joe, sub(1, "#").qos(1).into());
    w.leave(&joe, Leave::Lost);
    let p = w.plain();
    for (n, on) in [(1, "open"), (2, "secret"), (3, "open"), (4, "secret")] {
        w.send(&p, publish(on, json!([n])).qos(1).into());
    }
    let narrow = role("narrow", &["subscribe #"], &["subscribe secret"]);
    let joe = w.join(join().role(narrow));
    let got: Vec<u64> = take_all(&mut w, &joe).iter().map(|(n, _)| *n).collect();
    assert_eq!(got, [1, 3]);
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn a_session_that_stops_being_durable_still_gets_what_is_on_disk_and_leaves_nothing() {
    for reads in [true, false] {
        let mut w = world(WhenFull::DropOldest, 100, 2);
        let p = w.plain();
        away(&mut w, &p, 9);
        let peer = w.join(client("c").window(5));
        assert_eq!(w.records(records::SESSIONS), 0);
        if reads {
            let got = take_all(&mut w, &peer);
            assert_eq!(got.len(), 9, "{got:?}");
        }
        let before = w.disk.clone();
        w.leave(&peer, Leave::Lost);
        assert_eq!(w.records(records::QUEUES), 0, "{reads}");
        // Had the router died before, the restart would have cleared up.
        w.disk = before;
        w.restart();
        assert_eq!(w.records(records::QUEUES), 0, "{reads}");
        assert_eq!(w.size("sessions"), 0);
    }
}

#[test]
fn nothing_is_spilled_without_a_disk() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            resident: 0,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let p = w.plain();
    away(&mut w, &p, 9);
    assert_eq!(w.realm.outbox_of("c").unwrap().resident(), 9);
    let peer = back(&mut w);
    assert_eq!(take_all(&mut w, &peer).len(), 9);
}

#[test]
fn a_gap_is_told_once_with_the_next_delivery_and_survives_a_restart() {
    for resident in [0, 2, 100] {
        let mut w = world(WhenFull::DropOldest, 4, resident);
        let p = w.plain();
        away(&mut w, &p, 7);
        w.restart();
        let p = w.plain();
        w.send(&p, message(8).into());
        let peer = back(&mut w);
        assert_eq!(take_all(&mut w, &peer), [(5, 4), (6, 0), (7, 0), (8, 0)]);
        assert_eq!(w.records(records::QUEUES), 0);
        assert_eq!(counter(&w, "dropped_sure"), 1, "since the restart");
    }
}

#[test]
fn a_gap_that_was_told_and_not_settled_outlives_a_failed_commit_and_a_restart() {
    let mut w = world(WhenFull::DropOldest, 4, 100);
    let p = w.plain();
    let peer = w.join(client("c").expiry(600).window(1));
    w.ask(&peer, sub(1, "t/#").qos(1).into());
    w.send(&p, message(1).into());
    assert_eq!(w.read(&peer).len(), 1);
    for n in 2..=5 {
        w.send(&p, message(n).into());
    }
    w.auto_commit = false;
    // In the place of the second message.
    w.send(&p, message(6).into());
    w.send(&peer, settle(1));
    let told = w.read(&peer);
    let told = told.iter().map(|delivery| match delivery {
        Delivery::Event(event) => event.lost,
        _ => 0,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1]);
    w.fail();
    w.probe();
    w.commit();
    w.restart();
    w.auto_commit = true;
    let peer = back(&mut w);
    assert_eq!(take_all(&mut w, &peer), [(3, 1), (4, 0), (5, 0), (6, 0)]);
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn a_gap_among_at_most_once_events_is_told_too() {
    let mut w = world(WhenFull::DropOldest, 4, 4);
    let p = w.plain();
    let c = w.lanes("c");
    w.ask(&c, sub(1, "t").into());
    for n in 1..=8 {
        w.send(&p, publish("t", json!([n])).into());
    }
    assert_eq!(take_all(&mut w, &c), [(6, 5), (7, 0), (8, 0)]);
    assert_eq!(counter(&w, "dropped_best"), 5);
}

#[test]
fn a_publisher_is_refused_before_anybody_receives_it() {
    let mut w = world(WhenFull::RefusePublisher, 2, 10);
    let p = w.plain();
    let other = w.plain();
    w.ask(&other, sub(1, "t/#").into());
    away(&mut w, &p, 2);
    w.lines(&other);
    let before = w.disk.clone();
    let refused = |n| vec![format!("refused {n} QuotaExceeded")];
    assert_eq!(w.ask(&p, message(3).ack(3).into()), refused(3));
    assert_eq!(w.ask(&p, message(4).retain().ack(4).into()), refused(4));
    assert!(w.lines(&other).is_empty());
    assert_eq!(w.disk, before);
    assert_eq!(w.key(&other, "t/x")["value"], Value::Null);
    assert_eq!(counter(&w, "refused_queue_full"), 2);
    // At most once is nobody's queue; what the receiver would not get is not in its way.
    let free = [
        publish("t/x", json!([5])).ack(5),
        publish("u", json!([6])).qos(1).ack(6),
    ];
    for publish in free {
        let lines = w.ask(&p, publish.into());
        assert!(lines[0].starts_with("done"), "{lines:?}");
    }
    let peer = back(&mut w);
    assert_eq!(take_all(&mut w, &peer), [(1, 0), (2, 0)]);
    let lines = w.ask(&p, message(7).ack(7).into());
    assert_eq!(lines, ["done 7 published"]);
}

#[test]
fn a_will_that_a_full_queue_cannot_take_is_counted_and_others_get_it() {
    let mut w = world(WhenFull::RefusePublisher, 2, 10);
    let p = w.plain();
    let other = w.plain();
    w.ask(&other, sub(1, "t/#").into());
    away(&mut w, &p, 2);
    w.lines(&other);
    let dying = w.join(client("dying").will(0, message(9)));
    w.leave(&dying, Leave::Lost);
    assert_eq!(w.lines(&other), ["event 1 t/x [9]"]);
    assert_eq!(counter(&w, "not_queued"), 1);
    let peer = back(&mut w);
    assert_eq!(take_all(&mut w, &peer), [(1, 0), (2, 0)]);
}

#[test]
fn a_share_group_refuses_only_if_no_member_has_room() {
    let mut w = world(WhenFull::RefusePublisher, 1, 10);
    let p = w.plain();
    let [a, b] = ["a", "b"].map(|id| {
        let peer = w.join(client(id).expiry(600).window(1));
        w.ask(&peer, sub(1, "t/#").share("g").qos(1).into());
        peer
    });
    let mut taken = 0;
    for n in 1..=10 {
        let lines = w.ask(&p, message(n).ack(n).into());
        taken += usize::from(lines[0].starts_with("done"));
        w.read(&a);
        w.read(&b);
    }
    assert_eq!(taken, 4, "one in each window, one behind each");
    assert_eq!(counter(&w, "not_queued"), 0);
}

#[test]
fn a_receiver_whose_queue_is_full_may_be_ended_with_all_it_holds() {
    for online in [true, false] {
        let mut w = world(WhenFull::Disconnect, 3, 1);
        let p = w.plain();
        away(&mut w, &p, 0);
        let peer = online.then(|| back(&mut w));
        // One too many, and five that the window would let through.
        for n in 1..=if online { 9 } else { 4 } {
            assert_eq!(counter(&w, "ended_queue_full"), 0);
            let lines = w.ask(&p, message(n).ack(n).into());
            assert!(lines[0].starts_with("done"), "{lines:?}");
        }
        if let Some(peer) = peer {
            assert_eq!(w.lines(&peer).last().unwrap(), "ended TooSlow");
        }
        assert_eq!(w.size("sessions"), 1, "only the publisher");
        assert_eq!(w.records(records::QUEUES) + w.records(records::SESSIONS), 0);
        assert_eq!(counter(&w, "ended_queue_full"), 1);
        let peer = back(&mut w);
        assert_eq!(w.lines(&peer), ["joined"]);
    }
}

#[test]
fn nobody_is_told_that_a_message_is_kept_that_a_restart_would_miss() {
    for fails in [false, true] {
        let mut w = world(WhenFull::Disconnect, 3, 1);
        let p = w.plain();
        away(&mut w, &p, 3);
        w.lines(&p);
        w.auto_commit = false;
        // The queue is full, and its session ends; on disk it is still there.
        w.send(&p, message(4).ack(4).into());
        w.send(&p, message(5).ack(5).into());
        assert!(w.lines(&p).is_empty(), "the end is not on disk");
        if !fails {
            w.commit();
            assert_eq!(w.lines(&p).len(), 2);
            continue;
        }
        w.fail();
        for line in w.lines(&p) {
            assert!(line.starts_with("refused"), "{line}");
        }
        // Still not, and nobody knows when it will be.
        let lines = w.ask(&p, message(6).ack(6).into());
        assert!(lines[0].starts_with("refused 6"), "{lines:?}");
        w.probe();
        w.commit();
        let lines = w.ask(&p, message(7).ack(7).into());
        assert!(lines[0].starts_with("done 7"), "{lines:?}");
        assert_eq!(w.records(records::SESSIONS), 0);
    }
}

#[test]
fn a_replay_and_live_events_do_not_starve_each_other() {
    let mut w = world(WhenFull::DropOldest, 1_000, 100);
    let p = w.plain();
    for n in 0..300 {
        w.send(&p, put(n, &format!("k/{n}"), json!([n])).qos(1).into());
    }
    w.lines(&p);
    let c = w.join(client("c").expiry(600).window(2));
    w.send(&c, sub(1, "#").qos(1).retained().into());
    let (mut replayed, mut live, mut sent) = (0, 0, 0);
    for round in 0..1_000 {
        if sent < 300 {
            w.send(&p, message(sent).into());
            sent += 1;
        }
        for delivery in w.read(&c) {
            if let Delivery::Event(event) = delivery {
                replayed += u64::from(event.replayed);
                live += u64::from(!event.replayed);
                w.send(&c, settle(event.slot.unwrap().get()));
            }
        }
        if round == 200 {
            assert!(replayed > 100 && live > 100, "{replayed} {live}");
        }
    }
    assert_eq!((replayed, live), (300, 300));
}

#[test]
fn only_what_may_have_been_handed_out_is_marked_as_repeated() {
    for crash in [false, true] {
        let mut w = world(WhenFull::DropOldest, 10_000, 50);
        let p = w.plain();
        away(&mut w, &p, 1_000);
        let peer = back(&mut w);
        assert_eq!(
            w.read(&peer).len(),
            6,
            "the welcome, and five for the window"
        );
        if !crash {
            w.leave(&peer, Leave::Lost);
        }
        w.restart();
        let peer = w.join(client("c").expiry(600).window(u16::MAX));
        let deliveries = w.read(&peer);
        let events = deliveries.iter().filter_map(|delivery| match delivery {
            Delivery::Event(event) => Some(event.repeated),
            _ => None,
        });
        let events: Vec<bool> = events.collect();
        assert_eq!(events.len(), 1_000);
        let marked = events.iter().take_while(|repeated| **repeated).count();
        assert!(!events[marked..].contains(&true));
        // After a crash a block beyond the window is in doubt.
        let most = if crash { 300 } else { 5 };
        assert!((5..=most).contains(&marked), "{marked}");
    }
}

#[test]
fn a_session_that_was_never_connected_again_has_nothing_repeated() {
    let mut w = world(WhenFull::DropOldest, 10_000, 50);
    let p = w.plain();
    away(&mut w, &p, 300);
    w.restart();
    let peer = back(&mut w);
    for delivery in w.read(&peer) {
        if let Delivery::Event(event) = delivery {
            assert!(!event.repeated);
        }
    }
}

#[test]
fn a_bound_that_moves_on_costs_no_commit_of_its_own() {
    let mut w = world(WhenFull::DropOldest, 10_000, 50);
    let p = w.plain();
    away(&mut w, &p, 0);
    let peer = back(&mut w);
    w.lines(&peer);
    w.auto_commit = false;
    for n in 1..=2_000 {
        w.send(&p, message(n).into());
        for delivery in w.read(&peer) {
            if let Delivery::Event(event) = delivery {
                w.send(&peer, settle(event.slot.unwrap().get()));
            }
        }
    }
    let held = w.pending.len();
    assert!(
        held <= 4_000 + 40,
        "one for each message and settlement, not {held}"
    );
    w.commit();
    assert_eq!(w.records(records::QUEUES), 0);
}

#[test]
fn a_record_is_glanced_at_without_its_body() {
    let mut w = world(WhenFull::DropOldest, 10_000, 50);
    let p = w.plain();
    away(&mut w, &p, 0);
    w.send(&p, message(1).expires(5).into());
    let record = w.disk.iter().find(|((s, _), _)| *s == records::QUEUES.0);
    let head = StoredHead::of(record.unwrap().1).unwrap();
    assert_eq!(head.expires_at_ms, Some(w.now.unix_ms + 5_000));
    assert!(head.cost > 0);
    let gap = records::encode(&records::StoredDelivery::Lost { lost: 3 }).unwrap();
    for whole in [gap, b"rubbish".to_vec()] {
        assert_eq!(StoredHead::of(&whole), None);
    }
}

#[test]
fn a_session_that_becomes_durable_again_keeps_what_is_on_disk() {
    let mut w = world(WhenFull::DropOldest, 100, 2);
    let p = w.plain();
    away(&mut w, &p, 9);
    let peer = w.join(client("c").window(1));
    assert_eq!(
        w.read(&peer).len(),
        2,
        "the welcome, and one for the window"
    );
    w.send(&peer, Command::SetExpiry(secs(600)));
    w.leave(&peer, Leave::Lost);
    w.restart();
    let peer = back(&mut w);
    let got: Vec<u64> = take_all(&mut w, &peer).iter().map(|(n, _)| *n).collect();
    assert_eq!(got, (1..=9).collect::<Vec<u64>>());
    assert_eq!(w.records(records::QUEUES), 0);
}
