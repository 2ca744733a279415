//! The checker must not be easier to please than the contract, nor harder.

mod drawn;
mod keys;
mod locks;

use proptest::prelude::*;

use super::model::{Key, Token};
use super::*;

/// Builds a history by hand; instants are given.
fn op(session: u64, action: Action, invoked: u64, reply: Option<(u64, Reply)>) -> Op {
    Op {
        session,
        life: 0,
        action,
        invoked,
        reply,
    }
}

fn datum(number: u64) -> Datum {
    Datum { number, colour: 0 }
}

fn kept(number: u64) -> Kept {
    Kept::Datum(datum(number))
}

fn write(number: u64) -> Write {
    Write {
        value: Some(datum(number)),
        when: None,
        watch: false,
        timed: false,
        will: None,
    }
}

fn deletion() -> Write {
    Write {
        value: None,
        ..write(0)
    }
}

fn conditional(number: u64, when: Condition) -> Write {
    Write {
        when: Some(when),
        ..write(number)
    }
}

/// The README's lock.
fn lock(number: u64) -> Write {
    Write {
        watch: true,
        will: Some(None),
        ..conditional(number, Condition::Absent)
    }
}

fn written(session: u64, write: Write, at: (u64, u64), token: u64) -> Op {
    let reply = Some((at.1, Reply::Written(token)));
    op(session, Action::Write(write), at.0, reply)
}

fn refused(session: u64, write: Write, at: (u64, u64)) -> Op {
    op(
        session,
        Action::Write(write),
        at.0,
        Some((at.1, Reply::Refused)),
    )
}

fn lost(session: u64, write: Write, invoked: u64) -> Op {
    op(session, Action::Write(write), invoked, None)
}

fn read(session: u64, at: (u64, u64), value: Option<u64>, token: u64) -> Op {
    read_all(session, at, value, token, None, 0)
}

fn read_all(
    session: u64,
    at: (u64, u64),
    value: Option<u64>,
    token: u64,
    owner: Option<u64>,
    waiters: usize,
) -> Op {
    let reply = Reply::Read {
        value: value.map(kept),
        token,
        owner,
        waiters,
    };
    op(session, Action::Get, at.0, Some((at.1, reply)))
}

fn end(session: u64, invoked: u64) -> Op {
    op(session, Action::End, invoked, None)
}

fn restart(durable: bool, at: (u64, u64)) -> Op {
    Op {
        life: 1,
        ..op(
            0,
            Action::Restart { durable },
            at.0,
            Some((at.1, Reply::Ready)),
        )
    }
}

fn later(op: Op) -> Op {
    Op { life: 1, ..op }
}

fn assert_explained(ops: &[Op]) {
    assert!(
        matches!(check(ops, 0), Verdict::Linearizable(_)),
        "{ops:#?}"
    );
}

fn assert_violated(ops: &[Op]) {
    assert_eq!(check(ops, 0), Verdict::Violated, "{ops:#?}");
}

#[test]
fn a_read_may_see_either_side_of_a_concurrent_write() {
    let write = written(1, write(1), (1, 4), 10);
    assert_explained(&[write, read(2, (2, 3), None, 0)]);
    assert_explained(&[write, read(2, (2, 3), Some(1), 10)]);
}

#[test]
fn a_stale_read_is_a_violation() {
    let write = written(1, write(1), (1, 2), 10);
    assert_explained(&[write, read(2, (3, 4), Some(1), 10)]);
    assert_violated(&[write, read(2, (3, 4), None, 0)]);
}

#[test]
fn what_one_read_saw_a_later_one_must_not_miss() {
    let write = lost(1, write(1), 1);
    let (saw, missed) = (read(2, (2, 3), Some(1), 10), read(3, (4, 5), None, 0));
    assert_violated(&[write, saw, missed]);
    assert_explained(&[
        write,
        Op {
            invoked: 2,
            ..missed
        },
        saw,
    ]);
}

#[test]
fn two_winners_of_a_compare_and_set_are_a_violation() {
    let begin = written(1, write(1), (1, 2), 10);
    let first = written(1, conditional(2, Condition::Number(1)), (3, 6), 20);
    let second = conditional(3, Condition::Number(1));
    assert_explained(&[begin, first, refused(2, second, (4, 5))]);
    assert_violated(&[begin, first, written(2, second, (4, 5), 21)]);
}

#[test]
fn a_refusal_needs_a_reason() {
    let absent = conditional(1, Condition::Absent);
    assert_violated(&[refused(1, absent, (1, 2))]);
    // A write whose answer was lost is reason enough, but then it has happened.
    let cause = lost(2, write(2), 1);
    assert_explained(&[cause, refused(1, absent, (2, 3))]);
    assert_violated(&[cause, refused(1, absent, (2, 3)), read(1, (4, 5), None, 0)]);
}

#[test]
fn a_lost_write_is_a_violation() {
    let first = written(1, write(1), (1, 2), 10);
    let second = written(2, write(2), (3, 4), 20);
    assert_violated(&[first, second, read(3, (5, 6), Some(1), 10)]);
}

#[test]
fn a_token_never_goes_back() {
    let first = written(1, write(1), (1, 2), 10);
    assert_violated(&[first, written(2, write(2), (3, 4), 9)]);
    assert_violated(&[first, written(2, write(2), (3, 4), 10)]);
    assert_violated(&[first, read(2, (3, 4), Some(1), 9)]);
    // Nor over a write whose token nobody was told.
    let (unknown, seen) = (lost(2, deletion(), 3), read(3, (4, 5), None, 10));
    assert_violated(&[first, unknown, seen]);
    assert_explained(&[first, unknown, read(3, (4, 5), None, 11)]);
}

#[test]
fn an_unknown_write_happens_at_most_once() {
    let unknown = lost(1, write(1), 1);
    let ops = [
        unknown,
        read(2, (2, 3), Some(1), 5),
        written(2, deletion(), (4, 5), 6),
        read(2, (6, 7), Some(1), 7),
    ];
    assert_explained(&ops[..3]);
    assert_violated(&ops);
}

#[test]
fn waiting_writes_come_first_come_first_served() {
    let holder = written(1, lock(1), (1, 2), 10);
    let second = |token| written(2, lock(2), (3, 20), token);
    let looks = read_all(2, (4, 5), Some(1), 10, Some(1), 1);
    let third = |token| written(3, lock(3), (6, 21), token);
    let release = written(1, deletion(), (7, 8), 30);
    let again = written(2, deletion(), (22, 23), 50);
    // The third is granted by the second's release, which comes after the third's answer.
    assert_violated(&[holder, second(31), looks, third(51), release, again]);
    let third_after = written(3, lock(3), (6, 24), 51);
    assert_explained(&[holder, second(31), looks, third_after, release, again]);
    // Overtaken: the third has the lock when only one release happened.
    let waits = lost(2, lock(2), 3);
    assert_violated(&[holder, waits, looks, third(31), release]);
    // Without the look nobody knows who came first.
    assert_explained(&[holder, waits, third(31), release]);
}

#[test]
fn a_waiting_write_is_not_granted_before_its_condition_holds() {
    let holder = written(1, lock(1), (1, 2), 10);
    assert_violated(&[holder, written(2, lock(2), (3, 4), 20)]);
    assert_explained(&[holder, written(2, lock(2), (3, 4), 20), end(1, 3)]);
}

#[test]
fn the_waiting_are_counted() {
    let holder = written(1, lock(1), (1, 2), 10);
    let waits = lost(2, lock(2), 3);
    let looks = |waiters| read_all(2, (4, 5), Some(1), 10, Some(1), waiters);
    assert_explained(&[holder, waits, looks(1)]);
    assert_violated(&[holder, waits, looks(0)]);
    assert_violated(&[holder, waits, looks(2)]);
}

#[test]
fn a_wait_that_ended_by_time_has_no_effect() {
    let holder = written(1, lock(1), (1, 2), 10);
    let timed = Write {
        timed: true,
        ..lock(2)
    };
    let timed_out = op(2, Action::Write(timed), 3, Some((4, Reply::TimedOut)));
    let looks = |waiters| read_all(3, (5, 6), Some(1), 10, Some(1), waiters);
    assert_explained(&[holder, timed_out, looks(0)]);
    assert_violated(&[holder, timed_out, looks(1)]);
    assert_violated(&[timed_out]);
}

#[test]
fn a_will_is_written_when_its_session_ends_and_not_before() {
    let armed = Write {
        will: Some(Some(datum(9))),
        ..write(1)
    };
    let owner = written(1, armed, (1, 2), 10);
    let will = read(2, (4, 5), Some(9), 11);
    assert_violated(&[owner, will]);
    assert_explained(&[owner, end(1, 3), will]);
    assert_violated(&[owner, end(1, 6), will]);
    // Whoever wrote meanwhile has disarmed it.
    let other = written(2, write(2), (3, 4), 20);
    assert_violated(&[owner, other, end(1, 5), read(2, (6, 7), Some(9), 21)]);
    // A will comes once.
    let overwritten = written(2, write(2), (6, 7), 20);
    let again = read(2, (8, 9), Some(9), 21);
    assert_violated(&[owner, end(1, 3), will, overwritten, again]);
}

#[test]
fn an_ended_session_does_nothing_more() {
    let owner = written(1, lock(1), (1, 2), 10);
    let late = lost(1, write(5), 3);
    let free = read(2, (5, 6), None, 11);
    let seen = read(2, (7, 8), Some(5), 12);
    assert_explained(&[owner, late, end(1, 4), seen]);
    assert_violated(&[owner, late, end(1, 4), free, seen]);
}

#[test]
fn a_restart_keeps_what_was_acknowledged_and_applies_wills() {
    let plain = written(1, write(1), (1, 2), 10);
    let kept = later(read(2, (5, 6), Some(1), 10));
    let gone = later(read(2, (5, 6), None, 0));
    assert_explained(&[plain, restart(true, (3, 4)), kept]);
    assert_violated(&[plain, restart(true, (3, 4)), gone]);
    assert_explained(&[plain, restart(false, (3, 4)), gone]);
    assert_violated(&[plain, restart(false, (3, 4)), kept]);

    let owner = written(1, lock(1), (1, 2), 10);
    let held = later(read_all(2, (5, 6), Some(1), 10, Some(1), 0));
    assert_violated(&[owner, restart(true, (3, 4)), held]);
    let free = later(read(2, (5, 6), None, 11));
    assert_explained(&[owner, restart(true, (3, 4)), free]);
}

#[test]
fn what_was_under_way_at_a_kill_does_not_happen_in_the_next_life() {
    let unknown = lost(1, write(1), 1);
    let restart = restart(true, (3, 4));
    let absent = later(read(2, (5, 6), None, 0));
    assert_explained(&[unknown, restart, absent]);
    assert_explained(&[unknown, restart, later(read(2, (5, 6), Some(1), 9))]);
    let appears = later(read(2, (7, 8), Some(1), 9));
    assert_violated(&[unknown, restart, absent, appears]);
}

#[test]
fn requests_of_a_session_are_taken_in_their_order() {
    // Sent one after the other without waiting for answers.
    let (first, second) = (lost(1, write(1), 1), written(1, write(2), (2, 6), 20));
    assert_explained(&[first, second, read(2, (3, 4), Some(1), 10)]);
    assert_violated(&[first, second, read(2, (7, 8), Some(1), 30)]);
}

#[test]
fn a_violation_is_shown_without_what_does_not_matter() {
    let ops = [
        written(1, write(1), (1, 2), 10),
        read(2, (3, 4), Some(1), 10),
        written(1, write(2), (5, 6), 20),
        read(2, (7, 8), Some(1), 10),
        written(1, write(3), (9, 10), 30),
    ];
    assert_eq!(shrink(&ops, 0), [ops[0], ops[2], ops[3]]);
}

/// A step of a generated history: who, what, and how far its request and its answer lie from the
/// instant at which it happens.
type Drawn = (u64, Action, u64, u64);

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        2 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        2 => (0..20_u64).prop_map(Condition::Number),
        2 => (0..2_u8).prop_map(Condition::Colour),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let write = (
        any::<bool>(),
        prop::option::of(condition()),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        3 => write.prop_map(|(is_value, when, watch, has_will)| Action::Write(Write {
            value: is_value.then_some(datum(0)),
            when,
            watch: watch && when.is_some(),
            timed: false,
            will: has_will.then_some(None),
        })),
        2 => Just(Action::Get),
    ]
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    prop::collection::vec((1..5_u64, action(), 0..60_u64, 0..60_u64), 1..25)
}

/// Carries the steps out one by one and records what is answered. `wide` lets requests overlap.
fn record(steps: &[Drawn], wide: bool) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let mut key = Key::fresh(0);
    let mut earliest = [0; 5];
    for (at, (session, action, before, after)) in steps.iter().enumerate() {
        let instant = (at as u64 + 1) * 20;
        let mut action = *action;
        if let Action::Write(Write {
            value: Some(datum), ..
        }) = &mut action
        {
            *datum = Datum {
                number: at as u64,
                colour: (at % 2) as u8,
            };
        }
        let invoked = if wide {
            instant.saturating_sub(*before)
        } else {
            instant
        };
        // A session sends its requests in order.
        let floor = &mut earliest[*session as usize];
        let invoked = invoked.max(*floor);
        *floor = invoked + 1;
        ops.push(op(*session, action, invoked, None));
        let waiting = key.queue.clone();
        let holds = match action {
            Action::Write(write) => write.when.is_none_or(|when| when.holds(key.value)),
            _ => true,
        };
        let outcomes = key.apply(&Known::new(&ops), at);
        key = outcomes
            .into_iter()
            .next()
            .expect("nothing contradicts no answers");
        let delay = if wide { *after } else { 0 };
        let told = |reply| Some((instant + 1 + delay, reply));
        // Tokens are dealt in the order of the writes.
        let mut token = instant;
        let granted = match action {
            Action::Write(write) if holds => chain(&ops, waiting, write.value.map(Kept::Datum)),
            _ => Vec::new(),
        };
        ops[at].reply = match action {
            Action::Get => told(Reply::Read {
                value: key.value,
                token: highest(&ops),
                owner: key.will.map(|(owner, _)| owner),
                waiters: key.queue.len(),
            }),
            Action::Write(_) if holds => told(Reply::Written(token)),
            Action::Write(write) if !write.watch => told(Reply::Refused),
            _ => None,
        };
        for at in granted {
            token += 1;
            ops[at].reply = told(Reply::Written(token));
        }
        key.token = Token::Exactly(highest(&ops));
    }
    ops
}

/// Which of the waiting are granted by a write of this value, in order.
fn chain(ops: &[Op], mut waiting: Vec<usize>, mut value: Option<Kept>) -> Vec<usize> {
    let mut granted = Vec::new();
    let write = |at: usize| match ops[at].action {
        Action::Write(write) => write,
        _ => unreachable!("only writes wait"),
    };
    let fits = |at: &usize, value| write(*at).when.is_some_and(|when| when.holds(value));
    while let Some(place) = waiting.iter().position(|at| fits(at, value)) {
        let at = waiting.remove(place);
        value = write(at).value.map(Kept::Datum);
        granted.push(at);
    }
    granted
}

fn highest(ops: &[Op]) -> u64 {
    let tokens = ops.iter().filter_map(|op| match op.reply {
        Some((_, Reply::Written(token))) => Some(token),
        _ => None,
    });
    tokens.max().unwrap_or(0)
}

/// Another answer than the one that was given.
fn falsified(reply: Reply, how: u8) -> Reply {
    match reply {
        Reply::Written(_) if how < 128 => Reply::Refused,
        Reply::Written(_) => Reply::Written(0),
        Reply::Read {
            mut value,
            mut token,
            mut owner,
            mut waiters,
        } => {
            match how % 4 {
                0 => value = value.map_or(Some(kept(99)), |_| None),
                1 => token += 1,
                2 => owner = Some(77),
                _ => waiters += 1,
            }
            Reply::Read {
                value,
                token,
                owner,
                waiters,
            }
        }
        _ => Reply::Written(u64::MAX),
    }
}

proptest! {
    // A failure prints its case; the tests keep no files.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_happened_one_by_one_is_explained_however_the_requests_overlap(steps in drawn()) {
        for wide in [false, true] {
            let ops = record(&steps, wide);
            prop_assert!(matches!(check(&ops, 0), Verdict::Linearizable(_)), "{ops:#?}");
        }
    }

    #[test]
    fn one_wrong_answer_is_noticed(steps in drawn(), which in any::<prop::sample::Index>(), how: u8) {
        let mut ops = record(&steps, false);
        let answered: Vec<usize> = (0..ops.len()).filter(|at| ops[*at].reply.is_some()).collect();
        prop_assume!(!answered.is_empty());
        let op = &mut ops[answered[which.index(answered.len())]];
        op.reply = op.reply.map(|(at, reply)| (at, falsified(reply, how)));
        prop_assert_eq!(check(&ops, 0), Verdict::Violated, "{:#?}", ops);
    }
}
