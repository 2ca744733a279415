//! Who may hold a key beside whom.

use crate::common::*;
use crate::lab::*;
use router_core::limits::RealmLimits;
use serde_json::{Value, json};

fn shared() -> Value {
    json!({"mode": "shared"})
}

fn permit(permits: u64, limit: u64) -> Value {
    json!({"mode": "permit", "permits": permits, "limit": limit})
}

#[test]
fn each_mode_lets_in_what_fits_and_nothing_else() {
    let wishes = [
        json!({}),
        json!({"mode": "mutex"}),
        json!({"mode": "exclusive"}),
        shared(),
        permit(1, 2),
    ];
    for (i, first) in wishes.iter().enumerate() {
        for (j, second) in wishes.iter().enumerate() {
            let mut l = Lab::new();
            let [a, b] = l.peers();
            l.hold(&a, first.clone());
            let fits = i == j && i >= 3;
            let answer = l.try_acquire(&b, 1, second.clone());
            assert_eq!(answer[0].starts_with("result"), fits, "{first} {second}");
        }
    }
}

#[test]
fn permits_are_counted_and_come_back() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    let token = l.hold(&a, permit(2, 3));
    assert_eq!(
        l.value(&a),
        json!({"mode": "permit", "limit": 3, "taken": 2})
    );
    assert_eq!(
        l.try_acquire(&b, 1, permit(2, 3)),
        ["failed 1 LockHeld {\"holders\":1,\"key\":\"k\"}"]
    );
    l.hold(&b, permit(1, 3));
    assert_eq!(l.acquire(&c, 1, permit(1, 3)), NONE);
    l.release(&a, token);
    assert_eq!(l.lines(&c).len(), 1);
    assert_eq!(
        l.value(&a),
        json!({"mode": "permit", "limit": 3, "taken": 2})
    );
}

#[test]
fn the_first_holder_fixes_how_many_permits_there_are() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, permit(1, 2));
    let other = ["failed 1 InvalidArgument {\"key\":\"k\"}"];
    assert_eq!(l.acquire(&b, 1, permit(1, 3)), other);
    assert_eq!(l.try_acquire(&b, 1, permit(1, 1)), other);
    let again = json!({"mode": "permit", "limit": 3, "reentrant": true});
    assert_eq!(l.acquire(&a, 1, again), other);
    l.release(&a, token);
    l.hold(&b, permit(1, 3));
}

#[test]
fn who_waited_with_a_limit_that_does_not_hold_any_more_is_refused_and_lets_the_next_pass() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let token = l.hold(&a, json!({}));
    for (peer, limit) in [(&b, 2), (&c, 3), (&d, 2)] {
        assert_eq!(l.acquire(peer, 1, permit(1, limit)), NONE);
    }
    l.release(&a, token);
    assert!(l.lines(&b)[0].starts_with("result 1"));
    assert_eq!(l.lines(&c), ["failed 1 InvalidArgument {\"key\":\"k\"}"]);
    assert!(l.lines(&d)[0].starts_with("result 1"));
}

#[test]
fn those_who_fit_do_not_pass_one_who_waits_before_them() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let token = l.hold(&a, shared());
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(l.acquire(&c, 1, shared()), NONE, "behind the exclusive one");
    assert_eq!(
        l.try_acquire(&d, 1, shared()),
        ["failed 1 LockHeld {\"holders\":1,\"key\":\"k\"}"]
    );
    l.release(&a, token);
    assert_eq!(l.lines(&c), NONE);
    let answer = l.lines(&b);
    assert!(answer[0].starts_with("result 1"));
    let token = l.token(2);
    l.release(&b, token);
    assert_eq!(l.lines(&c).len(), 1);
}

#[test]
fn many_permits_are_not_starved_by_few() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let (first, second) = (l.hold(&a, permit(1, 3)), l.hold(&b, permit(1, 3)));
    assert_eq!(l.acquire(&c, 1, permit(3, 3)), NONE);
    assert_eq!(l.acquire(&d, 1, permit(1, 3)), NONE, "though one is free");
    l.release(&a, first);
    assert_eq!(l.lines(&c), NONE);
    l.release(&b, second);
    assert_eq!(l.lines(&c).len(), 1);
    assert_eq!(l.lines(&d), NONE);
}

#[test]
fn all_who_fit_come_in_together() {
    let mut l = Lab::new();
    let [a, b, c, d, e] = l.peers();
    let token = l.hold(&a, json!({}));
    for (peer, options) in [
        (&b, shared()),
        (&c, shared()),
        (&d, json!({})),
        (&e, shared()),
    ] {
        assert_eq!(l.acquire(peer, 1, options), NONE);
    }
    l.release(&a, token);
    assert_eq!([&b, &c, &d, &e].map(|p| l.lines(p).len()), [1, 1, 0, 0]);
    assert_eq!(l.value(&a), json!({"mode": "shared", "holders": 2}));
}

#[test]
fn when_who_blocked_the_line_gives_up_those_behind_come_in() {
    for how in 0..4 {
        let mut l = Lab::new();
        let [a, b, c, d] = l.peers();
        l.hold(&a, shared());
        let wait = json!({"wait_ms": 500});
        if how == 3 {
            let write = put(1, "k", json!([1])).when(json!(null)).watch_for(ms(500));
            assert_eq!(l.ask(&b, write), NONE);
        } else {
            assert_eq!(l.acquire(&b, 1, wait), NONE);
        }
        assert_eq!(l.acquire(&c, 1, shared()), NONE);
        assert_eq!(l.acquire(&d, 1, shared()), NONE);
        match how {
            0 => assert_eq!(l.cancel(&b, 1), ["failed 1 Canceled {\"key\":\"k\"}"]),
            1 => l.leave(&b),
            _ => l.pass(ms(500)),
        }
        assert_eq!(l.lines(&c).len(), 1, "{how}");
        assert_eq!(l.lines(&d).len(), 1, "{how}");
        assert_eq!(l.w.size("timers"), 0);
    }
}

#[test]
fn one_key_has_a_bounded_number_of_holders_and_further_ones_wait() {
    let mut l = Lab::limited(RealmLimits {
        holders_per_key: 2,
        ..RealmLimits::default()
    });
    let [a, b, c] = l.peers();
    let token = l.hold(&a, shared());
    l.hold(&b, shared());
    assert_eq!(l.acquire(&c, 1, shared()), NONE);
    l.release(&a, token);
    assert_eq!(l.lines(&c).len(), 1);
}
