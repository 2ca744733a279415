//! What the store promises to concurrent sessions, from histories recorded over real sockets: the
//! short forms of `measure histories` and `measure mutexes`.

use anyhow::ensure;
use integration_tests::measure::{histories, mutexes};

use crate::Outcome;

#[test]
fn writes_waits_wills_reads_watches_and_locks_are_linearizable() -> Outcome {
    let plan = histories::Plan {
        histories: 100,
        tables: 4,
        kill_after: 20,
        seed: 1,
    };
    let report = histories::run(&plan)?;
    ensure!(report.histories == plan.histories, "{report:?}");
    // A search that gave up would say nothing.
    ensure!(report.undecided == 0, "{report:?}");
    // Without these little was tried.
    let tried = [
        report.writes,
        report.conditional,
        report.watching,
        report.refused,
        report.reads,
        report.by_call,
        report.conflicts,
        report.listed,
        report.changes,
        report.canceled,
        report.grants,
        report.held,
        report.releases,
        report.lost,
        report.inspected,
        report.ends,
        report.kills,
    ];
    ensure!(tried.iter().all(|count| *count > 0), "{report:?}");
    Ok(())
}

#[test]
fn nobody_holds_a_lock_while_another_does() -> Outcome {
    let plan = mutexes::Plan {
        grants: 5_000,
        clients: 8,
        keys: 16,
        window: 6,
        kills: 4,
        dies_every: 50,
        seed: 1,
    };
    let report = mutexes::run(&plan)?;
    ensure!(report.grants >= plan.grants, "{report:?}");
    ensure!(report.kills == plan.kills, "{report:?}");
    let tried = [
        report.in_certain_order,
        report.confirmed,
        report.cut,
        report.goodbyes,
        report.held_at_death,
    ];
    ensure!(tried.iter().all(|count| *count > 0), "{report:?}");
    Ok(())
}
