//! What a message costs as the state of the router grows: the router alone, one axis after the
//! other. The state is set up over the wire; then a fixed number of messages goes to one subscriber.

mod field;

use std::path::PathBuf;

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::compare::{Kind, Lines};
use super::report::record::{About, Line, Point};
use field::Field;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Topic filters of one subscriber.
    Filters,
    /// Keys with a retained value.
    Retained,
    /// Connections that say nothing.
    Connections,
    /// Realms.
    Realms,
    /// Levels of the topic.
    Depth,
}

impl Axis {
    /// All of them, in the order in which they are measured and told.
    pub const ALL: [Axis; 5] = [
        Axis::Filters,
        Axis::Retained,
        Axis::Connections,
        Axis::Realms,
        Axis::Depth,
    ];

    /// For headings and legends.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Filters => "Filters",
            Self::Retained => "Retained keys",
            Self::Connections => "Connections",
            Self::Realms => "Realms",
            Self::Depth => "Topic levels",
        }
    }

    /// For the head of a column.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Filters => "filters",
            Self::Retained => "keys",
            Self::Connections => "connections",
            Self::Realms => "realms",
            Self::Depth => "levels",
        }
    }

    /// What is set up and what is sent.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Filters => {
                "One subscriber with filters of four kinds (`g/N/s`, `g/N/+`, `g/+/N`, `g/N/#`); each \
                 message goes to another topic and matches one of them."
            }
            Self::Retained => {
                "One subscriber of all keys; each message is a new value of another key and is retained."
            }
            Self::Connections => {
                "Silent connections with a subscription each, beside the pair that is measured."
            }
            Self::Realms => {
                "Realms with a connection and a subscription each, beside the pair that is measured."
            }
            Self::Depth => {
                "One subscriber with one filter of so many levels, every second of them `+`, up to 16."
            }
        }
    }

    /// The largest size that is of interest.
    const fn end(self) -> u64 {
        match self {
            Self::Filters | Self::Retained => 1_000_000,
            Self::Connections => 18_000,
            Self::Realms => 1_000,
            Self::Depth => 200,
        }
    }

    /// The sizes that are measured, none beyond `largest`.
    #[must_use]
    pub fn sizes(self, largest: u64) -> Vec<u64> {
        let end = self.end().min(largest);
        let mut sizes: Vec<u64> = match self {
            Self::Depth => vec![1, 2, 5, 10, 20, 50, 100],
            _ => (1..=6).map(|power| 10u64.pow(power)).collect(),
        };
        sizes.retain(|size| *size < end);
        sizes.push(end);
        sizes
    }
}

/// How much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// No axis goes beyond it.
    pub largest: u64,
    /// Messages at each point.
    pub messages: u64,
    /// What grows, one after the other.
    pub axes: Vec<Axis>,
    /// Where the raw lines go.
    pub lines: PathBuf,
}

/// Runs the plan; each point goes to the file at once, and to `tell`.
///
/// # Errors
/// Fails if the router refuses anything, or a message does not arrive.
pub fn run(plan: &Plan, mut tell: impl FnMut(&Point)) -> Result<()> {
    let files = open_files();
    let mut about = About::of_this_machine()?;
    about.rounds = 1;
    about.load = format!("{} messages", plan.messages);
    about
        .versions
        .insert(Kind::Reynard, Kind::Reynard.version()?);
    let largest = |axis: Axis| match axis {
        Axis::Connections | Axis::Realms => plan.largest.min(files.saturating_sub(SPARE_FILES)),
        _ => plan.largest,
    };
    for axis in &plan.axes {
        let (wanted, reached) = (axis.end().min(plan.largest), largest(*axis));
        if reached < wanted {
            about.limits.push(format!(
                "{}: {reached} instead of {wanted}, for a process may have {files} open files here.",
                axis.title()
            ));
        }
    }
    let mut lines = Lines::create(&plan.lines)?;
    lines.write(&Line::About(about))?;
    for &axis in &plan.axes {
        let mut field = Field::new(axis)?;
        for size in axis.sizes(largest(axis)) {
            field.grow(size)?;
            let point = field.measure(plan.messages)?;
            tell(&point);
            lines.write(&Line::Point(point))?;
        }
    }
    Ok(())
}

/// Files that router and measurement need beside the connections.
const SPARE_FILES: u64 = 200;

/// Raises the limit of open files as far as it goes, for the router inherits it; what it is then.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it cannot be raised, the old one counts.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_up_to_the_largest() {
        let sizes = Axis::Connections.sizes(u64::MAX);
        assert_eq!(sizes, [10, 100, 1_000, 10_000, 18_000]);
        assert_eq!(Axis::Filters.sizes(u64::MAX).last(), Some(&1_000_000));
        assert_eq!(Axis::Filters.sizes(100), [10, 100]);
        assert_eq!(Axis::Depth.sizes(100), [1, 2, 5, 10, 20, 50, 100]);
        assert_eq!(Axis::Realms.sizes(5), [5]);
    }
}
