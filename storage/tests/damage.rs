//! Damaged files: whatever happens to them, an acknowledged commit is never silently missing.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

#[macro_use]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{content, content_after, copy_dir, database_file, last_commit, numbered};
use storage::{EngineKind, Storage, StorageError, open, open_sled};
use tempfile::TempDir;

const COMMITS: u32 = 32;

/// A closed directory that was reopened in the middle, so that a snapshot covers a part of its log.
fn written(engine: EngineKind) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for half in [1..=COMMITS / 2, COMMITS / 2 + 1..=COMMITS] {
        let storage = open(dir.path(), engine).unwrap();
        half.for_each(|number| storage.commit(&numbered(number)).unwrap());
    }
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

#[derive(Debug, PartialEq)]
enum Found {
    Refused,
    Whole,
}

with_each_engine!(
    a_flipped_byte_anywhere_is_refused_or_harmless,
    a_truncated_file_is_refused_or_harmless,
    a_missing_file_is_refused_or_harmless,
    an_older_database_under_a_newer_watermark_is_told_apart,
    a_torn_commit_opens_with_all_or_nothing_of_it,
);

/// Opens a copy that `damage` has treated, twice: engines repair what they open, and the second start must not be
/// fooled by that.
fn open_damaged(
    engine: EngineKind,
    original: &Path,
    what: &str,
    damage: impl FnOnce(&Path),
) -> Found {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(original, copy.path());
    damage(copy.path());
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(match open(copy.path(), engine) {
            Err(StorageError::Damaged { .. } | StorageError::Newer { .. }) => Found::Refused,
            Err(error) => panic!("{what}: {error:?}"),
            Ok(storage) => {
                assert!(
                    content(&storage).unwrap() == content_after(COMMITS),
                    "{what}: silently something else"
                );
                Found::Whole
            }
        });
    }
    assert_eq!(
        outcomes[0], outcomes[1],
        "{what}: the second start decides otherwise"
    );
    outcomes.remove(0)
}

fn flip(file: &Path, at: usize, mask: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= mask;
    fs::write(file, bytes).unwrap();
}

/// Positions worth damaging: all of a small file, of a large one the start, the end and samples between.
fn positions(length: usize, samples: usize) -> Vec<usize> {
    if length <= 64 {
        return (0..length).collect();
    }
    let step = (length / samples).max(1);
    // A step that is no multiple of anything meets headers, lengths, checksums and values alike.
    let mut positions: Vec<usize> = (0..24)
        .chain((24..length).step_by(step | 1))
        .chain(length - 8..length)
        .collect();
    positions.dedup();
    positions
}

fn relative<'a>(file: &'a Path, dir: &Path) -> &'a Path {
    file.strip_prefix(dir).unwrap()
}

fn a_flipped_byte_anywhere_is_refused_or_harmless(engine: EngineKind) {
    let dir = written(engine);
    let (mut refused, mut whole) = (0, 0);
    for file in files(dir.path()) {
        let name = relative(&file, dir.path());
        let is_database = name == Path::new(database_file(engine));
        for at in positions(
            fs::metadata(&file).unwrap().len() as usize,
            if is_database { 160 } else { 6 },
        ) {
            let mask = [0x01, 0x80, 0xff][at % 3];
            match open_damaged(engine, dir.path(), &format!("{name:?} byte {at}"), |copy| {
                flip(&copy.join(name), at, mask)
            }) {
                Found::Refused => refused += 1,
                Found::Whole => whole += 1,
            }
        }
    }
    println!("{refused} flips refused, {whole} harmless");
    assert!(
        refused > 50 && whole > 10,
        "{refused} refused, {whole} harmless: the test does not meet the data"
    );
}

/// In a log of several segments sled skips the rest of a damaged one and goes on with the next, so that the newest
/// commit can be there while older ones are not.
#[test]
fn a_flipped_byte_in_an_early_segment_is_refused_or_harmless() {
    const EACH: u32 = 20;
    let dir = tempfile::tempdir().unwrap();
    let storage = open_sled(dir.path()).unwrap();
    for number in 1..=COMMITS {
        let mut batch = numbered(number);
        (0..EACH).for_each(|at| {
            batch.put(
                storage::Space(2),
                (number * EACH + at).to_be_bytes(),
                vec![at as u8; 8000],
            )
        });
        storage.commit(&batch).unwrap();
    }
    drop(storage);
    let log = dir.path().join("sled/db");
    let length = fs::metadata(&log).unwrap().len() as usize;
    assert!(
        length > 3 * (2 << 20),
        "{length} bytes are too few segments"
    );
    let mut refused = 0;
    for at in (1000..length).step_by((length / 24) | 1) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        flip(&copy.path().join("sled/db"), at, 0x10);
        // Without the watermark and the snapshot only the records themselves can tell.
        if at % 2 == 0 {
            fs::remove_file(copy.path().join("watermark")).unwrap();
        }
        match open_sled(copy.path()) {
            Err(StorageError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error:?}"),
            Ok(storage) => {
                let last = last_commit(&storage);
                assert!(
                    last == COMMITS || at % 2 == 0,
                    "byte {at}: commit {last} under a later watermark"
                );
                let mut others = 0;
                let mut count = |_: &[u8], _: &[u8]| {
                    others += 1;
                    true
                };
                storage.scan(storage::Space(2), b"", &mut count).unwrap();
                assert_eq!(others, last * EACH, "byte {at}: records are missing");
            }
        }
    }
    assert!(
        refused > 3,
        "{refused} refused: the test does not meet the data"
    );
}

fn a_truncated_file_is_refused_or_harmless(engine: EngineKind) {
    let dir = written(engine);
    let mut refused = 0;
    for file in files(dir.path()) {
        let name = relative(&file, dir.path());
        let length = fs::metadata(&file).unwrap().len() as usize;
        let step = (length / 24).max(1);
        for to in (0..length).step_by(step | 1) {
            let cut = |copy: &Path| {
                fs::File::options()
                    .write(true)
                    .open(copy.join(name))
                    .unwrap()
                    .set_len(to as u64)
                    .unwrap()
            };
            if open_damaged(engine, dir.path(), &format!("{name:?} cut to {to}"), cut)
                == Found::Refused
            {
                refused += 1;
            }
        }
    }
    assert!(
        refused > 20,
        "{refused} refused: the test does not meet the data"
    );
}

fn a_missing_file_is_refused_or_harmless(engine: EngineKind) {
    let dir = written(engine);
    for file in files(dir.path()) {
        let name = relative(&file, dir.path());
        let found = open_damaged(engine, dir.path(), &format!("{name:?} removed"), |copy| {
            fs::remove_file(copy.join(name)).unwrap()
        });
        if name == Path::new(database_file(engine)) || name.ends_with("FORMAT") {
            assert_eq!(found, Found::Refused, "{name:?}");
        }
    }
    let gone = open_damaged(
        engine,
        dir.path(),
        "database removed",
        |copy| match engine {
            EngineKind::Sled => fs::remove_dir_all(copy.join("sled")).unwrap(),
            EngineKind::Redb => fs::remove_file(copy.join("records.redb")).unwrap(),
        },
    );
    assert_eq!(gone, Found::Refused);
}

fn an_older_database_under_a_newer_watermark_is_told_apart(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let storage = open(dir.path(), engine).unwrap();
    (1..=5).for_each(|number| storage.commit(&numbered(number)).unwrap());
    drop(storage);
    copy_dir(dir.path(), older.path());
    let storage = open(dir.path(), engine).unwrap();
    storage.commit(&numbered(6)).unwrap();
    drop(storage);
    fs::copy(dir.path().join("watermark"), older.path().join("watermark")).unwrap();
    let text = open(older.path(), engine).err().unwrap().to_string();
    assert!(
        text.contains("ends at commit 5 but commit 6 was acknowledged"),
        "{text}"
    );
    fs::remove_file(older.path().join("watermark")).unwrap();
    assert_eq!(
        last_commit(&open(older.path(), engine).unwrap()),
        5,
        "the way out that the message names"
    );
}

/// A power cut in the middle of a commit: of the bytes it changed only the first ones have arrived. That must neither
/// lose what was acknowledged before nor keep the directory from opening.
fn a_torn_commit_opens_with_all_or_nothing_of_it(engine: EngineKind) {
    // One small commit, one with a value in parts, one of many records that fills several buffers.
    for number in [8, 10] {
        torn_commit(engine, number, numbered(number));
    }
    let mut large = numbered(8);
    (0..3000_u32)
        .for_each(|at| large.put(storage::Space(2), at.to_be_bytes(), vec![at as u8; 200]));
    torn_commit(engine, 8, large);
}

fn torn_commit(engine: EngineKind, number: u32, batch: storage::Batch) {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = open(dir.path(), engine).unwrap();
    (1..number).for_each(|number| storage.commit(&numbered(number)).unwrap());
    copy_dir(dir.path(), before.path());
    storage.commit(&batch).unwrap();
    copy_dir(dir.path(), after.path());
    drop(storage);

    let old = fs::read(before.path().join(database_file(engine))).unwrap();
    let new = fs::read(after.path().join(database_file(engine))).unwrap();
    let same = |at: &usize| old.get(*at) == new.get(*at);
    let first = (0..new.len()).find(|at| !same(at)).unwrap();
    let last = (0..new.len()).rfind(|at| !same(at)).unwrap() + 1;
    let step = ((last - first) / 24).max(1) | 1;
    let (mut without, mut with) = (0, 0);
    for cut in (first..last).step_by(step).chain([last]) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(after.path(), copy.path());
        fs::copy(
            before.path().join("watermark"),
            copy.path().join("watermark"),
        )
        .unwrap();
        let mut torn = new[..cut].to_vec();
        torn.extend_from_slice(old.get(cut..).unwrap_or_default());
        if engine == EngineKind::Redb {
            // The new length has been synced before anything else was written.
            torn.resize(new.len().max(torn.len()), 0);
        }
        fs::write(copy.path().join(database_file(engine)), torn).unwrap();
        let storage = open(copy.path(), engine)
            .unwrap_or_else(|error| panic!("commit {number} cut at {cut}: {error}"));
        match last_commit(&storage) {
            found if found == number => with += 1,
            found if found + 1 == number => without += 1,
            found => panic!("commit {number} cut at {cut}: commit {found} found"),
        }
        let mut others = 0;
        storage
            .scan(storage::Space(2), b"", &mut |_, _| {
                others += 1;
                true
            })
            .unwrap();
        assert!(others == 0 || others == 3000, "{others} of 3000 records");
    }
    assert!(without > 0 && with > 0, "{without} without, {with} with it");
}

#[test]
fn an_interrupted_snapshot_or_creation_does_not_keep_the_directory_from_opening() {
    let engine = EngineKind::Sled;
    let dir = written(engine);
    let found = open_damaged(engine, dir.path(), "torn snapshot", |copy| {
        fs::write(copy.join("sled/snap.7FFFFFFFFFFFFFFF.generating"), b"torn").unwrap();
    });
    assert_eq!(found, Found::Whole);

    let dir = tempfile::tempdir().unwrap();
    drop(open_sled(dir.path()).unwrap());
    fs::rename(dir.path().join("sled"), dir.path().join("sled.creating")).unwrap();
    fs::write(dir.path().join("sled.creating/conf"), b"torn configuration").unwrap();
    let storage = open_sled(dir.path()).unwrap();
    storage.commit(&numbered(1)).unwrap();
    assert!(!dir.path().join("sled.creating").exists());

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), EngineKind::Redb).unwrap());
    fs::remove_file(dir.path().join("records.redb")).unwrap();
    fs::write(dir.path().join("records.redb.creating"), b"torn").unwrap();
    let storage = open(dir.path(), EngineKind::Redb).unwrap();
    storage.commit(&numbered(1)).unwrap();
    assert!(!dir.path().join("records.redb.creating").exists());
}
