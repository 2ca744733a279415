//! A connection is asked to hear out its peer before it gives way to a newer one.

use router_core::limits::{LaneLimit, OutboxLimits, WhenFull};
use router_core::model::EndReason;
use router_core::outbox::{Former, Outbox};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counter {
    fn new() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), Waker::from(counter))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn attached() -> (Arc<Outbox>, u64) {
    let lane = LaneLimit {
        frames: 10,
        bytes: 1 << 20,
    };
    let limits = OutboxLimits {
        ordered: lane,
        best: lane,
        sure: lane,
        patience: std::time::Duration::ZERO,
        when_full: WhenFull::DropOldest,
        resident: 10,
    };
    let outbox = Arc::new(Outbox::new(limits));
    let generation = outbox.attach(10);
    (outbox, generation)
}

#[test]
fn whoever_asks_wakes_the_connection_and_is_woken_by_its_answer() {
    let (outbox, generation) = attached();
    assert_eq!(outbox.asked(), 0);
    let (writer, waker) = Counter::new();
    outbox.register(generation, &waker);
    let former = Former::ask(outbox.clone(), generation);
    assert_eq!((writer.count(), outbox.asked()), (1, 1));
    let (asker, waker) = Counter::new();
    assert!(!former.is_done(&waker));
    assert_eq!(asker.count(), 0);
    outbox.heard(1);
    assert_eq!(asker.count(), 1);
    assert!(former.is_done(&waker));
}

#[test]
fn an_answer_is_for_those_who_asked_before_the_connection_began_to_read() {
    let (outbox, generation) = attached();
    let first = Former::ask(outbox.clone(), generation);
    let asked = outbox.asked();
    let second = Former::ask(outbox.clone(), generation);
    let (counter, waker) = Counter::new();
    assert!(!first.is_done(&waker) && !second.is_done(&waker));
    outbox.heard(asked);
    assert_eq!(counter.count(), 1);
    assert!(first.is_done(&waker) && !second.is_done(&waker));
    outbox.heard(outbox.asked());
    assert_eq!(counter.count(), 2);
    assert!(second.is_done(&waker));
}

#[test]
fn nobody_waits_for_a_connection_that_is_gone_or_goes() {
    type End = fn(&Outbox, u64);
    let ends: [End; 3] = [
        |outbox, generation| outbox.release(generation),
        |outbox, _| {
            outbox.attach(10);
        },
        |outbox, _| {
            outbox.end(EndReason::TooSlow);
        },
    ];
    for end in ends {
        let (outbox, generation) = attached();
        let former = Former::ask(outbox.clone(), generation);
        let (counter, waker) = Counter::new();
        assert!(!former.is_done(&waker));
        end(&outbox, generation);
        assert_eq!(counter.count(), 1);
        assert!(former.is_done(&waker));
        let late = Former::ask(outbox, generation);
        assert!(late.is_done(&waker), "asked when it was over already");
    }
}

#[test]
fn beyond_a_bound_nobody_waits_and_nobody_waits_twice() {
    let (outbox, generation) = attached();
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let former = Former::ask(outbox.clone(), generation);
        let (counter, waker) = Counter::new();
        let is_done = former.is_done(&waker);
        assert_eq!(former.is_done(&waker), is_done);
        if !is_done {
            waiting.push(counter);
        }
    }
    assert_eq!(waiting.len(), 64);
    outbox.heard(outbox.asked());
    assert!(waiting.iter().all(|counter| counter.count() == 1));
}
