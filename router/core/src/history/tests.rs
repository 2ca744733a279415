//! Which events are kept, for how long, and how logs are read.

use super::*;
use crate::model::{Made, Payload, PublicationId, Qos, Topic};

fn event(id: u64, bytes: usize) -> Arc<Event> {
    under("t", id, bytes)
}

fn under(topic: &'static str, id: u64, bytes: usize) -> Arc<Event> {
    Arc::new(Event {
        publication: PublicationId(id),
        topic: Topic::new(topic).unwrap(),
        payload: Payload::bytes(vec![b'x'; bytes].into(), false),
        publisher: None,
        qos: Qos::AtMostOnce,
        retain: false,
        clears: false,
        token: None,
        expires_at_ms: None,
        attributes: None,
        admission: None,
        made: Made::default(),
    })
}

/// A log of at most so much, in memory.
fn bounded(events: usize, bytes: usize) -> Retention {
    Retention {
        events,
        bytes,
        age: None,
        durable: false,
    }
}

fn plain(events: usize, bytes: usize, rules: &[HistoryRule]) -> History {
    History::new(bounded(events, bytes), rules, 0, false, "own".into(), 0)
}

/// Stored, with `resident` bytes of bodies in memory.
fn stored(keep: Retention, resident: usize) -> History {
    let keep = Retention {
        durable: true,
        ..keep
    };
    History::new(keep, &[], resident, true, "own".into(), 0)
}

fn keep(traced: bool, commit: u64) -> Keep {
    Keep {
        traced,
        commit: Some(commit),
        ..Keep::default()
    }
}

fn all() -> Pattern {
    Pattern::prefix("").unwrap()
}

fn ids(history: &History, ids: RangeInclusive<u64>) -> Vec<u64> {
    let walk = history.walk(&ids, &all(), &|_| 0);
    walk.map(|entry| entry.publication.0).collect()
}

#[test]
fn positions_compare_as_numbers() {
    let mut history = plain(100, 1 << 20, &[]);
    for id in [8, 9, 10, 11] {
        history.append(event(id, 1), keep(true, 0));
    }
    assert_eq!(ids(&history, 10..=u64::MAX), [10, 11]);
    assert_eq!(ids(&history, 12..=u64::MAX).len(), 0);
    assert_eq!(ids(&history, 1..=u64::MAX).len(), 4);
    assert_eq!(ids(&history, u64::MAX..=u64::MAX).len(), 0);
    assert_eq!(ids(&history, 9..=10).len(), 2);
    assert_eq!(ids(&history, RangeInclusive::new(10, 9)).len(), 0);
}

#[test]
fn forgets_the_oldest_by_count_and_by_bytes() {
    let mut history = plain(2, 1 << 20, &[]);
    let forgotten =
        |history: &mut History, id| history.append(event(id, 1), keep(true, 0)).forgotten;
    assert_eq!(
        (1..=3).map(|id| forgotten(&mut history, id)).sum::<u64>(),
        1
    );
    assert_eq!(ids(&history, 1..=u64::MAX).first(), Some(&2));
    assert_eq!(history.forgotten(&all(), 0, &|_| 0), 1);
    let mut history = plain(100, 1000, &[]);
    (1..=3).for_each(|id| {
        history.append(event(id, 400), keep(true, 0));
    });
    assert_eq!(history.len(), 2);
}

fn rule(pattern: &str, keep: Retention) -> HistoryRule {
    HistoryRule {
        pattern: Pattern::from_slashes(pattern).unwrap(),
        keep,
    }
}

#[test]
fn rules_have_logs_of_their_own_that_are_read_as_one() {
    let rules = [
        rule("a/+", bounded(2, 1 << 20)),
        rule("#", bounded(2, 1 << 20)),
    ];
    let mut history = plain(2, 1 << 20, &rules);
    let mut forgotten = 0;
    for (id, topic) in (1..).zip(["a/x", "b", "a/x", "b", "a/y", "own/x"]) {
        let event = under(topic, id, 1);
        let by_rule = history.has_rule(&event.topic);
        assert_eq!(history.wants(&event, by_rule), topic != "own/x");
        assert!(history.wants(&event, true));
        forgotten += history.append(event, keep(false, 0)).forgotten;
    }
    assert_eq!(
        (ids(&history, 1..=u64::MAX), forgotten),
        (vec![2, 3, 4, 5], 1)
    );
    let walk = history.walk(&(2..=4), &all(), &|_| 0);
    let back: Vec<u64> = walk.rev().map(|entry| entry.publication.0).collect();
    assert_eq!(back, [4, 3, 2]);
    assert_eq!(history.len(), 4);
}

#[test]
fn what_is_forgotten_counts_where_a_pattern_may_have_matched_it() {
    let rules = [
        rule("a/+", bounded(1, 1 << 20)),
        rule("b/#", bounded(9, 1 << 20)),
    ];
    let mut history = plain(9, 1 << 20, &rules);
    for (id, topic) in (1..).zip(["a/x", "a/x", "b/x", "c"]) {
        history.append(under(topic, id, 1), keep(true, 0));
    }
    let forgotten = |text: &str| {
        let pattern = Pattern::from_slashes(text).unwrap();
        history.forgotten(&pattern, 0, &|_| 0)
    };
    let told = ["a/x", "a/#", "+/x", "b/x", "b/#", "c"].map(forgotten);
    assert_eq!(told, [1, 1, 1, 0, 0, 0]);
}

#[test]
fn of_an_earlier_life_a_log_in_memory_knows_nothing_and_a_stored_one_all() {
    let of = |durable| {
        let keep = Retention {
            durable,
            ..bounded(9, 1 << 20)
        };
        let history = History::new(keep, &[], 0, true, "own".into(), 100);
        [0, 50].map(|after| history.forgotten(&all(), after, &|_| 0))
    };
    assert_eq!((of(false), of(true)), ([0, 100], [0, 0]));
}

#[test]
fn what_is_too_old_is_not_read_and_goes_in_steps() {
    let age = std::time::Duration::from_secs(1);
    let keep_some = Retention {
        age: Some(age),
        ..bounded(100, 1 << 20)
    };
    let mut history = stored(keep_some, 1 << 20);
    for id in 1..=9 {
        history.append(event(id, 1), keep(true, 1));
    }
    let first = |_| 7;
    let walk = history.walk(&(1..=u64::MAX), &all(), &first);
    assert_eq!(walk.map(|entry| entry.publication.0).min(), Some(7));
    assert_eq!(history.forgotten(&all(), 0, &first), 6);
    assert_eq!(history.trim_old(&first, 4), (4, true));
    assert_eq!(history.trim_old(&first, 4), (2, false));
    assert_eq!((history.len(), history.obsolete()), (3, 6));
    assert_eq!(history.take_obsolete(4), [1, 2, 3, 4]);
    assert_eq!(history.take_obsolete(4), [5, 6]);
}

#[test]
fn bodies_leave_the_memory_once_they_are_on_disk_and_not_before() {
    let mut history = stored(bounded(100, 1 << 20), 3 * 165);
    for id in 1..=9 {
        history.append(event(id, 100), keep(true, id));
    }
    let resident = |history: &History| {
        let walk = history.walk(&(1..=u64::MAX), &all(), &|_| 0);
        let here = walk.filter(|entry| entry.resident().is_some());
        here.map(|entry| entry.publication.0).collect::<Vec<u64>>()
    };
    history.spill(0);
    assert_eq!(resident(&history).len(), 9);
    history.spill(4);
    assert_eq!(resident(&history), [5, 6, 7, 8, 9]);
    history.spill(9);
    assert_eq!(resident(&history), [7, 8, 9]);
}

#[test]
fn what_was_refused_is_taken_back_and_what_stands_is_written_again() {
    let mut history = stored(bounded(100, 1 << 20), 1 << 20);
    for id in 1..=6 {
        let how = Keep {
            stands: id % 2 == 0,
            ..keep(true, id)
        };
        history.append(event(id, 1), how);
    }
    assert_eq!(history.take_back(2), 2);
    assert_eq!(ids(&history, 1..=u64::MAX), [1, 2, 4, 6]);
    let again = |history: &mut History, commit| {
        let mut written = Vec::new();
        history.write_again(commit, |event, traced| {
            assert!(traced);
            written.push(event.publication.0);
        });
        written
    };
    assert_eq!(again(&mut history, 9), [4, 6]);
    assert!(again(&mut history, 10).is_empty(), "that is under way");
    assert_eq!(history.take_back(9), 0);
    assert_eq!(history.take_back(8), 0, "it still stands");
    assert_eq!(again(&mut history, 11), [4, 6]);
}

#[test]
fn while_the_store_is_down_no_more_is_kept_than_may_be_in_memory() {
    let mut history = stored(bounded(100, 1 << 20), 300);
    let mut kept = Vec::new();
    for id in 1..=9 {
        let how = Keep {
            traced: true,
            stands: true,
            ..Keep::default()
        };
        kept.push(history.append(event(id, 100), how).kept);
    }
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 2);
    assert!(kept[..2].iter().all(|kept| *kept));
}

#[test]
fn an_event_announced_once_more_is_not_kept_twice() {
    let mut history = plain(9, 1 << 20, &[]);
    for (id, kept) in [(3, true), (3, false), (2, false), (4, true)] {
        assert_eq!(history.append(event(id, 1), keep(true, 0)).kept, kept);
    }
    assert_eq!(ids(&history, 1..=9), [3, 4]);
}

fn head(topic: &str, publication: u64, traced: bool) -> Head {
    Head {
        publication,
        topic: Topic::new(topic.to_owned()).unwrap(),
        cost: 70,
        traced,
    }
}

#[test]
fn a_restart_sorts_records_by_the_rules_that_hold_now() {
    let durable = |events| Retention {
        durable: true,
        ..bounded(events, 1 << 20)
    };
    let rules = [rule("a/#", durable(2)), rule("b/#", bounded(9, 1 << 20))];
    let mut history = History::new(durable(9), &rules, 1 << 20, true, "own".into(), 0);
    let heads = vec![
        head("a/x", 1, false),
        head("a/x", 2, true),
        head("b/x", 3, true),
        head("c", 4, false),
        head("c", 5, true),
        head("a/y", 6, false),
    ];
    // A rule that is gone had forgotten up to 2, the one for `a/#` nothing.
    let gone = Pattern::from_slashes("d/#").unwrap();
    assert_eq!(history.restore(heads, &[(Some(gone), 2)]), 1);
    assert_eq!(ids(&history, 1..=u64::MAX), [2, 5, 6]);
    let mut obsolete = history.take_obsolete(9);
    obsolete.sort_unstable();
    assert_eq!(obsolete, [1, 3, 4]);
    let mut marks = Vec::new();
    history.take_marks(|rule, id| marks.push((rule.is_some(), id)));
    assert_eq!(marks, [(false, 4), (true, 2)]);
}

#[test]
fn what_was_for_certain_sessions_is_not_wanted() {
    use crate::model::{Admission, Audience, SessionId};
    let history = plain(9, 1 << 20, &[]);
    let wanted = |audience: Audience| {
        let mut event = Arc::into_inner(event(1, 1)).unwrap();
        event.admission = Some(Box::new(Admission {
            exclude: Some(audience),
            eligible: None,
            about: None,
        }));
        history.wants(&event, true)
    };
    assert!(wanted(Audience {
        authids: Some(vec!["joe".into()]),
        ..Audience::default()
    }));
    assert!(!wanted(Audience {
        sessions: Some(vec![SessionId(1)]),
        ..Audience::default()
    }));
}
