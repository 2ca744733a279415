//! Commits that are acknowledged before they are on the disk: a kill loses nothing of them, a power cut only the last
//! ones, and neither touches what was synced.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

#[macro_use]
mod common;

use std::fs;
use std::path::Path;

use common::{content, content_after, copy_dir, last_commit, numbered};
use storage::testing::conformance::{self, Reopen};
use storage::{Batch, EngineKind, Space, Storage, StorageError, open, open_reading};
use tempfile::TempDir;

with_each_engine!(
    relaxed_commits_keep_the_contract_of_commits,
    what_is_read_does_not_depend_on_where_it_is,
    a_kill_keeps_every_relaxed_commit,
    what_is_shown_while_opening_is_all_unless_a_journal_was_left,
    a_journal_cut_anywhere_gives_a_prefix_of_the_commits_and_keeps_the_rest_aside,
    a_flipped_bit_in_the_journal_never_gives_anything_but_a_prefix,
    a_journal_is_taken_in_once,
    a_journal_of_a_later_state_is_refused,
    the_journal_is_bounded,
    nothing_is_acknowledged_after_the_journal_failed,
);

/// Every commit relaxed.
struct Relaxed(Box<dyn Storage>);

impl Storage for Relaxed {
    fn engine(&self) -> &'static str {
        self.0.engine()
    }
    fn is_volatile(&self) -> bool {
        self.0.is_volatile()
    }
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.get(space, key)
    }
    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.0.scan(space, prefix, visit)
    }
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        self.0.commit_relaxed(batch)
    }
}

struct Dir(TempDir, EngineKind);

impl Reopen for Dir {
    type Engine = Relaxed;
    fn open(&self) -> Relaxed {
        Relaxed(open(self.0.path(), self.1).unwrap())
    }
}

fn relaxed_commits_keep_the_contract_of_commits(engine: EngineKind) {
    let dirs = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    conformance::run(|| {
        next.set(next.get() + 1);
        Relaxed(open(&dirs.path().join(next.get().to_string()), engine).unwrap())
    });
    conformance::run_reopen(&Dir(tempfile::tempdir().unwrap(), engine));
}

fn put(storage: &dyn Storage, key: &str, value: Option<&str>, relaxed: bool) {
    let mut batch = Batch::new();
    match value {
        Some(value) => batch.put(Space(1), key, value),
        None => batch.delete(Space(1), key),
    }
    match relaxed {
        true => storage.commit_relaxed(&batch).unwrap(),
        false => storage.commit(&batch).unwrap(),
    }
}

fn what_is_read_does_not_depend_on_where_it_is(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path(), engine).unwrap();
    for key in ["b", "d", "f", "h"] {
        put(&storage, key, Some("engine"), false);
    }
    for (key, value) in [
        ("a", Some("new")),
        ("d", Some("newer")),
        ("f", None),
        ("z", None),
        ("i", Some("new")),
    ] {
        put(&storage, key, value, true);
    }
    let expected = [
        ("a", "new"),
        ("b", "engine"),
        ("d", "newer"),
        ("h", "engine"),
        ("i", "new"),
    ];
    let check = |storage: &dyn Storage| {
        for stop_after in 1..=expected.len() {
            let mut found = Vec::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.push((text(key), text(value)));
                found.len() < stop_after
            };
            storage.scan(Space(1), b"", &mut visit).unwrap();
            let expected: Vec<_> = expected[..stop_after]
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(found, expected);
        }
        assert_eq!(storage.get(Space(1), b"f").unwrap(), None);
        assert_eq!(
            storage.get(Space(1), b"d").unwrap(),
            Some(b"newer".to_vec())
        );
        assert_eq!(storage.get(Space(2), b"d").unwrap(), None);
    };
    check(&storage);
    storage.sync().unwrap();
    check(&storage);
    drop(storage);
    check(&open(dir.path(), engine).unwrap());
}

/// A directory with five synced commits and relaxed ones up to `last`, as a process leaves it that is killed.
fn killed(engine: EngineKind, last: u32) -> TempDir {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = open(dir.path(), engine).unwrap();
    (1..=5).for_each(|number| storage.commit(&numbered(number)).unwrap());
    (6..=last).for_each(|number| storage.commit_relaxed(&numbered(number)).unwrap());
    copy_dir(dir.path(), copy.path());
    copy
}

fn a_kill_keeps_every_relaxed_commit(engine: EngineKind) {
    let dir = killed(engine, 25);
    let storage = open(dir.path(), engine).unwrap();
    assert_eq!(last_commit(&storage), 25);
    storage.commit_relaxed(&numbered(26)).unwrap();
    drop(storage);
    assert_eq!(last_commit(&open(dir.path(), engine).unwrap()), 26);
    assert!(!aside(dir.path()), "nothing was cut off");
}

fn what_is_shown_while_opening_is_all_unless_a_journal_was_left(engine: EngineKind) {
    let dir = killed(engine, 25);
    let read = || {
        let mut shown = Vec::new();
        let (storage, is_all) = open_reading(dir.path(), engine, &mut |space, key, value| {
            shown.push((space, key.to_vec(), value.to_vec()));
        })
        .unwrap();
        let mut scanned = Vec::new();
        for space in 0..=u8::MAX {
            storage
                .scan(Space(space), &[], &mut |key, value| {
                    scanned.push((Space(space), key.to_vec(), value.to_vec()));
                    true
                })
                .unwrap();
        }
        assert!(!scanned.is_empty());
        (shown == scanned, is_all)
    };
    assert_eq!(read(), (false, false), "a journal was left");
    assert_eq!(read(), (true, true), "it was taken in");
}

fn aside(dir: &Path) -> bool {
    dir.join("journal.cut.1").exists()
}

fn a_journal_cut_anywhere_gives_a_prefix_of_the_commits_and_keeps_the_rest_aside(
    engine: EngineKind,
) {
    let dir = killed(engine, 8);
    let whole = fs::read(dir.path().join("journal")).unwrap();
    let mut ends = Vec::new();
    for length in (0..whole.len()).step_by(7).chain([whole.len()]) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        fs::write(copy.path().join("journal"), &whole[..length]).unwrap();
        let storage = open(copy.path(), engine).unwrap();
        let last = last_commit(&storage);
        assert!(ends.last().is_none_or(|before| *before <= last), "{ends:?}");
        ends.push(last);
        let is_border = length == 0 || length == whole.len();
        assert!(aside(copy.path()) || is_border || length < 21 || last > 5);
    }
    assert_eq!((ends[0], ends.last()), (5, Some(&8)));
    assert!(ends.contains(&6) && ends.contains(&7));
}

fn a_flipped_bit_in_the_journal_never_gives_anything_but_a_prefix(engine: EngineKind) {
    let dir = killed(engine, 8);
    let whole = fs::read(dir.path().join("journal")).unwrap();
    let mut shorter = 0;
    for bit in (0..whole.len() * 8).step_by(29) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(copy.path().join("journal"), flipped).unwrap();
        let storage = open(copy.path(), engine).unwrap();
        let last = last_commit(&storage);
        assert!((5..8).contains(&last), "bit {bit}: commit {last}");
        assert!(aside(copy.path()), "bit {bit}: what was cut off is gone");
        shorter += 1;
    }
    assert!(shorter > 100);
}

/// The process dies between taking the journal in and removing it.
fn a_journal_is_taken_in_once(engine: EngineKind) {
    let dir = killed(engine, 8);
    let journal = fs::read(dir.path().join("journal")).unwrap();
    let storage = open(dir.path(), engine).unwrap();
    storage.commit(&numbered(9)).unwrap();
    drop(storage);
    fs::write(dir.path().join("journal"), journal).unwrap();
    let storage = open(dir.path(), engine).unwrap();
    assert_eq!(last_commit(&storage), 9, "older commits over newer ones");
}

fn a_journal_of_a_later_state_is_refused(engine: EngineKind) {
    let older = killed(engine, 8);
    let dir = tempfile::tempdir().unwrap();
    copy_dir(older.path(), dir.path());
    let storage = open(dir.path(), engine).unwrap();
    storage.commit_relaxed(&numbered(9)).unwrap();
    fs::copy(dir.path().join("journal"), older.path().join("journal")).unwrap();
    let error = open(older.path(), engine).err().unwrap();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

fn the_journal_is_bounded(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path(), engine).unwrap();
    let mut largest = 0;
    for number in 0..30_u32 {
        let mut batch = Batch::new();
        batch.put(Space(2), number.to_be_bytes(), vec![number as u8; 1 << 20]);
        storage.commit_relaxed(&batch).unwrap();
        let length = fs::metadata(dir.path().join("journal")).map_or(0, |file| file.len());
        largest = largest.max(length);
    }
    assert!((1 << 20..9 << 20).contains(&largest), "{largest} bytes");
    drop(storage);
    let storage = open(dir.path(), engine).unwrap();
    let mut found = 0;
    storage
        .scan(Space(2), b"", &mut |key, value| {
            assert!(value.len() == 1 << 20 && value[0] == key[3]);
            found += 1;
            true
        })
        .unwrap();
    assert_eq!(found, 30);
    assert_eq!(content(&storage).unwrap(), content_after(0));
}

/// As when the device answers with an error once: what stands in the way of the journal is a directory.
fn nothing_is_acknowledged_after_the_journal_failed(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path(), engine).unwrap();
    storage.commit(&numbered(1)).unwrap();
    let obstacle = dir.path().join("journal");
    fs::create_dir(&obstacle).unwrap();
    let error = storage.commit_relaxed(&numbered(2)).err().unwrap();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(storage.commit_relaxed(&numbered(2)), Err(error.clone()));
    assert_eq!(storage.commit(&numbered(2)), Err(error));
    assert_eq!(last_commit(&storage), 1);
    drop(storage);
    let storage = open(dir.path(), engine).unwrap();
    assert_eq!(last_commit(&storage), 1);
    storage.commit_relaxed(&numbered(2)).unwrap();
}
