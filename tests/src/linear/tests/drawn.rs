//! Generated histories of calls and holds: whatever the model accepts one by one is explained, and
//! nothing else is.

use super::*;

/// A step: who, what of what follows, a choice within it, and how far its request and its answer
/// lie from the instant at which it happens.
type Step = (u64, u8, u8, u64, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..5_u64, 0..10_u8, any::<u8>(), 0..60_u64, 0..60_u64);
    prop::collection::vec(step, 1..25)
}

/// What is asked for, given the last token of the key and the last that the session was granted.
fn action((_, what, choice, ..): Step, number: u64, last: u64, own: u64) -> Action {
    let value = (choice % 4 > 0).then(|| datum(number));
    let expected = match choice % 3 {
        0 => 0,
        1 => last,
        _ => last.saturating_sub(20),
    };
    let wish = match choice % 5 {
        0..=2 => Wish::Alone,
        3 => Wish::Shared,
        _ => Wish::Permits { take: 1, limit: 2 },
    };
    match what {
        0 => Action::Put(Write::plain(value)),
        1 => Action::Put(lock(number)),
        2 => Action::Write(conditional(number, Condition::Absent)),
        3 => Action::Cas { expected, value },
        4 if choice > 128 => Action::Delete { expected: None },
        4 => Action::Delete {
            expected: Some(expected),
        },
        5 => Action::Get,
        6 => Action::List,
        7 => Action::Acquire(Order {
            wish,
            wait: if choice > 128 {
                Wait::No
            } else {
                Wait::Endless
            },
            leased: false,
            reentrant: choice % 7 == 0,
            data: datum(number),
        }),
        8 => Action::Release { token: own },
        _ => Action::Renew {
            token: own,
            leased: false,
        },
    }
}

/// Everything that might be answered at this instant.
fn candidates(key: &Key, instant: u64, last: u64, own: u64) -> Vec<Reply> {
    let mut replies = vec![
        Reply::Written(instant),
        Reply::Granted(instant),
        Reply::Granted(own),
        Reply::Refused,
        Reply::Conflict(last),
        Reply::Unfit,
        Reply::Renewed,
        Reply::LockLost,
        Reply::Read {
            value: key.value,
            token: last,
            owner: key.owner(),
            waiters: key.queue.len(),
        },
        Reply::Listed(key.value.map(|value| Row {
            value,
            token: last,
            owner: key.owner(),
        })),
    ];
    for existed in [false, true] {
        let token = instant;
        replies.push(Reply::Deleted { token, existed });
    }
    for count in 0..6 {
        replies.push(Reply::Released(count));
        replies.push(Reply::LockHeld(Some(count)));
    }
    replies
}

/// The key behind a step whose answers are all there, if that contradicts nothing.
fn after(key: &Key, ops: &[Op], at: usize) -> Option<Key> {
    key.apply(&Known::new(ops), at).into_iter().next()
}

fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let first = |at: usize| {
        let mut rest = of.to_vec();
        let first = rest.remove(at);
        let rest = orders(&rest).into_iter();
        rest.map(move |rest| std::iter::once(first).chain(rest).collect())
    };
    (0..of.len()).flat_map(first).collect()
}

/// What whoever is served by this answer was told, in one order.
fn serve(ops: &mut [Op], order: &[usize], instant: u64, returned: u64) {
    for (number, at) in order.iter().enumerate() {
        let token = instant + 1 + number as u64;
        let reply = match ops[*at].action {
            Action::Acquire(_) => Reply::Granted(token),
            _ => Reply::Written(token),
        };
        ops[*at].reply = Some((returned, reply));
    }
}

/// Carries the steps out one by one; `None` if more than a few are served at once.
fn recorded(steps: &[Step], wide: bool) -> Option<Vec<Op>> {
    let mut ops: Vec<Op> = Vec::new();
    let mut key = Key::fresh(0);
    let mut earliest = [0; 5];
    for (at, step) in steps.iter().enumerate() {
        let (session, _, _, before, delay) = *step;
        let instant = (at as u64 + 1) * 20;
        let Token::Exactly(last) = key.token else {
            return None;
        };
        let granted = ops.iter().rev().filter(|op| op.session == session);
        let own = granted.filter_map(|op| match op.reply {
            Some((_, Reply::Granted(token) | Reply::Written(token))) => Some(token),
            _ => None,
        });
        let own = own.max().unwrap_or(last);
        let action = action(*step, at as u64, last, own);
        let (before, delay) = if wide { (before, delay) } else { (0, 0) };
        let floor = &mut earliest[session as usize];
        let invoked = instant.saturating_sub(before).max(*floor);
        *floor = invoked + 1;
        let returned = instant + 10 + delay;
        ops.push(op(session, action, invoked, None));
        let parked = after(&key, &ops, at)?;
        if parked.queue.contains(&at) {
            key = parked;
            continue;
        }
        key = candidates(&key, instant, last, own)
            .into_iter()
            .find_map(|reply| {
                ops[at].reply = Some((returned, reply));
                let next = after(&key, &ops, at)?;
                let served = key.queue.iter().filter(|at| !next.queue.contains(at));
                let served: Vec<usize> = served.copied().collect();
                // A release or an end without a token of its own is told by a read.
                orders(&served).into_iter().find_map(|order| {
                    serve(&mut ops, &order, instant, returned);
                    let mut next = after(&key, &ops, at)?;
                    next.token = match next.token {
                        Token::Above(_) => Token::Exactly(instant),
                        exact => exact,
                    };
                    Some(next)
                })
            })?;
    }
    Some(ops)
}

/// Another answer than the one that was given.
fn wrong(reply: Reply, how: u8) -> Reply {
    match reply {
        Reply::Written(_) if how < 128 => Reply::Conflict(0),
        Reply::Deleted { token, existed } if how < 128 => Reply::Deleted {
            token,
            existed: !existed,
        },
        Reply::Written(_) | Reply::Deleted { .. } => Reply::Written(0),
        Reply::Granted(_) if how < 128 => Reply::Granted(0),
        Reply::Granted(_) => Reply::LockHeld(Some(9)),
        // Of a release nobody was told the token, so that another one would not be noticed.
        Reply::Conflict(_) => Reply::Conflict(0),
        Reply::Released(held) if how < 128 => Reply::Released(held + 1),
        Reply::Released(_) => Reply::LockLost,
        Reply::LockLost => Reply::Released(0),
        Reply::Renewed => Reply::LockLost,
        Reply::Listed(None) => Reply::Listed(Some(Row {
            value: kept(99),
            token: 1,
            owner: None,
        })),
        Reply::Listed(Some(row)) => match how % 3 {
            0 => Reply::Listed(None),
            1 => Reply::Listed(Some(Row {
                owner: Some(77),
                ..row
            })),
            _ => Reply::Listed(Some(Row { token: 0, ..row })),
        },
        reply @ Reply::Read { .. } => falsified(reply, if how % 4 == 1 { 0 } else { how }),
        _ => Reply::Written(u64::MAX),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_that_happened_one_by_one_are_explained_however_they_overlap(steps in steps()) {
        for wide in [false, true] {
            if let Some(ops) = recorded(&steps, wide) {
                prop_assert!(matches!(check(&ops, 0), Verdict::Linearizable(_)), "{ops:#?}");
            }
        }
    }

    #[test]
    fn one_wrong_answer_to_a_call_is_noticed(
        steps in steps(),
        which in any::<prop::sample::Index>(),
        how: u8,
    ) {
        let ops = recorded(&steps, false);
        prop_assume!(ops.is_some());
        let mut ops = ops.unwrap_or_default();
        let answered: Vec<usize> = (0..ops.len()).filter(|at| ops[*at].reply.is_some()).collect();
        prop_assume!(!answered.is_empty());
        let op = &mut ops[answered[which.index(answered.len())]];
        op.reply = op.reply.map(|(at, reply)| (at, wrong(reply, how)));
        prop_assert_eq!(check(&ops, 0), Verdict::Violated, "{:#?}", ops);
    }
}
