//! The deterministic whole-system simulation: real gates, real realm and a store in one thread,
//! with chance from a seed and time of its own.
//!
//! Clients of both protocols work and misbehave, connections are cut, fall silent or are read
//! slowly, commits fail, the router is killed and started again. A judge who saw everything says
//! what must never happen ([`ledger`], [`locks`], [`calls`], [`verify`]).
//!
//! `SIM_SEEDS=n` runs that many seeds instead of the default, `SIM_SEED=n` runs one and prints
//! what happened in it.

mod actor;
mod calls;
mod dice;
mod driver;
mod janitor;
mod kv;
mod ledger;
mod lock;
mod locks;
mod mqtt;
mod net;
mod noise;
mod pubsub;
mod router;
mod rpc;
mod store;
mod verify;
mod wamp;
mod wamp_end;
mod world;

use router::Broken;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Report, Setting, run};

/// Steps of work and faults in each run.
const STEPS: u64 = 4_000;
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; a panic anywhere is a violation too.
fn play(setting: Setting) -> Result<Report, String> {
    match catch_unwind(AssertUnwindSafe(|| run(setting))) {
        Ok(result) => result,
        Err(_) => Err("a panic".to_owned()),
    }
}

fn setting(seed: u64, broken: Broken) -> Setting {
    Setting {
        seed,
        broken,
        trace: false,
        steps: number("SIM_STEPS").unwrap_or(STEPS),
    }
}

fn add(sum: &mut BTreeMap<&'static str, u64>, more: &BTreeMap<&'static str, u64>) {
    for (name, count) in more {
        *sum.entry(name).or_default() += count;
    }
}

#[test]
fn seeds_are_clean() {
    if let Some(seed) = number("SIM_SEED") {
        let report = play(Setting {
            trace: true,
            ..setting(seed, Broken::No)
        });
        println!("{report:#?}");
        report.unwrap_or_else(|what| panic!("SIM_SEED={seed}: {what}"));
        return;
    }
    let (mut faults, mut tally) = (BTreeMap::new(), BTreeMap::new());
    let mut failed = Vec::new();
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        match play(setting(seed, Broken::No)) {
            Ok(report) => {
                add(&mut faults, &report.faults);
                add(&mut tally, &report.tally);
            }
            Err(what) => failed.push(format!("SIM_SEED={seed}: {what}")),
        }
    }
    println!("{seeds} seeds; faults: {faults:#?}; done: {tally:#?}");
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
