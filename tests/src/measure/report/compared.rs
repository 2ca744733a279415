//! The comparison as text.

use std::collections::BTreeMap;

use super::figures::{Row, Rows, Spread};
use super::record::About;
use super::words::{bytes, digits, rate, whole};
use crate::measure::compare::scenario::{SCENARIOS, Shape};
use crate::measure::compare::{Kind, Scenario};

/// What stands where there is no figure.
const NONE: &str = "–";

/// The whole part.
#[must_use]
pub fn text(about: &About, rows: &Rows) -> String {
    let mut text = format!("## Beside other routers\n\n{}", session(about));
    for (shape, head) in TABLES {
        let scenarios = SCENARIOS.iter().filter(|scenario| scenario.shape == *shape);
        let mut lines = String::new();
        for scenario in scenarios {
            if let Some(peers) = rows.get(scenario.id) {
                lines += &table_rows(scenario, peers);
            }
        }
        if !lines.is_empty() {
            text += &format!("\n{head}\n{lines}");
        }
    }
    text
}

/// The figures of a shape, and what stands above them.
const TABLES: &[(Shape, &str)] = &[
    (
        Shape::Rate,
        "### Rate and CPU\n\n\
         ![Deliveries in a second](benchmarks/throughput.svg)\n\n\
         ![CPU seconds for a million deliveries](benchmarks/cpu.svg)\n\n\
         | scenario | router | deliveries/s | CPU s per million | ratio of CPU to Reynard | memory at its peak | remarks |\n\
         |---|---|---|---|---|---|---|",
    ),
    (
        Shape::Latency,
        "### Latency at a fixed rate\n\n\
         ![Latency](benchmarks/latency.svg)\n\n\
         | scenario | router | p50 in ms | p99 in ms | CPU s per million | ratio of CPU to Reynard | remarks |\n\
         |---|---|---|---|---|---|---|",
    ),
    (
        Shape::Connections,
        "### Connections\n\n\
         | scenario | router | connections/s | p99 until let in, in ms | memory for each | ratio of memory to Reynard | remarks |\n\
         |---|---|---|---|---|---|---|",
    ),
    (
        Shape::Replay,
        "### Retained values\n\n\
         | scenario | router | stored/s | replayed/s | CPU s per million stored | ratio of CPU to Reynard | remarks |\n\
         |---|---|---|---|---|---|---|",
    ),
];

const CPU: &str = "router.cpu_seconds_per_million";

/// The figures of one router in the columns of its shape. The fourth is the one of which the ratio
/// is told.
fn columns(shape: Shape, row: &Row, ours: Option<&Row>) -> Vec<String> {
    let rates = |path| spread(row.figure(path), rate);
    let cpu = || spread(row.figure(CPU), digits);
    let millis = |path| spread(row.figure(path), |us| digits(us / 1000.0));
    match shape {
        Shape::Rate => vec![
            rates("delivered_per_second"),
            cpu(),
            ratio(CPU, row, ours),
            middle(row.figure("router.peak_rss_bytes"), bytes),
        ],
        Shape::Latency => vec![
            millis("latency_us.p50"),
            millis("latency_us.p99"),
            cpu(),
            ratio(CPU, row, ours),
        ],
        Shape::Connections => vec![
            rates("connections.per_second"),
            millis("connections.latency_us.p99"),
            spread(row.figure("connections.rss_bytes_each"), bytes),
            ratio("connections.rss_bytes_each", row, ours),
        ],
        Shape::Replay => vec![
            rates("published_per_second"),
            rates("replay.per_second"),
            cpu(),
            ratio(CPU, row, ours),
        ],
    }
}

fn table_rows(scenario: &Scenario, peers: &BTreeMap<Kind, Row>) -> String {
    let ours = peers.get(&Kind::Reynard);
    let mut text = String::new();
    for (at, (kind, row)) in peers.iter().enumerate() {
        let title = if at == 0 { scenario.title } else { "" };
        let cells = columns(scenario.shape, row, ours).join(" | ");
        text += &format!("| {title} | {kind} | {cells} | {} |\n", remarks(row));
    }
    text
}

fn spread(spread: Option<Spread>, tell: impl Fn(f64) -> String) -> String {
    match spread {
        None => NONE.to_owned(),
        Some(Spread {
            median,
            least,
            greatest,
        }) if least < greatest => {
            format!("{} ({}–{})", tell(median), tell(least), tell(greatest))
        }
        Some(one) => tell(one.median),
    }
}

fn middle(spread: Option<Spread>, tell: impl Fn(f64) -> String) -> String {
    spread.map_or_else(|| NONE.to_owned(), |spread| tell(spread.median))
}

/// How much more than ours; for ourselves 1.
fn ratio(path: &str, row: &Row, ours: Option<&Row>) -> String {
    let ours = ours.and_then(|ours| ours.median(path));
    match (row.median(path), ours) {
        (Some(theirs), Some(ours)) if ours > 0.0 => match theirs / ours {
            1.0 => "1".to_owned(),
            ratio if ratio >= 10.0 => whole(ratio),
            ratio => digits(ratio),
        },
        _ => NONE.to_owned(),
    }
}

/// What went wrong, so that no figure looks better than it is.
fn remarks(row: &Row) -> String {
    let mut remarks: Vec<String> = Vec::new();
    for (reason, runs) in &row.failures {
        // A bar would end the cell.
        let reason = reason.replace('|', "\\|");
        remarks.push(format!("**failed** in {runs} of {}: {reason}", row.runs));
    }
    for (name, (messages, runs)) in &row.faults {
        let messages = whole(*messages as f64);
        remarks.push(format!("**{messages} {name}** in {runs} of {}", row.runs));
    }
    remarks.join("; ")
}

fn session(about: &About) -> String {
    let rounds = match about.rounds {
        1 => "one round".to_owned(),
        rounds => format!("{rounds} rounds"),
    };
    let mut text = format!(
        "{}, {rounds} of {} each, in turn, a fresh process for each run. {} Medians, in parentheses \
         least and greatest of all rounds.\n\n| router | version |\n|---|---|\n",
        about.date,
        about.load,
        machine(about)
    );
    for (kind, version) in &about.versions {
        text += &format!("| {kind} | {version} |\n");
    }
    for (kind, reason) in &about.absent {
        text += &format!(
            "| {kind} | could not be asked: {} |\n",
            reason.replace('|', "\\|")
        );
    }
    text
}

/// A sentence about the machine.
pub(super) fn machine(about: &About) -> String {
    format!(
        "{}, {} cores, which router and generator share, {} GiB of memory, Linux {}.",
        about.processor,
        about.cores,
        digits(about.memory_bytes as f64 / f64::from(1 << 30)),
        about.kernel
    )
}
