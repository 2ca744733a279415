//! Shared registrations whose callees take a limited number of calls at a time.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::model::{InvokePolicy, MatchKind};
use router_core::session::Leave;
use serde_json::json;

const NONE: [&str; 0] = [];

const SHARED: [InvokePolicy; 5] = [
    InvokePolicy::First,
    InvokePolicy::Last,
    InvokePolicy::RoundRobin,
    InvokePolicy::Random,
    InvokePolicy::FirstFree,
];

/// A caller, and callees that take so many calls of `p` at a time.
fn world(policy: InvokePolicy, limits: &[Option<u32>]) -> (World, Peer, Vec<Peer>) {
    let mut w = World::memory();
    let caller = w.plain();
    let callees = limits.iter().map(|most| {
        let callee = w.plain();
        w.ask(&callee, shared(1, "p", policy, *most));
        callee
    });
    let callees = callees.collect();
    (w, caller, callees)
}

#[test]
fn no_policy_exceeds_a_limit_while_another_callee_is_free() {
    for policy in SHARED {
        let (mut w, caller, callees) = world(policy, &[Some(1), Some(2), Some(3)]);
        for request in 1..=8 {
            w.send(&caller, call(request, "p", json!([request])));
        }
        let taken: Vec<usize> = callees.iter().map(|callee| w.lines(callee).len()).collect();
        assert_eq!(taken, [1, 2, 3], "{policy:?}");
        // What waits goes to whoever is free first, in the order it came.
        assert_eq!(
            w.ask(&callees[1], answer(1, json!([]))),
            ["invocation 3 p [7]"]
        );
        assert_eq!(
            w.ask(&callees[0], answer(1, json!([]))),
            ["invocation 2 p [8]"]
        );
        assert_eq!(w.ask(&callees[2], answer(1, json!([]))), NONE);
        assert_eq!(w.lines(&caller).len(), 3);
    }
}

#[test]
fn a_busy_favourite_is_the_favourite_again_once_it_is_free() {
    for (policy, favourite, other) in [
        (InvokePolicy::First, 0, 1),
        (InvokePolicy::FirstFree, 0, 1),
        (InvokePolicy::Last, 1, 0),
    ] {
        let (mut w, caller, callees) = world(policy, &[Some(1), Some(1)]);
        w.send(&caller, call(1, "p", json!([])));
        w.send(&caller, call(2, "p", json!([])));
        assert_eq!(w.lines(&callees[favourite]).len(), 1, "{policy:?}");
        assert_eq!(w.lines(&callees[other]).len(), 1, "{policy:?}");
        w.send(&callees[favourite], answer(1, json!([])));
        w.send(&callees[other], answer(1, json!([])));
        w.send(&caller, call(3, "p", json!([])));
        assert_eq!(w.lines(&callees[favourite]).len(), 1, "{policy:?}");
    }
}

#[test]
fn a_limited_callee_beside_an_unlimited_one_makes_nobody_wait() {
    for policy in SHARED {
        let (mut w, caller, callees) = world(policy, &[Some(1), None]);
        for request in 1..=20 {
            w.send(&caller, call(request, "p", json!([])));
        }
        let taken: Vec<usize> = callees.iter().map(|callee| w.lines(callee).len()).collect();
        assert_eq!(taken.iter().sum::<usize>(), 20, "{policy:?}");
        assert!(taken[0] <= 1, "{policy:?} {taken:?}");
    }
}

#[test]
fn patterns_are_shared_and_limited_like_procedures() {
    let mut w = World::memory();
    let (caller, a, b) = (w.plain(), w.plain(), w.plain());
    let offer = || reg(1, MatchKind::Prefix, "p/").policy(InvokePolicy::RoundRobin);
    for callee in [&a, &b] {
        let told = w.ask(callee, offer().concurrency(1).into());
        assert_eq!(told, ["done 1 registered 1"]);
    }
    for (request, name) in [(1, "p/x"), (2, "p/y"), (3, "p/z")] {
        w.send(&caller, call(request, name, json!([])));
    }
    assert_eq!(w.lines(&a), ["invocation 1 ~p/x []"]);
    assert_eq!(w.lines(&b), ["invocation 1 ~p/y []"]);
    assert_eq!(w.ask(&b, answer(1, json!([]))), ["invocation 2 ~p/z []"]);
    // The exact procedure is nobody's business but its own callee's, busy or not.
    w.ask(&b, shared(2, "p/x", InvokePolicy::Single, Some(1)));
    w.send(&caller, call(4, "p/x", json!([])));
    w.send(&caller, call(5, "p/x", json!([])));
    assert_eq!(w.lines(&a), NONE);
    assert_eq!(w.lines(&b), ["invocation 3 p/x []"]);
    w.leave(&b, Leave::Lost);
    let mut told = w.lines(&caller);
    told.sort();
    let expected = [
        "failed 3 Canceled",
        "failed 4 Canceled",
        "failed 5 NoSuchProcedure",
        "result 2 []",
    ];
    assert_eq!(told, expected);
}

#[test]
fn calls_that_wait_go_to_whoever_takes_the_registration_over() {
    let (mut w, caller, callees) = world(InvokePolicy::FirstFree, &[Some(1), Some(1)]);
    for request in 1..=5 {
        w.send(&caller, call(request, "p", json!([request])));
    }
    let taker = w.plain();
    let offer = reg(1, MatchKind::Exact, "p").concurrency(2).force();
    let told = w.ask(&taker, offer.into());
    let expected = [
        "done 1 registered 2",
        "invocation 1 p [3]",
        "invocation 2 p [4]",
    ];
    assert_eq!(told, expected);
    for callee in &callees {
        assert_eq!(
            w.lines(callee).pop().unwrap().get(..14),
            Some("unregistered 1")
        );
        w.send(callee, answer(1, json!([])));
    }
    assert_eq!(w.ask(&taker, answer(2, json!([]))), ["invocation 3 p [5]"]);
    w.send(&taker, answer(1, json!([])));
    w.send(&taker, answer(3, json!([])));
    assert_eq!(w.lines(&caller).len(), 5);
    assert_eq!((w.size("open_calls"), w.size("registrations")), (0, 1));
}

#[test]
fn a_quota_of_registrations_holds_for_a_take_over_too() {
    let limits = router_core::limits::RealmLimits {
        registrations_per_session: 1,
        ..router_core::limits::RealmLimits::default()
    };
    let mut w = World::limited(limits);
    let (a, b) = (w.plain(), w.plain());
    w.ask(&a, register(1, "p"));
    w.ask(&b, register(1, "q"));
    let told = w.ask(&b, reg(2, MatchKind::Exact, "p").force().into());
    assert_eq!(told, ["refused 2 QuotaExceeded"]);
    assert_eq!(w.lines(&a), NONE, "nobody lost anything for it");
}
