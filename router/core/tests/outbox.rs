//! The outbox: windows, settlement, repetition, slots, bounds, hand-over.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::{Dice, line, topic};
use router_core::limits::{LaneLimit, OutboxLimits};
use router_core::model::{
    Delivery, EndReason, Event, EventDelivery, Made, Payload, PublicationId, Qos, Slot,
    SubscriptionId,
};
use router_core::outbox::Outbox;
use serde_json::json;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

fn sized(n: u64, qos: Qos, expires: Option<u64>, bytes: usize) -> EventDelivery {
    let mut list = vec![json!(n)];
    if bytes > 0 {
        list.push(json!("x".repeat(bytes)));
    }
    let event = Event {
        publication: PublicationId(n),
        topic: topic("t"),
        payload: Payload::from_values(&list),
        publisher: None,
        qos,
        retain: false,
        clears: false,
        token: None,
        expires_at_ms: expires,
        attributes: None,
        admission: None,
        made: Made::default(),
    };
    EventDelivery {
        event: Arc::new(event),
        subscription: SubscriptionId(1),
        exact: true,
        qos,
        replayed: false,
        retain: false,
        identifiers: [].into_iter().collect(),
        slot: None,
        repeated: false,
        lost: 0,
        gap: false,
        handover: router_core::model::Handover::Nobody,
    }
}

fn sure(n: u64) -> EventDelivery {
    sized(n, Qos::AtLeastOnce, None, 0)
}

fn slot(n: u16) -> Slot {
    Slot::new(n).unwrap()
}

fn limits(sure: usize) -> OutboxLimits {
    let lane = |frames| LaneLimit {
        frames,
        bytes: 1 << 20,
    };
    OutboxLimits {
        ordered: lane(8),
        best: lane(8),
        sure: lane(sure),
        ..OutboxLimits::default()
    }
}

/// An outbox whose first connection is welcomed already.
fn opened(limits: OutboxLimits, window: u16) -> (Outbox, u64) {
    let outbox = Outbox::new(limits);
    let generation = open(&outbox, window);
    (outbox, generation)
}

fn open(outbox: &Outbox, window: u16) -> u64 {
    let generation = outbox.attach(window);
    outbox.push(Delivery::Joined { present: false });
    let mut out = Vec::new();
    outbox.drain(generation, 1, 0, &mut out);
    assert_eq!(out.len(), 1);
    generation
}

fn drain(outbox: &Outbox, generation: u64) -> Vec<String> {
    let mut out = Vec::new();
    while outbox.drain(generation, 3, 0, &mut out).more {}
    out.iter()
        .map(|d| line(d).replace("event 1 t ", ""))
        .collect()
}

#[test]
fn the_window_bounds_what_is_unsettled() {
    let (outbox, gen1) = opened(limits(100), 2);
    for n in 1..=5 {
        outbox.push_sure(sure(n));
    }
    assert_eq!(drain(&outbox, gen1), ["[1] q1 @1", "[2] q1 @2"]);
    assert!(!outbox.has_sendable());
    assert_eq!(outbox.settle(slot(9)), None, "unknown");
    assert_eq!(outbox.settle(slot(2)), Some(2));
    assert_eq!(outbox.settle(slot(2)), None, "once");
    assert!(outbox.has_sendable());
    assert_eq!(drain(&outbox, gen1), ["[3] q1 @3"]);
    assert_eq!(outbox.advance(slot(1)), Some(1));
    assert_eq!(
        drain(&outbox, gen1),
        Vec::<String>::new(),
        "an advanced one still has its slot"
    );
    outbox.settle(slot(1));
    assert_eq!(drain(&outbox, gen1), ["[4] q1 @4"]);
    assert_eq!(outbox.stored_numbers(), [3, 4, 5]);
}

#[test]
fn a_new_connection_gets_the_unsettled_again_in_order_and_marked() {
    let (outbox, gen1) = opened(limits(100), 10);
    for n in 1..=4 {
        outbox.push_sure(sure(n));
    }
    drain(&outbox, gen1);
    outbox.settle(slot(2));
    outbox.advance(slot(3));
    outbox.detach();
    outbox.push_sure(sure(5));
    let gen2 = open(&outbox, 10);
    assert_eq!(
        drain(&outbox, gen2),
        [
            "[1] q1 @1 again",
            "release 3",
            "[4] q1 @4 again",
            "[5] q1 @5"
        ]
    );
    assert_eq!(
        drain(&outbox, gen2),
        Vec::<String>::new(),
        "once for each connection"
    );
    outbox.settle(slot(1));
    outbox.settle(slot(3));
    outbox.detach();
    let gen3 = open(&outbox, 1);
    assert_eq!(drain(&outbox, gen3), ["[4] q1 @4 again", "[5] q1 @5 again"]);
}

#[test]
fn nobody_is_told_to_let_go_before_that_is_durable() {
    let (outbox, gen1) = opened(limits(100), 10);
    for n in 1..=3 {
        outbox.push_sure(sure(n));
    }
    drain(&outbox, gen1);
    outbox.advance(slot(2));
    outbox.unconfirm(slot(2));
    outbox.detach();
    let gen2 = open(&outbox, 10);
    assert_eq!(drain(&outbox, gen2), ["[1] q1 @1 again"]);
    assert!(!outbox.has_sendable());
    assert!(outbox.confirm(slot(2)));
    assert_eq!(drain(&outbox, gen2), ["release 2", "[3] q1 @3 again"]);
    assert!(!outbox.confirm(slot(3)), "that one was not advanced");
    outbox.settle(slot(2));
    assert!(!outbox.confirm(slot(2)));
}

#[test]
fn settling_during_the_repetition_skips_nothing() {
    let (outbox, gen1) = opened(limits(100), 10);
    for n in 1..=4 {
        outbox.push_sure(sure(n));
    }
    drain(&outbox, gen1);
    outbox.detach();
    let gen2 = open(&outbox, 10);
    let mut out = Vec::new();
    outbox.drain(gen2, 2, 0, &mut out);
    assert_eq!(out.len(), 2);
    outbox.settle(slot(1));
    outbox.settle(slot(4));
    assert_eq!(drain(&outbox, gen2), ["[3] q1 @3 again"]);
}

#[test]
fn before_the_welcome_only_answers_go_out() {
    let outbox = Outbox::new(limits(100));
    outbox.push_sure(sure(1));
    let generation = outbox.attach(10);
    outbox.push_best(sized(2, Qos::AtMostOnce, None, 0));
    assert_eq!(drain(&outbox, generation), Vec::<String>::new());
    outbox.push(Delivery::Joined { present: true });
    assert_eq!(drain(&outbox, generation), ["resumed", "[1] q1 @1", "[2]"]);
}

#[test]
fn the_bound_is_the_same_without_connection_and_the_oldest_goes() {
    let (outbox, gen1) = opened(limits(2), 1);
    outbox.detach();
    for n in 1..=4 {
        let (number, pushed) = outbox.push_sure(sure(n));
        assert_eq!(
            (number, pushed.evicted),
            (n, n.checked_sub(2).filter(|n| *n > 0))
        );
        assert!(!pushed.wake && !pushed.pressed, "nobody is there");
    }
    assert_eq!(outbox.take_evicted(), [1, 2]);
    let gen2 = open(&outbox, 3);
    assert_eq!(drain(&outbox, gen2), ["[3] q1 @3", "[4] q1 @4"]);
    assert_eq!(drain(&outbox, gen1), ["ended TakenOver"]);
    // One more fits in the window.
    for n in 5..=8 {
        assert_eq!(outbox.push_sure(sure(n)).1.evicted, (n == 8).then_some(5));
    }
    outbox.detach();
    assert!(!outbox.trim(10, 0));
    assert_eq!(outbox.take_evicted(), [5, 6]);
    assert_eq!(outbox.depth(), (0, 2, 2));
}

#[test]
fn a_large_delivery_pushes_out_as_many_small_ones_as_it_takes() {
    let lane = LaneLimit {
        frames: 1_000,
        bytes: 10_000,
    };
    let limits = OutboxLimits {
        ordered: lane,
        best: lane,
        sure: lane,
        ..OutboxLimits::default()
    };
    let (outbox, gen1) = opened(limits, 1);
    for n in 1..=50 {
        outbox.push_sure(sure(n));
    }
    outbox.push_sure(sized(51, Qos::AtLeastOnce, None, 9_000));
    let (_, waiting, _) = outbox.depth();
    assert!(
        waiting < 20,
        "{waiting} waiting deliveries exceed the bytes allowed"
    );
    assert_eq!(outbox.take_evicted().len(), 51 - waiting);
    outbox.push_sure(sized(52, Qos::AtLeastOnce, None, 50_000));
    assert_eq!(
        drain(&outbox, gen1).len(),
        1,
        "larger than the bound, it passes alone"
    );
}

#[test]
fn expired_deliveries_are_skipped_unless_they_were_handed_out() {
    let (outbox, generation) = opened(limits(100), 1);
    outbox.push_sure(sized(1, Qos::AtLeastOnce, Some(10), 0));
    outbox.push_sure(sized(2, Qos::AtLeastOnce, Some(10), 0));
    outbox.push_sure(sure(3));
    let mut out = Vec::new();
    outbox.drain(generation, 9, 5, &mut out);
    assert_eq!(out.len(), 1);
    outbox.detach();
    let generation = open(&outbox, 1);
    out.clear();
    outbox.drain(generation, 9, 20, &mut out);
    assert_eq!(
        line(&out[0]),
        "event 1 t [1] q1 @1 again",
        "the handshake is finished"
    );
    outbox.settle(slot(1));
    out.clear();
    let drained = outbox.drain(generation, 9, 20, &mut out);
    assert!(drained.expired);
    assert_eq!(line(&out[0]), "event 1 t [3] q1 @3");
    assert_eq!(
        outbox.stored_numbers(),
        [3, 2],
        "the expired one's copy is still to be forgotten"
    );
    assert_eq!(outbox.take_expired(), [2]);
}

#[test]
fn what_was_stored_is_handed_out_under_the_same_slots() {
    let outbox = Outbox::new(limits(100));
    outbox.restore(7, None);
    outbox.restore(8, Some(sure(8)));
    outbox.restore(65_535 + 9, Some(sure(9)));
    let generation = open(&outbox, 10);
    assert_eq!(
        drain(&outbox, generation),
        ["release 7", "[8] q1 @8", "[9] q1 @9"]
    );
    assert_eq!(outbox.push_sure(sure(10)).0, 65_535 + 10);
}

#[test]
fn slots_are_unique_over_many_turns_whatever_stays_unsettled() {
    let (outbox, generation) = opened(limits(50), u16::MAX);
    let mut dice = Dice(7);
    let mut unsettled: HashSet<u16> = HashSet::new();
    let mut order: VecDeque<u16> = VecDeque::new();
    for n in 0..200_000_u64 {
        outbox.push_sure(sure(n));
        let mut out = Vec::new();
        outbox.drain(generation, 9, 0, &mut out);
        for delivery in out {
            let Delivery::Event(event) = delivery else {
                panic!()
            };
            let slot = event.slot.unwrap().get();
            assert!(unsettled.insert(slot), "slot {slot} given twice");
            order.push_back(slot);
        }
        // Some are settled late; a few never.
        while order.len() > 300 {
            let slot = order.pop_front().unwrap();
            if n % 1_000 != 0 || dice.once_in(2) {
                unsettled.remove(&slot);
                assert!(outbox.settle(Slot::new(slot).unwrap()).is_some());
            }
        }
    }
}

#[test]
fn a_receiver_that_never_settles_cannot_hang_the_realm() {
    let lane = LaneLimit {
        frames: 100_000,
        bytes: 1 << 30,
    };
    let limits = OutboxLimits {
        ordered: lane,
        best: lane,
        sure: lane,
        ..OutboxLimits::default()
    };
    let (outbox, generation) = opened(limits, u16::MAX);
    let mut out = Vec::new();
    let mut evicted = 0;
    for n in 0..140_000 {
        evicted += usize::from(outbox.push_sure(sure(n)).1.evicted.is_some());
        if n % 1_000 == 0 {
            while outbox.drain(generation, 10_000, 0, &mut out).more {}
        }
    }
    let (_, waiting, unsettled) = outbox.depth();
    assert!(waiting + unsettled <= 65_535);
    assert_eq!(
        waiting + unsettled + evicted,
        140_000,
        "whatever found no slot is accounted for"
    );
    let numbers = outbox.stored_copies();
    let slots: HashSet<u64> = numbers.iter().map(|(n, _)| (n - 1) % 65_535).collect();
    assert_eq!(slots.len(), numbers.len());
}

#[test]
fn an_ended_connection_gets_what_is_there_then_the_end_and_nothing_after_it() {
    let (outbox, generation) = opened(limits(100), 10);
    outbox.push_best(sized(1, Qos::AtMostOnce, None, 0));
    outbox.end(EndReason::TooSlow);
    outbox.end(EndReason::Shutdown);
    outbox.push_best(sized(2, Qos::AtMostOnce, None, 0));
    assert_eq!(drain(&outbox, generation), ["[1]", "ended TooSlow"]);
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_writer_is_woken_once_for_each_sleep() {
    let (outbox, generation) = opened(limits(100), 1);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    assert!(drain(&outbox, generation).is_empty());
    outbox.register(generation, &waker);
    assert!(outbox.push_best(sized(1, Qos::AtMostOnce, None, 0)).wake);
    assert!(
        !outbox.push_best(sized(2, Qos::AtMostOnce, None, 0)).wake,
        "on its way already"
    );
    outbox.wake();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    drain(&outbox, generation);
    assert!(outbox.push_sure(sure(3)).1.wake);
    drain(&outbox, generation);
    assert!(!outbox.push_sure(sure(4)).1.wake, "the window is full");
    // A taken over writer must hear of it.
    outbox.register(generation, &waker);
    outbox.attach(1);
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_writer_that_can_write_nothing_is_woken_for_the_end_alone() {
    let (outbox, generation) = opened(limits(100), 10);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    outbox.push_best(sized(1, Qos::AtMostOnce, None, 0));
    outbox.register_end(generation, &waker);
    let pushed = [
        outbox.push_best(sized(2, Qos::AtMostOnce, None, 0)),
        outbox.push_sure(sure(3)).1,
    ];
    assert!(pushed.iter().all(|pushed| !pushed.wake));
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    outbox.end(EndReason::TooSlow);
    outbox.wake();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    outbox.register_end(generation, &waker);
    assert_eq!(count.0.load(Ordering::SeqCst), 2, "it has come before");
}

/// Random pushes, drains, settlements and reconnections against the plainest bookkeeping.
#[test]
fn every_settleable_delivery_is_handed_out_in_order_until_settled() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let window = 1 + u16::try_from(dice.below(6)).unwrap();
        let (outbox, mut generation) = opened(limits(1_000), window);
        let mut waiting: VecDeque<u64> = VecDeque::new();
        // slot -> (delivery, advanced)
        let mut unsettled: Vec<(u16, u64, bool)> = Vec::new();
        let mut next = 0;
        for _ in 0..400 {
            match dice.below(5) {
                0 | 1 => {
                    next += 1;
                    outbox.push_sure(sure(next));
                    waiting.push_back(next);
                }
                2 => {
                    for got in drain(&outbox, generation) {
                        let expected = waiting.pop_front().unwrap();
                        let text = got.split_once(" q1 @").unwrap();
                        assert_eq!(text.0, format!("[{expected}]"), "seed {seed}");
                        unsettled.push((text.1.parse().unwrap(), expected, false));
                    }
                    assert!(unsettled.len() <= usize::from(window));
                    assert!(waiting.is_empty() || unsettled.len() == usize::from(window));
                }
                3 if !unsettled.is_empty() => {
                    let at = usize::try_from(dice.below(unsettled.len() as u64)).unwrap();
                    if dice.once_in(2) {
                        unsettled[at].2 = true;
                        assert!(outbox.advance(slot(unsettled[at].0)).is_some());
                    } else {
                        let (n, ..) = unsettled.remove(at);
                        assert!(outbox.settle(slot(n)).is_some());
                    }
                }
                4 if dice.once_in(4) => {
                    outbox.detach();
                    generation = open(&outbox, window);
                    let expected: Vec<String> = unsettled
                        .iter()
                        .map(|(slot, n, advanced)| match advanced {
                            true => format!("release {slot}"),
                            false => format!("[{n}] q1 @{slot} again"),
                        })
                        .collect();
                    let mut out = Vec::new();
                    outbox.drain(generation, expected.len(), 0, &mut out);
                    let got: Vec<String> = out
                        .iter()
                        .map(|d| line(d).replace("event 1 t ", ""))
                        .collect();
                    assert_eq!(got, expected, "seed {seed}");
                }
                _ => {}
            }
        }
        let kept: BTreeMap<u64, ()> = outbox
            .stored_numbers()
            .into_iter()
            .map(|n| (n, ()))
            .collect();
        assert_eq!(kept.len(), waiting.len() + unsettled.len());
    }
}

fn replayed(delivery: EventDelivery) -> EventDelivery {
    EventDelivery {
        replayed: true,
        ..delivery
    }
}

#[test]
fn replayed_and_live_deliveries_of_one_assurance_go_out_in_the_order_of_enqueueing() {
    let (outbox, generation) = opened(limits(100), 10);
    for n in 1..=6 {
        let delivery = sure(n);
        outbox.push_sure(if n % 3 == 0 {
            delivery
        } else {
            replayed(delivery)
        });
    }
    for n in 7..=12 {
        let delivery = sized(n, Qos::AtMostOnce, None, 0);
        outbox.push_best(if n % 2 == 0 {
            delivery
        } else {
            replayed(delivery)
        });
    }
    let got = drain(&outbox, generation);
    for (n, line) in (1..).zip(&got) {
        assert!(line.starts_with(&format!("[{n}]")), "{got:?}");
    }
    assert_eq!(got.len(), 12);
}

#[test]
fn replayed_deliveries_are_never_dropped_and_make_nobody_wait() {
    let (outbox, generation) = opened(limits(4), 1);
    for n in 1..=10 {
        let (_, pushed) = outbox.push_sure(replayed(sure(n)));
        assert!(!pushed.pressed && pushed.evicted.is_none());
        let pushed = outbox.push_best(replayed(sized(n, Qos::AtMostOnce, None, 0)));
        assert!(!pushed.pressed && pushed.dropped == 0);
    }
    // Four, and one that the window lets through.
    for n in 11..=17 {
        outbox.push_sure(sure(n));
    }
    assert_eq!(outbox.take_evicted(), [11, 12]);
    let got = drain(&outbox, generation);
    assert_eq!(
        got.len(),
        11,
        "all at-most-once ones, and one for the window: {got:?}"
    );
    let mut seen = vec![1];
    for _ in 0..14 {
        outbox.settle(slot(seen.last().copied().unwrap()));
        let got = drain(&outbox, generation);
        let text = got[0].split('@').nth(1).unwrap();
        seen.push(text.split(' ').next().unwrap().parse().unwrap());
    }
    let live = 13..=17;
    assert!((1..=10).chain(live).eq(seen));
}

#[test]
fn a_replay_may_append_what_the_receiver_takes_and_goes_on_when_there_is_room_again() {
    let (outbox, generation) = opened(limits(4), 10);
    outbox.set_refill(true);
    for n in 1..=4 {
        outbox.push_sure(sure(n));
    }
    assert_eq!(outbox.replay_room(), 10, "what waits live is no matter");
    for n in 21..=30 {
        outbox.push_sure(replayed(sure(n)));
    }
    assert_eq!(outbox.replay_room(), 0);
    assert!(outbox.replay_room_at(Qos::AtMostOnce) > 0);
    let mut out = Vec::new();
    assert!(!outbox.drain(generation, 2, 0, &mut out).refill);
    assert!(
        outbox.drain(generation, 9, 0, &mut out).refill,
        "some are in the window"
    );
    let mut room = outbox.replay_room_at(Qos::AtMostOnce);
    let mut pushed = 0;
    while room > 0 {
        outbox.push_best(replayed(sized(40, Qos::AtMostOnce, None, 10_000)));
        pushed += 1;
        room = outbox.replay_room_at(Qos::AtMostOnce);
    }
    assert!((20..40).contains(&pushed), "bounded in bytes: {pushed}");
    assert_eq!(outbox.replay_room(), 0);
    outbox.detach();
    assert_eq!(outbox.depth().1, 4, "what is to be settled stays");
    let generation = open(&outbox, u16::MAX);
    outbox.set_refill(true);
    assert_eq!(outbox.replay_room(), 60);
    out.clear();
    assert!(outbox.drain(generation, 9, 0, &mut out).refill);
}
