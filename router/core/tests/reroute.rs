//! Callees that say they are not available, and others that may or may not take over.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::RealmLimits;
use router_core::model::{CancelMode, Command, InvokePolicy, MatchKind};
use router_core::session::Leave;
use serde_json::json;

const NONE: [&str; 0] = [];

fn unavailable(invocation: u64) -> Command {
    fails(invocation, "wamp.error.unavailable", json!([]))
}

/// A caller, and callees that share `p` under `policy`.
fn shared_by(count: usize, policy: InvokePolicy, most: Option<u32>) -> (World, Peer, Vec<Peer>) {
    let mut w = World::memory();
    let caller = w.plain();
    let callees: Vec<Peer> = (0..count).map(|_| w.plain()).collect();
    for callee in &callees {
        w.ask(callee, shared(1, "p", policy, most));
    }
    (w, caller, callees)
}

#[test]
fn every_callee_is_asked_once_in_the_order_of_the_policy() {
    for (policy, expected) in [
        (InvokePolicy::First, vec![0, 1, 2]),
        (InvokePolicy::FirstFree, vec![0, 1, 2]),
        (InvokePolicy::Last, vec![2, 1, 0]),
        (InvokePolicy::RoundRobin, vec![0, 1, 2]),
    ] {
        let (mut w, caller, callees) = shared_by(3, policy, None);
        w.send(&caller, call(1, "p", json!(["x"])));
        for at in expected {
            assert_eq!(
                w.lines(&callees[at]),
                ["invocation 1 p [\"x\"]"],
                "{policy:?}"
            );
            w.send(&callees[at], unavailable(1));
        }
        assert_eq!(w.lines(&caller), ["failed 1 NoAvailableCallee"]);
        assert_eq!(w.realm.counters().calls_rerouted, 2);
        assert_eq!((w.size("open_calls"), w.size("timers")), (0, 0));
    }
}

#[test]
fn chance_asks_every_callee_once_as_well() {
    let (mut w, caller, callees) = shared_by(5, InvokePolicy::Random, None);
    for request in 1..=20 {
        w.send(&caller, call(request, "p", json!([])));
        let mut asked = Vec::new();
        while let Some(at) = (0..5).find(|at| {
            let lines = w.lines(&callees[*at]);
            !lines.is_empty()
        }) {
            asked.push(at);
            w.send(&callees[at], unavailable(request));
        }
        asked.sort_unstable();
        assert_eq!(asked, [0, 1, 2, 3, 4]);
        assert_eq!(
            w.lines(&caller),
            [format!("failed {request} NoAvailableCallee")]
        );
    }
}

#[test]
fn a_single_callee_that_is_not_available_ends_the_call() {
    let (mut w, caller, callees) = shared_by(1, InvokePolicy::Single, None);
    w.send(&caller, call(1, "p", json!([])));
    w.send(&callees[0], unavailable(1));
    assert_eq!(w.lines(&caller), ["failed 1 NoAvailableCallee"]);
    assert_eq!(w.size("open_calls"), 0);
}

#[test]
fn a_rerouted_call_waits_before_all_others_for_a_busy_callee() {
    let (mut w, caller, callees) = shared_by(2, InvokePolicy::FirstFree, Some(1));
    for request in 1..=3 {
        w.send(&caller, call(request, "p", json!([request])));
    }
    assert_eq!(w.lines(&callees[0]), ["invocation 1 p [1]"]);
    assert_eq!(w.lines(&callees[1]), ["invocation 1 p [2]"]);
    // The first one may take the third call, but not its own again.
    assert_eq!(w.ask(&callees[0], unavailable(1)), ["invocation 2 p [3]"]);
    w.send(&caller, call(4, "p", json!([4])));
    assert_eq!(
        w.ask(&callees[1], answer(1, json!([]))),
        ["invocation 2 p [1]"]
    );
    assert_eq!(
        w.ask(&callees[1], answer(2, json!([]))),
        ["invocation 3 p [4]"]
    );
    assert_eq!(w.lines(&caller), ["result 2 []", "result 1 []"]);
}

#[test]
fn a_call_that_waits_for_the_last_untried_callee_ends_with_it() {
    let (mut w, caller, callees) = shared_by(2, InvokePolicy::FirstFree, Some(1));
    w.send(&caller, call(1, "p", json!([])));
    w.send(&caller, call(2, "p", json!([])));
    w.send(&callees[0], unavailable(1));
    assert_eq!(w.lines(&caller), NONE);
    w.leave(&callees[1], Leave::Lost);
    let mut lines = w.lines(&caller);
    lines.sort();
    assert_eq!(lines, ["failed 1 NoAvailableCallee", "failed 2 Canceled"]);
    assert_eq!(w.size("open_calls"), 0);
    // The callee that refused is still there for other calls.
    w.send(&caller, call(3, "p", json!([3])));
    assert_eq!(w.lines(&callees[0]).pop().unwrap(), "invocation 2 p [3]");
}

#[test]
fn a_new_callee_takes_what_the_others_refused() {
    let (mut w, caller, callees) = shared_by(2, InvokePolicy::FirstFree, Some(1));
    w.send(&caller, call(1, "p", json!(["x"])));
    w.send(&caller, call(2, "p", json!([])));
    w.send(&callees[0], unavailable(1));
    let third = w.plain();
    let lines = w.ask(&third, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    assert_eq!(lines, ["done 1 registered 1", "invocation 1 p [\"x\"]"]);
}

#[test]
fn after_a_part_of_the_result_or_a_cancel_the_callees_word_is_the_last() {
    let (mut w, caller, callees) = shared_by(2, InvokePolicy::First, None);
    w.send(&caller, call_with(1, "p", json!([]), true, None));
    w.send(&callees[0], progress(1, json!([1])));
    w.send(&callees[0], unavailable(1));
    let expected = ["result 1 [1] more", "failed 1 wamp.error.unavailable []"];
    assert_eq!(w.lines(&caller), expected);
    w.send(&caller, call(2, "p", json!([])));
    w.send(&caller, cancel(2, CancelMode::Kill));
    w.send(&callees[0], unavailable(2));
    assert_eq!(w.lines(&caller), ["failed 2 wamp.error.unavailable []"]);
    w.send(&caller, call(3, "p", json!([])));
    w.send(&caller, cancel(3, CancelMode::KillNoWait));
    w.send(&callees[0], unavailable(3));
    assert_eq!(w.lines(&caller), ["failed 3 Canceled"]);
    assert_eq!(w.lines(&callees[1]), NONE);
    assert_eq!(w.size("open_calls"), 0);
}

#[test]
fn the_timeout_goes_on_over_the_callees() {
    let (mut w, caller, callees) = shared_by(2, InvokePolicy::First, None);
    w.send(&caller, call_with(1, "p", json!([]), false, Some(ms(100))));
    w.pass(ms(60));
    w.send(&callees[0], unavailable(1));
    w.pass(ms(40));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
    let lines = w.lines(&callees[1]);
    assert_eq!(lines, ["invocation 1 p []", "interrupt 1 Timeout"]);
    w.send(&callees[1], unavailable(1));
    assert_eq!((w.size("open_calls"), w.size("timers")), (0, 0));
}

#[test]
fn the_time_is_kept_again_when_the_next_callee_does_not() {
    let mut w = World::memory();
    let (caller, a, b) = (w.plain(), w.plain(), w.plain());
    let offer = |request| reg(request, MatchKind::Exact, "p").policy(InvokePolicy::First);
    w.ask(&a, offer(1).keeping_time().into());
    w.ask(&b, offer(1).into());
    w.send(&caller, call_with(1, "p", json!([]), false, Some(ms(100))));
    assert_eq!(w.lines(&a), ["invocation 1 p [] within 100"]);
    w.pass(secs(10));
    assert_eq!((w.lines(&caller), w.size("timers")), (vec![], 0));
    w.send(&a, unavailable(1));
    assert_eq!(w.lines(&b), ["invocation 1 p []"]);
    w.pass(ms(100));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
}

#[test]
fn a_full_queue_takes_no_rerouted_call_either() {
    let limits = RealmLimits {
        calls_queued_per_procedure: 1,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (caller, a, b) = (w.plain(), w.plain(), w.plain());
    for callee in [&a, &b] {
        w.ask(callee, shared(1, "p", InvokePolicy::First, Some(2)));
    }
    for request in 1..=5 {
        w.send(&caller, call(request, "p", json!([])));
    }
    // Its own slot goes to the call that waits, after its call found no place.
    w.send(&a, unavailable(1));
    assert_eq!(w.lines(&caller), ["failed 1 QuotaExceeded"]);
    assert_eq!(w.lines(&a).pop().unwrap(), "invocation 3 p []");
}

#[test]
fn a_callee_that_withdrew_before_it_refuses_leaves_nobody() {
    let (mut w, caller, callees) = shared_by(1, InvokePolicy::First, None);
    w.send(&caller, call(1, "p", json!([])));
    w.send(&callees[0], unregister(2, 1));
    w.send(&callees[0], unavailable(1));
    assert_eq!(w.lines(&caller), ["failed 1 NoAvailableCallee"]);
    assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 0));
}
