//! The raw lines: one JSON object each, `{"about": …}` first, then `{"run": …}` or `{"point": …}`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::compare::Kind;
use crate::measure::growth::Axis;
use crate::peers;

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Where and how.
    About(About),
    /// One run of a comparison.
    Run(Run),
    /// One point of a curve.
    Point(Point),
}

/// Where and how something was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// The day, in UTC.
    pub date: String,
    /// The processors, as the system names them.
    pub processor: String,
    /// How many there are.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Times that each router got each scenario.
    pub rounds: u64,
    /// How much each run measured.
    pub load: String,
    /// router -> its version.
    pub versions: BTreeMap<Kind, String>,
    /// router that could not be asked -> why.
    pub absent: BTreeMap<Kind, String>,
    /// What a measurement could not reach.
    pub limits: Vec<String>,
}

impl About {
    /// What the system says of itself, today.
    ///
    /// # Errors
    /// Fails if it does not say.
    pub fn of_this_machine() -> Result<Self> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let kib: u64 = field(&memory, "MemTotal")
            .and_then(|text| text.trim_end_matches("kB").trim().parse().ok())
            .context("no MemTotal")?;
        Ok(Self {
            date: peers::says(&PathBuf::from("date"), &["-u", "+%Y-%m-%d"])?,
            processor: field(&cpus, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kib << 10,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            ..Self::default()
        })
    }
}

/// `name : value` of a file below `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The name of the scenario.
    pub scenario: String,
    /// The router.
    pub peer: Kind,
    /// Which round, from 1.
    pub round: u64,
    /// The object of `reynard bench --json`; absent if there was none.
    pub outcome: Option<Value>,
    /// Why there was none.
    pub failed: Option<String>,
}

/// One point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// What grew.
    pub axis: Axis,
    /// How much of it there was.
    pub size: u64,
    /// Messages that were sent then.
    pub messages: u64,
    /// Microseconds of the router's CPU for each.
    pub cpu_us: f64,
    /// Bytes of the router's memory.
    pub resident_bytes: u64,
}

/// The lines of a text.
///
/// # Errors
/// Fails on a line that is none of these.
pub fn parse(text: &str) -> Result<Vec<Line>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a raw line: {line}")))
        .collect()
}

/// The lines of a file; none if it does not exist.
///
/// # Errors
/// Fails if it cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    parse(
        &std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
    )
}
