#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::fs;

use super::*;
use crate::disk::{self, LEDGER_KEY, Ledger, plan};
use crate::engine::flat_key;
use crate::{Batch, Space, Storage};

fn opened(dir: &Path) -> Result<SledEngine, StorageError> {
    open_sled(dir, &mut |_, _, _| {})
}

fn put(key: &str, value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(Space(1), key, value);
    batch
}

fn get(storage: &SledEngine, key: &str) -> Option<Vec<u8>> {
    storage.get(Space(1), key.as_bytes()).unwrap()
}

/// Brings the engine to where it is after a commit that was reported as failed but reached the disk all the same.
fn fail_after_reaching_the_disk(storage: &SledEngine, batch: &Batch) {
    let mut inner = storage.inner.write();
    let acknowledged = inner.ledger;
    let (changes, undo) = plan(inner.readable().unwrap(), batch, None, acknowledged).unwrap();
    inner.write(&changes, undo.reached).unwrap();
    inner.ledger = acknowledged;
    inner.undo = Some(undo);
    inner.starved = true;
    inner.close().unwrap();
}

#[test]
fn a_failed_commit_that_reached_the_disk_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path()).unwrap();
    storage.commit(&put("kept", b"old")).unwrap();
    let mut failing = put("kept", &[7; 50_000]);
    failing.append(put("added", b"new"));
    fail_after_reaching_the_disk(&storage, &failing);
    assert_eq!(
        storage.get(Space(1), b"kept"),
        Err(StorageError::Full),
        "closed until the next commit"
    );
    storage.commit(&put("next", b"1")).unwrap();
    let check = |storage: &SledEngine| {
        assert_eq!(get(storage, "kept"), Some(b"old".to_vec()));
        assert_eq!(get(storage, "added"), None);
        assert_eq!(get(storage, "next"), Some(b"1".to_vec()));
    };
    check(&storage);
    drop(storage);
    check(&opened(dir.path()).unwrap());
}

#[test]
fn a_log_that_is_neither_the_old_nor_the_failed_state_switches_storage_off() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path()).unwrap();
    storage.commit(&put("a", b"1")).unwrap();
    fail_after_reaching_the_disk(&storage, &put("b", b"2"));
    storage.inner.write().undo = None;
    for _ in 0..2 {
        let error = storage.commit(&put("c", b"3")).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_sync_that_fails_switches_storage_off_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path()).unwrap();
    storage.commit(&put("a", b"1")).unwrap();
    let (blobs, away) = (dir.path().join("sled/blobs"), dir.path().join("away"));
    fs::rename(&blobs, &away).unwrap();
    let error = storage.commit(&put("b", b"2")).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    fs::rename(&away, &blobs).unwrap();
    let text = storage.commit(&put("c", b"3")).unwrap_err().to_string();
    assert!(text.contains("until a restart"), "{text}");
    assert!(
        storage.get(Space(1), b"b").is_err(),
        "what was not acknowledged is not visible"
    );
    drop(storage);
    let storage = opened(dir.path()).unwrap();
    assert_eq!(get(&storage, "a"), Some(b"1".to_vec()));
    assert_eq!(get(&storage, "c"), None);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path()).unwrap();
    storage.commit(&put("a", b"1")).unwrap();
    let mut same = put("a", b"1");
    same.delete(Space(1), "absent");
    storage.commit(&same).unwrap();
    assert_eq!(storage.inner.read().ledger.commits, 1);
}

#[test]
fn a_value_in_parts_grows_and_shrinks_without_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path()).unwrap();
    let sizes = [
        0,
        1,
        chunks::PART,
        chunks::PART + 1,
        5 * chunks::PART,
        2 * chunks::PART + 7,
        10,
    ];
    for size in sizes {
        storage.commit(&put("a", &vec![size as u8; size])).unwrap();
        assert!(
            get(&storage, "a") == Some(vec![size as u8; size]),
            "{size} bytes"
        );
        assert_eq!(
            storage.inner.read().ledger.records,
            size.div_ceil(chunks::PART).max(1) as u64
        );
    }
    let mut delete = Batch::new();
    delete.delete(Space(1), "a");
    storage.commit(&put("a", &[1; 100_000])).unwrap();
    storage.commit(&delete).unwrap();
    assert_eq!(
        storage.inner.read().ledger,
        Ledger {
            commits: 9,
            ..Ledger::default()
        }
    );
    assert_eq!(
        fs::read_dir(dir.path().join("sled/blobs")).unwrap().count(),
        0,
        "no value makes a blob"
    );
}

/// Lets sled itself change the database behind the engine's back, as if it had recovered something else.
fn tamper(dir: &Path, change: impl FnOnce(&sled::Db)) -> Result<SledEngine, StorageError> {
    let storage = opened(dir).unwrap();
    storage.commit(&put("a", b"1")).unwrap();
    storage.commit(&put("b", b"1")).unwrap();
    storage.commit(&put("b", b"2")).unwrap();
    drop(storage);
    let db = config(&dir.join("sled")).open().unwrap();
    change(&db);
    db.flush().unwrap();
    drop(db);
    opened(dir)
}

#[test]
fn a_record_that_is_missing_stale_or_foreign_is_noticed() {
    type Tamper = fn(&sled::Db);
    let stale = |db: &sled::Db| {
        let key = flat_key(Space(1), b"b");
        let old = [&0_u32.to_le_bytes()[..], b"1"].concat();
        db.insert(&key, disk::seal(&key, &old).0).unwrap();
    };
    let cases: [(&str, Tamper); 4] = [
        ("missing", |db| {
            drop(db.remove(flat_key(Space(1), b"a")).unwrap().unwrap())
        }),
        ("stale", stale),
        ("no ledger", |db| {
            drop(db.remove(LEDGER_KEY).unwrap().unwrap())
        }),
        ("foreign", |db| drop(db.insert(b"\xffx", b"y").unwrap())),
    ];
    for (name, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        let outcome = tamper(dir.path(), change).map(|_| ());
        assert!(
            matches!(outcome, Err(StorageError::Damaged { .. })),
            "{name}: {outcome:?}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(
        tamper(dir.path(), |_| ()).is_ok(),
        "looking alone does no harm"
    );
}
