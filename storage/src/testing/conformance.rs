//! What every engine must do, whatever it is built of.
//!
//! Call [`run`] with a factory of empty engines; for engines that keep data call [`run_reopen`] as well. A failed
//! expectation panics with its own words, as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::sync::Arc;

use crate::{Batch, Space, Storage, StorageError};

/// Opens the same store again and again; whatever was opened before is dropped first.
pub trait Reopen {
    /// The engine under test.
    type Engine: Storage;
    /// Opens the store with everything committed so far.
    fn open(&self) -> Self::Engine;
}

/// Runs every check that needs no reopening, each on an engine of its own.
///
/// # Panics
/// If the engine does not keep the contract of [`Storage`].
pub fn run<S: Storage>(make: impl Fn() -> S) {
    reads_what_was_put(&make());
    spaces_are_apart(&make());
    later_operations_win(&make());
    scans_in_key_order(&make());
    scans_only_the_prefix(&make());
    scan_stops_when_told(&make());
    empty_and_large_records(&make());
    refuses_the_engines_space(&make());
    empty_batch(&make());
    parallel_readers_see_whole_batches(Arc::new(make()));
}

/// Runs the checks of durability.
///
/// # Panics
/// If the engine does not keep the contract of [`Storage`].
pub fn run_reopen(store: &impl Reopen) {
    const SPACE: Space = Space(7);
    for round in 0..5_u8 {
        let engine = store.open();
        assert!(
            !engine.is_volatile(),
            "a volatile engine cannot be reopened"
        );
        let expected: Vec<(Vec<u8>, Vec<u8>)> =
            (0..round).map(|r| (vec![r], vec![r; 1000])).collect();
        assert_eq!(all(&engine, SPACE, &[]), expected, "round {round}");
        assert_eq!(
            engine.get(Space(8), b"gone").unwrap(),
            None,
            "a delete is durable as well"
        );
        engine
            .commit(&batch(&[
                (SPACE, &[round], Some(&[round; 1000])),
                (Space(8), b"gone", Some(b"x")),
            ]))
            .unwrap();
        engine.commit(&batch(&[(Space(8), b"gone", None)])).unwrap();
    }
}

type Change<'a> = (Space, &'a [u8], Option<&'a [u8]>);

fn batch(changes: &[Change<'_>]) -> Batch {
    let mut batch = Batch::new();
    for (space, key, value) in changes {
        match value {
            Some(value) => batch.put(*space, *key, *value),
            None => batch.delete(*space, *key),
        }
    }
    batch
}

fn all(engine: &impl Storage, space: Space, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        records.push((key.to_vec(), value.to_vec()));
        true
    };
    engine.scan(space, prefix, &mut visit).unwrap();
    records
}

fn keys(engine: &impl Storage, space: Space, prefix: &[u8]) -> Vec<Vec<u8>> {
    all(engine, space, prefix)
        .into_iter()
        .map(|(key, _)| key)
        .collect()
}

fn reads_what_was_put(engine: &impl Storage) {
    assert!(!engine.engine().is_empty());
    assert_eq!(engine.get(Space(1), b"k").unwrap(), None);
    engine
        .commit(&batch(&[(Space(1), b"k", Some(b"v"))]))
        .unwrap();
    assert_eq!(engine.get(Space(1), b"k").unwrap(), Some(b"v".to_vec()));
    engine
        .commit(&batch(&[(Space(1), b"k", Some(b"w"))]))
        .unwrap();
    assert_eq!(engine.get(Space(1), b"k").unwrap(), Some(b"w".to_vec()));
    engine
        .commit(&batch(&[
            (Space(1), b"k", None),
            (Space(1), b"absent", None),
        ]))
        .unwrap();
    assert_eq!(engine.get(Space(1), b"k").unwrap(), None);
}

fn spaces_are_apart(engine: &impl Storage) {
    engine
        .commit(&batch(&[
            (Space(0), b"k", Some(b"0")),
            (Space(1), b"k", Some(b"1")),
            (Space(254), b"k", Some(b"2")),
        ]))
        .unwrap();
    assert_eq!(engine.get(Space(0), b"k").unwrap(), Some(b"0".to_vec()));
    assert_eq!(all(engine, Space(1), b""), [(b"k".to_vec(), b"1".to_vec())]);
    assert_eq!(
        all(engine, Space(254), b""),
        [(b"k".to_vec(), b"2".to_vec())]
    );
    assert_eq!(engine.get(Space(2), b"k").unwrap(), None);
}

fn later_operations_win(engine: &impl Storage) {
    let changes: [Change<'_>; 5] = [
        (Space(1), b"a", Some(b"1")),
        (Space(1), b"a", None),
        (Space(1), b"b", None),
        (Space(1), b"b", Some(b"2")),
        (Space(1), b"b", Some(b"3")),
    ];
    engine.commit(&batch(&changes)).unwrap();
    assert_eq!(all(engine, Space(1), b""), [(b"b".to_vec(), b"3".to_vec())]);
}

fn scans_in_key_order(engine: &impl Storage) {
    let ordered: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x01",
        b"a",
        b"a\x00",
        b"ab",
        b"\xff",
    ];
    for key in ordered.iter().rev() {
        engine
            .commit(&batch(&[(Space(1), key, Some(key))]))
            .unwrap();
    }
    assert_eq!(keys(engine, Space(1), b""), ordered);
}

fn scans_only_the_prefix(engine: &impl Storage) {
    let stored: [&[u8]; 6] = [b"a", b"ab", b"ab\xff", b"ab\xff\xff", b"ac", b"\xff\xff"];
    let changes: Vec<Change<'_>> = stored
        .iter()
        .map(|key| (Space(1), *key, Some(*key)))
        .collect();
    engine.commit(&batch(&changes)).unwrap();
    engine
        .commit(&batch(&[(Space(2), b"ab", Some(b"next space"))]))
        .unwrap();
    assert_eq!(
        keys(engine, Space(1), b"ab"),
        [&b"ab"[..], b"ab\xff", b"ab\xff\xff"]
    );
    assert_eq!(
        keys(engine, Space(1), b"ab\xff"),
        [&b"ab\xff"[..], b"ab\xff\xff"]
    );
    assert_eq!(keys(engine, Space(1), b"\xff"), [b"\xff\xff"]);
    assert!(keys(engine, Space(1), b"b").is_empty());
}

fn scan_stops_when_told(engine: &impl Storage) {
    let changes: [Change<'_>; 3] = [
        (Space(1), b"a", Some(b"")),
        (Space(1), b"b", Some(b"")),
        (Space(1), b"c", Some(b"")),
    ];
    engine.commit(&batch(&changes)).unwrap();
    let mut seen = 0;
    engine
        .scan(Space(1), b"", &mut |_, _| {
            seen += 1;
            seen < 2
        })
        .unwrap();
    assert_eq!(seen, 2);
}

fn empty_and_large_records(engine: &impl Storage) {
    // Above any threshold at which an engine may store a value elsewhere.
    let large: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let long_key = vec![9; 65_535];
    engine
        .commit(&batch(&[
            (Space(1), b"", Some(b"")),
            (Space(1), b"large", Some(&large)),
        ]))
        .unwrap();
    engine
        .commit(&batch(&[(Space(1), &long_key, Some(b"long"))]))
        .unwrap();
    assert_eq!(engine.get(Space(1), b"").unwrap(), Some(Vec::new()));
    assert!(engine.get(Space(1), b"large").unwrap() == Some(large));
    assert_eq!(
        engine.get(Space(1), &long_key).unwrap(),
        Some(b"long".to_vec())
    );
    assert_eq!(keys(engine, Space(1), b"").len(), 3);
}

fn refuses_the_engines_space(engine: &impl Storage) {
    let mut mixed = batch(&[(Space(1), b"k", Some(b"v"))]);
    mixed.put(Space::ENGINE, "k", "v");
    assert!(matches!(
        engine.commit(&mixed),
        Err(StorageError::Io { .. })
    ));
    assert_eq!(
        engine.get(Space(1), b"k").unwrap(),
        None,
        "nothing of a refused batch is applied"
    );
    engine
        .commit(&batch(&[(Space(1), b"k", Some(b"v"))]))
        .expect("the engine goes on");
}

fn empty_batch(engine: &impl Storage) {
    engine.commit(&Batch::new()).unwrap();
    assert!(keys(engine, Space(1), b"").is_empty());
}

/// A writer moves two records together; a reader that scans must never see them apart.
fn parallel_readers_see_whole_batches(engine: Arc<impl Storage>) {
    const ROUNDS: u8 = 50;
    let pair = |round: u8| {
        batch(&[
            (Space(1), b"a", Some(&[round])),
            (Space(1), b"b", Some(&[round])),
        ])
    };
    engine.commit(&pair(0)).unwrap();
    let writer = {
        let engine = engine.clone();
        std::thread::spawn(move || {
            (1..=ROUNDS).for_each(|round| engine.commit(&pair(round)).unwrap())
        })
    };
    loop {
        let done = writer.is_finished();
        let records = all(&*engine, Space(1), b"");
        assert_eq!(records[0].1, records[1].1, "half a batch was visible");
        if done {
            break;
        }
    }
    writer.join().unwrap();
    assert_eq!(engine.get(Space(1), b"a").unwrap(), Some(vec![ROUNDS]));
}
