//! What a process uses, as Linux tells it.

use std::fs::read_to_string;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc`; fixed on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Resident memory in bytes.
///
/// # Errors
/// Fails if there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let line = status(pid, "VmRSS")?.context("no VmRSS")?;
    let kib: u64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// What `/proc` says of it under this name, if it does.
///
/// # Errors
/// Fails if there is no such process.
pub fn status(pid: u32, name: &str) -> Result<Option<String>> {
    let status = read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    Ok(status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim().to_owned())
    }))
}

/// User and system time so far.
///
/// # Errors
/// Fails if there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).context("no such process")?;
    // The name in parentheses may contain anything.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks =
        |at: usize| -> Result<u64> { Ok(fields.get(at).context("too few fields")?.parse()?) };
    let ticks = ticks(11)? + ticks(12)?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A process and all that descend from it: some routers do their work in children.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may have ended since it was listed.
        let Ok(stat) = read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (parent, child)));
    }
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(
            parents
                .iter()
                .filter(|(of, _)| *of == parent)
                .map(|(_, child)| child),
        );
        at += 1;
    }
    family
}
