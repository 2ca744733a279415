//! Histories of writes by call, lists and watches.

use super::*;

fn put(session: u64, write: Write, at: (u64, u64), token: u64) -> Op {
    let reply = Some((at.1, Reply::Written(token)));
    op(session, Action::Put(write), at.0, reply)
}

fn cas(session: u64, expected: u64, at: (u64, u64), reply: Reply) -> Op {
    let value = Some(datum(at.0));
    let action = Action::Cas { expected, value };
    op(session, action, at.0, Some((at.1, reply)))
}

fn delete(session: u64, expected: Option<u64>, at: (u64, u64), reply: Reply) -> Op {
    op(
        session,
        Action::Delete { expected },
        at.0,
        Some((at.1, reply)),
    )
}

fn deleted(token: u64, existed: bool) -> Reply {
    Reply::Deleted { token, existed }
}

fn listed(session: u64, at: (u64, u64), row: Option<(u64, u64)>) -> Op {
    let row = row.map(|(number, token)| Row {
        value: kept(number),
        token,
        owner: None,
    });
    op(
        session,
        Action::List,
        at.0,
        Some((at.1, Reply::Listed(row))),
    )
}

/// A watch, and what it told: when, the value and the token.
fn watch(
    after: Option<u64>,
    progressive: bool,
    invoked: u64,
    told: &[(u64, Option<u64>, u64)],
) -> Vec<Op> {
    let watch = op(9, Action::Watch { after, progressive }, invoked, None);
    let news = told.iter().map(|(at, value, token)| {
        let value = value.map(kept);
        let reply = Reply::Changed {
            value,
            token: *token,
        };
        op(
            9,
            Action::Told { watch: invoked },
            invoked,
            Some((*at, reply)),
        )
    });
    std::iter::once(watch).chain(news).collect()
}

fn canceled(watch: u64, at: (u64, u64)) -> Op {
    op(
        9,
        Action::Cancel { watch },
        at.0,
        Some((at.1, Reply::Canceled)),
    )
}

fn with(ops: &[Op], more: Vec<Op>) -> Vec<Op> {
    ops.iter().copied().chain(more).collect()
}

#[test]
fn a_conflict_tells_the_present_token() {
    let first = written(1, write(1), (1, 2), 10);
    let refused = |token| {
        let action = Action::Put(conditional(2, Condition::Absent));
        op(2, action, 3, Some((4, Reply::Conflict(token))))
    };
    assert_explained(&[first, refused(10)]);
    assert_violated(&[first, refused(9)]);
    assert_violated(&[first, refused(11)]);
    // A publish is refused in other words.
    let wrong = refused_by_call(2, (3, 4));
    assert_violated(&[first, wrong]);
}

fn refused_by_call(session: u64, at: (u64, u64)) -> Op {
    let action = Action::Put(conditional(2, Condition::Absent));
    op(session, action, at.0, Some((at.1, Reply::Refused)))
}

#[test]
fn only_the_present_token_is_replaced() {
    let first = put(1, write(1), (1, 2), 10);
    assert_explained(&[first, cas(2, 10, (3, 4), Reply::Written(20))]);
    assert_violated(&[first, cas(2, 9, (3, 4), Reply::Written(20))]);
    assert_explained(&[first, cas(2, 9, (3, 4), Reply::Conflict(10))]);
    assert_violated(&[first, cas(2, 10, (3, 4), Reply::Conflict(10))]);
    // Two that expect the same token: one of them is late.
    let winner = cas(2, 10, (3, 6), Reply::Written(20));
    assert_explained(&[first, winner, cas(3, 10, (4, 5), Reply::Conflict(20))]);
    assert_violated(&[first, winner, cas(3, 10, (4, 5), Reply::Written(21))]);
}

#[test]
fn zero_is_the_token_of_every_absent_key() {
    let first = cas(1, 0, (1, 2), Reply::Written(10));
    let gone = delete(1, None, (3, 4), deleted(20, true));
    assert_explained(&[first, gone, cas(2, 0, (5, 6), Reply::Written(30))]);
    assert_explained(&[first, gone, cas(2, 20, (5, 6), Reply::Written(30))]);
    assert_violated(&[first, cas(2, 0, (5, 6), Reply::Written(30))]);
    assert_explained(&[first, cas(2, 0, (5, 6), Reply::Conflict(10))]);
}

#[test]
fn a_deletion_tells_what_it_found() {
    let first = put(1, write(1), (1, 2), 10);
    assert_explained(&[first, delete(2, Some(10), (3, 4), deleted(20, true))]);
    assert_violated(&[first, delete(2, Some(10), (3, 4), deleted(20, false))]);
    assert_violated(&[first, delete(2, Some(9), (3, 4), deleted(20, true))]);
    assert_explained(&[first, delete(2, Some(9), (3, 4), Reply::Conflict(10))]);
    assert_explained(&[delete(2, None, (3, 4), deleted(20, false))]);
    assert_violated(&[delete(2, None, (3, 4), deleted(20, true))]);
}

#[test]
fn a_token_that_nobody_was_told_may_be_the_expected_one_or_not() {
    let unknown = lost(1, write(1), 1);
    let taken = op(
        2,
        Action::Cas {
            expected: 10,
            value: None,
        },
        2,
        None,
    );
    let read_after = |value, token| read(3, (5, 6), value, token);
    assert_explained(&[unknown, taken, read_after(None, 11)]);
    assert_explained(&[unknown, taken, read_after(Some(1), 12)]);
    let told = cas(2, 10, (2, 3), Reply::Written(20));
    assert_explained(&[unknown, told, read_after(Some(2), 20)]);
    // Then the write had that token.
    assert_violated(&[
        unknown,
        told,
        op(
            3,
            Action::Get,
            3,
            Some((
                4,
                Reply::Read {
                    value: Some(kept(1)),
                    token: 11,
                    owner: None,
                    waiters: 0,
                },
            )),
        ),
        read_after(Some(2), 20),
    ]);
}

#[test]
fn a_list_shows_each_key_as_a_read_does() {
    let first = put(1, write(1), (1, 2), 10);
    assert_explained(&[first, listed(2, (3, 4), Some((1, 10)))]);
    assert_violated(&[first, listed(2, (3, 4), None)]);
    assert_violated(&[first, listed(2, (3, 4), Some((1, 11)))]);
    assert_violated(&[first, listed(2, (3, 4), Some((2, 10)))]);
    let concurrent = put(1, write(1), (1, 5), 10);
    assert_explained(&[concurrent, listed(2, (3, 4), None)]);
    let armed = Write {
        will: Some(None),
        ..write(1)
    };
    let owned = put(1, armed, (1, 2), 10);
    assert_violated(&[owned, listed(2, (3, 4), Some((1, 10)))]);
}

#[test]
fn a_watch_with_a_token_is_told_what_is_newer() {
    let first = put(1, write(1), (1, 2), 10);
    assert_explained(&with(
        &[first],
        watch(Some(0), false, 3, &[(4, Some(1), 10)]),
    ));
    assert_violated(&with(
        &[first],
        watch(Some(10), false, 3, &[(4, Some(1), 10)]),
    ));
    let second = put(1, write(2), (5, 6), 20);
    let later = |told| with(&[first, second], watch(Some(10), false, 3, &[told]));
    assert_explained(&later((7, Some(2), 20)));
    assert_violated(&later((4, Some(2), 20)));
    assert_violated(&later((7, Some(1), 20)));
    assert_violated(&later((7, Some(2), 21)));
}

#[test]
fn a_watch_without_a_token_is_told_the_next_change() {
    let first = put(1, write(1), (1, 2), 10);
    assert_violated(&with(&[first], watch(None, false, 3, &[(4, Some(1), 10)])));
    let (second, third) = (put(1, write(2), (5, 6), 20), put(1, deletion(), (7, 8), 30));
    let told = |told| with(&[first, second, third], watch(None, false, 3, &[told]));
    // It may have begun late, but nobody was told too much.
    assert_explained(&told((9, Some(2), 20)));
    assert_explained(&told((9, None, 30)));
    assert_violated(&told((9, Some(1), 10)));
}

#[test]
fn a_progressive_watch_leaves_nothing_out() {
    let writes = [
        put(1, write(1), (1, 2), 10),
        put(1, write(2), (5, 6), 20),
        put(1, deletion(), (7, 8), 30),
        put(1, write(3), (9, 10), 40),
    ];
    let told = |told: &[(u64, Option<u64>, u64)]| with(&writes, watch(Some(0), true, 3, told));
    let all = [
        (11, Some(1), 10),
        (12, Some(2), 20),
        (13, None, 30),
        (14, Some(3), 40),
    ];
    assert_explained(&told(&all));
    assert_explained(&told(&all[..2]));
    assert_explained(&told(&all[2..]));
    assert_violated(&told(&[all[0], all[2]]));
    assert_violated(&told(&[all[0], all[1], (13, Some(3), 40)]));
    let swapped = [(12, Some(1), 10), (11, Some(2), 20)];
    assert_violated(&told(&swapped));
    assert_violated(&told(&[all[0], (12, Some(1), 10)]));
    assert_violated(&told(&[(4, Some(2), 20)]));
}

#[test]
fn a_watch_was_told_everything_before_it_ended_by_order() {
    let writes = [put(1, write(1), (1, 2), 10), put(1, write(2), (5, 6), 20)];
    let watch = |told: &[(u64, Option<u64>, u64)], at| {
        let mut ops = with(&writes, watch(Some(10), true, 3, told));
        ops.push(canceled(3, at));
        ops
    };
    assert_explained(&watch(&[(7, Some(2), 20)], (8, 9)));
    assert_violated(&watch(&[], (8, 9)));
    assert_explained(&watch(&[], (4, 9)));
}

#[test]
fn a_watch_that_ended_by_time_had_nothing_to_tell() {
    let first = put(1, write(1), (1, 2), 10);
    let ended = |after, at: (u64, u64)| {
        let action = Action::Watch {
            after,
            progressive: false,
        };
        op(9, action, at.0, Some((at.1, Reply::TimedOut)))
    };
    assert_explained(&[first, ended(Some(10), (3, 4))]);
    assert_violated(&[first, ended(Some(9), (3, 4))]);
    assert_explained(&[first, ended(None, (3, 4))]);
    let second = put(1, write(2), (5, 6), 20);
    assert_explained(&[first, second, ended(Some(10), (3, 8))]);
    assert_violated(&[first, second, ended(Some(10), (7, 8))]);
}

#[test]
fn a_watch_need_not_see_what_its_own_session_was_not_answered_yet() {
    let action = Action::Watch {
        after: Some(0),
        progressive: true,
    };
    let watch = |at: (u64, u64)| op(1, action, at.0, Some((at.1, Reply::TimedOut)));
    assert_explained(&[lost(1, write(1), 1), watch((2, 3))]);
    assert_explained(&[written(1, write(1), (1, 4), 10), watch((2, 3))]);
    assert_violated(&[written(1, write(1), (1, 2), 10), watch((3, 4))]);
    // Nor does its end by order.
    let open = op(1, action, 1, None);
    let canceled = op(
        1,
        Action::Cancel { watch: 1 },
        3,
        Some((4, Reply::Canceled)),
    );
    assert_explained(&[open, written(1, write(1), (2, 5), 10), canceled]);
    let early = op(
        1,
        Action::Cancel { watch: 1 },
        4,
        Some((5, Reply::Canceled)),
    );
    assert_violated(&[open, written(1, write(1), (2, 3), 10), early]);
}
