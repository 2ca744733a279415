//! This router and others under the same load: each in turn, several rounds, a fresh process for
//! each run.
//!
//! [`scenario`] is what is compared, [`peer`] with whom, [`bench`] one run. What came out is written
//! to a file of raw lines as it comes; [`super::report`] makes tables and plots of them.

pub mod bench;
pub mod peer;
pub mod scenario;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::report::record::{About, Line, Run};
use crate::target_dir;
pub use peer::{Kind, Peer};
pub use scenario::{SCENARIOS, Scenario};

/// How much each run measures.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// For so long, after a second to warm up.
    Seconds(u64),
    /// So many messages.
    Messages(u64),
}

impl Load {
    /// How long that takes at least.
    #[must_use]
    pub const fn time(self) -> Duration {
        match self {
            Load::Seconds(seconds) => Duration::from_secs(seconds),
            Load::Messages(_) => Duration::ZERO,
        }
    }
}

/// What is compared how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that each router gets each scenario.
    pub rounds: u64,
    /// How much each run measures.
    pub load: Load,
    /// Those who are compared.
    pub peers: Vec<Kind>,
    /// What they do.
    pub scenarios: Vec<&'static Scenario>,
    /// Where the raw lines go.
    pub lines: PathBuf,
}

/// Where the raw lines of both measurements go, unless told otherwise.
#[must_use]
pub fn lines_dir() -> PathBuf {
    target_dir().join("compare")
}

/// Runs the plan; what each run says goes to the file at once, and to `tell`.
///
/// # Errors
/// Fails if the file cannot be written, or nothing is known of this machine. What goes wrong with a
/// peer is a line like any other.
pub fn run(plan: &Plan, mut tell: impl FnMut(&Run)) -> Result<()> {
    let mut lines = Lines::create(&plan.lines)?;
    let mut about = About::of_this_machine()?;
    about.rounds = plan.rounds;
    about.load = match plan.load {
        Load::Seconds(seconds) => format!("{seconds} s"),
        Load::Messages(messages) => format!("{messages} messages"),
    };
    let mut peers = Vec::new();
    for &kind in &plan.peers {
        match kind.version() {
            Ok(version) => {
                about.versions.insert(kind, version);
                peers.push(kind);
            }
            Err(error) => {
                about.absent.insert(kind, one_line(&error));
            }
        }
    }
    lines.write(&Line::About(about))?;
    for scenario in &plan.scenarios {
        for round in 1..=plan.rounds {
            for &kind in peers.iter().filter(|kind| scenario.asks(**kind)) {
                let outcome = one(kind, scenario, plan.load);
                let (outcome, failed) = match outcome {
                    Ok(outcome) => (Some(outcome), None),
                    Err(error) => (None, Some(one_line(&error))),
                };
                let run = Run {
                    scenario: scenario.id.to_owned(),
                    peer: kind,
                    round,
                    outcome,
                    failed,
                };
                tell(&run);
                lines.write(&Line::Run(run))?;
            }
        }
    }
    Ok(())
}

/// One run with a fresh router.
fn one(kind: Kind, scenario: &Scenario, load: Load) -> Result<Value> {
    let mut peer = Peer::start(kind)?;
    bench::run(&peer, scenario, load).or_else(|error| match peer.ended()? {
        Some(end) => Err(error.context(format!("its process ended ({end})"))),
        None => Err(error),
    })
}

/// An error with its causes, short enough for a table.
fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

/// A file of raw lines. What is there when a measurement is cut short can be rendered.
pub(super) struct Lines(File);

impl Lines {
    pub(super) fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(file))
    }

    pub(super) fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.0.write_all(text.as_bytes())?)
    }
}
