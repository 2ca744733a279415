//! Peers whose transport says how much they take.

use super::world::*;
use protocols::wamp::machine::{WampCounters, WampOptions};
use router_core::encoding::Encoding::{Json, MsgPack};
use router_core::session::Leave;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A session of a peer that takes `bytes`, its WELCOME, and what is counted for it.
fn join_taking(world: &mut World, bytes: usize) -> (Peer, Value, Arc<WampCounters>) {
    let options = WampOptions {
        peer_bytes_max: bytes,
        ..WampOptions::default()
    };
    let counters = options.counters.clone();
    let peer = world.connect_with(Json, options);
    world.send_text(peer, HELLO);
    let welcome = world.one(peer);
    (peer, welcome, counters)
}

fn long() -> Value {
    json!(["x".repeat(5_000)])
}

const TOO_LARGE: &str = "wamp.error.payload_size_exceeded";

#[test]
fn an_event_that_does_not_fit_is_dropped_counted_and_told_of_with_the_next() {
    let mut world = World::new();
    let (small, _, counters) = join_taking(&mut world, 4_096);
    let (other, publisher) = (world.json(), world.json());
    for peer in [small, other] {
        world.subscribe(peer, "t", json!({}));
    }
    for _ in 0..2 {
        world.publish(publisher, "t", json!({}), &[long()]);
    }
    assert_eq!(world.take(small), Vec::<Value>::new());
    assert_eq!(world.take(other).len(), 2, "others get it");
    assert_eq!(counters.events_too_large.load(Ordering::Relaxed), 2);
    world.publish(publisher, "t", json!({}), &[json!([1])]);
    let event = world.one(small);
    assert_eq!((&event[3], &event[4]), (&json!({"x_lost": 2}), &json!([1])));
    world.publish(publisher, "t", json!({}), &[json!([2])]);
    assert_eq!(world.one(small)[3], json!({}), "told once");
}

#[test]
fn an_event_fits_to_the_byte() {
    let mut world = World::new();
    let (small, _, _) = join_taking(&mut world, 512);
    let publisher = world.json();
    world.subscribe(small, "t", json!({}));
    world.publish(publisher, "t", json!({}), &[json!([""])]);
    let [empty] = &world.take_texts(small)[..] else {
        panic!("one event")
    };
    let room = 512 - empty.len();
    for (length, arrives) in [(room, true), (room + 1, false)] {
        world.publish(publisher, "t", json!({}), &[json!(["x".repeat(length)])]);
        let texts = world.take_texts(small);
        assert_eq!(texts.iter().any(|text| text.len() == 512), arrives);
        assert_eq!(!texts.is_empty(), arrives);
    }
}

#[test]
fn an_invocation_that_does_not_fit_fails_its_call() {
    let mut world = World::new();
    let (callee, _, counters) = join_taking(&mut world, 4_096);
    let caller = world.json();
    world.register(callee, "p", json!({"concurrency": 1}));
    let error = world.ask(caller, json!([48, 1, {}, "p", long()]));
    assert_eq!(head(&error, 5), json!([8, 48, 1, {}, TOO_LARGE]));
    assert_eq!(counters.calls_too_large.load(Ordering::Relaxed), 1);
    assert_eq!(world.take(callee), Vec::<Value>::new());
    // Its slot is free.
    world.send(caller, json!([48, 2, {}, "p", [1]]));
    assert_eq!(world.one(callee)[0], 68);
}

#[test]
fn a_result_or_an_error_that_does_not_fit_is_an_error_to_the_caller() {
    let mut world = World::new();
    let callee = world.json();
    let (caller, _, counters) = join_taking(&mut world, 4_096);
    world.register(callee, "p", json!({}));
    for request in 1..=3 {
        world.send(caller, json!([48, request, {}, "p"]));
        let invocation = world.one(callee)[1].clone();
        world.send(
            callee,
            match request {
                1 => json!([70, invocation, {}, long()]),
                2 => json!([8, 68, invocation, {}, "com.failed", long()]),
                _ => json!([8, 68, invocation, {}, format!("com.{}", "x".repeat(5_000))]),
            },
        );
        let error = world.one(caller);
        assert_eq!(head(&error, 5), json!([8, 48, request, {}, TOO_LARGE]));
    }
    assert_eq!(counters.calls_too_large.load(Ordering::Relaxed), 3);
}

#[test]
fn a_progressive_result_that_does_not_fit_ends_its_call_once() {
    let mut world = World::new();
    let callee = world.json();
    let (caller, _, _) = join_taking(&mut world, 4_096);
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {"receive_progress": true}, "p"]));
    let invocation = world.one(callee)[1].clone();
    let progress = |args: Value| json!([70, invocation, {"progress": true}, args]);
    world.send(callee, progress(json!([1])));
    assert_eq!(world.one(caller)[0], 50);
    let batch = [progress(long()), progress(json!([2]))].map(|message| message.to_string());
    world.send_batch(callee, &batch.each_ref().map(String::as_str));
    let error = world.one(caller);
    assert_eq!(head(&error, 5), json!([8, 48, 1, {}, TOO_LARGE]));
    assert_eq!(world.one(callee)[0], 69, "INTERRUPT");
    // The request is free, and the late end of the old call is nobody's.
    world.send(callee, json!([70, invocation, {}, [3]]));
    world.send(caller, json!([48, 1, {}, "p"]));
    let invocation = world.one(callee)[1].clone();
    world.send(callee, json!([70, invocation, {}, [4]]));
    assert_eq!(world.one(caller), json!([50, 1, {}, [4]]));
}

#[test]
fn a_final_result_behind_progress_that_did_not_fit_is_an_error_too() {
    let mut world = World::new();
    let callee = world.json();
    let (caller, _, _) = join_taking(&mut world, 4_096);
    world.register(callee, "p", json!({}));
    world.send(caller, json!([48, 1, {"receive_progress": true}, "p"]));
    let invocation = world.one(callee)[1].clone();
    let batch = [
        json!([70, invocation, {"progress": true}, long()]),
        json!([70, invocation, {}, ["end"]]),
    ];
    let batch = batch.map(|message| message.to_string());
    world.send_batch(callee, &batch.each_ref().map(String::as_str));
    let error = world.one(caller);
    assert_eq!(head(&error, 5), json!([8, 48, 1, {}, TOO_LARGE]));
}

#[test]
fn a_welcome_leaves_out_the_features_where_they_do_not_fit() {
    let mut world = World::new();
    let (_, full, _) = join_taking(&mut world, 16 << 20);
    assert!(full[2]["roles"]["broker"]["features"].is_object());
    let (small, short, _) = join_taking(&mut world, 512);
    assert_eq!(short[0], 2, "{short}");
    assert_eq!(short[2]["roles"], json!({"broker": {}, "dealer": {}}));
    assert_eq!(short[2]["authrole"], full[2]["authrole"]);
    world.subscribe(small, "t", json!({}));
}

#[test]
fn whoever_does_not_take_a_welcome_at_all_is_told_in_few_words() {
    let mut world = World::new();
    let (peer, abort, _) = join_taking(&mut world, 120);
    assert_eq!(head(&abort, 1), json!([3]));
    assert_eq!(abort[2], TOO_LARGE);
    assert_eq!(world.wires[peer].left, [Leave::Lost]);
    assert_eq!(world.wires[peer].closed.map(|(code, _)| code), Some(1009));
}

#[test]
fn words_for_a_person_are_left_out_where_they_do_not_fit() {
    let mut world = World::new();
    let killer = world.json();
    let (victim, _, _) = join_taking(&mut world, 512);
    let id = world.session(victim);
    // Each of these letters is six bytes in JSON.
    let kwargs = json!({"reason": "com.bye", "message": "\u{1}".repeat(400)});
    world.send(
        killer,
        json!([48, 1, {}, "wamp.session.kill", [id], kwargs]),
    );
    assert_eq!(world.one(victim), json!([6, {}, "com.bye"]));
}

#[test]
fn a_goodbye_that_cannot_be_said_is_a_close() {
    let mut world = World::new();
    let killer = world.json();
    let (victim, _, _) = join_taking(&mut world, 512);
    let id = world.session(victim);
    let reason = format!("com.{}", "x".repeat(600));
    world.send(
        killer,
        json!([48, 1, {}, "wamp.session.kill", [id], {"reason": reason}]),
    );
    assert_eq!(world.take(victim), Vec::<Value>::new());
    assert_eq!(world.wires[victim].closed.map(|(code, _)| code), Some(1009));
    assert_eq!(world.wires[victim].left, [Leave::Lost]);
}

#[test]
fn transports_without_a_limit_carry_everything() {
    let mut world = World::new();
    let (subscriber, publisher) = (world.join(MsgPack), world.json());
    world.subscribe(subscriber, "t", json!({}));
    let args = json!(["x".repeat(1 << 20)]);
    world.publish(publisher, "t", json!({}), &[args]);
    assert_eq!(world.one(subscriber)[0], 36);
}
