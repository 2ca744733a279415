//! The short forms of the long measurements (`src/bin/measure.rs`): what they promise is checked
//! here, what they time is not.

use anyhow::ensure;
use integration_tests::measure::{kills, malformed, order, restarts, retained};
use std::time::Duration;

use crate::Outcome;

/// Memory that the second half of the strangers may add, in bytes: what allocators keep at will.
const GROWTH_ALLOWED: u64 = 4 << 20;

#[test]
fn kills_and_reconnects_lose_double_and_reorder_nothing() -> Outcome {
    let plan = restarts::Plan {
        messages: 40_000,
        pairs: 4,
        kills: 4,
        reconnects: 32,
        window: 48,
    };
    let report = restarts::run(&plan)?;
    ensure!(report.delivered == plan.messages, "{report:?}");
    ensure!(report.reconnects >= plan.reconnects, "{report:?}");
    Ok(())
}

#[test]
fn a_slow_reader_gets_every_retained_value_once() -> Outcome {
    // More values than the reader's queue may hold.
    let plan = retained::Plan {
        values: 20_000,
        receive_maximum: 10,
        round_trip: Duration::ZERO,
        unloaded: Duration::ZERO,
    };
    let report = retained::run(&plan)?;
    ensure!(report.most_open == 10, "{} open", report.most_open);
    Ok(())
}

#[test]
fn strangers_who_talk_nonsense_leave_nothing_behind() -> Outcome {
    let report = malformed::run(20_000, 1)?;
    ensure!(report.growth() <= GROWTH_ALLOWED, "{:?}", report.resident);
    Ok(())
}

#[test]
fn order_is_kept_while_all_threads_are_busy() -> Outcome {
    let plan = order::Plan {
        senders: 6,
        receivers: 2,
        messages: 2_000,
    };
    let report = order::run(&plan)?;
    ensure!(report.events == 24_000, "{report:?}");
    // Without these nothing was tried of what comes and goes.
    ensure!(
        report.changes > 0 && report.passing_events > 0,
        "{report:?}"
    );
    Ok(())
}

#[test]
fn what_is_acknowledged_is_there_after_a_kill_in_both_engines() -> Outcome {
    for (engine, durability) in [
        ("sled", "always"),
        ("redb", "always"),
        ("sled", "interval(200)"),
        ("redb", "none"),
    ] {
        let report = kills::run(&kills::Plan {
            engine: engine.to_owned(),
            durability: durability.to_owned(),
            rounds: 4,
            time: Duration::MAX,
        })?;
        anyhow::ensure!(report.rounds == 4 && report.in_flight > 0, "{report:?}");
    }
    Ok(())
}
