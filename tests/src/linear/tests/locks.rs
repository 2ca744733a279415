//! Histories of holds.

use super::*;

fn order(number: u64, wish: Wish, wait: Wait) -> Order {
    Order {
        wish,
        wait,
        leased: false,
        reentrant: false,
        data: datum(number),
    }
}

/// Alone, waiting.
fn mutex(number: u64) -> Order {
    order(number, Wish::Alone, Wait::Endless)
}

fn shared(number: u64) -> Order {
    order(number, Wish::Shared, Wait::Endless)
}

fn acquire(session: u64, order: Order, at: (u64, u64), reply: Reply) -> Op {
    op(session, Action::Acquire(order), at.0, Some((at.1, reply)))
}

fn granted(session: u64, order: Order, at: (u64, u64), token: u64) -> Op {
    acquire(session, order, at, Reply::Granted(token))
}

fn waits(session: u64, order: Order, invoked: u64) -> Op {
    op(session, Action::Acquire(order), invoked, None)
}

fn release(session: u64, token: u64, at: (u64, u64), reply: Reply) -> Op {
    op(
        session,
        Action::Release { token },
        at.0,
        Some((at.1, reply)),
    )
}

fn renew(session: u64, token: u64, at: (u64, u64), reply: Reply) -> Op {
    let action = Action::Renew {
        token,
        leased: false,
    };
    op(session, action, at.0, Some((at.1, reply)))
}

fn inspect(
    at: (u64, u64),
    holders: &[(u64, u64)],
    line: &[u64],
    value: Option<Kept>,
    token: u64,
) -> Op {
    let shown = |(session, token): &(u64, u64)| Shown {
        session: *session,
        token: *token,
        count: 1,
    };
    let reply = Reply::Inspected {
        holders: holders.iter().map(shown).collect(),
        line: line.iter().copied().collect(),
        value,
        token,
    };
    op(9, Action::Inspect, at.0, Some((at.1, reply)))
}

#[test]
fn two_holders_of_a_mutex_are_a_violation() {
    let first = granted(1, mutex(1), (1, 2), 10);
    let second = |at| granted(2, mutex(2), at, 20);
    assert_violated(&[first, second((3, 4))]);
    let released = release(1, 10, (5, 6), Reply::Released(0));
    assert_violated(&[first, second((3, 4)), released]);
    assert_explained(&[first, second((3, 7)), released]);
    assert_explained(&[first, second((3, 7)), end(1, 5)]);
    // What the key says, and whose it is.
    let is_first = read_all(3, (3, 4), Some(1), 10, Some(1), 0);
    assert_explained(&[first, is_first]);
    assert_violated(&[first, read_all(3, (3, 4), Some(2), 10, Some(1), 0)]);
    assert_violated(&[first, read_all(3, (3, 4), Some(1), 10, None, 0)]);
}

#[test]
fn a_lock_by_call_and_one_by_publish_exclude_each_other() {
    let by_call = granted(1, mutex(1), (1, 2), 10);
    assert_violated(&[by_call, written(2, lock(2), (3, 4), 20)]);
    assert_explained(&[by_call, written(2, lock(2), (3, 4), 20), end(1, 3)]);
    let by_publish = written(1, lock(1), (1, 2), 10);
    assert_violated(&[by_publish, granted(2, mutex(2), (3, 4), 20)]);
    let released = release(1, 10, (3, 4), Reply::Released(0));
    assert_explained(&[by_publish, released, granted(2, mutex(2), (3, 6), 20)]);
    // A key with a value is not free, whoever wrote it.
    let value = written(1, write(1), (1, 2), 10);
    let tries = order(2, Wish::Alone, Wait::No);
    assert_violated(&[value, granted(2, tries, (3, 4), 20)]);
    assert_explained(&[value, acquire(2, tries, (3, 4), Reply::LockHeld(Some(0)))]);
}

#[test]
fn both_kinds_of_waiting_are_one_line() {
    let holder = granted(1, mutex(1), (1, 2), 10);
    let writes = lost(2, lock(2), 3);
    let looks = inspect((4, 5), &[(1, 10)], &[2], Some(kept(1)), 10);
    let third = |at| granted(3, mutex(3), at, 31);
    let released = release(1, 10, (8, 9), Reply::Released(0));
    assert_explained(&[holder, writes, looks, waits(3, mutex(3), 6), released]);
    assert_violated(&[holder, writes, looks, third((6, 10)), released]);
    assert_explained(&[holder, writes, looks, third((6, 11)), released, end(2, 10)]);
    // Without the look nobody knows who came first.
    assert_explained(&[holder, writes, third((6, 10)), released]);
}

#[test]
fn a_refusal_of_a_hold_needs_somebody_who_holds() {
    let tries = order(2, Wish::Alone, Wait::No);
    let refused = |holders| acquire(2, tries, (3, 4), Reply::LockHeld(Some(holders)));
    assert_violated(&[refused(1)]);
    let holder = granted(1, mutex(1), (1, 2), 10);
    assert_explained(&[holder, refused(1)]);
    assert_violated(&[holder, refused(2)]);
    let timed = order(2, Wish::Alone, Wait::Timed);
    assert_explained(&[holder, acquire(2, timed, (3, 4), Reply::TimedOut)]);
    assert_violated(&[acquire(2, timed, (3, 4), Reply::TimedOut)]);
    assert_violated(&[holder, acquire(2, mutex(2), (3, 4), Reply::TimedOut)]);
}

#[test]
fn a_held_key_is_written_by_its_only_holder_alone() {
    let holder = granted(1, mutex(1), (1, 2), 10);
    let other = |reply| op(2, Action::Write(write(5)), 3, Some((4, reply)));
    assert_explained(&[holder, other(Reply::LockHeld(None))]);
    assert_violated(&[holder, other(Reply::Written(20))]);
    assert_violated(&[other(Reply::LockHeld(None))]);
    // A condition that does not hold is told first.
    let unfit = conditional(6, Condition::Absent);
    assert_explained(&[holder, refused(2, unfit, (3, 4))]);
    // Its holder may, and goes on to hold it by the token of its grant.
    let own = written(1, write(5), (3, 4), 20);
    let goes_on = inspect((5, 6), &[(1, 10)], &[], Some(kept(5)), 20);
    let released = release(1, 10, (7, 8), Reply::Released(0));
    assert_explained(&[holder, own, goes_on, released]);
    assert_violated(&[holder, own, release(1, 20, (7, 8), Reply::Released(0))]);
    let asks = op(1, Action::Write(lock(7)), 3, Some((4, Reply::Unfit)));
    assert_explained(&[holder, asks]);
    assert_violated(&[asks]);
    // Its deletion is its release.
    let deletes = written(1, deletion(), (3, 4), 20);
    assert_explained(&[holder, deletes, granted(2, mutex(2), (5, 6), 30)]);
    assert_violated(&[holder, deletes, release(1, 10, (5, 6), Reply::Released(0))]);
}

#[test]
fn a_release_ends_its_own_hold_only() {
    let holder = granted(1, mutex(1), (1, 2), 10);
    assert_violated(&[holder, release(2, 10, (3, 4), Reply::Released(0))]);
    assert_explained(&[holder, release(2, 10, (3, 4), Reply::LockLost)]);
    assert_violated(&[holder, release(1, 10, (3, 4), Reply::LockLost)]);
    let released = release(1, 10, (3, 4), Reply::Released(0));
    assert_violated(&[holder, released, release(1, 10, (5, 6), Reply::Released(0))]);
    assert_explained(&[holder, released, release(1, 10, (5, 6), Reply::LockLost)]);
    assert_explained(&[holder, renew(1, 10, (3, 4), Reply::Renewed)]);
    assert_violated(&[holder, released, renew(1, 10, (5, 6), Reply::Renewed)]);
    assert_violated(&[holder, renew(1, 10, (3, 4), Reply::LockLost)]);
    assert_violated(&[holder, released, read(2, (5, 6), Some(1), 10)]);
}

#[test]
fn who_holds_again_releases_as_often() {
    let again = Order {
        reentrant: true,
        ..mutex(2)
    };
    let holder = granted(1, mutex(1), (1, 2), 10);
    let twice = granted(1, again, (3, 4), 10);
    let once = |left| release(1, 10, (5, 6), Reply::Released(left));
    assert_explained(&[holder, twice, once(1)]);
    assert_violated(&[holder, twice, once(0)]);
    assert_violated(&[holder, granted(1, again, (3, 4), 20)]);
    let last = release(1, 10, (7, 8), Reply::Released(0));
    let next = granted(2, mutex(3), (9, 10), 30);
    assert_explained(&[holder, twice, once(1), last, next]);
    assert_violated(&[holder, twice, once(1), next]);
}

#[test]
fn readers_share_and_a_writer_before_them_is_not_passed() {
    let (one, two) = (
        granted(1, shared(1), (1, 2), 10),
        granted(2, shared(2), (3, 4), 20),
    );
    let both = inspect((5, 6), &[(1, 10), (2, 20)], &[], Some(Kept::Shared(2)), 20);
    assert_explained(&[one, two, both]);
    let alone = inspect((5, 6), &[(1, 10)], &[], Some(Kept::Shared(1)), 10);
    assert_violated(&[one, two, alone]);
    assert_violated(&[one, granted(3, mutex(3), (3, 4), 20)]);
    let writer = waits(3, mutex(3), 7);
    let in_line = inspect((8, 9), &[(1, 10), (2, 20)], &[3], Some(Kept::Shared(2)), 20);
    let late = |at| granted(4, shared(4), at, 30);
    assert_explained(&[one, two, writer, in_line, waits(4, shared(4), 10)]);
    assert_violated(&[one, two, writer, in_line, late((10, 11))]);
    // If the writer goes, whoever waited behind it does not wait any longer.
    assert_explained(&[one, two, writer, in_line, late((10, 13)), end(3, 12)]);
}

#[test]
fn no_more_permits_are_taken_than_there_are() {
    let take = |number, take| {
        let wish = Wish::Permits { take, limit: 3 };
        order(number, wish, Wait::No)
    };
    let one = granted(1, take(1, 2), (1, 2), 10);
    let taken = |taken| Some(Kept::Permits { limit: 3, taken });
    assert_explained(&[one, granted(2, take(2, 1), (3, 4), 20)]);
    assert_violated(&[one, granted(2, take(2, 2), (3, 4), 20)]);
    assert_explained(&[
        one,
        acquire(2, take(2, 2), (3, 4), Reply::LockHeld(Some(1))),
    ]);
    assert_explained(&[one, inspect((3, 4), &[(1, 10)], &[], taken(2), 10)]);
    assert_violated(&[one, inspect((3, 4), &[(1, 10)], &[], taken(1), 10)]);
}

#[test]
fn only_a_leased_hold_ends_by_itself() {
    let leased = Order {
        leased: true,
        ..mutex(1)
    };
    let next = granted(2, mutex(2), (3, 4), 20);
    let lost = release(1, 10, (5, 6), Reply::LockLost);
    assert_explained(&[granted(1, leased, (1, 2), 10), next, lost]);
    assert_violated(&[granted(1, mutex(1), (1, 2), 10), next, lost]);
    let released = release(1, 10, (5, 6), Reply::Released(0));
    assert_violated(&[granted(1, leased, (1, 2), 10), next, released]);
    // A grant that ended before it was stored has been there, and is over.
    let never = acquire(1, leased, (1, 4), Reply::LockLost);
    assert_explained(&[never, read(2, (5, 6), None, 12)]);
    assert_violated(&[never, read_all(2, (5, 6), Some(1), 10, Some(1), 0)]);
    assert_violated(&[acquire(1, mutex(1), (1, 4), Reply::LockLost)]);
}

#[test]
fn nobody_holds_anything_after_a_restart() {
    let holder = granted(1, mutex(1), (1, 2), 10);
    let held = later(read_all(2, (5, 6), Some(1), 10, Some(1), 0));
    let free = |token| later(read(2, (5, 6), None, token));
    assert_violated(&[holder, restart(true, (3, 4)), held]);
    assert_explained(&[holder, restart(true, (3, 4)), free(11)]);
    assert_violated(&[holder, restart(true, (3, 4)), free(10)]);
    assert_explained(&[holder, restart(false, (3, 4)), free(0)]);
    // What somebody was refused for must have been there after the kill too.
    let unknown = waits(1, mutex(1), 1);
    let tries = order(2, Wish::Alone, Wait::No);
    let refused = acquire(2, tries, (1, 2), Reply::LockHeld(Some(1)));
    assert_violated(&[unknown, refused, restart(true, (3, 4)), free(0)]);
    assert_explained(&[unknown, refused, restart(true, (3, 4)), free(11)]);
}

#[test]
fn a_watch_is_told_who_holds_and_that_nobody_does() {
    let ops = [
        granted(1, mutex(1), (1, 2), 10),
        release(1, 10, (5, 6), Reply::Released(0)),
    ];
    let watch = |told: &[(u64, Option<Kept>, u64)]| {
        let action = Action::Watch {
            after: Some(0),
            progressive: true,
        };
        let mut all = ops.to_vec();
        all.push(op(9, action, 3, None));
        all.extend(told.iter().map(|(at, value, token)| {
            let reply = Reply::Changed {
                value: *value,
                token: *token,
            };
            op(9, Action::Told { watch: 3 }, 3, Some((*at, reply)))
        }));
        all
    };
    assert_explained(&watch(&[(4, Some(kept(1)), 10), (7, None, 11)]));
    assert_violated(&watch(&[(4, Some(kept(1)), 10), (7, Some(kept(2)), 11)]));
    assert_violated(&watch(&[(4, None, 11)]));
}
