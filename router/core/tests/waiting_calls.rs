//! Calls that only some callees may take: they find those, and stand in nobody's way.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::model::{
    Call, Command, Delivery, InvokePolicy, MatchKind, Payload, RequestId, Seal,
};
use router_core::session::{Features, Join};
use serde_json::json;

fn features(sealed: bool, bare: bool) -> Join {
    ordered().features(Features {
        callee_opens_sealed: sealed,
        callee_opens_bare: bare,
        ..Features::default()
    })
}

fn sealed(request: u64, bare: bool) -> Command {
    let seal = Seal {
        notes: Vec::new(),
        bare,
    };
    Command::Call(Box::new(Call {
        request: RequestId(request),
        procedure: topic("p"),
        payload: Payload::sealed(args(&json!(["secret"])), seal),
        progress: false,
        more: false,
        timeout: None,
        disclose_me: false,
    }))
}

/// Callees of one procedure with one slot each.
fn callees(w: &mut World, joins: Vec<Join>) -> Vec<Peer> {
    let mut peers = Vec::new();
    for join in joins {
        let peer = w.join(join);
        w.send(&peer, shared(1, "p", InvokePolicy::RoundRobin, Some(1)));
        w.read(&peer);
        peers.push(peer);
    }
    peers
}

fn calls_at(w: &mut World, peer: &Peer) -> Vec<u64> {
    let of = |delivery| match delivery {
        Delivery::Invocation(call) => Some(call.invocation.0),
        _ => None,
    };
    w.read(peer).into_iter().filter_map(of).collect()
}

#[test]
fn sealed_arguments_go_to_a_callee_that_opens_them() {
    let mut w = World::memory();
    let caller = w.plain();
    let joins = vec![
        features(false, false),
        features(true, false),
        features(false, true),
    ];
    let peers = callees(&mut w, joins);
    w.send(&caller, sealed(1, false));
    w.send(&caller, sealed(2, true));
    let got: Vec<usize> = peers
        .iter()
        .map(|peer| calls_at(&mut w, peer).len())
        .collect();
    assert_eq!(got, [0, 1, 1]);
    // Where it is busy they wait for it, and for nobody else.
    w.send(&caller, sealed(3, false));
    w.send(&caller, call(4, "p", json!([])));
    assert_eq!(calls_at(&mut w, &peers[0]), [1]);
    assert_eq!(
        w.ask(&peers[1], answer(1, json!([]))),
        ["invocation 2 p [\"secret\"]"]
    );
    // With it the last who opens them has gone.
    w.send(&caller, sealed(5, false));
    w.read(&caller);
    w.leave(&peers[1], router_core::session::Leave::Lost);
    assert_eq!(
        w.lines(&caller),
        ["failed 5 FeatureNotSupported", "failed 3 Canceled"]
    );
    assert_eq!(
        w.ask(&caller, sealed(6, false)),
        ["failed 6 FeatureNotSupported"]
    );
}

#[test]
fn any_number_of_calls_for_a_busy_callee_leave_the_idle_ones_to_others() {
    let mut w = World::memory();
    let caller = w.plain();
    let peers = callees(&mut w, vec![features(true, false), features(false, false)]);
    for request in 1..202 {
        w.send(&caller, sealed(request, false));
    }
    assert_eq!(calls_at(&mut w, &peers[0]), [1]);
    w.send(&caller, call(300, "p", json!([])));
    assert_eq!(calls_at(&mut w, &peers[1]), [1], "at once");
    w.send(&caller, call(301, "p", json!([])));
    assert!(calls_at(&mut w, &peers[1]).is_empty());
    w.send(&peers[1], answer(1, json!([])));
    assert_eq!(
        calls_at(&mut w, &peers[1]),
        [2],
        "and when it is free again"
    );
}

#[test]
fn calls_of_many_procedures_that_a_role_may_not_take_leave_it_to_others() {
    let mut w = World::memory();
    let caller = w.plain();
    let rules = ["register #"];
    let denied = w.join(named("some", role("some", &rules, &["register a/secret"])));
    let all = w.plain();
    for peer in [&denied, &all] {
        let offer = reg(1, MatchKind::Prefix, "a/")
            .policy(InvokePolicy::First)
            .concurrency(1);
        w.send(peer, offer.into());
        w.read(peer);
    }
    w.send(&caller, call(1, "a/secret", json!([])));
    for request in 2..102 {
        w.send(&caller, call(request, "a/secret", json!([])));
    }
    assert_eq!(calls_at(&mut w, &all), [1]);
    assert!(calls_at(&mut w, &denied).is_empty());
    w.send(&caller, call(200, "a/open", json!([])));
    assert_eq!(calls_at(&mut w, &denied), [1]);
}
