#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::testing::{Fault, FaultyStorage};
use crate::{MemoryStorage, Space};

struct Report(Sender<Outcome>);

impl CommitListener for Report {
    fn committed(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.0.send(outcome.clone()).unwrap();
        }
    }

    fn read(&self, _: u64, _: u64, _: Vec<Found>) {
        panic!("nothing was to be read");
    }
}

struct Bench {
    storage: Arc<FaultyStorage<MemoryStorage>>,
    group: GroupCommit,
    outcomes: Receiver<Outcome>,
}

fn bench(limits: GroupLimits) -> Bench {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let (sender, outcomes) = channel();
    let group = GroupCommit::spawn(storage.clone(), Arc::new(Report(sender)), limits).unwrap();
    Bench {
        storage,
        group,
        outcomes,
    }
}

fn ticket(owner: u64, epoch: u32, seq: u64) -> Ticket {
    Ticket { owner, epoch, seq }
}

fn put(key: &str, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(Space(1), key, vec![1; bytes]);
    batch
}

impl Bench {
    /// Queues one batch and waits until it is inside the closed engine, so that what follows is queued behind it.
    fn occupy(&self) {
        self.storage.close_gate();
        self.group
            .submit(ticket(u64::MAX, 0, 0), put("occupied", 1))
            .unwrap();
        self.storage.wait_for_commit_at_gate();
    }

    /// Lets the engine go on and gives every outcome after that of `occupy`.
    fn finish(&self) -> Vec<Outcome> {
        self.storage.open_gate();
        self.group.shutdown();
        self.outcomes
            .try_iter()
            .filter(|(ticket, _)| ticket.owner != u64::MAX)
            .collect()
    }

    fn has(&self, key: &str) -> bool {
        self.storage
            .get(Space(1), key.as_bytes())
            .unwrap()
            .is_some()
    }
}

#[test]
fn what_is_queued_during_a_commit_becomes_one_commit_reported_in_order() {
    let bench = bench(GroupLimits::default());
    bench.occupy();
    let tickets: Vec<Ticket> = (0..100).map(|seq| ticket(seq % 3, 0, seq)).collect();
    for ticket in &tickets {
        bench
            .group
            .submit(*ticket, put(&format!("k{}", ticket.seq), 10))
            .unwrap();
    }
    let outcomes = bench.finish();
    assert_eq!(
        outcomes,
        tickets
            .iter()
            .map(|ticket| (*ticket, Ok(())))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        bench.storage.commits(),
        2,
        "the occupying one and one for all hundred"
    );
    let stats = bench.group.stats();
    assert_eq!(
        (
            stats.commits,
            stats.batches,
            stats.failures,
            stats.queued_bytes
        ),
        (2, 101, 0, 0)
    );
    assert!((0..100).all(|seq| bench.has(&format!("k{seq}"))));
}

#[test]
fn a_commit_is_bounded_in_bytes_but_a_large_batch_still_passes() {
    let bench = bench(GroupLimits {
        max_commit_bytes: 1000,
        ..GroupLimits::default()
    });
    bench.occupy();
    for seq in 0..10 {
        bench
            .group
            .submit(ticket(1, 0, seq), put(&format!("k{seq}"), 300))
            .unwrap();
    }
    bench
        .group
        .submit(ticket(1, 0, 10), put("large", 5000))
        .unwrap();
    assert_eq!(bench.finish().len(), 11);
    assert_eq!(
        bench.storage.commits(),
        1 + 5 + 1,
        "ten batches of some 366 bytes in pairs, the large one alone"
    );
    assert!(bench.has("large"));
}

#[test]
fn a_commit_is_bounded_in_operations() {
    let bench = bench(GroupLimits {
        max_commit_ops: 3,
        ..GroupLimits::default()
    });
    bench.occupy();
    for seq in 0..10 {
        bench
            .group
            .submit(ticket(1, 0, seq), put(&format!("k{seq}"), 1))
            .unwrap();
    }
    assert_eq!(bench.finish().len(), 10);
    assert_eq!(bench.storage.commits(), 1 + 4, "ten operations in threes");
}

#[test]
fn order_decides_within_a_merged_commit() {
    let bench = bench(GroupLimits::default());
    bench.occupy();
    bench.group.submit(ticket(1, 0, 1), put("k", 1)).unwrap();
    let mut delete = Batch::new();
    delete.delete(Space(1), "k");
    bench.group.submit(ticket(2, 0, 2), delete).unwrap();
    bench.group.submit(ticket(3, 0, 3), put("k", 3)).unwrap();
    bench.finish();
    assert_eq!(bench.storage.get(Space(1), b"k").unwrap(), Some(vec![1; 3]));
}

#[test]
fn a_failure_supersedes_what_builds_on_it_until_the_epoch_rises() {
    let bench = bench(GroupLimits {
        max_commit_bytes: 1,
        ..GroupLimits::default()
    });
    bench.storage.fail(Fault::Commit, 1, StorageError::Full);
    bench.occupy();
    for (seq, epoch) in [(1, 4), (2, 4), (3, 3), (4, 5), (5, 5)] {
        bench
            .group
            .submit(ticket(1, epoch, seq), put(&format!("k{seq}"), 1))
            .unwrap();
    }
    bench
        .group
        .submit(ticket(2, 0, 1), put("other", 1))
        .unwrap();
    let outcomes: Vec<_> = bench
        .finish()
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    let superseded = Err(StorageError::Superseded);
    assert_eq!(
        outcomes,
        [
            Err(StorageError::Full),
            superseded.clone(),
            superseded,
            Ok(()),
            Ok(()),
            Ok(())
        ]
    );
    assert_eq!(
        bench.storage.commits(),
        1 + 1 + 3,
        "superseded batches are not attempted"
    );
    assert!(
        !bench.has("k1")
            && !bench.has("k2")
            && !bench.has("k3")
            && bench.has("k4")
            && bench.has("other")
    );
    let stats = bench.group.stats();
    assert_eq!(
        (stats.failed_commits, stats.failures, stats.superseded),
        (1, 3, 2)
    );
    assert_eq!(stats.last_error, Some(StorageError::Full));
}

#[test]
fn one_owners_oversized_batch_does_not_fail_the_others() {
    let bench = bench(GroupLimits::default());
    bench.storage.set_room(Some(1000));
    bench.occupy();
    bench.group.submit(ticket(1, 0, 1), put("a", 10)).unwrap();
    bench.group.submit(ticket(2, 0, 1), put("b", 2000)).unwrap();
    bench.group.submit(ticket(2, 0, 2), put("c", 10)).unwrap();
    bench.group.submit(ticket(3, 0, 1), put("d", 10)).unwrap();
    let outcomes: Vec<_> = bench
        .finish()
        .into_iter()
        .map(|(ticket, outcome)| (ticket.owner, outcome))
        .collect();
    let full = Err(StorageError::Full);
    assert_eq!(
        outcomes,
        [(1, Ok(())), (2, full.clone()), (2, full), (3, Ok(()))]
    );
    assert!(bench.has("a") && !bench.has("b") && !bench.has("c") && bench.has("d"));
}

#[test]
fn a_single_owner_is_not_tried_twice() {
    let bench = bench(GroupLimits::default());
    bench.storage.fail(Fault::Commit, 1, StorageError::Full);
    bench.occupy();
    bench.group.submit(ticket(1, 0, 1), put("a", 1)).unwrap();
    bench.group.submit(ticket(1, 0, 2), put("b", 1)).unwrap();
    assert!(
        bench
            .finish()
            .iter()
            .all(|(_, outcome)| *outcome == Err(StorageError::Full))
    );
    assert_eq!(bench.storage.commits(), 2);
}

#[test]
fn a_forgotten_owner_starts_anew_but_not_before_its_turn() {
    let bench = bench(GroupLimits {
        max_commit_bytes: 1,
        ..GroupLimits::default()
    });
    bench.storage.fail(Fault::Commit, 1, StorageError::Full);
    bench.occupy();
    bench.group.submit(ticket(1, 0, 1), put("a", 1)).unwrap();
    bench.group.submit(ticket(1, 0, 2), put("b", 1)).unwrap();
    bench.group.forget(1);
    bench.group.submit(ticket(1, 0, 3), put("c", 1)).unwrap();
    let outcomes: Vec<_> = bench
        .finish()
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            Err(StorageError::Full),
            Err(StorageError::Superseded),
            Ok(())
        ]
    );
}

#[test]
fn congestion_begins_above_the_mark_and_ends_at_half_of_it() {
    let bench = bench(GroupLimits {
        max_commit_bytes: 1,
        high_water_bytes: 1000,
        ..GroupLimits::default()
    });
    bench.occupy();
    assert!(!bench.group.is_congested());
    bench.group.submit(ticket(1, 0, 1), put("a", 700)).unwrap();
    assert!(
        !bench.group.is_congested(),
        "{}",
        bench.group.queued_bytes()
    );
    bench.group.submit(ticket(1, 0, 2), put("b", 300)).unwrap();
    assert!(bench.group.is_congested());
    assert!(bench.group.queued_bytes() > 1000);
    bench.finish();
    assert!(!bench.group.is_congested());
    assert_eq!(bench.group.queued_bytes(), 0);
}

#[test]
fn shutdown_writes_everything_queued_and_refuses_the_rest() {
    let bench = bench(GroupLimits {
        max_commit_bytes: 1,
        ..GroupLimits::default()
    });
    bench.occupy();
    for seq in 0..20 {
        bench
            .group
            .submit(ticket(1, 0, seq), put(&format!("k{seq}"), 1))
            .unwrap();
    }
    let outcomes = bench.finish();
    assert_eq!(outcomes.len(), 20);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(
        bench.group.submit(ticket(1, 0, 99), put("late", 1)),
        Err(StorageError::Stopped)
    );
    assert!(!bench.has("late"));
    bench.group.shutdown();
}

#[test]
fn an_empty_batch_is_reported_in_its_turn_without_a_commit() {
    let bench = bench(GroupLimits::default());
    bench.group.submit(ticket(1, 0, 1), Batch::new()).unwrap();
    assert_eq!(bench.finish(), [(ticket(1, 0, 1), Ok(()))]);
    assert_eq!(bench.storage.commits(), 0);
}

/// An engine and a listener that panic.
struct Panics;

impl Storage for Panics {
    fn engine(&self) -> &'static str {
        "panics"
    }
    fn is_volatile(&self) -> bool {
        true
    }
    fn get(&self, _: Space, _: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        panic!("get")
    }
    fn scan(
        &self,
        _: Space,
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        panic!("scan")
    }
    fn commit(&self, _: &Batch) -> Result<(), StorageError> {
        panic!("commit")
    }
}

impl CommitListener for Panics {
    fn committed(&self, _: &[Outcome]) {
        panic!("committed")
    }

    fn read(&self, _: u64, _: u64, _: Vec<Found>) {
        panic!("in a listener");
    }
}

#[test]
fn a_panicking_engine_is_an_error_and_a_panicking_listener_does_not_end_the_writer() {
    let (sender, outcomes) = channel();
    let group = GroupCommit::spawn(
        Arc::new(Panics),
        Arc::new(Report(sender)),
        GroupLimits::default(),
    )
    .unwrap();
    group.submit(ticket(1, 0, 1), put("a", 1)).unwrap();
    group.shutdown();
    assert!(matches!(
        outcomes.recv().unwrap(),
        (_, Err(StorageError::Io { .. }))
    ));

    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let group =
        GroupCommit::spawn(storage.clone(), Arc::new(Panics), GroupLimits::default()).unwrap();
    group.submit(ticket(1, 0, 1), put("a", 1)).unwrap();
    group.submit(ticket(1, 0, 2), put("b", 1)).unwrap();
    group.shutdown();
    assert!(storage.get(Space(1), b"b").unwrap().is_some());
}

/// Everything the listener was told, in order, as text.
struct Diary(Sender<String>);

impl CommitListener for Diary {
    fn committed(&self, outcomes: &[Outcome]) {
        for (ticket, outcome) in outcomes {
            let text = format!("commit {} {}", ticket.seq, outcome.is_ok());
            self.0.send(text).unwrap();
        }
    }

    fn read(&self, owner: u64, id: u64, found: Vec<Found>) {
        let found = found.iter().map(|found| match found {
            Ok(Some(value)) => value.len().to_string(),
            Ok(None) => "absent".to_owned(),
            Err(error) => error.kind().to_owned(),
        });
        let found: Vec<String> = found.collect();
        let text = format!("read {owner}.{id} {}", found.join(" "));
        self.0.send(text).unwrap();
    }
}

fn read(id: u64, keys: &[&str], max_bytes: usize) -> Read {
    Read {
        owner: 1,
        id,
        space: Space(1),
        keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        max_bytes,
    }
}

fn diary(
    work: impl FnOnce(&FaultyStorage<MemoryStorage>, &GroupCommit),
) -> (Vec<String>, GroupStats) {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let (sender, diary) = channel();
    let limits = GroupLimits::default();
    let group = GroupCommit::spawn(storage.clone(), Arc::new(Diary(sender)), limits).unwrap();
    storage.close_gate();
    group.submit(ticket(0, 0, 0), put("first", 1)).unwrap();
    storage.wait_for_commit_at_gate();
    work(&storage, &group);
    storage.open_gate();
    group.shutdown();
    (diary.try_iter().collect(), group.stats())
}

#[test]
fn a_read_sees_what_was_submitted_before_it_and_is_answered_after_that() {
    let (told, stats) = diary(|_, group| {
        group.submit(ticket(1, 0, 1), put("a", 10)).unwrap();
        group.submit_read(read(1, &["a", "none"], 1_000)).unwrap();
        group.submit(ticket(1, 0, 2), put("b", 20)).unwrap();
        group.submit_read(read(2, &["b", "first"], 1_000)).unwrap();
    });
    let expected = [
        "commit 0 true",
        "commit 1 true",
        "commit 2 true",
        "read 1.1 10 absent",
        "read 1.2 20 1",
    ];
    assert_eq!(told, expected);
    assert_eq!(stats.commits, 2, "reads do not break up a group");
    assert_eq!((stats.reads, stats.failed_reads), (4, 0));
}

#[test]
fn a_read_alone_needs_no_commit_and_none_is_lost_by_a_shutdown() {
    let (told, stats) = diary(|_, group| {
        group.submit_read(read(1, &["first"], 1)).unwrap();
        group.submit_read(read(2, &[], 1)).unwrap();
    });
    assert_eq!(told, ["commit 0 true", "read 1.1 1", "read 1.2 "]);
    assert_eq!(stats.commits, 1);
    let storage = Arc::new(MemoryStorage::new());
    let (sender, _diary) = channel();
    let limits = GroupLimits::default();
    let group = GroupCommit::spawn(storage, Arc::new(Diary(sender)), limits).unwrap();
    group.shutdown();
    let refused = group.submit_read(read(3, &["first"], 1));
    assert_eq!(refused, Err(StorageError::Stopped));
}

#[test]
fn a_read_stops_at_its_bytes_but_answers_one_record_at_least() {
    let (told, _) = diary(|_, group| {
        let mut batch = put("a", 10);
        batch.append(put("b", 10));
        batch.append(put("c", 10));
        group.submit(ticket(1, 0, 1), batch).unwrap();
        group.submit_read(read(1, &["a", "b", "c"], 1)).unwrap();
        group.submit_read(read(2, &["a", "b", "c"], 11)).unwrap();
    });
    assert_eq!(told[2..], ["read 1.1 10", "read 1.2 10 10"]);
}

#[test]
fn a_record_that_cannot_be_read_keeps_no_other_back() {
    let (told, stats) = diary(|storage, group| {
        let what = "a test".to_owned();
        storage.fail(Fault::Get, 1, StorageError::Io { what });
        let keys = ["first", "first", "first"];
        group.submit_read(read(1, &keys, 100)).unwrap();
    });
    assert_eq!(told[1], "read 1.1 1 io 1");
    assert_eq!((stats.reads, stats.failed_reads), (2, 1));
    assert!(stats.last_error.is_some());
}

#[test]
fn a_commit_is_synced_if_any_batch_in_it_asks_for_it() {
    let bench = bench(GroupLimits::default());
    let interval = Durability::Interval(Duration::from_secs(3600));
    bench.occupy();
    for (owner, durability) in [
        (1, Durability::None),
        (2, Durability::Always),
        (3, interval),
    ] {
        let batch = put(&format!("k{owner}"), 10);
        let submitted = bench
            .group
            .submit_as(ticket(owner, 0, 1), durability, batch);
        submitted.unwrap();
    }
    assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!((bench.storage.commits(), bench.storage.relaxed()), (2, 0));
    assert_eq!(bench.storage.syncs(), 0, "nothing was left to sync");
    let stats = bench.group.stats();
    let expected = (2, 4);
    assert_eq!((stats.syncs, stats.writes), expected, "three shared a wait");
}

#[test]
fn batches_that_do_not_ask_for_it_are_synced_by_the_timer_or_at_the_end() {
    let bench = bench(GroupLimits::default());
    let submit = |seq, durability| {
        let batch = put(&format!("k{seq}"), 10);
        let submitted = bench.group.submit_as(ticket(1, 0, seq), durability, batch);
        submitted.unwrap();
        assert_eq!(bench.outcomes.recv().unwrap().1, Ok(()));
    };
    submit(1, Durability::None);
    submit(2, Durability::Interval(Duration::from_secs(3600)));
    assert_eq!(bench.storage.syncs(), 0, "acknowledged before");
    submit(3, Durability::Interval(Duration::from_millis(1)));
    bench.storage.wait_for_syncs(1);
    submit(4, Durability::None);
    bench.group.shutdown();
    assert_eq!((bench.storage.commits(), bench.storage.relaxed()), (4, 4));
    assert_eq!(bench.storage.syncs(), 2, "by the timer, and at the end");
    let stats = bench.group.stats();
    assert_eq!((stats.syncs, stats.writes), (2, 4), "no commit waited");
}

#[test]
fn a_sync_that_fails_is_told_and_tried_again() {
    let bench = bench(GroupLimits::default());
    bench.storage.fail(Fault::Sync, 0, StorageError::Full);
    let durability = Durability::Interval(Duration::from_millis(1));
    bench
        .group
        .submit_as(ticket(1, 0, 1), durability, put("k", 10))
        .unwrap();
    bench.storage.wait_for_syncs(2);
    let stats = bench.group.stats();
    assert_eq!((stats.failed_commits, stats.failures), (1, 0));
    assert!(stats.syncs < 2, "a sync that failed counts");
    assert_eq!(stats.last_error, Some(StorageError::Full));
}
