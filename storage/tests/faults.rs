//! What a disk can do to redb: every power cut, every call that fails.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::io::ErrorKind;

use storage::EngineKind;
use storage::testing::{break_everywhere, cut_everywhere, flip_everywhere};

/// The short form; `measure power` is the long one.
#[test]
fn a_power_cut_anywhere_leaves_every_acknowledged_commit_and_no_half_one() {
    let dir = tempfile::tempdir().unwrap();
    let cuts = cut_everywhere(dir.path(), 12, 1_500, 7).unwrap();
    println!("{cuts:?}");
    assert!(cuts.points >= 1_500);
    assert!(cuts.with_it > 0 && cuts.with_it < cuts.points / 2);
}

#[test]
fn a_disk_that_fails_at_any_call_loses_nothing_acknowledged() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let dir = tempfile::tempdir().unwrap();
        let calls = break_everywhere(dir.path(), kind).unwrap();
        println!("{kind}: {calls} calls");
        assert!(
            calls > 10,
            "{calls} calls: the test does not meet the engine"
        );
    }
}

/// `measure flips` tries every bit.
#[test]
fn a_flipped_bit_or_a_missing_end_is_refused_or_harmless() {
    for (engine, step) in [(EngineKind::Sled, 9_001), (EngineKind::Redb, 3_001)] {
        let dir = tempfile::tempdir().unwrap();
        let flips = flip_everywhere(dir.path(), engine, step).unwrap();
        println!("{engine}: {flips:?}");
        assert!(flips.refused > 3, "{engine}: {flips:?}");
    }
}
