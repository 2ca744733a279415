//! Replays of retained values: pacing, what is shown and what is not, and their life across
//! connections and restarts.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Delivery, EventDelivery, Payload, Qos};
use router_core::records;
use router_core::session::Leave;
use serde_json::json;

/// What one turn of the realm may look at and hand over for replays.
const LOOKS: u64 = 1_000;
const VALUES: u64 = 256;

/// Keeps a value under each key `name(n)`.
fn fill(w: &mut World, count: usize, qos: u8, name: impl Fn(usize) -> String) {
    let writer = w.plain();
    for n in 0..count {
        let publish = put(1, &name(n), json!([n])).qos(qos);
        w.send(&writer, publish.into());
        if n % 1_000 == 0 {
            w.lines(&writer);
        }
    }
    w.lines(&writer);
    w.leave(&writer, Leave::Clean);
}

fn events(deliveries: Vec<Delivery>) -> Vec<EventDelivery> {
    let events = deliveries.into_iter().filter_map(|d| match d {
        Delivery::Event(event) => Some(event),
        _ => None,
    });
    events.collect()
}

fn topics(events: &[EventDelivery]) -> Vec<String> {
    events.iter().map(|e| e.event.topic.to_string()).collect()
}

/// Reads, settles, and so on until nothing comes any more; answers every event.
fn take_all(w: &mut World, peer: &Peer) -> Vec<EventDelivery> {
    let mut all = Vec::new();
    loop {
        let now = events(w.read(peer));
        if now.is_empty() {
            return all;
        }
        for event in &now {
            if let Some(slot) = event.slot {
                w.send(peer, settle(slot.get()));
            }
        }
        all.extend(now);
    }
}

fn tight() -> RealmLimits {
    let lane = LaneLimit {
        frames: 8,
        bytes: 1 << 20,
    };
    RealmLimits {
        outbox: OutboxLimits {
            best: lane,
            sure: lane,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    }
}

#[test]
fn a_hundred_thousand_values_come_once_in_order_and_never_more_than_the_window() {
    const KEYS: usize = 100_000;
    const WINDOW: usize = 20;
    let mut w = World::limited(tight());
    fill(&mut w, KEYS, 1, |n| format!("site{:02}/dev{n:06}", n % 50));
    let mut expected: Vec<String> = (0..KEYS)
        .map(|n| format!("site{:02}/dev{n:06}", n % 50))
        .collect();
    expected.sort_unstable();
    let peer = w.join(client("c").window(20));
    let writer = w.plain();
    w.send(&peer, sub(1, "#").qos(1).retained().into());
    let mut seen = Vec::new();
    let (mut unsettled, mut live) = (0, 0);
    for turn in 0.. {
        let now = events(w.read(&peer));
        unsettled += now.len();
        assert!(unsettled <= WINDOW, "{unsettled} unsettled");
        let (_, waiting, in_window) = peer.outbox.depth();
        assert!(
            in_window == unsettled && waiting <= 64 + 1,
            "{waiting} wait"
        );
        if now.is_empty() {
            break;
        }
        // The queue of the client has room for eight: nothing that is replayed may use it up.
        if turn % 100 == 0 {
            w.send(&writer, put(1, "new", json!([turn])).qos(1).into());
            w.lines(&writer);
            live += 1;
        }
        for event in now {
            w.send(&peer, settle(event.slot.unwrap().get()));
            unsettled -= 1;
            let topic = event.event.topic.to_string();
            match event.replayed {
                true => seen.push(topic),
                false => live -= 1,
            }
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(live, 0, "what came live was neither lost nor replayed");
    let counters = w.realm.counters();
    assert_eq!(counters.dropped_sure + counters.dropped_best, 0);
    assert_eq!(counters.replayed, KEYS as u64);
    assert!(counters.replay_looks <= KEYS as u64 + 2 * counters.replay_steps);
}

#[test]
fn at_most_once_values_are_paced_too_and_none_is_dropped() {
    let mut w = World::limited(tight());
    fill(&mut w, 5_000, 0, |n| format!("k/{n:04}"));
    let peer = w.lanes("c");
    w.send(&peer, sub(1, "k/#").qos(2).retained().into());
    assert!(peer.outbox.depth().0 <= 257, "{:?}", peer.outbox.depth());
    let seen = events(w.read(&peer));
    assert_eq!(seen.len(), 5_000);
    assert!(seen.iter().all(|e| e.retain && e.qos == Qos::AtMostOnce));
    assert_eq!(w.realm.counters().dropped_best, 0);
}

/// The counters of one turn: what was looked at and handed over.
fn turn(w: &mut World, work: impl FnOnce(&mut World)) -> (u64, u64) {
    let before = *w.realm.counters();
    work(w);
    let after = *w.realm.counters();
    w.let_out();
    (
        after.replay_looks - before.replay_looks,
        after.replayed - before.replayed,
    )
}

#[test]
fn no_turn_looks_at_more_than_its_share_of_the_keys() {
    const KEYS: usize = 100_000;
    let mut w = World::memory();
    fill(&mut w, KEYS, 0, |n| format!("site{n}/a/b"));
    // Nothing matches, and no two keys begin with the same level.
    let peer = w.lanes("c");
    let subscribe = sub(1, "+/none/+").retained();
    let mut turns = 1;
    let (looks, _) = turn(&mut w, |w| {
        let command = subscribe.into();
        w.realm
            .handle(w.now, peer.connection, command, &mut w.effects);
    });
    assert!(looks <= LOOKS, "{looks}");
    let mut out = Vec::new();
    loop {
        let drained = peer
            .outbox
            .drain(peer.connection.generation, 64, w.now.unix_ms, &mut out);
        if !drained.refill {
            break;
        }
        let (looks, _) = turn(&mut w, |w| {
            w.realm.refill(w.now, peer.connection, &mut w.effects);
        });
        assert!(looks <= LOOKS, "{looks}");
        turns += 1;
    }
    assert!(turns >= KEYS / 1_000, "{turns} turns");
    // Each key may ask for a leap that the next key makes needless.
    assert!(w.realm.counters().replay_looks <= 2 * KEYS as u64);
    assert_eq!(w.realm.counters().replayed, 0);
}

#[test]
fn many_replays_in_one_turn_share_its_budget_and_all_come_to_their_end() {
    let mut w = World::memory();
    fill(&mut w, 3_000, 0, |n| format!("k/{n:04}"));
    let peers: Vec<Peer> = (0..20).map(|n| w.lanes(&format!("c{n}"))).collect();
    let (looks, values) = turn(&mut w, |w| {
        for peer in &peers {
            let command = sub(1, "k/#").retained().into();
            w.realm
                .handle(w.now, peer.connection, command, &mut w.effects);
        }
    });
    assert!(looks <= LOOKS && values <= VALUES, "{looks} {values}");
    // All take one step after the other: nobody is done before everybody has half of it.
    let mut seen = vec![0; peers.len()];
    let mut out = Vec::new();
    while seen.iter().any(|n| *n < 3_000) {
        for (peer, seen) in peers.iter().zip(&mut seen) {
            let drained =
                peer.outbox
                    .drain(peer.connection.generation, 512, w.now.unix_ms, &mut out);
            *seen += events(std::mem::take(&mut out)).len();
            if drained.refill {
                let (looks, values) = turn(&mut w, |w| {
                    w.realm.refill(w.now, peer.connection, &mut w.effects);
                });
                assert!(looks <= LOOKS && values <= VALUES, "{looks} {values}");
            }
        }
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert!(most - least <= 2 * VALUES as usize, "{seen:?}");
    }
}

#[test]
fn large_values_do_not_make_a_reader_too_slow() {
    let limits = RealmLimits {
        outbox: OutboxLimits {
            ordered: LaneLimit {
                frames: 1_000,
                bytes: 1 << 20,
            },
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (writer, reader) = (w.plain(), w.plain());
    for n in 0..40_usize {
        let size = if n % 3 == 0 { 700 << 10 } else { 40 << 10 };
        let payload = Payload::bytes(vec![b'x'; size].into(), false);
        let publish = put(1, &format!("k/{n:02}"), json!([])).payload(payload);
        w.ask(&writer, publish.into());
    }
    w.send(&reader, sub(1, "k/#").retained().into());
    assert_eq!(events(w.read(&reader)).len(), 40);
    assert_eq!(w.realm.counters().ended_too_slow, 0);
}

#[test]
fn a_filter_that_must_read_much_is_paced_by_bytes() {
    let mut w = World::memory();
    let (writer, reader) = (w.plain(), w.plain());
    let text = "x".repeat(100 << 10);
    for n in 0..30 {
        let publish = put(1, &format!("k/{n:02}"), json!([{"n": n, "text": text}]));
        w.ask(&writer, publish.into());
    }
    let subscribe = sub(1, "k/#").retained().filter(json!({"n": 29}));
    let (looks, _) = turn(&mut w, |w| {
        let command = subscribe.into();
        w.realm
            .handle(w.now, reader.connection, command, &mut w.effects);
    });
    assert!(looks <= 4, "{looks} values of 100 KiB were parsed at once");
    assert_eq!(events(w.read(&reader)).len(), 1);
}

#[test]
fn a_replay_goes_on_with_the_next_connection() {
    let mut w = World::memory();
    fill(&mut w, 500, 1, |n| format!("k/{n:03}"));
    let join = || client("c").expiry(100).window(5);
    let peer = w.join(join());
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    let first = events(w.read(&peer));
    assert_eq!(first.len(), 5);
    w.leave(&peer, Leave::Lost);
    let steps = w.realm.counters().replay_steps;
    w.pass(secs(1));
    assert_eq!(w.realm.counters().replay_steps, steps, "nobody is there");
    let peer = w.join(join());
    let all = take_all(&mut w, &peer);
    let seen = topics(&all);
    assert_eq!(seen.len(), 500);
    assert!(seen.is_sorted(), "where it was, not from the start");
    assert_eq!(all.iter().filter(|e| e.repeated).count(), 5);
}

#[test]
fn a_replay_goes_on_after_a_restart() {
    for qos in [1, 2] {
        let mut w = World::durable();
        fill(&mut w, 500, qos, |n| format!("k/{n:03}"));
        let join = || client("c").expiry(100).window(5);
        let peer = w.join(join());
        w.send(&peer, sub(1, "k/#").qos(2).retained().into());
        let mut seen = 0;
        for _ in 0..30 {
            let now = events(w.read(&peer));
            seen += now.len();
            for event in now {
                w.send(&peer, settle(event.slot.unwrap().get()));
            }
        }
        assert_eq!(seen, 150);
        w.restart();
        let peer = w.join(join());
        let rest = topics(&take_all(&mut w, &peer));
        let expected: Vec<String> = (150..500).map(|n| format!("k/{n:03}")).collect();
        assert_eq!(rest, expected);
        // Nothing of it is left on disk.
        assert_eq!(w.records(records::QUEUES), 0);
        w.restart();
        let peer = w.join(join());
        assert_eq!(take_all(&mut w, &peer).len(), 0);
    }
}

#[test]
fn a_replay_that_has_shown_nothing_yet_survives_a_restart() {
    let mut w = World::durable();
    fill(&mut w, 3_000, 1, |n| format!("site{n:04}/a"));
    let writer = w.plain();
    w.ask(&writer, put(1, "zzz/b", json!([1])).qos(1).into());
    let peer = w.join(client("c").expiry(100));
    w.send(&peer, sub(1, "+/b").qos(1).retained().into());
    w.restart();
    let peer = w.join(client("c").expiry(100));
    assert_eq!(topics(&take_all(&mut w, &peer)), ["zzz/b"]);
}

#[test]
fn at_most_once_values_do_not_cost_a_commit_per_step() {
    let mut w = World::durable();
    fill(&mut w, 3_000, 0, |n| format!("k/{n:04}"));
    let peer = w.join(client("c").expiry(100));
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    w.auto_commit = false;
    assert_eq!(events(w.read(&peer)).len(), 3_000);
    assert!(w.pending.len() <= 2, "{} commits", w.pending.len());
    w.commit();
    w.restart();
    let peer = w.join(client("c").expiry(100));
    assert_eq!(take_all(&mut w, &peer).len(), 0, "it was at its end");
}

#[test]
fn what_is_written_at_most_once_while_nobody_is_there_is_shown_afterwards() {
    let mut w = World::memory();
    fill(&mut w, 300, 1, |n| format!("k/{n:03}"));
    let writer = w.plain();
    let join = || client("c").expiry(100).window(5);
    let peer = w.join(join());
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    w.read(&peer);
    w.leave(&peer, Leave::Lost);
    // Both are beyond the cursor. One is queued for the session, the other cannot be.
    w.ask(&writer, put(1, "k/298", json!(["kept"])).qos(1).into());
    w.ask(&writer, put(1, "k/299", json!(["lost"])).qos(0).into());
    let peer = w.join(join());
    let all = take_all(&mut w, &peer);
    let of = |topic: &str| -> Vec<(bool, String)> {
        let events = all.iter().filter(|e| e.event.topic.text() == topic);
        events
            .map(|e| (e.replayed, e.event.payload.value().to_string()))
            .collect()
    };
    assert_eq!(of("k/298"), [(false, "\"kept\"".to_owned())]);
    assert_eq!(of("k/299"), [(true, "\"lost\"".to_owned())]);
}

#[test]
fn unsubscribing_or_ending_stops_a_replay() {
    let mut w = World::durable();
    fill(&mut w, 500, 1, |n| format!("k/{n:03}"));
    let join = || client("c").expiry(100).window(5);
    let peer = w.join(join());
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    for event in events(w.read(&peer)) {
        w.send(&peer, settle(event.slot.unwrap().get()));
    }
    w.send(&peer, unsub_pattern(2, "k/#"));
    let rest = take_all(&mut w, &peer).len();
    assert!(rest <= 64, "{rest} more, which waited already");
    w.leave(&peer, Leave::Lost);
    let peer = w.join(join());
    assert_eq!(take_all(&mut w, &peer).len(), 0);
    assert_eq!(w.records(records::SUBSCRIPTIONS), 0);
}

#[test]
fn asking_again_starts_anew_goes_on_or_stops() {
    let join = || client("c").expiry(100).window(5);
    let again = [
        (sub(2, "k/#").qos(1).retained().identifier(7), 405..=520),
        (
            sub(2, "k/#").qos(1).retained().if_new().identifier(7),
            395..=400,
        ),
        (sub(2, "k/#").qos(1).identifier(7), 0..=70),
    ];
    for (again, expected) in again {
        let mut w = World::memory();
        fill(&mut w, 400, 1, |n| format!("k/{n:03}"));
        let peer = w.join(join());
        w.send(&peer, sub(1, "k/#").qos(1).retained().identifier(3).into());
        let first = events(w.read(&peer));
        for event in &first {
            w.send(&peer, settle(event.slot.unwrap().get()));
        }
        w.send(&peer, again.into());
        let rest = take_all(&mut w, &peer);
        assert!(
            expected.contains(&rest.len()),
            "{} {expected:?}",
            rest.len()
        );
        if rest.len() > 100 {
            let last = rest.last().unwrap();
            assert_eq!(
                last.identifiers.as_slice(),
                [7],
                "the options of the latest request"
            );
        }
    }
}

#[test]
fn nobody_is_shown_its_own_when_it_does_not_want_it_in_whatever_session_it_was_written() {
    let mut w = World::memory();
    let (own, other) = (w.lanes("me"), w.lanes("other"));
    for (peer, key) in [(&own, "k/mine"), (&other, "k/theirs")] {
        w.send(peer, put(1, key, json!([1])).trace().into());
        w.read(peer);
    }
    w.leave(&own, Leave::Clean);
    // A new session of the same client.
    let own = w.lanes("me");
    for subscribe in [
        sub(1, "k/#").no_local().retained(),
        sub(2, "k/#").no_local().after(0),
    ] {
        w.send(&own, subscribe.into());
        assert_eq!(topics(&events(w.read(&own))), ["k/theirs"]);
    }
    // Nobody's client id is nobody's own.
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, put(1, "p/a", json!([1])).into());
    w.send(&b, sub(1, "p/#").no_local().retained().into());
    assert_eq!(topics(&events(w.read(&b))), ["p/a"]);
    w.send(&a, sub(2, "p/#").no_local().retained().into());
    assert_eq!(events(w.read(&a)).len(), 0);
}

#[test]
fn members_of_a_group_are_shown_nothing() {
    let mut w = World::memory();
    let writer = w.plain();
    w.ask(&writer, put(1, "k/1", json!([1])).trace().into());
    let peer = w.lanes("c");
    let mut subscribe = sub(1, "k/#").retained().after(0);
    subscribe.0.share = Some("g".into());
    w.send(&peer, subscribe.into());
    assert_eq!(events(w.read(&peer)).len(), 0);
}

#[test]
fn the_role_and_the_expiry_count_when_a_value_is_shown() {
    let mut w = World::memory();
    fill(&mut w, 300, 1, |n| format!("k/{n:03}"));
    let writer = w.plain();
    w.ask(
        &writer,
        put(1, "k/999", json!([1])).qos(1).expires(5).into(),
    );
    let join = || client("c").proven("p").expiry(100).window(5);
    let peer = w.join(join());
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    w.read(&peer);
    w.leave(&peer, Leave::Lost);
    w.pass(secs(6));
    let narrow = role("narrow", &["subscribe k/#"], &["subscribe k/250"]);
    let peer = w.join(join().role(narrow));
    let seen = topics(&take_all(&mut w, &peer));
    assert!(seen.contains(&"k/299".to_owned()));
    assert!(
        !seen.contains(&"k/250".to_owned()),
        "the role lost the right"
    );
    assert!(!seen.contains(&"k/999".to_owned()), "expired");
}

#[test]
fn a_store_that_fails_does_not_lose_the_place_of_a_replay() {
    let mut w = World::durable();
    fill(&mut w, 300, 1, |n| format!("k/{n:03}"));
    let join = || client("c").expiry(100).window(5);
    let peer = w.join(join());
    w.send(&peer, sub(1, "k/#").qos(1).retained().into());
    w.auto_commit = false;
    for _ in 0..10 {
        for event in events(w.read(&peer)) {
            w.send(&peer, settle(event.slot.unwrap().get()));
        }
    }
    w.fail();
    w.auto_commit = true;
    w.probe();
    let seen = events(w.read(&peer)).len();
    assert!(seen > 0);
    w.restart();
    let peer = w.join(join());
    let rest = topics(&take_all(&mut w, &peer));
    let expected: Vec<String> = (50..300).map(|n| format!("k/{n:03}")).collect();
    assert_eq!(rest, expected);
}
