//! A disk that fills up and gets room again.
//!
//! The disk is a small tmpfs. Where mounting is not permitted the test says so and checks the contract on the faulty
//! double instead.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

#[macro_use]
mod common;

use std::path::Path;

use common::small_disk::{SmallDisk, in_time};
use common::{last_commit, numbered};
use storage::testing::{Fault, FaultyStorage};
use storage::{Batch, EngineKind, MemoryStorage, Space, Storage, StorageError, open};

/// A log grows whatever is written; elsewhere only what stays takes room.
fn key(engine: EngineKind, number: u32) -> Vec<u8> {
    match engine {
        EngineKind::Sled => b"key".to_vec(),
        EngineKind::Redb => format!("key {number}").into_bytes(),
    }
}

with_each_engine!(
    a_full_disk_refuses_and_resumes,
    a_restart_on_a_full_disk_loses_nothing,
    a_large_batch_on_a_nearly_full_disk_always_returns,
    small_commits_meet_the_end_of_the_disk_everywhere_and_always_return,
);

fn large(bytes: usize) -> Batch {
    let mut batch = Batch::new();
    for at in 0..(bytes / 1000) as u32 {
        batch.put(Space(2), at.to_be_bytes(), vec![at as u8; 1000]);
    }
    batch
}

/// Fills the disk to `spare` bytes, commits until it is full, frees it, goes on.
fn cycle(engine: EngineKind, disk: &SmallDisk, dir: &Path, spare: u64, first: u32) -> u32 {
    let storage = open(dir, engine).unwrap();
    assert_eq!(last_commit(&storage) + 1, first);
    disk.fill(spare);
    let mut number = first;
    let error = loop {
        // Something that stays: what is only overwritten makes room for itself.
        let mut batch = numbered(number);
        batch.put(Space(4), number.to_be_bytes(), vec![number as u8; 3000]);
        match storage.commit(&batch) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        assert!(number < first + 10_000, "the disk does not fill up");
    };
    assert_eq!(
        error,
        StorageError::Full,
        "after {} commits",
        number - first
    );
    assert_eq!(
        storage.commit(&large(300_000)),
        Err(StorageError::Full),
        "still full"
    );
    match storage.get(Space(1), b"last") {
        Ok(last) => assert_eq!(
            last,
            (number > 1).then(|| (number - 1).to_be_bytes().to_vec()),
            "the failed commit is not visible"
        ),
        Err(error) => assert_eq!(error, StorageError::Full),
    }
    disk.free();
    storage
        .commit(&numbered(number))
        .expect("there is room again");
    assert_eq!(last_commit(&storage), number);
    storage.commit(&large(600_000)).expect("and for more");
    assert_eq!(last_commit(&storage), number);
    drop(storage);
    let storage = open(dir, engine).unwrap();
    assert_eq!(last_commit(&storage), number, "after a restart");
    number + 1
}

fn a_full_disk_refuses_and_resumes(engine: EngineKind) {
    let Some(disk) = SmallDisk::mount(32) else {
        eprintln!("checking the faulty double instead");
        return the_faulty_double_refuses_and_resumes();
    };
    in_time(move || {
        let dir = disk.path().join("data");
        let mut next = 1;
        for spare in [0, 100_000, 1 << 20, 3_000_000, 0] {
            next = cycle(engine, &disk, &dir, spare, next);
        }
    });
}

fn a_restart_on_a_full_disk_loses_nothing(engine: EngineKind) {
    let Some(disk) = SmallDisk::mount(32) else {
        return;
    };
    in_time(move || {
        let dir = disk.path().join("data");
        let storage = open(&dir, engine).unwrap();
        (1..=40).for_each(|number| storage.commit(&numbered(number)).unwrap());
        disk.fill(0);
        assert_eq!(storage.commit(&large(2_000_000)), Err(StorageError::Full));
        drop(storage);
        match open(&dir, engine) {
            Ok(storage) => assert_eq!(last_commit(&storage), 40),
            Err(error) => assert_eq!(error, StorageError::Full),
        }
        disk.free();
        assert_eq!(last_commit(&open(&dir, engine).unwrap()), 40);
    });
}

/// A batch that spreads over several of sled's buffers, met by the end of the disk at many different places: among
/// them the one where sled forgets to wake who waits for it.
fn a_large_batch_on_a_nearly_full_disk_always_returns(engine: EngineKind) {
    let Some(disk) = SmallDisk::mount(16) else {
        return;
    };
    in_time(move || {
        let dir = disk.path().join("data");
        for spare in (0..2_000_000).step_by(83_000) {
            let storage = open(&dir, engine).unwrap();
            let before = last_commit(&storage);
            disk.fill(spare);
            let mut batch = large(700_000);
            batch.append(numbered(before + 1));
            let outcome = storage.commit(&batch);
            disk.free();
            let expected = match outcome {
                Ok(()) => before + 1,
                Err(error) => {
                    assert_eq!(error, StorageError::Full);
                    before
                }
            };
            drop(storage);
            let storage = open(&dir, engine).unwrap();
            assert_eq!(
                last_commit(&storage),
                expected,
                "with {spare} bytes to spare"
            );
            let clean: Batch = large(700_000)
                .ops()
                .iter()
                .map(|op| storage::Op::Delete {
                    space: op.space(),
                    key: op.key().to_vec(),
                })
                .collect();
            storage.commit(&clean).unwrap();
        }
    });
}

/// Small commits, each of which needs a little more room: the end of the disk is met at ever other places.
fn small_commits_meet_the_end_of_the_disk_everywhere_and_always_return(engine: EngineKind) {
    let Some(disk) = SmallDisk::mount(16) else {
        return;
    };
    in_time(move || {
        let storage = open(&disk.path().join("data"), engine).unwrap();
        let mut number = 0_u32;
        for _ in 0..30 {
            disk.fill(0);
            let error = loop {
                let mut batch = Batch::new();
                batch.put(
                    Space(1),
                    key(engine, number),
                    vec![number as u8; 20 + number as usize % 90],
                );
                match storage.commit(&batch) {
                    Ok(()) => number += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error, StorageError::Full);
            disk.free();
            number += 1;
            storage.commit(&numbered(number % 9)).unwrap();
        }
    });
}

#[test]
fn the_faulty_double_refuses_and_resumes() {
    let storage = FaultyStorage::new(MemoryStorage::new());
    (1..=4).for_each(|number| storage.commit(&numbered(number)).unwrap());
    storage.fail(Fault::Commit, 0, StorageError::Full);
    assert_eq!(storage.commit(&numbered(5)), Err(StorageError::Full));
    assert_eq!(last_commit(&storage), 4);
    storage.commit(&numbered(5)).unwrap();
    assert_eq!(last_commit(&storage), 5);
}
