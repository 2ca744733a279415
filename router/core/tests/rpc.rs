//! Calls: every one ends exactly once, whoever vanishes when.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Call, CancelMode, Command, InvokePolicy, RequestId};
use router_core::session::{Features, Leave};
use serde_json::json;

const NONE: [&str; 0] = [];

/// A world with a caller and a callee that offers `p` under `policy`.
fn pair(concurrency: Option<u32>) -> (World, Peer, Peer) {
    let mut w = World::memory();
    let (caller, callee) = (w.plain(), w.plain());
    let policy = if concurrency.is_some() {
        InvokePolicy::FirstFree
    } else {
        InvokePolicy::Single
    };
    assert_eq!(
        w.ask(&callee, shared(1, "p", policy, concurrency)),
        ["done 1 registered 1"]
    );
    (w, caller, callee)
}

#[test]
fn a_result_and_an_error_reach_the_caller_unchanged() {
    let (mut w, caller, callee) = pair(None);
    assert_eq!(w.ask(&caller, call(7, "p", json!([1, "x"]))), NONE);
    assert_eq!(w.lines(&callee), ["invocation 1 p [1,\"x\"]"]);
    w.send(&callee, answer(1, json!([{"a": null}])));
    assert_eq!(w.lines(&caller), ["result 7 [{\"a\":null}]"]);
    w.send(&caller, call(8, "p", json!(null)));
    w.send(&callee, fails(2, "com.my.error", json!(["why"])));
    assert_eq!(w.lines(&caller), ["failed 8 com.my.error [\"why\"]"]);
    assert_eq!(
        w.ask(&caller, call(9, "q", json!([]))),
        ["failed 9 NoSuchProcedure"]
    );
    assert_eq!(w.size("open_calls"), 0);
}

#[test]
fn a_caller_may_call_itself_and_is_disclosed_on_request() {
    let mut w = World::memory();
    let a = w.plain();
    w.ask(&a, register(1, "p"));
    let command = Command::Call(Box::new(Call {
        request: RequestId(2),
        procedure: topic("p"),
        payload: args(&json!([])),
        progress: false,
        more: false,
        timeout: None,
        disclose_me: true,
    }));
    let expected = format!("invocation 1 p [] by {} somebody anonymous", a.id());
    assert_eq!(w.ask(&a, command), [expected]);
    assert_eq!(w.ask(&a, answer(1, json!([]))), ["result 2 []"]);
    // And may leave in the middle of it.
    w.ask(&a, call(3, "p", json!([])));
    w.leave(&a, Leave::Lost);
    assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 0));
}

#[test]
fn concurrency_is_never_exceeded_and_the_queue_is_first_in_first_out() {
    let (mut w, caller, callee) = pair(Some(2));
    for request in 1..=5 {
        w.send(&caller, call(request, "p", json!([request])));
    }
    assert_eq!(
        w.lines(&callee),
        ["invocation 1 p [1]", "invocation 2 p [2]"]
    );
    assert_eq!(
        w.ask(&callee, answer(2, json!(["b"]))),
        ["invocation 3 p [3]"]
    );
    assert_eq!(
        w.ask(&callee, fails(1, "e", json!([]))),
        ["invocation 4 p [4]"]
    );
    assert_eq!(w.ask(&callee, answer(9, json!([]))), ["ended violation"]);
    assert_eq!(
        w.lines(&caller),
        [
            "result 2 [\"b\"]",
            "failed 1 e []",
            "failed 5 NoSuchProcedure",
            "failed 3 Canceled",
            "failed 4 Canceled"
        ]
    );
}

#[test]
fn progressive_results_do_not_free_slots() {
    let (mut w, caller, callee) = pair(Some(1));
    w.send(&caller, call_with(1, "p", json!([]), true, None));
    w.send(&caller, call(2, "p", json!([])));
    assert_eq!(w.lines(&callee), ["invocation 1 p [] progress"]);
    for n in 0..3 {
        assert_eq!(w.ask(&callee, progress(1, json!([n]))), NONE);
    }
    assert_eq!(
        w.ask(&callee, answer(1, json!(["end"]))),
        ["invocation 2 p []"]
    );
    assert_eq!(
        w.lines(&caller),
        [
            "result 1 [0] more",
            "result 1 [1] more",
            "result 1 [2] more",
            "result 1 [\"end\"]"
        ]
    );
    // The second caller did not ask for progress.
    w.send(&callee, progress(2, json!([0])));
    assert_eq!(w.lines(&caller), NONE);
    assert_eq!(w.realm.counters().answers_discarded, 1);
    w.send(&callee, answer(2, json!([])));
    assert_eq!(w.lines(&caller), ["result 2 []"]);
}

#[test]
fn progress_is_offered_only_to_callees_that_know_it() {
    let mut w = World::memory();
    let (caller, callee) = (w.plain(), w.join(ordered().features(Features::default())));
    w.lines(&callee);
    w.ask(&callee, register(1, "p"));
    w.send(&caller, call_with(1, "p", json!([]), true, None));
    assert_eq!(w.lines(&callee), ["invocation 1 p []"]);
}

#[test]
fn a_slot_stays_taken_over_a_withdrawal() {
    // Another callee keeps the registration alive, so the id is the same after registering again.
    let (mut w, caller, callee) = pair(Some(1));
    let other = w.plain();
    w.ask(&other, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    w.send(&caller, call(1, "p", json!([])));
    assert_eq!(w.lines(&callee), ["invocation 1 p []"]);
    w.send(&caller, call(2, "p", json!([])));
    assert_eq!(w.lines(&other), ["invocation 1 p []"]);
    w.ask(&callee, unregister(2, 1));
    assert_eq!(
        w.ask(&callee, shared(3, "p", InvokePolicy::FirstFree, Some(1))),
        ["done 3 registered 1"]
    );
    w.send(&caller, call(3, "p", json!([])));
    assert_eq!(w.lines(&callee), NONE, "it still works on the first call");
    w.send(&caller, call(4, "p", json!([])));
    assert_eq!(w.ask(&callee, answer(1, json!([]))), ["invocation 2 p []"]);
    assert_eq!(w.lines(&other), NONE);
    assert_eq!(w.ask(&callee, answer(2, json!([]))), ["invocation 3 p []"]);
}

#[test]
fn a_callee_that_vanishes_fails_its_calls_and_the_queue_if_it_was_the_last() {
    for how in ["leave", "kill", "unregister"] {
        let (mut w, caller, callee) = pair(Some(1));
        for request in 1..=3 {
            w.send(&caller, call(request, "p", json!([])));
        }
        w.lines(&callee);
        match how {
            "leave" => w.leave(&callee, Leave::Lost),
            "kill" => w.send(&callee, answer(99, json!([]))),
            _ => w.send(&callee, unregister(5, 1)),
        }
        let mut lines = w.lines(&caller);
        lines.sort();
        let (queued, running) = (
            ["failed 2 NoSuchProcedure", "failed 3 NoSuchProcedure"],
            "failed 1 Canceled",
        );
        if how == "unregister" {
            assert_eq!(lines, queued, "what runs may end");
            w.send(&callee, answer(1, json!([])));
            assert_eq!(w.lines(&caller), ["result 1 []"]);
        } else {
            assert_eq!(lines, [running, queued[0], queued[1]], "{how}");
        }
        assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 0));
    }
}

#[test]
fn a_queued_call_survives_one_of_several_callees() {
    let (mut w, caller, callee) = pair(Some(1));
    let other = w.plain();
    w.ask(&other, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    for request in 1..=3 {
        w.send(&caller, call(request, "p", json!([])));
    }
    w.leave(&callee, Leave::Lost);
    assert_eq!(w.lines(&caller), ["failed 1 Canceled"]);
    assert_eq!(w.lines(&other), ["invocation 1 p []"]);
    assert_eq!(w.ask(&other, answer(1, json!([]))), ["invocation 2 p []"]);
    // A new callee takes from the queue at once.
    w.send(&caller, call(4, "p", json!([])));
    let third = w.plain();
    assert_eq!(
        w.ask(&third, shared(1, "p", InvokePolicy::FirstFree, None)),
        ["done 1 registered 1", "invocation 1 p []"]
    );
}

#[test]
fn a_caller_that_vanishes_interrupts_and_answers_are_discarded() {
    let (mut w, caller, callee) = pair(Some(1));
    w.send(&caller, call(1, "p", json!([])));
    w.send(&caller, call(2, "p", json!([])));
    w.lines(&callee);
    w.leave(&caller, Leave::Lost);
    assert_eq!(w.lines(&callee), ["interrupt 1"]);
    let next = w.plain();
    w.send(&next, call(1, "p", json!(["next"])));
    assert_eq!(w.lines(&callee), NONE, "the slot is taken until it answers");
    assert_eq!(
        w.ask(&callee, answer(1, json!([]))),
        ["invocation 2 p [\"next\"]"]
    );
    assert_eq!(w.realm.counters().answers_discarded, 1);
    assert_eq!(w.size("open_calls"), 1);
}

#[test]
fn cancel_modes() {
    // (mode, the callee understands, told to the callee, told to the caller at once)
    let cases = [
        (CancelMode::Skip, true, None, true),
        (CancelMode::Kill, true, Some("interrupt 1 wanted"), false),
        (CancelMode::KillNoWait, true, Some("interrupt 1"), true),
        (CancelMode::Kill, false, None, true),
        (CancelMode::KillNoWait, false, None, true),
    ];
    for (mode, call_canceling, to_callee, at_once) in cases {
        let mut w = World::memory();
        let features = Features {
            call_canceling,
            ..Features::default()
        };
        let (caller, callee) = (w.plain(), w.join(ordered().features(features)));
        w.lines(&callee);
        w.ask(&callee, register(1, "p"));
        w.send(&caller, call(1, "p", json!([])));
        w.lines(&callee);
        w.send(&caller, cancel(1, mode));
        w.send(&caller, cancel(77, mode));
        assert_eq!(w.lines(&callee), Vec::from_iter(to_callee), "{mode:?}");
        assert_eq!(w.lines(&caller).len(), usize::from(at_once), "{mode:?}");
        w.send(&callee, answer(1, json!(["late"])));
        let late = if at_once {
            vec![]
        } else {
            vec!["result 1 [\"late\"]"]
        };
        assert_eq!(w.lines(&caller), late, "{mode:?}");
        w.send(&caller, cancel(1, mode));
        assert_eq!(w.lines(&caller), NONE, "a cancel of a finished call");
        assert_eq!(w.size("open_calls"), 0);
    }
}

#[test]
fn a_queued_call_is_canceled_whatever_the_mode() {
    for mode in [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait] {
        let (mut w, caller, callee) = pair(Some(1));
        for request in 1..=3 {
            w.send(&caller, call(request, "p", json!([request])));
        }
        w.lines(&callee);
        assert_eq!(w.ask(&caller, cancel(2, mode)), ["failed 2 Canceled"]);
        assert_eq!(w.ask(&callee, answer(1, json!([]))), ["invocation 2 p [3]"]);
    }
}

#[test]
fn kill_then_impatience_ends_the_call_once() {
    let (mut w, caller, callee) = pair(None);
    w.send(&caller, call(1, "p", json!([])));
    w.send(&caller, cancel(1, CancelMode::Kill));
    w.send(&caller, cancel(1, CancelMode::KillNoWait));
    assert_eq!(
        w.lines(&callee),
        ["invocation 1 p []", "interrupt 1 wanted"],
        "asked once"
    );
    assert_eq!(w.lines(&caller), ["failed 1 Canceled"]);
    w.send(&callee, answer(1, json!([])));
    assert_eq!(w.lines(&caller), NONE);
    assert_eq!(
        w.lines(&callee),
        NONE,
        "an answer that crossed is no violation"
    );
}

#[test]
fn timeouts_end_running_and_queued_calls() {
    let (mut w, caller, callee) = pair(Some(1));
    w.send(&caller, call_with(1, "p", json!([]), false, Some(ms(100))));
    w.send(&caller, call_with(2, "p", json!([]), false, Some(ms(50))));
    w.lines(&callee);
    w.pass(ms(50));
    assert_eq!(w.lines(&caller), ["failed 2 Timeout"]);
    w.pass(ms(49));
    assert_eq!(w.lines(&caller), NONE);
    w.pass(ms(1));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
    assert_eq!(w.lines(&callee), ["interrupt 1 Timeout"]);
    w.send(&callee, answer(1, json!([])));
    assert_eq!(w.lines(&caller), NONE);
    assert_eq!((w.size("open_calls"), w.size("timers")), (0, 0));
}

#[test]
fn an_answer_takes_its_timer_away() {
    let (mut w, caller, callee) = pair(None);
    w.send(&caller, call_with(1, "p", json!([]), false, Some(ms(100))));
    w.send(&callee, answer(1, json!([])));
    w.pass(secs(1));
    assert_eq!(w.lines(&caller), ["result 1 []"]);
    assert_eq!(w.size("timers"), 0);
}

#[test]
fn each_progressive_result_gives_the_callee_its_time_anew() {
    let (mut w, caller, callee) = pair(None);
    w.send(&caller, call_with(1, "p", json!([]), true, Some(ms(100))));
    w.pass(ms(80));
    w.send(&callee, progress(1, json!([1])));
    w.pass(ms(80));
    assert_eq!(w.lines(&caller), ["result 1 [1] more"]);
    w.pass(ms(20));
    assert_eq!(w.lines(&caller), ["failed 1 Timeout"]);
    w.send(&callee, progress(1, json!([2])));
    assert_eq!((w.lines(&caller).len(), w.size("timers")), (0, 0));
}

#[test]
fn stale_answers_are_discarded_and_impossible_ones_end_the_session() {
    let (mut w, caller, callee) = pair(None);
    w.send(&caller, call(1, "p", json!([])));
    w.send(&callee, answer(1, json!([])));
    for _ in 0..2 {
        w.send(&callee, answer(1, json!([])));
        w.send(&callee, fails(1, "e", json!([])));
    }
    assert_eq!(w.lines(&caller), ["result 1 []"]);
    assert_eq!(w.realm.counters().answers_discarded, 4);
    w.send(&callee, fails(2, "e", json!([])));
    assert_eq!(w.lines(&callee).pop().unwrap(), "ended violation");
    assert_eq!(w.realm.counters().ended_violation, 1);
    assert_eq!(w.size("sessions"), 1);
}

#[test]
fn who_may_share_a_procedure() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    let all = [
        InvokePolicy::Single,
        InvokePolicy::RoundRobin,
        InvokePolicy::Random,
        InvokePolicy::First,
        InvokePolicy::Last,
        InvokePolicy::FirstFree,
    ];
    for (i, first) in all.into_iter().enumerate() {
        for second in all {
            let on = format!("p/{i}/{second:?}");
            assert!(w.ask(&a, shared(1, &on, first, None))[0].starts_with("done"));
            let answer = w.ask(&b, shared(1, &on, second, None));
            let shares = first == second && first != InvokePolicy::Single;
            assert_eq!(
                answer[0].starts_with("done"),
                shares,
                "{first:?} {second:?}"
            );
            if !shares {
                assert_eq!(answer, ["refused 1 ProcedureAlreadyExists"]);
            }
            let again = w.ask(&a, shared(2, &on, first, None));
            assert_eq!(
                again,
                ["refused 2 ProcedureAlreadyExists"],
                "a session once"
            );
        }
    }
}

#[test]
fn policies_choose_the_callee() {
    let order = |policy: InvokePolicy| -> Vec<usize> {
        let mut w = World::memory();
        let caller = w.plain();
        let callees: Vec<Peer> = (0..3).map(|_| w.plain()).collect();
        for callee in &callees {
            w.ask(callee, shared(1, "p", policy, None));
        }
        (0..6)
            .map(|n| {
                w.send(&caller, call(n, "p", json!([])));
                callees
                    .iter()
                    .position(|callee| !w.lines(callee).is_empty())
                    .unwrap()
            })
            .collect()
    };
    assert_eq!(order(InvokePolicy::RoundRobin), [0, 1, 2, 0, 1, 2]);
    assert_eq!(order(InvokePolicy::First), [0; 6]);
    assert_eq!(order(InvokePolicy::Last), [2; 6]);
    assert_eq!(order(InvokePolicy::FirstFree), [0; 6]);
}

#[test]
fn registrations_are_checked() {
    let mut w = World::memory();
    let (a, b) = (w.plain(), w.plain());
    assert_eq!(
        w.ask(&a, shared(1, "p", InvokePolicy::FirstFree, Some(0))),
        ["refused 1 InvalidArgument"]
    );
    for own in ["wamp/session/count", "wamp/x", "fox/kv/get"] {
        assert_eq!(w.ask(&a, register(2, own)), ["refused 2 NotAuthorized"]);
    }
    w.ask(&a, register(3, "p"));
    assert_eq!(
        w.ask(&b, unregister(4, 1)),
        ["refused 4 NoSuchRegistration"]
    );
    assert_eq!(w.ask(&a, unregister(5, 1)), ["done 5 unregistered"]);
    assert_eq!(
        w.ask(&a, unregister(6, 1)),
        ["refused 6 NoSuchRegistration"]
    );
    let c = w.join(named("c", role("r", &["call p", "register p"], &[])));
    w.lines(&c);
    assert_eq!(w.ask(&c, register(1, "q")), ["refused 1 NotAuthorized"]);
    assert_eq!(
        w.ask(&c, call(2, "q", json!([]))),
        ["failed 2 NotAuthorized"]
    );
    assert_eq!(w.ask(&c, register(3, "p")).len(), 1);
}

#[test]
fn quotas_of_calls_and_registrations() {
    let limits = RealmLimits {
        registrations_per_session: 1,
        calls_per_session: 3,
        calls_queued_per_procedure: 1,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (caller, callee) = (w.plain(), w.plain());
    w.ask(&callee, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    assert_eq!(
        w.ask(&callee, register(2, "q")),
        ["refused 2 QuotaExceeded"]
    );
    assert_eq!(w.ask(&caller, call(1, "p", json!([]))), NONE);
    assert_eq!(w.ask(&caller, call(2, "p", json!([]))), NONE);
    assert_eq!(
        w.ask(&caller, call(3, "p", json!([]))),
        ["failed 3 QuotaExceeded"]
    );
    let free = w.plain();
    w.ask(&free, register(1, "free"));
    assert_eq!(w.ask(&caller, call(4, "free", json!([]))), NONE);
    assert_eq!(
        w.ask(&caller, call(5, "free", json!([]))),
        ["failed 5 QuotaExceeded"]
    );
}

#[test]
fn calling_and_cancelling_in_a_loop_does_not_use_up_the_queue() {
    let limits = RealmLimits {
        calls_queued_per_procedure: 5,
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (caller, callee) = (w.plain(), w.plain());
    w.ask(&callee, shared(1, "p", InvokePolicy::FirstFree, Some(1)));
    w.ask(&caller, call(1, "p", json!([])));
    for request in 2..2_000 {
        assert_eq!(w.ask(&caller, call(request, "p", json!([]))), NONE);
        let canceled = format!("failed {request} Canceled");
        assert_eq!(
            w.ask(&caller, cancel(request, CancelMode::Skip)),
            [canceled]
        );
    }
    w.ask(&caller, call(9_000, "p", json!(["last"])));
    w.lines(&callee);
    assert_eq!(
        w.ask(&callee, answer(1, json!([]))),
        ["invocation 2 p [\"last\"]"]
    );
}

#[test]
fn a_callee_that_does_not_read_ends_and_its_callers_hear_of_it() {
    let lane = LaneLimit {
        frames: 4,
        bytes: 1 << 20,
    };
    let limits = RealmLimits {
        outbox: OutboxLimits {
            ordered: lane,
            best: lane,
            sure: lane,
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let silent = ordered().features(Features::default());
    let (caller, callee) = (w.plain(), w.join(silent));
    w.lines(&callee);
    w.ask(&callee, register(1, "p"));
    // Four fit the callee's queue; with the fifth it has to go.
    for request in 1..=4 {
        assert_eq!(w.ask(&caller, call(request, "p", json!([]))), NONE);
    }
    w.leave(&caller, Leave::Lost);
    let caller = w.plain();
    let lines = w.ask(&caller, call(7, "p", json!([])));
    assert_eq!(lines, ["failed 7 Canceled"]);
    assert_eq!(w.lines(&callee).pop().as_deref(), Some("ended TooSlow"));
    assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 0));
    assert_eq!(w.realm.counters().ended_too_slow, 1);
}

#[test]
fn what_a_lasting_session_owes_and_is_owed_goes_with_its_connection() {
    let mut w = World::memory();
    let (caller, c) = (w.plain(), w.join(client("c").expiry(100)));
    w.lines(&c);
    w.ask(&c, register(1, "p"));
    w.ask(&caller, register(1, "q"));
    w.send(&caller, call(2, "p", json!([])));
    w.send(&c, call(3, "q", json!([])));
    w.lines(&caller);
    w.leave(&c, Leave::Lost);
    assert_eq!(w.lines(&caller), ["failed 2 Canceled", "interrupt 1"]);
    assert_eq!(
        w.ask(&caller, call(4, "p", json!([]))),
        ["failed 4 NoSuchProcedure"]
    );
    let again = w.join(client("c").expiry(100));
    w.send(&caller, answer(1, json!([])));
    assert_eq!(
        w.lines(&again),
        ["resumed"],
        "the former connection's request means nothing to it"
    );
}
