//! The curves as text.

use std::collections::BTreeMap;

use super::compared::machine;
use super::record::{About, Point};
use super::words::{bytes, digits, whole};
use crate::measure::growth::Axis;

/// axis -> its points by size.
pub type Curves = BTreeMap<Axis, BTreeMap<u64, Point>>;

/// Puts the points together; the last one of a size counts.
#[must_use]
pub fn curves<'a>(points: impl Iterator<Item = &'a Point>) -> Curves {
    let mut curves = Curves::new();
    for point in points {
        let curve = curves.entry(point.axis).or_default();
        curve.insert(point.size, point.clone());
    }
    curves
}

/// The whole part.
#[must_use]
pub fn text(about: &About, curves: &Curves) -> String {
    let version: Vec<&str> = about.versions.values().map(String::as_str).collect();
    let mut text = format!(
        "## Cost as the work grows\n\n\
         {}, Reynard {} alone, one run in memory. {} The state is set up over the wire; then messages \
         of 16 B are published with QoS 0, each of which one subscriber gets, and the router's CPU for \
         each is told, and its resident memory.\n\n\
         ![CPU for each message](benchmarks/growth-cpu.svg)\n\n\
         ![Memory](benchmarks/growth-memory.svg)\n",
        about.date,
        version.join(", "),
        machine(about)
    );
    for limit in &about.limits {
        text += &format!("\n{limit}\n");
    }
    for (axis, points) in curves {
        text += &format!(
            "\n### {}\n\n{}\n\n| {} | CPU µs for each message | resident memory | messages |\n|---|---|---|---|\n",
            axis.title(),
            axis.meaning(),
            axis.unit()
        );
        for (size, point) in points {
            text += &format!(
                "| {} | {} | {} | {} |\n",
                whole(*size as f64),
                digits(point.cpu_us),
                bytes(point.resident_bytes as f64),
                whole(point.messages as f64)
            );
        }
    }
    text
}
