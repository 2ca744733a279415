//! The random walk: legal packets exchanged with an oracle, then attacked.

use std::cell::Cell;
use std::env;

use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use protocols::mqtt::codec::EncodeError;
use protocols::mqtt::packet::{Direction, Packet, ProtocolVersion};

use crate::exclusions::Exclusions;
use crate::harness::{Case, Oracle, Verdict, judge};
use crate::hostile::{Attack, attack};
use crate::strategies;

/// Steps of all oracles together, if `ORACLE_STEPS` does not say otherwise.
const DEFAULT_STEPS: u32 = 9_000;
const ORACLES: u32 = 3;

/// A legal packet and what is done to it.
#[derive(Debug, Clone)]
struct Step {
    version: ProtocolVersion,
    direction: Direction,
    packet: Packet,
    attack: Attack,
}

fn step(version: ProtocolVersion, direction: Direction) -> BoxedStrategy<Step> {
    (strategies::packet(version, direction), attack(version))
        .prop_map(move |(packet, attack)| Step {
            version,
            direction,
            packet,
            attack,
        })
        .boxed()
}

/// Steps in every version the oracle knows, in both directions.
fn steps(oracle: &dyn Oracle) -> impl Strategy<Value = Step> {
    let versions = [
        ProtocolVersion::V5,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V3_1,
    ];
    let known = versions
        .into_iter()
        .filter(|version| oracle.knows(*version));
    let both = known.flat_map(|version| {
        [Direction::ClientToServer, Direction::ServerToClient]
            .map(|direction| step(version, direction))
    });
    // A union builds its parts once; a flat map would compile their patterns at each step.
    Union::new(both)
}

/// What a walk came across.
#[derive(Default)]
struct Tally {
    exchanged: Cell<u64>,
    refused: Cell<u64>,
    excused: Cell<u64>,
}

impl Tally {
    fn count(&self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Exchanged => &self.exchanged,
            Verdict::Refused => &self.refused,
            Verdict::Excused(_) | Verdict::Unexplained(_) => &self.excused,
        };
        counter.set(counter.get() + 1);
    }
}

fn number(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Makes this oracle's share of the steps and fails at the first unexplained disagreement.
pub fn walk(oracle: &dyn Oracle) {
    let exclusions = Exclusions::all();
    let count = number("ORACLE_STEPS", DEFAULT_STEPS).div_ceil(ORACLES);
    let seed = number("ORACLE_SEED", 0).to_be_bytes().repeat(8);
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig {
            cases: count,
            failure_persistence: None,
            ..ProptestConfig::default()
        },
        TestRng::from_seed(RngAlgorithm::ChaCha, &seed),
    );
    let (legal, hostile) = (Tally::default(), Tally::default());
    let result = runner.run(&steps(oracle), |step| {
        take(oracle, &exclusions, &step, &legal, &hostile)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, step)) => panic!("{why}\nminimal step: {step:?}"),
        Err(error) => panic!("{error}"),
    }
    for (name, tally) in [("legal", &legal), ("hostile", &hostile)] {
        println!(
            "{:?}, {count} steps, {name}: {} exchanged, {} refused by both, {} excused",
            oracle.name(),
            tally.exchanged.get(),
            tally.refused.get(),
            tally.excused.get()
        );
    }
    let reached = hostile.exchanged.get() + hostile.excused.get();
    assert!(reached * 8 > u64::from(count), "the attacks are too wild");
    assert_eq!(legal.refused.get(), 0, "a legal packet was refused");
}

fn take(
    oracle: &dyn Oracle,
    exclusions: &Exclusions,
    step: &Step,
    legal: &Tally,
    hostile: &Tally,
) -> Result<(), TestCaseError> {
    let refused = |error: EncodeError| TestCaseError::fail(format!("not written: {error}"));
    let whole = Case::of(&step.packet, step.version, step.direction).map_err(refused)?;
    prop_assert_eq!(whole.ours(), Ok(Some(step.packet.clone())));
    meet(oracle, exclusions, &whole, legal)?;
    let attacked = Case {
        bytes: step.attack.bytes(&whole.bytes),
        ..whole
    };
    meet(oracle, exclusions, &attacked, hostile)?;
    // What an attack left legal, in the form in which we write it.
    if let Ok(Some(packet)) = attacked.ours() {
        let version = attacked.judged_version();
        let rewritten = Case::of(&packet, version, attacked.direction).map_err(refused)?;
        prop_assert_eq!(rewritten.ours(), Ok(Some(packet)), "not stable");
        meet(oracle, exclusions, &rewritten, legal)?;
    }
    Ok(())
}

fn meet(
    oracle: &dyn Oracle,
    exclusions: &Exclusions,
    case: &Case,
    tally: &Tally,
) -> Result<(), TestCaseError> {
    match judge(oracle, exclusions, case) {
        Some(Verdict::Unexplained(why)) => Err(TestCaseError::fail(why)),
        Some(verdict) => {
            tally.count(&verdict);
            Ok(())
        }
        None => Ok(()),
    }
}
