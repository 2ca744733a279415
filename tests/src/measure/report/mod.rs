//! What the measurements say, as tables in `docs/benchmarks.md` and plots beside it.
//!
//! A pure function of the raw lines: [`record`] reads them, [`figures`] makes medians, [`compared`]
//! and [`grown`] the text, [`plot`] the pictures, [`markers`] knows where the text goes.

pub mod compared;
pub mod figures;
pub mod grown;
pub mod markers;
pub mod plot;
pub mod record;
pub mod words;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};

use super::compare::scenario::{SCENARIOS, Shape};
use super::compare::{Kind, Scenario};
use figures::{Row, Rows};
use grown::Curves;
use plot::{Bar, Curve, Group};
use record::{About, Line};
use words::{digits, rate};

/// File of the raw lines of a comparison.
pub const RUNS: &str = "runs.jsonl";
/// File of the raw lines of the curves.
pub const POINTS: &str = "growth.jsonl";

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What goes between the markers.
    pub text: String,
    /// name of a file -> its content.
    pub plots: Vec<(&'static str, String)>,
}

/// The report on these lines, of either or both measurements.
///
/// # Errors
/// Fails if the lines do not say where they come from, or a plot cannot be drawn.
pub fn report(runs: &[Line], points: &[Line]) -> Result<Report> {
    let (mut texts, mut plots) = (Vec::new(), Vec::new());
    if !runs.is_empty() {
        let rows = figures::rows(runs.iter().filter_map(|line| match line {
            Line::Run(run) => Some(run),
            _ => None,
        }))?;
        texts.push(compared::text(about(runs)?, &rows));
        plots.extend(compared_plots(&rows)?);
    }
    if !points.is_empty() {
        let curves = grown::curves(points.iter().filter_map(|line| match line {
            Line::Point(point) => Some(point),
            _ => None,
        }));
        texts.push(grown::text(about(points)?, &curves));
        plots.extend(grown_plots(&curves)?);
    }
    Ok(Report {
        text: texts.join("\n"),
        plots,
    })
}

/// Renders what is in the files of a directory, and writes page and plots below `docs`.
///
/// # Errors
/// Fails if a file cannot be read or written, or the page has no markers.
pub fn write(lines: &Path, docs: &Path) -> Result<()> {
    let runs = record::read(&lines.join(RUNS))?;
    let points = record::read(&lines.join(POINTS))?;
    let report = report(&runs, &points)?;
    let page = docs.join("benchmarks.md");
    let old = std::fs::read_to_string(&page).with_context(|| format!("no {}", page.display()))?;
    let new = markers::replace(&old, &report.text)?;
    let dir = docs.join("benchmarks");
    std::fs::create_dir_all(&dir)?;
    for (name, svg) in &report.plots {
        std::fs::write(dir.join(name), svg)?;
    }
    Ok(std::fs::write(&page, new)?)
}

fn about(lines: &[Line]) -> Result<&About> {
    let about = lines.iter().find_map(|line| match line {
        Line::About(about) => Some(about),
        _ => None,
    });
    about.context("the lines do not say where they come from")
}

fn compared_plots(rows: &Rows) -> Result<Vec<(&'static str, String)>> {
    let legend: Vec<String> = Kind::ALL.iter().map(Kind::to_string).collect();
    let throughput = groups(rows, Shape::Rate, |row| {
        simple(row.median("delivered_per_second"), rate)
    });
    let cpu = groups(rows, Shape::Rate, |row| {
        simple(row.median("router.cpu_seconds_per_million"), digits)
    });
    let latency = groups(rows, Shape::Latency, |row| {
        let millis = |path| row.median(path).map(|us| us / 1000.0);
        let (p50, p99) = (millis("latency_us.p50"), millis("latency_us.p99"));
        let label = p50.zip(p99);
        let label = label.map(|(p50, p99)| format!("{} / {}", digits(p50), digits(p99)));
        (p50, p99, label)
    });
    Ok(vec![
        (
            "throughput.svg",
            plot::bars(
                "Deliveries in a second, more is better",
                "deliveries/s, logarithmic",
                &legend,
                &throughput,
            )?,
        ),
        (
            "cpu.svg",
            plot::bars(
                "The router's CPU for a million deliveries, less is better",
                "CPU seconds, logarithmic",
                &legend,
                &cpu,
            )?,
        ),
        (
            "latency.svg",
            plot::bars(
                "Latency at 1,000 messages/s: half of them (full colour), 99 % of them (pale)",
                "milliseconds, logarithmic",
                &legend,
                &latency,
            )?,
        ),
    ])
}

type Drawn = (Option<f64>, Option<f64>, Option<String>);

fn simple(value: Option<f64>, tell: impl Fn(f64) -> String) -> Drawn {
    (value, None, value.map(tell))
}

fn groups(rows: &Rows, shape: Shape, drawn: impl Fn(&Row) -> Drawn) -> Vec<Group> {
    let group = |scenario: &Scenario| {
        let peers = rows.get(scenario.id)?;
        let bars = peers.iter().map(|(kind, row)| {
            let (value, beyond, label) = drawn(row);
            let mut label = label.unwrap_or_else(|| format!("{kind}: failed"));
            if value.is_some() && !(row.faults.is_empty() && row.failures.is_empty()) {
                label.push_str(" (see remarks)");
            }
            Bar {
                series: Kind::ALL.iter().position(|one| one == kind).unwrap_or(0),
                value,
                beyond,
                label,
            }
        });
        Some(Group {
            title: scenario.title.to_owned(),
            bars: bars.collect(),
        })
    };
    let scenarios = SCENARIOS.iter().filter(|scenario| scenario.shape == shape);
    scenarios.filter_map(group).collect()
}

fn grown_plots(curves: &Curves) -> Result<Vec<(&'static str, String)>> {
    let of = |figure: fn(&record::Point) -> f64| -> Vec<Curve> {
        let curve =
            |(axis, points): (&super::growth::Axis, &std::collections::BTreeMap<u64, _>)| Curve {
                title: axis.title().to_owned(),
                points: points
                    .iter()
                    .map(|(size, point)| (*size as f64, figure(point)))
                    .collect(),
            };
        curves.iter().map(curve).collect()
    };
    Ok(vec![
        (
            "growth-cpu.svg",
            plot::lines(
                "The router's CPU for each message as its state grows",
                "how many there are",
                "microseconds",
                &of(|point| point.cpu_us),
            )?,
        ),
        (
            "growth-memory.svg",
            plot::lines(
                "The router's memory as its state grows",
                "how many there are",
                "MiB",
                &of(|point| point.resident_bytes as f64 / f64::from(1 << 20)),
            )?,
        ),
    ])
}
