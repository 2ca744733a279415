//! The router beside other brokers: the same sessions are played on all of them, and every
//! difference between what the clients see has to be explained by a clause.
//!
//! * [`script`] and `scripts/`: the sessions that are written down;
//! * [`random`], [`generate`], [`topics`] and [`rules`]: random ones, and what differences they may
//!   show;
//! * [`broker`], [`stage`], [`session`], [`client`], [`stream`]: playing them;
//! * [`encode`], [`decode`], [`property`], [`line`], [`names`]: bytes and transcripts;
//! * [`record`]: the file `differences.txt`.
//!
//! The peers are Mosquitto, installed by `tests/setup`, and rumqttd (`tests/peers/rumqttd`), which
//! is not asked in 3.1. Each script meets fresh processes: what one of them left behind, a dead
//! listener included, must not show in the next.
//!
//! `DIFF_BLESS=1` writes `differences.txt` anew; `DIFF_ONLY=part` plays only the scripts with that
//! part in their names and prints what differs; `DIFF_STEPS` and `DIFF_SEED` are for the random
//! sessions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

mod broker;
mod client;
mod decode;
mod encode;
mod generate;
mod line;
mod names;
mod property;
mod random;
mod record;
mod rules;
mod script;
mod session;
mod stage;
mod stream;
mod topics;

use broker::Kind;
use generate::Kind as Sessions;
use random::Tally;
use record::{Block, Difference, Key, Record};
use script::{Script, Step, Version};
use stage::Stage;

/// How long a step may stay other than on record before that is the result.
const SETTLE: Duration = Duration::from_secs(4);
/// The same while the record is written, when most differences are new.
const SETTLE_BLESS: Duration = Duration::from_millis(400);
/// The same for a step that lasts until somebody receives something.
const SETTLE_UNTIL: Duration = Duration::from_secs(5);
/// Steps of random sessions in an ordinary run.
const STEPS: u64 = 6_000;
/// And what they begin with: one in which every rule is needed.
const SEED: u64 = 3;
/// Scripts played side by side; they wait most of their time.
const WORKERS: usize = 8;
/// How often a script is played again by itself if it went otherwise than on record.
const ALONE: usize = 3;

/// Whoever changes the router or a script sees here what that changes beside the peers.
#[test]
fn scripts_differ_only_as_on_record() -> crate::Outcome {
    let only = std::env::var("DIFF_ONLY").ok();
    let old = Record::load().unwrap_or_default();
    let mut jobs: Vec<(Script, Version)> = script::all()?
        .into_iter()
        .filter(|script| only.as_ref().is_none_or(|part| script.name.contains(part)))
        .flat_map(|script| {
            let versions = script.versions.clone();
            versions
                .into_iter()
                .map(move |version| (script.clone(), version))
        })
        .collect();
    // Those that wait for a clock first, so that the others fill the time.
    jobs.sort_by_key(|(script, _)| script.steps.iter().all(|step| step.until.is_none()));
    let plays: Mutex<Vec<Play<'_>>> = Mutex::default();
    side_by_side(&jobs, |(script, version)| {
        let found = play(script, *version, &old)?;
        plays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(((script, *version), found));
        Ok(())
    })?;
    let mut plays = plays.into_inner().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("DIFF_BLESS").is_none() {
        play_again(&mut plays, &old)?;
    }
    let blocks = plays.into_iter().flat_map(|(_, found)| found);
    let mut new = Record {
        peers: broker::peers()?,
        blocks: blocks.collect(),
    };
    new.adopt_reasons(&old);
    let differing: usize = new
        .blocks
        .values()
        .map(|block| block.differences.len())
        .sum();
    println!(
        "{} plays, {} of them differ from a peer, in {differing} steps",
        jobs.len(),
        new.blocks.len()
    );
    if only.is_some() {
        println!("{}", new.render());
        return Ok(());
    }
    record::check(&new)
}

/// The acceptance of the release is 200,000 steps: `DIFF_STEPS=200000`.
#[test]
fn random_sessions_differ_only_by_rule() -> crate::Outcome {
    let number = |name: &str, usual: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(usual),
        }
    };
    let (steps, seed) = (number("DIFF_STEPS", STEPS)?, number("DIFF_SEED", SEED)?);
    let sessions = steps.div_ceil(random::LENGTH as u64);
    let kinds = [Sessions::Full, Sessions::Full, Sessions::Plain];
    let jobs: Vec<(u64, Sessions)> = (0..sessions)
        .zip(kinds.into_iter().cycle())
        .map(|(number, kind)| (seed.wrapping_mul(1_000_000) + number, kind))
        .collect();
    let tally: Mutex<Tally> = Mutex::default();
    side_by_side(&jobs, |(seed, kind)| {
        let found = random::session(*seed, *kind, random::LENGTH)?;
        tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&found);
        Ok(())
    })?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} comparisons of a step, {} messages delivered: {:?}",
        tally.steps, tally.messages, tally.rules
    );
    if (steps, seed) == (STEPS, SEED) {
        // Explanations that are not needed go.
        for rule in &rules::RULES {
            ensure!(
                tally.rules.contains_key(rule.name),
                "{} explains nothing: {}",
                rule.name,
                rule.because
            );
        }
    }
    Ok(())
}

/// Does all jobs on a few threads; the first failure ends it.
fn side_by_side<'a, T: Sync>(
    jobs: &'a [T],
    work: impl Fn(&'a T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let run = || -> Result<()> {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(job).inspect_err(|_| next.store(jobs.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(run)).collect();
        let results = workers.into_iter().map(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
        });
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// A script in one version, and where a peer differed.
type Play<'a> = ((&'a Script, Version), Vec<(Key, Block)>);

fn play(script: &Script, version: Version, old: &Record) -> Result<Vec<(Key, Block)>> {
    compare(script, version, old).with_context(|| format!("{} {version}", script.name))
}

/// What went otherwise than on record is played again on fresh brokers, and alone: beside the other
/// plays on a busy machine a broker may be slower than the patience of its clients. What has changed
/// differs each time.
fn play_again(plays: &mut [Play<'_>], old: &Record) -> Result<()> {
    for ((script, version), found) in plays {
        for _ in 0..ALONE {
            if as_recorded(script, *version, found, old) {
                break;
            }
            println!("{} {version} is played again, after {found:?}", script.name);
            *found = play(script, *version, old)?;
        }
    }
    Ok(())
}

/// Whether the same differences are on record for these plays, and no others.
fn as_recorded(script: &Script, version: Version, found: &[(Key, Block)], old: &Record) -> bool {
    peers(version).iter().all(|kind| {
        let key = key(script, version, *kind);
        let now = found.iter().find(|(known, _)| *known == key);
        let now = now.map(|(_, block)| &block.differences);
        now == old.blocks.get(&key).map(|block| &block.differences)
    })
}

/// The brokers that a version is played on; the router is the first.
const fn peers(version: Version) -> &'static [Kind] {
    const ALL: &[Kind] = &[
        Kind::Reynard,
        Kind::WebSocket,
        Kind::Mosquitto,
        Kind::Rumqttd,
    ];
    match version {
        Version::V3_1 => &[Kind::Reynard, Kind::WebSocket, Kind::Mosquitto],
        _ => ALL,
    }
}

fn key(script: &Script, version: Version, kind: Kind) -> Key {
    (script.name.clone(), version.to_string(), kind.to_string())
}

/// Plays a script on all brokers and returns where a peer differed.
fn compare(script: &Script, version: Version, old: &Record) -> Result<Vec<(Key, Block)>> {
    let kinds = peers(version);
    let mut stage = Stage::start(kinds, version, script.capabilities)?;
    let keys: Vec<Key> = kinds
        .iter()
        .map(|kind| key(script, version, *kind))
        .collect();
    let mut blocks = vec![Block::default(); kinds.len()];
    let mut log = format!("{} {version}\n", script.name);
    for (number, step) in (1..).zip(&script.steps) {
        stage.play(step)?;
        let differences = settle(number, step, &mut stage, &keys, old)?;
        log.push_str(&format!("{number} {}\n", step.text));
        for line in stage.transcripts().into_iter().take(1).flatten() {
            log.push_str(&format!("  {line}\n"));
        }
        for (block, difference) in blocks.iter_mut().zip(differences) {
            block.differences.extend(difference);
        }
        stage.finish_step();
    }
    if std::env::var_os("DIFF_ONLY").is_some() {
        println!("{log}");
    }
    let dead = ["nobody is let in any more".to_owned()];
    for (block, alive) in blocks.iter_mut().zip(stage.alive()?) {
        if !alive {
            let end = Difference::between(script.steps.len() + 1, "end", &[], &dead);
            block.differences.extend(end);
        }
    }
    let found = keys.into_iter().zip(blocks);
    Ok(found
        .filter(|(_, block)| !block.differences.is_empty())
        .collect())
}

/// Compares one step, and looks again as long as it is not what is on record.
fn settle(
    number: usize,
    step: &Step,
    stage: &mut Stage,
    keys: &[Key],
    old: &Record,
) -> Result<Vec<Option<Difference>>> {
    let blessing = std::env::var_os("DIFF_BLESS").is_some();
    let deadline = Instant::now()
        + match step.until {
            Some(_) => SETTLE_UNTIL,
            None if blessing => SETTLE_BLESS,
            None => SETTLE,
        };
    loop {
        let transcripts = stage.transcripts();
        let ours = transcripts.first().context("no brokers")?;
        let differences: Vec<_> = transcripts
            .iter()
            .map(|theirs| Difference::between(number, &step.text, ours, theirs))
            .collect();
        let as_recorded = keys
            .iter()
            .zip(&differences)
            .all(|(key, difference)| old.expected(key, number) == difference.as_ref());
        let complete = step.until.is_none_or(|client| stage.has_seen(client));
        if (as_recorded && complete) || Instant::now() > deadline {
            return Ok(differences);
        }
        stage.look_again()?;
    }
}
