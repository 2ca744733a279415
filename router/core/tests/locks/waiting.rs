//! Standing in line.

use crate::common::*;
use crate::lab::*;
use router_core::limits::RealmLimits;
use router_core::model::CancelMode;
use serde_json::{Value, json};

fn write(request: u64) -> Pub {
    put(request, "k", json!([{"by": "write"}]))
        .when(json!(null))
        .watch()
}

#[test]
fn whoever_waits_is_served_in_the_order_of_coming() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let mut token = l.hold(&a, json!({}));
    for peer in [&c, &b, &d] {
        assert_eq!(l.acquire(peer, 1, json!({})), NONE);
    }
    let mut holder = a.clone();
    for next in [&c, &b, &d] {
        l.release(&holder, token);
        let waiting = [&b, &c, &d].map(|peer| (peer.id(), l.lines(peer)));
        for (id, lines) in waiting {
            assert_eq!(lines.len(), usize::from(id == next.id()));
        }
        holder = next.clone();
        token = l.inspect(next)["token"].as_u64().unwrap();
    }
}

#[test]
fn requests_and_waiting_writes_stand_in_one_line() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let token = l.hold(&a, json!({}));
    assert_eq!(l.ask(&b, write(1).will(json!(null))), NONE);
    assert_eq!(l.acquire(&c, 1, json!({})), NONE);
    assert_eq!(l.ask(&d, write(1)), NONE);
    l.release(&a, token);
    assert_eq!(l.lines(&b), ["done 1 published unmatched"]);
    assert_eq!(
        l.lines(&c),
        NONE,
        "the write came first, and it holds the key"
    );
    assert_eq!(l.ask(&b, put(2, "k", json!([]))).len(), 1);
    assert!(l.lines(&c)[0].starts_with("result 1"));
    assert_eq!(l.lines(&d), NONE);
    l.leave(&c);
    assert_eq!(l.lines(&d), ["done 1 published unmatched"]);
}

#[test]
fn a_waiting_write_keeps_out_those_who_would_fit_beside_the_holders() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    l.hold(&a, json!({"mode": "shared"}));
    assert_eq!(l.ask(&b, write(1)), NONE);
    assert_eq!(l.acquire(&c, 1, json!({"mode": "shared"})), NONE);
    l.leave(&a);
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.lines(&c), NONE);
}

#[test]
fn a_write_that_waits_for_a_value_stands_aside() {
    let mut l = Lab::new();
    let [a, b, c] = l.peers();
    l.hold(&a, json!({"mode": "shared"}));
    let patient = put(1, "k", json!([2])).when(json!("never")).watch();
    assert_eq!(l.ask(&b, patient), NONE);
    assert_eq!(l.acquire(&c, 1, json!({"mode": "shared"})).len(), 1);
    assert_eq!(
        l.queue(&b, 2, json!({})),
        ["result 2 [{\"key\":\"k\",\"position\":1}] more"]
    );
}

#[test]
fn a_write_whose_condition_fits_what_a_held_key_says_waits_for_the_end_of_the_hold() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({"data": {"by": "a"}}));
    let fits = || put(1, "k", json!([2])).when(json!({"by": "a"}));
    assert_eq!(l.ask(&b, fits().watch()), NONE);
    assert_eq!(l.ask(&b, fits()), ["refused 1 LockHeld"]);
    l.release(&a, token);
    assert_eq!(l.lines(&b), NONE);
    l.ask(&a, put(1, "k", json!([{"by": "a"}])));
    assert_eq!(l.lines(&b), ["done 1 published unmatched"]);
}

#[test]
fn waiting_ends_after_wait_ms_or_the_timeout_of_the_call_whichever_is_first() {
    for (wait, timeout, ends) in [
        (Some(500), None, Some(500)),
        (None, Some(400), Some(400)),
        (Some(500), Some(400), Some(400)),
        (Some(300), Some(400), Some(300)),
        (None, None, None),
    ] {
        let mut l = Lab::new();
        let [a, b] = l.peers();
        l.hold(&a, json!({}));
        let args = json!(["k", {"wait_ms": wait}]);
        let ask = call_with(1, "fox/lock/acquire", args, false, timeout.map(ms));
        assert_eq!(l.ask(&b, ask), NONE);
        let Some(ends) = ends else {
            l.pass(secs(1_000_000));
            assert_eq!(l.lines(&b), NONE);
            continue;
        };
        l.pass(ms(ends - 1));
        assert_eq!(l.lines(&b), NONE);
        l.pass(ms(1));
        assert_eq!(l.lines(&b), ["failed 1 Timeout {\"key\":\"k\"}"]);
        assert_eq!(l.inspect(&a)["waiting"], 0);
        assert_eq!(l.w.size("timers"), 0);
        assert_eq!(l.w.realm.counters().lock_timeouts, 1);
    }
}

#[test]
fn a_grant_takes_the_deadline_with_it() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    let token = l.hold(&a, json!({}));
    l.acquire(&b, 1, json!({"wait_ms": 500}));
    l.release(&a, token);
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.w.size("timers"), 0);
    l.pass(secs(10));
    assert_eq!(l.lines(&b), NONE);
}

#[test]
fn cancel_leaves_the_line_in_every_mode() {
    for mode in [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait] {
        let mut l = Lab::new();
        let [a, b, c] = l.peers();
        let token = l.hold(&a, json!({}));
        l.acquire(&b, 7, json!({}));
        l.acquire(&c, 7, json!({}));
        let canceled = ["failed 7 Canceled {\"key\":\"k\"}"];
        assert_eq!(l.ask(&b, cancel(7, mode)), canceled);
        assert_eq!(l.ask(&b, cancel(7, mode)), NONE, "once");
        l.release(&a, token);
        assert_eq!(l.lines(&b), NONE);
        assert_eq!(l.lines(&c).len(), 1);
        // The id is free again.
        assert_eq!(l.acquire(&b, 7, json!({})), NONE);
    }
}

#[test]
fn a_session_that_ends_leaves_every_line_before_its_holds_end() {
    let mut l = Lab::new();
    let [a, b] = l.peers();
    l.hold(&a, json!({}));
    // It waits for itself, twice; nobody may be granted what its own end releases.
    l.acquire(&a, 1, json!({}));
    l.acquire(&a, 2, json!({}));
    l.acquire(&b, 1, json!({}));
    l.leave(&a);
    assert_eq!(l.lines(&b).len(), 1);
    assert_eq!(l.inspect(&b)["waiting"], 0);
    assert_eq!(l.w.size("holds"), 1);
}

#[test]
fn a_connection_that_goes_leaves_the_line_even_if_its_session_stays() {
    let mut l = Lab::new();
    let (a, c) = (l.peer(), l.peer());
    let b = l.join(client("b").expiry(100));
    let token = l.hold(&a, json!({}));
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    l.acquire(&c, 1, json!({}));
    l.leave(&b);
    l.release(&a, token);
    assert_eq!(l.lines(&c).len(), 1);
}

#[test]
fn a_hold_stays_with_a_session_that_outlives_its_connection_until_that_ends() {
    let mut l = Lab::new();
    let a = l.join(client("a").expiry(100));
    let b = l.peer();
    l.hold(&a, json!({}));
    l.acquire(&b, 1, json!({}));
    l.leave(&a);
    l.pass(secs(99));
    assert_eq!(l.lines(&b), NONE);
    l.pass(secs(1));
    assert_eq!(l.lines(&b).len(), 1);
}

#[test]
fn lines_are_bounded_per_key_and_per_session() {
    let mut l = Lab::limited(RealmLimits {
        waiters_per_key: 2,
        waiters_per_session: 1,
        ..RealmLimits::default()
    });
    let [a, b, c, d] = l.peers();
    l.hold(&a, json!({}));
    let full = ["failed 2 QueueFull {\"key\":\"k\"}"];
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(l.acquire(&b, 2, json!({})), full, "one session");
    assert_eq!(l.acquire(&c, 1, json!({})), NONE);
    assert_eq!(l.acquire(&d, 2, json!({})), full, "one key");
    assert_eq!(l.ask(&d, write(3)), ["refused 3 QuotaExceeded"]);
    l.cancel(&c, 1);
    assert_eq!(l.acquire(&d, 3, json!({})), NONE, "its place is free again");
    assert_eq!(l.w.realm.counters().quota_refused, 3);
}

#[test]
fn what_waits_counts_among_the_open_calls_of_its_session() {
    let mut l = Lab::limited(RealmLimits {
        calls_per_session: 1,
        ..RealmLimits::default()
    });
    let [a, b] = l.peers();
    l.hold(&a, json!({}));
    assert_eq!(l.acquire(&b, 1, json!({})), NONE);
    assert_eq!(l.acquire(&b, 2, json!({})), ["failed 2 QuotaExceeded"]);
}

fn places(lines: &[String]) -> Vec<u64> {
    let place = |line: &String| {
        let text = line.strip_prefix("result 1 ")?.strip_suffix(" more")?;
        let value: Value = serde_json::from_str(text).ok()?;
        value[0]["position"].as_u64()
    };
    lines.iter().filter_map(place).collect()
}

#[test]
fn whoever_asked_for_it_is_told_its_place_when_it_comes_and_at_each_step() {
    let mut l = Lab::new();
    let [a, b, c, d] = l.peers();
    let token = l.hold(&a, json!({}));
    l.acquire(&b, 1, json!({}));
    assert_eq!(
        l.queue(&c, 1, json!({})),
        ["result 1 [{\"key\":\"k\",\"position\":2}] more"]
    );
    assert_eq!(places(&l.queue(&d, 1, json!({}))), [3]);
    l.release(&a, token);
    assert_eq!(places(&l.lines(&c)), [1]);
    assert_eq!(places(&l.lines(&d)), [2]);
    assert_eq!(
        l.lines(&b).len(),
        1,
        "who did not ask is told of the grant only"
    );
    // Who leaves from the middle moves those behind only.
    l.cancel(&c, 1);
    assert_eq!(places(&l.lines(&d)), [1]);
    l.leave(&b);
    let lines = l.lines(&d);
    assert!(
        lines.len() == 1 && lines[0].contains("\"position\":0"),
        "{lines:?}"
    );
}

#[test]
fn a_request_that_is_granted_at_once_is_told_no_place() {
    let mut l = Lab::new();
    let a = l.peer();
    let lines = l.queue(&a, 1, json!({}));
    assert!(lines.len() == 1 && !lines[0].ends_with("more"), "{lines:?}");
}

#[test]
fn a_hand_over_in_a_long_line_costs_little() {
    let mut l = Lab::limited(RealmLimits {
        waiters_per_session: 10_000,
        ..RealmLimits::default()
    });
    let [a, b] = l.peers();
    let mut token = l.hold(&a, json!({}));
    for request in 1..=1_000_u64 {
        let args = json!(["k"]);
        l.w.send(&b, call_with(request, "fox/lock/acquire", args, true, None));
    }
    let told = l.w.read(&b).len();
    assert_eq!(told, 1_000, "each when it came");
    let mut worst = 0;
    let mut seen = vec![Vec::new(); 1_001];
    let mut holder = a.clone();
    for _ in 0..1_000 {
        l.w.send(&holder, call(5_000, "fox/lock/release", json!([token])));
        let deliveries = l.w.read(&b);
        let mut steps = 0;
        for delivery in deliveries {
            let router_core::model::Delivery::Result {
                request,
                payload,
                progress,
            } = delivery
            else {
                panic!("{delivery:?}");
            };
            let value = payload.value().clone();
            if progress {
                steps += 1;
                let at = usize::try_from(request.0).unwrap();
                seen[at].push(value["position"].as_u64().unwrap());
            } else if request.0 <= 1_000 {
                token = value["token"].as_u64().unwrap();
            }
        }
        worst = worst.max(steps);
        holder = b.clone();
    }
    assert!(worst <= 10 + 6, "{worst} messages for one hand-over");
    let last: Vec<u64> = vec![512, 256, 128, 64, 32, 16, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
    assert_eq!(seen[1_000], last);
}

#[test]
fn many_that_come_in_at_once_move_the_others_past_powers_of_two() {
    let mut l = Lab::limited(RealmLimits {
        waiters_per_session: 10_000,
        ..RealmLimits::default()
    });
    let [a, b, c] = l.peers();
    let token = l.hold(&a, json!({}));
    for request in 100..107_u64 {
        l.w.send(
            &c,
            call(
                request,
                "fox/lock/acquire",
                json!(["k", {"mode": "shared"}]),
            ),
        );
    }
    for request in 1..=40_u64 {
        let args = json!(["k"]);
        l.w.send(&b, call_with(request, "fox/lock/acquire", args, true, None));
    }
    l.w.read(&b);
    l.release(&a, token);
    let mut told = Vec::new();
    for delivery in l.w.read(&b) {
        if let router_core::model::Delivery::Result {
            request, payload, ..
        } = delivery
        {
            told.push((request.0, payload.value()["position"].as_u64().unwrap()));
        }
    }
    told.sort_unstable();
    // Request n stood at n + 7 and stands at n now.
    let near = (1..=10).map(|n| (n, n));
    let passed = (11..=40).filter(|n| [16, 32].iter().any(|p| *n <= *p && n + 7 > *p));
    let expected: Vec<(u64, u64)> = near.chain(passed.map(|n| (n, n))).collect();
    assert_eq!(told, expected);
}
