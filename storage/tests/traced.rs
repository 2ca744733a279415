//! What a disk can do to engines that write files themselves: every power cut, every call that fails.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::process::Command;

use storage::EngineKind;
use storage::testing::traced::{self, Faults, Plan};

/// Not a test of its own: the process that is traced.
#[test]
fn child() {
    traced::child::run();
}

fn child_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command
}

fn plan(engine: EngineKind, points: u64) -> Plan {
    Plan {
        engine,
        commits: 18,
        points,
        seed: 7,
        data_is_not_synced: false,
    }
}

/// The short form; `measure power` is the long one.
#[test]
fn a_power_cut_anywhere_leaves_every_acknowledged_commit_and_no_half_one() {
    for engine in EngineKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(*engine, 150);
        let cuts = traced::cut_everywhere(dir.path(), &plan, &child_command).unwrap();
        println!("{engine}: {cuts:?}");
        assert!(cuts.points >= plan.points);
        assert!(cuts.with_it > 0 && cuts.with_it < cuts.points, "{cuts:?}");
    }
}

/// That the cuts of the test above are cruel enough.
#[test]
fn a_commit_whose_data_is_not_synced_is_missed_after_a_power_cut() {
    for engine in EngineKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            data_is_not_synced: true,
            ..plan(*engine, 800)
        };
        let why = traced::cut_everywhere(dir.path(), &plan, &child_command).unwrap_err();
        println!("{engine}: {why}");
    }
}

/// The short form; `measure calls` is the long one.
#[test]
fn a_call_that_fails_loses_nothing_acknowledged_and_is_told() {
    for engine in EngineKind::ALL {
        for (is_full, lasts) in [(false, false), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            let faults = Faults {
                engine: *engine,
                is_full,
                lasts,
                step: 29,
            };
            let strikes = traced::break_everywhere(dir.path(), faults, &child_command).unwrap();
            println!("{faults:?}: {strikes:?}");
            assert!(strikes.runs > 5, "{strikes:?}");
        }
    }
}
