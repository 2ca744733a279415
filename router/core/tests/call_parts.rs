//! Calls whose arguments come in parts: one invocation, bounded whatever the two sides do.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{CancelMode, InvokePolicy, MatchKind};
use router_core::session::{Features, Leave};
use serde_json::json;

const NONE: [&str; 0] = [];

fn few_parts() -> RealmLimits {
    RealmLimits {
        parts_per_call: 3,
        part_bytes_per_call: 60,
        ..RealmLimits::default()
    }
}

/// A caller and a callee that offers `p`, one call at a time.
fn pair(limits: RealmLimits) -> (World, Peer, Peer) {
    let mut w = World::limited(limits);
    let (caller, callee) = (w.plain(), w.plain());
    w.ask(&callee, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    (w, caller, callee)
}

#[test]
fn parts_go_to_one_callee_under_one_id_and_take_one_slot() {
    let (mut w, caller, callee) = pair(RealmLimits::default());
    w.send(&caller, part(1, "p", json!([1]), true));
    w.send(&caller, call(2, "p", json!(["next"])));
    for n in 2..=3 {
        w.send(&caller, part(1, "p", json!([n]), true));
    }
    w.send(&caller, part(1, "p", json!([4]), false));
    let expected = [
        "invocation 1 p [1] more",
        "invocation 1 p [2] more",
        "invocation 1 p [3] more",
        "invocation 1 p [4]",
    ];
    assert_eq!(w.lines(&callee), expected);
    // All has been sent: the id may not be used for anything else.
    assert_eq!(
        w.ask(&caller, part(1, "p", json!([5]), false)),
        ["failed 1 InvalidArgument"]
    );
    assert_eq!(
        w.ask(&callee, answer(1, json!([]))),
        ["invocation 2 p [\"next\"]"]
    );
    assert_eq!(w.lines(&caller), ["result 1 []"]);
}

#[test]
fn parts_wait_with_their_call() {
    let (mut w, caller, callee) = pair(few_parts());
    w.send(&caller, call(1, "p", json!([])));
    w.send(&caller, part(2, "p", json!([1]), true));
    w.send(&caller, part(2, "p", json!([2]), true));
    w.lines(&callee);
    let expected = ["invocation 2 p [1] more", "invocation 2 p [2] more"];
    assert_eq!(w.ask(&callee, answer(1, json!([]))), expected);
    w.send(&caller, part(2, "p", json!([3]), false));
    assert_eq!(w.lines(&callee), ["invocation 2 p [3]"]);
    w.send(&callee, answer(2, json!([])));
    assert_eq!(w.lines(&caller), ["result 1 []", "result 2 []"]);
}

#[test]
fn what_waits_is_bounded_in_number_and_bytes() {
    for (first, next, fit) in [
        (json!([1]), json!([2]), 3),
        (json!([1]), json!(["x".repeat(40)]), 2),
    ] {
        let (mut w, caller, callee) = pair(few_parts());
        w.send(&caller, call(1, "p", json!([])));
        w.send(&caller, part(2, "p", first, true));
        for n in 1..=5 {
            w.send(&caller, part(2, "p", next.clone(), true));
            let told = w.lines(&caller);
            let expected = if n == fit {
                vec!["failed 2 QuotaExceeded"]
            } else {
                vec![]
            };
            assert_eq!(told, expected, "{n}");
        }
        assert_eq!(w.realm.counters().quota_refused, 1);
        w.lines(&callee);
        assert_eq!(w.ask(&callee, answer(1, json!([]))), NONE);
        assert_eq!(w.size("open_calls"), 0);
    }
}

#[test]
fn a_caller_faster_than_its_callee_loses_the_call_and_not_the_callee() {
    let lane = LaneLimit {
        frames: 8,
        bytes: 1 << 20,
    };
    let outbox = OutboxLimits {
        ordered: lane,
        ..OutboxLimits::default()
    };
    let (mut w, caller, callee) = pair(RealmLimits {
        outbox,
        ..RealmLimits::default()
    });
    let mut told = Vec::new();
    for n in 0..50 {
        w.send(&caller, part(1, "p", json!([n]), true));
        told.extend(w.lines(&caller));
    }
    assert_eq!(told, ["failed 1 QuotaExceeded"]);
    let lines = w.lines(&callee);
    assert_eq!(lines.last().unwrap(), "interrupt 1 TooMuch");
    assert_eq!(w.realm.counters().ended_too_slow, 0);
    w.send(&callee, answer(1, json!([])));
    assert_eq!((w.lines(&caller).len(), w.size("open_calls")), (0, 0));
}

#[test]
fn what_comes_after_the_end_of_a_call_is_discarded_up_to_the_last_part() {
    for how in ["answer", "error", "cancel", "timeout", "callee"] {
        let mut w = World::memory();
        let (caller, callee) = (w.plain(), w.plain());
        w.ask(&callee, register(1, "p"));
        let mut first = part(1, "p", json!([1]), true);
        if let router_core::model::Command::Call(call) = &mut first {
            call.timeout = Some(ms(100));
        }
        w.send(&caller, first);
        match how {
            "answer" => w.send(&callee, answer(1, json!([]))),
            "error" => w.send(&callee, fails(1, "e", json!([]))),
            "cancel" => w.send(&caller, cancel(1, CancelMode::Skip)),
            "timeout" => w.pass(ms(100)),
            _ => w.leave(&callee, Leave::Lost),
        }
        assert_eq!(w.lines(&caller).len(), 1, "{how}");
        w.lines(&callee);
        w.send(&caller, part(1, "p", json!([2]), true));
        w.send(&caller, part(1, "p", json!([3]), false));
        assert_eq!(w.lines(&caller), NONE, "{how}");
        if how != "callee" {
            assert_eq!(w.lines(&callee), NONE, "{how}");
        }
        assert_eq!(w.realm.counters().parts_discarded, 2);
        assert_eq!(w.size("open_calls"), 0);
        assert_eq!(
            w.ask(&caller, call(1, "q", json!([]))),
            ["failed 1 NoSuchProcedure"],
            "{how}"
        );
    }
}

#[test]
fn calls_that_end_early_do_not_fill_memory() {
    let limits = RealmLimits {
        calls_per_session: 10,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let caller = w.plain();
    for request in 1..=100 {
        let told = w.ask(&caller, part(request, "nobody", json!([]), true));
        assert_eq!(told, [format!("failed {request} NoSuchProcedure")]);
    }
    // The last ten are remembered.
    assert_eq!(w.ask(&caller, part(91, "nobody", json!([]), true)), NONE);
    let told = w.ask(&caller, part(90, "nobody", json!([]), true));
    assert_eq!(told, ["failed 90 NoSuchProcedure"]);
}

#[test]
fn each_part_gives_the_call_its_time_anew() {
    let mut w = World::memory();
    let (caller, callee) = (w.plain(), w.plain());
    w.ask(&callee, register(1, "p"));
    let mut first = part(1, "p", json!([1]), true);
    if let router_core::model::Command::Call(call) = &mut first {
        call.timeout = Some(ms(100));
    }
    w.send(&caller, first);
    w.pass(ms(80));
    w.send(&caller, part(1, "p", json!([2]), false));
    w.pass(ms(80));
    assert_eq!(w.lines(&caller), NONE);
    w.pass(ms(20));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
    assert_eq!(w.lines(&callee).pop().unwrap(), "interrupt 1 Timeout");
}

#[test]
fn an_interrupted_callee_gets_no_further_parts() {
    let mut w = World::memory();
    let (caller, callee) = (w.plain(), w.plain());
    w.ask(&callee, register(1, "p"));
    w.send(&caller, part(1, "p", json!([1]), true));
    w.send(&caller, cancel(1, CancelMode::Kill));
    w.send(&caller, part(1, "p", json!([2]), true));
    let lines = w.lines(&callee);
    assert_eq!(lines, ["invocation 1 p [1] more", "interrupt 1 wanted"]);
    w.send(&callee, answer(1, json!(["stopped"])));
    assert_eq!(w.lines(&caller), ["result 1 [\"stopped\"]"]);
    w.send(&caller, part(1, "p", json!([3]), false));
    assert_eq!((w.lines(&caller), w.lines(&callee)), (vec![], vec![]));
}

#[test]
fn among_shared_callees_only_those_that_take_parts_are_asked() {
    let mut w = World::memory();
    let (caller, able) = (w.plain(), w.plain());
    let unable = w.join(ordered().features(Features::default()));
    w.lines(&unable);
    let offer = |request| shared(request, "p", InvokePolicy::FirstFree, Some(1));
    w.ask(&unable, offer(1));
    assert_eq!(
        w.ask(&caller, part(1, "p", json!([]), true)),
        ["failed 1 FeatureNotSupported"]
    );
    w.ask(&able, offer(1));
    w.send(&caller, part(2, "p", json!([]), true));
    w.send(&caller, part(3, "p", json!([]), true));
    // One that waits for the able one lets others pass.
    w.send(&caller, call(4, "p", json!([4])));
    w.send(&caller, call(5, "p", json!([5])));
    assert_eq!(w.lines(&able), ["invocation 1 p [] more"]);
    assert_eq!(w.lines(&unable), ["invocation 1 p [4]"]);
    assert_eq!(
        w.ask(&able, answer(1, json!([]))),
        ["invocation 2 p [] more"]
    );
    assert_eq!(w.lines(&unable), NONE);
    assert_eq!(w.ask(&unable, answer(1, json!([]))), ["invocation 2 p [5]"]);
    w.send(&caller, part(6, "p", json!([]), true));
    w.leave(&able, Leave::Lost);
    let mut lines = w.lines(&caller);
    lines.sort();
    let expected = [
        "failed 3 Canceled",
        "failed 6 FeatureNotSupported",
        "result 2 []",
        "result 4 []",
    ];
    assert_eq!(lines, expected);
    w.send(&unable, answer(2, json!([])));
    assert_eq!(w.size("open_calls"), 0);
}

/// A callee that takes arguments in parts and one that does not, which share `p`.
fn unlike_callees(w: &mut World, most: [Option<u32>; 2]) -> [Peer; 2] {
    let plain = w.join(ordered().features(Features::default()));
    w.lines(&plain);
    let callees = [w.plain(), plain];
    for (callee, most) in callees.iter().zip(most) {
        w.ask(callee, shared(1, "p", InvokePolicy::First, most));
    }
    callees
}

#[test]
fn a_call_does_not_wait_behind_one_that_only_a_busy_callee_may_take() {
    let mut w = World::memory();
    let caller = w.plain();
    let [a, b] = unlike_callees(&mut w, [Some(1), None]);
    w.send(&caller, call(1, "p", json!([1])));
    w.send(&caller, part(2, "p", json!([2]), true));
    w.send(&caller, call(3, "p", json!([3])));
    assert_eq!(w.lines(&a), ["invocation 1 p [1]"]);
    assert_eq!(w.lines(&b), ["invocation 1 p [3]"]);
    let next = w.ask(&a, answer(1, json!([])));
    assert_eq!(next, ["invocation 2 p [2] more"]);
}

#[test]
fn a_call_that_nobody_may_take_any_more_ends_behind_others_that_wait() {
    for is_forced in [false, true] {
        let mut w = World::memory();
        let caller = w.plain();
        let [a, b] = unlike_callees(&mut w, [Some(1); 2]);
        for request in 1..=3 {
            w.send(&caller, call(request, "p", json!([request])));
        }
        w.send(&caller, part(4, "p", json!([4]), true));
        assert_eq!(w.lines(&caller), NONE);
        if is_forced {
            let third = w.join(ordered().features(Features::default()));
            let offer = reg(1, MatchKind::Exact, "p").policy(InvokePolicy::First);
            w.send(&third, offer.concurrency(1).force().into());
            let lines = ["joined", "done 1 registered 2", "invocation 1 p [3]"];
            assert_eq!(w.lines(&third), lines);
        } else {
            w.send(&a, unregister(2, 1));
        }
        assert_eq!(w.lines(&caller), ["failed 4 FeatureNotSupported"]);
        w.leave(&a, Leave::Lost);
        w.leave(&b, Leave::Lost);
    }
}
