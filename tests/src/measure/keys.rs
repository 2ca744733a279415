//! What a key costs: memory and disk, and time to open, for each engine. Each step runs in a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use storage::{Batch, EngineKind, Space, Storage, tool};

use super::process::resident_bytes;

const SPACE: Space = Space(1);
const VALUE: usize = 100;
const PER_COMMIT: u64 = 1_000;

/// Writes `keys` keys.
///
/// # Errors
/// Those of the engine.
pub fn fill(dir: &Path, engine: EngineKind, keys: u64) -> Result<()> {
    let storage = storage::open(dir, engine)?;
    for first in (0..keys).step_by(usize::try_from(PER_COMMIT)?) {
        let mut batch = Batch::new();
        for number in first..keys.min(first + PER_COMMIT) {
            batch.put(
                SPACE,
                format!("realm1/key/{number:010}"),
                vec![number as u8; VALUE],
            );
        }
        storage.commit(&batch)?;
    }
    Ok(())
}

/// Opens, reads everything once, and prints the time to open and the memory before and after.
///
/// # Errors
/// Those of the engine.
pub fn open(dir: &Path, engine: EngineKind) -> Result<()> {
    let before = resident_bytes(std::process::id())?;
    let began = Instant::now();
    let storage = storage::open(dir, engine)?;
    let took = began.elapsed();
    let opened = resident_bytes(std::process::id())?;
    let mut keys = 0_u64;
    storage.scan(SPACE, b"", &mut |_, _| {
        keys += 1;
        true
    })?;
    println!(
        "{} {} {keys}",
        took.as_millis(),
        opened.saturating_sub(before)
    );
    Ok(())
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Time to write all keys.
    pub filled_in: Duration,
    /// Time to open and check everything.
    pub opened_in: Duration,
    /// Memory of the open engine, in bytes.
    pub resident: u64,
    /// Bytes on disk.
    pub disk: u64,
}

/// Measures one engine.
///
/// # Errors
/// If a step fails, or keys are missing.
pub fn run(dir: &Path, engine: EngineKind, keys: u64) -> Result<Report> {
    let program = std::env::current_exe()?;
    let step = |name: &str| -> Result<String> {
        let output = Command::new(&program)
            .arg(name)
            .arg(dir)
            .args([engine.name(), &keys.to_string()])
            .output()?;
        ensure!(output.status.success(), "{name}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let began = Instant::now();
    step("keys-fill")?;
    let filled_in = began.elapsed();
    let disk = tool::check(dir, &|_, _, _| Ok(()), &|_, _| {})?.bytes;
    let text = step("keys-open")?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || -> Result<u64> { Ok(numbers.next().context("too few numbers")??) };
    let (ms, resident, found) = (next()?, next()?, next()?);
    ensure!(found == keys, "{found} of {keys} keys");
    Ok(Report {
        filled_in,
        opened_in: Duration::from_millis(ms),
        resident,
        disk,
    })
}
