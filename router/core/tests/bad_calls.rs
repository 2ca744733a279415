//! Callees and callers that do not do their part: what they leave undone, or do twice.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::model::{CancelMode, InvokePolicy};
use router_core::session::Leave;
use serde_json::json;

const NONE: [&str; 0] = [];

fn pair(concurrency: Option<u32>) -> (World, Peer, Peer) {
    let mut w = World::memory();
    let (caller, callee) = (w.plain(), w.plain());
    let policy = InvokePolicy::FirstFree;
    w.ask(&callee, shared(1, "p", policy, concurrency));
    (w, caller, callee)
}

#[test]
fn a_callee_that_never_answers_holds_its_slots_and_nothing_else() {
    for (concurrency, held) in [(None, 0), (Some(2), 2)] {
        let (mut w, caller, callee) = pair(concurrency);
        for request in 1..=1_000 {
            w.send(
                &caller,
                call_with(request, "p", json!([]), false, Some(ms(10))),
            );
        }
        w.lines(&callee);
        w.pass(ms(10));
        let told = w.lines(&caller);
        assert_eq!(told.len(), 1_000);
        assert!(told.iter().all(|line| line.ends_with(" Timeout")));
        assert_eq!((w.size("open_calls"), w.size("timers")), (held, 0));
        w.leave(&callee, Leave::Lost);
        assert_eq!(w.lines(&caller), NONE);
        assert_eq!(w.size("open_calls"), 0);
    }
}

#[test]
fn a_callee_that_goes_while_it_is_asked_to_stop_ends_the_call_once() {
    for parts in [false, true] {
        let (mut w, caller, callee) = pair(Some(1));
        w.send(&caller, part(1, "p", json!([]), parts));
        w.send(&caller, cancel(1, CancelMode::Kill));
        assert_eq!(w.lines(&caller), NONE);
        w.leave(&callee, Leave::Lost);
        assert_eq!(w.lines(&caller), ["failed 1 Canceled"]);
        w.send(&caller, cancel(1, CancelMode::Kill));
        assert_eq!(w.lines(&caller), NONE);
        assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 0));
    }
}

#[test]
fn every_pair_of_cancels_ends_the_call_once_and_interrupts_once_at_most() {
    let modes = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait];
    for first in modes {
        for second in modes {
            let (mut w, caller, callee) = pair(Some(1));
            w.send(&caller, call(1, "p", json!([])));
            w.send(&caller, cancel(1, first));
            w.send(&caller, cancel(1, second));
            w.send(&callee, answer(1, json!([])));
            let told = w.lines(&caller);
            let waits = first == CancelMode::Kill && second == CancelMode::Kill;
            let expected = if waits {
                "result 1 []"
            } else {
                "failed 1 Canceled"
            };
            assert_eq!(told, [expected], "{first:?} {second:?}");
            let interrupts = w.lines(&callee).len() - 1;
            let expected = usize::from(first != CancelMode::Skip);
            assert_eq!(interrupts, expected, "{first:?} {second:?}");
            assert_eq!(w.size("open_calls"), 0);
        }
    }
}

#[test]
fn the_timeout_ends_a_call_whose_callee_was_asked_to_stop_and_does_not() {
    let (mut w, caller, callee) = pair(None);
    w.send(&caller, call_with(1, "p", json!([]), false, Some(ms(100))));
    w.send(&caller, cancel(1, CancelMode::Kill));
    w.pass(ms(100));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
    let told = ["invocation 1 p []", "interrupt 1 wanted"];
    assert_eq!(w.lines(&callee), told, "it was asked already");
    w.send(&callee, answer(1, json!([])));
    assert_eq!((w.lines(&caller), w.size("open_calls")), (vec![], 0));
}

#[test]
fn progress_after_the_end_of_a_call_reaches_nobody_and_frees_nothing() {
    for mode in [CancelMode::Skip, CancelMode::KillNoWait] {
        let (mut w, caller, callee) = pair(Some(1));
        w.send(&caller, call_with(1, "p", json!([]), true, Some(ms(50))));
        w.send(&caller, call(2, "p", json!([])));
        w.send(&caller, cancel(1, mode));
        w.lines(&callee);
        assert_eq!(w.lines(&caller), ["failed 1 Canceled"]);
        w.send(&callee, progress(1, json!([1])));
        w.pass(secs(1));
        assert_eq!(
            (w.lines(&caller), w.lines(&callee)),
            (vec![], vec![]),
            "{mode:?}"
        );
        assert_eq!(w.size("timers"), 0, "a call that ended has no time");
        assert_eq!(w.ask(&callee, answer(1, json!([]))), ["invocation 2 p []"]);
        // A second answer is not the next call's.
        w.send(&callee, answer(1, json!([])));
        assert_eq!(w.lines(&caller), NONE);
        w.send(&callee, answer(2, json!(["two"])));
        assert_eq!(w.lines(&caller), ["result 2 [\"two\"]"]);
    }
}

#[test]
fn a_caller_that_goes_takes_its_waiting_and_running_calls_along() {
    let (mut w, caller, callee) = pair(Some(1));
    w.send(&caller, part(1, "p", json!([]), true));
    w.send(&caller, part(2, "p", json!([]), true));
    w.leave(&caller, Leave::Lost);
    let told = ["invocation 1 p [] more", "interrupt 1"];
    assert_eq!(w.lines(&callee), told);
    w.send(&callee, answer(1, json!([])));
    assert_eq!((w.lines(&callee).len(), w.size("open_calls")), (0, 0));
}
