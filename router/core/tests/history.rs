//! What a realm remembers: exact replay at the subscriber's pace, on disk and across restarts, and what a store that fails
//! takes with it.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::history::{HistoryRule, HistorySettings, Retention};
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Delivery, EventDelivery};
use router_core::records;
use router_core::session::Leave;
use serde_json::{Value, json};
use std::time::Duration;
use storage::StorageError;

/// Few bytes of bodies stay in memory.
fn lean() -> RealmLimits {
    RealmLimits {
        history_resident_bytes: 1_000,
        ..RealmLimits::default()
    }
}

fn keeping(events: usize) -> Retention {
    Retention {
        events,
        bytes: 64 << 20,
        age: None,
        durable: true,
    }
}

fn settings(traced: Retention) -> HistorySettings {
    HistorySettings {
        traced: Some(traced),
        rules: Vec::new(),
    }
}

fn rule(text: &str, keep: Retention) -> HistoryRule {
    HistoryRule {
        pattern: pattern(text),
        keep,
    }
}

/// Publishes numbers with `trace` to `on`, acknowledged.
fn traced(w: &mut World, peer: &Peer, on: &str, numbers: impl IntoIterator<Item = usize>) {
    for n in numbers {
        w.send(peer, publish(on, json!([n])).trace().ack(1).into());
        w.read(peer);
    }
}

fn events(deliveries: Vec<Delivery>) -> Vec<EventDelivery> {
    let events = deliveries.into_iter().filter_map(|d| match d {
        Delivery::Event(event) => Some(event),
        _ => None,
    });
    events.collect()
}

fn number(event: &EventDelivery) -> u64 {
    let body: Value = serde_json::from_str(&body(&event.event.payload)).unwrap();
    body[0].as_u64().unwrap()
}

/// The numbers that a peer is shown now.
fn numbers(w: &mut World, peer: &Peer) -> Vec<u64> {
    events(w.read(peer)).iter().map(number).collect()
}

/// What a new session is shown of everything after `after`.
fn shown(w: &mut World, text: &str, after: u64) -> Vec<EventDelivery> {
    let peer = w.plain();
    w.send(&peer, sub(1, text).after(after).into());
    let found = events(w.read(&peer));
    w.leave(&peer, Leave::Clean);
    found
}

fn shown_numbers(w: &mut World, text: &str, after: u64) -> Vec<u64> {
    shown(w, text, after).iter().map(number).collect()
}

/// What one turn of a connection takes, at most `most`; `None` once nothing is to come.
fn turn(w: &mut World, peer: &Peer, most: usize) -> Option<Vec<u64>> {
    let mut out = Vec::new();
    let drained = peer
        .outbox
        .drain(peer.connection.generation, most, w.now.unix_ms, &mut out);
    let found: Vec<u64> = events(out).iter().map(number).collect();
    if drained.refill {
        w.realm.refill(w.now, peer.connection, &mut w.effects);
        w.let_out();
    }
    let goes_on = drained.refill || drained.more || w.answer_loads() || !found.is_empty();
    goes_on.then_some(found)
}

/// Whether these are all numbers below `n` in order, without printing thousands of them.
fn assert_all(seen: &[u64], n: u64, what: &str) {
    let wrong = (0..n).zip(seen).find(|(n, seen)| n != *seen);
    assert_eq!((wrong, seen.len() as u64), (None, n), "{what}");
}

#[test]
fn what_was_acknowledged_is_shown_after_a_restart_in_order_and_patterns_work() {
    let mut w = World::new(true, lean());
    let peer = w.plain();
    for n in 0..60 {
        traced(&mut w, &peer, ["a/x", "a/y", "b"][n % 3], [n]);
    }
    let before: Vec<_> = shown(&mut w, "#", 0);
    w.restart();
    let after = shown(&mut w, "#", 0);
    let told = |events: &[EventDelivery]| -> Vec<_> {
        let told = events
            .iter()
            .map(|e| (e.event.publication, e.event.topic.clone(), number(e)));
        told.collect()
    };
    assert_eq!(told(&before), told(&after));
    assert_eq!(told(&after).len(), 60);
    assert!(after.iter().all(|e| !e.gap && !e.replayed && !e.retain));
    let expected: Vec<u64> = (0..60).filter(|n| n % 3 != 2).collect();
    assert_eq!(shown_numbers(&mut w, "a/+", 0), expected);
    let middle = after[29].event.publication.0;
    assert_eq!(
        shown_numbers(&mut w, "#", middle),
        (30..60).collect::<Vec<u64>>()
    );
    assert!(w.realm.counters().history_reads > 0);
}

#[test]
fn the_answer_to_a_traced_publish_waits_for_the_commit_and_the_event_does_not() {
    let mut w = World::durable();
    w.auto_commit = false;
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "t");
    assert!(
        w.ask(&a, publish("t", json!([1])).trace().ack(5).into())
            .is_empty()
    );
    assert_eq!(w.lines(&b).len(), 1);
    w.commit();
    assert_eq!(w.lines(&a), ["done 5 published"]);
    // What is not remembered waits for nothing, nor what is remembered in memory alone.
    assert_eq!(
        w.ask(&a, publish("t", json!([2])).ack(6).into()),
        ["done 6 published"]
    );
    let keep = Retention {
        durable: false,
        ..keeping(9)
    };
    let mut w = World::remembering(true, RealmLimits::default(), settings(keep));
    w.auto_commit = false;
    let a = w.plain();
    let told = w.ask(&a, publish("t", json!([1])).trace().ack(5).into());
    assert_eq!(told, ["done 5 published unmatched"]);
    assert!(w.pending.is_empty());
}

#[test]
fn a_publish_that_is_not_remembered_writes_nothing() {
    let mut w = World::durable();
    let peer = w.plain();
    for n in 0..10 {
        w.ask(&peer, publish("t", json!([n])).ack(1).into());
    }
    assert_eq!(w.records(records::HISTORY), 0);
    assert_eq!(w.disk.len(), 0);
}

#[test]
fn a_refused_event_has_gone_out_but_is_not_remembered_and_an_unacknowledged_one_is_written_later() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    w.subscribed(&b, "t");
    traced(&mut w, &a, "t", [1]);
    w.auto_commit = false;
    w.send(&a, publish("t", json!([2])).trace().ack(2).into());
    w.send(&a, publish("t", json!([3])).trace().into());
    w.fail();
    assert_eq!(w.lines(&a), ["refused 2 StorageUnavailable"]);
    assert_eq!(numbers(&mut w, &b), [1, 2, 3], "all went out live");
    assert_eq!(shown_numbers(&mut w, "t", 0), [1, 3]);
    // Refused before anybody receives it, while the store is down; without acknowledgement it is kept until later.
    assert_eq!(
        w.ask(&a, publish("t", json!([4])).trace().ack(4).into()),
        ["refused 4 StorageUnavailable"]
    );
    w.send(&a, publish("t", json!([5])).trace().into());
    assert_eq!(numbers(&mut w, &b), [5]);
    w.probe();
    w.commit();
    assert_eq!(w.records(records::HISTORY), 3);
    w.auto_commit = true;
    w.restart();
    assert_eq!(shown_numbers(&mut w, "t", 0), [1, 3, 5]);
    assert_eq!(
        w.realm.counters().history_taken_back,
        0,
        "that was another life"
    );
}

#[test]
fn a_record_that_turns_out_to_be_written_after_all_is_deleted() {
    let mut w = World::durable();
    let a = w.plain();
    w.auto_commit = false;
    w.send(&a, publish("t", json!([1])).trace().ack(1).into());
    // The disk has it although it said that it has not.
    let (_, batch) = w.pending.front().cloned().unwrap();
    apply(&mut w.disk, &batch);
    w.fail();
    assert_eq!(w.records(records::HISTORY), 1);
    w.auto_commit = true;
    w.probe();
    // Deletions are gathered, so this one goes with the others.
    traced(&mut w, &a, "t", 0..10_300);
    w.pass(secs(1));
    w.pass(secs(1));
    w.restart();
    assert!(!shown_numbers(&mut w, "t", 0).is_empty());
    assert!(w.records(records::HISTORY) <= 10_000 + 256 + 1);
}

#[test]
fn records_are_deleted_in_steps_and_a_restart_still_knows_what_is_missing() {
    let mut w = World::remembering(true, lean(), settings(keeping(5_000)));
    let peer = w.plain();
    traced(&mut w, &peer, "t", 0..5_000);
    assert_eq!(w.records(records::HISTORY), 5_000);
    w.set_history(settings(keeping(10)));
    w.restart();
    let mut steps = 0;
    while w.records(records::HISTORY) > 1_000 {
        let before = w.records(records::HISTORY);
        w.pass(ms(10));
        let deleted = before - w.records(records::HISTORY);
        assert!(deleted <= 1_024, "{deleted} at a time");
        steps += 1;
        assert!(steps < 100);
    }
    for _ in 0..10 {
        w.pass(ms(10));
    }
    assert!(w.records(records::HISTORY) <= 10 + 256 + 1);
    w.restart();
    let found = shown(&mut w, "t", 1);
    assert_eq!(
        found.iter().map(number).collect::<Vec<_>>(),
        (4_990..5_000).collect::<Vec<_>>()
    );
    assert_eq!(found.iter().filter(|e| e.gap).count(), 1);
    assert!(found[0].gap);
    let last = found[0].event.publication.0;
    assert!(shown(&mut w, "t", last).iter().all(|e| !e.gap));
}

#[test]
fn the_first_event_after_a_gap_tells_of_it_also_if_it_comes_live() {
    let mut w = World::remembering(true, lean(), settings(keeping(2)));
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..5);
    let found = shown(&mut w, "t", 1);
    let gaps: Vec<_> = found.iter().map(|e| (number(e), e.gap)).collect();
    assert_eq!(gaps, [(3, true), (4, false)]);
    // Nothing left to show, and still something is missing.
    let age = Retention {
        age: Some(secs(10)),
        ..keeping(9)
    };
    let mut w2 = World::remembering(true, lean(), settings(age));
    let (c, d) = (w2.plain(), w2.plain());
    traced(&mut w2, &c, "t", [1]);
    w2.pass(secs(11));
    w2.send(&d, sub(1, "t").after(1).into());
    assert_eq!(w2.lines(&d).len(), 1);
    traced(&mut w2, &c, "t", [2, 3]);
    let gaps: Vec<_> = events(w2.read(&d))
        .iter()
        .map(|e| (number(e), e.gap))
        .collect();
    assert_eq!(gaps, [(2, true), (3, false)]);
    w.leave(&b, Leave::Clean);
}

#[test]
fn what_is_too_old_is_not_shown_and_its_record_goes() {
    let age = Retention {
        age: Some(secs(60)),
        ..keeping(9_999)
    };
    let mut w = World::remembering(true, lean(), settings(age));
    let peer = w.plain();
    traced(&mut w, &peer, "t", 0..300);
    w.pass(secs(30));
    traced(&mut w, &peer, "t", 300..310);
    w.pass(secs(31));
    assert_eq!(
        shown_numbers(&mut w, "t", 0),
        (300..310).collect::<Vec<u64>>()
    );
    w.pass(ms(20));
    assert!(w.records(records::HISTORY) <= 10 + 1);
    w.restart_after(secs(31));
    assert!(shown_numbers(&mut w, "t", 0).is_empty());
}

#[test]
fn what_is_published_during_a_replay_is_neither_missed_nor_doubled_nor_overtaken() {
    for durable in [false, true] {
        let mut w = World::new(durable, lean());
        let (a, b) = (w.plain(), w.plain());
        traced(&mut w, &a, "t", 0..2_000);
        w.send(&b, sub(1, "#").after(0).into());
        let (mut seen, mut next) = (Vec::new(), 2_000_u64);
        // Reads three deliveries at a time while one comes, remembered ones and others by turns.
        for round in 0..100_000 {
            if round < 1_000 {
                let command = publish("t", json!([next]));
                let command = if round % 2 == 0 {
                    command.trace()
                } else {
                    command
                };
                w.send(&a, command.into());
                next += 1;
            }
            match turn(&mut w, &b, 3) {
                Some(found) => seen.extend(found),
                None if round >= 1_000 => break,
                None => {}
            }
        }
        assert_all(&seen, next, if durable { "durable" } else { "in memory" });
        // And from then on live.
        w.send(&a, publish("t", json!([9_999])).trace().into());
        assert_eq!(numbers(&mut w, &b), [9_999]);
    }
}

#[test]
fn a_replay_takes_no_more_at_a_time_than_the_outbox_and_the_realm_allow() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            ordered: LaneLimit {
                frames: 100,
                bytes: 1 << 20,
            },
            ..OutboxLimits::default()
        },
        ..lean()
    };
    let mut w = World::new(true, limits);
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..3_000);
    w.send(&b, sub(1, "t").after(0).into());
    let mut seen = Vec::new();
    loop {
        let before = w.realm.counters().replayed;
        let found = turn(&mut w, &b, 64);
        let stepped = w.realm.counters().replayed - before;
        assert!(stepped <= 2 * 256, "{stepped}");
        assert!(b.outbox.depth().0 <= 64, "{:?}", b.outbox.depth());
        match found {
            Some(found) => seen.extend(found),
            None => break,
        }
    }
    assert_all(&seen, 3_000, "paced");
    assert_eq!(w.realm.counters().ended_too_slow, 0);
}

#[test]
fn what_is_held_back_never_fills_the_lane_of_a_reader_that_is_behind() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            ordered: LaneLimit {
                frames: 100,
                bytes: 1 << 20,
            },
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::memory();
    w.restart_with(limits);
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..200);
    w.send(&b, sub(1, "t").after(0).into());
    // While it reads nothing, three that are not remembered come for each that is.
    for n in 200..232 {
        let command = publish("t", json!([n]));
        let command = if n % 4 == 0 { command.trace() } else { command };
        w.send(&a, command.into());
    }
    let seen = numbers(&mut w, &b);
    assert_all(&seen, 232, "nothing had to go out ahead");
    assert_eq!(w.realm.counters().ended_too_slow, 0);
}

#[test]
fn nobody_is_held_up_by_a_pattern_that_matches_nothing_of_much() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    for n in 0..9_000 {
        w.send(&a, publish("t", json!([n])).trace().into());
    }
    let before = w.realm.counters().replay_looks;
    w.realm.handle(
        w.now,
        b.connection,
        sub(1, "+/none").after(0).into(),
        &mut w.effects,
    );
    let looks = w.realm.counters().replay_looks - before;
    assert!(looks <= 1_000, "{looks}");
    w.let_out();
    assert_eq!(w.lines(&b).len(), 1);
    assert!(w.realm.counters().replay_looks - before >= 9_000);
}

#[test]
fn more_live_events_than_may_be_held_back_go_out_ahead_and_none_is_lost() {
    let mut w = World::new(true, lean());
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..100);
    // The replay waits for its first read.
    w.realm.handle(
        w.now,
        b.connection,
        sub(1, "t").after(0).into(),
        &mut w.effects,
    );
    for n in 100..1_600 {
        w.send(&a, publish("t", json!([n])).into());
    }
    let mut seen = numbers(&mut w, &b);
    assert_eq!(
        seen.iter().take(500).copied().collect::<Vec<_>>(),
        (100..600).collect::<Vec<_>>()
    );
    seen.sort_unstable();
    assert_eq!(seen, (0..1_600).collect::<Vec<u64>>());
}

#[test]
fn a_read_that_fails_is_tried_again_and_a_damaged_record_is_a_gap() {
    let mut w = World::new(true, lean());
    let peer = w.plain();
    traced(&mut w, &peer, "t", 0..50);
    let reader = w.plain();
    let io = StorageError::Io {
        what: "a bad day".into(),
    };
    w.read_faults.push_back(Some(io));
    w.send(&reader, sub(1, "t").after(0).into());
    assert_eq!(numbers(&mut w, &reader).len(), 0);
    w.pass(secs(2));
    assert_eq!(numbers(&mut w, &reader), (0..50).collect::<Vec<u64>>());
    // The third record is damaged.
    let third = w
        .disk
        .keys()
        .filter(|(space, _)| *space == records::HISTORY.0)
        .nth(2);
    let third = third.cloned().unwrap();
    w.disk.insert(third, b"nonsense".to_vec());
    let found = shown(&mut w, "t", 0);
    let told: Vec<_> = found.iter().map(|e| (number(e), e.gap)).take(4).collect();
    assert_eq!(told, [(0, false), (1, false), (3, true), (4, false)]);
    assert_eq!(w.realm.counters().history_damaged, 1);
}

#[test]
fn asked_again_without_a_position_a_replay_goes_on_and_with_one_it_begins_anew() {
    let mut w = World::new(true, lean());
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..100);
    w.realm.handle(
        w.now,
        b.connection,
        sub(1, "t").after(0).into(),
        &mut w.effects,
    );
    w.realm
        .handle(w.now, b.connection, sub(2, "t").into(), &mut w.effects);
    w.send(&a, publish("t", json!([100])).into());
    assert_eq!(numbers(&mut w, &b), (0..=100).collect::<Vec<u64>>());
    let last = shown(&mut w, "t", 0)[89].event.publication.0;
    w.realm.handle(
        w.now,
        b.connection,
        sub(3, "t").after(0).into(),
        &mut w.effects,
    );
    w.send(&a, publish("t", json!([101])).into());
    w.realm.handle(
        w.now,
        b.connection,
        sub(4, "t").after(last).into(),
        &mut w.effects,
    );
    assert_eq!(
        numbers(&mut w, &b),
        [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 101]
    );
}

#[test]
fn a_publisher_that_wants_no_copy_gets_none_while_it_is_still_shown_the_past() {
    let mut w = World::new(true, lean());
    let (a, b) = (w.plain(), w.plain());
    traced(&mut w, &a, "t", 0..100);
    w.realm.handle(
        w.now,
        b.connection,
        sub(1, "t").after(0).into(),
        &mut w.effects,
    );
    w.send(&b, publish("t", json!([777])).trace().into());
    w.send(&b, publish("t", json!([100])).trace().echoed().into());
    assert_eq!(numbers(&mut w, &b), (0..=100).collect::<Vec<u64>>());
}

#[test]
fn the_rules_of_a_realm_have_retention_of_their_own_and_a_rule_in_memory_writes_nothing() {
    let history = HistorySettings {
        traced: Some(keeping(9)),
        rules: vec![
            rule("disk/#", keeping(2)),
            rule(
                "memory/#",
                Retention {
                    durable: false,
                    ..keeping(3)
                },
            ),
        ],
    };
    let mut w = World::remembering(true, lean(), history);
    let peer = w.plain();
    for n in 0..12 {
        let on = ["disk/a", "memory/a", "t"][n % 3];
        w.send(&peer, publish(on, json!([n])).into());
    }
    w.read(&peer);
    assert_eq!(shown_numbers(&mut w, "#", 0), [4, 6, 7, 9, 10]);
    w.restart();
    assert_eq!(shown_numbers(&mut w, "#", 0), [6, 9]);
}

#[test]
fn a_durable_session_that_is_behind_goes_on_with_its_next_connection_and_after_a_restart() {
    let join = || client("c").expiry(1_000).window(5);
    for restarts in [false, true] {
        let mut w = World::new(true, lean());
        let a = w.plain();
        for n in 0..200 {
            w.send(&a, publish("t", json!([n])).qos(1).trace().into());
        }
        let mut c = w.join(join());
        w.send(&c, sub(1, "t").qos(1).after(0).into());
        let mut seen = Vec::new();
        for turn in 0..500 {
            let now = events(w.read(&c));
            if now.is_empty() && turn > 60 {
                break;
            }
            for event in now {
                w.send(&c, settle(event.slot.unwrap().get()));
                seen.push(number(&event));
            }
            if turn % 20 == 10 && turn < 60 {
                w.leave(&c, Leave::Lost);
                let a = w.plain();
                let n = 200 + turn / 20;
                w.send(&a, publish("t", json!([n])).qos(1).trace().into());
                w.leave(&a, Leave::Clean);
                if restarts {
                    w.restart();
                }
                c = w.join(join());
            }
        }
        assert_eq!(seen, (0..203).collect::<Vec<u64>>(), "restarts: {restarts}");
    }
}

/// What `get_events` answers for a subscription.
fn page(w: &mut World, peer: &Peer, id: u64, kwargs: Value) -> Result<Vec<u64>, String> {
    let request = 77;
    let mut command = call(request, "wamp/subscription/get_events", json!([id]));
    if let router_core::model::Command::Call(call) = &mut command {
        call.payload = both(&json!([id]), &kwargs);
    }
    w.send(peer, command);
    for delivery in w.read(peer) {
        match delivery {
            Delivery::Result { payload, .. } => {
                let list = payload.value().as_array().cloned().unwrap();
                return Ok(list
                    .iter()
                    .map(|e| e["args"][0].as_u64().unwrap())
                    .collect());
            }
            Delivery::CallFailed { .. } => return Err(line(&delivery)),
            _ => {}
        }
    }
    panic!("no answer")
}

#[test]
fn pages_of_the_history_are_read_from_disk_too() {
    let mut w = World::new(true, lean());
    let peer = w.plain();
    traced(&mut w, &peer, "t", 0..300);
    let id = w.subscribed(&peer, "t");
    let all: Vec<u64> = (0..300).collect();
    assert_eq!(page(&mut w, &peer, id, json!({})), Ok(all.clone()));
    let reversed: Vec<u64> = all.iter().rev().copied().take(150).collect();
    let query = json!({"reverse": true, "limit": 150});
    assert_eq!(page(&mut w, &peer, id, query), Ok(reversed));
    let first = shown(&mut w, "t", 0)[0].event.publication.0;
    let query = json!({"after_publication": first, "limit": 2});
    assert_eq!(page(&mut w, &peer, id, query), Ok(vec![1, 2]));
    // Whatever a filter rejects does not end the page before its time.
    w.send(&peer, sub(5, "t").filter(json!(299)).into());
    let told = w.lines(&peer);
    let filtered: u64 = told[0].split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(page(&mut w, &peer, filtered, json!({})), Ok(vec![299]));
    let io = StorageError::Io {
        what: "a bad day".into(),
    };
    w.read_faults.push_back(Some(io));
    let failed = page(&mut w, &peer, id, json!({}));
    assert_eq!(failed, Err("failed 77 StorageUnavailable".to_owned()));
}

#[test]
fn a_session_may_have_so_many_pages_read_and_no_more() {
    let mut w = World::new(true, lean());
    let peer = w.plain();
    traced(&mut w, &peer, "t", 0..100);
    let id = w.subscribed(&peer, "t");
    for request in 0..20 {
        w.send(
            &peer,
            call(request, "wamp/subscription/get_events", json!([id])),
        );
    }
    let told = w.lines(&peer);
    let refused = told
        .iter()
        .filter(|line| line.ends_with("QuotaExceeded"))
        .count();
    assert_eq!((told.len(), refused), (20, 4));
}

#[test]
fn a_value_and_its_trace_are_taken_back_together_and_a_will_stands_in_both() {
    let mut w = World::durable();
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "k", json!([1])).will(json!(9)).trace().into());
    w.auto_commit = false;
    w.send(&b, put(2, "other", json!([2])).trace().into());
    w.leave(&a, Leave::Lost);
    w.fail();
    assert_eq!(shown_numbers(&mut w, "#", 0), [1, 9]);
    w.probe();
    w.commit();
    w.auto_commit = true;
    w.restart_after(Duration::ZERO);
    assert_eq!(shown_numbers(&mut w, "#", 0), [1, 9]);
    let reader = w.plain();
    assert_eq!(w.key(&reader, "other")["value"], json!(null));
}

#[test]
fn an_exactly_once_publish_of_a_durable_session_is_remembered_once_however_often_it_is_sent() {
    let mut w = World::durable();
    let join = || client("c").expiry(1_000);
    let c = w.join(join());
    w.lines(&c);
    w.auto_commit = false;
    let command = |request| {
        publish("t", json!([1]))
            .qos(2)
            .ack(request)
            .receipt(5)
            .trace()
    };
    w.send(&c, command(1).into());
    w.fail();
    assert_eq!(
        w.lines(&c),
        ["ended StorageUnavailable"],
        "it is to be sent again"
    );
    w.leave(&c, Leave::Lost);
    let c = w.join(join());
    w.send(&c, command(2).into());
    w.probe();
    w.commit();
    w.auto_commit = true;
    assert_eq!(w.lines(&c), ["resumed", "done 2 published"]);
    w.restart();
    assert_eq!(shown_numbers(&mut w, "t", 0), [1]);
}
