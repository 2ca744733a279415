//! The engines on disk against an ordered map, also across reopening.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage::{Batch, EngineKind, Space, Storage, open};

type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Vec<u8>, Option<Vec<u8>>)>, bool),
    Sync,
    Scan(u8, Vec<u8>),
    Reopen,
}

/// Few short keys, so that they collide and share prefixes; now and then long ones and large values.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255)];
    prop_oneof![20 => prop::collection::vec(byte.clone(), 0..4), 1 => prop::collection::vec(byte, 300..400)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (any::<u8>(), 10_000..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..3_u8, key(), prop::option::weighted(0.7, value()));
    prop_oneof![
        12 => (prop::collection::vec(change, 0..30), any::<bool>()).prop_map(|(changes, relaxed)| Step::Commit(changes, relaxed)),
        1 => Just(Step::Sync),
        4 => (0..3_u8, key()).prop_map(|(space, prefix)| Step::Scan(space, prefix)),
        2 => Just(Step::Reopen),
    ]
}

fn scan(storage: &dyn Storage, space: u8, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        true
    };
    storage.scan(Space(space), prefix, &mut visit).unwrap();
    found
}

fn expected(model: &Model, space: u8, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fits = |(key, _): &(&(u8, Vec<u8>), &Vec<u8>)| key.0 == space && key.1.starts_with(prefix);
    model
        .iter()
        .filter(fits)
        .map(|(key, value)| (key.1.clone(), value.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn equals_an_ordered_map(steps in prop::collection::vec(step(), 1..40), engine in prop::sample::select(EngineKind::ALL)) {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = open(dir.path(), engine).unwrap();
        let mut model = Model::new();
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Sync => storage.sync().unwrap(),
                Step::Commit(changes, relaxed) => {
                    let mut batch = Batch::new();
                    for (space, key, value) in changes {
                        match value {
                            Some(value) => {
                                batch.put(Space(space), key.clone(), value.clone());
                                model.insert((space, key), value);
                            }
                            None => {
                                batch.delete(Space(space), key.clone());
                                model.remove(&(space, key));
                            }
                        }
                    }
                    match relaxed {
                        true => storage.commit_relaxed(&batch).unwrap(),
                        false => storage.commit(&batch).unwrap(),
                    }
                }
                Step::Scan(space, prefix) => {
                    prop_assert!(scan(&*storage, space, &prefix) == expected(&model, space, &prefix));
                    let one = storage.get(Space(space), &prefix).unwrap();
                    prop_assert!(one.as_ref() == model.get(&(space, prefix)));
                }
                Step::Reopen => {
                    drop(storage);
                    storage = open(dir.path(), engine).unwrap();
                    for space in 0..3 {
                        prop_assert!(scan(&*storage, space, &[]) == expected(&model, space, &[]));
                    }
                }
            }
        }
    }
}
