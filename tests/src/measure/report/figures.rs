//! What several runs of one router amount to.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::record::Run;
use crate::measure::compare::{Kind, Scenario};

/// Figures of the runs that came to an end, in order of size, and what is to be said of the others.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Runs.
    pub runs: u64,
    /// path in the object, such as `router.cpu_seconds` -> its values, sorted.
    figures: BTreeMap<String, Vec<f64>>,
    /// reason -> runs that failed for it.
    pub failures: BTreeMap<String, u64>,
    /// `lost`, `doubled` ... -> how many messages, in how many runs.
    pub faults: BTreeMap<&'static str, (u64, u64)>,
}

/// Middle, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

/// member of the object -> how it is called.
const FAULTS: [(&str, &str); 4] = [
    ("lost", "lost"),
    ("duplicated", "doubled"),
    ("out_of_order", "out of order"),
    ("strange", "not of this run"),
];

impl Row {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        let Some(outcome) = &run.outcome else {
            let reason = run.failed.as_deref().unwrap_or("no figures");
            self.fail(reason);
            return;
        };
        for (member, name) in FAULTS {
            let count = outcome[member].as_u64().unwrap_or(0);
            if count > 0 {
                let (messages, runs) = self.faults.entry(name).or_default();
                (*messages, *runs) = (*messages + count, *runs + 1);
            }
        }
        match outcome["delivered"].as_u64() {
            // There is nothing of which the rest could be told.
            Some(0) => self.fail("nothing arrived while it was measured"),
            _ => self.collect("", outcome),
        }
    }

    fn fail(&mut self, reason: &str) {
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }

    fn collect(&mut self, path: &str, value: &Value) {
        if let Some(number) = value.as_f64() {
            let values = self.figures.entry(path.to_owned()).or_default();
            let at = values.partition_point(|other| *other < number);
            values.insert(at, number);
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let dot = if path.is_empty() { "" } else { "." };
            self.collect(&format!("{path}{dot}{name}"), member);
        }
    }

    /// The figure at this path, if a run had it.
    #[must_use]
    pub fn figure(&self, path: &str) -> Option<Spread> {
        let values = self.figures.get(path)?;
        let (least, greatest) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Spread {
            median: f64::midpoint(lower, upper),
            least,
            greatest,
        })
    }

    /// The median of the figure at this path.
    #[must_use]
    pub fn median(&self, path: &str) -> Option<f64> {
        self.figure(path).map(|spread| spread.median)
    }
}

/// name of the scenario -> its routers, in their order.
pub type Rows = BTreeMap<String, BTreeMap<Kind, Row>>;

/// Puts the runs together.
///
/// # Errors
/// Fails if a run is of no scenario that is known: it could not be shown.
pub fn rows<'a>(runs: impl Iterator<Item = &'a Run>) -> Result<Rows> {
    let mut rows = Rows::new();
    for run in runs {
        ensure!(
            Scenario::named(&run.scenario).is_some(),
            "no scenario is called {}",
            run.scenario
        );
        let peers = rows.entry(run.scenario.clone()).or_default();
        peers.entry(run.peer).or_default().add(run);
    }
    Ok(rows)
}
