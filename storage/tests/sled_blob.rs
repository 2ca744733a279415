//! The one failure that sled cannot close after: a blob that does not fit on the disk.
//!
//! A program of its own, because the database that cannot be closed holds a lock of sled's for the whole process.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

mod common;

use std::fs;

use common::numbered;
use common::small_disk::{SmallDisk, in_time};
use storage::{Batch, Space, Storage, StorageError, open_sled};

/// Keys so long that sled writes their page as a blob, the one thing it cannot fail at and go on.
#[test]
fn a_blob_that_does_not_fit_ends_in_an_error_and_not_in_silence() {
    let Some(disk) = SmallDisk::mount(32) else {
        return;
    };
    in_time(move || {
        let dir = disk.path().join("data");
        let storage = open_sled(&dir).unwrap();
        // Few enough records for one page: sled splits it above sixteen, and the halves may be too small for a blob.
        storage.commit(&numbered(1)).unwrap();
        let long_keys = |round: u8| {
            let mut batch = Batch::new();
            (0..12).for_each(|at| batch.put(Space(3), vec![at; 65_000], [round]));
            batch
        };
        let blobs = || fs::read_dir(dir.join("sled/blobs")).unwrap().count();
        // A page is written as a whole only now and then.
        (0..40).for_each(|round| storage.commit(&long_keys(round)).unwrap());
        assert!(
            blobs() > 0,
            "no blob was written: the test does not meet its case"
        );
        disk.fill(0);
        let error = (50..=250)
            .find_map(|round| storage.commit(&long_keys(round)).err())
            .expect("the disk is full");
        assert!(
            matches!(error, StorageError::Full | StorageError::Io { .. }),
            "{error}"
        );
        drop(storage);
        disk.free();
    });
}
